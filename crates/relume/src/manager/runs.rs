//! The runs that exist: what the kernel gave us of each, and what it was last seen to be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use relume_core::Exit;
use relume_os::pidfd::{PidFd, ProcessId};
use smallvec::SmallVec;

use super::capture::StreamId;
use super::ready::Quiet;
use super::trees::Tree;
use super::units::Unit;

/// One process tree.
#[derive(Debug)]
pub(crate) struct Run {
    /// All its processes.
    pub(crate) tree: Tree,
    /// Its output: stdout's, then stderr's if that is separate.
    pub(crate) streams: SmallVec<[StreamId; 2]>,
    /// The service as it was started.
    pub(crate) unit: Arc<Unit>,
    /// What is watched of it now.
    pub(crate) stage: Stage,
    /// Tells a search for its main process to end; none: there is none.
    pub(crate) cancelled: Option<Arc<AtomicBool>>,
    /// What is remembered of it where it has no voice ([`super::ready`]).
    pub(crate) quiet: Option<Quiet>,
    /// This manager has sent it SIGKILL.
    pub(crate) killed: bool,
    /// This manager has asked it to end: what follows is not known to be another start.
    pub(crate) asked: bool,
    /// Its cgroup was empty and is gone.
    pub(crate) cleared: bool,
}

/// What is watched of a run.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Its main process.
    Main {
        /// The process.
        process: ProcessId,
        /// Its descriptor, in the epoll set.
        pidfd: PidFd,
    },
    /// The main process has ended and waits to be reaped until the walk has told who else is left.
    Walking {
        /// How it ended.
        exit: Exit,
        /// The process.
        process: ProcessId,
        /// Its descriptor, no longer in the epoll set.
        pidfd: PidFd,
    },
    /// What the main process left behind.
    Rest {
        /// Where there are no cgroups: the processes known to be left, in the epoll set.
        members: BTreeMap<u32, PidFd>,
    },
}

impl Run {
    /// One that nobody has asked to end.
    pub(crate) fn new(tree: Tree, streams: SmallVec<[StreamId; 2]>, unit: Arc<Unit>, stage: Stage) -> Self {
        let (cancelled, quiet) = (None, None);
        Self { tree, streams, unit, stage, cancelled, quiet, killed: false, asked: false, cleared: false }
    }

    /// The child of ours that must not be taken for an orphan.
    pub(crate) fn own_child(&self) -> Option<u32> {
        match &self.stage {
            Stage::Main { process, .. } | Stage::Walking { process, .. } => Some(process.pid),
            Stage::Rest { .. } => None,
        }
    }

    /// The main process, while it lives.
    pub(crate) fn main(&self) -> Option<(ProcessId, &PidFd)> {
        match &self.stage {
            Stage::Main { process, pidfd } => Some((*process, pidfd)),
            Stage::Walking { .. } | Stage::Rest { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::journal::Kept;

    /// Bounds, and no exact sizes: there is one of each for each of thousands of services.
    #[test]
    fn what_a_service_costs_is_small() {
        assert!(size_of::<Unit>() <= 240, "{}", size_of::<Unit>());
        assert!(size_of::<Run>() <= 160, "{}", size_of::<Run>());
        assert!(size_of::<Kept>() <= 120, "{}", size_of::<Kept>());
    }
}
