//! A manager hands over to a process that has come up beside it: from one moment on that one is the manager, and the old one leaves.
//!
//! This is the one place where it is decided who supervises. The successor does nothing until it is told to from here, and whoever dies
//! before that has handed over nothing: what was on its way to us is dealt with before the end of who has sent it, and a channel
//! that did not get here closes, which ends the successor.

use std::os::fd::OwnedFd;

use relume_os::channel::Channel;
use relume_os::clock;
use relume_os::epoll::Interest;
use relume_os::exit::{self, ExitStatus, Reaped};
use relume_os::pidfd::{PidFd, ProcessId};

use super::manager::{Manager, Out};
use super::watch::Watch;
use super::{Guardian, How, KILL, OUTGOING, Why, complain, link};

impl Guardian {
    /// The manager ends, and this process goes on in its place. `since`: when supervision ended.
    pub(super) fn handed_over(&mut self, process: ProcessId, since: u64, fds: Vec<OwnedFd>) {
        let mut fds = fds.into_iter();
        let (Some(pidfd), Some(channel)) = (fds.next(), fds.next()) else {
            // It is told nothing, and ends; the one that waits for it is replaced by another.
            drop(self.manager.as_ref().map(|manager| manager.pidfd.send_signal(KILL)));
            return complain("error: the guardian has no room for the descriptors of a new manager");
        };
        let (pidfd, channel) = (PidFd::from_owned(pidfd), Channel::from_owned(channel));
        let Some(mut old) = self.manager.take() else { return };
        let _gone = self.epoll.delete(&old.pidfd);
        let _gone = self.epoll.delete(&old.channel);
        let watch = Watch::new(clock::monotonic_ns(), self.period, self.judge.failures());
        let mut manager = Manager::new((process, pidfd), channel, old.mode, watch);
        let ended = self.exits.all().map(|ended| Out::Text(link::exited(ended)));
        let signals = old.left_signals().into_iter().chain(self.untold.drain(..)).map(Out::Signal);
        manager.outbox.extend([Out::Text(link::go(since))].into_iter().chain(ended).chain(signals));
        self.why = None;
        self.config_good_at = None;
        self.outgoing(old.pidfd);
        match self.attend(manager) {
            Ok(()) => self.flush(),
            Err(error) => {
                complain(&format!("error: the new manager cannot be heard: {error}; starting another"));
                let text = "it could not be heard".to_owned();
                self.why = Some(Why { text, how: How::Unknown, since });
                self.hurry_outgoing();
            }
        }
    }

    /// It has handed over, and is about to end.
    fn outgoing(&mut self, pidfd: PidFd) {
        // Unwatched it would keep the next manager from being started for ever: it is not waited for then.
        self.outgoing = self.epoll.add(&pidfd, OUTGOING, Interest::READ).is_ok().then_some(pidfd);
    }

    /// The one that has handed over has ended.
    pub(super) fn outgoing_ended(&mut self) {
        if let Some(pidfd) = self.outgoing.take() {
            let _gone = self.epoll.delete(&pidfd);
            // Another look for children may have reaped it before.
            let _reaped = exit::reap(&pidfd);
        }
    }

    /// A new manager is about to be started: whoever is still about to leave must not have his hands in anything.
    pub(super) fn hurry_outgoing(&self) {
        // It may have ended by now, which is what is wanted.
        let _gone = self.outgoing.as_ref().map(|pidfd| pidfd.send_signal(KILL));
    }
}

/// How a manager ended. The child of one that still lives is not ours yet.
pub(super) fn end_of(manager: &Manager) -> ExitStatus {
    match exit::reap(&manager.pidfd) {
        Ok(Reaped::Exited { status, .. }) => status,
        Ok(Reaped::NotOurs) => {
            exit::peek(&manager.pidfd, manager.process.pid).ok().flatten().unwrap_or(ExitStatus::Unknown)
        }
        Ok(Reaped::Alive) | Err(_) => ExitStatus::Unknown,
    }
}
