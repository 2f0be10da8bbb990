//! `relume down`: stop everything, and return when both halves of relume are really gone.

use std::path::Path;
use std::time::{Duration, Instant};

use relume_os::files::{self, LockError};
use relume_os::pidfd::PidFd;
use relume_os::proc;
use relume_proto::{DownReport, EventRecord};
use serde_json::json;

use super::{client, find_manager, operate, refused};
use crate::cli::args::Global;
use crate::cli::render::text::{count, span};
use crate::cli::{Exit, Failure, Screen};
use crate::roles::ROLE;

/// From the end of the connection to the end of the process: only its last files are closed in between.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Asks the manager to leave and waits until it and the guardian have ended, so that the next `up` finds the lock free.
pub(crate) fn run(global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let found = find_manager(global)?;
    let client = client(&found)?;
    let manager = client.version().map_err(|error| refused(error, &found))?;
    // Opened before anything is asked: later the number might be somebody else's.
    let process = part(manager.pid, "manager");
    // The guardian holds the lock; it ends after its manager.
    let guardian = part(manager.guardian_pid, "guardian");
    let begun = Instant::now();
    let mut watcher = |event: EventRecord| operate::show(&event, screen);
    let answer = client.down(&mut watcher);
    screen.end_progress();
    let report = answer.map_err(|error| refused(error, &found))?;
    // An answer after the stream has ended means that only the stream was lost.
    while process.as_ref().is_some_and(|process| process.wait_ended(LAST_WORDS) == Ok(false)) {
        if client.version().is_err() {
            let message =
                format!("the manager (pid {}) has closed its socket, but its process goes on", manager.pid);
            return Err(Failure::new(Exit::TimedOut, message));
        }
        screen.progress("still stopping");
    }
    // One that does not end is for the next `up` to name.
    match guardian {
        Some(guardian) => drop(guardian.wait_ended(LAST_WORDS)),
        None => wait_for_lock(&found.state_dir.join("lock")),
    }
    screen.end_progress();
    if screen.json {
        let report = report.map_or_else(|| json!({"pid": manager.pid}), |report| json!(report));
        screen.result(&format!("{report}\n"));
    } else {
        let services = |report: DownReport| count(usize::try_from(report.stopping).unwrap_or(0), "service");
        let services = report.map_or_else(|| "all services".to_owned(), services);
        screen.result(&format!("Stopped {services} and relume itself in {}.\n", span(begun.elapsed())));
    }
    Ok(Exit::Done)
}

/// The process of this pid, if it is this part of relume: the pids of one in a container are those of its own namespace,
/// and mean nobody or strangers here.
fn part(pid: u32, role: &str) -> Option<PidFd> {
    let process = PidFd::open(pid).ok()?;
    (proc::environ(pid, ROLE)?.as_slice() == role.as_bytes()).then_some(process)
}

/// The lock is one for all namespaces: it is free when both halves are gone.
fn wait_for_lock(path: &Path) {
    let end = Instant::now() + LAST_WORDS;
    while matches!(files::lock(path, "relume down"), Err(LockError::Held { .. })) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
}
