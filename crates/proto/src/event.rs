//! What has happened: the records of the event stream and of `relume events --json`.

use serde::{Deserialize, Serialize};

use crate::State;

words! {
    /// What kind of thing has happened.
    EventKind {
        /// A service went from one state to another.
        State = "state",
        /// A life of a service ended.
        Exit = "exit",
        /// A probe changed its mind.
        Probe = "probe",
        /// A configuration was read or applied.
        Config = "config",
        /// Somebody asked for something.
        Command = "command",
        /// The manager was replaced by a fresh copy.
        Respawn = "respawn",
        /// The manager came back after a death.
        Recovery = "recovery",
        /// Something is wrong that people should know of.
        Warning = "warning",
    }
}

words! {
    /// Why it happened.
    Cause {
        /// Somebody asked.
        Asked = "asked",
        /// The process ended by itself.
        Exit = "exit",
        /// A signal from outside ended it.
        Signal = "signal",
        /// The kernel ran out of memory.
        Oom = "oom",
        /// It was not ready in time.
        StartTimeout = "start_timeout",
        /// The process could not be started.
        SpawnFailed = "spawn_failed",
        /// Its liveness probe failed.
        Unhealthy = "unhealthy",
        /// It stopped sending signs of life.
        Watchdog = "watchdog",
        /// It used more memory than allowed.
        Memory = "memory",
        /// Something it depends on went down or came back.
        Dependency = "dependency",
        /// The configuration changed.
        Config = "config",
        /// Its schedule was due.
        Schedule = "schedule",
        /// relume found it after a death of its own.
        Recovered = "recovered",
        /// It cannot be known.
        Unknown = "unknown",
    }
}

/// One thing that has happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventRecord {
    /// Grows with every event, over restarts of relume too.
    pub seq: u64,
    /// When (RFC 3339, UTC).
    pub at: String,
    /// The service it is about; `None`: relume itself.
    pub service: Option<String>,
    /// Which of its lives.
    pub run: Option<u64>,
    /// What kind of thing has happened.
    pub event: EventKind,
    /// The state before, when it is a change of state.
    pub from: Option<State>,
    /// The state after, when it is a change of state.
    pub to: Option<State>,
    /// Why.
    pub cause: Option<Cause>,
    /// A sentence for people.
    pub detail: Option<String>,
}
