//! A log and the files it was rotated into: `web.log`, `web.log.1`, `web.log.2`, …

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A chain that is longer than this is no rotation of ours.
const LONGEST: usize = 10_000;

/// A chain ends where so many numbers in a row are missing. While it is being rotated one is missing for a
/// moment, and perhaps another one when it is looked at again.
const MOST_MISSING: usize = 4;

/// What a file is, whatever it is called: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity(u64, u64);

/// An opened log file.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) file: File,
    pub(super) identity: Identity,
}

impl LogFile {
    /// Opens it for reading: a regular file, no link, without waiting for a FIFO's writer.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NOCTTY;
        let flags = i32::try_from(flags.bits()).unwrap_or(0);
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok(Self { identity: Identity(found.dev(), found.ino()), file })
    }

    /// Its length now.
    pub(super) fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Whether it still has a name.
    pub(super) fn is_named(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.nlink() > 0)
    }

    /// When it was written last.
    pub(super) fn written(&self) -> io::Result<std::time::SystemTime> {
        self.file.metadata()?.modified()
    }
}

/// What lies at this path now.
pub(super) fn identity_at(path: &Path) -> Option<Identity> {
    fs::symlink_metadata(path).ok().map(|found| Identity(found.dev(), found.ino()))
}

/// The path of the `number`th old file; 0 is the log itself.
pub(super) fn path_of(log: &Path, number: usize) -> PathBuf {
    if number == 0 {
        return log.to_owned();
    }
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// Every file of the chain, opened, newest first.
///
/// Looked at in this order because rotation only moves files to higher numbers: one that moves meanwhile is
/// seen twice (and counted once), and none is missed that is newer than another that was seen.
pub(super) fn open_all(log: &Path) -> io::Result<Vec<LogFile>> {
    let mut files: Vec<LogFile> = Vec::new();
    let mut missing = 0;
    for number in 0..LONGEST {
        match LogFile::open(&path_of(log, number)) {
            Ok(found) => {
                missing = 0;
                if files.iter().all(|file| file.identity != found.identity) {
                    files.push(found);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing += 1,
            Err(error) => return Err(error),
        }
        if missing == MOST_MISSING {
            break;
        }
    }
    Ok(files)
}
