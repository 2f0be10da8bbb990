//! The other side of sd_notify(3): telling the service manager that started us how we are.
//!
//! A message is one datagram to the address in `NOTIFY_SOCKET`. Sending never waits: a service manager that does not
//! read fills its queue, and then the message is not sent and the caller says it again later.

use std::ffi::OsStr;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};

use crate::error::{OsError, Result};

/// Where messages go.
#[derive(Debug)]
pub struct NotifyClient {
    fd: OwnedFd,
    address: SocketAddrUnix,
}

impl NotifyClient {
    /// For the value of `NOTIFY_SOCKET`: an absolute path, or a name in the abstract namespace behind `@`. `None` for
    /// any other kind of address, which is not ours to speak to.
    pub fn to(address: &OsStr) -> Result<Option<Self>> {
        let bytes = address.as_bytes();
        let address = match bytes.first() {
            Some(b'/') => SocketAddrUnix::new(bytes),
            Some(b'@') => SocketAddrUnix::new_abstract_name(&bytes[1..]),
            Some(_) | None => return Ok(None),
        };
        let address = address.map_err(|e| OsError::new("use the address in NOTIFY_SOCKET", e))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
            .map_err(|e| OsError::new("create a socket", e))?;
        Ok(Some(Self { fd, address }))
    }

    /// Sends lines of `KEY=VALUE`; false when there is no room for them now.
    pub fn send(&self, text: &str) -> Result<bool> {
        self.send_with(text, &mut SendAncillaryBuffer::default())
    }

    /// Waits until everything sent before has been read (`BARRIER=1`), at most `patience`; whether it has.
    pub fn wait_until_read(&self, patience: Duration) -> Result<bool> {
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| OsError::new("create a pipe", e))?;
        let fds = [theirs.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let end = Instant::now() + patience;
        while !self.send_with("BARRIER=1", &mut control)? {
            if Instant::now() >= end {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(theirs);
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        // Nobody writes: what comes is the end, when the reader has closed its copy.
        let mut wanted = [PollFd::new(&ours, PollFlags::IN)];
        let came = rustix::event::poll(&mut wanted, Some(&left));
        came.map(|number| number > 0).map_err(|e| OsError::new("wait for the service manager", e))
    }

    fn send_with(&self, text: &str, control: &mut SendAncillaryBuffer<'_, '_, '_>) -> Result<bool> {
        let data = [IoSlice::new(text.as_bytes())];
        match rustix::net::sendmsg_addr(&self.fd, &self.address, &data, control, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(true),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(false),
            Err(e) => Err(OsError::new("tell the service manager", e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn a_path_and_an_abstract_name_are_spoken_to_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let server = UnixDatagram::bind(&path).unwrap();
        assert!(NotifyClient::to(path.as_os_str()).unwrap().unwrap().send("READY=1").unwrap());
        assert_eq!(heard(&server), "READY=1");
        let name = format!("relume-test-{}", std::process::id());
        let server = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let client = NotifyClient::to(OsStr::new(&format!("@{name}"))).unwrap().unwrap();
        assert!(client.send("STATUS=x").unwrap());
        assert_eq!(heard(&server), "STATUS=x");
        assert!(NotifyClient::to(OsStr::new("vsock:2:1")).unwrap().is_none());
        assert!(NotifyClient::to(OsStr::new("")).unwrap().is_none());
    }

    #[test]
    fn nobody_who_listens_is_an_error_and_a_full_queue_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let client = NotifyClient::to(path.as_os_str()).unwrap().unwrap();
        assert!(client.send("READY=1").is_err());
        let server = UnixDatagram::bind(&path).unwrap();
        // The default length of the queue is 10, and nobody reads.
        let sent = (0..100_000).take_while(|_| client.send("STATUS=x").unwrap()).count();
        assert!(sent < 100_000, "sending waits for nobody");
        assert!(!client.wait_until_read(Duration::from_millis(20)).unwrap());
        drop(server);
    }

    #[test]
    fn the_barrier_falls_when_the_reader_closes_what_came_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let socket = crate::notify::NotifySocket::bind(dir.path().join("notify"), None).unwrap();
        let client = NotifyClient::to(socket.path().as_os_str()).unwrap().unwrap();
        std::thread::scope(|scope| {
            // Descriptors that come along are closed unread.
            scope.spawn(|| {
                while socket.receive(&mut [0; 64]).unwrap().is_none() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            assert!(client.wait_until_read(Duration::from_secs(20)).unwrap());
        });
    }
}
