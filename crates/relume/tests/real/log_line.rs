//! A line of its output makes a service ready, however it is stored and however early it comes.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Builder, Relume};

fn waits_for(line: &str, command: &str, log: &Value) -> Value {
    json!({"command": ["sh", "-c", command], "readiness": {"log_line": line}, "timeout_start": "60s",
        "restart_policy": "never", "log": log})
}

/// Able to fail: what was looked at were the bytes as they are stored, of which there are none yet where they are given a form.
#[test]
fn the_line_is_seen_in_whatever_form_it_is_stored() {
    let late = "sleep 0.2; echo it is ready now; exec sleep 1000";
    // The text comes in two reads.
    let torn = "sleep 0.2; printf 'it is rea'; sleep 0.1; echo dy now; exec sleep 1000";
    let mut services = serde_json::Map::new();
    for format in ["raw", "json", "timestamp"] {
        services.insert(format.into(), waits_for("ready", late, &json!({"format": format})));
        services.insert(format!("torn-{format}"), waits_for("ready", torn, &json!({"format": format})));
        // What the form adds is not the service's word.
        let silent = waits_for("\"", "echo no such mark; exec sleep 1000", &json!({"format": format}));
        services.insert(format!("silent-{format}"), silent);
    }
    let relume = Relume::with(&json!({"services": services}));
    for format in ["raw", "json", "timestamp"] {
        relume.wait_state(format, "running");
        let status = relume.wait_state(&format!("torn-{format}"), "running");
        assert_eq!(status.state(&format!("silent-{format}")), "starting", "{status}");
    }
    relume.down();
}

/// Able to fail: of twenty such services most failed while the news of a line was dropped that had overtaken the news of the start.
#[test]
fn a_line_that_comes_with_the_start_is_not_too_early() {
    let services: serde_json::Map<String, Value> = (0..20)
        .map(|n| (format!("s{n}"), waits_for("ready", "echo ready; exec sleep 1000", &json!({}))))
        .collect();
    let relume = Relume::with(&json!({"services": services}));
    let states = |status: &crate::harness::Status| {
        (0..20).map(|n| status.state(&format!("s{n}")).to_owned()).collect::<Vec<_>>()
    };
    relume.wait_until("all have come to something", |status| {
        states(status).iter().all(|state| ["running", "failed"].contains(&state.as_str()))
    });
    assert_eq!(states(&relume.status()), vec!["running"; 20]);
    relume.down();
}

/// Whether each thread of a process is stopped.
fn stands_still(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .flatten()
        .all(|task| std::fs::read_to_string(task.path().join("stat")).is_ok_and(|stat| stat.contains(") T ")))
}

/// Able to fail: with the look given after the streams, nine of ten lines had passed unseen.
#[test]
fn a_line_that_waits_in_the_pipe_is_seen_by_the_next_manager() {
    let builder = Builder::new();
    let services: serde_json::Map<String, Value> = (0..10)
        .map(|n| {
            let command = "until [ -e go ]; do sleep 0.02; done; echo it is ready; exec sleep 1000";
            (format!("s{n}"), waits_for("ready", command, &json!({})))
        })
        .collect();
    let relume = builder.config(&json!({"services": services, "manager": {"watchdog": "off"}})).up();
    relume.wait_until("all have begun", |status| (0..10).all(|n| status.has_pid(&format!("s{n}"))));
    let manager = relume.manager();
    manager.signal(Signal::STOP);
    crate::harness::eventually("all of it stands still", || stands_still(manager.pid).then_some(()));
    std::fs::write(relume.path("go"), "").unwrap();
    let said = |pid: u32| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|words| words.starts_with("sleep\x001000"))
    };
    crate::harness::eventually("all have said it", || {
        relume.processes().iter().filter(|process| said(process.pid)).nth(9).map(drop)
    });
    manager.signal(Signal::KILL);
    for n in 0..10 {
        relume.wait_state(&format!("s{n}"), "running");
    }
    relume.down();
}
