//! What is so: the state of one service, with exactly the data that belongs to it.
//!
//! A deadline lives inside the state that waits for it. Leaving the state is the only way to cancel it, so
//! no cancel call exists to forget.

use serde::{Deserialize, Serialize};

use crate::cause::{Cause, Exit};
use crate::id::{RunId, ServiceId};
use crate::moment::Moment;

/// What is so for one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Nothing runs and nothing is wanted.
    Stopped,
    /// Wanted, and waiting.
    Pending {
        /// For what.
        on: WaitFor,
        /// Whether the coming start counts as an automatic restart.
        automatic: bool,
    },
    /// On its way to ready.
    Starting {
        /// The main run; in `PreStart` its process does not exist yet.
        run: RunId,
        /// How far it got.
        phase: StartPhase,
        /// When the start began.
        since: Moment,
        /// When the start counts as failed.
        give_up_at: Option<Moment>,
        /// Until when it counts among the services being started at once.
        slot_until: Option<Moment>,
    },
    /// Ready, and well as far as is known.
    Running {
        /// Its run.
        run: RunId,
        /// When it became ready.
        since: Moment,
    },
    /// Its run is being ended.
    Stopping {
        /// The run.
        run: RunId,
        /// Why.
        why: Cause,
        /// How far it got.
        phase: StopPhase,
        /// How the main process ended, once it has.
        exit: Option<Exit>,
        /// When it had become ready, if it had: tells whether it was stable.
        ready_at: Option<Moment>,
    },
    /// Between two lives.
    Restarting {
        /// When the next one is due.
        retry_at: Moment,
        /// Why the last one ended.
        cause: Cause,
        /// How the delay was chosen.
        pace: Pace,
    },
    /// Ended as wanted; no restart is due.
    Completed,
    /// Could not be started or ended badly, and stays so until somebody asks.
    Failed {
        /// Why.
        cause: Cause,
        /// Because its retries are used up, not because its policy never restarts.
        exhausted: bool,
    },
}

/// What a pending service waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitFor {
    /// Nothing: the same step decides what comes next.
    Nothing,
    /// A dependency that is not in the state it has to be in.
    Dependency(ServiceId),
    /// The end of an earlier life of its own, which recovery found and could not take over.
    Predecessor,
    /// One of the `start_parallelism` places.
    Slot,
    /// Its turn under `respawn_rate`.
    RespawnRate,
}

/// How far a start got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartPhase {
    /// The `pre_start` hook runs.
    PreStart {
        /// The hook's run.
        hook: RunId,
    },
    /// The edge was asked to start the process and has not answered.
    Spawning,
    /// The process exists and is not ready.
    Alive,
    /// The first process of a `forking` service has ended well; the edge looks for the main one.
    Forked,
}

/// How far a stop got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopPhase {
    /// The `pre_start` hook is being killed; the main process never existed.
    Cancel {
        /// The hook's run.
        hook: RunId,
    },
    /// The edge has not yet said whether the process exists; then it is stopped.
    AwaitSpawn {
        /// When SIGKILL follows all the same.
        kill_at: Option<Moment>,
    },
    /// The `pre_stop` hook runs; the main process does not know yet.
    PreStop {
        /// The hook's run.
        hook: RunId,
    },
    /// The stop signal was sent.
    Asked {
        /// When SIGKILL follows.
        kill_at: Option<Moment>,
    },
    /// The main process has ended; what it left behind was sent the stop signal.
    Rest {
        /// When SIGKILL follows.
        kill_at: Option<Moment>,
    },
    /// SIGKILL was sent to every process of the run.
    Killed {
        /// When it is sent again: a process in uninterruptible sleep dies late.
        again_at: Moment,
    },
    /// The tree is gone; the `post_stop` hook runs.
    PostStop {
        /// The hook's run.
        hook: RunId,
    },
}

/// How the delay before a restart was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pace {
    /// After a clean end: `retry_delay`.
    Prompt,
    /// After a failure: backoff.
    Backoff,
    /// The retries are used up: one slow attempt each so often.
    Slow,
    /// The machine ran out of something; tried again soon.
    Shortage,
}

impl State {
    /// When this state has to be looked at again if nothing happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        match self {
            Self::Starting { give_up_at, slot_until, .. } => earlier(*give_up_at, *slot_until),
            Self::Stopping { phase, .. } => phase.deadline(),
            Self::Restarting { retry_at, .. } => Some(*retry_at),
            Self::Stopped
            | Self::Pending { .. }
            | Self::Running { .. }
            | Self::Completed
            | Self::Failed { .. } => None,
        }
    }

    /// The main run, from the moment it was chosen until its tree is gone and its hooks are done.
    #[must_use]
    pub fn run(&self) -> Option<RunId> {
        match self {
            Self::Starting { run, .. } | Self::Running { run, .. } | Self::Stopping { run, .. } => Some(*run),
            Self::Stopped
            | Self::Pending { .. }
            | Self::Restarting { .. }
            | Self::Completed
            | Self::Failed { .. } => None,
        }
    }

    /// Whether a life is under way.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.run().is_some()
    }

    /// Whether the main process may exist: asked for, and its tree not known to be gone.
    #[must_use]
    pub fn may_have_process(&self) -> bool {
        match self {
            Self::Starting { phase, .. } => !matches!(phase, StartPhase::PreStart { .. }),
            Self::Running { .. } => true,
            Self::Stopping { phase, .. } => {
                !matches!(phase, StopPhase::Cancel { .. } | StopPhase::PostStop { .. })
            }
            Self::Stopped
            | Self::Pending { .. }
            | Self::Restarting { .. }
            | Self::Completed
            | Self::Failed { .. } => false,
        }
    }

    /// When the present life became ready, if it has.
    #[must_use]
    pub fn ready_at(&self) -> Option<Moment> {
        match self {
            Self::Running { since, .. } => Some(*since),
            Self::Stopping { ready_at, .. } => *ready_at,
            Self::Stopped
            | Self::Pending { .. }
            | Self::Starting { .. }
            | Self::Restarting { .. }
            | Self::Completed
            | Self::Failed { .. } => None,
        }
    }

    /// Whether the start that follows this state is an automatic restart.
    pub(crate) fn leads_to_automatic(&self) -> bool {
        match self {
            Self::Restarting { .. } => true,
            Self::Pending { automatic, .. } => *automatic,
            Self::Stopped
            | Self::Starting { .. }
            | Self::Running { .. }
            | Self::Stopping { .. }
            | Self::Completed
            | Self::Failed { .. } => false,
        }
    }

    /// Whether it takes one of the `start_parallelism` places.
    pub(crate) fn holds_slot(&self) -> bool {
        matches!(self, Self::Starting { slot_until: Some(_), .. })
    }
}

impl StopPhase {
    /// The hook that is waited for.
    pub(crate) fn hook(self) -> Option<RunId> {
        match self {
            Self::Cancel { hook } | Self::PreStop { hook } | Self::PostStop { hook } => Some(hook),
            Self::AwaitSpawn { .. } | Self::Asked { .. } | Self::Rest { .. } | Self::Killed { .. } => None,
        }
    }

    fn deadline(self) -> Option<Moment> {
        match self {
            Self::AwaitSpawn { kill_at } | Self::Asked { kill_at } | Self::Rest { kill_at } => kill_at,
            Self::Killed { again_at } => Some(again_at),
            Self::Cancel { .. } | Self::PreStop { .. } | Self::PostStop { .. } => None,
        }
    }
}

/// The earlier of two deadlines, where a missing one never comes.
pub(crate) fn earlier(a: Option<Moment>, b: Option<Moment>) -> Option<Moment> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}
