//! Unix stream sockets for control, closed to others from their first instant.
//!
//! A socket bound under its final name has, for a moment, the mode that the umask left it, and the umask belongs to the whole
//! process. So it is bound inside a fresh private directory, given its mode there, and only then renamed to its place. The path must lie
//! in a directory that only trusted users can write.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::{Errno, OsError, Result};

/// Who is at the other end of a unix socket, as the kernel vouches (`SO_PEERCRED`: at the time of connect).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Process id.
    pub pid: u32,
    /// Effective uid.
    pub uid: u32,
    /// Effective gid.
    pub gid: u32,
}

/// A listening socket at `path` that only its owner can connect to (0600), replacing a stale one. `EADDRINUSE` if somebody answers
/// there or if something that is not a socket is in the way. Non-blocking.
pub fn listen_private(path: &Path) -> Result<OwnedFd> {
    remove_stale(path)?;
    let private = private_dir_beside(path)?;
    let inner = private.join("s");
    let result = bind_and_move(&inner, path);
    // What is left of an attempt that failed; after a success only the directory is.
    let _absent = rustix::fs::unlink(&inner);
    let _kept = rustix::fs::rmdir(&private);
    result
}

fn bind_and_move(inner: &Path, path: &Path) -> Result<OwnedFd> {
    let fd = stream_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let address = address(inner)?;
    rustix::net::bind(&fd, &address).map_err(|e| OsError::at("bind a socket in", inner, e))?;
    rustix::fs::chmodat(CWD, inner, Mode::from_raw_mode(0o600), AtFlags::empty())
        .map_err(|e| OsError::at("set the mode of", inner, e))?;
    rustix::net::listen(&fd, BACKLOG).map_err(|e| OsError::at("listen on", path, e))?;
    // Refuses to replace: whatever appeared since the check stays.
    rustix::fs::renameat_with(CWD, inner, CWD, path, rustix::fs::RenameFlags::NOREPLACE)
        .map_err(|e| OsError::at("put the socket at", path, e))?;
    Ok(fd)
}

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Removes a socket nobody listens on any more; true if there was one. Anything else in its place is an error, also a link.
pub fn remove_stale(path: &Path) -> Result<bool> {
    let meta = match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(meta) => meta,
        Err(rustix::io::Errno::NOENT) => return Ok(false),
        Err(e) => return Err(OsError::at("look at", path, e)),
    };
    if FileType::from_raw_mode(meta.st_mode) != FileType::Socket {
        return Err(OsError::at("listen on", path, Errno::ADDRINUSE)
            .because("something that is not a socket is in the way"));
    }
    match connect(path) {
        Ok(_) => {
            Err(OsError::at("listen on", path, Errno::ADDRINUSE).because("another process listens there"))
        }
        Err(e) if e.errno == Errno::from(rustix::io::Errno::CONNREFUSED) => {
            rustix::fs::unlink(path).map_err(|e| OsError::at("remove the stale socket", path, e))?;
            Ok(true)
        }
        // EAGAIN: its backlog is full, so somebody listens.
        Err(e) if e.errno == Errno::AGAIN => {
            Err(OsError::at("listen on", path, Errno::ADDRINUSE).because("another process listens there"))
        }
        Err(e) => Err(e),
    }
}

/// Connects to the socket at `path`; the descriptor is non-blocking.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    let fd = stream_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    rustix::net::connect(&fd, &address(path)?).map_err(|e| OsError::at("connect to", path, e))?;
    Ok(fd)
}

/// Who is at the other end of a connection.
pub fn peer(connection: impl AsFd) -> Result<Peer> {
    let c = rustix::net::sockopt::socket_peercred(connection)
        .map_err(|e| OsError::new("ask who is connected", e))?;
    Ok(Peer {
        pid: u32::try_from(c.pid.as_raw_nonzero().get()).unwrap_or(0),
        uid: c.uid.as_raw(),
        gid: c.gid.as_raw(),
    })
}

/// Bytes that were given to a TCP connection and that the other side's kernel has not acknowledged (tcp(7), SIOCOUTQ).
pub fn unacknowledged(connection: impl AsFd) -> Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open for the time of the call; TIOCOUTQ, which is SIOCOUTQ, writes one int.
    let answer = unsafe { libc::ioctl(connection.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if answer < 0 {
        let error = rustix::io::Errno::from_io_error(&std::io::Error::last_os_error());
        return Err(OsError::new(
            "ask what a connection has not sent",
            error.unwrap_or(rustix::io::Errno::IO),
        ));
    }
    Ok(usize::try_from(bytes).unwrap_or(0))
}

fn stream_socket(flags: SocketFlags) -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|e| OsError::new("create a socket", e))
}

fn address(path: &Path) -> Result<SocketAddrUnix> {
    SocketAddrUnix::new(path).map_err(|e| {
        OsError::at("use as a socket's path", path, e)
            .because("it is longer than the 107 bytes a socket address holds")
    })
}

/// `.s-PID-N` beside `path`: a short name, because a socket's path is short of room, and fresh, because mkdir never follows a link.
pub(crate) fn private_dir_beside(path: &Path) -> Result<PathBuf> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    for n in 0..1000 {
        let candidate = parent.join(format!(".s-{}-{n}", std::process::id()));
        match rustix::fs::mkdir(&candidate, Mode::RWXU) {
            Ok(()) => return Ok(candidate),
            Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(OsError::at("create a private directory in", parent, e)),
        }
    }
    Err(OsError::at("create a private directory in", parent, Errno::EXIST))
}
