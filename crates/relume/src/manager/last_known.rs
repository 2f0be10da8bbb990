//! What the last manager has written down, for a command that finds none running.

use std::path::{Path, PathBuf};

use relume_config::ManagerConfig;
use relume_core::{Intent, Remembered};
use relume_proto::EventRecord;

use super::archive;

/// What is in the state file.
#[derive(Debug, Default)]
pub(crate) struct LastKnown {
    /// The services that were known.
    pub(crate) services: Vec<Remembered>,
    /// The latest events, oldest first.
    pub(crate) events: Vec<EventRecord>,
}

impl LastKnown {
    /// Those that somebody has stopped.
    pub(crate) fn stopped(&self) -> Vec<String> {
        let down = self.services.iter().filter(|service| service.intent == Intent::Down);
        down.map(|service| service.name.clone()).collect()
    }
}

/// From the state file that a config means.
pub(crate) fn of_config(manager: &ManagerConfig) -> Option<LastKnown> {
    let dir = manager.state_dir.clone().unwrap_or_else(|| manager.config_dir.join(".relume"));
    read(&manager.state_file.clone().unwrap_or_else(|| file_in(&dir)))
}

/// The state file of a state directory, where nothing else is configured.
pub(crate) fn file_in(state_dir: &Path) -> PathBuf {
    state_dir.join("state.db")
}

/// None: there is none, it cannot be read, or a manager has it.
pub(crate) fn read(state_file: &Path) -> Option<LastKnown> {
    let (services, events) = archive::peek(state_file)?;
    Some(LastKnown { services, events })
}
