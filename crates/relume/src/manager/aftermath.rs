//! What follows from the end of a run and can wait for the successor's start.
//!
//! To rouse a thread costs a system call and, on a machine with few processors, one of those that the start needs. So what an end
//! means for threads that only show, keep and clear up is said when those who have something to do have been told.

use relume_core::RunId;
use relume_os::cgroup::RunCgroup;
use relume_os::exit::Usage;

use super::edge::Edge;
use super::publish::Note;

/// What has not been said yet.
#[derive(Debug, Default)]
pub(crate) struct Aftermath {
    /// What main processes have used.
    pub(super) used: Vec<(RunId, Usage)>,
    /// Cgroups in which nothing lives any more.
    pub(super) emptied: Vec<RunCgroup>,
    /// Capture has pipes to finish.
    pub(super) capture: bool,
}

impl Edge {
    /// Says all of it. To be called before the facts of an end are shown, and before a wait.
    pub(super) fn clear_up(&mut self) {
        let Aftermath { used, emptied, capture } = &mut self.aftermath;
        for (run, usage) in used.drain(..) {
            self.publisher.send(Note::Used { run, usage });
        }
        if std::mem::take(capture) {
            self.capture.ring();
        }
        emptied.drain(..).for_each(|cgroup| self.trees.remove(cgroup));
    }
}
