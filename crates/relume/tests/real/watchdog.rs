//! A half that hangs: the other one notices within the configured time and replaces it.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::halves::*;
use crate::harness::{Builder, Relume, eventually};

/// Long enough for a machine that runs other tests meanwhile, short enough to be waited for.
const PERIOD: Duration = Duration::from_secs(2);

/// What the rest may take on such a machine: half a second to the end of the half, and the start of a new one.
const BUSY: Duration = Duration::from_secs(20);

fn watched(watchdog: &str) -> Value {
    let mut config = printers(3);
    config["manager"]["watchdog"] = watchdog.into();
    config
}

fn all_run(relume: &Relume) -> Vec<u32> {
    pids(&relume.wait_until("all run", |status| pids(status).len() == 3))
}

/// Shown to fail: with the watchdog off.
#[test]
fn a_manager_that_hangs_is_replaced_and_no_service_notices() {
    let relume = Relume::with(&watched("2s"));
    let services = all_run(&relume);
    for _ in 0..kills(2) {
        let hung = manager(&relume.status());
        let began = Instant::now();
        hung.signal(Signal::STOP);
        let status = wait_for_manager(&relume, &hung);
        let took = began.elapsed();
        assert!(took < PERIOD + BUSY, "{took:?}");
        assert_eq!(pids(&status), services);
    }
    assert!(relume.told().contains("had not answered for 2s"), "{}", relume.told());
    relume.down();
    for n in 0..3 {
        let numbers = numbers(&relume, &format!("p{n}"));
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "nothing comes twice");
        assert!(numbers.len() > 100, "the writers were never blocked for long");
    }
}

/// Shown to fail: with the watchdog off.
#[test]
fn a_guardian_that_hangs_is_replaced_and_no_service_notices() {
    let relume = Relume::with(&watched("2s"));
    let services = all_run(&relume);
    let hung = guardian(&relume.status());
    let began = Instant::now();
    hung.signal(Signal::STOP);
    let status = wait_for_guardian(&relume, &hung);
    let took = began.elapsed();
    assert!(took < PERIOD + BUSY, "{took:?}");
    assert!(!hung.lives(), "it was killed, or it would be in the way one day");
    assert_eq!(pids(&status), services);
    down(&relume);
}

/// A manager that begins anew asks the guardian for what it keeps. Shown to fail: with `Patience` without an end.
#[test]
fn a_manager_that_begins_anew_while_the_guardian_hangs_takes_its_place() {
    let relume = Relume::with(&watched("2s"));
    let services = all_run(&relume);
    let hung = guardian(&relume.status());
    hung.signal(Signal::STOP);
    let began = Instant::now();
    drop(relume.run(&["respawn"]));
    let status = wait_for_guardian(&relume, &hung);
    let took = began.elapsed();
    assert!(took < 2 * PERIOD + BUSY, "{took:?}");
    assert!(!hung.lives(), "it was killed");
    assert_eq!(pids(&status), services);
    down(&relume);
}

/// Once with a word on its way that the guardian has not read. Shown to fail: with a guardian, and with a manager, that does not look
/// whether it comes late itself.
#[test]
fn halves_that_were_stopped_together_do_not_kill_each_other() {
    let relume = Relume::with(&watched("3s"));
    let services = all_run(&relume);
    let before = relume.status();
    let halves = [manager(&before), guardian(&before)];
    // In the second round the manager says that it lives, and nobody reads it.
    for (order, between) in [([0, 1], 0), ([1, 0], 1900)] {
        halves[order[0]].signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(between));
        halves[order[1]].signal(Signal::STOP);
        std::thread::sleep(Duration::from_secs(6));
        halves[order[1]].signal(Signal::CONT);
        std::thread::sleep(Duration::from_millis(200));
        halves[order[0]].signal(Signal::CONT);
        std::thread::sleep(Duration::from_secs(2));
        assert!(halves.iter().all(|half| half.lives()), "{}", relume.told());
    }
    assert_eq!(pids(&relume.status()), services);
    relume.down();
}

/// Shown to fail: with a guardian that watches all the same.
#[test]
fn without_a_watchdog_a_stopped_half_is_left_alone() {
    let relume = Relume::with(&watched("off"));
    all_run(&relume);
    let halves = [manager(&relume.status()), guardian(&relume.status())];
    for half in &halves {
        half.signal(Signal::STOP);
        std::thread::sleep(Duration::from_secs(2));
        assert!(halves.iter().all(|half| half.lives()));
        half.signal(Signal::CONT);
    }
    relume.down();
}

/// The very first one, of which the guardian has never heard anything: not even a period. In debug builds the guardian can be told
/// to be less patient than the half minute that a manager gets to start. Shown to fail: with a guardian that knows no period until it
/// is told one.
#[test]
#[cfg(debug_assertions)]
fn a_manager_that_hangs_before_its_first_word_is_replaced() {
    let builder = Builder::new().config(&printers(1)).env("RELUME_START_MS", "4000");
    let gate = builder.path("gate");
    std::fs::write(&gate, "").unwrap();
    let relume = builder.env("RELUME_HANG", gate.as_str()).spawn();
    let with_role =
        || relume.processes().into_iter().find(|half| half.has_in_environment("RELUME_ROLE=manager"));
    let first = eventually("there is a manager", with_role);
    eventually("there is another", || with_role().filter(|manager| manager.pid != first.pid));
    std::fs::remove_file(&gate).unwrap();
    relume.wait_until_it_answers();
    relume.wait_state("p0", "running");
    assert!(!first.lives());
    relume.down();
}
