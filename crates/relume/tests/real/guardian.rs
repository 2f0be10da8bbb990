//! relume's own death: of the manager, of both halves, and a planned leave. Services do not notice.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::halves::kill_both;
use crate::harness::{Builder, Process, Relume, Status, eventually, fixture, text};

/// How often the manager is killed in one test. The full thousand is a command of its own.
const KILLS: usize = 20;

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

fn manager(status: &Status) -> Process {
    let pid = status.manager()["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    Process::of(pid.expect("a pid")).expect("the manager lives")
}

fn pids(status: &Status) -> Vec<u32> {
    status.services().iter().filter_map(|service| service["pid"].as_u64()).map(|pid| pid as u32).collect()
}

/// Kills the manager and waits for the next one to answer.
fn kill_manager(relume: &Relume) -> Status {
    let before = relume.status();
    let recoveries = before.manager()["recoveries"].as_u64().unwrap_or(0);
    manager(&before).signal(Signal::KILL);
    eventually("the next manager answers", || {
        relume.try_status().filter(|status| status.manager()["recoveries"].as_u64() > Some(recoveries))
    })
}

/// Every line of a printer in order: none repeated and none torn. How many are missing is returned: after a death of
/// both halves, what a service left in its pipe when it ended before the next `up`.
fn missing_lines(relume: &Relume, name: &str) -> u64 {
    let lines = relume.lines(name);
    let numbers: Vec<u64> = lines
        .iter()
        .map(|line| {
            let number = line.strip_prefix(name).and_then(|rest| rest.trim().parse().ok());
            number.unwrap_or_else(|| panic!("a torn line in {name}: {line:?}"))
        })
        .collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "a line of {name} was repeated or swapped");
    numbers.windows(2).map(|pair| pair[1] - pair[0] - 1).sum()
}

/// Shown to fail: with a successor that takes what it finds for ended.
#[test]
fn a_manager_that_is_killed_again_and_again_costs_no_service_its_life() {
    let relume = Relume::with(&printers(20));
    let first = relume.wait_until("all run", |status| pids(status).len() == 20);
    for _ in 0..KILLS {
        let status = kill_manager(&relume);
        assert_eq!(pids(&status), pids(&first), "the same processes, none twice");
    }
    let last = relume.status();
    for service in last.services() {
        let name = service["name"].as_str().unwrap();
        assert_eq!((last.state(name), last.restarts(name)), ("running", 0), "{last}");
        assert_eq!(relume.processes_of(name).len(), 1, "{name} runs once");
    }
    assert_eq!(last.manager()["guardian_pid"], first.manager()["guardian_pid"]);
    relume.down();
    for n in 0..20 {
        let missing = missing_lines(&relume, &format!("p{n}"));
        assert_eq!(missing, 0, "lines of p{n} are missing");
    }
}

/// Shown to fail: with ends that are taken for unknown where no manager saw them.
#[test]
fn an_end_that_nobody_saw_is_learnt_with_its_code_and_acted_on() {
    let relume = Relume::with(&json!({"services": {
        "gone": {"command": ["/bin/sh", "-c", "read line < gate; exit 7"], "restart_policy": "never"},
    }, "defaults": {"working_dir": "."}}));
    let gate = relume.path("gate");
    std::process::Command::new("mkfifo").arg(&gate).status().unwrap();
    relume.ok(&["restart", "gone"]);
    let status = relume.wait_state("gone", "running");
    let service = Process::of(status.pid("gone")).unwrap();
    // Stopped, the guardian cannot start a manager, so the end falls into the time without one.
    let guardian = relume.main_process();
    guardian.signal(Signal::STOP);
    manager(&status).signal(Signal::KILL);
    std::fs::write(&gate, "go\n").unwrap();
    eventually("the service has ended", || (!service.lives()).then_some(()));
    guardian.signal(Signal::CONT);
    let status = relume.wait_state("gone", "failed");
    assert_eq!(status.last_exit("gone")["code"], 7, "{status}");
    // Nobody but the guardian can know that.
    assert!(status.last_exit("gone")["max_memory_bytes"].as_u64() > Some(100_000), "{status}");
    let events = relume.ok(&["events", "gone"]);
    assert!(events.contains("exited 7") && events.contains(" MB of memory"), "{events}");
    let page = relume.ok(&["explain", "gone"]);
    assert!(page.contains("of CPU and at most "), "{page}");
}

/// Shown to fail: with a successor that takes what it finds for ended.
#[test]
fn when_both_halves_are_killed_the_next_up_adopts_everything() {
    let relume = Relume::with(&printers(10));
    let first = relume.wait_until("all run", |status| pids(status).len() == 10);
    relume.ok(&["stop", "p3"]);
    for _ in 0..3 {
        let status = relume.status();
        // Each would heal the other: the manager is stopped before the guardian dies.
        manager(&status).signal(Signal::STOP);
        relume.main_process().signal(Signal::KILL);
        manager(&status).signal(Signal::KILL);
        relume.wait_for_end();
        let living = pids(&status);
        assert!(living.iter().all(|pid| Process::of(*pid).is_some()), "nobody dies of a broken pipe");
        relume.up_again();
        let status = relume.status();
        assert_eq!(pids(&status), living, "all of them adopted, none started twice");
        assert_eq!(status.state("p3"), "stopped", "what was stopped on request stays so");
    }
    assert_eq!(pids(&first).len(), 10);
    let lines = relume.lines("p0").len();
    eventually("output is captured again", || (relume.lines("p0").len() > lines).then_some(()));
    relume.down();
    missing_lines(&relume, "p0");
}

/// Shown to fail: with a successor that takes what it finds for ended.
#[test]
fn sigquit_leaves_the_services_running_for_the_next_up() {
    let relume = Relume::with(&printers(3));
    let first = relume.wait_until("all run", |status| pids(status).len() == 3);
    relume.signal(Signal::QUIT);
    assert_eq!(relume.wait_for_end().code(), Some(0), "{}", relume.told());
    assert!(pids(&first).iter().all(|pid| Process::of(*pid).is_some()));
    relume.up_again();
    assert_eq!(pids(&relume.status()), pids(&first));
    relume.down();
}

/// Shown to fail: with a journal of which only the checkpoint is read.
#[test]
fn a_restart_that_was_due_and_the_retries_used_survive_the_managers_death() {
    let relume = Relume::with(&json!({"services": {
        "flaps": {"command": [fixture("exits-at-once"), "3"], "retry_delay": "60s", "backoff": "off"},
    }}));
    let before = relume.wait_state("flaps", "crashed");
    let after = kill_manager(&relume);
    let due = |status: &Status| status.service("flaps")["next_start_in_s"].as_f64().unwrap();
    assert_eq!(after.state("flaps"), "crashed");
    assert!(due(&after) <= due(&before), "the wait goes on, it does not begin anew");
    assert_eq!(after.service("flaps")["retries_used"], before.service("flaps")["retries_used"]);
    assert_eq!(after.last_exit("flaps")["code"], 3);
}

/// Shown to fail: with a command that comes back as soon as a manager answers.
#[test]
fn up_detached_comes_back_when_all_services_are_up_and_relume_stays() {
    let mut config = printers(3);
    config["services"]["p2"]["pre_start"] = json!("sleep 0.5");
    let relume = Builder::new().config(&config).arg("--detach").spawn();
    assert_eq!(relume.wait_for_end().code(), Some(0), "{}", relume.told());
    let first = relume.status();
    assert!((0..3).all(|n| first.state(&format!("p{n}")) == "running"), "all are up: {first}");
    relume.ok(&["stop", "p1"]);
    let again = relume.run(&["up", "--detach"]);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    assert_eq!(relume.status().state("p1"), "running", "what was missing is started");
    assert_eq!(relume.status().pid("p0"), first.pid("p0"), "what runs is left alone");
    relume.down();
}

/// Shown to fail: without `resting` the command does not come back, and is ended after a while.
#[test]
fn up_detached_does_not_wait_for_what_was_stopped_on_request() {
    let last = json!({"command": "sleep 1000", "dependencies": ["middle"]});
    let relume = Builder::new()
        .config(&json!({"services": {
            "asked": {"command": "sleep 1000"},
            "middle": {"command": "sleep 1000"},
            "last": last}}))
        .arg("--detach")
        .spawn();
    assert_eq!(relume.wait_for_end().code(), Some(0), "{}", relume.told());
    relume.ok(&["stop", "asked"]);
    kill_both(&relume.status());
    let again = relume.run(&["up", "--detach"]);
    assert_eq!(again.status.code(), Some(0), "nobody waits for it: {}", text(&again));
    assert_eq!(relume.status().state("asked"), "stopped");

    relume.ok(&["stop", "middle"]);
    Process::of(relume.status().pid("last")).unwrap().signal(Signal::KILL);
    relume.wait_state("last", "pending");
    kill_both(&relume.status());
    let again = relume.run(&["up", "--detach"]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
    assert!(text(&again).contains("last waits for middle: relume start middle"), "{}", text(&again));
    relume.ok(&["down"]);
}

/// Shown to fail: told at each look, what is up is told twenty times.
#[test]
fn up_detached_tells_what_is_up_once_while_it_waits_for_the_rest() {
    let relume = Builder::new()
        .config(&json!({"services": {
            "quick": {"command": "sleep 1000"},
            "slow": {"command": "sleep 0.5; touch go; exec sleep 1000", "readiness": {"file": "go"}},
            "last": {"command": "sleep 1000", "dependencies": ["slow"]}}}))
        .arg("--detach")
        .spawn();
    assert_eq!(relume.wait_for_end().code(), Some(0), "{}", relume.told());
    let said = relume.said();
    for name in ["quick", "slow", "last"] {
        let running = said.lines().filter(|line| line.contains(name) && line.contains(" running "));
        assert_eq!(running.count(), 1, "{name} in {said}");
    }
    assert!(said.contains("relume down stops them"), "nobody is there for a Ctrl+C: {said}");
    relume.down();
}

/// Shown to fail: with a command that comes back as soon as a manager answers.
#[test]
fn up_detached_says_so_when_a_start_has_failed() {
    let relume = Builder::new()
        .config(&json!({"services": {"bad": {"command": "/no/such/program", "restart_policy": "never"}}}))
        .arg("-d")
        .spawn();
    assert_eq!(relume.wait_for_end().code(), Some(1), "{}", relume.told());
    assert!(relume.said().contains("/no/such/program"), "{}", relume.said());
    relume.ok(&["down"]);
}
