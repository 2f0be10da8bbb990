//! What a client asks the manager to do, and what came of it.

use serde::{Deserialize, Serialize};

use crate::State;

/// Start, stop, restart or reload some services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationRequest {
    /// What to do.
    pub verb: Verb,
    /// With which services.
    pub targets: Targets,
    /// Also with everything that depends on them; only for `stop` and `restart`.
    #[serde(default)]
    pub with_dependents: bool,
    /// How long the answer may wait for the services to get there, in milliseconds. `None`: as long as
    /// it takes; 0: not at all.
    #[serde(default)]
    pub wait_ms: Option<u64>,
    /// Any number below 2^53 that no other request has: asked again with the same one, after the connection was lost,
    /// nothing is done twice, and the answer is that to the first.
    #[serde(default)]
    pub key: Option<u64>,
}

/// What can be done with services. Unlike the words of an answer an unknown verb is an error: doing
/// something else instead would be worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Run it, and whatever it depends on.
    Start,
    /// End it and keep it ended until somebody asks for it again.
    Stop,
    /// End it and run it again.
    Restart,
    /// Let it read its own configuration again.
    Reload,
}

impl Verb {
    /// The word as users write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
        }
    }
}

/// Which services are meant: `"all"` or `{"names": ["web", "group/backend"]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Targets {
    /// Every service.
    All,
    /// These: a service, all instances of one (`web` for `web:1`, `web:2`), or `group/NAME` for
    /// every service of a group.
    Names(Vec<String>),
}

words! {
    /// What came of an operation for one service.
    Outcome {
        /// It was done.
        Done = "done",
        /// There was nothing to do.
        Already = "already",
        /// It did not work; the reason is given.
        Failed = "failed",
        /// It was not finished when the wait was over; it goes on.
        TimedOut = "timed_out",
    }
}

/// What came of an operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OperationReport {
    /// One for each service that was meant, in the order of the configuration.
    pub results: Vec<ServiceResult>,
    /// What the user should know beside: dependents that were left running, for one.
    pub hints: Vec<String>,
}

/// What came of an operation for one service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceResult {
    /// Its name.
    pub service: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Its state now.
    pub state: State,
    /// Why it failed or what it still waits for, for people.
    pub reason: Option<String>,
    /// Its main process now.
    pub pid: Option<u32>,
    /// How long it took, in milliseconds.
    pub took_ms: Option<u64>,
}

/// Stop every service in reverse order and leave. An object without members for now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DownRequest {}

/// Replace the manager by a fresh copy of itself, services untouched. An object without members for now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RespawnRequest {}

/// The manager is about to be replaced. It is, when its count of respawns says so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RespawnReport {
    /// The process id of the manager that answers; its successor may be another process.
    pub pid: u32,
    /// What the successor counts.
    pub respawns: u64,
    /// What is counted as long as no manager dies instead. Absent: an older manager does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recoveries: Option<u64>,
    /// What to know of the config, for people: it has changed, and is or is not taken up. Absent: it is as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// The manager has begun to leave, or its successor will. It is gone when nothing answers on its socket any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DownReport {
    /// The manager's process id.
    pub pid: u32,
    /// How many services have to be stopped first.
    pub stopping: u32,
}
