//! Names of services and of their lives.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A service of one supervisor. Never given to another service while the supervisor lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceId(pub u32);

/// One life of one process tree.
///
/// Chosen before the process exists, and part of every event about it, so that news of an earlier life is
/// recognised as such. Hooks are runs of their own: their generations come from the same counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunId {
    /// Whose life.
    pub service: ServiceId,
    /// Which one; grows with each run of the service and is never used again.
    pub generation: u64,
}

/// What a run is for. All kinds are started, watched and killed in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RunKind {
    /// The service itself, meant to stay.
    Service,
    /// A service that is meant to end: a oneshot.
    Job,
    /// A command of the user's around a life of the service.
    Hook(Hook),
}

/// The moments in the life of a service at which a user's command can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Hook {
    /// Before everything else: whether a job has been done already, and whether what it requires is there. 0: it has been
    /// done; 2: something is missing; anything else: go on.
    Check,
    /// Before the main process; failing, it fails the start.
    PreStart,
    /// When the service has become ready; runs beside it.
    PostStart,
    /// Before the stop signal.
    PreStop,
    /// When the whole tree is gone, before a successor starts.
    PostStop,
    /// After a failure; runs beside whatever follows.
    OnFailure,
    /// In place of the stop signal; when it fails, the signal follows.
    Stop,
    /// In place of the reload signal.
    Reload,
}

/// The handle that the answer to a command travels on. Given by the caller, opaque to the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ticket(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.service.0, self.generation)
    }
}

impl Hook {
    /// The key of the configuration that names it.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Check => "requires",
            Self::PreStart => "pre_start",
            Self::PostStart => "post_start",
            Self::PreStop => "pre_stop",
            Self::PostStop => "post_stop",
            Self::OnFailure => "on_failure",
            Self::Stop => "stop_command",
            Self::Reload => "reload_command",
        }
    }
}
