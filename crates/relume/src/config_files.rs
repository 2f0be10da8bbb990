//! The disk, as the configuration may see it.
//!
//! Only regular files are read, never more of them than allowed: a FIFO would hang the reader, a device may
//! act on being opened. Opened once without blocking, then judged by what was opened.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use relume_config::{Entry, FileError, FileErrorKind, Files};

/// The real file system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
        let mut file = open_regular(path)?;
        let mut bytes = Vec::new();
        // One more than allowed, so that a file that grows meanwhile is seen as well.
        Read::by_ref(&mut file)
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| reason(&error))?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
            let reason = format!("it is larger than {limit} bytes");
            return Err(FileError { kind: FileErrorKind::TooLarge, reason });
        }
        Ok(bytes)
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>, FileError> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir).map_err(|error| reason(&error))? {
            let entry = entry.map_err(|error| reason(&error))?;
            // What is not UTF-8 cannot be named by a config.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let directory = fs::metadata(entry.path()).is_ok_and(|found| found.is_dir());
            entries.push(Entry { name, directory });
        }
        Ok(entries)
    }

    fn identity(&self, path: &Path) -> PathBuf {
        fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
    }
}

fn open_regular(path: &Path) -> Result<File, FileError> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file =
        OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| reason(&error))?;
    let found = file.metadata().map_err(|error| reason(&error))?;
    if found.is_dir() {
        return Err(FileError { kind: FileErrorKind::Directory, reason: "it is a directory".into() });
    }
    if !found.is_file() {
        let reason = "it is not a regular file (a FIFO, socket or device)".into();
        return Err(FileError { kind: FileErrorKind::NotRegular, reason });
    }
    Ok(file)
}

fn reason(error: &io::Error) -> FileError {
    let kind =
        if error.kind() == io::ErrorKind::NotFound { FileErrorKind::NotFound } else { FileErrorKind::Other };
    let reason = match error.raw_os_error() {
        Some(number) => relume_os::Errno::from_raw(number).to_string(),
        None => error.to_string(),
    };
    FileError { kind, reason }
}

/// Whether one of these files contains the word. True where that cannot be said cheaply: a directory, or a file
/// that is no small regular one.
pub(crate) fn may_mention(paths: &[PathBuf], word: &[u8]) -> bool {
    /// A config of 10,000 services; a larger one is left to the real reader.
    const CHEAP: u64 = 16 << 20;
    paths.iter().any(|path| match Disk.read(path, CHEAP) {
        Ok(text) => text.windows(word.len()).any(|window| window == word),
        Err(error) => error.kind != FileErrorKind::NotFound,
    })
}
