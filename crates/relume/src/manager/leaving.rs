//! Leaving: what is left is brought out, and what only a running manager has is taken away.

use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use relume_os::files;
use relume_os::limits::{Limit, Resource};

use super::capture::Capture;
use super::edge::Edge;
use super::forward::Forwarding;
use super::publish::{Level, Note};
use super::spawn::Cgroups;
use crate::cli::LogStream;
use crate::orphans;
use crate::places::Places;

/// How long the last output may take to reach its files when relume leaves. A disk that has not answered by
/// then is not waited for any longer.
const LAST_OUTPUT: Duration = Duration::from_secs(5);

/// How long the last lines may take to reach their receivers. What has not left by then is sent by the next relume.
const LAST_FORWARDED: Duration = Duration::from_secs(3);

/// How long the removal of the last cgroups may take.
const LAST_ERRANDS: Duration = Duration::from_secs(1);

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
    pub(crate) fn leave(mut self, edge: Edge, code: i32) {
        let _gone = files::remove(&self.places.socket());
        edge.say(Level::Info, "all services are down; relume leaves".into());
        edge.publisher.send(Note::Leave);
        self.end_publishing();
        orphans::end_all();
        edge.trees.finish(LAST_ERRANDS);
        edge.keeper.leave(u8::try_from(code).unwrap_or(1));
        drop(edge);
        self.end_streams();
        if let Some(cgroups) = self.cgroups {
            for (service, generation) in cgroups.root.runs().unwrap_or_default() {
                let _litter = cgroups.root.run(&service, generation).remove();
            }
            let _litter = cgroups.root.remove();
        }
        // Whoever comes next makes these anew.
        let _gone = files::remove(&self.places.runtime_dir.join("journal"));
        let _kept = std::fs::remove_dir(&self.places.runtime_dir);
        let _kept = std::fs::remove_file(self.places.state_dir.join("run"));
    }

    /// The services run on: the journal stays for the next relume, which finds them by it.
    pub(crate) fn leave_running(mut self, edge: Edge) {
        let _gone = files::remove(&self.places.socket());
        edge.journal.left(Edge::now().0);
        edge.publisher.send(Note::Leave);
        self.end_publishing();
        self.end_streams();
        edge.keeper.detach();
    }

    fn end_publishing(&mut self) {
        if let Some(thread) = self.publishing.take() {
            // It has panicked: what it had to show is lost, the services are down all the same.
            let _panicked = thread.join();
        }
    }

    fn end_streams(&mut self) {
        let _hung = self.capture.stop(LAST_OUTPUT);
        if let Some(forwarding) = self.forwarding.get() {
            forwarding.finish(LAST_FORWARDED);
        }
        if let Some(streaming) = self.streaming.take() {
            streaming.finish();
        }
    }
}
