//! Handing many descriptors over an exec by their numbers, and being sure that they are still the same.
//!
//! Whoever owns a descriptor may be another thread, which may close it while its number is being written down; the number may then
//! belong to something else. So a number is never believed alone: it goes with the identity of what was open there, and both
//! sides of the exec compare.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use crate::error::{Errno, OsError, Result};

/// What is open at a number. For a pidfd it is unique from Linux 6.9 on; before, all pidfds look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    /// The number.
    pub number: RawFd,
    /// Device of the file behind it.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
}

impl Handle {
    /// Of an open descriptor.
    pub fn of(fd: impl AsFd) -> Result<Self> {
        let number = fd.as_fd().as_raw_fd();
        Self::at(number).ok_or_else(|| OsError::new("identify a descriptor", Errno::last()))
    }

    fn at(number: RawFd) -> Option<Self> {
        // SAFETY: an all-zero stat is a valid value of this plain struct.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: `stat` is writable; a number that is not open is answered by -1.
        let rc = unsafe { libc::fstat(number, &raw mut stat) };
        #[expect(clippy::useless_conversion, reason = "dev_t and ino_t are narrower on some targets")]
        (rc == 0).then(|| Self { number, device: stat.st_dev.into(), inode: stat.st_ino.into() })
    }

    /// Another descriptor for the same, close-on-exec; `None`: something else is open there, or nothing, or there is no room for
    /// one more.
    #[must_use]
    pub fn duplicate(self) -> Option<OwnedFd> {
        // SAFETY: F_DUPFD_CLOEXEC takes any number; of one that is not open nothing comes but -1.
        let copy = unsafe { libc::fcntl(self.number, libc::F_DUPFD_CLOEXEC, 0) };
        // SAFETY: it was made a moment ago, and nobody else knows of it.
        let copy = (copy >= 0).then(|| unsafe { OwnedFd::from_raw_fd(copy) })?;
        // Asked of the copy, which nobody else closes.
        let same = |copied: Self| (copied.device, copied.inode) == (self.device, self.inode);
        Self::of(&copy).is_ok_and(same).then_some(copy)
    }

    /// Lets it stay open over the next exec of this process; false: something else is open there, or nothing.
    #[must_use]
    pub fn hand_on(self) -> bool {
        // SAFETY: F_SETFD changes a flag of whatever is open there; what is not handed on is closed by its owner or the exec.
        Self::at(self.number) == Some(self) && unsafe { libc::fcntl(self.number, libc::F_SETFD, 0) } == 0
    }

    /// Close-on-exec again: the exec has failed.
    pub fn call_back(self) {
        if Self::at(self.number) == Some(self) {
            // SAFETY: as in `hand_on`.
            unsafe { libc::fcntl(self.number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }

    /// Takes it over in the program that was executed, close-on-exec from now on; `None`: it is not what was handed on. To be
    /// called once for each number, before anything else is opened: nobody else in this process may own it.
    #[must_use]
    pub fn take(self) -> Option<OwnedFd> {
        if Self::at(self.number) != Some(self) {
            return None;
        }
        // SAFETY: as in `hand_on`.
        if unsafe { libc::fcntl(self.number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return None;
        }
        // SAFETY: it is open, and by the rule of use this is its only owner.
        Some(unsafe { OwnedFd::from_raw_fd(self.number) })
    }
}

/// Lets whatever is open at this number stay open over the next exec.
pub fn hand_on(number: RawFd) -> Result<()> {
    // SAFETY: F_SETFD changes a flag of whatever is open there; -1 where nothing is.
    if unsafe { libc::fcntl(number, libc::F_SETFD, 0) } < 0 {
        return Err(OsError::new("keep a descriptor over an exec", Errno::last()));
    }
    Ok(())
}

/// A file without a name, in memory, gone with its last descriptor.
pub fn memory_file(name: &str) -> Result<OwnedFd> {
    rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|e| OsError::new("create a file in memory", e))
}

/// Replaces this process's program and keeps all else: id, children, blocked signals and those that wait to be delivered. Comes
/// back only if that fails.
///
/// [`crate::exec::replace`] is for a process that was just started: it unblocks all signals first, and one that was waiting
/// would end the process in the middle.
#[must_use]
pub fn replace_as_it_is(
    program: &Path,
    argv: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
) -> OsError {
    let entry = |(key, value): (OsString, OsString)| {
        let mut bytes = key.into_vec();
        bytes.push(b'=');
        bytes.extend(value.into_vec());
        bytes
    };
    let argv = strings(argv.into_iter().map(OsStringExt::into_vec));
    let environment = strings(environment.into_iter().map(entry));
    let path = strings([program.as_os_str().to_owned().into_vec()].into_iter());
    let (argv_pointers, environment_pointers) = (pointers(&argv), pointers(&environment));
    if let Some(path) = path.first() {
        // SAFETY: a NUL-terminated path and two lists of NUL-terminated strings, each ended by a null pointer.
        unsafe { libc::execve(path.as_ptr(), argv_pointers.as_ptr(), environment_pointers.as_ptr()) };
    }
    OsError::at("execute", program, Errno::last())
}

/// What came from the kernel has no NUL inside.
fn strings(all: impl Iterator<Item = Vec<u8>>) -> Vec<CString> {
    all.filter_map(|bytes| CString::new(bytes).ok()).collect()
}

fn pointers(all: &[CString]) -> Vec<*const libc::c_char> {
    all.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipes::Pipe;

    #[test]
    fn a_number_that_was_given_to_something_else_is_not_handed_on() {
        let pipe = Pipe::new().unwrap();
        let handle = Handle::of(&pipe.read).unwrap();
        assert!(handle.hand_on());
        let other = Pipe::new().unwrap();
        let stale = Handle { number: other.read.as_raw_fd(), ..handle };
        assert!(!stale.hand_on() && stale.take().is_none());
    }
}
