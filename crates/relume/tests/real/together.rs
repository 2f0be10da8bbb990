//! Many `relume up` at the same time on one state directory: one manages, the others say so (scorecard R36).

use std::fs::File;
use std::process::Child;

use rustix::fs::inotify;
use serde_json::json;

use crate::harness::{Builder, Process, Relume, eventually, fixture, read};

/// How many are started at once.
const CROWD: usize = 100;

fn said(relume: &Relume, number: usize) -> String {
    read(&relume.path(&format!("up-{number}")))
}

fn crowd(relume: &Relume) -> Vec<Child> {
    let start = |number| {
        let output = File::create(relume.path(&format!("up-{number}"))).unwrap();
        let mut command = relume.command(&["up"]);
        command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap()
    };
    (0..CROWD).map(start).collect()
}

/// Guardian and manager: the processes of this relume that run relume itself.
fn halves(relume: &Relume) -> Vec<u32> {
    let program = std::fs::canonicalize(env!("CARGO_BIN_EXE_relume")).unwrap();
    let runs_it = |process: &Process| {
        std::fs::read_link(format!("/proc/{}/exe", process.pid)).is_ok_and(|is| is == program)
    };
    relume.processes().into_iter().filter(runs_it).map(|process| process.pid).collect()
}

/// Shown to fail: with a lock that takes "held by another" for its own there are several managers.
#[test]
fn of_a_hundred_ups_at_once_one_manages_and_the_others_name_it_and_end_with_1() {
    let builder = Builder::new();
    let announce = builder.announcements();
    let config = json!({"services": {"web": {"command": [fixture("never-ready"), "--announce", announce]}}});
    let relume = builder.config(&config).prepare();
    let mut all: Vec<(usize, Child)> = crowd(&relume).into_iter().enumerate().collect();
    let mut losers = vec![];
    eventually("all but one have ended", || {
        for (number, mut child) in std::mem::take(&mut all) {
            match child.try_wait().unwrap() {
                Some(status) => losers.push((number, status)),
                None => all.push((number, child)),
            }
        }
        (all.len() <= 1).then_some(())
    });
    let (winner, child) = all.pop().expect("one stays");
    let guardian = child.id();
    relume.adopt(child);
    relume.wait_until_it_answers();
    let status = relume.wait_state("web", "running");
    let manager = u32::try_from(status.manager()["pid"].as_u64().unwrap()).unwrap();
    let mut expected = vec![guardian, manager];
    expected.sort_unstable();
    let mut found = halves(&relume);
    found.sort_unstable();
    assert_eq!(found, expected, "one guardian and one manager: {status}");
    for (number, status) in losers {
        let said = said(&relume, number);
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("relume already runs here"), "{said}");
        let named = [guardian, manager].iter().any(|pid| said.contains(&format!("pid {pid},")));
        assert!(named, "names one of {guardian} and {manager}: {said}");
        assert!(said.contains(relume.state("").to_str().unwrap().trim_end_matches('/')), "{said}");
    }
    assert_eq!(relume.announced("hanging", 1), [status.pid("web")], "the service was started once");
    assert!(!said(&relume, winner).contains("error"), "{}", said(&relume, winner));
}

/// A half that was killed holds the lock until its last thread is gone. Shown to fail: one look at the lock, and `up` says that
/// relume already runs.
#[test]
fn an_up_waits_for_whoever_holds_the_lock_and_is_ending_and_then_comes_up() {
    let relume =
        Builder::new().config(&json!({"services": {"web": {"command": [fixture("never-ready")]}}})).prepare();
    std::fs::create_dir_all(relume.state("")).unwrap();
    let lock = relume_os::files::lock(&relume.state("lock"), "pid 4242").unwrap();
    let opened = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&opened, relume.state("lock"), inotify::WatchFlags::OPEN).unwrap();
    let output = File::create(relume.path("up-0")).unwrap();
    let mut up = relume.command(&["up"]);
    let up = up.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
    let process = Process::of(up.id()).unwrap();
    relume.adopt(up);
    // Opened again and again by the one, once by one that gives up.
    let mut looks = 0;
    eventually("it looks again", || {
        let mut events = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&opened, &mut events);
        while reader.next().is_ok() {
            looks += 1;
        }
        (looks > 2 || !process.lives()).then_some(())
    });
    drop(lock);
    relume.wait_until_it_answers();
    relume.wait_state("web", "running");
    assert!(process.lives() && !said(&relume, 0).contains("already runs"), "{}", said(&relume, 0));
    relume.down();
}

/// Shown to fail: named by what stands in the lock, the holder is a process that does not exist.
#[test]
fn an_up_that_finds_the_lock_held_by_nobody_who_answers_names_the_holder_and_ends_with_1() {
    let relume = Builder::new().config(&json!({"services": []})).prepare();
    std::fs::create_dir_all(relume.state("")).unwrap();
    let _lock = relume_os::files::lock(&relume.state("lock"), "pid 4242").unwrap();
    let output = relume.command(&["up"]).output().unwrap();
    let said = crate::harness::text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let holder = format!("relume already runs here: pid {} (", std::process::id());
    assert!(said.contains(&holder) && said.contains("it has not answered for 5 s"), "{said}");
}

/// Shown to fail: a manager without a guardian that goes on makes a second process that answers.
#[test]
fn a_second_manager_started_by_hand_ends_and_changes_nothing() {
    let relume = Relume::with(&json!({"services": {"web": {"command": [fixture("never-ready")]}}}));
    let before = relume.wait_state("web", "running");
    for role in ["manager", "guardian"].repeat(5) {
        let output = relume.command(&["up"]).env("RELUME_ROLE", role).output().unwrap();
        assert!(!output.status.success(), "{role}: {}", crate::harness::text(&output));
        assert!(output.status.code().is_some(), "it says why: {}", crate::harness::text(&output));
    }
    let after = relume.status();
    assert_eq!(after.manager()["pid"], before.manager()["pid"]);
    assert_eq!(after.pid("web"), before.pid("web"));
    assert_eq!(halves(&relume).len(), 2);
}

/// Shown to fail: with a `down` that waits for the manager alone the guardian still holds the lock for a moment.
#[test]
fn when_down_returns_the_place_is_free_for_the_next_up() {
    let relume = Relume::with(&json!({"services": {"web": {"command": [fixture("never-ready")]}}}));
    for _ in 0..10 {
        let guardian = relume.main_process();
        relume.ok(&["down"]);
        assert!(!guardian.lives(), "down returns when relume is gone");
        relume.up_again();
    }
}
