//! One holder per place: flock(2) on one open file description, which may be handed on (to a second process, over an exec)
//! and is released when its last copy is closed.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::FlockOperation;

use super::open::{identify, identify_at, open_append_safe};
use crate::error::{OsError, Result};

/// Longest text a holder leaves about itself, in bytes.
const MOST_TEXT: usize = 4096;

/// A lock that is held as long as this, or any copy of its descriptor, is open.
#[derive(Debug)]
pub struct Lock {
    fd: OwnedFd,
}

/// Why there is no lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockError {
    /// Somebody else has it.
    Held {
        /// What the holder wrote about itself.
        by: String,
    },
    /// It could not be tried.
    Failed(OsError),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { by } => write!(f, "held by {by}"),
            Self::Failed(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for LockError {}

impl From<OsError> for LockError {
    fn from(e: OsError) -> Self {
        Self::Failed(e)
    }
}

/// Takes the lock at once or says who has it; `text` (one line: pid, start time) is what others are told.
pub fn lock(path: &Path, text: &str) -> std::result::Result<Lock, LockError> {
    loop {
        let fd = open_append_safe(path, 0o600)?;
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::AGAIN) => return Err(LockError::Held { by: read_text(&fd)? }),
            Err(e) => return Err(OsError::at("lock", path, e).into()),
        }
        // A file that was removed between open and lock would be a lock nobody else sees.
        if identify_at(path)?.is_some_and(|now| identify(&fd).is_ok_and(|mine| mine.same_file(&now))) {
            let lock = Lock { fd };
            lock.describe(text)?;
            return Ok(lock);
        }
    }
}

impl Lock {
    /// A lock taken earlier whose descriptor came over an exec or a socket.
    #[must_use]
    pub fn from_owned(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Changes what others are told about the holder.
    pub fn describe(&self, text: &str) -> Result<()> {
        let bytes = &text.as_bytes()[..text.len().min(MOST_TEXT)];
        super::pwrite_all(&self.fd, bytes, 0).map_err(|(_, e)| OsError::new("write into a lock file", e))?;
        rustix::fs::ftruncate(&self.fd, bytes.len() as u64)
            .map_err(|e| OsError::new("truncate a lock file", e))
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Looks at the text of a holder that has just taken the lock and is about to write it: 200 ms in all.
const LOOKS: u32 = 100;
const BETWEEN_LOOKS: std::time::Duration = std::time::Duration::from_millis(2);

/// What the holder says of itself; empty when it says nothing in time.
fn read_text(fd: &OwnedFd) -> Result<String> {
    for _ in 0..LOOKS {
        let text = text_now(fd)?;
        if !text.is_empty() {
            return Ok(text);
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    Ok(String::new())
}

fn text_now(fd: &OwnedFd) -> Result<String> {
    let mut bytes = vec![0u8; MOST_TEXT];
    let n = rustix::io::pread(fd, &mut bytes, 0).map_err(|e| OsError::new("read a lock file", e))?;
    bytes.truncate(n);
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}
