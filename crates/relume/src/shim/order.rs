//! What a shim is told by the manager that starts it: one variable of its environment.

use std::path::PathBuf;

use relume_config::{Container, External};
use serde::{Deserialize, Serialize};

/// The variable. Readable by the shim's own user alone, as any environment (proc_pid_environ(5)).
pub(crate) const VARIABLE: &str = "RELUME_SHIM";

/// The whole order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The service's name.
    pub(crate) service: String,
    /// Which relume: a container of another one is never touched.
    pub(crate) owner: String,
    /// What it stands in for.
    pub(crate) what: What,
    /// How long a stop may take, in seconds; none: for ever.
    pub(crate) stop_after: Option<f64>,
    /// Where is noted up to which record a container's output was passed on.
    pub(crate) cursor: PathBuf,
}

/// What a shim stands in for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    Container(Container),
    External(External),
}

impl Order {
    /// As the variable's value.
    pub(crate) fn text(&self) -> String {
        // A map with string keys and no floats but finite ones is always JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What this process was told.
    pub(super) fn of_this_process() -> Result<Self, String> {
        let text = std::env::var(VARIABLE).map_err(|_| format!("{VARIABLE} is not set"))?;
        serde_json::from_str(&text).map_err(|error| format!("{VARIABLE} cannot be read: {error}"))
    }
}
