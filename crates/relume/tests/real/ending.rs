//! Being told to end: at any moment, twice, by a terminal that goes away; and being told to read the config again
//! and again (scorecard R35). relume always ends, in time, and nothing of it is left.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use crate::harness::{Builder, Process, Relume, eventually, fixture};

/// Every so many milliseconds of the first 500, each with a relume of its own.
const STEP: usize = 12;

/// How many are at it side by side.
const AT_ONCE: usize = 4;

fn three() -> Value {
    let idle =
        |dependencies: Value| json!({"command": [fixture("never-ready")], "dependencies": dependencies});
    json!({"services": {"a": idle(json!([])), "b": idle(json!(["a"])), "c": idle(json!(["b"]))}})
}

/// Sends SIGTERM after so long and sees relume end.
fn ends_when_asked_after(wait: Duration) {
    let relume = Builder::new().config(&three()).spawn();
    std::thread::sleep(wait);
    let main = relume.main_process();
    main.signal(Signal::TERM);
    let status = relume.wait_for_end();
    // Before relume listens, SIGTERM is what it is for every program.
    let fine = status.code() == Some(0) || status.signal() == Some(Signal::TERM.as_raw());
    assert!(fine, "after {wait:?}: {status}\n{}", relume.told());
    assert_eq!(relume.processes(), [], "after {wait:?}: {status}\n{}", relume.told());
    assert!(!relume.path("runtime/control.sock").exists(), "after {wait:?}: {status}");
}

/// Shown to fail: a manager that drops what the guardian tells it before it is ready does not end.
#[test]
fn sigterm_at_any_moment_of_the_first_half_second_ends_it_and_leaves_nothing() {
    let moments: Vec<Duration> = (0..500).step_by(STEP).map(Duration::from_millis).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(moment) = moments.get(next.fetch_add(1, Ordering::Relaxed)) {
                    ends_when_asked_after(*moment);
                }
            });
        }
    });
}

/// A terminal: the end that a person sits at, and the end for the program.
pub(crate) fn terminal() -> (File, OwnedFd) {
    let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&near).unwrap();
    unlockpt(&near).unwrap();
    let name = ptsname(&near, vec![]).unwrap();
    let far = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    (File::from(near), OwnedFd::from(far))
}

fn deaf(builder: &Builder) -> Value {
    json!({"services": {"deaf": {"timeout_stop": "10m",
        "command": [fixture("ignores-term"), "--announce", builder.announcements()]}}})
}

/// Reads what relume shows, so that it never has to wait for this terminal; ends with it.
fn watch(near: &File) -> std::thread::JoinHandle<String> {
    let mut near = near.try_clone().unwrap();
    std::thread::spawn(move || {
        let (mut all, mut some) = (vec![], [0; 4096]);
        // A terminal without a program on it is an error to read from.
        while let Ok(length @ 1..) = near.read(&mut some) {
            all.extend_from_slice(&some[..length]);
        }
        String::from_utf8_lossy(&all).into_owned()
    })
}

/// Shown to fail: with the manager in the terminal's own process group one Ctrl+C counts as two, and the deaf
/// service is killed at the first.
#[test]
fn one_ctrl_c_at_a_terminal_asks_and_the_second_forces() {
    let (mut near, far) = terminal();
    let seen = watch(&near);
    let builder = Builder::new();
    let config = deaf(&builder);
    let relume = builder.config(&config).on_terminal(far).up();
    let pid = relume.announced("ignorer", 1)[0];
    near.write_all(b"\x03").unwrap();
    let asked = || relume.lines("deaf").iter().filter(|line| *line == "ignored SIGTERM").count();
    eventually("it is asked", || (asked() == 1).then_some(()));
    // A second SIGINT that came of the same key would be on its way with the first.
    std::thread::sleep(Duration::from_millis(300));
    assert!(Process::of(pid).is_some() && relume.ended().is_none(), "once is not twice: {}", relume.told());
    near.write_all(b"\x03").unwrap();
    assert_eq!(relume.wait_for_end().code(), Some(0), "{}", relume.told());
    assert_eq!(relume.processes(), []);
    drop(near);
    let seen = seen.join().unwrap();
    assert!(seen.contains("once more kills"), "it says what a second one does: {seen}");
}

/// Shown to fail: with SIGHUP from the kernel taken for "read the config again" relume stays for ever.
#[test]
fn a_terminal_that_is_closed_stops_all_and_ends_relume() {
    let (near, far) = terminal();
    let relume = Builder::new().config(&three()).on_terminal(far).up();
    relume.wait_state("c", "running");
    drop(near);
    assert_eq!(relume.wait_for_end().code(), Some(0), "{}", relume.told());
    assert_eq!(relume.processes(), []);
    assert!(relume.told().contains("the terminal is gone"), "{}", relume.told());
}

/// `three`, with so many more to read that the next SIGHUP comes while it is being read.
fn three_and_much_to_read() -> Value {
    let mut config = three();
    for number in 0..300 {
        config["services"][format!("tool-{number}")] = json!({"command": "sleep 1000", "autostart": false});
    }
    config
}

/// Shown to fail: with a SIGHUP during the reading forgotten the last config never comes.
#[test]
fn three_hundred_hangups_in_a_row_leave_the_services_alone_and_the_last_config_in_force() {
    let relume = Relume::with(&three_and_much_to_read());
    let before = relume.wait_state("c", "running");
    let main = relume.main_process();
    let manager = before.manager()["pid"].as_u64().unwrap();
    let (mut most_threads, base) = (0, three_and_much_to_read());
    for number in 0..300 {
        let mut config = base.clone();
        config["services"][format!("extra-{number}")] = json!({"command": [fixture("never-ready")]});
        let fresh = relume.path("relume.json.new");
        std::fs::write(&fresh, config.to_string()).unwrap();
        std::fs::rename(fresh, relume.path("relume.json")).unwrap();
        main.signal(Signal::HUP);
        let threads = std::fs::read_dir(format!("/proc/{manager}/task")).unwrap().count();
        most_threads = most_threads.max(threads);
    }
    let after = relume.wait_until("the last config is in force", |status| {
        status
            .services()
            .iter()
            .any(|service| service["name"] == "extra-299" && service["state"] == "running")
            && status.services().len() == 304
    });
    for name in ["a", "b", "c"] {
        assert_eq!(after.pid(name), before.pid(name), "{name} was left alone");
    }
    assert!(most_threads < 30, "{most_threads} threads");
    relume.down();
}

/// Shown to fail: a relume that does not hear SIGTERM and SIGINT after the first waits ten minutes for the deaf.
#[test]
fn signals_of_all_kinds_at_once_still_end_it() {
    let builder = Builder::new();
    let config = deaf(&builder);
    let relume = builder.config(&config).up();
    relume.announced("ignorer", 1);
    let main = relume.main_process();
    for _ in 0..20 {
        for signal in [Signal::HUP, Signal::USR1, Signal::TSTP, Signal::CHILD, Signal::INT, Signal::TERM] {
            main.signal(signal);
        }
    }
    assert_eq!(relume.wait_for_end().code(), Some(0), "{}", relume.told());
    assert_eq!(relume.processes(), []);
}
