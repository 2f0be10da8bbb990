//! The exec itself, and what a successor knows of it.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use relume_core::{Away, Event};
use relume_os::exec::Prepared;
use relume_os::fatal::Crash;
use relume_os::{clock, limits, signals};

use super::Cause;
use super::beside::{Lost, Successor, starts_another};
use crate::guardian::link::{How, Why};
use crate::guardian::table;
use crate::manager::edge::Edge;
use crate::manager::journal::Remains;
use crate::manager::keeper::{Anew, Keeper};
use crate::manager::leaving::Leaving;
use crate::manager::publish::{Level, Note};
use crate::manager::units::Units;
use crate::roles::{
    AGAIN, CHANNEL_FD, CRASHED, GUARDIAN, LOCK_FD, PREPARED, RECORDED, RESPAWNED, RUNNING_IMAGE, Role, SAFE,
    own_program,
};

/// How long what has happened may take to be shown. It takes microseconds.
const SHOWN: Duration = Duration::from_millis(20);

/// How long capture may take to come to the end of a chunk. A disk that hangs does not keep relume from going on.
const CHUNK: Duration = Duration::from_millis(100);

/// How long what `--follow` shows may take to come to the end of a piece. It waits for no reader, so this is time for a machine that
/// gives it none; what is cut off all the same is shown again.
const PIECE: Duration = Duration::from_millis(500);

const ABRT: i32 = 6;

/// Where this manager comes from, when it is not the first.
#[derive(Debug)]
pub(crate) enum Back {
    /// It has executed itself, on purpose.
    Respawned {
        /// Why.
        why: Away,
        /// The same for people.
        detail: String,
        /// When supervision ended.
        at: u64,
    },
    /// It has executed itself after a crash.
    Crashed(Crash),
    /// The guardian has started it after the death of another.
    Replaced(Why),
    /// Both halves have died, and somebody has started relume again.
    Found {
        /// When a manager supervised last.
        alive: Option<u64>,
        /// When it was told to leave, and the services running; none: it was not.
        left: Option<u64>,
    },
}

impl Back {
    /// What this process was told by the one that it was before.
    pub(crate) fn of_this_process() -> Option<Self> {
        let word = |key| std::env::var(key).ok();
        if let Some(crash) = word(CRASHED).as_deref().and_then(Crash::parse) {
            return Some(Self::Crashed(crash));
        }
        let text = word(RESPAWNED)?;
        let mut words = text.splitn(3, ' ');
        let why = if words.next()? == ASKED { Away::Asked } else { Away::Schedule };
        let (at, detail) = (words.next()?.parse().ok()?, words.next()?.to_owned());
        Some(Self::Respawned { why, detail, at })
    }

    /// Supervision ended then.
    pub(crate) fn since(self, at: u64) -> Self {
        match self {
            Self::Respawned { why, detail, .. } => Self::Respawned { why, detail, at },
            other @ (Self::Crashed(_) | Self::Replaced(_) | Self::Found { .. }) => other,
        }
    }

    /// For the guardian. What somebody's kill(2) has done is no crash that counts.
    pub(crate) fn anew(&self) -> Anew {
        let crash = match self {
            Self::Crashed(crash) if crash.counted[0] == crash.at => Some(crash.signal),
            Self::Crashed(_) | Self::Respawned { .. } | Self::Replaced(_) | Self::Found { .. } => None,
        };
        // A panic has none of its own and would end in this one.
        Anew { crash: crash.map(|signal| if signal == 0 { ABRT } else { signal }) }
    }

    /// What the guardian and the journal tell of the manager before this one.
    pub(crate) fn told(keeper: &Keeper, remains: Option<&Remains>) -> Option<Self> {
        let found = |remains: &Remains| Self::Found { alive: remains.alive, left: remains.left };
        keeper.why().cloned().map(Self::Replaced).or_else(|| remains.map(found))
    }

    /// Whether another manager has died.
    pub(crate) fn is_recovery(&self) -> bool {
        !self.is_planned() && !matches!(self, Self::Found { left: Some(_), .. })
    }

    /// Whether it has replaced itself on purpose.
    pub(crate) fn is_planned(&self) -> bool {
        matches!(self, Self::Respawned { .. })
    }

    pub(super) fn event(self) -> Event {
        let (why, detail, since) = match self {
            Self::Respawned { why, detail, at } => (why, detail, Some(at)),
            Self::Crashed(Crash { signal: 0, at, .. }) => (Away::Signal, "a panic".to_owned(), Some(at)),
            Self::Crashed(Crash { signal, at, .. }) => (Away::Signal, signals::name(signal), Some(at)),
            Self::Replaced(Why { text, how, since }) => {
                let why = match how {
                    How::Exit => Away::Exit,
                    How::Signal => Away::Signal,
                    How::Silence => Away::Silence,
                    How::Unknown => Away::Unknown,
                };
                (why, text, Some(since).filter(|since| *since > 0))
            }
            Self::Found { left: Some(at), .. } => (Away::Left, "it had left (SIGQUIT)".to_owned(), Some(at)),
            Self::Found { alive, left: None } => {
                (Away::Unknown, "the death of both its halves".to_owned(), alive)
            }
        };
        let took_us = since.map(|at| clock::monotonic_ns().saturating_sub(at) / 1000);
        Event::Returned { why, detail, took_us }
    }
}

/// The word for [`Away::Asked`] between two lives.
const ASKED: &str = "asked";

/// How relume replaces itself, as it has been settled.
#[derive(Debug)]
pub(crate) struct Leap {
    /// What has led to it.
    pub(super) cause: Cause,
    /// Why.
    pub(super) why: Away,
    /// The same for people.
    pub(super) detail: String,
    /// The configuration that was in force when the program has proved itself.
    pub(super) units: Arc<Units>,
    /// The configuration that the successor begins with; none: what it finds in the files.
    pub(super) recording: Option<OwnedFd>,
    /// The same as the trial has read it, if it has.
    pub(super) prepared: Option<OwnedFd>,
    /// Who goes on; none: this process, with another image.
    pub(super) successor: Option<Box<Successor>>,
}

impl Leap {
    /// The environment of the next manager. `at`: when supervision ended.
    pub(super) fn environment(
        &self,
        at: u64,
        (guardian, safe): (u32, Option<String>),
    ) -> Vec<(OsString, OsString)> {
        let mut environment = Role::Manager.environment();
        let word = if self.why == Away::Asked { ASKED } else { "schedule" };
        environment.push((AGAIN.into(), "1".into()));
        environment.push((RESPAWNED.into(), format!("{word} {at} {}", self.detail).into()));
        environment.push((GUARDIAN.into(), guardian.to_string().into()));
        environment.extend(safe.map(|why| (SAFE.into(), why.into())));
        environment
    }
}

/// Brings out what is left and executes the program, or leaves the services to a successor. Comes back when this process is to end,
/// because somebody else goes on or because nothing can be executed at all.
pub(crate) fn execute(edge: Edge, leaving: Leaving, mut leap: Leap) {
    let at = clock::monotonic_ns();
    let goes_on = match leap.successor.take().map(|successor| successor.go_on(&edge.keeper, at)) {
        Some(Ok(goes_on)) => goes_on,
        Some(Err(Lost)) => starts_another(&edge.keeper),
        None => false,
    };
    let (done, shown) = channel();
    edge.publisher.send(Note::Settle(done));
    let _late = shown.recv_timeout(SHOWN);
    if !leaving.capture.leave(CHUNK) {
        // Bytes between pipe and file are in the slot, for a successor to bring home.
        edge.say(Level::Warn, "the log disk does not answer: relume is respawned all the same".into());
    }
    if let Some(streaming) = leaving.streaming {
        streaming.hand_on(PIECE);
    }
    if goes_on {
        #[cfg(debug_assertions)]
        crate::manager::hang("RELUME_HANG_LEAVING");
        return;
    }
    if !edge.keeper.has_guardian() {
        // What it kept is kept by this process alone, which takes its part; a new manager has all of it from there.
        let why = Why { text: "the death of its guardian".into(), how: How::Signal, since: at };
        let period = edge.units.manager.watchdog;
        let _failed = table::become_guardian(Path::new(RUNNING_IMAGE), &edge.keeper.table(why, period));
    }
    // What services inherit is what relume was started with.
    for (resource, limit) in &leaving.limits {
        let _kept = limits::set(*resource, *limit);
    }
    for program in [own_program().as_path(), Path::new(RUNNING_IMAGE)] {
        if let Ok(prepared) = prepared(program, &leap, at, (edge.keeper.guardian(), edge.safe_mode())) {
            let _failed = prepared.execute();
        }
    }
}

/// This process's words for another of its lives.
pub(super) fn words() -> Vec<OsString> {
    std::env::args_os().collect()
}

fn prepared(
    program: &Path,
    leap: &Leap,
    at: u64,
    more: (u32, Option<String>),
) -> relume_os::Result<Prepared> {
    let mut environment = leap.environment(at, more);
    let mut keep = vec![CHANNEL_FD, LOCK_FD];
    for (key, file) in [(RECORDED, &leap.recording), (PREPARED, &leap.prepared)] {
        if let Some(file) = file {
            environment.push((key.into(), file.as_raw_fd().to_string().into()));
            keep.push(file.as_raw_fd());
        }
    }
    Prepared::new(program, &words(), &environment, &keep)
}
