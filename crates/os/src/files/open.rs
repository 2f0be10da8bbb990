//! Opening, identifying and writing single files.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode};

use super::{dir::open_dir, split};
use crate::error::{Errno, OsError, Result};

/// Which file this is and how large: device and inode tell a replaced file from a grown one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Number of names; 0 once it was removed.
    pub links: u64,
    /// Owner.
    pub uid: u32,
    /// Type and permission bits (inode(7)).
    pub mode: u32,
}

impl FileId {
    fn of(meta: &rustix::fs::Stat) -> Self {
        #[expect(clippy::useless_conversion, reason = "the kernel's types differ between architectures")]
        Self {
            device: meta.st_dev.into(),
            inode: meta.st_ino.into(),
            size: u64::try_from(meta.st_size).unwrap_or(0),
            links: meta.st_nlink.into(),
            uid: meta.st_uid,
            mode: meta.st_mode,
        }
    }

    /// Whether both are the same file, whatever their size.
    #[must_use]
    pub fn same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Whether it is a FIFO or pipe.
    #[must_use]
    pub fn is_fifo(&self) -> bool {
        self.file_type() == FileType::Fifo
    }

    /// Whether it is a regular file.
    #[must_use]
    pub fn is_regular(&self) -> bool {
        self.file_type() == FileType::RegularFile
    }
}

/// What is open here.
pub fn identify(file: impl AsFd) -> Result<FileId> {
    rustix::fs::fstat(file).map(|meta| FileId::of(&meta)).map_err(|e| OsError::new("look at an open file", e))
}

/// What has this name now, without following it if it is a link; `None` if nothing has.
pub fn identify_at(path: &Path) -> Result<Option<FileId>> {
    match rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(meta) => Ok(Some(FileId::of(&meta))),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(e) => Err(OsError::at("look at", path, e)),
    }
}

/// Opens a file to be written with `pwrite` at recorded offsets (so without `O_APPEND`), also readable, making it with
/// exactly `mode` if it is missing. Refused: links, hard links, FIFOs, devices, directories, files of strangers.
pub fn open_append_safe(path: &Path, mode: u32) -> Result<OwnedFd> {
    let (parent, name) = split(path)?;
    let dir = open_dir(&parent)?;
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = match rustix::fs::openat(&dir, name, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => match create_at(&dir, name, flags, mode) {
            // Somebody made one in between: it is judged like one that was there.
            Err(rustix::io::Errno::EXIST) => rustix::fs::openat(&dir, name, flags, Mode::empty()),
            other => other,
        },
        other => other,
    };
    let fd = fd.map_err(|e| explain(path, e))?;
    let directory = identify(&dir)?;
    check_ours(&identify(&fd)?, directory.uid, path)?;
    Ok(fd)
}

/// Makes a new file with exactly `mode`, open for reading and writing; `EEXIST` if the name is taken, by whatever.
pub fn create_regular(path: &Path, mode: u32) -> Result<OwnedFd> {
    let (parent, name) = split(path)?;
    let dir = open_dir(&parent)?;
    create_at(&dir, name, OFlags::RDWR | OFlags::CLOEXEC, mode).map_err(|e| OsError::at("create", path, e))
}

/// Opens a regular file for reading. The last component must not be a link; anything but a regular file is refused.
pub fn open_read(path: &Path) -> Result<OwnedFd> {
    let (parent, name) = split(path)?;
    let dir = open_dir(&parent)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = rustix::fs::openat(&dir, name, flags, Mode::empty()).map_err(|e| explain(path, e))?;
    match identify(&fd)?.is_regular() {
        true => Ok(fd),
        false => Err(OsError::at("open", path, Errno::INVAL).because("it is not a regular file")),
    }
}

fn create_at(dir: &OwnedFd, name: &std::ffi::OsStr, flags: OFlags, mode: u32) -> rustix::io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(RawMode::from(mode & 0o7777));
    let fd = rustix::fs::openat(dir, name, flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW, mode)?;
    // open(2) takes the umask off; the mode is meant exactly.
    rustix::fs::fchmod(&fd, mode)?;
    Ok(fd)
}

fn explain(path: &Path, e: rustix::io::Errno) -> OsError {
    let error = OsError::at("open", path, e);
    match e {
        rustix::io::Errno::LOOP => error.because("it is a symbolic link"),
        rustix::io::Errno::ISDIR => error.because("it is a directory"),
        rustix::io::Errno::NXIO => error.because("it is a FIFO or a socket"),
        _ => error,
    }
}

fn check_ours(file: &FileId, directory_owner: u32, path: &Path) -> Result<()> {
    let refuse = |text: String| Err(OsError::at("write to", path, Errno::PERM).because(text));
    if !file.is_regular() {
        return refuse("it is not a regular file".to_owned());
    }
    if file.links != 1 {
        return refuse(format!(
            "it has {} names (hard links), so it may be somebody else's file",
            file.links
        ));
    }
    if file.uid != rustix::process::geteuid().as_raw() && file.uid != directory_owner {
        return refuse(format!("it belongs to uid {}", file.uid));
    }
    Ok(())
}

/// Writes all of `bytes` at `offset`, however many system calls that takes; on failure says how many were written.
pub fn pwrite_all(file: impl AsFd, bytes: &[u8], offset: u64) -> std::result::Result<(), (usize, Errno)> {
    crate::tally::act();
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::pwrite(&file, &bytes[done..], offset + done as u64) {
            Ok(0) => return Err((done, Errno::IO)),
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err((done, e.into())),
        }
    }
    Ok(())
}

/// Reserves the file's first `size` bytes on disk, so that writing (also through a mapping) cannot run out of space later.
pub fn allocate(file: impl AsFd, size: u64) -> Result<()> {
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, size)
        .map_err(|e| OsError::new("reserve space for a file", e))
}

/// Waits until the file's content is on disk.
pub fn sync(file: impl AsFd) -> Result<()> {
    rustix::fs::fsync(file).map_err(|e| OsError::new("sync a file to disk", e))
}

/// Removes a name that is not a directory (a link itself, never its target); false if there was none.
pub fn remove(path: &Path) -> Result<bool> {
    crate::tally::act();
    let (parent, name) = split(path)?;
    match rustix::fs::unlinkat(open_dir(&parent)?, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(e) => Err(OsError::at("remove", path, e)),
    }
}

/// Renames within one directory, replacing what has the new name; false if there is nothing of the old one.
pub fn rename(from: &Path, to: &Path) -> Result<bool> {
    crate::tally::act();
    let ((parent, old), (other, new)) = (split(from)?, split(to)?);
    if parent != other {
        return Err(
            OsError::at("rename", from, Errno::INVAL).because("the new name lies in another directory")
        );
    }
    let dir = open_dir(&parent)?;
    match rustix::fs::renameat(&dir, old, &dir, new) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(e) => Err(OsError::at("rename", from, e)),
    }
}
