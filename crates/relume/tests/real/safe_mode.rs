//! Managers that cannot even start: the guardian slows down, falls back to what was last good, and never gives up.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::halves::*;
use crate::harness::{Relume, eventually, text};

/// Shown to fail: with a guardian that never goes into safe mode (nobody answers any more), and with a manager that
/// does not look at the files again.
#[test]
fn a_spoilt_config_takes_no_service_down_and_is_taken_up_again_when_it_is_mended() {
    let relume = Relume::with(&printers(3));
    let first = relume.wait_until("all run", |status| pids(status).len() == 3);
    let guardian_before = guardian(&first).pid;
    let config = relume.path("relume.json");
    let good = std::fs::read(&config).unwrap();
    std::fs::write(&config, "{\"services\": {\"p0\": {\"comand\": 7").unwrap();
    let old = manager(&first);
    old.signal(Signal::KILL);
    let status = wait_for_manager(&relume, &old);
    assert_eq!(status.manager()["state"], "safe_mode", "{status}");
    assert_eq!(pids(&status), pids(&first));
    let output = relume.run(&["status"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("safe mode"), "{}", text(&output));
    // It is a manager like any other: killed, it comes back.
    let old = manager(&status);
    old.signal(Signal::KILL);
    let status = wait_for_manager(&relume, &old);
    assert_eq!(status.manager()["state"], "safe_mode", "{status}");
    std::fs::write(&config, good).unwrap();
    let status = relume.wait_until("safe mode ends", |status| status.manager()["state"] == "running");
    assert_eq!((pids(&status), guardian(&status).pid), (pids(&first), guardian_before));
    relume.down();
    for n in 0..3 {
        assert!(numbers(&relume, &format!("p{n}")).windows(2).all(|pair| pair[0] < pair[1]));
    }
}

/// Shown to fail: with a judge that counts a SIGKILL.
#[test]
fn managers_that_are_killed_from_outside_never_lead_to_safe_mode() {
    let relume = Relume::with(&printers(2));
    let mut status = relume.wait_until("all run", |status| pids(status).len() == 2);
    for _ in 0..8 {
        let old = manager(&status);
        old.signal(Signal::KILL);
        status = wait_for_manager(&relume, &old);
    }
    assert_eq!(status.manager()["state"], "running", "{status}");
    relume.down();
}

/// Shown to fail: with a judge that counts no fault.
#[test]
fn managers_that_die_of_a_fault_again_and_again_lead_to_safe_mode_and_it_says_so() {
    let relume = Relume::with(&printers(2));
    let first = relume.wait_until("all run", |status| pids(status).len() == 2);
    let began = Instant::now();
    let mut status = relume.status();
    while status.manager()["state"] != "safe_mode" {
        assert!(began.elapsed() < Duration::from_secs(60), "never in safe mode: {status}");
        let old = manager(&status);
        // Not SIGSEGV: the first of those from outside only takes a handler away.
        old.signal(Signal::ILL);
        status = eventually("another life of the manager", || {
            relume
                .try_status()
                .filter(|now| now.manager()["recoveries"].as_u64() > status.manager()["recoveries"].as_u64())
        });
    }
    assert_eq!(pids(&status), pids(&first));
    relume.down();
}
