//! What leaves the core to be done. Imperatives; trouble in doing them comes back as an event.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::fact::Fact;
use crate::id::{RunId, RunKind, ServiceId, Ticket};
use crate::policy::Reach;

/// Something the edge must do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Start the process of a run. Answered by `Spawned` or `SpawnFailed`.
    Spawn {
        /// The run.
        run: RunId,
        /// Which of the service's commands, and how its end is read.
        kind: RunKind,
    },
    /// Send a signal. Needs no answer: what it does shows as an exit.
    Signal {
        /// The run.
        run: RunId,
        /// Which.
        signal: Signal,
        /// To whom.
        to: Reach,
    },
    /// Look for the main process that a `forking` service left behind. Answered by `MainFound`, or by
    /// `Emptied` when the tree ends meanwhile.
    FindMain {
        /// The run.
        run: RunId,
    },
    /// Answer a client, once for each ticket and service.
    Reply {
        /// The command's ticket.
        ticket: Ticket,
        /// About whom.
        service: ServiceId,
        /// What came of it.
        outcome: Outcome,
    },
    /// Everything is down: leave with this exit code.
    Leave {
        /// 0 unless `exit_when` says otherwise.
        code: i32,
    },
}

/// Which signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// The service's own stop signal, by number.
    Stop(i32),
    /// One that somebody asked for, by number: to reload, or any other. Nothing is awaited of it.
    Asked(i32),
    /// SIGKILL. To the tree of a run it means: until nothing is left.
    Kill,
}

/// What came of a command for one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is as asked.
    Done,
    /// It was as asked already.
    Already,
    /// It could not be done.
    Failed(Cause),
    /// A later command or the shutdown asked for something else.
    Superseded,
    /// No such service.
    Unknown,
    /// It has no process that could be asked.
    NotRunning,
}

/// What one step has to say. Filled by `step`, emptied by the caller before the next.
#[derive(Debug, Default)]
pub struct Outbox {
    /// To be done, in order.
    pub actions: Vec<Action>,
    /// To be shown, in order.
    pub facts: Vec<Fact>,
}
