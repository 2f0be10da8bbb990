//! Becoming another program with some descriptors kept, and taking over descriptors that were kept for us.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
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
    if let Err(error) = place_all(keep) {
        return error;
    }
    let mut command = std::process::Command::new(program);
    if let Some((name, rest)) = argv.split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear().envs(environment.iter().map(|(key, value)| (key, value)));
    OsError::at("execute", program, Errno::of(&command.exec()))
}

/// A descriptor that stands where another is to be put moves out of the way first.
fn place_all(keep: &[(BorrowedFd<'_>, RawFd)]) -> Result<()> {
    let above = keep.iter().map(|(_, number)| number + 1).max().unwrap_or(0);
    let apart = |fd| {
        rustix::io::fcntl_dupfd_cloexec(fd, above)
            .map_err(|error| OsError::new("keep a descriptor over an exec", error))
    };
    let sources = keep.iter().map(|(fd, _)| apart(fd)).collect::<Result<Vec<_>>>()?;
    sources.iter().zip(keep).try_for_each(|(source, (_, number))| place(source.as_fd(), *number))
}

/// Puts a copy of `fd` at `number`, which is another, to be inherited over an exec.
fn place(fd: BorrowedFd<'_>, number: RawFd) -> Result<()> {
    // SAFETY: dup2 of an open descriptor to another number; what stood there is closed, which the caller wants.
    let done = unsafe { libc::dup2(fd.as_raw_fd(), number) };
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

/// A program with all that it is to get, put together beforehand: to execute it takes no memory and no lock, so
/// a signal handler may.
#[derive(Debug)]
pub struct Prepared {
    program: CString,
    /// What the pointers below point into.
    _strings: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    keep: Vec<RawFd>,
}

impl Prepared {
    /// Puts it together. The descriptors in `keep` stay open over the exec, at their numbers.
    ///
    /// # Errors
    /// `EINVAL` for a string with a NUL in it.
    pub fn new(
        program: &Path,
        argv: &[OsString],
        environment: &[(OsString, OsString)],
        keep: &[RawFd],
    ) -> Result<Self> {
        let text = |bytes: &[u8]| {
            CString::new(bytes).map_err(|_| OsError::at("prepare to execute", program, Errno::INVAL))
        };
        let path = text(program.as_os_str().as_bytes())?;
        let words = argv.iter().map(|word| text(word.as_bytes())).collect::<Result<Vec<_>>>()?;
        let pairs = environment.iter().map(|(key, value)| {
            let pair = [key.as_bytes(), b"=", value.as_bytes()].concat();
            text(&pair)
        });
        let pairs = pairs.collect::<Result<Vec<_>>>()?;
        let pointers = |strings: &[CString]| {
            let all = strings.iter().map(|string| string.as_ptr());
            all.chain([std::ptr::null()]).collect::<Vec<_>>()
        };
        let (argv, environment) = (pointers(&words), pointers(&pairs));
        let strings = words.into_iter().chain(pairs).collect();
        Ok(Self { program: path, _strings: strings, argv, environment, keep: keep.to_vec() })
    }

    /// Where the value of the last variable stands, for a signal handler that has to say something in it.
    pub(crate) fn last_value(&self, length: usize) -> Option<*mut u8> {
        let last = self.environment.iter().rev().find(|pointer| !pointer.is_null())?;
        // SAFETY: it points to a NUL-terminated string of ours.
        let whole = unsafe { std::ffi::CStr::from_ptr(*last) }.to_bytes().len();
        // SAFETY: within that string, for it is at least `length` long.
        (whole >= length).then(|| unsafe { last.cast_mut().cast::<u8>().add(whole - length) })
    }

    /// Becomes that program, with this process's id, children, signal mask and whatever it ignores. Comes back only
    /// if that fails; then nothing has changed. Only system calls are made.
    #[must_use]
    pub fn execute(&self) -> Errno {
        crate::tally::act();
        self.set_flags(0);
        // SAFETY: NUL-terminated strings and null-terminated lists of them, alive for as long as `self` is.
        unsafe { libc::execve(self.program.as_ptr(), self.argv.as_ptr(), self.environment.as_ptr()) };
        let errno = Errno::last();
        self.set_flags(libc::FD_CLOEXEC);
        errno
    }

    fn set_flags(&self, flags: i32) {
        for number in &self.keep {
            // SAFETY: F_SETFD changes a flag; EBADF where nothing is open.
            unsafe { libc::fcntl(*number, libc::F_SETFD, flags) };
        }
    }
}
