//! What a service prints reaches its log whole and unchanged, whatever it does with its output (scorecard R27).

use std::fs;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Builder, Process, Relume, eventually, fixture, read};

/// That the lines of a fixture are there from 1 to the last one, without gap, repeat or swap.
fn in_order(lines: &[String], name: &str) -> usize {
    let own = lines.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let mut count = 0;
    for rest in own {
        count += 1;
        let seq = rest.split(' ').next().unwrap();
        assert_eq!(seq, count.to_string(), "line {count} of {name}");
    }
    count
}

#[test]
fn a_service_that_closes_its_output_lives_on_and_costs_nothing() {
    let builder = Builder::new();
    let announce = builder.announcements();
    let relume = builder
        .config(&json!({"services": {
            "mute": {"command": [fixture("closes-stdout"), "my last line", "--announce", announce],
                "retry_delay": "50ms"},
            "clock": {"command": [fixture("prints-numbers"), "tick", "20"]}}}))
        .up();
    let mute = relume.announced("closed", 1)[0];
    relume.wait_state("mute", "running");
    let manager =
        Process::of(u32::try_from(relume.status().manager()["pid"].as_u64().unwrap()).unwrap()).unwrap();

    // A second by the other service's count: fifty lines.
    let before = (manager.cpu_ticks(), relume.lines("clock").len());
    eventually("the other service has printed fifty lines", || {
        (relume.lines("clock").len() >= before.1 + 50).then_some(())
    });
    let used = manager.cpu_ticks() - before.0;
    // A loop over the closed pipe would take a whole core: 100 ticks a second. Promised is less than 1.
    assert!(used <= 20, "{used} ticks of CPU in a second");

    assert_eq!(relume.lines("mute"), ["my last line"]);
    Process::of(mute).unwrap().signal(Signal::KILL);
    relume.wait_until("its end is noticed all the same", |status| {
        status.restarts("mute") == 1 && status.state("mute") == "running"
    });
}

#[test]
fn last_words_are_kept_even_when_a_grandchild_holds_the_pipe() {
    const LINES: usize = 3000; // 50 kB: it fits into the pipe, so the service ends with all of it unread
    let builder = Builder::new();
    let announce = builder.announcements();
    let lines = LINES.to_string();
    let relume = builder
        .config(&json!({"defaults": {"restart_policy": "never", "timeout_stop": "500ms"}, "services": {
            "alone": {"command": [fixture("leaves-output"), lines, "--exit", "3"]},
            "held": {"command": [fixture("leaves-output"), lines, "--exit", "4", "--holder", "--announce", announce]}}}))
        .up();
    for (name, code) in [("alone", 3), ("held", 4)] {
        let status = relume.wait_state(name, "failed");
        assert_eq!(status.last_exit(name)["code"], code);
        eventually("all of it is in the log", || {
            (in_order(&relume.lines(name), "last words") == LINES).then_some(())
        });
    }
    assert_eq!(relume.living_fixtures(), [], "the holder ends with its service");
}

#[test]
fn bytes_are_kept_as_they_are() {
    let mut bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    bytes.extend(b"\x1b[31mred\x1b[0m\r\n\n\n\0\0\xff\xfe no newline at the end");
    let builder = Builder::new();
    fs::write(builder.path("bytes"), &bytes).unwrap();
    let relume =
        builder.config(&json!({"services": {"cat": {"command": "cat bytes", "type": "oneshot"}}})).up();
    relume.wait_state("cat", "completed");
    eventually("all bytes are in the log", || (relume.log("cat").len() >= bytes.len()).then_some(()));
    assert!(relume.log("cat") == bytes, "the log differs from what was printed");
}

#[test]
fn a_flood_is_complete_and_keeps_nobody_else_from_being_heard() {
    const LINES: usize = 300_000;
    let builder = Builder::new();
    let announce = builder.announcements();
    let relume = builder
        .config(&json!({"services": {
            "flood": {"command": [fixture("floods"), "flood", LINES.to_string(), "80", "--announce", announce],
                "log": {"rotate": "off"}},
            "quiet": {"command": [fixture("prints-numbers"), "quiet", "5"]}}}))
        .up();
    relume.announced("flooded", 1);
    eventually("the flood is in its log", || (relume.lines("flood").len() == LINES).then_some(()));
    assert_eq!(in_order(&relume.lines("flood"), "flood"), LINES);
    eventually("the quiet one is heard", || (in_order(&relume.lines("quiet"), "quiet") >= 10).then_some(()));
}

#[test]
fn rotation_keeps_so_many_files_and_loses_nothing_on_the_way() {
    // 4,000 lines of 100 bytes into files of 50 kB: eight files, all of which are kept.
    const LINES: usize = 4000;
    let relume = Relume::with(&json!({"services": {"flood": {
        "command": [fixture("floods"), "flood", LINES.to_string(), "100", "--exit", "0"],
        "type": "oneshot", "log": {"rotate": {"size": "50kB", "keep": 10, "compress": "off"}}}}}));
    relume.wait_state("flood", "completed");
    eventually("all lines are in the files together", || {
        let mut all = vec![];
        for number in (1..=10).rev() {
            all.extend(read(&relume.path(&format!("logs/flood.log.{number}"))).lines().map(str::to_owned));
        }
        all.extend(relume.lines("flood"));
        (in_order(&all, "flood") == LINES).then_some(())
    });
    for entry in fs::read_dir(relume.path("logs")).unwrap() {
        let entry = entry.unwrap();
        assert!(entry.metadata().unwrap().len() <= 50_000, "{}", entry.path().display());
    }
    assert!(relume.path("logs/flood.log.7").exists());
}

#[test]
fn output_and_errors_come_in_the_order_in_which_they_were_printed() {
    let script = "for i in 1 2 3 4 5 6 7 8 9; do echo out $i; echo err $i >&2; done";
    let relume =
        Relume::with(&json!({"services": {"both": {"command": ["sh", "-c", script], "type": "oneshot"}}}));
    relume.wait_state("both", "completed");
    let expected: Vec<_> = (1..=9).flat_map(|i| [format!("out {i}"), format!("err {i}")]).collect();
    eventually("all lines are there", || (relume.lines("both").len() == expected.len()).then_some(()));
    assert_eq!(relume.lines("both"), expected);
}

#[test]
fn a_log_moved_away_is_begun_anew_on_usr1() {
    let relume =
        Relume::with(&json!({"services": {"clock": {"command": [fixture("prints-numbers"), "tick", "5"]}}}));
    eventually("something is logged", || (relume.lines("clock").len() > 3).then_some(()));
    fs::rename(relume.path("logs/clock.log"), relume.path("logs/clock.old")).unwrap();
    relume.signal(Signal::USR1);
    eventually("a new file is written", || (relume.lines("clock").len() > 3).then_some(()));
    let mut all: Vec<_> = read(&relume.path("logs/clock.old")).lines().map(str::to_owned).collect();
    all.extend(relume.lines("clock"));
    assert!(in_order(&all, "tick") > 6);
}

#[test]
fn the_command_logs_shows_the_last_lines() {
    let relume = Relume::with(&json!({"services": {"flood": {
        "command": [fixture("floods"), "line", "50", "--exit", "0"], "type": "oneshot"}}}));
    relume.wait_state("flood", "completed");
    eventually("all lines are there", || (relume.lines("flood").len() == 50).then_some(()));
    let shown = relume.ok(&["logs", "-n", "3", "flood"]);
    assert_eq!(shown.lines().collect::<Vec<_>>(), ["line 48", "line 49", "line 50"]);
    relume.down();
    let shown = relume.ok(&["logs", "-n", "1", "flood"]);
    assert_eq!(shown.trim_end(), "line 50", "logs can be read while no manager answers");
}

#[test]
fn the_check_for_order_sees_gaps_repeats_and_swaps() {
    for bad in [["n 1", "n 3"], ["n 1", "n 1"], ["n 2", "n 1"]] {
        let lines = bad.map(str::to_owned);
        assert!(std::panic::catch_unwind(|| in_order(&lines, "n")).is_err(), "{bad:?}");
    }
    assert_eq!(in_order(&["n 1".to_owned(), "other".to_owned(), "n 2".to_owned()], "n"), 2);
}
