//! The place of bytes that have left a pipe and are not yet in a file.
//!
//! Between `read` and `pwrite` a chunk exists nowhere but in this program. A slot describes it completely: which file at
//! which offset it belongs to, how that file is kept, and how far it got. With memory that outlives the process
//! ([`super::vault`]), a successor of a killed manager finishes the write and needs to know nothing else. Doing it twice is
//! harmless, because the offset is recorded: `O_APPEND` would repeat the chunk, and `splice` could not cut it at a line end.
//!
//! One word is the commit point of each change. Everything it refers to is written before it: descriptions into the
//! one of two places that is not in force. So a kill between any two instructions finds either the old or the new.
//!
//! Bytes that are stored otherwise than they came ([`super::format`]) take one step more: a part of them is *staged*, that is
//! put into its final form in a second buffer, and only what is staged is written. What a predecessor had staged is written
//! as it is, time stamps included; what it had not was not written either.
//!
//! A kill after `read` and before `filled` is told from one before `read` by the sentinel: 16 random bytes at the
//! start of the buffer which `read` overwrites. A chunk of n < 16 bytes equals its part of the sentinel by chance once
//! in 256ⁿ; asking the pipe instead would not help, since writers may have added to it.
//!
//! It must never be read by another thread while its owner uses it.

use std::ffi::OsStr;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::disk::Identity;
use super::format::{self, Origin};
use super::vault::Vault;
use super::{Compress, Format, LogTarget, Rotate, WhenFull};

/// The most bytes one read moves: as many as `cat` does. Less is more system calls for a flood, and more does not fit into
/// the cache of a core with its file.
pub(super) const SLOT_BYTES: usize = 128 * 1024;

/// Room for staged bytes: a full read of ordinary lines with a time stamp each in one go.
const STAGED_BYTES: usize = 256 * 1024;

/// Room for the path of a log: PATH_MAX.
const PATH_BYTES: usize = 4096;

/// All bytes of a slot: those read, those staged, and a path for each description.
pub(super) const MEMORY_BYTES: usize = SLOT_BYTES + STAGED_BYTES + 2 * PATH_BYTES;

/// Length of the sentinel: long enough that a full chunk never equals it by chance.
const SENTINEL: usize = 16;

/// Words in the head of a slot: commit word, sentinel, two descriptions.
pub(super) const SLOT_WORDS: usize = 3 + 2 * DESCRIPTION;

/// Words of one description; see [`Description`].
const DESCRIPTION: usize = 14;

const IDLE: u64 = 0;
const READING: u64 = 1;
const FILLED: u64 = 2;

/// Where a slot lives: on the heap, or in memory that outlives the process.
pub(super) trait SlotMemory: Send {
    /// The head, at least [`SLOT_WORDS`] long, zero when new.
    fn words(&self) -> &[AtomicU64];
    /// The buffers, [`MEMORY_BYTES`] long.
    fn bytes(&self) -> &[u8];
    /// The same, to be written.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Whether a successor finds it.
    fn outlives_us(&self) -> bool {
        false
    }
    /// The first `length` bytes are about to be stored to by a system call.
    fn prepare(&mut self, _length: usize) {}
    /// Nothing is on its way: little need stay in memory.
    fn rest(&mut self) {}
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

/// What a slot says of its chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Description {
    device: u64,
    inode: u64,
    offset: u64,
    /// Bytes read and not yet written, or, where they are staged first, not yet staged.
    from: u64,
    to: u64,
    staged_from: u64,
    staged_to: u64,
    /// How many of the bytes were there before the read: see [`Slot::begin`].
    lead: u64,
    /// The target.
    size: u64,
    age_s: u64,
    keep_mode: u64,
    words: u64,
    run: u64,
    path_length: u64,
}

impl Description {
    fn to_words(self) -> [u64; DESCRIPTION] {
        let Self { device, inode, offset, from, to, staged_from, staged_to, .. } = self;
        let Self { lead, size, age_s, keep_mode, words, run, path_length, .. } = self;
        [
            device,
            inode,
            offset,
            from,
            to,
            staged_from,
            staged_to,
            lead,
            size,
            age_s,
            keep_mode,
            words,
            run,
            path_length,
        ]
    }

    fn of_words(words: [u64; DESCRIPTION]) -> Self {
        let [device, inode, offset, from, to, staged_from, staged_to, rest @ ..] = words;
        let [lead, size, age_s, keep_mode, words, run, path_length] = rest;
        Self {
            device,
            inode,
            offset,
            from,
            to,
            staged_from,
            staged_to,
            lead,
            size,
            age_s,
            keep_mode,
            words,
            run,
            path_length,
        }
    }

    /// Whether the numbers can be those of a slot.
    fn is_sane(&self) -> bool {
        self.from <= self.to
            && self.to <= SLOT_BYTES as u64
            && self.staged_from <= self.staged_to
            && self.staged_to <= STAGED_BYTES as u64
            && self.lead <= self.to
            && self.path_length <= PATH_BYTES as u64
    }

    fn is_done(&self) -> bool {
        self.from == self.to && self.staged_from == self.staged_to
    }

    fn put_target(&mut self, target: &LogTarget, origin: Origin) {
        let rotate = target.rotate.unwrap_or(Rotate { size: 0, keep: 0, age: None, compress: Compress::Off });
        self.size = if target.rotate.is_some() { rotate.size.max(1) } else { 0 };
        self.age_s = rotate.age.map_or(0, |age| age.as_secs().max(1));
        self.keep_mode = u64::from(rotate.keep) << 32 | u64::from(target.mode);
        self.words = format_number(target.format)
            | compress_number(rotate.compress) << 8
            | u64::from(target.when_full == WhenFull::Drop) << 16
            | u64::from(target.indexed) << 24
            | u64::from(origin.is_error) << 32;
        self.run = u64::from(origin.run);
    }

    fn target(&self, path: PathBuf) -> LogTarget {
        let rotate = (self.size > 0).then(|| Rotate {
            size: self.size,
            keep: (self.keep_mode >> 32) as u32,
            age: (self.age_s > 0).then(|| Duration::from_secs(self.age_s)),
            compress: compress_of(self.words >> 8 & 0xff),
        });
        LogTarget {
            path: path.into(),
            rotate,
            mode: self.keep_mode as u32 & 0o777,
            format: self.format(),
            when_full: if self.words >> 16 & 1 == 1 { WhenFull::Drop } else { WhenFull::Block },
            indexed: self.words >> 24 & 1 == 1,
        }
    }

    fn format(&self) -> Format {
        format_of(self.words & 0xff)
    }

    fn origin(&self) -> Origin {
        Origin { run: self.run as u32, is_error: self.words >> 32 & 1 == 1 }
    }
}

/// See the module's description.
pub(super) struct Slot {
    memory: Box<dyn SlotMemory>,
    /// The pending bytes were read by a predecessor, who may have written some of them.
    inherited: bool,
    /// Whose path stands in the place of each description.
    paths: [Option<Arc<LogTarget>>; 2],
}

impl Slot {
    /// An empty slot on the heap.
    pub(super) fn on_heap() -> Self {
        let words = std::array::from_fn(|_| AtomicU64::new(0));
        Self::over(Box::new(HeapMemory { words, bytes: vec![0; MEMORY_BYTES].into_boxed_slice() }))
    }

    /// A slot over memory that may hold the chunk of a predecessor: see [`Slot::recover`].
    pub(super) fn over(memory: Box<dyn SlotMemory>) -> Self {
        let slot = Self { memory, inherited: false, paths: [None, None] };
        if slot.word(1) == 0 && slot.word(2) == 0 {
            for at in [1, 2] {
                // std seeds this from the kernel's random source; a hash of nothing is as random as its key.
                slot.set(at, RandomState::new().build_hasher().finish() | 1);
            }
        }
        slot
    }

    /// Announces a read of at most `wanted` bytes behind `lead`, the few that an earlier read of this stream has left
    /// over, and gives the memory to read into.
    pub(super) fn begin(
        &mut self,
        target: &Arc<LogTarget>,
        origin: Origin,
        place: Place,
        (lead, wanted): (&[u8], usize),
    ) -> &mut [u8] {
        let wanted = wanted.min(SLOT_BYTES - lead.len());
        let sentinel = self.sentinel();
        let marked = wanted.min(SENTINEL);
        self.memory.prepare(lead.len() + wanted);
        let bytes = self.memory.bytes_mut();
        bytes[..lead.len()].copy_from_slice(lead);
        bytes[lead.len()..][..marked].copy_from_slice(&sentinel[..marked]);
        let mut description = Description {
            device: place.file.device,
            inode: place.file.inode,
            offset: place.offset,
            to: (lead.len() + wanted) as u64,
            lead: lead.len() as u64,
            ..Description::default()
        };
        description.put_target(target, origin);
        self.describe_with(READING, description, Some(target));
        &mut self.memory.bytes_mut()[lead.len()..][..wanted]
    }

    /// The read returned `got` bytes: they are this slot's to bring home. None at all: the slot is free again.
    pub(super) fn filled(&mut self, got: usize) {
        let mut description = self.description();
        description.to = description.lead + got as u64;
        self.describe(if description.to == 0 { IDLE } else { FILLED }, description);
    }

    /// Whether all of the chunk is in the file.
    pub(super) fn is_done(&self) -> bool {
        self.state() != FILLED
    }

    /// What can be written now.
    pub(super) fn pending(&self) -> &[u8] {
        let described = self.description();
        if self.state() != FILLED {
            return &[];
        }
        if described.staged_from < described.staged_to {
            return &self.memory.bytes()[SLOT_BYTES + described.staged_from as usize..]
                [..(described.staged_to - described.staged_from) as usize];
        }
        match described.format() {
            Format::Raw => &self.memory.bytes()[described.from as usize..described.to as usize],
            Format::Timestamp | Format::Json => &[],
        }
    }

    /// Puts more of the chunk into its final form when nothing is pending. `within_line`: the file does not end at a
    /// line end. False: what is left (less than a character) has to wait for the rest of it.
    pub(super) fn stage(&mut self, within_line: bool, now_ns: i64, last: bool) -> bool {
        let mut described = self.description();
        if self.is_done() || !self.pending().is_empty() {
            return true;
        }
        let (raw, staged) = self.memory.bytes_mut().split_at_mut(SLOT_BYTES);
        let raw = &raw[described.from as usize..described.to as usize];
        let how = format::How { format: described.format(), origin: described.origin(), within_line, last };
        let done = format::stage(&how, now_ns, raw, &mut staged[..STAGED_BYTES]);
        if done.taken == 0 {
            return false;
        }
        described.from += done.taken as u64;
        (described.staged_from, described.staged_to) = (0, done.made as u64);
        self.describe(FILLED, described);
        self.inherited = false;
        true
    }

    /// What was read and neither staged nor written, as it came. The slot is free afterwards.
    pub(super) fn take_rest(&mut self) -> Vec<u8> {
        let described = self.description();
        let rest = self.memory.bytes()[described.from as usize..described.to as usize].to_vec();
        self.describe(IDLE, described);
        rest
    }

    /// The first `written` of the pending bytes are in the file. After the last one the slot is free.
    pub(super) fn done(&mut self, written: usize) {
        let mut described = self.description();
        described.offset += written as u64;
        if described.staged_from < described.staged_to {
            described.staged_from += written as u64;
        } else {
            described.from += written as u64;
        }
        let state = if described.is_done() { IDLE } else { FILLED };
        self.describe(state, described);
        self.inherited &= state == FILLED;
    }

    /// The first `count` bytes that were read are not to be written.
    pub(super) fn skip(&mut self, count: usize) {
        let mut described = self.description();
        described.from = (described.from + count as u64).min(described.to);
        let state = if described.is_done() { IDLE } else { FILLED };
        self.describe(state, described);
    }

    /// What was read and neither staged nor written.
    pub(super) fn unstaged(&self) -> &[u8] {
        let described = self.description();
        &self.memory.bytes()[described.from as usize..described.to as usize]
    }

    /// Gives up what follows the last line end. True: the chunk ends at a line end now, of which a part may be written
    /// already. How many bytes were given up.
    pub(super) fn trim_to_line(&mut self) -> (bool, u64) {
        let mut described = self.description();
        let (raw, staged) = self.memory.bytes().split_at(SLOT_BYTES);
        let raw = &raw[described.from as usize..described.to as usize];
        let staged = &staged[described.staged_from as usize..described.staged_to as usize];
        let end = |bytes: &[u8]| bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at as u64 + 1);
        let (kept, staged_kept) = (end(raw), end(staged));
        let given_up = match (kept, staged_kept) {
            (0, 0) => return (false, 0),
            (0, _) => {
                let given_up = raw.len() as u64 + (staged.len() as u64 - staged_kept);
                described.to = described.from;
                described.staged_to = described.staged_from + staged_kept;
                given_up
            }
            (_, _) => {
                described.to = described.from + kept;
                raw.len() as u64 - kept
            }
        };
        self.describe(FILLED, described);
        (true, given_up)
    }

    /// The rest belongs elsewhere: the file was rotated, replaced or truncated.
    pub(super) fn move_to(&mut self, place: Place) {
        let (device, inode, offset) = (place.file.device, place.file.inode, place.offset);
        self.describe(self.state(), Description { device, inode, offset, ..self.description() });
        self.inherited = false;
    }

    /// Where the pending bytes belong.
    pub(super) fn place(&self) -> Place {
        let Description { device, inode, offset, .. } = self.description();
        Place { file: Identity { device, inode }, offset }
    }

    /// The log that the bytes belong to, as it was configured when they were read.
    pub(super) fn target(&self) -> LogTarget {
        let described = self.description();
        let path = &self.memory.bytes()[path_at(self.active())][..described.path_length as usize];
        described.target(PathBuf::from(OsStr::from_bytes(path)))
    }

    /// Whose bytes they are.
    pub(super) fn origin(&self) -> Origin {
        self.description().origin()
    }

    /// Bytes that are not in the file.
    pub(super) fn left(&self) -> u64 {
        let described = self.description();
        if self.is_done() {
            return 0;
        }
        described.to - described.from + described.staged_to - described.staged_from
    }

    /// First act over inherited memory. True: there are bytes to bring home, and the slot is as after `filled`.
    /// Memory that makes no sense counts as empty: it was never a slot.
    pub(super) fn recover(&mut self) -> bool {
        let mut described = self.description();
        let sane = described.is_sane() && !described.is_done();
        let kept = match self.state() {
            FILLED => sane,
            READING if sane => {
                let (lead, to) = (described.lead as usize, described.to as usize);
                let marked = (to - lead).min(SENTINEL);
                let was_read = self.memory.bytes()[lead..][..marked] != self.sentinel()[..marked];
                if !was_read {
                    described.to = described.lead;
                }
                described.to > 0
            }
            _ => false,
        };
        let described = if kept { described } else { Description::default() };
        self.describe_with(if kept { FILLED } else { IDLE }, described, None);
        let untouched = described.format() != Format::Raw && described.staged_from == described.staged_to;
        self.inherited = kept && !untouched;
        kept
    }

    /// Whether a predecessor may have written some of the pending bytes.
    pub(super) fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// Whether a successor finds what it holds.
    pub(super) fn outlives_us(&self) -> bool {
        self.memory.outlives_us()
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> &dyn SlotMemory {
        self.memory.as_ref()
    }

    fn state(&self) -> u64 {
        self.word(0) & 0xff
    }

    /// Which description is in force.
    fn active(&self) -> usize {
        (self.word(0) >> 8 & 1) as usize
    }

    fn sentinel(&self) -> [u8; SENTINEL] {
        let mut sentinel = [0; SENTINEL];
        sentinel[..8].copy_from_slice(&self.word(1).to_ne_bytes());
        sentinel[8..].copy_from_slice(&self.word(2).to_ne_bytes());
        sentinel
    }

    fn description(&self) -> Description {
        let base = 3 + DESCRIPTION * self.active();
        Description::of_words(std::array::from_fn(|i| self.word(base + i)))
    }

    /// The same chunk, described anew.
    fn describe(&mut self, state: u64, description: Description) {
        let target = self.paths[self.active()].clone();
        self.describe_with(state, description, target.as_ref());
    }

    /// Writes the description that is not in force, then puts it in force together with the state. Without a target
    /// the path is that of the description before.
    fn describe_with(&mut self, state: u64, mut description: Description, target: Option<&Arc<LogTarget>>) {
        let (active, other) = (self.active(), 1 - self.active());
        match target {
            Some(target) => {
                let path = target.path.as_os_str().as_bytes();
                let path = if path.len() <= PATH_BYTES { path } else { &[] };
                description.path_length = path.len() as u64;
                if !self.paths[other].as_ref().is_some_and(|known| Arc::ptr_eq(known, target)) {
                    self.memory.bytes_mut()[path_at(other)][..path.len()].copy_from_slice(path);
                    self.paths[other] = Some(Arc::clone(target));
                }
            }
            None => {
                let bytes = self.memory.bytes_mut();
                bytes.copy_within(path_at(active), path_at(other).start);
                self.paths[other] = None;
            }
        }
        for (i, value) in description.to_words().into_iter().enumerate() {
            self.set(3 + DESCRIPTION * other + i, value);
        }
        self.memory.words()[0].store(state | (other as u64) << 8, Ordering::Release);
    }

    fn word(&self, at: usize) -> u64 {
        self.memory.words()[at].load(Ordering::Acquire)
    }

    fn set(&self, at: usize, value: u64) {
        self.memory.words()[at].store(value, Ordering::Release);
    }
}

fn format_number(format: Format) -> u64 {
    match format {
        Format::Raw => 0,
        Format::Timestamp => 1,
        Format::Json => 2,
    }
}

fn format_of(number: u64) -> Format {
    match number {
        1 => Format::Timestamp,
        2 => Format::Json,
        _ => Format::Raw,
    }
}

fn compress_number(compress: Compress) -> u64 {
    match compress {
        Compress::Off => 0,
        Compress::Gzip => 1,
        Compress::Zstd => 2,
    }
}

fn compress_of(number: u64) -> Compress {
    match number {
        1 => Compress::Gzip,
        2 => Compress::Zstd,
        _ => Compress::Off,
    }
}

fn path_at(description: usize) -> Range<usize> {
    let start = SLOT_BYTES + STAGED_BYTES + description * PATH_BYTES;
    start..start + PATH_BYTES
}

/// The slots of one capture thread. One is enough while all goes well; a file that cannot be written keeps the slot
/// with its unwritten chunk, and the others go on with another.
pub(super) struct Slots {
    free: Vec<Slot>,
    vault: Option<Arc<Mutex<Vault>>>,
}

impl Slots {
    pub(super) fn new(free: Vec<Slot>, vault: Option<Arc<Mutex<Vault>>>) -> Self {
        Self { free, vault }
    }

    /// A free slot. Their number is bounded by one more than the files in trouble.
    pub(super) fn take(&mut self) -> Slot {
        let made = || self.vault.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).add();
        self.free.pop().or_else(made).unwrap_or_else(Slot::on_heap)
    }

    pub(super) fn give(&mut self, slot: Slot) {
        self.free.push(slot);
    }

    /// There is nothing to do for the thread.
    pub(super) fn rest(&mut self) {
        self.free.iter_mut().for_each(|slot| slot.memory.rest());
    }

    /// The thread ends; whether it leaves something for a successor.
    pub(super) fn clear_up(&mut self, has_legacy: bool) {
        self.free.clear();
        if let Some(vault) = self.vault.take() {
            vault.lock().unwrap_or_else(PoisonError::into_inner).leave(has_legacy);
        }
    }
}
