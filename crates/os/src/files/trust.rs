//! Whether a file can be changed by people other than root and ourselves: asked before root obeys a configuration or runs a program of its own.

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType};

use crate::error::{OsError, Result};

/// Why a file is not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distrust {
    /// The file itself or a directory above it.
    pub path: PathBuf,
    /// `it belongs to uid 1000`, `others can write it (mode 0666)`.
    pub reason: String,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// `Ok(None)` if nobody but root and ourselves can change what is at `path`: by the file, by a directory above it, or by a link
/// on the way (whose own place is examined too).
pub fn check_trusted(path: &Path) -> Result<Option<Distrust>> {
    let absolute = std::path::absolute(path).map_err(|e| OsError::at("resolve", path, e))?;
    // Both the way as written and the way after all links: either can be used to put something else there.
    let real = std::fs::canonicalize(&absolute).map_err(|e| OsError::at("resolve", path, e))?;
    for way in [&absolute, &real] {
        for step in way.ancestors() {
            if let Some(found) = judge(step)? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

fn judge(path: &Path) -> Result<Option<Distrust>> {
    let meta = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| OsError::at("look at", path, e))?;
    let found = |reason: String| Ok(Some(Distrust { path: path.to_owned(), reason }));
    let kind = FileType::from_raw_mode(meta.st_mode);
    let me = rustix::process::geteuid().as_raw();
    if meta.st_uid != 0 && meta.st_uid != me {
        return found(format!("it belongs to uid {}", meta.st_uid));
    }
    // A link has no permissions of its own: its directory decides.
    if kind == FileType::Symlink {
        return Ok(None);
    }
    let mode = meta.st_mode & 0o7777;
    // In a sticky directory (/tmp) only the owner of an entry can replace it.
    if kind == FileType::Directory && mode & 0o1000 != 0 {
        return Ok(None);
    }
    // A group of our own or root's is as good as ourselves only where it is root's: who else is in ours is not known.
    let by_group = mode & 0o020 != 0 && meta.st_gid != 0;
    if mode & 0o002 != 0 || by_group {
        return found(format!(
            "{} can write it (mode {mode:04o})",
            if mode & 0o002 != 0 { "others" } else { "its group" }
        ));
    }
    Ok(None)
}
