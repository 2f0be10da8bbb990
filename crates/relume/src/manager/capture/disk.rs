//! The few file operations that capture needs, as a seam: tests put a disk behind it that fills up, fails or dies
//! between two steps. The real one never follows a link in the last place of a path and opens nothing but regular
//! files of its own.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use relume_os::files::{self, FileId};
use relume_os::{Errno, OsError, Result};

/// What a path or an open file is, beyond its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// What `fstat` says of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) identity: Identity,
    pub(super) size: u64,
    /// Names it has; 0: deleted.
    pub(super) names: u64,
}

/// An open file.
pub(super) trait Handle: Send {
    fn stat(&self) -> io::Result<Stat>;
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    fn set_len(&self, size: u64) -> io::Result<()>;
}

/// The names of files. Errors carry the path.
pub(super) trait Disk: Send {
    /// Opens `path` for reading and writing, creating it with `mode` and the directories above it when missing.
    /// Refuses what is not a regular file with one name.
    fn open(&self, path: &Path, mode: u32) -> Result<Box<dyn Handle>>;
    /// What stands at `path`, links not followed; `None`: nothing.
    fn identity(&self, path: &Path) -> Result<Option<Identity>>;
    /// Bytes of the file at `path`, links not followed; 0: nothing is there.
    fn size(&self, path: &Path) -> u64;
    /// Renames, replacing what stands at `to`.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Removes `path`. Nothing there is no error.
    fn remove(&self, path: &Path) -> Result<()>;
}

/// Mode of a log directory that has to be made: its files say who may read them.
const DIRECTORY_MODE: u32 = 0o755;

/// The file system.
pub(super) struct RealDisk;

impl Handle for File {
    fn stat(&self) -> io::Result<Stat> {
        let id = files::identify(self)?;
        Ok(Stat { identity: identity_of(&id), size: id.size, names: id.links })
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }
    fn set_len(&self, size: u64) -> io::Result<()> {
        File::set_len(self, size)
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: u32) -> Result<Box<dyn Handle>> {
        let file = match files::open_append_safe(path, mode) {
            Err(error) if error.errno == Errno::NOENT => {
                if let Some(directory) = path.parent() {
                    files::create_dir(directory, DIRECTORY_MODE)?;
                }
                files::open_append_safe(path, mode)?
            }
            other => other?,
        };
        Ok(Box::new(File::from(file)))
    }

    fn identity(&self, path: &Path) -> Result<Option<Identity>> {
        Ok(files::identify_at(path)?.as_ref().map(identity_of))
    }

    fn size(&self, path: &Path) -> u64 {
        files::identify_at(path).ok().flatten().map_or(0, |id| id.size)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        match files::rename(from, to)? {
            true => Ok(()),
            false => Err(OsError::at("rename", from, Errno::NOENT)),
        }
    }

    fn remove(&self, path: &Path) -> Result<()> {
        match files::remove(path) {
            Err(error) if error.errno != Errno::NOENT => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

fn identity_of(id: &FileId) -> Identity {
    Identity { device: id.device, inode: id.inode }
}
