//! Where things stand in the journal's file.
//!
//! | at | what |
//! |---|---|
//! | 0 | the magic number |
//! | 8 | the version of the layout |
//! | 16 | the active half: 0 or 1 |
//! | 24, 32 | bytes in use of each half |
//! | 40 | the size of a half |
//! | 48 | when a manager supervised last, as far as it has said so |
//! | 56 | when relume was told to leave its services running; 0: it was not |
//! | 64 | the boot id, 36 characters |
//! | 104, 112 | how often a manager has come back, and has replaced itself, if more often than the checkpoint says |
//! | 4096 | the first half, then the second |
//!
//! In a half: notes, each as its length (four bytes, little-endian) and its bytes.

use std::sync::atomic::Ordering;

use relume_os::mapping::Mapping;
use relume_os::{Errno, OsError};

/// Bytes before the first half: one page.
pub(super) const HEADER: usize = 4096;

/// `relume_j` in ASCII.
const MAGIC: u64 = u64::from_le_bytes(*b"relume_j");

/// Readers of another version leave the file alone.
pub(super) const VERSION: u64 = 1;

const AT_MAGIC: usize = 0;
pub(super) const AT_VERSION: usize = 8;
const AT_ACTIVE: usize = 16;
const AT_USED: usize = 24;
const AT_HALF: usize = 40;
const AT_ALIVE: usize = 48;
const AT_LEFT: usize = 56;
const AT_BOOT: usize = 64;
const AT_RECOVERIES: usize = 104;
const AT_RESPAWNS: usize = 112;

/// Versions are counted up from 1: a number beyond these is damage and no version.
const MOST_VERSIONS: u64 = 10_000;

/// The version of a journal of this boot that is not ours.
pub(super) fn other_version(map: &Mapping, boot: &str) -> Option<u64> {
    let word = |at| map.word(at).load(Ordering::Acquire);
    let ours = word(AT_MAGIC) == MAGIC && map.read(AT_BOOT, boot.len()) == boot.as_bytes();
    Some(word(AT_VERSION))
        .filter(|version| ours && *version != VERSION && (1..MOST_VERSIONS).contains(version))
}

/// The layout of one file.
#[derive(Debug, Default)]
pub(super) struct Layout {
    half: usize,
    pub(super) active: usize,
    pub(super) used: usize,
    pub(super) began: u64,
    pub(super) recoveries: u64,
    pub(super) respawns: u64,
}

impl Layout {
    /// That of a file of this boot; none for any other.
    pub(super) fn read(map: &Mapping, boot: &str) -> Option<Self> {
        let word = |at| map.word(at).load(Ordering::Acquire);
        if word(AT_MAGIC) != MAGIC || word(AT_VERSION) != VERSION {
            return None;
        }
        if map.read(AT_BOOT, boot.len()) != boot.as_bytes() {
            return None;
        }
        let half = usize::try_from(word(AT_HALF)).ok()?;
        let active = usize::try_from(word(AT_ACTIVE)).ok().filter(|active| *active < 2)?;
        let used = usize::try_from(word(AT_USED + 8 * active)).ok().filter(|used| *used <= half)?;
        let fits = HEADER.checked_add(half.checked_mul(2)?)? <= map.len();
        fits.then_some(Self { half, active, used, ..Self::default() })
    }

    /// Makes the file an empty journal of this boot.
    pub(super) fn fresh(map: &mut Mapping, boot: &str) -> Self {
        let half = (map.len() - HEADER) / 2 / 8 * 8;
        // Not a journal until all else is so.
        map.publish(AT_MAGIC, 0);
        map.publish(AT_VERSION, VERSION);
        map.publish(AT_ACTIVE, 0);
        map.publish(AT_USED, 0);
        map.publish(AT_USED + 8, 0);
        map.publish(AT_HALF, half as u64);
        map.publish(AT_ALIVE, 0);
        map.publish(AT_LEFT, 0);
        map.publish(AT_RECOVERIES, 0);
        map.publish(AT_RESPAWNS, 0);
        map.write(AT_BOOT, boot.as_bytes());
        map.publish(AT_MAGIC, MAGIC);
        Self { half, ..Self::default() }
    }

    /// A manager supervises at this moment.
    pub(super) fn alive(map: &Mapping, now: u64) {
        map.word(AT_ALIVE).store(now, Ordering::Release);
    }

    /// relume leaves its services running at this moment; 0: it does not.
    pub(super) fn left(map: &Mapping, now: u64) {
        map.word(AT_LEFT).store(now, Ordering::Release);
    }

    /// When a manager was seen alive last, and when relume was told to leave; 0: never.
    pub(super) fn last_seen(map: &Mapping) -> (u64, u64) {
        let word = |at| map.word(at).load(Ordering::Acquire);
        (word(AT_ALIVE), word(AT_LEFT))
    }

    /// A manager has come up, which counts as this says.
    pub(super) fn came_up(&self, map: &Mapping) {
        map.word(AT_RECOVERIES).store(self.recoveries, Ordering::Release);
        map.word(AT_RESPAWNS).store(self.respawns, Ordering::Release);
    }

    /// How often a manager has come back, and has replaced itself; 0: the checkpoint knows.
    pub(super) fn counts(map: &Mapping) -> (u64, u64) {
        let word = |at| map.word(at).load(Ordering::Acquire);
        (word(AT_RECOVERIES), word(AT_RESPAWNS))
    }

    pub(super) fn half(&self) -> usize {
        self.half
    }

    /// Adds a note to the active half; false when it has no room.
    pub(super) fn append(&mut self, map: &mut Mapping, note: &[u8]) -> bool {
        let Some(used) = self.put(map, self.active, self.used, note) else { return false };
        self.used = used;
        map.publish(AT_USED + 8 * self.active, used as u64);
        true
    }

    /// Begins the other half with a note, and makes it the active one.
    ///
    /// # Errors
    /// When the note does not fit; then all is as it was.
    pub(super) fn begin_other_half(&mut self, map: &mut Mapping, note: &[u8]) -> relume_os::Result<()> {
        let other = 1 - self.active;
        let Some(used) = self.put(map, other, 0, note) else {
            return Err(OsError::new("begin the other half of the journal", Errno::NOSPC));
        };
        map.publish(AT_USED + 8 * other, used as u64);
        map.publish(AT_ACTIVE, other as u64);
        (self.active, self.used) = (other, used);
        Ok(())
    }

    pub(super) fn put(&self, map: &mut Mapping, half: usize, used: usize, note: &[u8]) -> Option<usize> {
        let length = u32::try_from(note.len()).ok()?;
        let end = used.checked_add(4)?.checked_add(note.len())?;
        if end > self.half {
            return None;
        }
        let at = HEADER + half * self.half + used;
        (map.write(at, &length.to_le_bytes()) && map.write(at + 4, note)).then_some(end)
    }

    /// The notes of the active half.
    pub(super) fn active<'a>(&self, map: &'a Mapping) -> &'a [u8] {
        map.read(HEADER + self.active * self.half, self.used)
    }

    /// What the half before the active one held when that was begun. Part of it may have been written over.
    pub(super) fn earlier<'a>(&self, map: &'a Mapping) -> &'a [u8] {
        let other = 1 - self.active;
        let used = map.word(AT_USED + 8 * other).load(Ordering::Acquire);
        let used = usize::try_from(used).unwrap_or(usize::MAX).min(self.half);
        map.read(HEADER + other * self.half, used)
    }
}

/// The notes of a half, one after the other.
pub(super) fn notes(half: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut left = half;
    std::iter::from_fn(move || {
        let (length, rest) = left.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (note, rest) = rest.split_at_checked(length)?;
        left = rest;
        Some(note)
    })
}
