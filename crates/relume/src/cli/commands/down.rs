//! `relume down`: stop everything, and return when both halves of relume are really gone.

use std::time::{Duration, Instant};

use relume_os::pidfd::PidFd;
use relume_proto::EventRecord;

use super::{client, find_manager, operate, refused};
use crate::cli::args::Global;
use crate::cli::render::text::{count, span};
use crate::cli::{Exit, Failure, Screen};

/// From the end of the connection to the end of the process: only its last files are closed in between.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Asks the manager to leave and waits until it and the guardian have ended, so that the next `up` finds the lock free.
pub(crate) fn run(global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let found = find_manager(global)?;
    let client = client(&found)?;
    let manager = client.version().map_err(|error| refused(error, &found))?;
    // Opened before anything is asked: later the number might be somebody else's.
    let process = PidFd::open(manager.pid);
    // The guardian holds the lock; it ends after its manager.
    let guardian = Some(manager.guardian_pid).filter(|pid| *pid > 0).and_then(|pid| PidFd::open(pid).ok());
    let begun = Instant::now();
    let mut watcher = |event: EventRecord| operate::show(&event, screen);
    let answer = client.down(&mut watcher);
    screen.end_progress();
    let report = answer.map_err(|error| refused(error, &found))?;
    // An answer after the stream has ended means that only the stream was lost.
    while process.as_ref().is_ok_and(|process| process.wait_ended(LAST_WORDS) == Ok(false)) {
        if client.version().is_err() {
            let message =
                format!("the manager (pid {}) has closed its socket, but its process goes on", manager.pid);
            return Err(Failure::new(Exit::TimedOut, message));
        }
        screen.progress("still stopping");
    }
    // One that does not end is for the next `up` to name.
    let _ended = guardian.map(|guardian| guardian.wait_ended(LAST_WORDS));
    screen.end_progress();
    if screen.json {
        screen.result(&format!("{}\n", serde_json::json!(report)));
    } else {
        let services = count(usize::try_from(report.stopping).unwrap_or(0), "service");
        screen.result(&format!("Stopped {services} and relume itself in {}.\n", span(begun.elapsed())));
    }
    Ok(Exit::Done)
}
