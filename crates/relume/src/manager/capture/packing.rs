//! Which old file is compressed when, and how the result takes its place.
//!
//! One at a time of each log, the youngest first. The result needs room while the source is still there, and the files of a
//! log never take more than limit × (keep + 1): so it is begun only where there is that room, and given up when the log needs
//! it itself. Under a flood nothing is compressed, then; the next rotation after it finds what was left out.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Compress;
use super::compress::{Done, Job};
use super::disk::{Disk, Identity};
use super::rotate::{self, old_file};
use super::stream::FileKey;
use super::thread::Worker;
use crate::output_index;

/// A compression that is under way.
#[derive(Debug)]
pub(super) struct Packing {
    cancelled: Arc<AtomicBool>,
    result: PathBuf,
    /// The most that the log itself may hold meanwhile.
    pub(super) room: u64,
}

impl Packing {
    /// It is given up, and what it has made is gone.
    pub(super) fn cancel(&self, disk: &dyn Disk) {
        if self.cancelled.swap(true, Ordering::AcqRel) {
            return;
        }
        // The thread may still write a block into the file that has no name any more.
        let _gone = disk.remove(&self.result);
    }
}

impl Worker {
    /// A log was rotated, or a compression of it has ended: begins the next, if there is one.
    pub(super) fn pack(&mut self, key: FileKey) {
        let Some(file) = self.files.get_mut(&key) else { return };
        let Some(rule) = file.target.rotate.filter(|rule| rule.compress != Compress::Off) else { return };
        if file.packing.is_some() {
            return;
        }
        let path = &file.target.path;
        let Some((source, identity)) = next(self.disk.as_ref(), path, rule.keep) else { return };
        let old: u64 = (1..=rule.keep)
            .filter_map(|place| old_file(self.disk.as_ref(), path, place).ok().flatten())
            .map(|old| self.disk.size(&old))
            .sum();
        let indexes: u64 =
            (0..=rule.keep).map(|place| self.disk.size(&output_index::path_of(path, place))).sum();
        let all = rule.size.saturating_mul(u64::from(rule.keep) + 1);
        let taken = old + indexes + self.disk.size(&source);
        let Some(room) = all.checked_sub(taken).filter(|room| *room > self.disk.size(path)) else { return };
        let (cancelled, result) = (Arc::new(AtomicBool::new(false)), rotate::packed(path));
        let (how, mode) = (rule.compress, file.target.mode);
        let job = Job {
            key,
            source,
            identity,
            result: result.clone(),
            how,
            mode,
            cancelled: Arc::clone(&cancelled),
        };
        if self.compressor.give(job, &self.inbox, self.me) {
            file.packing = Some(Box::new(Packing { cancelled, result, room }));
        }
    }

    /// A compression has ended: its result goes where the old file stands now.
    pub(super) fn packed(&mut self, done: &Done) {
        let Some(file) = self.files.get_mut(&done.key) else {
            let _orphan = self.disk.remove(&done.result);
            return;
        };
        let cancelled = file.packing.take().is_none_or(|packing| packing.cancelled.load(Ordering::Acquire));
        let (path, keep) = (file.target.path.clone(), file.target.rotate.map_or(0, |rule| rule.keep));
        if !done.complete || cancelled {
            return;
        }
        let stands = |place: &u32| {
            let here = self.disk.identity(&rotate::numbered(&path, *place));
            here.ok().flatten() == Some(done.identity)
        };
        match (1..=keep).find(stands) {
            Some(place) => {
                let old = rotate::numbered(&path, place);
                let new = rotate::with_ending(&old, done.how);
                // Both there: whoever looks next removes the larger one.
                let moved = self.disk.rename(&done.result, &new).and_then(|()| self.disk.remove(&old));
                if moved.is_ok() {
                    self.pack(done.key);
                }
            }
            None => drop(self.disk.remove(&done.result)),
        }
    }
}

/// The youngest old file that is not compressed.
fn next(disk: &dyn Disk, path: &Path, keep: u32) -> Option<(PathBuf, Identity)> {
    (1..=keep).find_map(|place| {
        let plain = rotate::numbered(path, place);
        let there = old_file(disk, path, place).ok().flatten()?;
        if there != plain {
            return None;
        }
        let identity = disk.identity(&plain).ok().flatten()?;
        Some((plain, identity))
    })
}
