//! What depends on what: order forwards and backwards, waiting, coming back, and what cannot be (scorecard
//! R37 on the real program; its large figures belong to the core's own tests).

use std::fs;

use rustix::process::Signal;
use serde_json::{Map, Value, json};

use crate::harness::{Builder, Process, Relume, fixture, read};

#[test]
fn a_long_chain_starts_in_order() {
    const LENGTH: usize = 300;
    let mut services = Map::new();
    // Written backwards, so that the order of the file is of no help.
    for number in (1..=LENGTH).rev() {
        let mut service =
            json!({"type": "oneshot", "command": ["sh", "-c", format!("echo {number} >> order")]});
        if number > 1 {
            service["dependencies"] = json!([format!("link-{}", number - 1)]);
        }
        services.insert(format!("link-{number}"), service);
    }
    let relume = Relume::with(&json!({"services": services}));
    relume.wait_state(&format!("link-{LENGTH}"), "completed");
    let expected: String = (1..=LENGTH).map(|number| format!("{number}\n")).collect();
    assert_eq!(read(&relume.path("order")), expected);
}

#[test]
fn a_chain_stops_in_reverse_order_one_after_the_other() {
    const LENGTH: usize = 300;
    let builder = Builder::new();
    let announce = builder.announcements();
    let mut services = Map::new();
    for number in 1..=LENGTH {
        let mut service = json!({"command": [fixture("slow-stop"), "1", "--announce", announce]});
        if number > 1 {
            service["dependencies"] = json!([format!("link-{}", number - 1)]);
        }
        services.insert(format!("link-{number}"), service);
    }
    let relume = builder.config(&json!({"services": services})).up();
    relume.announced("up", LENGTH);
    let status = relume.wait_state(&format!("link-{LENGTH}"), "running");
    let expected: Vec<_> = (1..=LENGTH)
        .rev()
        .map(|number| status.pid(&format!("link-{number}")))
        .flat_map(|pid| [("stopping".to_owned(), pid), ("stopped".to_owned(), pid)])
        .collect();
    relume.down();
    assert_eq!(relume.announcements()[LENGTH..], expected);
}

#[test]
fn many_wait_for_one_and_start_only_when_it_has_completed() {
    const WIDTH: usize = 300;
    let mut services = Map::new();
    services.insert(
        "migrate".to_owned(),
        json!({"type": "oneshot", "command": ["sh", "-c", "read line < gate; echo migrated >> order"]}),
    );
    for number in 1..=WIDTH {
        services.insert(
            format!("worker-{number}"),
            json!({"type": "oneshot", "command": ["sh", "-c", "echo worker >> order"], "dependencies": ["migrate"]}),
        );
    }
    let builder = Builder::new();
    let gate = builder.path("gate");
    rustix::fs::mknodat(rustix::fs::CWD, &gate, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let relume = builder.config(&json!({"services": services})).up();
    let status = relume.wait_until("all workers wait", |status| {
        (1..=WIDTH).all(|number| status.state(&format!("worker-{number}")) == "pending")
    });
    assert!(status.reason("worker-1").contains("migrate"), "says what it waits for: {status}");
    assert_eq!(read(&relume.path("order")), "");
    fs::write(&gate, "go\n").unwrap();
    relume.wait_until("all workers are done", |status| {
        (1..=WIDTH).all(|number| status.state(&format!("worker-{number}")) == "completed")
    });
    let order = read(&relume.path("order"));
    assert!(order.starts_with("migrated\n"), "{order}");
    assert_eq!(order.lines().count(), WIDTH + 1);
}

#[test]
fn a_dependency_that_fails_keeps_its_dependents_pending_and_they_start_by_themselves_once_it_works() {
    let relume = Relume::with(&json!({"services": {
        "migrate": {"type": "oneshot", "command": ["test", "-e", "ready"], "retry_delay": "50ms",
            "max_retries": "unlimited", "backoff": "off"},
        "web": {"command": [fixture("never-ready")], "dependencies": ["migrate"]}}}));
    let status = relume.wait_until("migrate has failed twice", |status| status.restarts("migrate") >= 2);
    assert_eq!(status.state("web"), "pending", "not failed: {status}");
    assert!(status.reason("web").contains("migrate"), "{status}");
    fs::write(relume.path("ready"), "").unwrap();
    relume.wait_state("web", "running");
}

#[test]
fn a_dependency_that_crashes_leaves_its_dependents_running_unless_they_ask_for_a_restart() {
    let idle = |dependencies: Value| {
        json!({"command": [fixture("never-ready")], "dependencies": dependencies,
        "retry_delay": "50ms"})
    };
    let relume = Relume::with(&json!({"services": {
        "db": idle(json!([])),
        "calm": idle(json!(["db"])),
        "nervous": idle(json!({"db": {"condition": "ready", "restart": true}}))}}));
    let before = relume.wait_until("all are running", |status| {
        ["db", "calm", "nervous"].iter().all(|name| status.state(name) == "running")
    });
    Process::of(before.pid("db")).unwrap().signal(Signal::KILL);
    let after = relume.wait_until("db and nervous are new", |status| {
        ["db", "nervous"]
            .iter()
            .all(|name| status.state(name) == "running" && status.pid(name) != before.pid(name))
    });
    assert_eq!(after.pid("calm"), before.pid("calm"));
}

#[test]
fn stop_stops_one_alone_and_with_dependents_them_too() {
    let relume = Relume::with(&json!({"services": {
        "db": {"command": [fixture("never-ready")]},
        "web": {"command": [fixture("never-ready")], "dependencies": ["db"]}}}));
    let pid = relume.wait_state("web", "running").pid("web");
    let said = relume.ok(&["stop", "db"]);
    let status = relume.status();
    assert_eq!(status.state("db"), "stopped");
    assert_eq!(status.pid("web"), pid, "web goes on");
    assert!(said.contains("web"), "the dependents are named: {said}");
    relume.ok(&["start", "db"]);
    relume.ok(&["stop", "--with-dependents", "db"]);
    let status = relume.status();
    assert_eq!((status.state("db"), status.state("web")), ("stopped", "stopped"));
}

/// What `check` says about a config that must be refused.
fn refused(config: &Value) -> String {
    let relume = Builder::new().config(config).spawn();
    assert_eq!(relume.wait_for_end().code(), Some(2), "{}", relume.told());
    relume.said()
}

#[test]
fn a_cycle_is_named_whole() {
    let link = |to: &str| json!({"command": "sleep 1000", "dependencies": [to]});
    let said = refused(&json!({"services": {
        "alpha": link("beta"), "beta": link("gamma"), "gamma": link("alpha"), "apart": {"command": "sleep 1000"}}}));
    let cycle =
        ["alpha → beta → gamma → alpha", "beta → gamma → alpha → beta", "gamma → alpha → beta → gamma"];
    assert!(cycle.iter().any(|cycle| said.contains(cycle)), "{said}");
    assert!(!said.contains("apart →"), "{said}");
}

#[test]
fn a_dependency_that_does_not_exist_is_refused_with_the_nearest_name() {
    let said = refused(&json!({"services": {
        "database": {"command": "sleep 1000"},
        "web": {"command": "sleep 1000", "dependencies": ["databse"]}}}));
    assert!(said.contains("databse") && said.contains("database"), "{said}");
    assert!(said.contains("relume.json:"), "{said}");
}

#[test]
fn a_service_that_depends_on_itself_is_refused() {
    let said = refused(&json!({"services": {"web": {"command": "sleep 1000", "dependencies": ["web"]}}}));
    assert!(said.contains("web → web"), "{said}");
}
