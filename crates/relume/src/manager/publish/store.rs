//! The files that other programs read: the status file and the pid files, on a thread that may wait for a disk.
//!
//! Only the latest of each is kept until it is written, so a disk that does not answer costs no memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use relume_os::files::{self, Durability};

use super::{Level, Note, Publisher};
use crate::manager::leaving::ended_within;

/// Both kinds of file are meant to be read by others.
const MODE: u32 = 0o644;

/// How long the last files may take when relume leaves.
const LAST_FILES: Duration = Duration::from_secs(2);

/// The queue of the store thread.
#[derive(Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    latest: Mutex<Latest>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Latest {
    status: Option<Vec<u8>>,
    /// By path; `None`: the file is to be removed.
    pids: BTreeMap<PathBuf, Option<u32>>,
    closing: bool,
    /// The thread waits for a change: only then is waking it worth a system call.
    asleep: bool,
}

impl Store {
    /// Trouble is said through `told` once it is known; until then there is nobody to say it to.
    pub(crate) fn start(status_file: PathBuf, told: Arc<Mutex<Option<Publisher>>>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let writer = Writer { status_file, told, failing: BTreeSet::new() };
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || writer.run(&own))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(super) fn status(&self, bytes: Vec<u8>) {
        self.change(|latest| latest.status = Some(bytes));
    }

    pub(super) fn pid(&self, path: PathBuf, pid: Option<u32>) {
        self.change(|latest| {
            latest.pids.insert(path, pid);
        });
    }

    /// Writes what is left and ends the thread; one that waits for a disk is left behind.
    pub(super) fn finish(&mut self) {
        self.change(|latest| latest.closing = true);
        if let Some(thread) = self.thread.take() {
            let _hung = ended_within(&thread, LAST_FILES);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Latest)) {
        let mut latest = self.shared.latest.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut latest);
        if std::mem::take(&mut latest.asleep) {
            self.shared.changed.notify_one();
        }
    }
}

struct Writer {
    status_file: PathBuf,
    told: Arc<Mutex<Option<Publisher>>>,
    /// The files that could not be written when it was last tried.
    failing: BTreeSet<PathBuf>,
}

impl Writer {
    fn run(mut self, shared: &Shared) {
        let mut latest = shared.latest.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (status, pids) = (latest.status.take(), std::mem::take(&mut latest.pids));
            if status.is_none() && pids.is_empty() {
                if latest.closing {
                    return;
                }
                latest.asleep = true;
                latest = shared.changed.wait(latest).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(latest);
            for (path, pid) in &pids {
                self.write_pid(path, *pid);
            }
            if let Some(status) = status {
                let path = self.status_file.clone();
                let done = files::write_atomic(&path, &status, MODE, Durability::Process);
                self.told(&path, done);
            }
            latest = shared.latest.lock().unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write_pid(&mut self, path: &Path, pid: Option<u32>) {
        let done = match pid {
            Some(pid) => files::write_atomic(path, format!("{pid}\n").as_bytes(), MODE, Durability::Process),
            None => files::remove(path).map(drop),
        };
        self.told(path, done);
    }

    /// Says the first failure of each file, and when none is left that fails.
    fn told(&mut self, path: &Path, done: relume_os::Result<()>) {
        let was_failing = match &done {
            Ok(()) => self.failing.remove(path),
            Err(_) => !self.failing.insert(path.to_owned()),
        };
        let (level, text) = match (done, was_failing) {
            (Err(error), false) => {
                let text = format!("{error}; supervision goes on, status and pid files stay behind");
                (Level::Error, text)
            }
            (Ok(()), true) if self.failing.is_empty() => {
                (Level::Info, "status and pid files can be written again".to_owned())
            }
            (Err(_), true) | (Ok(()), _) => return,
        };
        if let Some(publisher) = &*self.told.lock().unwrap_or_else(PoisonError::into_inner) {
            publisher.send(Note::Say { level, text });
        }
    }
}
