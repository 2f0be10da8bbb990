//! Unix stream sockets for control, closed to others from their first instant.
//!
//! It is bound inside a fresh private folder, given its mode there, and only then renamed to its place.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::error::{OsError, Result};
use crate::socket_place::{Place, address};

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
    let place = Place::open(path, false)?;
    place.remove_stale(SocketType::STREAM)?;
    let private = place.private()?;
    let fd = stream_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    private.bind(&fd)?;
    private.set_mode(0o600)?;
    rustix::net::listen(&fd, BACKLOG).map_err(|e| OsError::at("listen on", path, e))?;
    private.publish()?;
    Ok(fd)
}

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Connects to the socket at `path`; the descriptor is non-blocking.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    let fd = stream_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    rustix::net::connect(&fd, &address(path, path)?).map_err(|e| OsError::at("connect to", path, e))?;
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
