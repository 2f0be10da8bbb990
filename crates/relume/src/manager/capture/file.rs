//! One log file: where the next byte goes, and what to do when somebody else moved, replaced, truncated or deleted it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use relume_os::{Errno, OsError, Result};

use super::disk::{Disk, Handle};
use super::report::{Next, Report};
use super::rotate::{self, Cut};
use super::slot::{Place, Slot};
use super::{LogTarget, RETRY, StreamId};

/// How old the knowledge may be that the path still leads to the open file. A deleted file is seen at once; one that
/// was renamed still takes what is written for so long, which is what an outside logrotate counts on.
const TRUST_PATH: Duration = Duration::from_millis(500);

/// Wait after a rotation that failed for another reason than a full disk.
const ROTATE_AGAIN: Duration = Duration::from_secs(10);

/// An open file.
struct Open {
    handle: Box<dyn Handle>,
    checked: Instant,
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
    pub(super) streams: Vec<StreamId>,
    pub(super) trouble: Option<Trouble>,
    /// The chunk that could not be written.
    stuck: Option<Slot>,
    open: Option<Open>,
    rotation_paused_until: Option<Instant>,
}

impl LogFile {
    pub(super) fn new(target: Arc<LogTarget>) -> Self {
        let (streams, trouble, stuck, open) = (Vec::new(), None, None, None);
        Self { target, streams, trouble, stuck, open, rotation_paused_until: None }
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
        self.streams.is_empty() && self.stuck.is_none()
    }

    /// Bytes read but not yet written.
    pub(super) fn stuck_bytes(&self) -> u64 {
        self.stuck.as_ref().map_or(0, |slot| slot.pending().len() as u64)
    }

    /// Keeps the slot with what could not be written.
    pub(super) fn keep(&mut self, slot: Slot) {
        self.stuck = Some(slot);
    }

    /// The file that stands at the path now, opened if need be, and its end.
    pub(super) fn end(&mut self, pass: &Pass<'_>) -> Result<Place> {
        let LogTarget { path, mode, rotate } = &*self.target;
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
        rotate::heal(pass.disk, path, rotate.map_or(1, |rule| rule.keep), *mode)?;
        let handle = pass.disk.open(path, *mode)?;
        let stat = handle.stat().map_err(examined)?;
        self.open = Some(Open { handle, checked: pass.now });
        Ok(Place { file: stat.identity, offset: stat.size })
    }

    /// Writes all of `slot`, which was filled for the place that [`LogFile::end`] gave just before.
    pub(super) fn write(&mut self, pass: &mut Pass<'_>, slot: &mut Slot) -> Result<()> {
        while !slot.pending().is_empty() {
            if self.open.is_none() {
                self.find_place(pass, slot)?;
            }
            let Some(open) = &self.open else { continue };
            let offset = slot.place().offset;
            let cut = match self.limit(pass.now) {
                None => Cut::Write(slot.pending().len()),
                Some(limit) => rotate::cut(slot.pending(), offset, limit, open.handle.as_ref())
                    .map_err(|error| OsError::at("read", &self.target.path, error))?,
            };
            match cut {
                Cut::Write(length) => self.put(slot, length)?,
                Cut::WriteAndRotate(length) => {
                    self.put(slot, length)?;
                    self.rotate(pass, slot, slot.place().offset)?;
                }
                Cut::RotateAt(start) => self.rotate(pass, slot, start)?,
            }
        }
        Ok(())
    }

    /// Tries again after trouble: first the chunk that is stuck, or else only whether the file can be opened.
    /// On success gives back the slot.
    pub(super) fn retry(&mut self, pass: &mut Pass<'_>) -> Result<Option<Slot>> {
        let Some(mut slot) = self.stuck.take() else { return self.end(pass).map(|_| None) };
        let result = self.find_place(pass, &mut slot).and_then(|()| self.write(pass, &mut slot));
        match result {
            Ok(()) => Ok(Some(slot)),
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

    fn put(&self, slot: &mut Slot, length: usize) -> Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
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

    fn limit(&self, now: Instant) -> Option<u64> {
        let paused = self.rotation_paused_until.is_some_and(|until| now < until);
        self.target.rotate.filter(|_| !paused).map(|rule| rule.size.max(1))
    }

    /// Rotates before the pending bytes of `slot`; what stands from `start` on moves along. Afterwards no file is open.
    fn rotate(&mut self, pass: &mut Pass<'_>, slot: &Slot, start: u64) -> Result<()> {
        let (Some(open), Some(rule)) = (self.open.take(), self.target.rotate) else { return Ok(()) };
        let (path, size) = (&self.target.path, slot.place().offset);
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
                let to = (rule.keep > 0).then(|| rotate::numbered(path, 1));
                pass.news.push(Report::Rotated { path: path.clone(), to });
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
