//! Cursors on disk: one small file for each target, replaced as a whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use relume_config::Forward;
use relume_os::files::{self, Durability};
use serde::{Deserialize, Serialize};

use crate::log_files::Cursor;

/// How far one log was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// `None`: there was no file yet; from its beginning.
    pub(super) cursor: Option<Cursor>,
    /// Bytes that are lost and of which the receiver has not been told.
    #[serde(default)]
    pub(super) lost: u64,
}

/// By path of the log.
pub(super) type Entries = BTreeMap<PathBuf, Entry>;

/// The largest file that is read, in bytes: ten thousand logs take a quarter of it.
const MOST: u64 = 16 << 20;

/// The file of one target.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
}

impl Store {
    pub(super) fn new(dir: &Path, target: &Forward) -> Self {
        // What is spoken with whom, and under which names: a target that differs in that has seen nothing yet.
        let name = format!("{} {} {} {}", target.shown, target.facility, target.rfc5424, target.tag);
        let hash = crate::places::id_of(Path::new(&name));
        Self { path: dir.join(format!("{hash}.json")) }
    }

    /// What was kept; nothing if there is nothing that makes sense.
    pub(super) fn read(&self) -> Entries {
        let small =
            std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.is_file() && found.len() <= MOST);
        let bytes = if small { std::fs::read(&self.path).unwrap_or_default() } else { Vec::new() };
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Keeps them over our own death. After a loss of power some lines are sent again.
    pub(super) fn write(&self, entries: &Entries) -> Result<(), String> {
        if let Some(dir) = self.path.parent() {
            files::create_dir(dir, 0o700).map_err(|error| error.to_string())?;
        }
        let bytes = serde_json::to_vec(entries).unwrap_or_default();
        files::write_atomic(&self.path, &bytes, 0o600, Durability::Process).map_err(|error| error.to_string())
    }
}
