//! What earlier versions have left is read for ever: `tests/data/frozen/VERSION` holds a journal and a database as that version
//! had written them when it was told to leave its services running, and the guardian's table (read in `src/guardian/table.rs`).
//!
//! Before a release, and whenever a format changes, the present version is added, once:
//! `RELUME_FREEZE=1 cargo test -p relume frozen`. What is there is never made anew.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Builder, Process, Relume, text};

/// Where the journal's layout has its words: the version, which half is in use, how much of each, how large one is, the boot.
const VERSION: usize = 8;
const ACTIVE: usize = 16;
const USED: usize = 24;
const HALF: usize = 40;
const BOOT: usize = 64;
const HEADER: usize = 4096;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/frozen")
}

fn config() -> Value {
    // Where a service runs is part of what it is; it must be the same in each test's folder.
    json!({"defaults": {"working_dir": "/"}, "services": {
        "web": {"command": ["/bin/sleep", "1000"]},
        "halted": {"command": ["/bin/sleep", "1000"]},
        "broken": {"command": ["/bin/sh", "-c", "exit 7"], "restart_policy": "never"},
    }})
}

/// Lives through what the frozen files tell, and freezes it.
fn freeze(into: &Path) {
    let relume = Relume::with(&config());
    relume.wait_state("broken", "failed");
    relume.ok(&["restart", "web"]);
    relume.ok(&["restart", "web"]);
    relume.ok(&["stop", "halted"]);
    let web = Process::of(relume.wait_state("web", "running").pid("web")).unwrap();
    relume.signal(Signal::QUIT);
    relume.wait_for_end();
    std::fs::create_dir_all(into).unwrap();
    std::fs::copy(relume.path("runtime").join("journal"), into.join("journal")).unwrap();
    std::fs::copy(relume.state("state.db"), into.join("state.db")).unwrap();
    let web = json!({"pid": web.pid, "start_time": start_time(web.pid)});
    std::fs::write(into.join("web.json"), web.to_string()).unwrap();
    relume.up_again();
    relume.down();
}

fn start_time(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = stat.rsplit_once(") ").unwrap().1;
    rest.split(' ').nth(19).unwrap().parse().unwrap()
}

fn word(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap()
}

fn replace(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), bytes);
    while let Some(at) = rest.windows(old.len()).position(|window| window == old) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(new);
        rest = &rest[at + old.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// The frozen journal as if it were of this boot, and its `web` were this process.
fn thaw(frozen: &[u8], was: &Value, is: &Process) -> Vec<u8> {
    let member = |key: &str, value: u64| {
        [rmp_serde::to_vec(key).unwrap(), rmp_serde::to_vec(&value).unwrap()].concat()
    };
    let mut journal = frozen.to_vec();
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap();
    journal[BOOT..BOOT + 36].copy_from_slice(&boot[..36]);
    let (half, active) = (word(frozen, HALF), word(frozen, ACTIVE));
    let (from, mut used) = (HEADER + active * half, word(frozen, USED + 8 * active));
    let mut left = frozen[from..from + used].to_vec();
    let mut notes = Vec::new();
    while !left.is_empty() {
        let length = usize::try_from(u32::from_le_bytes(left[..4].try_into().unwrap())).unwrap();
        let rest = left.split_off(4 + length);
        let mut note = left.split_off(4);
        for (key, now) in [("pid", u64::from(is.pid)), ("start_time", start_time(is.pid))] {
            note = replace(&note, &member(key, was[key].as_u64().unwrap()), &member(key, now));
        }
        notes.extend_from_slice(&u32::try_from(note.len()).unwrap().to_le_bytes());
        notes.extend_from_slice(&note);
        left = rest;
    }
    used = notes.len();
    journal[from..from + used].copy_from_slice(&notes);
    journal[USED + 8 * active..USED + 8 * active + 8].copy_from_slice(&(used as u64).to_le_bytes());
    journal
}

/// The process that is taken for the frozen `web`.
struct Web(Child);

impl Drop for Web {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A relume that finds the frozen files, with a process that is the frozen `web`.
fn prepared(version: &Path, change: impl Fn(&mut Vec<u8>)) -> (Relume, Web) {
    use std::os::unix::fs::DirBuilderExt;
    let relume = Builder::new().config(&config()).prepare();
    let mut sleep = std::process::Command::new("/bin/sleep");
    let child = sleep.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = Web(child.unwrap());
    let web = Process::of(child.0.id()).unwrap();
    for (dir, mode) in [(relume.state(""), 0o700), (relume.path("runtime"), 0o711)] {
        std::fs::DirBuilder::new().mode(mode).create(dir).unwrap();
    }
    std::fs::copy(version.join("state.db"), relume.state("state.db")).unwrap();
    let was: Value = serde_json::from_slice(&std::fs::read(version.join("web.json")).unwrap()).unwrap();
    let mut journal = thaw(&std::fs::read(version.join("journal")).unwrap(), &was, &web);
    change(&mut journal);
    std::fs::write(relume.path("runtime").join("journal"), journal).unwrap();
    (relume, child)
}

fn versions() -> Vec<PathBuf> {
    let present = folder().join(env!("CARGO_PKG_VERSION"));
    if std::env::var_os("RELUME_FREEZE").is_some() {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            if !present.join("journal").exists() {
                freeze(&present);
            }
        });
    }
    let all: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!all.is_empty());
    all
}

/// Seen to fail where `web` is another life by its configuration, and so is started anew instead of being adopted.
#[test]
fn what_each_earlier_version_has_left_frozen_is_taken_over() {
    for version in versions() {
        let (relume, mut web) = prepared(&version, |_| ());
        std::fs::write(relume.path("up.output"), "").unwrap();
        relume.up_again();
        let status = relume.wait_state("web", "running");
        assert_eq!((status.pid("web"), status.restarts("web")), (web.0.id(), 0), "it is adopted: {status}");
        assert_eq!(status.service("web")["run"], 3, "{status}");
        assert_eq!(status.state("halted"), "stopped", "as somebody had asked: {status}");
        assert_eq!((status.state("broken"), &status.last_exit("broken")["code"]), ("failed", &json!(7)));
        assert_eq!(status.manager()["recoveries"], 0, "it had left, and not died: {status}");
        let events = relume.ok(&["events", "--json"]);
        let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let seqs: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
        assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{seqs:?}");
        let failed = |event: &&Value| event["service"] == "broken" && event["to"] == "failed";
        assert_eq!(events.iter().filter(failed).count(), 1, "the history is there: {events:#?}");
        assert!(!relume.told().contains("could not be read"), "{}", relume.told());
        let restart = relume.command(&["restart", "web"]).stdout(Stdio::null()).spawn().unwrap();
        web.0.wait().unwrap();
        assert!(restart.wait_with_output().unwrap().status.success());
        assert_eq!(relume.status().service("web")["run"], 4, "numbers go on");
        relume.down();
    }
}

/// Shown to fail: with a journal that is read whatever its version.
#[test]
fn what_a_later_version_has_left_is_refused_and_stays_as_it_is() {
    for version in versions() {
        let next = |journal: &mut Vec<u8>| journal[VERSION] += 1;
        let (relume, mut web) = prepared(&version, next);
        let journal = relume.path("runtime").join("journal");
        let before = std::fs::read(&journal).unwrap();
        let output = relume.run(&["up"]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains("this program reads version"), "{}", text(&output));
        assert_eq!(std::fs::read(&journal).unwrap(), before, "left as it is");
        assert!(web.0.try_wait().unwrap().is_none(), "nobody is touched");
    }
}
