//! A private channel between two of our own processes: whole messages, with descriptors (unix(7), SOCK_SEQPACKET).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::error::{Errno, OsError, Result};

/// Most descriptors of one message: SCM_MAX_FD of the kernel (unix(7)).
pub const MOST_FDS: usize = 253;

/// Longest message in bytes: the names of as many descriptors.
pub const MOST_BYTES: usize = 16 * 1024;

/// One end.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
}

/// A message as it came.
#[derive(Debug)]
pub struct Message {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What came with it, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// Descriptors were lost: this process has no room for more (RLIMIT_NOFILE).
    pub fds_lost: bool,
}

/// What a look into the channel found.
#[derive(Debug)]
pub enum Received {
    /// A message.
    Message(Message),
    /// Nothing now.
    Nothing,
    /// The other end is closed: its process is gone.
    Closed,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// It is on its way.
    Sent,
    /// The channel is full just now: epoll tells when there is room.
    Full,
    /// The kernel lacks something just now (memory; room for descriptors that nobody has taken yet), and nobody tells when it has
    /// it again.
    Short,
}

/// Whether a message could not be sent because nobody holds the other end any more.
#[must_use]
pub fn is_gone(error: &OsError) -> bool {
    [libc::EPIPE, libc::ECONNRESET, libc::ENOTCONN].contains(&error.errno.raw())
}

/// Whether an error is one that passes: it says nothing about the channel.
fn passes(errno: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    [Errno::NOMEM, Errno::NOBUFS, Errno::TOOMANYREFS, Errno::MFILE, Errno::NFILE, Errno::INTR]
        .contains(&errno)
}

impl Channel {
    /// Two ends that belong together, close-on-exec, non-blocking.
    pub fn pair() -> Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|e| OsError::new("create a channel", e))?;
        Ok((Self { fd: one }, Self { fd: other }))
    }

    /// An end that was inherited.
    #[must_use]
    pub fn from_owned(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Sends a message whole or not at all. Never waits.
    ///
    /// # Errors
    /// `EPIPE` and the like when the other end is closed ([`is_gone`]), without a signal; others where the message can never be sent.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<Sending> {
        crate::tally::act();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(OsError::new("send so many descriptors at once", Errno::INVAL));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(&self.fd, &[IoSlice::new(bytes)], &mut ancillary, flags) {
            Ok(_) => Ok(Sending::Sent),
            Err(rustix::io::Errno::AGAIN) => Ok(Sending::Full),
            Err(e) if passes(e) => Ok(Sending::Short),
            Err(e) => Err(OsError::new("send a message", e)),
        }
    }

    /// The next message. Never waits.
    pub fn receive(&self) -> Result<Received> {
        let mut bytes = [0; MOST_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let got = match recvmsg(&self.fd, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
            Ok(got) => got,
            Err(rustix::io::Errno::AGAIN) => return Ok(Received::Nothing),
            Err(e) if passes(e) => return Ok(Received::Nothing),
            Err(rustix::io::Errno::CONNRESET) => return Ok(Received::Closed),
            Err(e) => return Err(OsError::new("receive a message", e)),
        };
        let mut fds = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                fds.extend(more);
            }
        }
        if got.bytes == 0 && fds.is_empty() {
            return Ok(Received::Closed);
        }
        let bytes = bytes[..got.bytes.min(MOST_BYTES)].to_vec();
        let fds_lost = got.flags.contains(ReturnFlags::CTRUNC);
        Ok(Received::Message(Message { bytes, fds, fds_lost }))
    }

    /// Whether the other end has not yet read all that was sent. Whoever is alive reads: this asks for an
    /// answer without waking anybody.
    pub fn has_unread(&self) -> Result<bool> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: TIOCOUTQ (SIOCOUTQ) writes one int, for which there is room.
        let rc = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        if rc == 0 { Ok(bytes > 0) } else { Err(OsError::new("ask for what is unread", Errno::last())) }
    }

    /// Lets the kernel queue as much as it allows: thousands of descriptors come back at once after a death.
    pub fn widen(&self) -> Result<()> {
        // Without CAP_NET_ADMIN the kernel caps it at net.core.wmem_max, which is what is wanted.
        rustix::net::sockopt::set_socket_send_buffer_size(&self.fd, 8 << 20)
            .map_err(|e| OsError::new("widen a channel", e))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipes::Pipe;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (one, other) = Channel::pair().unwrap();
        let pipe = Pipe::new().unwrap();
        assert_eq!(one.send(b"FDSTORE=1", &[pipe.write.as_fd()]).unwrap(), Sending::Sent);
        let Received::Message(message) = other.receive().unwrap() else { panic!("no message") };
        assert_eq!(message.bytes, b"FDSTORE=1");
        rustix::io::write(&message.fds[0], b"x").unwrap();
        let mut byte = [0];
        assert_eq!(rustix::io::read(&pipe.read, &mut byte).unwrap(), 1);
    }

    #[test]
    fn what_the_other_end_has_not_read_is_known() {
        let (one, other) = Channel::pair().unwrap();
        assert!(!one.has_unread().unwrap());
        assert_eq!(one.send(b"x", &[]).unwrap(), Sending::Sent);
        assert!(one.has_unread().unwrap());
        assert!(matches!(other.receive().unwrap(), Received::Message(_)));
        assert!(!one.has_unread().unwrap());
    }

    #[test]
    fn an_end_whose_other_is_gone_says_so() {
        let (one, other) = Channel::pair().unwrap();
        assert!(matches!(one.receive().unwrap(), Received::Nothing));
        drop(other);
        assert!(matches!(one.receive().unwrap(), Received::Closed));
        assert!(is_gone(&one.send(b"x", &[]).unwrap_err()));
    }

    #[test]
    fn what_can_never_be_sent_does_not_look_like_an_end_that_is_gone() {
        let (one, _other) = Channel::pair().unwrap();
        let pipe = Pipe::new().unwrap();
        let many = vec![pipe.write.as_fd(); 4 * MOST_FDS];
        assert!(!is_gone(&one.send(b"x", &many).unwrap_err()));
        assert_eq!(one.send(b"x", &[]).unwrap(), Sending::Sent, "the channel is none the worse for it");
        for errno in [rustix::io::Errno::NOMEM, rustix::io::Errno::NOBUFS, rustix::io::Errno::TOOMANYREFS] {
            assert!(passes(errno), "{errno}");
        }
        assert!(!passes(rustix::io::Errno::PIPE));
    }

    #[test]
    fn a_full_channel_refuses_instead_of_waiting() {
        let (one, _other) = Channel::pair().unwrap();
        let sent = (0..1_000_000).take_while(|_| one.send(&[0; 512], &[]).unwrap() == Sending::Sent).count();
        assert!(sent > 10 && sent < 1_000_000, "{sent}");
    }
}
