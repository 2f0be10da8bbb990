//! What a failed system call looks like to a person: what was tried, on what, and why not.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// An error number of the kernel (errno(3)). Displays as `Permission denied (EACCES)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

impl Errno {
    /// Operation not permitted.
    pub const PERM: Self = Self(libc::EPERM);
    /// No such file or directory.
    pub const NOENT: Self = Self(libc::ENOENT);
    /// No such process.
    pub const SRCH: Self = Self(libc::ESRCH);
    /// Argument list too long.
    pub const TOOBIG: Self = Self(libc::E2BIG);
    /// Exec format error.
    pub const NOEXEC: Self = Self(libc::ENOEXEC);
    /// No child processes.
    pub const CHILD: Self = Self(libc::ECHILD);
    /// Resource temporarily unavailable (the same number as EWOULDBLOCK).
    pub const AGAIN: Self = Self(libc::EAGAIN);
    /// Permission denied.
    pub const ACCES: Self = Self(libc::EACCES);
    /// Device or resource busy.
    pub const BUSY: Self = Self(libc::EBUSY);
    /// File exists.
    pub const EXIST: Self = Self(libc::EEXIST);
    /// Directory not empty.
    pub const NOTEMPTY: Self = Self(libc::ENOTEMPTY);
    /// Not a directory.
    pub const NOTDIR: Self = Self(libc::ENOTDIR);
    /// Is a directory.
    pub const ISDIR: Self = Self(libc::EISDIR);
    /// Invalid argument.
    pub const INVAL: Self = Self(libc::EINVAL);
    /// Inappropriate ioctl for device.
    pub const NOTTY: Self = Self(libc::ENOTTY);
    /// Text file busy.
    pub const TXTBSY: Self = Self(libc::ETXTBSY);
    /// No space left on device.
    pub const NOSPC: Self = Self(libc::ENOSPC);
    /// Broken pipe.
    pub const PIPE: Self = Self(libc::EPIPE);
    /// Function not implemented.
    pub const NOSYS: Self = Self(libc::ENOSYS);
    /// Too many levels of symbolic links; also what `O_NOFOLLOW` answers for a link.
    pub const LOOP: Self = Self(libc::ELOOP);
    /// Address already in use.
    pub const ADDRINUSE: Self = Self(libc::EADDRINUSE);
    /// Interrupted system call.
    pub const INTR: Self = Self(libc::EINTR);
    /// Input/output error.
    pub const IO: Self = Self(libc::EIO);
    /// Disk quota exceeded.
    pub const DQUOT: Self = Self(libc::EDQUOT);

    /// The error with this number.
    #[must_use]
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// Its symbolic name, `EACCES`; a number this build has no name for shows as `errno 999`.
    #[must_use]
    pub fn name(self) -> String {
        match self.known() {
            Some(known) => format!("{known:?}"),
            None => format!("errno {}", self.0),
        }
    }

    fn known(self) -> Option<nix::errno::Errno> {
        let known = nix::errno::Errno::from_raw(self.0);
        (known != nix::errno::Errno::UnknownErrno).then_some(known)
    }

    /// The error of the last libc call of this thread.
    #[must_use]
    pub fn last() -> Self {
        Self(nix::errno::Errno::last_raw())
    }

    /// The number inside an `io::Error`, `EIO` if it carries none.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some(known) => write!(f, "{} ({known:?})", known.desc()),
            None => write!(f, "unknown error (errno {})", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error())
    }
}

impl From<nix::errno::Errno> for Errno {
    fn from(errno: nix::errno::Errno) -> Self {
        Self(errno as i32)
    }
}

impl From<&io::Error> for Errno {
    fn from(error: &io::Error) -> Self {
        Self::of(error)
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        Self::of(&error)
    }
}

/// One thing that could not be done. Displays as `cannot open /x/y: Permission denied (EACCES)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsError {
    /// What was tried, as the words after "cannot": `open`, `wait for events`.
    pub what: &'static str,
    /// On which file, where there is one.
    pub path: Option<PathBuf>,
    /// Why not.
    pub errno: Errno,
    /// What the bare number does not say: `it is a symbolic link`, `owned by uid 7`.
    pub detail: Option<String>,
}

/// The result of an operation of this crate.
pub type Result<T> = std::result::Result<T, OsError>;

impl OsError {
    /// An operation without a file that failed.
    #[must_use]
    pub fn new(what: &'static str, errno: impl Into<Errno>) -> Self {
        Self { what, path: None, errno: errno.into(), detail: None }
    }

    /// An operation on a file that failed.
    #[must_use]
    pub fn at(what: &'static str, path: impl AsRef<Path>, errno: impl Into<Errno>) -> Self {
        Self { what, path: Some(path.as_ref().to_owned()), errno: errno.into(), detail: None }
    }

    /// The same with a sentence that says more than the number.
    #[must_use]
    pub fn because(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.what)?;
        if let Some(path) = &self.path {
            write!(f, " {}", path.display())?;
        }
        match &self.detail {
            Some(detail) => write!(f, ": {detail} ({})", self.errno.name()),
            None => write!(f, ": {}", self.errno),
        }
    }
}

impl std::error::Error for OsError {}

impl From<OsError> for io::Error {
    fn from(error: OsError) -> Self {
        let kind = io::Error::from_raw_os_error(error.errno.raw()).kind();
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_what_where_and_why() {
        let error = OsError::at("open", "/x/y", Errno::ACCES);
        assert_eq!(error.to_string(), "cannot open /x/y: Permission denied (EACCES)");
        assert_eq!(
            OsError::new("wait", Errno::from_raw(99_999)).to_string(),
            "cannot wait: unknown error (errno 99999)"
        );
        let error = error.because("it is a symbolic link");
        assert_eq!(error.to_string(), "cannot open /x/y: it is a symbolic link (EACCES)");
    }

    #[test]
    fn an_io_error_made_of_it_keeps_its_kind() {
        let error: io::Error = OsError::at("open", "/x", Errno::NOENT).into();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
