//! What has become of relume itself is told: each time without supervision, each respawn and each that was refused, safe mode and
//! its end are events with a cause, which outlive relume.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::halves::*;
use crate::harness::{Builder, Relume, eventually, fixture, text};

/// The events that are about no service, oldest first.
fn own_events(relume: &Relume) -> Vec<Value> {
    let all = relume.ok(&["events", "--json"]);
    let all = all.lines().map(|line| serde_json::from_str::<Value>(line).expect("an event is JSON"));
    all.filter(|event| event["service"].is_null()).collect()
}

/// The last event of this kind: its cause, and its sentence.
fn last(relume: &Relume, kind: &str) -> (String, String) {
    let events = own_events(relume);
    let event = events.iter().rfind(|event| event["event"] == kind);
    let event = event.unwrap_or_else(|| panic!("no {kind} among {events:#?}"));
    let word = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
    (word("cause"), word("detail"))
}

fn counts(relume: &Relume) -> (u64, u64) {
    let status = relume.status();
    let count = |key: &str| status.manager()[key].as_u64().unwrap();
    (count("recoveries"), count("respawns"))
}

fn kill_manager(relume: &Relume) {
    let old = manager(&relume.status());
    old.signal(Signal::KILL);
    wait_for_manager(relume, &old);
}

/// Shown to fail: with a successor that does not ask why it was started.
#[test]
fn every_time_without_supervision_is_an_event_with_its_cause_and_length() {
    let relume = Relume::with(&printers(2));
    relume.wait_until("all run", |status| pids(status).len() == 2);
    assert_eq!(counts(&relume), (0, 0));
    kill_manager(&relume);
    let (cause, detail) = last(&relume, "recovery");
    assert_eq!(cause, "signal");
    assert!(detail.starts_with("relume came back after SIGKILL, "), "{detail}");
    assert!(detail.ends_with(" ms without supervision"), "{detail}");
    relume.ok(&["respawn"]);
    let (cause, detail) = last(&relume, "respawn");
    assert_eq!(cause, "asked");
    assert!(detail.starts_with("relume was respawned (asked), "), "{detail}");
    assert_eq!(counts(&relume), (1, 1));

    kill_both(&relume.status());
    relume.wait_for_end();
    relume.up_again();
    let (cause, detail) = last(&relume, "recovery");
    assert_eq!(cause, "unknown");
    assert!(detail.starts_with("relume came back after the death of both its halves, "), "{detail}");
    assert_eq!(counts(&relume), (2, 1));
    relume.signal(Signal::QUIT);
    relume.wait_for_end();
    relume.up_again();
    let (cause, detail) = last(&relume, "recovery");
    assert_eq!(cause, "asked");
    assert!(detail.starts_with("relume came back after it had left (SIGQUIT), "), "{detail}");
    assert_eq!(counts(&relume), (2, 1), "to leave is no death");

    let old = guardian(&relume.status());
    old.signal(Signal::KILL);
    wait_for_guardian(&relume, &old);
    let (cause, detail) = last(&relume, "recovery");
    assert_eq!(cause, "signal");
    assert!(detail.starts_with("relume came back after the death of its guardian, "), "{detail}");
    assert_eq!(counts(&relume), (3, 1));
    let applied = own_events(&relume).iter().filter(|event| event["event"] == "config").count();
    assert_eq!(applied, 1, "the same config is no news: {:#?}", own_events(&relume));
    let before = own_events(&relume);
    down(&relume);
    relume.up_again();
    let after = own_events(&relume);
    assert_eq!(after[..before.len()], before, "they outlive relume");
    relume.down();
}

/// Shown to fail: with notices that become no events.
#[test]
fn safe_mode_and_its_end_are_events() {
    let relume = Relume::with(&printers(1));
    relume.wait_state("p0", "running");
    let config = relume.path("relume.json");
    let good = std::fs::read(&config).unwrap();
    std::fs::write(&config, "{\"services\": 7").unwrap();
    let old = manager(&relume.status());
    old.signal(Signal::KILL);
    wait_for_manager(&relume, &old);
    let (_, detail) = last(&relume, "warning");
    assert!(detail.starts_with("safe mode, with the last good configuration: "), "{detail}");
    // Neither a respawn nor what it carries along makes more of it or less.
    relume.ok(&["respawn"]);
    assert_eq!(relume.status().manager()["state"], "safe_mode", "{}", relume.status());
    std::fs::write(&config, good).unwrap();
    relume.wait_until("safe mode ends", |status| status.manager()["state"] == "running");
    let (_, detail) = last(&relume, "warning");
    assert!(detail.starts_with("safe mode is over"), "{detail}");
    relume.ok(&["respawn"]);
    assert_eq!(relume.status().manager()["state"], "running", "it is over for the successor, too");
    relume.down();
}

/// Shown to fail: with notices that become no events.
#[test]
fn an_upgrade_that_is_refused_is_an_event() {
    let relume = Builder::new().config(&printers(1)).by_link().up();
    relume.wait_state("p0", "running");
    let (link, aside) = (relume.program().to_owned(), relume.path("aside"));
    std::fs::rename(&link, &aside).unwrap();
    std::fs::write(&link, "no program").unwrap();
    let mut asked = relume.command(&["respawn"]);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_relume"));
    command.arg("respawn").current_dir(asked.get_current_dir().unwrap());
    command.envs(asked.get_envs().filter_map(|(key, value)| Some((key, value?))));
    asked.stdin(std::process::Stdio::null());
    let answer = command.output().unwrap();
    assert_eq!(answer.status.code(), Some(1), "{}", text(&answer));
    std::fs::remove_file(&link).unwrap();
    std::fs::rename(&aside, &link).unwrap();
    let (_, detail) = last(&relume, "warning");
    assert!(detail.starts_with("not respawned, this manager goes on: "), "{detail}");
    assert_eq!(counts(&relume), (0, 0));
    relume.down();
}

/// Shown to fail: with an end that nobody looks at, where relume has replaced itself and where it was killed.
#[test]
fn a_service_that_has_asked_to_end_with_its_parent_is_told_of() {
    let builder = Builder::new();
    let announce = builder.path("asked");
    let asks = json!({"command": [fixture("ends-with-parent"), "--announce", announce], "retry_delay": "0s"});
    let other = json!({"command": ["sleep", "1000"], "retry_delay": "0s"});
    let relume = builder.config(&json!({"services": {"asks": asks, "other": other}})).up();
    let told = || {
        let all = relume.ok(&["events", "--json"]);
        let all = all.lines().map(|line| serde_json::from_str::<Value>(line).expect("an event is JSON"));
        let all = all.filter(|event| event["event"] == "warning" && !event["service"].is_null());
        all.map(|event| format!("{}: {}", event["service"], event["detail"])).collect::<Vec<_>>()
    };
    let wait_for_life = |number: usize| {
        eventually("it has asked", || {
            let asked = std::fs::read_to_string(&announce).unwrap_or_default();
            (asked.lines().count() == number).then_some(())
        });
        relume.wait_until("it runs", |status| status.state("asks") == "running");
    };
    wait_for_life(1);
    relume.ok(&["signal", "TERM", "other"]);
    relume.wait_until("the other is back", |status| status.restarts("other") == 1);
    assert_eq!(told(), [""; 0], "an end while somebody looks says nothing");
    relume.ok(&["respawn"]);
    wait_for_life(2);
    let first = eventually("it is told", || told().pop());
    assert!(first.contains("asks") && first.contains("SIGTERM came as relume replaced itself"), "{first}");
    kill_manager(&relume);
    wait_for_life(3);
    let last = eventually("that is told", || told().pop().filter(|told| *told != first));
    assert!(last.contains("asks") && last.contains("SIGTERM came as relume ended"), "{last}");
    let status = relume.status();
    assert_eq!((status.restarts("asks"), status.restarts("other")), (2, 1), "{status}");
    relume.down();
}
