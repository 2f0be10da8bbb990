//! The place of bytes that have left a pipe and are not yet in a file.
//!
//! Between `read` and `pwrite` a chunk exists nowhere but in this program. A slot describes it completely: whose it
//! is, which file at which offset it belongs to, and how far it got. With its memory mapped from the journal, a
//! successor of a killed manager finishes the write. Doing it twice is harmless, because the offset is recorded:
//! `O_APPEND` would repeat the chunk, and `splice` could not cut it at a line end.
//!
//! One word is the commit point of each change. Everything it refers to is written before it: descriptions into the
//! one of two places that is not in force. So a kill between any two instructions finds either the old or the new.
//!
//! A kill after `read` and before `filled` is told from one before `read` by the sentinel: 16 random bytes at the
//! start of the buffer which `read` overwrites. A chunk of n < 16 bytes equals its part of the sentinel by chance once
//! in 256ⁿ; asking the pipe instead would not help, since writers may have added to it.
//!
//! It must never be read by another thread while its owner uses it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use super::StreamId;
use super::disk::Identity;

/// The most bytes one read moves. 64 KiB is a full pipe of the default size; larger buffers were measured to win nothing.
pub(super) const SLOT_BYTES: usize = 64 * 1024;

/// Length of the sentinel: long enough that a full chunk never equals it by chance.
const SENTINEL: usize = 16;

/// Words in the head of a slot: commit word, sentinel, two descriptions.
pub(super) const SLOT_WORDS: usize = 3 + 2 * DESCRIPTION;

/// Words of one description: stream, device, inode, offset, from, to.
const DESCRIPTION: usize = 6;

const IDLE: u64 = 0;
const READING: u64 = 1;
const FILLED: u64 = 2;

/// Where a slot lives: on the heap, or in memory that outlives the process.
pub(super) trait SlotMemory: Send {
    /// The head, at least [`SLOT_WORDS`] long, zero when new.
    fn words(&self) -> &[AtomicU64];
    /// The buffer, [`SLOT_BYTES`] long.
    fn bytes(&self) -> &[u8];
    /// The same, to be written.
    fn bytes_mut(&mut self) -> &mut [u8];
}

/// A slot on the heap: exactly-once while the process lives.
struct HeapMemory {
    words: [AtomicU64; SLOT_WORDS],
    bytes: Box<[u8]>,
}

impl SlotMemory for HeapMemory {
    fn words(&self) -> &[AtomicU64] {
        &self.words
    }
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// Which file, and where in it, the next byte of a slot belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: Identity,
    pub(super) offset: u64,
}

/// See the module's description.
pub(super) struct Slot {
    memory: Box<dyn SlotMemory>,
    /// The pending bytes were read by a predecessor, who may have written some of them.
    inherited: bool,
}

impl Slot {
    /// An empty slot on the heap.
    pub(super) fn on_heap() -> Self {
        let words = std::array::from_fn(|_| AtomicU64::new(0));
        Self::over(Box::new(HeapMemory { words, bytes: vec![0; SLOT_BYTES].into_boxed_slice() }))
    }

    /// A slot over memory that may hold the chunk of a predecessor: see [`Slot::recover`].
    pub(super) fn over(memory: Box<dyn SlotMemory>) -> Self {
        let slot = Self { memory, inherited: false };
        if slot.word(1) == 0 && slot.word(2) == 0 {
            for at in [1, 2] {
                // std seeds this from the kernel's random source; a hash of nothing is as random as its key.
                slot.set(at, RandomState::new().build_hasher().finish() | 1);
            }
        }
        slot
    }

    /// Announces a read of at most `wanted` bytes, and gives the memory to read into.
    pub(super) fn begin(&mut self, stream: StreamId, place: Place, wanted: usize) -> &mut [u8] {
        let wanted = wanted.min(SLOT_BYTES);
        let sentinel = self.sentinel();
        let marked = wanted.min(SENTINEL);
        self.memory.bytes_mut()[..marked].copy_from_slice(&sentinel[..marked]);
        self.describe(
            READING,
            [stream.0, place.file.device, place.file.inode, place.offset, 0, wanted as u64],
        );
        &mut self.memory.bytes_mut()[..wanted]
    }

    /// The read returned `got` bytes: they are this slot's to bring home. None: the slot is free again.
    pub(super) fn filled(&mut self, got: usize) {
        let mut description = self.description();
        description[5] = got as u64;
        self.describe(if got == 0 { IDLE } else { FILLED }, description);
    }

    /// What is not yet written.
    pub(super) fn pending(&self) -> &[u8] {
        if self.state() != FILLED {
            return &[];
        }
        let [.., from, to] = self.description();
        &self.memory.bytes()[from as usize..to as usize]
    }

    /// The first `written` of the pending bytes are in the file. After the last one the slot is free.
    pub(super) fn done(&mut self, written: usize) {
        let mut description = self.description();
        description[3] += written as u64;
        description[4] += written as u64;
        let state = if description[4] == description[5] { IDLE } else { FILLED };
        self.describe(state, description);
        self.inherited &= state == FILLED;
    }

    /// The rest belongs elsewhere: the file was rotated, replaced or truncated.
    pub(super) fn move_to(&mut self, place: Place) {
        let mut description = self.description();
        description[1..4].copy_from_slice(&[place.file.device, place.file.inode, place.offset]);
        self.describe(self.state(), description);
        self.inherited = false;
    }

    /// Where the pending bytes belong.
    pub(super) fn place(&self) -> Place {
        let [_, device, inode, offset, ..] = self.description();
        Place { file: Identity { device, inode }, offset }
    }

    /// The stream that the bytes came from.
    pub(super) fn stream(&self) -> StreamId {
        StreamId(self.description()[0])
    }

    /// First act over inherited memory. True: there are bytes to bring home, and the slot is as after `filled`.
    /// Memory that makes no sense counts as empty: it was never a slot.
    pub(super) fn recover(&mut self) -> bool {
        let [.., from, to] = self.description();
        let sane = from < to && to as usize <= SLOT_BYTES;
        let kept = match self.state() {
            FILLED => sane,
            READING => {
                sane && {
                    let marked = (to as usize).min(SENTINEL);
                    self.memory.bytes()[..marked] != self.sentinel()[..marked]
                }
            }
            _ => false,
        };
        self.describe(if kept { FILLED } else { IDLE }, self.description());
        self.inherited = kept;
        kept
    }

    /// Whether a predecessor may have written some of the pending bytes.
    pub(super) fn is_inherited(&self) -> bool {
        self.inherited
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> &dyn SlotMemory {
        self.memory.as_ref()
    }

    fn state(&self) -> u64 {
        self.word(0) & 0xff
    }

    fn sentinel(&self) -> [u8; SENTINEL] {
        let mut sentinel = [0; SENTINEL];
        sentinel[..8].copy_from_slice(&self.word(1).to_ne_bytes());
        sentinel[8..].copy_from_slice(&self.word(2).to_ne_bytes());
        sentinel
    }

    fn description(&self) -> [u64; DESCRIPTION] {
        let base = 3 + DESCRIPTION * (self.word(0) >> 8 & 1) as usize;
        std::array::from_fn(|i| self.word(base + i))
    }

    /// Writes the description that is not in force, then puts it in force together with the state.
    fn describe(&self, state: u64, description: [u64; DESCRIPTION]) {
        let other = 1 - (self.word(0) >> 8 & 1);
        for (i, value) in description.into_iter().enumerate() {
            self.set(3 + DESCRIPTION * other as usize + i, value);
        }
        self.memory.words()[0].store(state | other << 8, Ordering::Release);
    }

    fn word(&self, at: usize) -> u64 {
        self.memory.words()[at].load(Ordering::Acquire)
    }

    fn set(&self, at: usize, value: u64) {
        self.memory.words()[at].store(value, Ordering::Release);
    }
}

/// The slots of one capture thread. One is enough while all goes well; a file that cannot be written keeps the slot
/// with its unwritten chunk, and the others go on with another.
pub(super) struct Slots {
    free: Vec<Slot>,
}

impl Slots {
    pub(super) fn new(free: Vec<Slot>) -> Self {
        Self { free }
    }

    /// A free slot. Their number is bounded by one more than the files in trouble.
    pub(super) fn take(&mut self) -> Slot {
        self.free.pop().unwrap_or_else(Slot::on_heap)
    }

    pub(super) fn give(&mut self, slot: Slot) {
        self.free.push(slot);
    }
}
