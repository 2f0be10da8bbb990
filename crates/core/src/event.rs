//! What enters the core: something happened outside. Past participles, and commands.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cause::{Exit, SpawnError};
use crate::health::Check;
use crate::id::{RunId, ServiceId, Ticket};
use crate::policy::{ManagerPolicy, Reach, ServiceSpec};

/// Everything that can happen. Each event is accepted in each state; what is stale or unknown becomes a fact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Only time passed.
    Tick,
    /// The configuration is now this.
    Configured(Config),
    /// A client asks for something.
    Commanded {
        /// Under which the answers leave.
        ticket: Ticket,
        /// What.
        command: Command,
    },
    /// The process of the run exists and executes its program.
    Spawned {
        /// The run.
        run: RunId,
    },
    /// The process of the run could not be started, and nothing of it is left.
    SpawnFailed {
        /// The run.
        run: RunId,
        /// Why.
        error: SpawnError,
    },
    /// The service of the run says or shows that it is ready.
    Ready {
        /// The run.
        run: RunId,
    },
    /// The main process of a `forking` service was found and is watched from now on.
    MainFound {
        /// The run.
        run: RunId,
    },
    /// The main process of the run ended.
    Exited {
        /// The run.
        run: RunId,
        /// How.
        exit: Exit,
        /// Whether something of its tree lives on; if so, `Emptied` follows.
        rest: Rest,
    },
    /// Nothing of the run's tree is left.
    Emptied {
        /// The run.
        run: RunId,
    },
    /// A probe of the run was answered.
    Probed {
        /// The run that was asked.
        run: RunId,
        /// What was asked.
        check: Check,
        /// Why it was answered badly, for people; none: it was answered well.
        failure: Option<String>,
        /// Whether a failure counts: a probe between the regular ones only looks for a success.
        counts: bool,
    },
    /// It is time for a probe of the run that is a command.
    ProbeDue {
        /// The run to be asked about.
        run: RunId,
        /// What.
        check: Check,
    },
    /// A target of alerts that is a command is to be told of a service's change of state.
    AlertDue {
        /// The service.
        service: ServiceId,
        /// Which of its targets.
        which: u8,
    },
    /// The run has not shown within its `watchdog` time that it lives.
    Silent {
        /// The run.
        run: RunId,
    },
    /// The tree of the run uses more memory than its `max_memory`, both in bytes.
    TooMuchMemory {
        /// The run.
        run: RunId,
        /// What was measured.
        used: u64,
        /// What it may use.
        limit: u64,
    },
    /// The edge has seen something that people should know of, and that changes nothing.
    Noticed {
        /// The service it is about, if it is about one.
        service: Option<ServiceId>,
        /// A sentence.
        text: String,
    },
    /// relume itself is back: as planned, or after a death.
    Returned {
        /// It was replaced by a fresh copy of itself on purpose.
        planned: bool,
        /// Why it had been away, in a word or two.
        cause: String,
        /// How long nobody supervised, in microseconds.
        took_us: u64,
    },
    /// The service of the run asks for more time to start or to stop.
    Extended {
        /// The run.
        run: RunId,
        /// From now.
        by: Duration,
    },
    /// relume shall stop everything and leave.
    ShutdownAsked {
        /// With SIGKILL, now and in no order.
        hurry: bool,
        /// And what was stopped on request starts again with the next relume.
        forget: bool,
    },
}

/// A whole configuration, as far as the core reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The rules over all services.
    pub manager: ManagerPolicy,
    /// Whether services with `autostart` start without being asked for; not when only some were named.
    pub autostart: bool,
    /// The services. A set with problems (see `graph::problems`) is refused as a whole.
    pub services: Vec<ServiceSpec>,
}

/// What is left of a tree when its main process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rest {
    /// Nothing: the run is over.
    Gone,
    /// Other processes of the run.
    Alive,
}

/// What a client can ask. Each named service is answered once, when its goal is reached or cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Run these, and what they depend on.
    Start(Vec<ServiceId>),
    /// Stop these, and keep them stopped until somebody asks.
    Stop {
        /// Which.
        services: Vec<ServiceId>,
        /// And all that depend on them.
        with_dependents: bool,
    },
    /// End the present life of each and begin a new one.
    Restart(Vec<ServiceId>),
    /// Let each that runs read its own configuration again, by its reload signal or command.
    Reload(Vec<ServiceId>),
    /// Send each that has a process a signal.
    Signal {
        /// Which services.
        services: Vec<ServiceId>,
        /// The signal's number.
        signal: i32,
        /// To whom.
        to: Reach,
    },
}
