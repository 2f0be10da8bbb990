//! The exec itself, and what a successor knows of it.

use std::ffi::OsString;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use relume_core::Event;
use relume_os::exec::Prepared;
use relume_os::fatal::Crash;
use relume_os::{clock, limits, signals};

use crate::manager::edge::Edge;
use crate::manager::leaving::Leaving;
use crate::manager::publish::{Level, Note};
use crate::roles::{AGAIN, CHANNEL_FD, CRASHED, LOCK_FD, RESPAWNED, RUNNING_IMAGE, Role, own_program};

/// How long what has happened may take to be shown. It takes microseconds.
const SHOWN: Duration = Duration::from_millis(20);

/// How long capture may take to come to the end of a chunk. A disk that hangs does not keep relume from going on.
const CHUNK: Duration = Duration::from_millis(100);

/// Why this manager is one that has executed itself.
#[derive(Debug)]
pub(crate) enum Back {
    /// On purpose.
    Respawned {
        /// Why.
        cause: String,
        /// When supervision ended.
        at: u64,
    },
    /// After a crash.
    Crashed(Crash),
}

impl Back {
    /// What this process was told.
    pub(crate) fn of_this_process() -> Option<Self> {
        let word = |key| std::env::var(key).ok();
        if let Some(crash) = word(CRASHED).as_deref().and_then(Crash::parse) {
            return Some(Self::Crashed(crash));
        }
        let text = word(RESPAWNED)?;
        let (cause, at) = text.split_once(' ')?;
        Some(Self::Respawned { cause: cause.to_owned(), at: at.parse().ok()? })
    }

    /// Whether it was on purpose.
    pub(crate) fn is_planned(&self) -> bool {
        matches!(self, Self::Respawned { .. })
    }

    pub(super) fn event(self) -> Event {
        let (planned, cause, at) = match self {
            Self::Respawned { cause, at } => (true, cause, at),
            Self::Crashed(Crash { signal: 0, at, .. }) => (false, "a panic".to_owned(), at),
            Self::Crashed(Crash { signal, at, .. }) => (false, signals::name(signal), at),
        };
        let took_us = clock::monotonic_ns().saturating_sub(at) / 1000;
        Event::Returned { planned, cause, took_us }
    }
}

/// Brings out what is left and executes the program. Comes back only if nothing can be executed at all.
pub(crate) fn execute(edge: Edge, leaving: Leaving, cause: &str) {
    let at = clock::monotonic_ns();
    let (done, shown) = channel();
    edge.publisher.send(Note::Settle(done));
    let _late = shown.recv_timeout(SHOWN);
    if !leaving.capture.leave(CHUNK) {
        // Bytes between pipe and file are in the slot, for a successor to bring home.
        edge.say(Level::Warn, "the log disk does not answer: relume is respawned all the same".into());
    }
    if let Some(streaming) = leaving.streaming {
        streaming.finish(CHUNK);
    }
    // What services inherit is what relume was started with.
    for (resource, limit) in &leaving.limits {
        let _kept = limits::set(*resource, *limit);
    }
    for program in [own_program().as_path(), Path::new(RUNNING_IMAGE)] {
        let marks = [(AGAIN.into(), "1".into()), (RESPAWNED.into(), format!("{cause} {at}").into())];
        if let Ok(prepared) = prepared(program, &marks) {
            let _failed = prepared.execute();
        }
    }
}

/// This process's words for another of its lives.
pub(super) fn words() -> Vec<OsString> {
    std::env::args_os().collect()
}

fn prepared(program: &Path, marks: &[(OsString, OsString)]) -> relume_os::Result<Prepared> {
    let mut environment = Role::Manager.environment();
    environment.extend_from_slice(marks);
    Prepared::new(program, &words(), &environment, &[CHANNEL_FD, LOCK_FD])
}
