//! How much room there is on the file systems that relume writes to.

use std::path::{Path, PathBuf};

/// Less than this is trouble soon, in bytes: a busy service writes as much in minutes.
pub(crate) const LITTLE: u64 = 256 << 20;

/// Less than this is trouble now: the database, the status file and a rotation need it at once.
pub(crate) const NOTHING: u64 = 16 << 20;

/// Fewer files than this that could still be made are trouble now.
pub(crate) const FEW_FILES: u64 = 100;

/// One file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Room {
    /// What is written there: `logs`, `state`.
    pub(crate) what: &'static str,
    /// The folder, or the nearest above it that exists.
    pub(crate) dir: PathBuf,
    /// Bytes that this user may still write.
    pub(crate) free: u64,
    /// Bytes in all.
    pub(crate) total: u64,
    /// Files that can still be made; none: the file system does not count them.
    pub(crate) files: Option<u64>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shortage {
    /// Not at all.
    None,
    /// Below [`LITTLE`].
    Little,
    /// Below [`NOTHING`], or no file can be made.
    Nothing,
}

impl Room {
    pub(crate) fn shortage(&self) -> Shortage {
        if self.free < NOTHING || self.files.is_some_and(|files| files < FEW_FILES) {
            Shortage::Nothing
        } else if self.free < LITTLE {
            Shortage::Little
        } else {
            Shortage::None
        }
    }
}

/// Each file system once. May wait for a disk.
pub(crate) fn look<'a>(dirs: impl IntoIterator<Item = (&'static str, &'a Path)>) -> Vec<Room> {
    let mut seen = Vec::new();
    let mut all = Vec::new();
    for (what, dir) in dirs {
        let Some(there) = dir.ancestors().find(|above| above.is_dir()) else { continue };
        let Ok(stat) = rustix::fs::statvfs(there) else { continue };
        if seen.contains(&stat.f_fsid) {
            continue;
        }
        seen.push(stat.f_fsid);
        all.push(Room {
            what,
            dir: there.to_owned(),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            files: (stat.f_files > 0).then_some(stat.f_favail),
        });
    }
    all
}
