//! One pipe: what it holds, how busy it is, and whether it is over.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use relume_core::Name;
use relume_os::pipes;

use super::dropping::Dropped;
use super::pace::Pace;
use super::widening::{ORDINARY, PipeRoom, Share, WIDE};
use super::{Look, Origin, Stream, StreamId};

/// Names a log file in the thread's table.
pub(super) type FileKey = u64;

/// What is going on with a pipe. Exactly one thing leads to its next turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Epoll will tell.
    Armed,
    /// In the queue for the next round.
    Queued,
    /// The next tick will.
    Resting,
    /// The end of its file's trouble will.
    Held,
}

/// See the module's description.
pub(super) struct Pipe {
    pub(super) id: StreamId,
    pub(super) who: Name,
    pub(super) file: FileKey,
    pub(super) flow: Flow,
    /// Bytes taken so far.
    pub(super) bytes: u64,
    /// The run is gone: so many bytes are still its own.
    pub(super) last_bytes: Option<u64>,
    /// No writer was left when epoll last told.
    pub(super) hung_up: bool,
    pub(super) origin: Origin,
    /// The first bytes of a character that is not complete; only where lines are stored as JSON.
    pub(super) lead: Vec<u8>,
    /// What was dropped since its file cannot be written, and not yet told.
    pub(super) dropped: Option<Box<Dropped>>,
    /// A text that somebody waits for.
    pub(super) look: Option<Box<Look>>,
    fd: File,
    capacity: usize,
    pub(super) pace: Pace,
    /// It was left alone since it was last looked at.
    pub(super) rested: bool,
    share: Share,
    /// It was found with more in it than half of an ordinary pipe, since somebody last asked.
    was_busy: bool,
    /// The kernel did not let it grow.
    refused: bool,
}

impl Pipe {
    pub(super) fn new(stream: Stream, file: FileKey, room: &Arc<PipeRoom>) -> relume_os::Result<Self> {
        let Stream { id, who, pipe: fd, origin, .. } = stream;
        pipes::set_nonblocking(&fd, true)?;
        let capacity = pipes::capacity(&fd)?;
        let (fd, flow, hung_up) = (File::from(fd), Flow::Armed, false);
        Ok(Self {
            id,
            who,
            file,
            flow,
            bytes: 0,
            last_bytes: None,
            hung_up,
            origin,
            lead: Vec::new(),
            dropped: None,
            look: None,
            fd,
            capacity,
            pace: Pace::new(),
            rested: true,
            share: Share::new(room, capacity),
            was_busy: false,
            refused: false,
        })
    }

    /// Bytes that can be read now. An error counts as none: the pipe is then found closed.
    pub(super) fn waiting(&self) -> usize {
        pipes::bytes_waiting(&self.fd).unwrap_or(0)
    }

    /// Whether so much shows a busy writer: worth another look at once, not after a rest.
    pub(super) fn is_busy_with(&self, waiting: usize) -> bool {
        waiting >= self.capacity / 2
    }

    /// Notes how full the pipe was found, and grows it when that was much several times in a row.
    pub(super) fn note(&mut self, waiting: usize) {
        let rested = std::mem::take(&mut self.rested);
        self.pace.found(waiting, self.capacity, rested);
        self.saw(waiting);
        if self.pace.is_flooded() {
            self.grow();
        }
        if self.share.is_too_much() && waiting < ORDINARY / 2 {
            self.shrink();
        }
    }

    /// Notes that the writer needs a large pipe, if so much shows it.
    pub(super) fn saw(&mut self, waiting: usize) {
        self.was_busy |= waiting >= ORDINARY / 2;
    }

    /// Makes it as large as that of a flood, if there is room; at least as large as any.
    pub(super) fn grow(&mut self) {
        if self.refused || self.share.is_wide() {
            return;
        }
        let wanted = match (self.share.widen(), self.capacity < ORDINARY) {
            (true, _) => WIDE,
            (false, true) => ORDINARY,
            (false, false) => return,
        };
        match pipes::set_capacity(&self.fd, wanted) {
            Ok(capacity) => self.capacity = capacity,
            // An ordinary user has a share of pipe memory, which others may have taken.
            Err(_) => {
                self.refused = true;
                self.share.narrow();
            }
        }
    }

    fn shrink(&mut self) {
        // Refused while it holds more than that.
        if let Ok(capacity) = pipes::set_capacity(&self.fd, ORDINARY) {
            self.capacity = capacity;
            self.share.narrow();
        }
    }

    /// It is larger than others, or wanted to be.
    pub(super) fn is_watched(&self) -> bool {
        self.share.is_wide() || self.refused
    }

    /// Some time has passed: a large one whose writer needs it no more becomes an ordinary one, and one that could not
    /// grow may try again.
    pub(super) fn cool(&mut self) {
        self.refused = false;
        if !std::mem::take(&mut self.was_busy) && self.share.is_wide() {
            self.shrink();
        }
    }

    /// Looks through what was read, where a text is waited for.
    pub(super) fn looked_at(&mut self, bytes: &[u8]) {
        if self.look.as_mut().is_some_and(|look| look.sees(bytes)) {
            self.look = None;
        }
    }

    /// Reads into `buffer`; 0 when nothing was there. Reading a pipe has no other failure than being interrupted.
    pub(super) fn read(&self, buffer: &mut [u8]) -> usize {
        loop {
            match (&self.fd).read(buffer) {
                Ok(got) => return got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return 0,
            }
        }
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::capture::file::LogFile;

    /// Bounds, and no exact sizes: there is one of each for each of thousands of services, most of which write little.
    #[test]
    fn what_a_quiet_stream_costs_is_small() {
        assert!(size_of::<Pipe>() <= 160, "{}", size_of::<Pipe>());
        assert!(size_of::<LogFile>() <= 144, "{}", size_of::<LogFile>());
    }
}
