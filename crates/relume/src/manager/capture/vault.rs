//! Where slots survive the manager, and both halves of relume: one file each in a directory of the runtime directory, on a
//! tmpfs, mapped and allocated in full.
//!
//! The first is made at the start, the others when a file in trouble keeps its slot. A file of another boot, or one that is
//! no slot of this version, is begun anew: there is nothing that could be done with it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use relume_os::mapping::Mapping;
use relume_os::{Result, clock, files};

use super::slot::{MEMORY_BYTES, SLOT_WORDS, Slot, SlotMemory};

/// The most slots of this kind, 25 MB of a tmpfs: one for each file in trouble. What is stuck for more of them than that is
/// on the heap.
const MOST: usize = 64;

/// `relume_o` in ASCII.
const MAGIC: u64 = u64::from_le_bytes(*b"relume_o");

/// Readers of another version begin the file anew.
const VERSION: u64 = 2;

const AT_MAGIC: usize = 0;
const AT_VERSION: usize = 8;
const AT_BOOT: usize = 64;
const AT_WORDS: usize = 512;
const AT_BYTES: usize = 4096;

/// The words must end before the bytes begin.
const _: () = assert!(AT_WORDS + 8 * SLOT_WORDS <= AT_BYTES);

/// See the module's description.
pub(super) struct Vault {
    dir: PathBuf,
    boot: String,
    made: usize,
    /// Threads that use it.
    users: usize,
    has_legacy: bool,
}

impl Vault {
    /// Opens the directory for so many threads, with all slots that are in it; at least one for each.
    pub(super) fn open(dir: &Path, users: usize) -> Result<(Self, Vec<Slot>)> {
        files::create_dir(dir, 0o700)?;
        let (made, has_legacy) = (0, false);
        let mut vault = Self { dir: dir.to_owned(), boot: clock::boot_id()?, made, users, has_legacy };
        let mut slots = Vec::new();
        while vault.made < users
            || (vault.made < MOST && files::identify_at(&vault.path(vault.made))?.is_some())
        {
            slots.push(vault.next()?);
        }
        Ok((vault, slots))
    }

    /// One more; none: there are enough, or there is no memory for it.
    pub(super) fn add(&mut self) -> Option<Slot> {
        if self.made >= MOST { None } else { self.next().ok() }
    }

    /// One thread less; the last one takes all away, if none of them has left something.
    pub(super) fn leave(&mut self, has_legacy: bool) {
        self.has_legacy |= has_legacy;
        self.users = self.users.saturating_sub(1);
        if self.users > 0 || self.has_legacy {
            return;
        }
        for number in 0..self.made {
            let _empty = files::remove(&self.path(number));
        }
        let _foreign = std::fs::remove_dir(&self.dir);
    }

    fn path(&self, number: usize) -> PathBuf {
        self.dir.join(number.to_string())
    }

    fn next(&mut self) -> Result<Slot> {
        let memory = Mapped::open(&self.path(self.made), &self.boot)?;
        self.made += 1;
        Ok(Slot::over(Box::new(memory)))
    }
}

/// Bytes of a slot that stay mapped while nobody writes: who writes lines never needs more. What a flood has used beyond
/// is unmapped when it is over.
const STAYS: usize = 16 * 1024;

/// The memory of one slot.
struct Mapped {
    map: Mapping,
    /// So many bytes to be read into are mapped.
    touched: usize,
}

impl Mapped {
    fn open(path: &Path, boot: &str) -> Result<Self> {
        let mut map = Mapping::open(path, AT_BYTES + MEMORY_BYTES)?;
        // Written first: the kernel maps the neighbours of a page that is read first.
        map.touch(0, AT_BYTES);
        let word = |at| map.word(at).load(Ordering::Acquire);
        let known = word(AT_MAGIC) == MAGIC
            && word(AT_VERSION) == VERSION
            && map.read(AT_BOOT, boot.len()) == boot.as_bytes();
        if !known {
            // Not a slot until all else is so.
            map.publish(AT_MAGIC, 0);
            map.words(AT_WORDS, SLOT_WORDS).iter().for_each(|word| word.store(0, Ordering::Release));
            map.publish(AT_VERSION, VERSION);
            map.write(AT_BOOT, boot.as_bytes());
            map.publish(AT_MAGIC, MAGIC);
        }
        Ok(Self { map, touched: 0 })
    }
}

impl SlotMemory for Mapped {
    fn words(&self) -> &[AtomicU64] {
        self.map.words(AT_WORDS, SLOT_WORDS)
    }
    fn bytes(&self) -> &[u8] {
        self.map.read(AT_BYTES, MEMORY_BYTES)
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.map.bytes_mut(AT_BYTES, MEMORY_BYTES)
    }
    fn outlives_us(&self) -> bool {
        true
    }
    fn prepare(&mut self, length: usize) {
        if length > self.touched {
            self.map.touch(AT_BYTES, length);
            self.touched = length;
        }
    }
    fn rest(&mut self) {
        self.map.give_back(AT_BYTES + STAYS);
        self.touched = self.touched.min(STAYS);
    }
}
