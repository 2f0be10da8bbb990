//! The socket on which a service tells that it is ready (sd_notify(3)), one for each run.
//!
//! # Theory of operation
//!
//! Whose word a datagram is follows from the socket it arrives on, so each run has its own, under a name that nobody can guess, in a
//! directory that others can pass through and not list. The file belongs to the service's user alone; the kernel says with each datagram
//! who has sent it (`SCM_CREDENTIALS`, unix(7)).
//!
//! Descriptors sent along are not received unless they are asked for: the room for control data ends behind the credentials, which the kernel puts first,
//! and what does not fit it closes. So a sender that waits for its descriptor to be closed (`BARRIER=1`) goes on at once, and
//! nobody can fill our table.
//!
//! A bound name is not removed when its socket is dropped: that is a write to a file system, and for whoever may wait for one.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Gid, Uid};

use crate::error::{Errno, OsError, Result};
use crate::sockets::Peer;

/// Bytes of `sun_path` without the NUL at its end (unix(7)).
const LONGEST_PATH: usize = 107;

/// One run's socket.
#[derive(Debug)]
pub struct NotifySocket {
    fd: OwnedFd,
    path: PathBuf,
}

/// A datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// How many bytes of the buffer it fills; 0 is a datagram like any other.
    pub len: usize,
    /// It was longer: the rest is lost.
    pub cut: bool,
    /// Who has sent it, as the kernel vouches; `None` where it does not.
    pub sender: Option<Peer>,
}

impl NotifySocket {
    /// Binds a socket at `path`, which must be fresh, and gives it to `owner` (uid, gid; `None`: it stays ours). Non-blocking.
    pub fn bind(path: PathBuf, owner: Option<(u32, u32)>) -> Result<Self> {
        let address = address(&path)?;
        let fd = datagram_socket()?;
        // Before anybody can send: datagrams that came earlier would carry no credentials.
        rustix::net::sockopt::set_socket_passcred(&fd, true)
            .map_err(|e| OsError::new("ask for the senders of notifications", e))?;
        rustix::net::bind(&fd, &address).map_err(|e| OsError::at("bind a socket at", &path, e))?;
        if let Err(error) = give(&path, owner) {
            let _litter = rustix::fs::unlink(&path);
            return Err(error);
        }
        Ok(Self { fd, path })
    }

    /// A socket bound earlier at `path` whose descriptor was kept by somebody else.
    #[must_use]
    pub fn from_owned(fd: OwnedFd, path: PathBuf) -> Self {
        Self { fd, path }
    }

    /// Where it is bound: the value of `NOTIFY_SOCKET`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next datagram that waits; `None`: there is none. Descriptors sent along are closed by the kernel.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<Datagram>> {
        let mut room = Control([0; CREDENTIALS]);
        Ok(self.receive_into(buffer, &mut room.0)?.map(|(datagram, _)| datagram))
    }

    /// The same, with the descriptors sent along: at most as many as one datagram can carry. Whoever wants none drops them.
    pub fn receive_all(&self, buffer: &mut [u8]) -> Result<Option<(Datagram, Vec<OwnedFd>)>> {
        let mut room = Control([0; CREDENTIALS + DESCRIPTORS]);
        self.receive_into(buffer, &mut room.0)
    }

    fn receive_into(&self, buffer: &mut [u8], room: &mut [u8]) -> Result<Option<(Datagram, Vec<OwnedFd>)>> {
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all zeros is a valid msghdr: no address, no data, no control data.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = room.as_mut_ptr().cast();
        header.msg_controllen = room.len() as _;
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the header points to `buffer` and `room` with their own lengths; both outlive the call.
        let len = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut header, flags) };
        let Ok(len) = usize::try_from(len) else {
            return match Errno::last() {
                Errno::AGAIN | Errno::INTR => Ok(None),
                errno => Err(OsError::new("receive a notification", errno)),
            };
        };
        let descriptors = descriptors(&header);
        let datagram =
            Datagram { len, cut: header.msg_flags & libc::MSG_TRUNC != 0, sender: sender(&header) };
        Ok(Some((datagram, descriptors)))
    }
}

/// Room for as many descriptors as one message can carry (SCM_MAX_FD, unix(7)).
// SAFETY: computes a number.
const DESCRIPTORS: usize = unsafe { libc::CMSG_SPACE(253 * size_of::<i32>() as u32) } as usize;

/// All descriptors that the kernel has given us with a message: each is ours from now on.
fn descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    use std::os::fd::FromRawFd;

    let mut all = Vec::new();
    // SAFETY: the header is one that recvmsg has filled in; the result lies within its control data, or is null.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: not null, so it is a message of the control data.
    while let Some(message) = unsafe { next.as_ref() } {
        if (message.cmsg_level, message.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: computes a number.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = message.cmsg_len.saturating_sub(head) / size_of::<i32>();
            // SAFETY: the data of a message stands behind its head.
            let data = unsafe { libc::CMSG_DATA(message) }.cast::<i32>();
            for at in 0..count {
                // SAFETY: within the message by its own length; may stand at any address. The kernel has opened it for us alone.
                all.push(unsafe { OwnedFd::from_raw_fd(data.add(at).read_unaligned()) });
            }
        }
        // SAFETY: `message` is one of this header's.
        next = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    all
}

/// Room for exactly one set of credentials: what the kernel fills in first.
// SAFETY: computes a number.
const CREDENTIALS: usize = unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) } as usize;

/// Control data begins where a `cmsghdr` can stand.
#[repr(align(8))]
struct Control<const N: usize>([u8; N]);
const _: () = assert!(align_of::<Control<1>>() >= align_of::<libc::cmsghdr>());

/// Who has sent the message. Not by rustix, whose process ids cannot be 0: that is what a sender from outside of our pid
/// namespace has.
fn sender(header: &libc::msghdr) -> Option<Peer> {
    // SAFETY: the header is one that recvmsg has filled in; the result lies within its control data, or is null.
    let first = unsafe { libc::CMSG_FIRSTHDR(header).as_ref() }?;
    // SAFETY: computes a number.
    let whole = unsafe { libc::CMSG_LEN(size_of::<libc::ucred>() as u32) };
    let credentials = (first.cmsg_level, first.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS);
    if !credentials || (first.cmsg_len as usize) < whole as usize {
        return None;
    }
    // SAFETY: a message of this type and length holds a ucred, plain numbers, which may stand at any address.
    let who = unsafe { libc::CMSG_DATA(first).cast::<libc::ucred>().read_unaligned() };
    Some(Peer { pid: u32::try_from(who.pid).unwrap_or(0), uid: who.uid, gid: who.gid })
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A name in `dir` that nobody can guess and nobody has.
pub fn fresh_path(dir: &Path) -> Result<PathBuf> {
    let mut noise = [0u8; 8];
    rustix::rand::getrandom(&mut noise, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| OsError::new("get random numbers", e))?;
    let path = dir.join(format!("{:016x}", u64::from_ne_bytes(noise)));
    address(&path)?;
    Ok(path)
}

/// Removes the sockets in `dir` that nobody holds any more; how many there were. Anything else in it stays.
pub fn remove_stale(dir: &Path) -> Result<usize> {
    let entries = std::fs::read_dir(dir).map_err(|e| OsError::at("read directory", dir, e))?;
    let mut removed = 0;
    for path in entries.flatten().map(|entry| entry.path()) {
        if is_stale(&path) && rustix::fs::unlink(&path).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

fn is_stale(path: &Path) -> bool {
    let socket = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|meta| FileType::from_raw_mode(meta.st_mode) == FileType::Socket);
    let Ok((fd, address)) = datagram_socket().and_then(|fd| Ok((fd, address(path)?))) else { return false };
    socket && rustix::net::connect(&fd, &address) == Err(rustix::io::Errno::CONNREFUSED)
}

fn datagram_socket() -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
        .map_err(|e| OsError::new("create a socket", e))
}

/// The moment between bind and here needs no care: the name is not known to anybody yet.
fn give(path: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(0o600), AtFlags::empty())
        .map_err(|e| OsError::at("set the mode of", path, e))?;
    let Some((uid, gid)) = owner else { return Ok(()) };
    rustix::fs::chownat(
        CWD,
        path,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .map_err(|e| OsError::at("give to the service's user", path, e))
}

fn address(path: &Path) -> Result<SocketAddrUnix> {
    let long = || {
        OsError::at("use as a socket's path", path, Errno::from(rustix::io::Errno::NAMETOOLONG))
            .because("it is longer than the 107 bytes a socket address holds; choose a shorter `runtime_dir`")
    };
    if path.as_os_str().as_bytes().len() > LONGEST_PATH {
        return Err(long());
    }
    SocketAddrUnix::new(path).map_err(|_| long())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn socket() -> (tempfile::TempDir, NotifySocket) {
        let dir = tempfile::tempdir().unwrap();
        let socket = NotifySocket::bind(fresh_path(dir.path()).unwrap(), None).unwrap();
        (dir, socket)
    }

    fn open_descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[test]
    fn a_datagram_comes_with_its_sender_and_an_empty_one_is_no_end() {
        let (_dir, socket) = socket();
        let client = UnixDatagram::unbound().unwrap();
        let mut buffer = [0u8; 64];
        assert_eq!(socket.receive(&mut buffer).unwrap(), None);
        client.send_to(b"READY=1", socket.path()).unwrap();
        client.send_to(b"", socket.path()).unwrap();
        let got = socket.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((&buffer[..got.len], got.cut), (&b"READY=1"[..], false));
        let sender = got.sender.unwrap();
        assert_eq!((sender.pid, sender.uid), (std::process::id(), crate::users::effective_uid()));
        let got = socket.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((got.len, got.cut), (0, false));
        assert_eq!(socket.receive(&mut buffer).unwrap(), None);
    }

    #[test]
    fn what_does_not_fit_is_cut_and_the_next_datagram_is_whole() {
        let (_dir, socket) = socket();
        let client = UnixDatagram::unbound().unwrap();
        client.send_to(&[b'x'; 100_000], socket.path()).unwrap();
        client.send_to(b"next", socket.path()).unwrap();
        let mut buffer = [0u8; 64];
        let got = socket.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((got.len, got.cut), (64, true));
        assert_eq!(socket.receive(&mut buffer).unwrap().unwrap().len, 4);
    }

    #[test]
    fn descriptors_sent_along_never_arrive_and_their_sender_sees_them_closed() {
        use std::mem::MaybeUninit;

        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

        let (_dir, socket) = socket();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let client = UnixDatagram::unbound().unwrap();
        client.connect(socket.path()).unwrap();
        let many = vec![writer.as_fd(); 200];
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
        let data = [std::io::IoSlice::new(b"BARRIER=1")];
        rustix::net::sendmsg(&client, &data, &mut control, SendFlags::empty()).unwrap();
        drop(writer);
        let before = open_descriptors();
        let got = socket.receive(&mut [0u8; 64]).unwrap().unwrap();
        assert!(got.sender.is_some());
        // Other tests of this process open and close some; two hundred of them would show.
        assert!(open_descriptors() < before + 100);
        // Every write end is closed: the end of the pipe is seen at once.
        assert_eq!(rustix::io::read(&reader, &mut [0u8; 1]).unwrap(), 0);
    }

    #[test]
    fn only_its_owner_can_send_and_a_socket_nobody_holds_is_litter() {
        use std::os::unix::fs::PermissionsExt;

        let (dir, socket) = socket();
        let mode = std::fs::metadata(socket.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(remove_stale(dir.path()).unwrap(), 0, "it is held");
        let path = socket.path().to_owned();
        drop(socket);
        assert!(path.exists());
        assert_eq!(remove_stale(dir.path()).unwrap(), 1);
        assert!(!path.exists() && dir.path().join("file").exists());
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused_with_the_way_out() {
        let dir = PathBuf::from(format!("/{}", "x".repeat(100)));
        assert!(fresh_path(&dir).unwrap_err().to_string().contains("runtime_dir"));
    }
}
