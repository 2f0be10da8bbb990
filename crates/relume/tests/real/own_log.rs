//! relume's own log: whole, in either form, within its disk, and in nobody's way; what it had to leave out is counted.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::ending::terminal;
use crate::harness::{Builder, Process, Relume, eventually, is_root, read, skip};

/// What relume rotates its own log at.
const LIMIT: u64 = 10_000_000;

/// The objects of a log in JSON; every line must be one.
fn objects(text: &str) -> Vec<Value> {
    let object = |line: &str| {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line:?}"));
        assert!(["at", "level", "message"].iter().all(|key| object[key].is_string()), "{line}");
        object
    };
    text.lines().map(object).collect()
}

/// Services that end at once, again and again: many lines of the log.
fn storm(services: usize) -> serde_json::Map<String, Value> {
    let service = json!({"command": ["/bin/false"], "retry_delay": "1ms", "backoff": "off", "max_retries": "unlimited"});
    (0..services).map(|number| (format!("flaps{number}"), service.clone())).collect()
}

/// At its size the log is put aside, between two lines, and five old ones are kept.
///
/// Shown to fail with six old ones.
#[test]
fn it_rotates_at_its_size_and_keeps_five() {
    let builder = Builder::new();
    let log = builder.path("own.log");
    let file = |number: u32| PathBuf::from(if number == 0 { log.clone() } else { format!("{log}.{number}") });
    let mut old = "a line of an earlier day\n".repeat(LIMIT as usize / 25);
    old.truncate(old.len() - 25);
    std::fs::write(file(0), &old).unwrap();
    (1..=5).for_each(|number| std::fs::write(file(number), format!("old {number}\n")).unwrap());
    let config =
        json!({"manager": {"log_file": log}, "services": {"web": {"command": ["/bin/sleep", "1000"]}}});
    let relume = builder.config(&config).up();
    relume.wait_state("web", "running");
    relume.ok(&["restart", "web"]);
    eventually("it is put aside", || read(&file(2)).starts_with("old 1").then_some(()));
    eventually("it goes on", || read(&file(0)).contains("web: running").then_some(()));
    for number in 0..=5 {
        let text = read(&file(number));
        assert!(text.ends_with('\n') && text.len() as u64 <= LIMIT, "{number}: {} bytes", text.len());
    }
    assert!(read(&file(1)).starts_with(&old) && read(&file(5)) == "old 4\n" && !file(6).exists());
    let all = format!("{}{}", &read(&file(1))[old.len()..], read(&file(0)));
    assert!(
        all.contains("web: starting") && all.contains("web: stopping"),
        "nothing is lost in between: {all}"
    );
    let shown = relume.ok(&["logs", "--self", "-n", "300000"]);
    assert!(
        shown.contains("an earlier day") && shown.contains("web: running"),
        "`logs` reads over the files"
    );
    relume.down();
}

/// In JSON every line from the first to the last is an object, an event with its fields; `apply` changes what is told.
///
/// Shown to fail with an event's fields left out.
#[test]
fn in_json_every_line_is_an_object() {
    let config = |level: &str| {
        json!({"manager": {"log_format": "json", "log_level": level}, "services": {
            "web": {"command": ["/bin/sh", "-c", "exit 3"], "restart_policy": "never"},
            "odd": {"command": ["/nowhere/\u{1b}[31m\n\"x\""], "restart_policy": "never"},
        }})
    };
    let relume = Relume::with(&config("info"));
    relume.wait_state("web", "failed");
    relume.wait_state("odd", "failed");
    std::fs::write(relume.path("relume.json"), config("debug").to_string()).unwrap();
    relume.ok(&["apply"]);
    relume.ok(&["start", "web"]);
    relume.wait_until("it has ended again", |status| status.state("web") == "failed");
    relume.down();
    let text = read(&relume.state("relume.log"));
    let all = objects(&text);
    let web = |to: &str| all.iter().find(|object| object["service"] == "web" && object["to"] == to);
    let failed = web("failed").expect("its end");
    assert_eq!((&failed["level"], &failed["event"]), (&"WARN".into(), &"state".into()));
    assert!(failed["seq"].is_u64() && failed["run"] == 1, "{failed}");
    assert!(failed["message"].as_str().unwrap().starts_with("web: failed"), "{failed}");
    let odd = all.iter().find(|object| object["service"] == "odd" && object["to"] == "failed").unwrap();
    assert!(odd["message"].as_str().unwrap().contains("\u{1b}[31m\n"), "as it is: {odd}");
    assert!(all.iter().any(|object| object["level"] == "DEBUG"), "told after `apply`: {text}");
    let first_debug = all.iter().position(|object| object["level"] == "DEBUG").unwrap();
    assert!(all[..first_debug].iter().any(|object| object["event"] == "config"), "and not before");
}

/// The file system of the log is full: nobody waits, what does not fit is left out, and the count is in the log within a second
/// after there is room, exact, and without another line that would have to bring it.
///
/// Shown to fail with the count said by the next line only, and with a count that is one too small.
#[test]
fn a_full_disk_leaves_out_what_is_counted() {
    let can = std::process::Command::new("unshare").args(["-m", "true"]).status();
    if !is_root() || !can.is_ok_and(|status| status.success()) {
        return skip("a small file system needs root and a mount namespace");
    }
    let builder = Builder::new();
    std::fs::create_dir(builder.home().join("small")).unwrap();
    let manager =
        json!({"log_file": builder.path("small/own.log"), "log_format": "json", "respawn_rate": "off"});
    let mut services = storm(6);
    services.insert("calm".into(), json!({"command": ["/bin/sleep", "1000"]}));
    let script = "mount -t tmpfs -o size=4m tmpfs small && exec \"$@\"";
    let relume = builder
        .config(&json!({"manager": manager, "services": services}))
        .through(&["unshare", "-m", "/bin/sh", "-c", script, "sh"])
        .up();
    let small = format!("/proc/{}/root{}", relume.main_process().pid, relume.path("small").display());
    let (log, filler) = (Path::new(&small).join("own.log"), Path::new(&small).join("filler"));
    crate::captured::fill(&filler);
    eventually("it is noticed", || relume.said().contains("own.log: ").then_some(()));
    // 64 KiB of pipe, and as much again.
    let events = |relume: &Relume| relume.ok(&["events", "--json", "-n", "1000000"]);
    let before = events(&relume).lines().count();
    eventually("many lines find no room", || (events(&relume).lines().count() > before + 1000).then_some(()));
    let calm = Process::of(relume.status().pid("calm")).unwrap();
    let asked = Instant::now();
    calm.signal(Signal::KILL);
    relume.wait_until("it supervises", |status| status.restarts("calm") == 1);
    let noticed = asked.elapsed();
    let names: Vec<String> = (0..6).map(|number| format!("flaps{number}")).collect();
    let words: Vec<&str> = std::iter::once("stop").chain(names.iter().map(String::as_str)).collect();
    relume.ok(&words);
    std::fs::remove_file(&filler).unwrap();
    let freed = Instant::now();
    let lost = |text: &str| text.lines().filter(|line| line.contains("\"lost\"")).count();
    eventually("it is said", || (lost(&read(&log)) > 0).then_some(()));
    let said = freed.elapsed();
    let text = read(&log);
    let all = objects(&text);
    let told: BTreeSet<u64> = all.iter().filter_map(|object| object["seq"].as_u64()).collect();
    let events = objects_of_events(&events(&relume));
    let missing = events.iter().filter(|seq| !told.contains(seq)).count() as u64;
    let lost: u64 = all.iter().filter_map(|object| object["lost"].as_u64()).sum();
    eprintln!(
        "{missing} of {} missing, {lost} announced, {said:?} after there was room; an end noticed in {noticed:?}",
        events.len()
    );
    let resumed =
        all.iter().filter(|object| object["message"].as_str().unwrap().starts_with("writing ")).count();
    assert!(missing > 100 && lost == missing + u64::from(resumed == 0), "announced and missing lines");
    // A second is what is promised; the machine that runs all tests may be ten times as slow.
    assert!(said < Duration::from_secs(10), "{said:?}");
    relume.down();
}

/// Numbers of the events that are told at the level `info`.
fn objects_of_events(text: &str) -> Vec<u64> {
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["event"] != "exit").filter_map(|event| event["seq"].as_u64()).collect()
}

/// Whatever a storm of events does to the log, what is not in it is counted in it.
///
/// Shown to fail with every seventh line left out.
#[test]
fn a_storm_is_in_the_log_or_counted() {
    let manager = json!({"log_format": "json", "respawn_rate": "off", "start_parallelism": 1000});
    let mut services = storm(8);
    for number in 0..200 {
        let once = json!({"command": ["/bin/true"], "type": "oneshot"});
        services.insert(format!("once{number}"), once);
    }
    let relume = Relume::with(&json!({"manager": manager, "services": services}));
    let done = |status: &crate::harness::Status| {
        (0..200).all(|number| status.state(&format!("once{number}")) == "completed")
    };
    relume.wait_until("all have completed", done);
    let events = relume.ok(&["events", "--json", "-n", "1000000"]);
    relume.down();
    let all = objects(&read(&relume.state("relume.log")));
    let told: BTreeSet<u64> = all.iter().filter_map(|object| object["seq"].as_u64()).collect();
    let missing = objects_of_events(&events).iter().filter(|seq| !told.contains(seq)).count() as u64;
    let lost: u64 = all.iter().filter_map(|object| object["lost"].as_u64()).sum();
    eprintln!("{} lines, {missing} missing, {lost} announced", all.len());
    assert!(all.len() > 400 && missing <= lost, "{missing} missing, {lost} announced");
}

/// A terminal that has been stopped holds up nobody, and when it goes on it is told how much was not shown.
///
/// Shown to fail with the count said by the next line only.
#[test]
fn a_stopped_terminal_is_told_what_it_has_missed() {
    let (near, far) = terminal();
    let mut services = storm(12);
    services.insert("calm".into(), json!({"command": ["/bin/sleep", "1000"]}));
    let config = json!({"manager": {"respawn_rate": "off"}, "services": services});
    let relume = Builder::new().config(&config).on_terminal(far).up();
    // Nobody reads: it takes 4 KiB, then a queue takes a thousand lines.
    let state_changes = || read(&relume.state("relume.log")).matches(": crashed").count();
    eventually("more than the queue takes has happened", || (state_changes() > 2500).then_some(()));
    let calm = Process::of(relume.status().pid("calm")).unwrap();
    calm.signal(Signal::KILL);
    relume.wait_until("it supervises", |status| status.restarts("calm") == 1);
    let names: Vec<String> = (0..12).map(|number| format!("flaps{number}")).collect();
    let words: Vec<&str> = std::iter::once("stop").chain(names.iter().map(String::as_str)).collect();
    relume.ok(&words);
    let (tell, heard) = std::sync::mpsc::channel();
    let mut from = near.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut some = [0; 4096];
        // A terminal without a program on it is an error to read from.
        while let Ok(length @ 1..) = from.read(&mut some) {
            if tell.send(some[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    let mut shown = Vec::new();
    eventually("it is told", || {
        heard.try_iter().for_each(|some| shown.extend(some));
        String::from_utf8_lossy(&shown).contains(" lines were not shown: ").then_some(())
    });
    relume.down();
    drop(near);
    reader.join().unwrap();
}

/// Under systemd standard error is the journal: every line there says how bad it is.
///
/// Shown to fail without the priorities.
#[test]
fn for_the_journal_every_line_says_how_bad_it_is() {
    let builder = Builder::new();
    // Where the harness lets relume write; it is truncated then, and stays the same file.
    let meta = std::fs::File::create(builder.path("up.output")).unwrap().metadata().unwrap();
    let config = json!({"services": {
        "web": {"command": ["/bin/sleep", "1000"]},
        "bad": {"command": ["/bin/sh", "-c", "exit 3"], "restart_policy": "never"},
        "none": {"command": ["/nowhere/at-all"], "restart_policy": "never"},
    }});
    let relume = builder.config(&config).env("JOURNAL_STREAM", format!("{}:{}", meta.dev(), meta.ino())).up();
    relume.wait_state("web", "running");
    relume.wait_state("bad", "failed");
    relume.wait_state("none", "failed");
    std::fs::remove_file(relume.state("relume.log")).unwrap();
    std::fs::create_dir(relume.state("relume.log")).unwrap();
    relume.ok(&["stop", "web"]);
    eventually("what is wrong is told", || relume.said().contains("relume.log").then_some(()));
    std::fs::remove_dir(relume.state("relume.log")).unwrap();
    relume.down();
    let said = relume.said();
    let priority = |words: &str| said.lines().find(|line| line.contains(words)).map(|line| &line[..3]);
    assert!(
        said.lines().all(|line| ["<3>", "<4>", "<6>"].iter().any(|word| line.starts_with(word))),
        "{said}"
    );
    assert_eq!(priority("bad   failed"), Some("<4>"), "{said}");
    assert_eq!(priority("web   running"), Some("<6>"), "{said}");
    assert_eq!(priority("relume.log"), Some("<3>"), "{said}");
}
