//! A log as lines, one after the other, with what is known of them.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use super::chain::{self, BLOCK, LogFile};
use super::cursor::{Cursor, Follower, Place, Step};
use super::stored;
use super::times::Times;
use crate::output_index::{Channel, Form, Kind, Record};

/// A line that is longer is given in pieces of about this size, in bytes: memory is bounded whatever a service writes,
/// and a piece fits into one datagram of a local socket.
pub(crate) const LONGEST: usize = 48 << 10;

/// Which part of its line a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The line begins with it.
    pub(crate) first: bool,
    /// The line ends with it.
    pub(crate) last: bool,
}

/// A line, or a piece of one that is very long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// As they stand in the file, without the line end.
    pub(crate) bytes: Vec<u8>,
    /// What the service wrote of it, where more than that stands in the file.
    pub(crate) inner: Option<Vec<u8>>,
    pub(crate) piece: Piece,
    /// When it was written, in nanoseconds since 1970; `None`: nobody knows.
    pub(crate) at: Option<i64>,
    /// By which run.
    pub(crate) run: Option<u32>,
    pub(crate) channel: Channel,
}

impl Line {
    /// What the service wrote.
    pub(crate) fn said(&self) -> &[u8] {
        self.inner.as_ref().unwrap_or(&self.bytes)
    }
}

/// Something that happened to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) at: i64,
    pub(crate) run: u32,
    pub(crate) kind: Kind,
}

/// What stands in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Line(Line),
    Mark(Mark),
    /// So many bytes are gone.
    Gap(u64),
}

/// Cuts one log into lines.
#[derive(Debug)]
pub(crate) struct Lines {
    follower: Follower,
    times: Times,
    channel: Channel,
    /// What was read and not given yet.
    buffer: Vec<u8>,
    /// Of it, how much was given.
    given: usize,
    /// And how much was searched for a line end in vain.
    searched: usize,
    /// Of the byte at `given`, in the open file.
    offset: u64,
    /// In the middle of a line that is given in pieces.
    inside: bool,
    ready: VecDeque<Item>,
    /// The place behind everything that was given; what a cursor is made of.
    safe: Option<Cursor>,
}

impl Lines {
    /// The log at this path, which need not exist yet; from its beginning unless told otherwise.
    pub(crate) fn new(path: PathBuf, channel: Channel) -> Self {
        Self {
            times: Times::new(&path),
            follower: Follower::new(path),
            channel,
            buffer: Vec::new(),
            given: 0,
            searched: 0,
            offset: 0,
            inside: false,
            ready: VecDeque::new(),
            safe: None,
        }
    }

    /// The log's path.
    pub(crate) fn path(&self) -> &Path {
        self.follower.path()
    }

    /// Continues in this file of the log.
    pub(crate) fn begin(&mut self, log: LogFile, offset: u64) -> io::Result<()> {
        self.follower.begin(log, offset)?;
        self.began();
        Ok(())
    }

    /// Continues at the beginning of the oldest file, if there is one.
    pub(crate) fn begin_at_start(&mut self) -> io::Result<()> {
        let oldest = chain::open_all(self.path())?.pop();
        oldest.map_or(Ok(()), |oldest| self.begin(oldest, 0))
    }

    /// Continues at the present end of the log. What appears later is new from its beginning.
    pub(crate) fn begin_at_end(&mut self) -> io::Result<()> {
        match LogFile::open(self.path()) {
            Ok(log) => {
                let end = log.length()?;
                self.begin(log, end)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Continues at a place; none: there was no file yet. Where its file is not in the chain any more, at the present end.
    pub(crate) fn begin_at(&mut self, place: Option<Place>) -> io::Result<()> {
        let Some(Place { file, offset }) = place else { return self.begin_at_start() };
        let is_it = |log: &LogFile| log.identity == file && log.length().is_ok_and(|length| length >= offset);
        match chain::open_all(self.path())?.into_iter().find(is_it) {
            Some(log) => self.begin(log, offset),
            None => self.begin_at_end(),
        }
    }

    /// Continues where a cursor was taken. The bytes that stood between there and where it goes on.
    pub(crate) fn resume(&mut self, cursor: &Cursor) -> io::Result<u64> {
        let lost = self.follower.resume(cursor)?;
        self.began();
        Ok(lost)
    }

    fn began(&mut self) {
        self.buffer.clear();
        self.ready.clear();
        (self.given, self.searched, self.inside) = (0, 0, false);
        if let Some((identity, offset)) = self.follower.position() {
            self.offset = offset;
            self.times.refresh(identity);
            self.times.skip_to(offset);
        }
        self.safe = self.follower.cursor(self.offset);
    }

    /// The place behind the last item that was given.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        self.safe.clone()
    }

    /// The same in short; none: there was no file yet.
    pub(crate) fn place(&self) -> Option<Place> {
        self.safe.as_ref().map(Cursor::place)
    }

    /// Looks which files there are, so that what goes missing can be told.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        self.follower.look()?;
        if self.ready.is_empty() {
            self.safe = self.follower.cursor(self.offset);
        }
        Ok(())
    }

    /// The next line or mark; `None`: there is none for now.
    pub(crate) fn next(&mut self) -> io::Result<Option<Item>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                if self.ready.is_empty() {
                    self.safe = self.follower.cursor(self.offset);
                }
                return Ok(Some(item));
            }
            if self.cut(false) {
                continue;
            }
            if self.fill()? {
                continue;
            }
            if let Some(mark) = self.times.next_mark(self.offset) {
                self.ready.push_back(Item::Mark(mark_of(&mark)));
                continue;
            }
            match self.follower.step()? {
                Step::End => return Ok(None),
                Step::Next { lost } => self.stepped(lost),
            }
        }
    }

    /// The beginning of a line whose end has not come yet.
    pub(crate) fn take_partial(&mut self) -> Option<Item> {
        let has = self.cut(true);
        let item = self.ready.pop_front().filter(|_| has);
        self.safe = self.follower.cursor(self.offset);
        item
    }

    /// The reader stands in another file, or again at the beginning of the same one.
    fn stepped(&mut self, lost: u64) {
        let Some((identity, offset)) = self.follower.position() else { return };
        // A log that was truncated or replaced does not continue its last line. One that was rotated does: rotation
        // cuts inside of a line only where that is longer than a file.
        let goes_on = self.inside && lost == 0;
        self.cut(true);
        self.inside &= goes_on;
        if lost > 0 {
            self.ready.push_back(Item::Gap(lost));
        }
        self.offset = offset;
        self.times.refresh(identity);
    }

    fn fill(&mut self) -> io::Result<bool> {
        // Not kept: ten thousand logs may be open at once, and few of them have much to give.
        let mut block = vec![0; BLOCK];
        let read = self.follower.read(&mut block)?;
        if read == 0 {
            if let Some((identity, _)) = self.follower.position() {
                self.times.refresh(identity);
            }
            return Ok(false);
        }
        self.buffer.drain(..self.given);
        self.searched -= self.given;
        self.given = 0;
        self.buffer.extend_from_slice(&block[..read]);
        if let Some((identity, _)) = self.follower.position() {
            self.times.refresh(identity);
        }
        Ok(true)
    }

    /// Gives one line, or what there is of one when `all` is wanted. False: there is none.
    fn cut(&mut self, all: bool) -> bool {
        let from = self.searched.max(self.given);
        let end = self.buffer[from..].iter().position(|&byte| byte == b'\n').map(|at| from + at);
        let waiting = self.buffer.len() - self.given;
        let (length, last) = match end {
            Some(end) if end - self.given <= LONGEST => (end - self.given, true),
            None if waiting <= LONGEST && (!all || waiting == 0) => {
                self.searched = self.buffer.len();
                return false;
            }
            Some(_) | None => (waiting.min(LONGEST), false),
        };
        // Marks that stand before this line come first.
        while let Some(mark) = self.times.mark_before(self.offset + 1) {
            self.ready.push_back(Item::Mark(mark_of(&mark)));
        }
        let record = self.times.at(self.offset);
        let bytes = self.buffer[self.given..self.given + length].to_vec();
        let piece = Piece { first: !self.inside, last };
        let (form, channel) = match record.map(|record| record.kind) {
            Some(Kind::Output(channel, form)) => (form, channel),
            _ => (Form::Raw, self.channel),
        };
        let stored = stored::read(form, piece, &bytes);
        let (own, inner) = stored.map_or((None, None), |stored| (stored.at, Some(stored.inner)));
        let taken = length + usize::from(last);
        self.given += taken;
        self.searched = self.given;
        self.offset += taken as u64;
        self.inside = !last;
        self.ready.push_back(Item::Line(Line {
            bytes,
            inner,
            piece,
            at: own.or(record.map(|record| record.at)),
            run: record.map(|record| record.run),
            channel,
        }));
        true
    }
}

fn mark_of(record: &Record) -> Mark {
    Mark { at: record.at, run: record.run, kind: record.kind }
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
