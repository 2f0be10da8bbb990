//! Keeps the index beside one open log file ([`crate::output_index`]). A help, and never a condition: whatever fails here
//! fails in silence, and the log goes on without times.

use std::path::Path;
use std::time::Duration;

use crate::output_index::{self, Channel, Form, HEADER, Header, Kind, RECORD, Record};

use super::disk::{Disk, Handle, Identity};
use super::format::Origin;

/// Times of neighbouring lines that are closer than this are one time: 100 records a second in a flood.
const APART: Duration = Duration::from_millis(10);

/// The same where little was written since, so that the index of small lines stays small beside its log.
const APART_IF_LITTLE: Duration = Duration::from_millis(100);

/// What counts as little: ten records.
const LITTLE: u64 = 10 * RECORD as u64;

/// The wall clock, in nanoseconds since 1970.
pub(super) fn now_ns() -> i64 {
    i64::try_from(relume_os::clock::realtime().as_nanos()).unwrap_or(i64::MAX)
}

/// See the module's description.
pub(super) struct Ledger {
    handle: Box<dyn Handle>,
    /// Where the next record goes.
    end: u64,
    /// It does not grow beyond this: what comes then has the time of what came before.
    most: u64,
    last: Option<Record>,
    /// When the log was begun, as far as is known.
    pub(super) began: i64,
}

impl Ledger {
    /// Opens the index of the log at `path`, which is this file of this size. The index of another file is begun anew; so
    /// is one that says more than the log has, since the numbers of files that were removed are given to new ones.
    pub(super) fn open(
        disk: &dyn Disk,
        path: &Path,
        (mode, most): (u32, u64),
        (log, size): (Identity, u64),
    ) -> Option<Self> {
        if most < (HEADER + RECORD) as u64 {
            return None;
        }
        let handle = disk.open(&output_index::path_of(path, 0), mode).ok()?;
        let length = handle.stat().ok()?.size;
        if let Some((began, end)) = known(handle.as_ref(), length, (log, size)) {
            return Some(Self { handle, end, most, last: None, began });
        }
        handle.set_len(0).ok()?;
        let head = Header { log: (log.device, log.inode), began: now_ns() };
        let whole = handle.write_at(&head.encode(), 0).ok()? == HEADER;
        whole.then_some(Self { handle, end: HEADER as u64, most, last: None, began: head.began })
    }

    /// Output of this origin is about to be written at `offset`.
    pub(super) fn output(&mut self, offset: u64, origin: Origin, form: Form, now_ns: i64) {
        let channel = if origin.is_error { Channel::Err } else { Channel::Out };
        let record = Record { offset, at: now_ns, run: origin.run, kind: Kind::Output(channel, form) };
        if self.last.is_some_and(|last| is_near(&last, &record)) {
            return;
        }
        if self.append(&record) {
            self.last = Some(record);
        }
    }

    /// Something has happened to the run.
    pub(super) fn mark(&mut self, record: &Record) {
        self.append(record);
        // The bytes after a mark have a time of their own, or they would seem to be older than the mark.
        self.last = None;
    }

    /// Bytes that it has after the next record.
    pub(super) fn next_size(&self) -> u64 {
        (self.end + RECORD as u64).min(self.most.max(self.end))
    }

    fn append(&mut self, record: &Record) -> bool {
        if self.end + RECORD as u64 > self.most {
            return false;
        }
        let whole = self.handle.write_at(&record.encode(), self.end).is_ok_and(|n| n == RECORD);
        if whole {
            self.end += RECORD as u64;
        }
        whole
    }
}

/// When the log was begun and where the next record goes, if this is its index.
fn known(handle: &dyn Handle, length: u64, (log, size): (Identity, u64)) -> Option<(i64, u64)> {
    let mut head = [0; HEADER];
    let read = handle.read_at(&mut head, 0).ok()?;
    let head = Header::decode(&head[..read]).filter(|head| head.log == (log.device, log.inode))?;
    let end = length - (length - HEADER as u64) % RECORD as u64;
    if end > HEADER as u64 {
        let mut last = [0; RECORD];
        handle.read_at(&mut last, end - RECORD as u64).ok()?;
        let last = Record::decode(&last)?;
        if last.offset > size || (size == 0 && last.is_output()) {
            return None;
        }
    }
    Some((head.began, end))
}

/// Whether a record says nothing new after this one.
fn is_near(last: &Record, next: &Record) -> bool {
    let same = last.kind == next.kind && last.run == next.run && next.offset >= last.offset;
    let little = next.offset.saturating_sub(last.offset) < LITTLE;
    let apart = if little { APART_IF_LITTLE } else { APART };
    // A wall clock that was set back is news.
    let passed = next.at.checked_sub(last.at).and_then(|passed| u64::try_from(passed).ok());
    same && passed.is_some_and(|passed| u128::from(passed) < apart.as_nanos())
}
