//! Why a service is as it is: the answer of `relume explain --json`.

use serde::{Deserialize, Serialize};

use crate::{EventRecord, ServiceReport, State};

/// Everything that is known about why a service is as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExplainReport {
    /// What is so; while no manager runs, what was so last.
    pub service: ServiceReport,
    /// Whether a manager has said so. If not, all this is from what it had written.
    pub live: bool,
    /// What led to it, the service itself first: each link is the reason for the one before.
    pub chain: Vec<ChainLink>,
    /// What it depends on.
    pub needs: Vec<Need>,
    /// What counts against it, and how much it may.
    pub retries: Retries,
    /// What relume does next by itself, in a sentence.
    pub next: Option<String>,
    /// The last lines of its log, oldest first.
    pub lines: Vec<String>,
    /// What has happened to it of late, oldest first.
    pub history: Vec<EventRecord>,
}

/// One reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChainLink {
    /// Whose state it is.
    pub service: String,
    /// The state.
    pub state: State,
    /// Why it is in it, in a sentence.
    pub because: Option<String>,
    /// Since when (RFC 3339, UTC), where that is known.
    pub since: Option<String>,
}

/// Something it depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Need {
    /// Its name.
    pub service: String,
    /// What it has to be: `started`, `ready` or `completed`.
    pub condition: String,
    /// What it is.
    pub state: State,
    /// Whether it is as it has to be.
    pub met: bool,
}

/// What counts against a service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retries {
    /// Automatic restarts after failures within the window.
    pub used: u32,
    /// How many there may be; `None`: any number.
    pub most: Option<u32>,
    /// The window, in seconds.
    pub window_s: f64,
    /// Failures since it was last stable or ended well.
    pub failures_in_row: u32,
    /// They are used up.
    pub exhausted: bool,
}
