//! What outlives relume itself: stops on request, the history of events, and services whatever becomes of the
//! state file.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::halves::kill_both;
use crate::harness::{Builder, Process, Relume, Status, eventually, fixture, is_root, skip, text};

/// Services that run until they are stopped.
fn runners(names: &[&str]) -> Value {
    let services: serde_json::Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), json!({"command": ["/bin/sleep", "1000"]}))).collect();
    json!({ "services": services })
}

/// The events after a number, as the API tells them.
fn events(relume: &Relume, after: u64) -> Vec<Value> {
    let mut connection = UnixStream::connect(relume.path("runtime").join("control.sock")).unwrap();
    let path = format!("/v1/events?after={after}&follow=false");
    write!(connection, "GET {path} HTTP/1.0\r\nHost: relume\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn seqs(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["seq"].as_u64().unwrap()).collect()
}

/// How often a service went to a state, by the history.
fn times(events: &[Value], service: &str, state: &str) -> usize {
    events.iter().filter(|event| event["service"] == service && event["to"] == state).count()
}

fn manager(status: &Status) -> Process {
    let pid = status.manager()["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    Process::of(pid.expect("a pid")).expect("the manager lives")
}

/// As a loss of power leaves it: nobody lives, nothing of the runtime directory is left.
fn lose_power(relume: &Relume) {
    kill_both(&relume.status());
    relume.wait_for_end();
    eventually("nobody lives", || {
        let left = relume.processes();
        left.iter().for_each(|process| process.signal(Signal::KILL));
        left.is_empty().then_some(())
    });
    std::fs::remove_dir_all(relume.path("runtime")).unwrap();
}

fn end_by_signal(relume: &Relume) {
    relume.signal(Signal::TERM);
    assert_eq!(relume.wait_for_end().code(), Some(0), "{}", relume.told());
}

/// Shown to fail: with a start that takes no service from the archive.
#[test]
fn what_was_stopped_on_request_stays_so_over_a_loss_of_power_and_an_end_by_signal() {
    let relume = Relume::with(&runners(&["a", "b"]));
    relume.wait_state("a", "running");
    // Answered is saved: the power goes at once.
    relume.ok(&["stop", "a"]);
    lose_power(&relume);
    relume.up_again();
    let status = relume.wait_state("b", "running");
    assert_eq!(status.state("a"), "stopped", "{status}");
    end_by_signal(&relume);
    relume.up_again();
    let status = relume.wait_state("b", "running");
    assert_eq!(status.state("a"), "stopped", "{status}");
    relume.ok(&["start", "a"]);
    lose_power(&relume);
    relume.up_again();
    relume.wait_state("a", "running");
    relume.down();
}

#[test]
fn the_command_down_clears_what_was_stopped_on_request() {
    let relume = Relume::with(&runners(&["a", "b"]));
    relume.ok(&["stop", "a"]);
    relume.down();
    relume.up_again();
    relume.wait_state("a", "running");
    relume.down();
}

#[test]
fn a_state_file_that_is_deleted_while_relume_is_down_is_a_fresh_start() {
    let relume = Relume::with(&runners(&["a"]));
    relume.ok(&["stop", "a"]);
    end_by_signal(&relume);
    std::fs::remove_file(relume.state("state.db")).unwrap();
    relume.up_again();
    let status = relume.wait_state("a", "running");
    assert_eq!(status.service("a")["run"], 1, "{status}");
    assert_eq!(times(&events(&relume, 0), "a", "running"), 1);
    relume.down();
}

/// Shown to fail: with a start that takes no service from the archive.
#[test]
fn generations_and_event_numbers_go_on_over_restarts_of_relume() {
    let relume = Relume::with(&runners(&["a"]));
    relume.wait_state("a", "running");
    relume.ok(&["restart", "a"]);
    end_by_signal(&relume);
    relume.up_again();
    relume.wait_state("a", "running");
    lose_power(&relume);
    relume.up_again();
    let status = relume.wait_state("a", "running");
    // Lives that began unwritten may have had the numbers between.
    assert!(status.service("a")["run"].as_u64() >= Some(4), "{status}");
    let all = events(&relume, 0);
    let numbers = seqs(&all);
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    // With the power the last half second of the history may go.
    assert!((3..=4).contains(&times(&all, "a", "running")), "{all:#?}");
    let half = numbers[numbers.len() / 2];
    assert_eq!(seqs(&events(&relume, half)), numbers[numbers.len() / 2 + 1..]);
    relume.down();
}

/// Shown to fail: with nothing told again of what the journal has.
#[test]
fn events_are_in_the_history_once_however_often_the_manager_is_killed() {
    let relume = Relume::with(&runners(&["a"]));
    relume.wait_state("a", "running");
    const KILLS: usize = 10;
    for _ in 0..KILLS {
        relume.ok(&["restart", "a"]);
        let status = relume.status();
        // What has just been answered is not written yet, but for what was asked.
        manager(&status).signal(Signal::KILL);
        let recoveries = status.manager()["recoveries"].as_u64();
        eventually("the next manager answers", || {
            relume.try_status().filter(|status| status.manager()["recoveries"].as_u64() > recoveries)
        });
    }
    let all = events(&relume, 0);
    let numbers = seqs(&all);
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    assert_eq!(times(&all, "a", "running"), 1 + KILLS, "{all:#?}");
    assert_eq!(times(&all, "a", "stopping"), KILLS, "{all:#?}");
    relume.down();
}

/// None of these managers can write what the one before it has learnt; the last one writes all of it. Shown to fail: with a
/// checkpoint that does not wait for the archive, what was learnt by the first of them is missing.
#[test]
fn managers_that_die_before_they_have_written_anything_leave_a_whole_history() {
    const KILLS: u64 = 6;
    let builder = Builder::new();
    // A file stands where the folder of the database would be.
    std::fs::write(builder.path("later"), "").unwrap();
    let relume = builder
        .config(&json!({
            "manager": {"state_file": "later/state.db"},
            "services": {"ends": {"command": ["/bin/sh", "-c", "sleep 0.03; exit 3"], "retry_delay": "20ms", "backoff": "off",
                "max_retries": "unlimited"}}}))
        .up();
    for _ in 0..KILLS {
        let so_far = relume.status().restarts("ends");
        relume.wait_until("it has ended", |status| status.restarts("ends") > so_far + 1);
        let old = manager(&relume.status());
        old.signal(Signal::KILL);
        eventually("another manager answers", || {
            relume.try_status().filter(|status| status.manager()["pid"].as_u64() != Some(old.pid.into()))
        });
    }
    relume.ok(&["stop", "ends"]);
    let last = relume.status().service("ends")["run"].as_u64().unwrap();
    std::fs::remove_file(relume.path("later")).unwrap();
    std::fs::create_dir(relume.path("later")).unwrap();
    eventually("it is written", || relume.told().contains("can be written again").then_some(()));
    let all = events(&relume, 0);
    let exits = all.iter().filter(|event| event["service"] == "ends" && event["event"] == "exit");
    let runs: Vec<u64> = exits.map(|event| event["run"].as_u64().unwrap()).collect();
    // What was stopped may have been none that lived.
    assert!(
        runs.iter().copied().eq(1..=runs.len() as u64) && runs.len() as u64 + 1 >= last,
        "{last}: {runs:?}"
    );
    assert_eq!(all.iter().filter(|event| event["event"] == "recovery").count() as u64, KILLS, "{all:#?}");
    relume.down();
}

/// Shown to fail: with a manager that ends where its database cannot be used.
#[test]
fn whatever_is_in_the_place_of_the_state_file_services_run_and_it_is_said() {
    for what in ["noise", "zeros", "directory", "newer"] {
        let builder = Builder::new().config(&runners(&["a", "b"]));
        std::fs::create_dir(builder.home().join("state")).unwrap();
        let path = builder.home().join("state/state.db");
        let newer = {
            let mut bytes = vec![0; 4096];
            bytes[..16].copy_from_slice(b"SQLite format 3\0");
            bytes[60..64].copy_from_slice(&2_u32.to_be_bytes());
            bytes[68..72].copy_from_slice(b"rlum");
            bytes
        };
        match what {
            "noise" => std::fs::write(&path, "[]").unwrap(),
            "zeros" => std::fs::write(&path, vec![0; 100_000]).unwrap(),
            "directory" => std::fs::create_dir(&path).unwrap(),
            _ => std::fs::write(&path, &newer).unwrap(),
        }
        let relume = builder.up();
        relume.wait_state("a", "running");
        relume.ok(&["stop", "a"]);
        relume.wait_state("a", "stopped");
        let told = eventually("it is said", || Some(relume.said()).filter(|said| said.contains("state.db")));
        assert_eq!(told.matches("error: ").count(), 1, "{what}: {told}");
        end_by_signal(&relume);
        match what {
            "directory" => assert!(path.is_dir()),
            "newer" => assert_eq!(std::fs::read(&path).unwrap(), newer),
            _ => {
                assert!(relume.state("state.db.corrupt-1").exists());
                relume.up_again();
                assert_eq!(relume.wait_state("b", "running").state("a"), "stopped", "the new one works");
                relume.down();
            }
        }
    }
}

/// Shown to fail: with a manager that ends where its database cannot be used.
#[test]
fn a_full_disk_changes_nothing_for_services_and_the_answer_says_what_could_not_be_saved() {
    let can = std::process::Command::new("unshare").args(["-m", "true"]).status();
    if !is_root() || !can.is_ok_and(|status| status.success()) {
        return skip("a tiny file system needs root and a mount namespace");
    }
    let builder = Builder::new();
    std::fs::create_dir(builder.home().join("tiny")).unwrap();
    let config = json!({
        "manager": {"state_file": builder.path("tiny/state.db")},
        "services": {"a": {"command": ["/bin/sleep", "1000"]},
            "b": {"command": [fixture("prints-numbers"), "b", "10"]}},
    });
    // Room for the database, and none for its log.
    let script = "mount -t tmpfs -o size=20k tmpfs tiny && exec \"$@\"";
    let relume = builder.config(&config).through(&["unshare", "-m", "/bin/sh", "-c", script, "sh"]).up();
    let before = relume.wait_state("b", "running").pid("b");
    let stopped = relume.run(&["stop", "a"]);
    assert!(stopped.status.success(), "{}", text(&stopped));
    assert!(text(&stopped).contains("could not be saved"), "{}", text(&stopped));
    let lines = relume.lines("b").len();
    eventually("it goes on printing", || (relume.lines("b").len() > lines).then_some(()));
    assert_eq!(relume.status().pid("b"), before);
    let said =
        eventually("it is said", || Some(relume.said()).filter(|said| said.contains("cannot be used now")));
    assert_eq!(said.matches("cannot be used now").count(), 1, "{said}");
    relume.ok(&["start", "a"]);
    relume.down();
}
