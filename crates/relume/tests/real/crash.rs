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
