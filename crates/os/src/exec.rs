//! Becoming another program with some descriptors kept, and taking over descriptors that were kept for us.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::error::{Errno, OsError, Result};

/// Replaces this process's program, keeping its id, its children and, at the given numbers, these descriptors.
/// Comes back only if that fails; then the numbers are taken all the same.
///
/// To be called while no other thread runs that could mind.
#[must_use]
pub fn replace(
    program: &Path,
    argv: &[OsString],
    environment: &[(OsString, OsString)],
    keep: &[(BorrowedFd<'_>, RawFd)],
) -> OsError {
    for (fd, number) in keep {
        if let Err(error) = place(*fd, *number) {
            return error;
        }
    }
    let mut command = std::process::Command::new(program);
    if let Some((name, rest)) = argv.split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear().envs(environment.iter().map(|(key, value)| (key, value)));
    OsError::at("execute", program, Errno::of(&command.exec()))
}

/// Puts a copy of `fd` at `number`, to be inherited over an exec.
fn place(fd: BorrowedFd<'_>, number: RawFd) -> Result<()> {
    let done = if fd.as_raw_fd() == number {
        // SAFETY: F_SETFD changes a flag of a descriptor that is borrowed, hence open.
        unsafe { libc::fcntl(number, libc::F_SETFD, 0) }
    } else {
        // SAFETY: dup2 of an open descriptor; what stood at `number` is closed, which the caller wants.
        unsafe { libc::dup2(fd.as_raw_fd(), number) }
    };
    if done < 0 { Err(OsError::new("keep a descriptor over an exec", Errno::last())) } else { Ok(()) }
}

/// Takes over the descriptor that whoever started this process left at `number`; close-on-exec from now on.
///
/// # Errors
/// `EBADF` when nothing is there.
///
/// # Safety of use
/// To be called once for each number, first thing in `main`, by the process that was told to expect it:
/// afterwards the number may belong to something else.
pub fn take_inherited(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: F_SETFD on any number is harmless: EBADF where nothing is open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(OsError::new("take over an inherited descriptor", Errno::last()));
    }
    // SAFETY: it is open (checked above), and by the rule of use nobody else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
