//! Other users of the machine at the control socket (scorecard R41).

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Builder, ORDINARY, Relume, eventually, fixture, is_root, read, skip};

/// How often relume starts while somebody knocks. The full ten thousand are a command of their own.
const STARTS: usize = 20;

/// Only the modes of relume's own directories protect it here.
fn open_to_all(builder: &Builder) {
    fs::set_permissions(builder.home(), Permissions::from_mode(0o755)).unwrap();
}

/// The fixture where everybody can execute it.
fn stranger(relume: &Relume) -> PathBuf {
    let copy = relume.path("knocks");
    if !copy.exists() {
        fs::copy(fixture("knocks"), &copy).unwrap();
        fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    }
    copy
}

fn knocks(relume: &Relume, socket: &Path, uid: u32, once: bool) -> Child {
    let mut command = Command::new(stranger(relume));
    command.arg(socket).stdin(Stdio::piped()).stdout(Stdio::piped()).uid(uid).gid(uid);
    if once {
        command.arg("--once");
    }
    command.spawn().unwrap()
}

/// Ends it; what it has counted.
fn counted(mut child: Child) -> Value {
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn count(counted: &Value, what: &str) -> u64 {
    counted[what].as_u64().unwrap()
}

fn idle() -> Value {
    json!({"services": {"web": {"command": [fixture("never-ready")]}}})
}

/// Shown to fail: with a socket of mode 0666 strangers are connected; and the same program run by relume's own user
/// does get in (the end of the test).
#[test]
fn nobody_else_gets_into_the_socket_at_any_moment_of_twenty_starts() {
    if !is_root() {
        skip("only root can be somebody else");
        return;
    }
    let builder = Builder::new();
    open_to_all(&builder);
    let relume = builder.config(&idle()).up();
    let socket = relume.path("runtime/control.sock");
    let others: Vec<Child> = (0..2).map(|_| knocks(&relume, &socket, ORDINARY, false)).collect();
    for _ in 0..STARTS {
        relume.down();
        relume.up_again();
    }
    for other in others {
        let counted = counted(other);
        assert_eq!((count(&counted, "connected"), count(&counted, "answered")), (0, 0), "{counted}");
        assert!(count(&counted, "refused") > 0, "it has met the socket: {counted}");
    }
    let own = counted(knocks(&relume, &socket, 0, true));
    assert_eq!(count(&own, "answered"), 1, "relume's own user gets in: {own}");
}

/// Shown to fail: without the look at the other end's user the stranger is answered.
#[test]
fn a_socket_that_was_opened_up_by_its_mode_still_answers_no_stranger() {
    if !is_root() {
        skip("only root can be somebody else");
        return;
    }
    let builder = Builder::new();
    open_to_all(&builder);
    let relume = builder.config(&idle()).up();
    let socket = relume.path("runtime/control.sock");
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    let counted = counted(knocks(&relume, &socket, ORDINARY, true));
    assert_eq!((count(&counted, "connected"), count(&counted, "answered")), (1, 0), "{counted}");
}

/// Shown to fail: with a socket of mode 0666.
#[test]
fn the_places_of_relume_are_closed_and_it_has_no_abstract_socket() {
    let builder = Builder::new();
    open_to_all(&builder);
    let config = json!({"services": {"web": {"command": "echo up; exec sleep 1000"}}});
    let relume = builder.through(&["sh", "-c", "umask 000; exec \"$@\"", "sh"]).config(&config).up();
    relume.wait_state("web", "running");
    eventually("its log is there", || (relume.lines("web") == ["up"]).then_some(()));
    eventually("the status file is there", || relume.state("status.json").exists().then_some(()));
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&relume.state("")), 0o700);
    assert_eq!(mode(&relume.path("runtime")), 0o711);
    assert_eq!(mode(&relume.path("runtime/control.sock")), 0o600);
    assert_eq!(mode(&relume.path("runtime/journal")), 0o600);
    assert_eq!(mode(&relume.path("logs")) & 0o022, 0, "nobody else writes logs");
    assert_eq!(mode(&relume.path("logs/web.log")) & 0o022, 0, "nobody else writes logs");
    let own: Vec<u64> = relume.processes().iter().flat_map(|process| sockets_of(process.pid)).collect();
    assert!(!own.is_empty(), "it has sockets, the control socket for one");
    let abstracts = read(Path::new("/proc/net/unix"));
    let ours = abstracts.lines().filter(|line| line.contains(" @")).filter(|line| {
        line.split_whitespace()
            .nth(6)
            .and_then(|inode| inode.parse().ok())
            .is_some_and(|inode| own.contains(&inode))
    });
    assert_eq!(ours.collect::<Vec<_>>(), [] as [&str; 0]);
}

/// Inodes of the sockets that a process has open.
fn sockets_of(pid: u32) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return vec![] };
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect()
}
