//! How processes end, as seen by parent and stranger.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;

use common::{Child, LONG, METHODS, alone, request, sh, skip};
use relume_os::epoll::{Epoll, Interest};
use relume_os::exit::{self, ExitStatus, Reaped};
use relume_os::limits::{Limit, Resource};
use relume_os::pidfd::{Info, PidFd, ProcessId};
use relume_os::pipes::Pipe;
use relume_os::spawn::{SpawnFds, SpawnMethod, SpawnPlan, Spawner};

fn run(script: &str, method: SpawnMethod) -> ExitStatus {
    Child::start(&sh(script), &SpawnFds::default(), method).unwrap().end()
}

#[test]
fn exit_codes_and_signals_are_told_apart() {
    for method in METHODS {
        assert_eq!(run("exit 0", method), ExitStatus::Code(0));
        assert_eq!(run("exit 7", method), ExitStatus::Code(7));
        assert_eq!(run("exit 255", method), ExitStatus::Code(255));
        assert_eq!(run("kill -TERM $$", method), ExitStatus::Signal { number: 15, core_dumped: false });
        assert_eq!(run("kill -KILL $$", method), ExitStatus::Signal { number: 9, core_dumped: false });
    }
}

#[test]
fn a_core_dump_is_noticed() {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.starts_with('|') || pattern.trim().is_empty() || pattern.starts_with('/') {
        return skip("cores do not go into the working directory here");
    }
    let hard = relume_os::limits::get(Resource::CORE).unwrap().hard;
    if hard == Some(0) {
        return skip("core files are forbidden here");
    }
    let dir = tempfile::tempdir().unwrap();
    for (soft, dumped) in [(hard, true), (Some(0), false)] {
        let mut request = sh("kill -ABRT $$");
        request.working_dir = Some(dir.path().to_owned());
        request.limits = vec![(Resource::CORE, Limit { soft, hard })];
        let child = Child::start(&request, &SpawnFds::default(), SpawnMethod::Clone3).unwrap();
        assert_eq!(child.end(), ExitStatus::Signal { number: 6, core_dumped: dumped });
    }
}

#[test]
fn a_running_process_has_no_status_and_a_peek_takes_nothing_away() {
    let child =
        Child::start(&request(&["sleep", "1000"]), &SpawnFds::default(), SpawnMethod::Clone3).unwrap();
    let pidfd = &child.spawned.pidfd;
    assert_eq!(exit::peek(pidfd, child.pid()).unwrap(), None);
    assert_eq!(exit::reap(pidfd).unwrap(), Reaped::Alive);
    assert!(pidfd.send_signal(15).unwrap());
    assert!(pidfd.wait_ended(LONG).unwrap());
    let ended = Some(ExitStatus::Signal { number: 15, core_dumped: false });
    for _ in 0..3 {
        assert_eq!(exit::peek(pidfd, child.pid()).unwrap(), ended);
    }
    assert!(child.spawned.id.exists().unwrap(), "a zombie keeps its id");
    assert!(matches!(exit::reap(pidfd).unwrap(), Reaped::Exited { .. }));
    assert_eq!(exit::reap(pidfd).unwrap(), Reaped::NotOurs);
    assert!(!child.spawned.id.exists().unwrap());
    assert!(!pidfd.send_signal(15).unwrap(), "nobody is left to get a signal");
}

#[test]
fn what_a_child_used_comes_with_its_exit() {
    let child = Child::start(
        &sh("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"),
        &SpawnFds::default(),
        SpawnMethod::Clone3,
    )
    .unwrap();
    assert!(child.spawned.pidfd.wait_ended(LONG).unwrap());
    let Reaped::Exited { usage, .. } = exit::reap(&child.spawned.pidfd).unwrap() else {
        panic!("not reaped")
    };
    assert!(usage.max_rss_kib > 100 && !(usage.user + usage.system).is_zero(), "{usage:?}");
}

/// R28 in small. The kernel merges their SIGCHLDs into a few, so whoever counts signals misses exits.
#[test]
fn two_hundred_processes_that_end_at_once_are_all_noticed() {
    const COUNT: usize = 200;
    let gate = Pipe::new().unwrap();
    let mut spawner = Spawner::new().unwrap();
    let epoll = Epoll::new().unwrap();
    let mut children = Vec::new();
    for n in 0..COUNT {
        let plan = SpawnPlan::prepare(&sh(&format!("read x; exit {}", n % 100))).unwrap();
        let fds = SpawnFds { stdin: Some(gate.read.as_fd()), ..SpawnFds::default() };
        let spawned = spawner.spawn(&plan, &fds).unwrap();
        epoll.add(&spawned.pidfd, n as u64, Interest::READ).unwrap();
        children.push(Child { spawned });
    }
    drop(gate.write);
    let (mut seen, mut ready) = (vec![false; COUNT], Vec::new());
    while seen.iter().any(|s| !s) {
        epoll.wait(&mut ready, Some(LONG)).unwrap();
        assert!(!ready.is_empty(), "some exits were never noticed");
        for event in &ready {
            let n = usize::try_from(event.token).unwrap();
            assert!(!std::mem::replace(&mut seen[n], true), "noticed twice");
            epoll.delete(&children[n].spawned.pidfd).unwrap();
            assert_eq!(children[n].end(), ExitStatus::Code(i32::try_from(n % 100).unwrap()));
        }
    }
}

/// The rungs below `waitid`: a process of somebody else, as a zombie and after the reap.
#[test]
fn the_status_of_a_process_that_is_not_our_child_is_found() {
    let (input, output) = (Pipe::new().unwrap(), Pipe::new().unwrap());
    let script = "sleep 1000 & echo $!; read x; wait; echo reaped; read y";
    let fds = SpawnFds {
        stdin: Some(input.read.as_fd()),
        stdout: Some(output.write.as_fd()),
        ..SpawnFds::default()
    };
    let _parent = Child::start(&sh(script), &fds, SpawnMethod::Clone3).unwrap();
    drop(output.write);
    let mut lines = BufReader::new(File::from(output.read)).lines();
    let pid: u32 = lines.next().unwrap().unwrap().parse().unwrap();
    let pidfd = ProcessId::of(pid).unwrap().unwrap().open().unwrap().unwrap();
    assert_eq!(exit::peek(&pidfd, pid).unwrap(), None);
    assert_eq!(exit::reap(&pidfd).unwrap(), Reaped::NotOurs);
    assert!(pidfd.send_signal(15).unwrap());
    assert!(pidfd.wait_ended(LONG).unwrap());
    let expected = ExitStatus::Signal { number: 15, core_dumped: false };
    assert_eq!(exit::peek(&pidfd, pid).unwrap(), Some(expected), "as a zombie");
    let mut gate = File::from(input.write);
    gate.write_all(b"\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "reaped");
    let after = exit::peek(&pidfd, pid).unwrap();
    match pidfd.info().unwrap() {
        Info::Reaped { .. } => assert_eq!(after, Some(expected), "after the reap"),
        Info::NotReaped | Info::Gone | Info::Unsupported => {
            assert_eq!(after, Some(ExitStatus::Unknown), "this kernel keeps no status")
        }
    }
    assert_eq!(pidfd.pid().unwrap(), None);
}

#[test]
fn an_orphan_that_came_to_us_is_found_and_reaped_by_its_id() {
    let _turn = alone();
    relume_os::prctl::set_child_subreaper().unwrap();
    let output = Pipe::new().unwrap();
    let fds = SpawnFds { stdout: Some(output.write.as_fd()), ..SpawnFds::default() };
    let parent = Child::start(&sh("sleep 1000 >/dev/null & echo $!"), &fds, SpawnMethod::Clone3).unwrap();
    drop(output.write);
    let mut text = String::new();
    BufReader::new(File::from(output.read)).read_line(&mut text).unwrap();
    let orphan: u32 = text.trim().parse().unwrap();
    assert_eq!(parent.end(), ExitStatus::Code(0));
    assert!(relume_os::proc::children().unwrap().contains(&orphan));
    assert_eq!(exit::reap_orphan(orphan).unwrap(), Reaped::Alive);
    assert_eq!(exit::first_ended_child().unwrap(), None, "who lives has not ended");
    let pidfd = PidFd::open(orphan).unwrap();
    assert!(pidfd.send_signal(9).unwrap() && pidfd.wait_ended(LONG).unwrap());
    let first = [(); 2].map(|()| exit::first_ended_child().unwrap());
    assert_eq!(first, [Some(orphan); 2], "it is there until it is reaped");
    assert!(
        matches!(exit::reap_orphan(orphan).unwrap(), Reaped::Exited { pid, status: ExitStatus::Signal { number: 9, .. }, .. } if pid == orphan)
    );
    assert_eq!(exit::reap_orphan(orphan).unwrap(), Reaped::NotOurs);
}

#[test]
fn ids_that_mean_groups_or_everybody_are_refused() {
    for pid in [0, u32::MAX, 1 << 31] {
        assert!(PidFd::open(pid).is_err());
        assert!(exit::reap_orphan(pid).is_err());
    }
}

#[test]
fn an_id_whose_start_time_is_another_is_not_opened() {
    let me = ProcessId::of(std::process::id()).unwrap().unwrap();
    assert!(me.open().unwrap().is_some());
    assert!(ProcessId { start_time: me.start_time + 1, ..me }.open().unwrap().is_none());
    assert!(ProcessId { pid: 0x3fff_ffff, start_time: 1 }.open().unwrap().is_none());
}
