//! `relume respawn`: the manager replaces itself, services untouched. This is how an upgrade is taken up.

use super::{client, find_manager, refused};
use crate::cli::args::Global;
use crate::cli::{Exit, Failure, Screen};

/// Returns when the successor answers; a failure says why the manager goes on as it was.
pub(crate) fn run(global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let found = find_manager(global)?;
    let client = client(&found)?;
    let report = client.respawn().map_err(|error| refused(error, &found))?;
    if screen.json {
        screen.result(&format!("{}\n", serde_json::json!(report)));
    } else {
        let version = client.version().map(|now| format!("version {}, ", now.version)).unwrap_or_default();
        let note = report.config.map(|note| format!("Note: {note}.\n")).unwrap_or_default();
        screen.result(&format!("relume has replaced itself: {version}pid {}.\n{note}", report.pid));
    }
    Ok(Exit::Done)
}
