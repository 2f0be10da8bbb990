//! `relume drill`: it kills, it looks, and it can fail.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Builder, Process, Relume, eventually, fixture, text};

fn report(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {}", text(output)))
}

fn two_services() -> Value {
    let service =
        |name: &str| json!({"command": [fixture("prints-numbers"), name, "20"], "retry_delay": "10ms"});
    json!({"services": {"a": service("a"), "b": service("b")}})
}

/// Able to fail: what each kind of loss does to the report is planted in the tests of the ledger and the figures.
#[test]
fn a_drill_of_its_own_kills_managers_and_services_and_loses_nothing() {
    let relume = Builder::new().prepare();
    let words = "drill --yes --json --parts manager,services --kills 8 --every 50ms --printers 4 --seed 11";
    let output = relume.run(&words.split(' ').collect::<Vec<_>>());
    let report = report(&output);
    assert_eq!(report["kills"], json!({"manager": 4, "services": 4}), "{report:#}");
    let services = &report["services"];
    assert_eq!(
        (&services["watched"], &services["lost"], &services["doubled"]),
        (&json!(4), &json!(0), &json!(0))
    );
    assert!(report["lines"]["written"].as_u64() > Some(40) && report["exits"]["expected"].as_u64() > Some(0));
    assert_eq!(report["exits"]["lost"], 0, "{report:#}");
    assert_eq!((&report["passed"], output.status.code()), (&json!(true), Some(0)), "{report:#}");
    assert_eq!(report["supervised_again"]["manager"]["count"], 4);
}

/// Able to fail: where the drill leaves the start to somebody else, nobody answers and it ends with 1.
#[test]
fn after_both_halves_were_killed_the_drill_starts_relume_as_it_was_started() {
    let relume = Builder::new().config(&two_services()).arg("--detach").spawn();
    assert_eq!(relume.wait_for_end().code(), Some(0), "{}", relume.told());
    let before = relume.status();
    let output = relume.run(&["drill", "--live", "--yes", "--json", "--parts", "both", "--kills", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let report = report(&output);
    assert_eq!((&report["kills"]["both"], &report["lines"]), (&json!(2), &Value::Null), "{report:#}");
    let after = relume.status();
    assert_eq!((after.pid("a"), after.pid("b")), (before.pid("a"), before.pid("b")), "the same processes");
    assert_ne!(after.manager()["pid"], before.manager()["pid"]);
    relume.ok(&["down"]);
}

/// Shown to fail: with a drill that does not count restarts without cause.
#[test]
fn a_service_that_somebody_else_kills_meanwhile_fails_the_drill() {
    let relume = Relume::with(&two_services());
    let first = relume.wait_state("b", "running");
    let words =
        ["drill", "--live", "--yes", "--json", "--parts", "manager", "--kills", "4", "--every", "100ms"];
    let child = relume.command(&words).stdout(std::process::Stdio::piped()).spawn().unwrap();
    eventually("a manager was killed", || {
        relume.try_status().filter(|now| now.manager()["pid"] != first.manager()["pid"])
    });
    Process::of(first.pid("b")).unwrap().signal(Signal::KILL);
    let output = child.wait_with_output().unwrap();
    let report = report(&output);
    assert_eq!((output.status.code(), &report["services"]["restarted"]), (Some(1), &json!(1)), "{report:#}");
    assert!(report["failures"][0].as_str().unwrap().contains("b was restarted without cause"), "{report:#}");
    relume.down();
}

/// Shown to fail: with a drill that takes each end for a loss.
#[test]
fn a_service_that_ends_by_itself_meanwhile_is_its_own_business() {
    let mut config = two_services();
    config["services"]["flaps"] = json!({
        "command": ["/bin/sh", "-c", "sleep 0.3; exit 3"], "retry_delay": "10ms", "backoff": "off",
        "max_retries": "unlimited",
    });
    let relume = Relume::with(&config);
    let output = relume.run(&["drill", "--live", "--yes", "--json", "--parts", "manager", "--kills", "3"]);
    let report = report(&output);
    assert_eq!((output.status.code(), &report["passed"]), (Some(0), &json!(true)), "{report:#}");
    relume.down();
}

/// Shown to fail: with a drill that does not ask.
#[test]
fn nothing_is_killed_unless_somebody_says_yes() {
    let relume = Relume::with(&two_services());
    let before = relume.wait_state("b", "running");
    let output = relume.run(&["drill", "--live"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert_eq!(relume.status().manager()["pid"], before.manager()["pid"]);
    relume.down();
    assert_eq!(
        relume.run(&["drill", "--live", "--yes"]).status.code(),
        Some(3),
        "nobody is there to be drilled"
    );
}

/// Able to fail: where the signal ends the drill at once, its own relume and services stay.
#[test]
fn a_drill_that_is_interrupted_tells_what_it_has_found_and_leaves_nothing() {
    let relume = Builder::new().prepare();
    let words = "drill --yes --json --parts manager --kills 100000 --every 20ms --printers 3";
    let temporary = relume.path("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let mut command = relume.command(&words.split(' ').collect::<Vec<_>>());
    let child = command.env("TMPDIR", &temporary).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let folder = || std::fs::read_dir(&temporary).unwrap().flatten().next().map(|entry| entry.path());
    eventually("a printer prints", || folder().filter(|folder| folder.join("logs/printer-1.log").exists()));
    Process::of(child.id()).unwrap().signal(Signal::INT);
    let output = child.wait_with_output().unwrap();
    let report = report(&output);
    assert_eq!((&report["interrupted"], &report["passed"]), (&json!(true), &json!(true)), "{report:#}");
    assert_eq!(folder(), None, "the folder is gone, and so is what ran in it");
    assert!(relume.processes().is_empty(), "{:?}", relume.processes());
}
