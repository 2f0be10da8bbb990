//! The two halves of relume, and services that tell whether anything of theirs was lost while a half was not there.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Process, Relume, Status, eventually, fixture};

/// How often something is killed in one test; `RELUME_KILLS` says otherwise.
pub(crate) fn kills(few: usize) -> usize {
    std::env::var("RELUME_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// `count` services that print a numbered line each ten milliseconds.
pub(crate) fn printers(count: usize) -> Value {
    let services: serde_json::Map<String, Value> = (0..count)
        .map(|n| {
            let name = format!("p{n}");
            (name.clone(), json!({"command": [fixture("prints-numbers"), name, "10"]}))
        })
        .collect();
    json!({ "services": services })
}

/// The manager as the status has it.
pub(crate) fn manager(status: &Status) -> Process {
    half(status, "pid").expect("the manager lives")
}

/// The guardian as the status has it.
pub(crate) fn guardian(status: &Status) -> Process {
    half(status, "guardian_pid").expect("the guardian lives")
}

fn half(status: &Status, key: &str) -> Option<Process> {
    Process::of(u32::try_from(status.manager()[key].as_u64()?).ok()?)
}

/// The main processes of all services.
pub(crate) fn pids(status: &Status) -> Vec<u32> {
    status.services().iter().filter_map(|service| service["pid"].as_u64()).map(|pid| pid as u32).collect()
}

/// Waits until there is another guardian than `before`, with a manager.
pub(crate) fn wait_for_guardian(relume: &Relume, before: &Process) -> Status {
    eventually("a new guardian has a manager", || {
        relume.try_status().filter(|status| {
            let (manager, guardian) = (&status.manager()["pid"], &status.manager()["guardian_pid"]);
            manager != guardian && guardian.as_u64() != Some(before.pid.into())
        })
    })
}

/// Waits until there is another manager than `before`.
pub(crate) fn wait_for_manager(relume: &Relume, before: &Process) -> Status {
    eventually("a new manager answers", || {
        relume.try_status().filter(|status| status.manager()["pid"].as_u64() != Some(before.pid.into()))
    })
}

/// A number that differs from call to call, for moments.
pub(crate) fn random(below: u64) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() % below
}

/// Ends a relume whose guardian is not the process that the test has started.
pub(crate) fn down(relume: &Relume) {
    let status = relume.status();
    let halves = [manager(&status), guardian(&status)];
    relume.ok(&["down"]);
    for half in halves {
        eventually("both halves end", || (!half.lives()).then_some(()));
    }
}

/// Kills both halves; neither gets to heal the other, because the manager is stopped before the guardian dies.
pub(crate) fn kill_both(status: &Status) {
    let (manager, guardian) = (manager(status), guardian(status));
    manager.signal(Signal::STOP);
    guardian.signal(Signal::KILL);
    manager.signal(Signal::KILL);
    eventually("both are gone", || (is_gone(&manager) && is_gone(&guardian)).then_some(()));
}

/// Dead to its last thread: until then its lock is held, and a next relume would find that one runs.
fn is_gone(half: &Process) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", half.pid)).map_or(0, Iterator::count);
    !half.lives() && threads <= 1
}

/// The numbers of a printer's lines, of which none may be torn.
pub(crate) fn numbers(relume: &Relume, name: &str) -> Vec<u64> {
    let number = |line: &String| {
        let number = line.strip_prefix(name).and_then(|rest| rest.trim().parse().ok());
        number.unwrap_or_else(|| panic!("a torn line in {name}: {line:?}"))
    };
    relume.lines(name).iter().map(number).collect()
}

/// How many lines a printer has, none of which may be missing, repeated or torn.
pub(crate) fn whole(relume: &Relume, name: &str) -> usize {
    let numbers = numbers(relume, name);
    for pair in numbers.windows(2) {
        assert_eq!(pair[1], pair[0] + 1, "{name} has lost or repeated a line");
    }
    numbers.len()
}
