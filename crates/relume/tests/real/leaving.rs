//! Leaving comes to an end, whatever it would like to wait for, and ends nobody who is not relume's.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Builder, Process, Relume, eventually, fixture, is_root, read, skip};

/// Lines that it has to show.
pub(crate) const FLOOD: usize = 4000;

/// `up --follow` whose output nobody reads, with more to show than its pipe holds.
pub(crate) fn unread() -> (Relume, std::process::ChildStdout) {
    let relume = Builder::new()
        .config(&json!({"services": {
            "flood": {"command": [fixture("floods"), "flood", FLOOD.to_string(), "100"], "restart_policy": "never"},
            "calm": {"command": "sleep 1000"}}}))
        .prepare();
    let mut child =
        relume.command(&["up", "--follow"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let unread = child.stdout.take().unwrap();
    relume.adopt(child);
    relume.wait_until_it_answers();
    eventually("the flood is stored", || (relume.lines("flood").len() == FLOOD).then_some(()));
    let main = relume.manager();
    // The pipe holds 64 KiB: whoever writes there waits for room in it.
    eventually("it is stuck", || waits_for_a_reader(&main).then_some(()));
    (relume, unread)
}

fn waits_for_a_reader(process: &Process) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.pid)).unwrap();
    tasks.flatten().any(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let call = std::fs::read_to_string(task.path().join("syscall")).unwrap_or_default();
        // ppoll(2) is 271 on x86-64 and 73 elsewhere. Where it waits for other things it is in epoll_wait(2).
        name.trim() == "follow" && (call.starts_with("271 0x") || call.starts_with("73 0x"))
    })
}

/// Able to fail: with a join in place of the bounded wait neither of the two came to its end.
#[test]
fn output_that_nobody_reads_holds_up_neither_a_respawn_nor_the_end() {
    let (relume, unread) = unread();
    let before = relume.status();
    relume.ok(&["respawn"]);
    let calm = Process::of(before.pid("calm")).unwrap();
    calm.signal(Signal::KILL);
    relume.wait_until("it supervises", |status| status.restarts("calm") == 1);
    relume.down();
    drop(unread);
}

/// Able to fail: without the look at `until` in the guardian this took as long as a manager has to leave, or for ever.
#[test]
fn who_asks_again_while_relume_leaves_is_not_kept_waiting_by_a_manager_that_hangs() {
    let (relume, unread) = unread();
    let (manager, journal) = (relume.manager(), relume.path("runtime/journal"));
    let mut down = relume.command(&["down"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("it leaves", || (!journal.exists()).then_some(()));
    manager.signal(Signal::STOP);
    let asked = std::time::Instant::now();
    relume.signal(Signal::TERM);
    assert_eq!(relume.wait_for_end().code(), Some(0));
    assert!(asked.elapsed() < std::time::Duration::from_secs(10), "{:?}", asked.elapsed());
    assert!(!manager.lives());
    down.wait().unwrap();
    drop(unread);
}

/// Able to fail: both were killed when the guardian ended whatever was its child.
#[test]
fn children_of_the_shell_that_became_relume_are_not_its_own_to_end() {
    let script = "sleep 1000 & echo $! > beside; setsid sleep 1000 & echo $! > apart; exec \"$@\"";
    let relume = Builder::new()
        .config(&json!({"services": {"web": {"command": "sleep 1000"}}}))
        .through(&["sh", "-c", script, "sh"])
        .up();
    let process = |name| Process::of(read(&relume.path(name)).trim().parse().unwrap()).expect("it lives");
    let strangers = [process("beside"), process("apart")];
    relume.wait_state("web", "running");
    relume.down();
    let alive: Vec<bool> = strangers.iter().map(Process::lives).collect();
    strangers.iter().for_each(|stranger| stranger.signal(Signal::KILL));
    assert_eq!(alive, [true, true]);
    eventually("they are gone", || strangers.iter().all(|one| !one.lives()).then_some(()));
}

/// A daemon that has become root's by a set-user-id program: relume of an ordinary user may not kill it.
///
/// Able to fail: with a second of patience in each of a hundred rounds relume was still there after half a minute.
#[test]
fn an_orphan_that_cannot_be_killed_does_not_keep_relume_from_leaving() {
    if !is_root() {
        return skip("only root can make a set-user-id program of its own");
    }
    let builder = Builder::new();
    std::fs::set_permissions(builder.home(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // Elsewhere, because all that is in relume's folder will be the user's.
    let elsewhere = tempfile::Builder::new().prefix("relume-test-").tempdir().unwrap();
    std::fs::set_permissions(elsewhere.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let rise = elsewhere.path().join("rise");
    std::fs::copy("/usr/bin/setpriv", &rise).unwrap();
    std::fs::set_permissions(&rise, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let works = Command::new("setpriv")
        .args(["--reuid=65534", "--clear-groups"])
        .arg(&rise)
        .args(["--reuid=0", "true"])
        .status();
    if !works.is_ok_and(|status| status.success()) {
        return skip("a set-user-id program does not work here");
    }
    let script = format!("setsid {} --reuid=0 sleep 1000 & echo $! > daemon; sleep 1000", rise.display());
    let relume = builder
        .config(&json!({"services": {"web": {"command": script}}}))
        .env("RELUME_CGROUP", "off")
        .by_ordinary_user()
        .up();
    relume.wait_state("web", "running");
    let daemon = eventually("it is root's", || {
        let pid = read(&relume.path("daemon")).trim().parse().ok()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        (status.contains("Uid:\t0\t0\t0") && status.starts_with("Name:\tsleep")).then_some(())?;
        Process::of(pid)
    });
    // Its parent goes first, so that it is a child of relume's.
    Process::of(relume.status().pid("web")).unwrap().signal(Signal::KILL);
    relume.wait_until("it is back", |status| status.restarts("web") == 1);
    let asked = std::time::Instant::now();
    relume.ok(&["down"]);
    let ended = relume.wait_for_end();
    let took = asked.elapsed();
    let survived = daemon.lives();
    for process in relume.processes() {
        process.signal(Signal::KILL);
    }
    eventually("all is gone", || relume.processes().is_empty().then_some(()));
    assert_eq!(ended.code(), Some(0), "{}", relume.told());
    assert!(took < std::time::Duration::from_secs(20), "{took:?}");
    assert!(survived, "it was to be one that cannot be killed");
}

/// Shown to fail: the notes of births and of jobs stayed behind, and with them the directory.
#[test]
fn a_clean_end_leaves_no_runtime_directory() {
    let relume = Relume::with(&json!({"services": {
        "talks": {"type": "notify", "command": [fixture("start-state")], "restart_policy": "never"},
        "calm": {"command": "sleep 1000"},
        "job": {"type": "oneshot", "command": "true", "schedule": "@every 1h"}}}));
    relume.wait_until("it runs", |status| status.state("calm") == "running");
    let dir = std::fs::canonicalize(relume.state("run")).unwrap();
    assert!(dir.join("journal").exists());
    relume.down();
    let left: Vec<_> =
        std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|one| one.path()).collect();
    assert!(!dir.exists(), "{left:?}");
}
