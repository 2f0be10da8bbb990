//! The last lines of a service's log, together with what still stands in its pipe: whoever is told of an end, and why, is told
//! what the service said before it.

use std::path::PathBuf;
use std::time::Duration;

use super::capture::Capture;
use crate::last_lines;

/// For all of it. A disk that hangs answers nobody, and what is to be told is told without the lines.
const PATIENCE: Duration = Duration::from_secs(2);

/// Up to `most` of the last lines, oldest first. Empty when the log cannot be read in time.
pub(crate) async fn of(capture: &Capture, log: PathBuf, most: usize) -> Vec<String> {
    let read = async {
        capture.take_in(&log).await;
        tokio::task::spawn_blocking(move || last_lines::of(&log, most)).await
    };
    tokio::time::timeout(PATIENCE, read).await.ok().and_then(Result::ok).unwrap_or_default()
}
