//! Managers that cannot even start: the guardian slows down, falls back to what was last good, and never gives up.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::halves::*;
use crate::harness::{Builder, Process, Relume, eventually, text};

/// Shown to fail: with a guardian that never goes into safe mode (nobody answers any more), and with a manager that
/// does not look at the files again.
#[test]
fn a_spoilt_config_takes_no_service_down_and_is_taken_up_again_when_it_is_mended() {
    let relume = Relume::with(&printers(3));
    let first = relume.wait_until("all run", |status| pids(status).len() == 3);
    let guardian_before = guardian(&first).pid;
    let config = relume.path("relume.json");
    let good = std::fs::read(&config).unwrap();
    for _ in 0..kills(1) {
        std::fs::write(&config, "{\"services\": {\"p0\": {\"comand\": 7").unwrap();
        let old = manager(&relume.status());
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
        std::fs::write(&config, &good).unwrap();
        let status = relume.wait_until("safe mode ends", |status| status.manager()["state"] == "running");
        assert_eq!((pids(&status), guardian(&status).pid), (pids(&first), guardian_before));
    }
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
        // A panic, in debug builds: a signal from outside is no fault of its own, and is answered by a fresh copy in place.
        old.signal(Signal::USR2);
        status = eventually("another life of the manager", || {
            relume
                .try_status()
                .filter(|now| now.manager()["recoveries"].as_u64() > status.manager()["recoveries"].as_u64())
        });
    }
    assert_eq!(pids(&status), pids(&first));
    relume.down();
}

/// Five seconds apart: never three in ten seconds, which is what the process itself looks at. Shown to fail: with a HELLO that does
/// not tell of the crash.
#[test]
#[cfg(debug_assertions)]
fn crashes_that_are_some_seconds_apart_lead_to_safe_mode_too() {
    let relume = Relume::with(&printers(2));
    let first = relume.wait_until("all run", |status| pids(status).len() == 2);
    let mut status = relume.status();
    for crash in 0..3 {
        if crash > 0 {
            std::thread::sleep(Duration::from_millis(5_100));
        }
        manager(&status).signal(Signal::USR2);
        let before = status.manager()["recoveries"].as_u64();
        status = eventually("another life of the manager", || {
            relume.try_status().filter(|now| now.manager()["recoveries"].as_u64() > before)
        });
    }
    let status = relume.wait_until("safe mode", |status| status.manager()["state"] == "safe_mode");
    assert_eq!(pids(&status), pids(&first));
    crate::harness::halves::down(&relume);
}

/// What stands where the program was, while relume runs.
fn put_in_place(relume: &Relume, name: &str, bytes: Option<&[u8]>) {
    use std::os::unix::fs::PermissionsExt;
    let place = relume.program();
    match bytes {
        None => std::fs::remove_file(place).unwrap(),
        Some(bytes) => {
            let aside = relume.path(name);
            std::fs::write(&aside, bytes).unwrap();
            std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o755)).unwrap();
            std::fs::rename(aside, place).unwrap();
        }
    }
}

/// Shown to fail: with a guardian that knows no other program than the one at its path.
#[test]
fn whatever_lies_at_the_path_of_the_program_the_last_good_one_comes_back() {
    let relume = Builder::new().config(&printers(2)).with_own_program().up();
    let first = relume.wait_until("all run", |status| pids(status).len() == 2);
    let program = std::fs::read(relume.program()).unwrap();
    let half = &program[..program.len() / 2];
    let hostile: [Option<&[u8]>; 4] =
        [Some(b"no program at all"), Some(b"#!/bin/sh\nexit 1\n"), Some(half), None];
    for bytes in hostile {
        put_in_place(&relume, "hostile", bytes);
        let old = manager_process(&relume);
        old.signal(Signal::KILL);
        eventually("another manager supervises", || {
            let roles = relume.processes();
            let manager = roles.iter().find(|half| half.has_in_environment("RELUME_ROLE=manager"));
            manager.filter(|manager| manager.pid != old.pid).map(drop)
        });
    }
    put_in_place(&relume, "good", Some(&program));
    let status = relume.wait_until("it answers", |status| pids(status) == pids(&first));
    assert_ne!(status.manager()["state"], "stopping", "{status}");
    relume.down();
}

/// The manager as the processes show it: there may be no program to ask it with.
fn manager_process(relume: &Relume) -> Process {
    eventually("there is a manager", || {
        relume.processes().into_iter().find(|half| half.has_in_environment("RELUME_ROLE=manager"))
    })
}

/// Shown to fail: with a guardian that does not follow a program that was proven.
#[test]
fn the_guardian_takes_the_program_that_its_manager_has_proven_and_keeps_everything() {
    let relume = Builder::new().config(&printers(3)).with_own_program().up();
    let first = relume.wait_until("all run", |status| pids(status).len() == 3);
    let before = [manager(&first), guardian(&first)];
    let program = std::fs::read(relume.program()).unwrap();
    put_in_place(&relume, "newer", Some(&program));
    before[0].signal(Signal::KILL);
    let second = wait_for_manager(&relume, &before[0]);
    let runs = |pid: u32| std::fs::metadata(format!("/proc/{pid}/exe")).map(|meta| meta.ino()).ok();
    let newer = std::fs::metadata(relume.program()).unwrap().ino();
    assert_eq!(runs(manager(&second).pid), Some(newer), "the manager runs what lies at the path");
    eventually("the guardian has followed", || (runs(before[1].pid) == Some(newer)).then_some(()));
    assert!(before[1].lives() && manager(&second).lives(), "neither has died of it");
    // It still guards, with all that was kept.
    let old = manager(&second);
    old.signal(Signal::KILL);
    let third = wait_for_manager(&relume, &old);
    assert_eq!((pids(&third), guardian(&third).pid), (pids(&first), before[1].pid));
    relume.down();
    for n in 0..3 {
        assert!(numbers(&relume, &format!("p{n}")).windows(2).all(|pair| pair[0] < pair[1]));
    }
}

/// Measured with 500 services (1,000 names): 1.1 MB. Shown to fail: with a limit of 0.5 MB.
#[test]
fn the_guardian_is_small() {
    let services: serde_json::Map<String, serde_json::Value> =
        (0..100).map(|n| (format!("s{n}"), serde_json::json!({"command": ["/bin/sleep", "600"]}))).collect();
    let relume = Relume::with(&serde_json::json!({ "services": services }));
    let status = relume.wait_until("all run", |status| pids(status).len() == 100);
    let private = |pid: u32| {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let kib = rollup.lines().filter(|line| line.starts_with("Private_"));
        kib.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>()
    };
    let before = private(guardian(&status).pid);
    assert!(before < 2048, "{before} KiB");
    let old = guardian(&status);
    old.signal(Signal::KILL);
    let status = wait_for_guardian(&relume, &old);
    let after = private(guardian(&status).pid);
    assert!(after < 2048, "{after} KiB after taking the part");
    down(&relume);
}
