//! What is so: the answer of `relume status --json`, and the status file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Cause;

words! {
    /// The state of a service, in the words users see.
    State {
        /// Wanted; waits for a dependency, its turn, or its schedule. The reason is shown.
        Pending = "pending",
        /// Its process exists and is not ready yet.
        Starting = "starting",
        /// Ready, and well as far as is known.
        Running = "running",
        /// Liveness failed too often in a row; it is being restarted.
        Unhealthy = "unhealthy",
        /// The stop sequence is under way.
        Stopping = "stopping",
        /// Ended unexpectedly, or could not be started; a restart is scheduled.
        Crashed = "crashed",
        /// Between two lives for a reason other than a crash: asked, a clean end, its health, its memory.
        Restarting = "restarting",
        /// Stopped on request, or never started.
        Stopped = "stopped",
        /// Ended as wanted; no restart due.
        Completed = "completed",
        /// Could not be started, or ended badly and its policy does not restart it.
        Failed = "failed",
        /// Used up `max_retries` in `retry_window`.
        MaxRestarts = "max_restarts",
    }
}

words! {
    /// What the manager itself is doing.
    ManagerState {
        /// Supervising.
        Running = "running",
        /// Stopping all services, to leave.
        Stopping = "stopping",
        /// Supervising with the last configuration that was good, because managers have died with the present one.
        SafeMode = "safe_mode",
    }
}

/// Everything about the manager and its services at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusReport {
    /// The manager that answered.
    pub manager: ManagerReport,
    /// The services, in the order of the configuration.
    pub services: Vec<ServiceReport>,
}

/// The manager that answered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ManagerReport {
    /// Its process id.
    pub pid: u32,
    /// The process id of its guardian; its own while there is none.
    pub guardian_pid: u32,
    /// Version of the program.
    pub version: String,
    /// What it is doing.
    pub state: ManagerState,
    /// Seconds since supervision began, over all respawns.
    pub uptime_s: f64,
    /// When supervision began (RFC 3339, UTC).
    pub started_at: Option<String>,
    /// Planned replacements of the manager by a fresh copy.
    pub respawns: u64,
    /// Replacements after a death of either half.
    pub recoveries: u64,
    /// The files its configuration was read from.
    pub config: Vec<String>,
    /// Where it keeps its state.
    pub state_dir: String,
    /// Its own log.
    pub log: Option<String>,
    /// Processor time that it and its guardian use, in percent of one processor; only while it is sampled.
    pub cpu_percent: Option<f64>,
    /// Resident memory of both in bytes; only while it is sampled.
    pub memory_bytes: Option<u64>,
    /// Descriptors that both have open; only while it is sampled.
    pub fds: Option<u64>,
    /// The file systems that it writes to.
    pub disks: Vec<DiskReport>,
}

/// A file system that relume writes to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskReport {
    /// What is written there first: `logs` or `state`.
    pub what: String,
    /// Where.
    pub path: String,
    /// What can still be written, in bytes.
    pub free_bytes: u64,
    /// Its size in bytes.
    pub total_bytes: u64,
    /// There is little room, and that was a warning.
    pub short: bool,
}

/// One service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceReport {
    /// Unique name; an instance is a service of its own (`web:2`).
    pub name: String,
    /// Free text for people; the name unless configured.
    pub display_name: String,
    /// What is so.
    pub state: State,
    /// Why, in a sentence for people: what it waits for, how it ended, why it was restarted.
    pub reason: Option<String>,
    /// The same in one word, while it is being stopped, waits for a restart or has failed.
    pub cause: Option<Cause>,
    /// The main process, if there is one.
    pub pid: Option<u32>,
    /// Number of the current or last life, counted over all that this service ever had.
    pub run: Option<u64>,
    /// Seconds since the current process was started.
    pub uptime_s: Option<f64>,
    /// When the current process was started (RFC 3339, UTC).
    pub started_at: Option<String>,
    /// Whether dependents may start.
    pub ready: bool,
    /// The judgement of its probes; `None` while there is none.
    pub healthy: Option<bool>,
    /// Automatic restarts so far.
    pub restarts: u64,
    /// Automatic restarts after failures within the window.
    pub retries_used: u32,
    /// How many of them are left; `None`: without limit.
    pub retries_left: Option<u32>,
    /// How its last life ended.
    pub last_exit: Option<LastExit>,
    /// Seconds until the next start that is scheduled.
    pub next_start_in_s: Option<f64>,
    /// The services it depends on.
    pub depends_on: Vec<String>,
    /// Processor time used, in percent of one processor; only while it is sampled.
    pub cpu_percent: Option<f64>,
    /// Resident memory of the whole tree in bytes; only while it is sampled.
    pub memory_bytes: Option<u64>,
    /// Processes of the whole tree; only while it is sampled.
    pub processes: Option<u32>,
    /// Descriptors that the whole tree has open, as far as relume may see them; only while it is sampled.
    pub fds: Option<u64>,
    /// The file its output goes to.
    pub log: Option<String>,
    /// Addresses to show to people.
    pub urls: Vec<String>,
    /// The port it is configured to listen on.
    pub port: Option<u16>,
    /// Whether it is started without being asked for.
    pub autostart: bool,
    /// Groups it belongs to.
    pub groups: Vec<String>,
    /// What it is for.
    pub description: Option<String>,
}

impl ServiceReport {
    /// Whether its last life has failed and another one is due: it ended by itself, or was ended because it was not well.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        let for_its_own_sake = [Cause::Unhealthy, Cause::Watchdog, Cause::Memory];
        match &self.state {
            State::Crashed | State::Unhealthy => true,
            State::Restarting => self.cause.as_ref().is_some_and(|cause| for_its_own_sake.contains(cause)),
            State::Pending
            | State::Starting
            | State::Running
            | State::Stopping
            | State::Stopped
            | State::Completed
            | State::Failed
            | State::MaxRestarts
            | State::Other(_) => false,
        }
    }
}

/// How a life of a service ended: exactly one of `code`, `signal` and `unknown` is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastExit {
    /// The exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The name of the signal that ended it (`SIGKILL`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// True: it ended while nobody could see how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<bool>,
    /// When (RFC 3339, UTC).
    pub at: String,
    /// The same for people (`exited 1 after 3 s`).
    pub reason: String,
    /// CPU time of its main process and of what that had waited for, in milliseconds; absent: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// The largest resident set of any one of these processes; absent: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory_bytes: Option<u64>,
}

/// Who answers on a socket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VersionReport {
    /// Version of the program.
    pub version: String,
    /// Version of the API it speaks.
    pub api: u32,
    /// The manager's process id.
    pub pid: u32,
    /// That of its guardian; its own while there is none.
    pub guardian_pid: u32,
    /// Where it keeps its state.
    pub state_dir: String,
}

/// The status file: services by name. It is written for other programs and read by `relume logs` while no
/// manager answers.
pub type StatusFile = BTreeMap<String, StatusEntry>;

/// One service in the status file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusEntry {
    /// The main process, if there is one.
    pub pid: Option<u32>,
    /// What is so. The member is called `status` because scripts of that time read it under this name.
    pub status: State,
    /// The file its output goes to.
    pub log: Option<String>,
    /// Groups it belongs to.
    pub groups: Vec<String>,
}
