//! Services that others run, known by commands.

use std::fs;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Builder, Process, Relume, eventually, text};

/// An external service that is a file: up while it exists.
fn a_file(builder: &Builder) -> serde_json::Value {
    let file = builder.path("up");
    let note = builder.path("notes");
    json!({
        "type": "external",
        "start_command": format!("echo start >> {note}; touch {file}"),
        "stop_command": format!("echo stop >> {note}; rm {file}"),
        "status_command": ["test", "-e", file],
        "retry_delay": "50ms",
    })
}

fn notes(relume: &Relume) -> Vec<String> {
    fs::read_to_string(relume.path("notes")).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn an_external_service_is_started_asked_after_started_again_and_stopped() {
    let builder = Builder::new();
    let config = json!({"services": {"thing": a_file(&builder)}});
    let relume = builder.config(&config).up();
    relume.wait_state("thing", "running");
    assert!(relume.path("up").exists());
    fs::remove_file(relume.path("up")).unwrap();
    relume.wait_until("it was started again", |status| {
        status.restarts("thing") == 1 && status.state("thing") == "running"
    });
    assert_eq!(notes(&relume), ["start", "start"]);
    eventually("the log says why", || {
        relume.lines("thing").iter().any(|line| line.contains("not up any more")).then_some(())
    });
    relume.ok(&["stop", "thing"]);
    assert_eq!(notes(&relume), ["start", "start", "stop"]);
    assert!(!relume.path("up").exists());
}

#[test]
fn one_that_is_up_already_is_taken_up_and_so_is_one_whose_shim_was_killed() {
    let builder = Builder::new();
    fs::write(builder.path("up"), "").unwrap();
    let config = json!({"services": {"thing": a_file(&builder)}});
    let relume = builder.config(&config).up();
    let shim = relume.wait_state("thing", "running").pid("thing");
    Process::of(shim).unwrap().signal(Signal::KILL);
    relume.wait_until("another shim", |status| {
        status.restarts("thing") == 1 && status.state("thing") == "running"
    });
    assert!(notes(&relume).is_empty(), "{:?}", notes(&relume));
}

#[test]
fn a_start_command_that_fails_is_a_failed_start_with_its_code() {
    let config = json!({"services": {"thing": {
        "type": "external", "start_command": ["sh", "-c", "exit 7"], "max_retries": 0, "when_exhausted": "give_up"}}});
    let relume = Builder::new().config(&config).spawn();
    let status = eventually("it has failed", || {
        relume.try_status().filter(|status| status.last_exit("thing")["code"] == 7)
    });
    assert_ne!(status.state("thing"), "running");
    eventually("the log says why", || {
        relume.lines("thing").iter().any(|line| line.contains("start_command exited with 7")).then_some(())
    });
    let _end = text(&relume.run(&["down"]));
}
