//! The manager, as the guardian knows it.

use std::collections::VecDeque;

use relume_os::channel::Channel;
use relume_os::pidfd::{PidFd, ProcessId};

use super::heard::{Heard, Told};
use super::judge::Mode;
use super::watch::Watch;

pub(super) struct Manager {
    pub(super) process: ProcessId,
    pub(super) pidfd: PidFd,
    pub(super) channel: Channel,
    /// What it is to hear, in order.
    pub(super) outbox: VecDeque<Out>,
    /// Signals that it was told.
    pub(super) told: Told,
    /// Room in the channel is waited for.
    pub(super) writing: bool,
    /// Since when it has supervised.
    pub(super) ready_at: Option<u64>,
    pub(super) proven: bool,
    pub(super) mode: Mode,
    pub(super) watch: Watch,
}

/// What a manager is to hear.
pub(super) enum Out {
    /// What is kept under this name.
    Kept(String),
    Signal(Heard),
    Text(String),
}

impl Out {
    pub(super) fn kept(&self) -> Option<&str> {
        if let Self::Kept(name) = self { Some(name) } else { None }
    }
}

impl Manager {
    pub(super) fn new(
        (process, pidfd): (ProcessId, PidFd),
        channel: Channel,
        mode: Mode,
        watch: Watch,
    ) -> Self {
        let (outbox, told) = (VecDeque::new(), Told::default());
        let (writing, ready_at, proven) = (false, None, false);
        Self { process, pidfd, channel, outbox, told, writing, ready_at, proven, mode, watch }
    }

    /// The signals that its successor is to be told, oldest first: what it may not have dealt with, and what it was not told.
    pub(super) fn left_signals(&mut self) -> Vec<Heard> {
        let untold = self.outbox.iter().filter_map(|out| match out {
            Out::Signal(heard) => Some(*heard),
            Out::Kept(_) | Out::Text(_) => None,
        });
        self.told.left().chain(untold).collect()
    }
}
