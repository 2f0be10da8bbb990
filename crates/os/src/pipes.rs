//! Pipes that carry a service's output.
//!
//! `fchown` to the service's user makes `/dev/stdout` open for it (a pipe belongs to whom created it, and re-opening through
//! `/proc/self/fd` asks for permission again). A standard error that is the same pipe re-opened for reading *and* writing
//! keeps a reader alive while nobody else does, so that the service blocks instead of dying of SIGPIPE.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::{OsError, Result};

/// Both ends of a new pipe, close-on-exec, blocking.
#[derive(Debug)]
pub struct Pipe {
    /// Where what was written comes out.
    pub read: OwnedFd,
    /// Where to write.
    pub write: OwnedFd,
}

impl Pipe {
    /// A new pipe. An ordinary user who already has 64 MiB of them gets 8 KiB instead of 64.
    pub fn new() -> Result<Self> {
        crate::tally::act();
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| OsError::new("create a pipe", e))?;
        Ok(Self { read, write })
    }
}

/// Bytes that all pipes of an ordinary user may hold together before new ones get 8 KiB (pipe(7)).
pub fn user_bytes() -> usize {
    // What the kernel has where nothing is set, in pages; 0 stands for no limit.
    const USUAL: usize = 16_384;
    let pages = std::fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft");
    let pages = pages.ok().and_then(|text| text.trim().parse().ok()).filter(|pages| *pages > 0);
    pages.unwrap_or(USUAL).saturating_mul(rustix::param::page_size())
}

/// Gives the pipe (both ends are one inode) to a user and group.
pub fn give_to(pipe: impl AsFd, uid: u32, gid: u32) -> Result<()> {
    let (uid, gid) = (rustix::process::Uid::from_raw(uid), rustix::process::Gid::from_raw(gid));
    rustix::fs::fchown(pipe, Some(uid), Some(gid))
        .map_err(|e| OsError::new("give a pipe to the service's user", e))
}

/// The read end of the pipe behind another process's descriptor, if it is the pipe with this device and inode.
///
/// Opened in two steps, because a service could have put any file there by now, and root would read it into the
/// service's log: first as a mere name (`O_PATH`), whose type and identity are checked, then for reading through
/// that name.
///
/// # Errors
/// `ENOENT` when the process or its descriptor is gone, `ENXIO` when it is another file.
pub fn reopen_of(pid: u32, number: i32, identity: (u64, u64)) -> Result<OwnedFd> {
    let path = std::path::PathBuf::from(format!("/proc/{pid}/fd/{number}"));
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let name = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| OsError::at("open", &path, e))?;
    let meta = rustix::fs::fstat(&name).map_err(|e| OsError::at("look at", &path, e))?;
    let is_fifo = rustix::fs::FileType::from_raw_mode(meta.st_mode) == rustix::fs::FileType::Fifo;
    if !is_fifo || (meta.st_dev, meta.st_ino) != identity {
        let error = OsError::at("use", &path, rustix::io::Errno::NXIO);
        return Err(error.because("it is not the pipe that it was"));
    }
    let own = format!("/proc/self/fd/{}", name.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(own, flags, Mode::empty()).map_err(|e| OsError::at("open", &path, e))
}

/// The same pipe opened once more for reading and writing. Never for a descriptor 1: some programs take a readable standard
/// output for a peer that has closed.
pub fn reopen_read_write(pipe: impl AsFd) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", pipe.as_fd().as_raw_fd());
    rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| OsError::at("re-open a pipe through", path, e))
}

/// Bytes that wait in the pipe (FIONREAD). The only reader gets exactly so many from its next read.
pub fn bytes_waiting(pipe: impl AsFd) -> Result<usize> {
    let n = rustix::io::ioctl_fionread(pipe).map_err(|e| OsError::new("ask how full a pipe is", e))?;
    Ok(usize::try_from(n).unwrap_or(usize::MAX))
}

/// How many bytes the pipe can hold.
pub fn capacity(pipe: impl AsFd) -> Result<usize> {
    rustix::pipe::fcntl_getpipe_size(pipe).map_err(|e| OsError::new("ask for a pipe's size", e))
}

/// Makes the pipe hold at least so many bytes; what it then holds. EPERM above the user's share, EBUSY when shrunk below its
/// content. May be done while it is full.
pub fn set_capacity(pipe: impl AsFd, bytes: usize) -> Result<usize> {
    rustix::pipe::fcntl_setpipe_size(pipe, bytes).map_err(|e| OsError::new("resize a pipe", e))
}

/// Reads and writes of this open file description return EAGAIN instead of waiting (or wait again).
pub fn set_nonblocking(fd: impl AsFd, on: bool) -> Result<()> {
    let fd = fd.as_fd();
    let mut flags = rustix::fs::fcntl_getfl(fd).map_err(|e| OsError::new("read a descriptor's flags", e))?;
    flags.set(OFlags::NONBLOCK, on);
    rustix::fs::fcntl_setfl(fd, flags).map_err(|e| OsError::new("set a descriptor's flags", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_kept_by_its_own_second_end_survives_the_reader() {
        let pipe = Pipe::new().unwrap();
        let kept = reopen_read_write(&pipe.write).unwrap();
        drop(pipe.read);
        assert_eq!(rustix::io::write(&pipe.write, b"still here").unwrap(), 10, "no EPIPE, no SIGPIPE");
        assert_eq!(bytes_waiting(&kept).unwrap(), 10);
    }

    #[test]
    fn a_pipe_can_be_measured_and_enlarged() {
        let pipe = Pipe::new().unwrap();
        let size = capacity(&pipe.read).unwrap();
        assert!(set_capacity(&pipe.read, size * 2).unwrap() >= size * 2);
    }

    #[test]
    fn a_nonblocking_empty_pipe_says_again() {
        let pipe = Pipe::new().unwrap();
        set_nonblocking(&pipe.read, true).unwrap();
        let mut byte = [0u8; 1];
        assert_eq!(rustix::io::read(&pipe.read, &mut byte), Err(rustix::io::Errno::AGAIN));
    }
}
