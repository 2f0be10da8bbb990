//! Leaving: what is left is brought out, and what only a running manager has is taken away.

use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use relume_os::files;
use relume_os::limits::{Limit, Resource};

use super::births;
use super::capture::Capture;
use super::edge::Edge;
use super::forward::Forwarding;
use super::publish::{Level, Note};
use super::ready::NOTIFY_DIR;
use super::schedule::SCHEDULE_FILE;
use super::spawn::Cgroups;
use super::undelivered;
use crate::cli::{LogStream, NOTED_FILES};
use crate::orphans;
use crate::places::Places;

/// How long the last output may take to reach its files when relume leaves. A disk that has not answered by
/// then is not waited for any longer.
const LAST_OUTPUT: Duration = Duration::from_secs(5);

/// How long the last lines may take to reach their receivers. What has not left by then is sent by the next relume.
const LAST_FORWARDED: Duration = Duration::from_secs(3);

/// How long the removal of the last cgroups may take.
const LAST_ERRANDS: Duration = Duration::from_secs(1);

/// How long what has happened may take to be shown and written down. Disks, terminals and receivers that have not answered
/// by then are left to the threads that wait for them, which end with the process.
const LAST_SHOWN: Duration = Duration::from_secs(5);

/// How long nothing of the output that `--follow` shows may get there, when relume leaves: whoever reads it may have stopped.
pub(super) const LAST_FOLLOWED: Duration = Duration::from_secs(1);

/// How often it is looked whether a thread has ended.
const LOOK: Duration = Duration::from_millis(1);

/// What is needed to leave.
pub(crate) struct Leaving {
    pub(crate) publishing: Option<JoinHandle<()>>,
    pub(crate) capture: Arc<Capture>,
    pub(crate) streaming: Option<LogStream>,
    pub(crate) forwarding: Arc<OnceLock<Forwarding>>,
    pub(crate) places: Places,
    pub(crate) cgroups: Option<Cgroups>,
    /// What relume was started with.
    pub(crate) limits: Vec<(Resource, Limit)>,
}

impl Leaving {
    /// All services are down: brings out what is left and takes away what only a running manager has.
    ///
    /// Nothing here waits without end. What waits in the kernel all the same, for a disk that hangs, is the guardian's to
    /// end: it is told first that this manager is leaving.
    pub(crate) fn leave(mut self, edge: Edge, code: i32) {
        let _gone = files::remove(&self.places.socket());
        edge.keeper.leave(u8::try_from(code).unwrap_or(1));
        // Whoever comes next makes it anew. At once: what is killed from here on shall not be taken up again.
        let _gone = files::remove(&self.places.runtime_dir.join("journal"));
        let untold = undelivered::abandon(&self.places.runtime_dir);
        if untold > 0 {
            edge.say(Level::Warn, format!("alerts that were not delivered and are given up: {untold}"));
        }
        edge.say(Level::Info, "all services are down; relume leaves".into());
        edge.publisher.send(Note::Leave);
        self.end_publishing();
        orphans::end_all(&[]);
        edge.trees.finish(LAST_ERRANDS);
        let keeper = Arc::clone(&edge.keeper);
        drop(edge);
        self.end_streams(|| keeper.leave(u8::try_from(code).unwrap_or(1)));
        if let Some(cgroups) = self.cgroups {
            for (service, generation) in cgroups.root.runs().unwrap_or_default() {
                let _litter = cgroups.root.run(&service, generation).remove();
            }
            let _litter = cgroups.root.remove();
        }
        // What was raised since then.
        let _none = undelivered::abandon(&self.places.runtime_dir);
        for note in [births::FILE, SCHEDULE_FILE].iter().chain(&NOTED_FILES) {
            let _gone = files::remove(&self.places.runtime_dir.join(note));
        }
        // Each only if it is empty: what somebody else has put there is not ours.
        for dir in [self.places.runtime_dir.join(NOTIFY_DIR), self.places.runtime_dir.clone()] {
            let _kept = std::fs::remove_dir(dir);
        }
        let _kept = std::fs::remove_file(self.places.state_dir.join("run"));
    }

    /// The services run on: the journal stays for the next relume, which finds them by it.
    pub(crate) fn leave_running(mut self, edge: Edge) {
        let _gone = files::remove(&self.places.socket());
        edge.keeper.detach();
        edge.journal.left(Edge::now().0);
        edge.publisher.send(Note::Leave);
        self.end_publishing();
        self.end_streams(|| edge.keeper.detach());
    }

    fn end_publishing(&mut self) {
        if let Some(thread) = self.publishing.take() {
            // Hung or panicked, what it had to show is lost; the services are down all the same.
            let _hung = ended_within(&thread, LAST_SHOWN);
        }
    }

    /// `leaving` is said to the guardian, who would otherwise take this for a manager that hangs.
    fn end_streams(&mut self, leaving: impl Fn()) {
        let _hung = self.capture.stop(LAST_OUTPUT);
        if let Some(forwarding) = self.forwarding.get() {
            forwarding.finish(LAST_FORWARDED);
        }
        if let Some(streaming) = self.streaming.take() {
            streaming.finish(LAST_FOLLOWED, leaving);
        }
    }
}

/// Waits for the end of a thread, but not for ever; whether it has ended. To join one that waits for a disk is to wait for
/// the disk.
pub(crate) fn ended_within<T>(thread: &JoinHandle<T>, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while !thread.is_finished() {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}
