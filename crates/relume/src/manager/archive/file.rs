//! The database as a file: whether it is ours to open, and where it goes when it cannot be used.
//!
//! Looked at before SQLite is: a file of another version, or of somebody else, is not even opened.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use relume_os::files::{self, FileId};

/// The version of what stands in the database.
pub(super) const SCHEMA: u32 = 1;

/// `rlum` in ASCII: the `application_id` of our databases.
pub(super) const APPLICATION: u32 = u32::from_be_bytes(*b"rlum");

/// How a database begins (<https://www.sqlite.org/fileformat2.html>).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER: usize = 100;
const AT_VERSION: usize = 60;
const AT_APPLICATION: usize = 68;

/// Databases that were moved aside and are kept. What comes after so many replaces the last.
const MOST_ASIDE: u32 = 9;

/// What is found under the name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing.
    Nothing,
    /// A database of ours, as far as its header says.
    Ours,
    /// Something that cannot be used and is worth nothing where it is.
    Broken(String),
    /// Something that is not to be touched.
    NotOurs(String),
    /// It cannot be told now.
    Unknown(String),
}

pub(super) fn look(path: &Path) -> Look {
    match files::identify_at(path) {
        Ok(None) => return Look::Nothing,
        Ok(Some(found)) if !found.is_regular() => {
            return Look::NotOurs("it is not a regular file".into());
        }
        Ok(Some(_)) => {}
        Err(error) => return Look::Unknown(error.to_string()),
    }
    // Refuses what has other names too, and what belongs to somebody else: writing would touch that.
    if let Err(error) = files::open_append_safe(path, super::database::MODE).map(drop) {
        return match files::open_read(path) {
            Ok(_) if is_forbidden(path) => Look::Ours,
            Ok(_) => Look::NotOurs(error.to_string()),
            Err(error) => Look::Unknown(error.to_string()),
        };
    }
    let mut header = Vec::with_capacity(HEADER);
    let read = files::open_read(path).map_err(|error| error.to_string()).and_then(|fd| {
        File::from(fd).take(HEADER as u64).read_to_end(&mut header).map_err(|error| error.to_string())
    });
    match read {
        Ok(_) => judge(&header),
        Err(error) => Look::Unknown(error),
    }
}

/// Whether the file can be read and only may not be written: then its content still counts.
fn is_forbidden(path: &Path) -> bool {
    use rustix::fs::{Access, access};
    access(path, Access::WRITE_OK).is_err() && access(path, Access::READ_OK).is_ok()
}

fn judge(header: &[u8]) -> Look {
    let number = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    };
    if header.len() < HEADER {
        return Look::Broken(format!("it is cut off: {} bytes", header.len()));
    }
    if !header.starts_with(MAGIC) {
        return Look::Broken("it is no database".into());
    }
    if number(AT_APPLICATION) != APPLICATION {
        return Look::NotOurs("it is a database of some other program".into());
    }
    match number(AT_VERSION) {
        0 => Look::Broken("it was never finished".into()),
        version if version > SCHEMA => Look::NotOurs(format!(
            "it was written by a newer relume (version {version} of its content, this relume knows {SCHEMA})"
        )),
        _ => Look::Ours,
    }
}

/// Moves a database aside, with what SQLite has beside it; its new name.
pub(super) fn move_aside(path: &Path) -> Result<PathBuf, String> {
    let free = |n: &u32| matches!(files::identify_at(&numbered(path, *n)), Ok(None));
    let n = (1..=MOST_ASIDE).find(free).unwrap_or(MOST_ASIDE);
    let aside = numbered(path, n);
    files::rename(path, &aside).map_err(|error| error.to_string())?;
    // Left where it is it would be taken for part of the next database.
    let log = beside(path, "-wal");
    if files::rename(&log, &beside(&aside, "-wal")).is_err() {
        files::remove(&log).map_err(|error| error.to_string())?;
    }
    for suffix in ["-shm", "-journal"] {
        files::remove(&beside(path, suffix)).map_err(|error| error.to_string())?;
    }
    Ok(aside)
}

/// `path` with `suffix` at its end.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    beside(path, &format!(".corrupt-{n}"))
}

/// Which file has the name now.
pub(super) fn identity(path: &Path) -> Option<FileId> {
    files::identify_at(path).ok().flatten()
}
