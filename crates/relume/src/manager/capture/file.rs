//! One log file: where the next byte goes, and what to do when somebody else moved, replaced, truncated or deleted it.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use relume_os::{Errno, OsError, Result};
use smallvec::SmallVec;

use super::disk::{Disk, Handle};
use super::ledger::{self, Ledger};
use super::packing::Packing;
use super::report::{Next, Report};
use super::rotate::{self, Cut};
use super::slot::{Place, Slot};
use super::{Format, LogTarget, RETRY, StreamId};
use crate::output_index::{Form, Record};

/// How old the knowledge may be that the path still leads to the open file. A deleted file is seen at once; one that
/// was renamed still takes what is written for so long, which is what an outside logrotate counts on.
const TRUST_PATH: Duration = Duration::from_millis(500);

/// Wait after a rotation that failed for another reason than a full disk.
const ROTATE_AGAIN: Duration = Duration::from_secs(10);

/// The most marks that wait for a file that cannot be opened.
const WAITING_MARKS: usize = 64;

/// An open file.
struct Open {
    handle: Box<dyn Handle>,
    checked: Instant,
    /// None: the target wants none, or there cannot be one.
    ledger: Option<Ledger>,
    /// When the log was begun, in nanoseconds since 1970; where nothing tells, when it was opened.
    began: Cell<i64>,
}

/// Since when a file cannot be written, and when to try next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trouble {
    pub(super) since: Instant,
    pub(super) retry_at: Instant,
}

/// What every file operation of one pass of the loop shares.
pub(super) struct Pass<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) now: Instant,
    /// What is to be reported when the pass is over.
    pub(super) news: Vec<Report>,
}

/// See the module's description.
pub(super) struct LogFile {
    pub(super) target: Arc<LogTarget>,
    /// Whose output goes here, in order of their coming.
    pub(super) streams: SmallVec<[StreamId; 2]>,
    pub(super) trouble: Option<Trouble>,
    /// The chunk that could not be written.
    stuck: Option<Box<Slot>>,
    /// In a box: of thousands a few are open.
    open: Option<Box<Open>>,
    rotation_paused_until: Option<Instant>,
    /// What the index is to say as soon as there is one.
    marks: Vec<Record>,
    /// An old file is being compressed.
    pub(super) packing: Option<Box<Packing>>,
    /// It was rotated since somebody last asked.
    pub(super) rotated: bool,
}

impl LogFile {
    pub(super) fn new(target: Arc<LogTarget>) -> Self {
        Self {
            target,
            streams: SmallVec::new(),
            trouble: None,
            stuck: None,
            open: None,
            rotation_paused_until: None,
            marks: Vec::new(),
            packing: None,
            rotated: false,
        }
    }

    /// The fd is given up; the next write opens the path anew.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Nobody writes here and nothing waits to be written.
    pub(super) fn is_unused(&self) -> bool {
        self.streams.is_empty() && self.stuck.is_none() && self.packing.is_none()
    }

    /// Bytes read but not yet written, which nobody will write when we are gone.
    pub(super) fn stuck_bytes(&self) -> u64 {
        self.stuck.as_ref().filter(|slot| !slot.outlives_us()).map_or(0, |slot| slot.left())
    }

    /// Bytes read but not yet written are left for a successor.
    pub(super) fn has_legacy(&self) -> bool {
        self.stuck.as_ref().is_some_and(|slot| slot.outlives_us())
    }

    /// Gives up the part of a line at the end of the chunk that is stuck; how many bytes that were.
    pub(super) fn trim_stuck(&mut self) -> u64 {
        self.stuck.as_mut().map_or(0, |slot| slot.trim_to_line().1)
    }

    /// The index says this of the place that the log has reached; when it can be opened, if not now.
    pub(super) fn mark(&mut self, pass: &Pass<'_>, record: Record) {
        if !self.target.indexed {
            return;
        }
        if self.marks.len() < WAITING_MARKS {
            self.marks.reserve_exact(1);
            self.marks.push(record);
        }
        if self.trouble.is_none()
            && let Ok(place) = self.end(pass)
        {
            self.mark_all(place.offset);
        }
    }

    fn mark_all(&mut self, offset: u64) {
        if let Some(ledger) = self.open.as_mut().and_then(|open| open.ledger.as_mut()) {
            // There is hardly ever more than one, and room for more would stay with each of many files.
            for mark in std::mem::take(&mut self.marks) {
                ledger.mark(&Record { offset, ..mark });
            }
        }
    }

    /// Keeps the slot with what could not be written.
    pub(super) fn keep(&mut self, slot: Slot) {
        self.stuck = Some(Box::new(slot));
    }

    /// The file that stands at the path now, opened if need be, and its end.
    pub(super) fn end(&mut self, pass: &Pass<'_>) -> Result<Place> {
        let LogTarget { path, mode, rotate, indexed, .. } = &*self.target;
        let examined = |error| OsError::at("examine", path, error);
        if let Some(open) = &mut self.open {
            let stat = open.handle.stat().map_err(examined)?;
            let mut here = stat.names > 0;
            if here && pass.now.saturating_duration_since(open.checked) >= TRUST_PATH {
                open.checked = pass.now;
                here = pass.disk.identity(path).ok().flatten() == Some(stat.identity);
            }
            if here {
                return Ok(Place { file: stat.identity, offset: stat.size });
            }
            self.open = None;
        }
        if self.packing.is_none() && rotate.is_some() {
            pass.disk.remove(&rotate::packed(path))?;
        }
        rotate::heal(pass.disk, path, rotate.map_or(1, |rule| rule.keep), *mode)?;
        let handle = pass.disk.open(path, *mode)?;
        let stat = handle.stat().map_err(examined)?;
        let most = rotate.map_or(u64::MAX, |rule| rule.size / 2);
        let opened = |()| Ledger::open(pass.disk, path, (*mode, most), (stat.identity, stat.size));
        let ledger = indexed.then_some(()).and_then(opened);
        let began = ledger.as_ref().map_or_else(ledger::now_ns, |ledger| ledger.began);
        let began = Cell::new(began);
        self.open = Some(Box::new(Open { handle, checked: pass.now, ledger, began }));
        if !self.marks.is_empty() {
            self.mark_all(stat.size);
        }
        Ok(Place { file: stat.identity, offset: stat.size })
    }

    /// Writes all of `slot`, which was filled for the place that [`LogFile::end`] gave just before. What is left in it
    /// afterwards is less than a character, and waits for the rest of that; nothing is when these are the `last` bytes.
    pub(super) fn write(&mut self, pass: &mut Pass<'_>, slot: &mut Slot, last: bool) -> Result<()> {
        while !slot.is_done() {
            if self.open.is_none() {
                self.find_place(pass, slot)?;
            }
            if !self.stage(slot, last)? {
                return Ok(());
            }
            match self.cut(pass.now, slot)? {
                Cut::Write(length) => self.put(pass, slot, length)?,
                Cut::WriteAndRotate(length) => {
                    self.put(pass, slot, length)?;
                    self.rotate(pass, slot, slot.place().offset)?;
                }
                Cut::RotateAt(start) => self.rotate(pass, slot, start)?,
            }
        }
        Ok(())
    }

    /// False: what the slot holds has to wait.
    fn stage(&self, slot: &mut Slot, last: bool) -> Result<bool> {
        if self.target.format == Format::Raw && !slot.pending().is_empty() {
            return Ok(true);
        }
        let Some(open) = self.open.as_ref().filter(|_| slot.pending().is_empty()) else { return Ok(true) };
        let mut before = [b'\n'];
        if let Some(at) = slot.place().offset.checked_sub(1) {
            open.handle
                .read_at(&mut before, at)
                .map_err(|error| OsError::at("read", &self.target.path, error))?;
        }
        Ok(slot.stage(before != *b"\n", ledger::now_ns(), last))
    }

    fn cut(&self, now: Instant, slot: &Slot) -> Result<Cut> {
        let whole = Cut::Write(slot.pending().len());
        let (Some(open), Some(limit)) = (&self.open, self.limit(now)) else { return Ok(whole) };
        let offset = slot.place().offset;
        let aged =
            if self.is_old(open) { rotate::cut_of_old(offset, open.handle.as_ref()) } else { Ok(None) };
        let cut = aged.and_then(|aged| match aged {
            Some(cut) => Ok(cut),
            None => rotate::cut(slot.pending(), offset, limit, open.handle.as_ref()),
        });
        cut.map_err(|error| OsError::at("read", &self.target.path, error))
    }

    fn is_old(&self, open: &Open) -> bool {
        let age = self.target.rotate.and_then(|rule| rule.age);
        age.is_some_and(|age| past(&open.began, ledger::now_ns()) >= age)
    }

    /// Tries again after trouble: first the chunk that is stuck, or else only whether the file can be opened.
    /// On success gives back the slot.
    pub(super) fn retry(&mut self, pass: &mut Pass<'_>) -> Result<Option<Slot>> {
        let Some(mut slot) = self.stuck.take() else { return self.end(pass).map(|_| None) };
        let result = self.find_place(pass, &mut slot).and_then(|()| self.write(pass, &mut slot, true));
        match result {
            Ok(()) => Ok(Some(*slot)),
            Err(fault) => {
                self.stuck = Some(slot);
                Err(fault)
            }
        }
    }

    /// Notes that the file cannot be written. True: that is news.
    pub(super) fn note_trouble(&mut self, now: Instant) -> bool {
        let since = self.trouble.map_or(now, |trouble| trouble.since);
        self.trouble.replace(Trouble { since, retry_at: now + RETRY }).is_none()
    }

    /// A chunk goes to the end of what stands at the path now. One that a predecessor may have written in part
    /// goes to its recorded offset, unless the file was rotated, replaced or truncated since.
    fn find_place(&mut self, pass: &Pass<'_>, slot: &mut Slot) -> Result<()> {
        let (end, recorded) = (self.end(pass)?, slot.place());
        let repeat = slot.is_inherited() && end.file == recorded.file && end.offset >= recorded.offset;
        if !repeat {
            slot.move_to(end);
        }
        Ok(())
    }

    fn put(&mut self, pass: &Pass<'_>, slot: &mut Slot, length: usize) -> Result<()> {
        self.need_room(pass, slot.place().offset + length as u64 + self.index_bytes());
        let Some(open) = &mut self.open else { return Ok(()) };
        if let Some(ledger) = &mut open.ledger {
            ledger.output(slot.place().offset, slot.origin(), form_of(self.target.format), ledger::now_ns());
        }
        let failed = |error: io::Error| OsError::at("write", &self.target.path, error);
        let mut left = length;
        while left > 0 {
            match open.handle.write_at(&slot.pending()[..left], slot.place().offset) {
                Ok(0) => return Err(failed(io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    slot.done(written);
                    left -= written;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    /// The log is about to hold so much: a compression for which that leaves no room is given up.
    fn need_room(&self, pass: &Pass<'_>, bytes: u64) {
        if let Some(packing) = self.packing.as_ref().filter(|packing| bytes > packing.room) {
            packing.cancel(pass.disk);
        }
    }

    fn limit(&self, now: Instant) -> Option<u64> {
        let paused = self.rotation_paused_until.is_some_and(|until| now < until);
        self.target.rotate.filter(|_| !paused).map(|rule| rule.size.saturating_sub(self.index_bytes()).max(1))
    }

    /// What the index takes of the file's share of the disk, with the record that the next write may add.
    fn index_bytes(&self) -> u64 {
        self.open.as_ref().and_then(|open| open.ledger.as_ref()).map_or(0, Ledger::next_size)
    }

    /// Rotates before the pending bytes of `slot`; what stands from `start` on moves along. Afterwards no file is open.
    fn rotate(&mut self, pass: &mut Pass<'_>, slot: &Slot, start: u64) -> Result<()> {
        let (Some(open), Some(rule)) = (self.open.take(), self.target.rotate) else { return Ok(()) };
        let size = slot.place().offset;
        let index = open.ledger.as_ref().map_or(0, Ledger::next_size);
        // The part of a line that moves along is there twice for a moment.
        self.need_room(pass, size + (size - start.min(size)) + index);
        if let Some(packing) = &mut self.packing {
            packing.room = packing.room.saturating_sub(start + index);
        }
        let path = &self.target.path;
        if slot.is_inherited() {
            // What the predecessor wrote of this chunk is written again, into the new file: it must not stay here.
            open.handle.set_len(size).map_err(|error| OsError::at("shorten", path, error))?;
        }
        let rotated = rotate::rotate(
            pass.disk,
            open.handle.as_ref(),
            path,
            (start, size),
            (rule.keep, self.target.mode),
        );
        match rotated {
            Ok(()) => {
                self.rotation_paused_until = None;
                self.rotated = true;
                let to = (rule.keep > 0).then(|| rotate::numbered(path, 1));
                pass.news.push(Report::Rotated { path: path.to_path_buf(), to });
            }
            Err(fault) if fault.errno == Errno::NOSPC || fault.errno == Errno::DQUOT => return Err(fault),
            Err(fault) => {
                if self.rotation_paused_until.replace(pass.now + ROTATE_AGAIN).is_none() {
                    pass.news.push(Report::Trouble { fault, next: Next::Grows { again: ROTATE_AGAIN } });
                }
            }
        }
        Ok(())
    }
}

fn form_of(format: Format) -> Form {
    match format {
        Format::Raw => Form::Raw,
        Format::Timestamp => Form::Timestamp,
        Format::Json => Form::Json,
    }
}

/// How old a file is. A clock that was put back to before it was begun would keep it from growing old for as long as it was put back:
/// then its age counts from now on.
fn past(began: &Cell<i64>, now: i64) -> Duration {
    if now < began.get() {
        began.set(now);
    }
    Duration::from_nanos(u64::try_from(now.saturating_sub(began.get())).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scorecard R31. Shown to fail: with the beginning left as it was, no file grows old for ten years.
    #[test]
    fn a_file_grows_old_by_the_clock_as_it_is_whatever_it_is_set_to() {
        let second = 1_000_000_000;
        let (now, years) = (1_780_000_000 * second, 10 * 365 * 86_400 * second);
        let began = Cell::new(now);
        let seconds = |at: i64| past(&began, at).as_secs();
        assert_eq!(seconds(now + 5 * second), 5);
        assert_eq!(seconds(now - years), 0);
        assert_eq!(seconds(now - years + 7 * second), 7);
        assert_eq!(seconds(0), 0);
        assert_eq!(seconds(3 * second), 3);
        assert!(seconds(now) > 86_400, "forward again: old at once, and begun anew by the rotation");
    }
}
