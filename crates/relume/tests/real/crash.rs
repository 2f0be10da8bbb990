//! The manager crashes: it begins anew in the same process, and services do not notice.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::halves::kills;
use crate::harness::{Relume, Status, eventually, fixture};

/// How often each signal is sent in one test.
const CRASHES: usize = 5;

fn printer() -> Relume {
    Relume::with(&json!({"services": {"web": {"command": [fixture("prints-numbers"), "web", "10"]}}}))
}

fn recoveries(status: &Status) -> u64 {
    status.manager()["recoveries"].as_u64().unwrap()
}

fn crash(relume: &Relume, signal: Signal) -> Status {
    let count = recoveries(&relume.status());
    relume.manager().signal(signal);
    eventually("the next manager answers", || relume.try_status().filter(|now| recoveries(now) > count))
}

/// Shown to fail: without the handlers (another process answers, or nobody).
#[test]
fn a_fatal_signal_begins_the_manager_anew_in_the_same_process_however_often() {
    let relume = printer();
    let first = relume.wait_state("web", "running");
    for signal in [Signal::SEGV, Signal::BUS, Signal::ILL, Signal::FPE, Signal::ABORT] {
        for _ in 0..kills(CRASHES) {
            let status = crash(&relume, signal);
            assert_eq!(status.manager()["pid"], first.manager()["pid"], "{signal:?}");
            assert_eq!((status.pid("web"), status.restarts("web")), (first.pid("web"), 0), "{signal:?}");
        }
    }
    let events = relume.ok(&["events", "-n", "all"]);
    for name in ["SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"] {
        assert!(events.contains(&format!("came back after {name}")), "{events}");
    }
    relume.down();
}

/// Whether this process has read every signal that was sent to it, and waits again (proc(5): `ShdPnd` and `State`).
fn has_heard(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
    value("ShdPnd:").chars().all(|digit| digit == '0') && value("State:").starts_with('S')
}

/// The manager is stopped when relume is told to end, and crashes before it can read that: it waits in the channel, and the guardian
/// tells it again. Shown to fail: with one that takes both for two (the service has no time to say good-bye).
#[test]
fn an_end_that_waits_in_the_channel_over_a_crash_is_heard_once() {
    let slow = "trap 'sleep 0.3; echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done";
    let command = ["/bin/sh", "-c", &slow.replace('$', "$$")].map(str::to_owned);
    let relume = Relume::with(&json!({"services": {"web": {"command": command}}}));
    eventually("it runs", || relume.lines("web").contains(&"up".to_owned()).then_some(()));
    let manager = relume.manager();
    manager.signal(Signal::STOP);
    relume.signal(Signal::TERM);
    eventually("the guardian has passed it on", || has_heard(relume.main_process().pid).then_some(()));
    manager.signal(Signal::SEGV);
    manager.signal(Signal::CONT);
    assert_eq!(relume.wait_for_end().code(), Some(0), "{}", relume.told());
    assert_eq!(relume.lines("web"), ["up", "bye"], "{}", relume.told());
    assert!(relume.told().contains("came back after SIGSEGV"), "{}", relume.told());
}

/// In debug builds SIGUSR2 makes the supervise thread panic. Shown to fail: without the hook (the first one ends the process).
#[test]
#[cfg(debug_assertions)]
fn a_panic_begins_the_manager_anew_and_the_third_in_ten_seconds_ends_it() {
    let relume = printer();
    let first = relume.wait_state("web", "running");
    let mut began = vec![];
    let status = loop {
        began.push(Instant::now());
        let status = crash(&relume, Signal::USR2);
        if status.manager()["pid"] != first.manager()["pid"] {
            break status;
        }
        // On a machine that is very busy three of them take longer.
        let third = began.iter().rev().nth(2).is_some_and(|began| began.elapsed() < Duration::from_secs(10));
        assert!(!third && began.len() < 20, "the guardian should have started another: {began:?}");
    };
    assert!(began.len() >= 3, "that was too early: {began:?}");
    assert_eq!((status.pid("web"), status.restarts("web")), (first.pid("web"), 0));
    assert!(relume.ok(&["events"]).contains("came back after a panic"));
    relume.down();
}
