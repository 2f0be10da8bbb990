//! The one door to the file system: the caller's. Tests hand in a map, the program hands in the disk.

use std::path::{Path, PathBuf};

/// What the config may ask of the file system.
pub trait Files {
    /// The bytes of a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// With a reason a person understands. Implementations must open without blocking and refuse whatever is
    /// not a regular file: a FIFO would hang the reader, a device may have effects.
    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, FileError>;

    /// The entries of a directory, in any order, without `.` and `..`.
    ///
    /// # Errors
    /// When it is no directory or cannot be read.
    fn list(&self, dir: &Path) -> Result<Vec<Entry>, FileError>;

    /// One name for each file however it is reached, so that a cycle of includes through links is seen. The
    /// default takes the path as it is, which is right where there are no links.
    fn identity(&self, path: &Path) -> PathBuf {
        path.to_path_buf()
    }
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name, without the directory. What is not UTF-8 cannot be named by a config and may be left out.
    pub name: String,
    /// Whether it is a directory (links followed).
    pub directory: bool,
}

/// Why a file could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// What kind of reason: some have an answer (`required: false`), some have a hint.
    pub kind: FileErrorKind,
    /// The reason in words: the text of the errno, or what the file is instead.
    pub reason: String,
}

/// Kinds of reasons why a file could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileErrorKind {
    /// There is none of that name.
    NotFound,
    /// It is a directory.
    Directory,
    /// It is something else than a regular file (FIFO, socket, device).
    NotRegular,
    /// It is larger than the limit.
    TooLarge,
    /// Anything else: permission, I/O error.
    Other,
}
