//! The one pure decision: what a state does under a goal.

use crate::cause::Cause;
use crate::id::ServiceId;
use crate::moment::Moment;
use crate::state::{State, StopPhase, WaitFor};

/// What the graph wants of a service now, derived from intents and the neighbours' states in each step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// To run; it may start now.
    Up,
    /// To run; its start is parked until the dependency is as it has to be. A life under way goes on.
    Wait(ServiceId),
    /// To end its life and stay down.
    Down(Cause),
    /// To end its life and begin a new one.
    Replace(Cause),
    /// To end its life, but only after that dependent's.
    After(ServiceId),
    /// To be gone at once.
    Kill,
}

/// What is done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing.
    Stay,
    /// Queue for a start.
    Queue {
        /// As an automatic restart.
        automatic: bool,
    },
    /// Wait for a dependency.
    Park {
        /// For which.
        on: ServiceId,
        /// Whether the later start is an automatic restart.
        automatic: bool,
    },
    /// End the life.
    Stop(Cause),
    /// End the life with SIGKILL.
    Kill,
    /// Nothing runs and nothing is wanted any more.
    Rest,
}

/// Total over states and goals.
pub(crate) fn decide(state: &State, goal: &Goal, now: Moment) -> Decision {
    match (state, goal) {
        (State::Starting { .. } | State::Running { .. }, Goal::Up | Goal::Wait(_) | Goal::After(_)) => {
            Decision::Stay
        }
        (State::Starting { .. } | State::Running { .. }, Goal::Down(cause) | Goal::Replace(cause)) => {
            Decision::Stop(cause.clone())
        }
        (State::Starting { .. } | State::Running { .. }, Goal::Kill) => Decision::Kill,
        (State::Stopping { phase: StopPhase::Killed { .. }, .. }, _) => Decision::Stay,
        (State::Stopping { .. }, Goal::Kill) => Decision::Kill,
        (State::Stopping { .. }, _) => Decision::Stay,
        (State::Pending { .. } | State::Restarting { .. }, Goal::Down(_) | Goal::After(_) | Goal::Kill) => {
            Decision::Rest
        }
        (State::Restarting { retry_at, .. }, Goal::Up | Goal::Wait(_)) if *retry_at > now => Decision::Stay,
        (State::Restarting { .. }, Goal::Up | Goal::Replace(_)) => Decision::Queue { automatic: true },
        (State::Restarting { .. }, Goal::Wait(on)) => Decision::Park { on: *on, automatic: true },
        (State::Pending { automatic, .. }, Goal::Up | Goal::Replace(_)) => {
            Decision::Queue { automatic: *automatic }
        }
        (State::Pending { on: WaitFor::Dependency(known), .. }, Goal::Wait(on)) if known == on => {
            Decision::Stay
        }
        (State::Pending { automatic, .. }, Goal::Wait(on)) => {
            Decision::Park { on: *on, automatic: *automatic }
        }
        (State::Stopped, Goal::Up | Goal::Replace(_)) => Decision::Queue { automatic: false },
        (State::Stopped, Goal::Wait(on)) => Decision::Park { on: *on, automatic: false },
        (State::Stopped, Goal::Down(_) | Goal::After(_) | Goal::Kill)
        | (State::Completed | State::Failed { .. }, _) => Decision::Stay,
    }
}
