//! `when_full: drop`: a service whose log cannot be written goes on, and what it says meanwhile goes away.
//!
//! As long as its pipe is less than half full nothing is dropped. Then all that it holds is, which is
//! counted and told when the file can be written again, in relume's own log and as a mark in the index. What goes are whole
//! lines: a line of which the beginning was not yet written goes with its beginning, and one whose beginning was dropped
//! goes to its end. Only a line of which a part is in the file already is cut.

use std::time::Duration;

use super::report::Report;
use super::stream::{FileKey, Flow};
use super::thread::Worker;
use super::{StreamId, WhenFull};
use crate::output_index::Kind;

/// Time between two looks at a pipe whose output may be dropped: a large one holds 1 MiB, so that a service below 25 MB/s
/// never waits; where there is no room for large ones, one below 1.6 MB/s.
pub(super) const DROP_TICK: Duration = Duration::from_millis(20);

/// What was dropped of one stream.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Dropped {
    lines: u64,
    bytes: u64,
    /// The last byte that was dropped was within a line: the rest of that goes too.
    within_line: bool,
}

impl Dropped {
    fn count(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.lines += memchr::memchr_iter(b'\n', bytes).count() as u64;
        self.within_line = bytes.last().is_some_and(|byte| *byte != b'\n');
    }
}

impl Worker {
    /// Looks at the pipes of files in trouble whose services shall not wait.
    pub(super) fn drop_output(&mut self) {
        if self.drop_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.drop_at = None;
        for key in self.troubled.clone() {
            let Some(file) = self.files.get(&key) else { continue };
            if file.target.when_full == WhenFull::Drop && file.trouble.is_some() {
                for id in file.streams.clone() {
                    self.drop_of(key, id);
                }
                self.drop_at = Some(self.now + DROP_TICK);
            }
        }
    }

    fn drop_of(&mut self, key: FileKey, id: StreamId) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let waiting = pipe.waiting();
        pipe.saw(waiting);
        if pipe.flow != Flow::Held || !pipe.is_busy_with(waiting) {
            return;
        }
        pipe.grow();
        let is_watched = pipe.is_watched();
        if pipe.dropped.is_none() {
            let trimmed = self.files.get_mut(&key).map_or(0, |file| file.trim_stuck());
            pipe.dropped = Some(Box::new(Dropped { bytes: trimmed, ..Dropped::default() }));
        }
        let mut waste = vec![0; waiting.min(super::slot::SLOT_BYTES)];
        let mut left = waiting;
        while left > 0 {
            let wanted = left.min(waste.len());
            let got = pipe.read(&mut waste[..wanted]);
            if got == 0 {
                break;
            }
            left -= got.min(left);
            pipe.bytes += got as u64;
            if let Some(last) = &mut pipe.last_bytes {
                *last -= (got as u64).min(*last);
            }
            if let Some(dropped) = &mut pipe.dropped {
                dropped.count(&waste[..got]);
            }
        }
        self.watch_width(is_watched);
    }

    /// What was just read begins with the rest of a line that was dropped: how much of it goes too.
    pub(super) fn rest_of_dropped(dropped: &mut Option<Box<Dropped>>, bytes: &[u8]) -> usize {
        let Some(state) = dropped.as_mut().filter(|dropped| dropped.within_line) else { return 0 };
        let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
        state.count(&bytes[..end]);
        end
    }

    /// Tells what was dropped, once it is over.
    pub(super) fn tell_dropped(&mut self, id: StreamId, at_end: bool) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let Some(dropped) = pipe.dropped.take_if(|dropped| at_end || !dropped.within_line) else { return };
        // The last line may have had no end.
        let lines = dropped.lines + u64::from(dropped.within_line);
        let (service, key) = (pipe.who.clone(), pipe.file);
        self.mark_now(id, Kind::Dropped(u32::try_from(lines).unwrap_or(u32::MAX)));
        let Some(file) = self.files.get(&key) else { return };
        let path = file.target.path.clone();
        self.news.push(Report::Dropped {
            service: service.into(),
            path: path.to_path_buf(),
            lines,
            bytes: dropped.bytes,
        });
    }
}
