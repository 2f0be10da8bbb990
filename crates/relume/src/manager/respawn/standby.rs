//! The other side of [`super::beside`]: this process comes up beside the manager, and waits.
//!
//! Until it is told to go on it is nobody. It writes nothing: the journal holds back, what shows and keeps waits at a gate, capture
//! has not begun, and what it says to the guardian lies in a channel that the guardian does not have yet. It ends with that channel.

use std::os::fd::RawFd;
use std::time::Duration;

use relume_core::Moment;
use relume_os::channel::Channel;
use relume_os::epoll::{Epoll, Interest};
use relume_os::pidfd::{PidFd, ProcessId};
use relume_os::{Errno, OsError, exec};

use crate::manager::edge::{Edge, PREDECESSOR};
use crate::manager::keeper::Word;
use crate::manager::parent_death::Returned;
use crate::manager::translate::number::KILL;
use crate::roles::STANDBY;

/// Where it speaks to the manager.
pub(super) const LINE_FD: RawFd = 10;

/// It knows all that was noted when it began, and waits.
pub(super) const COMES_UP: &str = "up";

/// It is the manager.
pub(super) const GOES_ON: &str = "on";

/// How long the manager before this one may take to leave.
const LEAVING: Duration = Duration::from_secs(1);

/// Between two looks at one that was killed.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The same where nothing else is to be done.
const LOOK: Duration = Duration::from_millis(1);

/// Of a process that comes up beside the manager.
#[derive(Debug)]
pub(crate) struct Standby {
    line: Channel,
    predecessor: PidFd,
}

/// The manager before this one, which is about to end.
#[derive(Debug)]
pub(crate) struct Predecessor {
    pidfd: PidFd,
    /// When it is killed, and from then on looked at again.
    look_at: Moment,
}

impl Predecessor {
    /// When to look whether it has ended.
    pub(crate) fn deadline(&self) -> Moment {
        self.look_at
    }
}

impl Standby {
    /// Where this process is one. To be called once, before anything is opened.
    pub(crate) fn take() -> relume_os::Result<Option<Self>> {
        if std::env::var_os(STANDBY).is_none() {
            return Ok(None);
        }
        #[cfg(debug_assertions)]
        die_in_time();
        let line = Channel::from_owned(exec::take_inherited(LINE_FD)?);
        let parent = std::os::unix::process::parent_id();
        let predecessor = ProcessId::of(parent)?.map(ProcessId::open).transpose()?.flatten();
        let gone = || OsError::new("come up beside the manager", Errno::SRCH);
        Ok(Some(Self { line, predecessor: predecessor.ok_or_else(gone)? }))
    }

    /// Says that all is ready and waits to be told to go on; when supervision ended. None: never, and this process is to end.
    pub(crate) fn wait(&self, edge: &Edge) -> Option<u64> {
        let epoll = Epoll::new().ok()?;
        epoll.add(&*edge.keeper, 0, Interest::READ).ok()?;
        if edge.journal.held_back() > 0 {
            // Who reads that something is to be noted which is not reads nothing else.
            let _unread = self.line.send(b"there is something to be noted", &[]);
            return None;
        }
        self.line.send(COMES_UP.as_bytes(), &[]).ok()?;
        let mut ready = Vec::new();
        loop {
            match edge.keeper.hear() {
                Some(Word::Go { since }) => {
                    // Nobody there to hear it: then it has died, and the guardian knows who goes on.
                    let _gone = self.line.send(GOES_ON.as_bytes(), &[]);
                    return Some(since);
                }
                Some(Word::Gone) => return None,
                Some(Word::Signal { .. } | Word::Exited(_) | Word::Replaced(_)) => {}
                None => epoll.wait(&mut ready, None).ok()?,
            }
        }
    }
}

impl Edge {
    /// This process is the manager since a moment ago. Whoever was it before has his hands in logs and files until he is gone.
    pub(crate) fn take_over_from(&mut self, standby: Standby, since: u64) {
        self.journal.take_up();
        self.back = self.back.take().map(|back| back.since(since));
        self.returned = self.returned.take().map(|returned| Returned { at: Self::now(), ..returned });
        let pidfd = standby.predecessor;
        // Without room in the epoll set it is looked at when it is to have ended.
        let _unheard = self.epoll.add(&pidfd, PREDECESSOR, Interest::READ);
        self.predecessor = Some(Predecessor { pidfd, look_at: Self::now().after(LEAVING) });
    }

    /// Whether there is no manager before this one any more.
    pub(crate) fn is_alone(&mut self) -> bool {
        let now = Self::now();
        let Some(predecessor) = &mut self.predecessor else { return true };
        if !matches!(predecessor.pidfd.has_ended(), Ok(false)) {
            let _gone = self.epoll.delete(&predecessor.pidfd);
            self.predecessor = None;
            return true;
        }
        if predecessor.look_at <= now {
            // Not even that ends one that waits in the kernel; then nothing is captured until it does.
            let _gone = predecessor.pidfd.send_signal(KILL);
            predecessor.look_at = now.after(LOOK_AGAIN);
        }
        false
    }

    /// Waits until there is none: relume leaves.
    pub(crate) fn outlast_predecessor(&mut self) {
        while !self.is_alone() {
            std::thread::sleep(LOOK);
        }
    }
}

/// For tests: dies at the act whose number stands in the file that `RELUME_STANDBY_DIES_AT` names.
#[cfg(debug_assertions)]
fn die_in_time() {
    let acts = std::env::var_os("RELUME_STANDBY_DIES_AT").and_then(|file| std::fs::read_to_string(file).ok());
    if let Some(acts) = acts.and_then(|text| text.trim().parse().ok()) {
        relume_os::tally::arm(acts);
    }
}
