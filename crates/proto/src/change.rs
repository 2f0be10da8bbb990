//! What a changed config would do, or has done.

use serde::{Deserialize, Serialize};
use serde_json::Value;

words! {
    /// What becomes of a service under a changed config.
    Fate {
        /// It is new and is started.
        Added = "added",
        /// It is new and is not started by itself.
        AddedStopped = "added_stopped",
        /// What it is started with has changed: it is restarted.
        Restarted = "restarted",
        /// What it is started with has changed: it has ended or waits for its next attempt, and is started at once.
        TriedAgain = "tried_again",
        /// What it is started with has changed: its next start is the new one.
        NextStart = "next_start",
        /// Only its rules have changed: they hold at once, it goes on.
        Rules = "rules",
        /// It is no longer configured: it is stopped and forgotten.
        Removed = "removed",
        /// Nothing.
        Unchanged = "unchanged",
    }
}

/// Read the config again and say what it would do (`plan`), or do it (`apply`). An object without members for
/// now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeRequest {}

/// The answer to a [`ChangeRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChangeReport {
    /// Whether the config can be used. If not, nothing has changed and nothing would.
    pub ok: bool,
    /// Whether it is in force now.
    pub applied: bool,
    /// The files that were read.
    pub config: Vec<String>,
    /// One for each service: in the order of the new config, those that leave it last.
    pub changes: Vec<ServiceChange>,
    /// Settings of relume itself that differ.
    pub settings: Vec<SettingChange>,
    /// Errors and warnings of the config, each as in `relume check --json`.
    pub diagnostics: Vec<Value>,
    /// The same as text for people.
    pub rendered: String,
}

/// What becomes of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceChange {
    /// Its name.
    pub service: String,
    /// What becomes of it.
    pub fate: Fate,
}

/// A setting of relume itself that differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SettingChange {
    /// Its key.
    pub key: String,
    /// Whether it takes effect at once; if not, when relume is started the next time.
    pub at_once: bool,
}

/// Send some services a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalRequest {
    /// A name with or without `SIG`, or a number (signal(7)).
    pub signal: String,
    /// To whom, as in an [`OperationRequest`](crate::OperationRequest).
    pub targets: crate::Targets,
    /// To every process of the service, not to its main process alone.
    #[serde(default)]
    pub tree: bool,
}
