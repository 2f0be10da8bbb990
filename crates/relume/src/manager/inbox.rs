//! What other threads tell the supervise thread: a queue it can wait for with everything else.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use relume_core::{Command, RunId, ServiceId, SpawnError, Ticket};
use relume_os::epoll::EventFd;
use relume_os::pidfd::{PidFd, ProcessId};
use tokio::sync::oneshot;

use super::ready::Probed;
use super::respawn::{Answer, Proved, Successor};
use super::spawn::Started;
use super::units::Units;
use super::weigh::Asked;

/// Everything another thread can have to say. What fills the queue is bounded where it comes from: spawns by
/// `start_parallelism`, commands by the number of connections served at once.
#[derive(Debug)]
pub(crate) enum News {
    /// A process was started.
    Spawned {
        /// Its run.
        run: RunId,
        /// What there is of it.
        started: Started,
    },
    /// A process could not be started.
    SpawnFailed {
        /// Its run.
        run: RunId,
        /// Why.
        error: SpawnError,
    },
    /// Who is left of a run's tree beside its main process, where there are no cgroups to ask.
    Walked {
        /// The run.
        run: RunId,
        /// The processes, each with a descriptor to wait on.
        members: Vec<(ProcessId, PidFd)>,
    },
    /// Processes of a run could not be signalled or killed; said once.
    Refused {
        /// The run.
        run: RunId,
        /// Which, and why.
        error: String,
    },
    /// The main process of a `forking` service.
    MainFound {
        /// The run.
        run: RunId,
        /// The process.
        process: ProcessId,
        /// Its descriptor.
        pidfd: PidFd,
    },
    /// Whether a process that a run says is its main one belongs to it.
    Claimed {
        /// The run.
        run: RunId,
        /// The process with its descriptor, if it does.
        found: Option<(ProcessId, PidFd)>,
    },
    /// What the probes of a run have found.
    Probed {
        /// The run.
        run: RunId,
        /// Which of its probings, if it was probed anew.
        number: u64,
        /// What.
        what: Probed,
    },
    /// The line that makes a run ready was in its output.
    LineSeen {
        /// The run.
        run: RunId,
    },
    /// A command is to be told of a service's change of state.
    Alert {
        /// The service.
        service: ServiceId,
        /// Which of its targets.
        which: u8,
        /// What it is told, as variables.
        told: Vec<(String, String)>,
    },
    /// Something has not worked that people should know of.
    Warned(String),
    /// Whether a job has been done already, where no process was needed to tell.
    Judged {
        /// The run of the check.
        run: RunId,
        /// Whether it has.
        done: bool,
    },
    /// A job is due by the clock.
    Due {
        /// Its name.
        name: String,
        /// What happens when it still goes on.
        overlap: relume_config::Overlap,
    },
    /// A run uses more memory than its `max_memory`, both in bytes.
    TooMuchMemory {
        /// The run.
        run: RunId,
        /// What was measured.
        used: u64,
        /// What it may use.
        limit: u64,
    },
    /// Something that people should know of, as an event.
    Noticed {
        /// The service it is about, if it is about one.
        service: Option<ServiceId>,
        /// A sentence.
        text: String,
    },
    /// Something people should know, from a thread that speaks to nobody else.
    Say(String),
    /// A client's command.
    Asked {
        /// What its answers carry.
        ticket: Ticket,
        /// The command.
        command: Command,
        /// The client is to know when that is noted.
        noted: oneshot::Sender<()>,
    },
    /// A client asks for the end of everything, and is to know when that is noted.
    DownAsked(oneshot::Sender<()>),
    /// A client wants to know what a configuration would change, or to have it in force.
    Weigh(Asked),
    /// A client asks for a respawn.
    RespawnAsked(oneshot::Sender<Answer>),
    /// What came of the trial that goes before one.
    Tried(Result<Proved, String>),
    /// A successor has come up beside this manager, or why not.
    CameUpBeside {
        /// Which.
        number: u64,
        /// Itself, or a reason for people.
        came: Result<Box<Successor>, String>,
    },
    /// Connections have ended, for a respawn.
    DoorClosed,
    /// The configuration was read again.
    Reloaded(Box<Reloaded>),
}

/// What came of reading the configuration again.
#[derive(Debug)]
pub(crate) enum Reloaded {
    /// It is valid.
    Valid(Arc<Units>),
    /// It is not; the one before still holds. The text is for people.
    Invalid(String),
}

/// The receiving end's queue, shared by all senders.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Mutex<VecDeque<News>>,
    bell: EventFd,
}

impl Inbox {
    pub(crate) fn new() -> relume_os::Result<Self> {
        Ok(Self { queue: Mutex::new(VecDeque::new()), bell: EventFd::new()? })
    }

    /// Never waits. The bell is rung only for the first of several.
    pub(crate) fn send(&self, news: News) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(news);
        if queue.len() == 1 {
            // An eventfd's counter can be full only after 2^64 rings without a look; then it is ringing.
            let _ringing = self.bell.signal();
        }
    }

    /// Whether nothing waits to be taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// All that has come, oldest first, into an empty `into`.
    pub(crate) fn take(&self, into: &mut VecDeque<News>) {
        let _count = self.bell.drain();
        std::mem::swap(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner), into);
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
