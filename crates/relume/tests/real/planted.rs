//! Something else where relume wants to write: links to files of others, FIFOs, directories (scorecard R42).
//!
//! Each time nothing of others is changed, relume does not hang, and either it says at once why it does not
//! start, or the services run and it says what it does not write to, unless it has replaced what was planted by
//! a file of its own.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{CWD, FileType, mknodat};
use serde_json::json;

use crate::harness::{Builder, ORDINARY, Relume, eventually, fixture, is_root};

/// Where relume writes, in its folder.
const PLACES: [&str; 9] = [
    "logs/web.log",
    "state/pids/web.pid",
    "state/status.json",
    "state/relume.log",
    "state/lock",
    "state/run",
    "runtime/control.sock",
    "runtime/journal",
    "runtime",
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    Link,
    LinkToNothing,
    HardLink,
    Fifo,
    Directory,
}

const KINDS: [Kind; 5] = [Kind::Link, Kind::LinkToNothing, Kind::HardLink, Kind::Fifo, Kind::Directory];

/// How many are at it side by side.
const AT_ONCE: usize = 4;

/// A folder of somebody else's with one file.
struct Foreign {
    folder: tempfile::TempDir,
    before: String,
}

impl Foreign {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("precious"), "precious\n").unwrap();
        let before = state_of(folder.path());
        Self { folder, before }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("precious")
    }

    fn plant(&self, kind: Kind, at: &Path) {
        match kind {
            Kind::Link => symlink(self.file(), at).unwrap(),
            Kind::LinkToNothing => symlink(self.folder.path().join("new"), at).unwrap(),
            Kind::HardLink => fs::hard_link(self.file(), at).unwrap(),
            Kind::Fifo => mknodat(CWD, at, FileType::Fifo, 0o600.into(), 0).unwrap(),
            Kind::Directory => fs::DirBuilder::new().mode(0o700).create(at).unwrap(),
        }
        if is_root() && matches!(kind, Kind::Link | Kind::LinkToNothing) {
            // Whoever plants is somebody else; one's own links to directories are meant.
            lchown(at, Some(ORDINARY), Some(ORDINARY)).unwrap();
        }
    }

    fn is_unchanged(&self) -> Result<(), String> {
        let now = state_of(self.folder.path());
        if now == self.before { Ok(()) } else { Err(format!("before:\n{}now:\n{now}", self.before)) }
    }
}

/// Names, kinds, modes, times and content of all that is in a folder. How many names a file has may change: one
/// of them is the one that was planted.
fn state_of(folder: &Path) -> String {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let about = |path: &PathBuf| {
        let is = fs::symlink_metadata(path).unwrap();
        let content = fs::read(path).unwrap_or_default();
        format!(
            "{} {:o} {}:{} {}.{} {content:?}\n",
            path.display(),
            is.mode(),
            is.uid(),
            is.gid(),
            is.mtime(),
            is.mtime_nsec()
        )
    };
    entries.iter().map(about).collect()
}

/// The folders that relume would make, so that something can be planted in them.
fn folders(builder: &Builder) {
    for (folder, mode) in [("logs", 0o755), ("state", 0o700), ("state/pids", 0o755), ("runtime", 0o711)] {
        fs::DirBuilder::new().mode(mode).create(builder.home().join(folder)).unwrap();
    }
}

/// Device and inode of what has this name.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|is| (is.dev(), is.ino()))
}

/// Waits until the service runs, by what it says itself, or relume has ended.
fn comes_up(relume: &Relume) -> bool {
    eventually("the service runs or relume has ended", || match relume.ended() {
        Some(_) => Some(false),
        None => (!relume.announcements().is_empty()).then_some(true),
    })
}

fn one(place: &str, kind: Kind) {
    let foreign = Foreign::new();
    let builder = Builder::new();
    folders(&builder);
    let at = builder.home().join(place);
    if at.is_dir() {
        fs::remove_dir(&at).unwrap();
    }
    foreign.plant(kind, &at);
    let planted = identity(&at);
    let announce = builder.announcements();
    let config = json!({"services": {"web": {"command": ["sh", "-c", "echo a line; exec \"$@\"", "sh",
        fixture("never-ready"), "--announce", announce]}}});
    let relume = builder.config(&config).spawn();
    let case = format!("{kind:?} at {place}");
    if comes_up(&relume) {
        relume.wait_until_it_answers();
        relume.wait_state("web", "running");
        eventually(&format!("{case}: replaced, or said why not"), || {
            (identity(&at) != planted || relume.told().contains(at.to_str().unwrap())).then_some(())
        });
        relume.down();
    } else {
        let status = relume.wait_for_end();
        assert!(matches!(status.code(), Some(1 | 2)), "{case}: {status}\n{}", relume.told());
        assert!(
            [at, foreign.file()].iter().any(|path| relume.said().contains(path.to_str().unwrap())),
            "{case}: does not say where\n{}",
            relume.told()
        );
    }
    foreign.is_unchanged().unwrap_or_else(|how| panic!("{case}: changed what belongs to others\n{how}"));
}

/// Shown to fail: a log or lock file that is opened without O_NOFOLLOW, or without the look at its number of names,
/// changes the foreign file; a FIFO that is opened without O_NONBLOCK hangs.
#[test]
fn what_was_planted_where_relume_writes_is_neither_followed_nor_fatal_in_silence() {
    let cases: Vec<(&str, Kind)> =
        PLACES.iter().flat_map(|place| KINDS.iter().map(move |kind| (*place, *kind))).collect();
    // A folder where a folder belongs is what relume makes itself, and a link of one's own to one is meant.
    let cases: Vec<_> = cases
        .into_iter()
        .filter(|case| !matches!(case, ("runtime", Kind::Directory)) && (is_root() || case.0 != "runtime"))
        .collect();
    let next = AtomicUsize::new(0);
    let wrong = std::sync::Mutex::new(vec![]);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((place, kind)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // All of the table is gone through; each panic has said what it is about.
                    if std::panic::catch_unwind(|| one(place, *kind)).is_err() {
                        wrong.lock().unwrap().push(format!("{kind:?} at {place}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {} cases: {wrong:#?}", wrong.len(), cases.len());
}

#[test]
fn a_change_of_what_belongs_to_others_is_seen() {
    let foreign = Foreign::new();
    foreign.is_unchanged().unwrap();
    fs::write(foreign.file(), "precious\nand more\n").unwrap();
    foreign.is_unchanged().unwrap_err();
    let foreign = Foreign::new();
    fs::write(foreign.folder.path().join("new"), "").unwrap();
    foreign.is_unchanged().unwrap_err();
}
