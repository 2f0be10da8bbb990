//! Replacing a file so that a reader sees the old or the new content, never a mixture.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, RawMode};

use super::{dir::open_dir, split};
use crate::error::{Errno, OsError, Result};

/// What a crash of the machine may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives the death of this process.
    Process,
    /// Survives a loss of power: file and directory are synced.
    Disk,
}

/// Puts `bytes` at `path` with exactly `mode`, by a temporary file beside it. What stood there, a link too, is replaced, not followed.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> Result<()> {
    crate::tally::act();
    let (parent, name) = split(path)?;
    let dir = open_dir(&parent)?;
    let (temporary, file) = create_temporary(&dir, name, mode, path)?;
    let result = fill(&file, bytes, durability, path).and_then(|()| {
        rustix::fs::renameat(&dir, &temporary, &dir, name).map_err(|e| OsError::at("replace", path, e))?;
        match durability {
            Durability::Process => Ok(()),
            Durability::Disk => rustix::fs::fsync(&dir).map_err(|e| OsError::at("sync", &parent, e)),
        }
    });
    if result.is_err() {
        // Best effort: after a successful rename there is nothing to remove.
        let _gone = rustix::fs::unlinkat(&dir, &temporary, AtFlags::empty());
    }
    result
}

fn fill(file: &OwnedFd, bytes: &[u8], durability: Durability, path: &Path) -> Result<()> {
    super::pwrite_all(file, bytes, 0).map_err(|(_, e)| OsError::at("write", path, e))?;
    match durability {
        Durability::Process => Ok(()),
        Durability::Disk => rustix::fs::fsync(file).map_err(|e| OsError::at("sync", path, e)),
    }
}

/// `.NAME.PID.N.tmp`: a name no writer shares, so that two of us cannot mix.
fn create_temporary(
    dir: &OwnedFd,
    name: &std::ffi::OsStr,
    mode: u32,
    path: &Path,
) -> Result<(OsString, OwnedFd)> {
    let wanted = Mode::from_raw_mode(RawMode::from(mode & 0o7777));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for n in 0..1000 {
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}.{n}.tmp", std::process::id()));
        match rustix::fs::openat(dir, &temporary, flags, wanted) {
            Ok(file) => {
                rustix::fs::fchmod(&file, wanted).map_err(|e| OsError::at("set the mode of", path, e))?;
                return Ok((temporary, file));
            }
            Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(OsError::at("create a temporary file for", path, e)),
        }
    }
    Err(OsError::at("create a temporary file for", path, Errno::EXIST))
}
