//! The words that users see for what is so.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::policy::RestartPolicy;
use crate::state::{Pace, State};

/// A state in the words of status, events and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Wanted, waiting for a dependency or its turn.
    Pending,
    /// The process exists and is not ready yet.
    Starting,
    /// Ready, and well as far as is known.
    Running,
    /// Its liveness failed; it is being restarted.
    Unhealthy,
    /// The stop sequence is under way.
    Stopping,
    /// Ended unexpectedly; a restart is scheduled.
    Crashed,
    /// Between two lives for another reason.
    Restarting,
    /// Stopped on request, or never started.
    Stopped,
    /// Ended as wanted; no restart is due.
    Completed,
    /// Could not be started, or ended badly and is not restarted.
    Failed,
    /// Its retries are used up.
    MaxRestarts,
}

impl Word {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 11] = [
        Self::Pending,
        Self::Starting,
        Self::Running,
        Self::Unhealthy,
        Self::Stopping,
        Self::Crashed,
        Self::Restarting,
        Self::Stopped,
        Self::Completed,
        Self::Failed,
        Self::MaxRestarts,
    ];

    /// The word for `state` of a service under `policy`.
    #[must_use]
    pub fn of(state: &State, policy: &RestartPolicy) -> Self {
        match state {
            State::Stopped => Self::Stopped,
            State::Pending { .. } => Self::Pending,
            State::Starting { .. } => Self::Starting,
            State::Running { .. } => Self::Running,
            State::Stopping { why: Cause::Unhealthy(_) | Cause::Watchdog, .. } => Self::Unhealthy,
            State::Stopping { .. } => Self::Stopping,
            State::Restarting { pace: Pace::Slow, .. } | State::Failed { exhausted: true, .. } => {
                Self::MaxRestarts
            }
            // It did not end by itself: relume has ended it, for its memory or for its health.
            State::Restarting { cause, .. }
                if cause.is_illness() || matches!(cause, Cause::Memory { .. }) =>
            {
                Self::Restarting
            }
            State::Restarting { cause, .. } if cause.is_failure(policy) => Self::Crashed,
            State::Restarting { .. } => Self::Restarting,
            State::Completed => Self::Completed,
            State::Failed { .. } => Self::Failed,
        }
    }

    /// The word itself.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Unhealthy => "unhealthy",
            Self::Stopping => "stopping",
            Self::Crashed => "crashed",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::MaxRestarts => "max_restarts",
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
