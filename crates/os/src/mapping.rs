//! Memory that outlives the process: a file on a tmpfs (or a memfd), mapped shared.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use crate::error::{OsError, Result};
use crate::files;

/// A shared mapping of a whole file. What is written into it is there for whoever maps the file next, also
/// when this process is killed in the middle of a store. Not meant to survive a loss of power.
#[derive(Debug)]
pub struct Mapping {
    address: NonNull<u8>,
    length: usize,
    file: OwnedFd,
    /// What has been written and is still mapped: from here, and up to here.
    fresh: (usize, usize),
}

/// So much may be written before its pages are unmapped again. They stay in the file; mapped, they would count as
/// memory of this process alone, for good.
const FRESH: usize = 128 * 1024;

// SAFETY: the mapping is plain memory that belongs to this value; nothing about it is tied to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Makes the file at `path` `length` bytes long, with every byte allocated (so that no store can fail for
    /// want of memory: SIGBUS), and maps it. What stands in it stays; what is added is zero.
    pub fn open(path: &Path, length: usize) -> Result<Self> {
        let file = files::open_append_safe(path, 0o600)?;
        Self::of(file, length).map_err(|error| OsError { path: Some(path.to_owned()), ..error })
    }

    /// Maps an open file.
    pub fn of(file: OwnedFd, length: usize) -> Result<Self> {
        files::allocate(&file, length as u64)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh address chosen by the kernel; the file is at least `length` long and stays open.
        let address =
            unsafe { mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, file.as_fd(), 0) }
                .map_err(|e| OsError::new("map", e))?;
        let address = NonNull::new(address.cast()).ok_or_else(|| OsError::new("map", crate::Errno::IO))?;
        Ok(Self { address, length, file, fresh: (length, 0) })
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// The bytes from `at`; shorter where the mapping ends.
    #[must_use]
    pub fn read(&self, at: usize, length: usize) -> &[u8] {
        let at = at.min(self.length);
        let length = length.min(self.length - at);
        // SAFETY: inside the mapping, which lives as long as `self`; this process writes it through `&mut`
        // only, and no other process writes while we hold the lock of the state directory.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr().add(at), length) }
    }

    /// Copies `bytes` to `at`; false where they do not fit.
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> bool {
        crate::tally::act();
        if at.checked_add(bytes.len()).is_none_or(|end| end > self.length) {
            return false;
        }
        // SAFETY: inside the mapping by the check above, and `&mut self` excludes readers of it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address.as_ptr().add(at), bytes.len()) };
        self.fresh = (self.fresh.0.min(at), self.fresh.1.max(at + bytes.len()));
        if self.fresh.1 - self.fresh.0 >= FRESH {
            self.unmap_fresh();
        }
        true
    }

    /// Unmaps all of it, after much of it was read: it stays in the file.
    pub fn unmap(&mut self) {
        self.fresh = (0, self.length);
        self.unmap_fresh();
    }

    /// The kernel maps again what is touched again: nothing is lost by it but a page fault.
    fn unmap_fresh(&mut self) {
        let page = rustix::param::page_size();
        let (first, end) = (self.fresh.0 / page * page, self.fresh.1);
        // SAFETY: whole pages of a shared mapping of a file, inside the mapping; their content is the file's.
        let _stays_mapped =
            unsafe { madvise(self.address.as_ptr().add(first).cast(), end - first, Advice::LinuxDontNeed) };
        self.fresh = (self.length, 0);
    }

    /// A number in the mapping that is read and written in one piece; `at` is a multiple of 8.
    ///
    /// # Panics
    /// When `at` is not aligned or out of range: places are constants of the caller.
    #[must_use]
    pub fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= self.length, "no word at {at}");
        // SAFETY: aligned and inside the mapping; all access to such words goes through atomics.
        unsafe { &*self.address.as_ptr().add(at).cast::<AtomicU64>() }
    }

    /// Numbers in the mapping, as [`Mapping::word`] gives one.
    ///
    /// # Panics
    /// When `at` is not aligned or they do not fit: places are constants of the caller.
    #[must_use]
    pub fn words(&self, at: usize, count: usize) -> &[AtomicU64] {
        assert!(at.is_multiple_of(8) && at + 8 * count <= self.length, "no {count} words at {at}");
        // SAFETY: aligned and inside the mapping; all access to such words goes through atomics.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr().add(at).cast::<AtomicU64>(), count) }
    }

    /// The bytes from `at`, to be written; shorter where the mapping ends.
    pub fn bytes_mut(&mut self, at: usize, length: usize) -> &mut [u8] {
        let at = at.min(self.length);
        let length = length.min(self.length - at);
        // SAFETY: inside the mapping, and `&mut self` excludes every other access of this process.
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr().add(at), length) }
    }

    /// Brings the pages of these bytes into this process's page table, so that a system call which stores there meets
    /// no fault on its way: one that a kill interrupts there could have moved a part of what it was to move.
    pub fn touch(&mut self, at: usize, length: usize) {
        let page = rustix::param::page_size();
        let first = at.min(self.length) / page * page;
        let end = at.saturating_add(length).min(self.length);
        // SAFETY: whole pages of the mapping; their content stays.
        let populated = unsafe {
            madvise(
                self.address.as_ptr().add(first).cast(),
                end.saturating_sub(first),
                Advice::LinuxPopulateWrite,
            )
        };
        if populated.is_ok() {
            return;
        }
        // Before Linux 5.14.
        for at in (first..end).step_by(page) {
            // SAFETY: inside the mapping; the byte is stored as it was, through the only reference to it.
            unsafe {
                let byte = self.address.as_ptr().add(at);
                byte.write_volatile(byte.read_volatile());
            }
        }
    }

    /// Unmaps the whole pages from `at` on. They stay in the file; mapped, they would count as memory of this process
    /// alone.
    pub fn give_back(&mut self, at: usize) {
        let first = at.min(self.length).next_multiple_of(rustix::param::page_size()).min(self.length);
        // SAFETY: whole pages of a shared mapping of a file, up to its end; their content is the file's.
        let _stays_mapped = unsafe {
            madvise(self.address.as_ptr().add(first).cast(), self.length - first, Advice::LinuxDontNeed)
        };
    }

    /// Commits: everything written before is in the memory when this number is.
    pub fn publish(&self, at: usize, value: u64) {
        crate::tally::act();
        self.word(at).store(value, Ordering::Release);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the very mapping made in `of`; nothing borrowed from it outlives `self`.
        let _unmapped = unsafe { munmap(self.address.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_there_for_the_next_who_maps_it() {
        let dir = std::env::temp_dir().join(format!("relume-mapping-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("journal");
        {
            let mut first = Mapping::open(&path, 8192).unwrap();
            assert!(first.write(100, b"light"));
            first.publish(0, 7);
            assert!(!first.write(8190, b"too long"));
            first.bytes_mut(200, 4).copy_from_slice(b"kept");
            first.words(8, 2)[1].store(9, Ordering::Release);
            first.touch(0, 8192);
            first.give_back(100);
            first.touch(5000, 10_000);
        }
        let second = Mapping::open(&path, 16384).unwrap();
        assert_eq!(second.read(100, 5), b"light");
        assert_eq!(second.word(0).load(Ordering::Acquire), 7);
        assert_eq!(second.read(16380, 100).len(), 4);
        assert_eq!(second.read(200, 4), b"kept");
        assert_eq!(second.word(16).load(Ordering::Acquire), 9);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
