//! The guardian's own death: the manager takes its part and a new manager is started. Services do not notice.
//!
//! The full figure: `RELUME_KILLS=1000 cargo test -p relume --release --test real guardian_death -- --nocapture`

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Process, Relume, Status, eventually, fixture};

/// How often something is killed; `RELUME_KILLS` says otherwise.
fn kills(few: usize) -> usize {
    std::env::var("RELUME_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// `count` services that print a numbered line each ten milliseconds.
fn printers(count: usize) -> Value {
    let services: serde_json::Map<String, Value> = (0..count)
        .map(|n| {
            let name = format!("p{n}");
            (name.clone(), json!({"command": [fixture("prints-numbers"), name, "10"]}))
        })
        .collect();
    json!({ "services": services })
}

fn process(status: &Status, key: &str) -> Option<Process> {
    Process::of(u32::try_from(status.manager()[key].as_u64()?).ok()?)
}

fn pids(status: &Status) -> Vec<u32> {
    status.services().iter().filter_map(|service| service["pid"].as_u64()).map(|pid| pid as u32).collect()
}

/// Waits until both halves are there, the guardian being another than `before`.
fn wait_for_guardian(relume: &Relume, before: u64) -> Status {
    eventually("a new guardian has a manager", || {
        relume.try_status().filter(|status| {
            let (manager, guardian) = (&status.manager()["pid"], &status.manager()["guardian_pid"]);
            manager != guardian && guardian.as_u64() != Some(before)
        })
    })
}

/// A number that differs from call to call, for moments.
fn random(below: u64) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() % below
}

/// Ends a relume whose guardian is not the process that the test has started.
fn down(relume: &Relume, status: &Status) {
    let halves = [process(status, "pid"), process(status, "guardian_pid")];
    relume.ok(&["down"]);
    for half in halves.into_iter().flatten() {
        eventually("both halves end", || (!half.lives()).then_some(()));
    }
}

/// The lines of a printer: none missing, none repeated, none torn.
fn whole(relume: &Relume, name: &str) -> u64 {
    let numbers: Vec<u64> = relume
        .lines(name)
        .iter()
        .map(|line| {
            let number = line.strip_prefix(name).and_then(|rest| rest.trim().parse().ok());
            number.unwrap_or_else(|| panic!("a torn line in {name}: {line:?}"))
        })
        .collect();
    for pair in numbers.windows(2) {
        assert_eq!(pair[1], pair[0] + 1, "{name} has lost or repeated a line");
    }
    numbers.len() as u64
}

/// Shown to fail: without the promotion, without the table's descriptors (the pipes are opened anew, and the
/// pidfds of what has ended are gone).
#[test]
fn a_guardian_that_is_killed_again_and_again_costs_no_service_its_life_and_no_line_its_place() {
    let relume = Relume::with(&printers(10));
    let first = relume.wait_until("all run", |status| pids(status).len() == 10);
    let mut status = relume.status();
    for _ in 0..kills(20) {
        std::thread::sleep(std::time::Duration::from_millis(random(40)));
        let guardian = process(&status, "guardian_pid").expect("a guardian lives");
        guardian.signal(Signal::KILL);
        status = wait_for_guardian(&relume, guardian.pid.into());
        assert_eq!(pids(&status), pids(&first), "the same processes, none twice");
    }
    for service in status.services() {
        let name = service["name"].as_str().unwrap();
        assert_eq!((status.state(name), status.restarts(name)), ("running", 0), "{status}");
        assert_eq!(relume.processes_of(name).len(), 1, "{name} runs once");
    }
    down(&relume, &status);
    for n in 0..10 {
        assert!(whole(&relume, &format!("p{n}")) > 0);
    }
}
