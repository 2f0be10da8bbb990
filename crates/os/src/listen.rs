//! Listening sockets that are made for somebody else: bound here, accepted from there.
//!
//! A unix socket is bound under a private name and moved to its place when it has its mode and owner, so nobody can connect
//! who may not, and nobody whom the folder belongs to can have anything else given away. A socket that nobody listens on
//! any more is replaced; one that somebody does is an error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::error::{Errno, OsError, Result};
use crate::socket_place::Place;

/// What is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Where.
    pub address: Address,
    /// How it carries data.
    pub kind: Kind,
    /// Connections that may wait.
    pub backlog: u32,
    /// SO_REUSEPORT.
    pub reuse_port: bool,
    /// IPV6_V6ONLY.
    pub ipv6_only: bool,
    /// IP_FREEBIND.
    pub free_bind: bool,
    /// SO_RCVBUF.
    pub receive_buffer: Option<u64>,
    /// SO_SNDBUF.
    pub send_buffer: Option<u64>,
    /// Mode of a unix socket.
    pub mode: u32,
    /// Its owner and group; none: ours.
    pub owner: Option<(u32, u32)>,
}

/// Where a socket listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An address, or all of them, and a port.
    Inet(Option<IpAddr>, u16),
    /// A path.
    Unix(PathBuf),
    /// A name in the abstract namespace (unix(7)).
    Abstract(String),
}

/// How it carries data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Connections.
    Stream,
    /// Single messages.
    Datagram,
    /// Connections of messages.
    Seqpacket,
}

impl Kind {
    fn raw(self) -> SocketType {
        match self {
            Self::Stream => SocketType::STREAM,
            Self::Datagram => SocketType::DGRAM,
            Self::Seqpacket => SocketType::SEQPACKET,
        }
    }
}

/// Makes it: bound, listening, blocking, close-on-exec.
///
/// # Errors
/// `EADDRINUSE` when somebody else listens there; what else the kernel has against it.
pub fn open(request: &Request) -> Result<OwnedFd> {
    let fd = match &request.address {
        Address::Inet(Some(ip), port) => inet(request, SocketAddr::new(*ip, *port))?,
        Address::Inet(None, port) => {
            // One socket for both families, where the kernel has both.
            match inet(request, SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), *port)) {
                Err(e) if is_without_ipv6(e.errno) => {
                    inet(request, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), *port))?
                }
                other => other?,
            }
        }
        Address::Unix(path) => unix(request, path)?,
        Address::Abstract(name) => {
            let address = SocketAddrUnix::new_abstract_name(name.as_bytes())
                .map_err(|e| OsError::at("use as a socket's name", name, e))?;
            let fd = socket(AddressFamily::UNIX, request.kind)?;
            buffers(&fd, request)?;
            rustix::net::bind(&fd, &address).map_err(|e| OsError::at("listen on", format!("@{name}"), e))?;
            fd
        }
    };
    if request.kind != Kind::Datagram {
        let backlog = i32::try_from(request.backlog).unwrap_or(i32::MAX);
        rustix::net::listen(&fd, backlog)
            .map_err(|e| OsError::at("listen on", shown(&request.address), e))?;
    }
    Ok(fd)
}

fn socket(family: AddressFamily, kind: Kind) -> Result<OwnedFd> {
    rustix::net::socket_with(family, kind.raw(), SocketFlags::CLOEXEC, None)
        .map_err(|e| OsError::new("create a socket", e))
}

fn buffers(fd: &OwnedFd, request: &Request) -> Result<()> {
    let set = |done: rustix::io::Result<()>| done.map_err(|e| OsError::new("set the buffers of a socket", e));
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    if let Some(bytes) = request.receive_buffer {
        set(sockopt::set_socket_recv_buffer_size(fd, size(bytes)))?;
    }
    request.send_buffer.map_or(Ok(()), |bytes| set(sockopt::set_socket_send_buffer_size(fd, size(bytes))))
}

fn inet(request: &Request, address: SocketAddr) -> Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let fd = socket(family, request.kind)?;
    let set = |done: rustix::io::Result<()>| done.map_err(|e| OsError::new("set an option of a socket", e));
    if address.is_ipv6() {
        set(sockopt::set_ipv6_v6only(&fd, request.ipv6_only))?;
    }
    if request.kind == Kind::Stream {
        // Connections of an earlier listener that are being closed are in nobody's way.
        set(sockopt::set_socket_reuseaddr(&fd, true))?;
    }
    if request.reuse_port {
        set(sockopt::set_socket_reuseport(&fd, true))?;
    }
    if request.free_bind {
        set(sockopt::set_ip_freebind(&fd, true))?;
    }
    buffers(&fd, request)?;
    rustix::net::bind(&fd, &address).map_err(|e| OsError::at("listen on", address.to_string(), e))?;
    Ok(fd)
}

fn is_without_ipv6(errno: Errno) -> bool {
    [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL].contains(&errno.raw())
}

fn unix(request: &Request, path: &Path) -> Result<OwnedFd> {
    let place = Place::open(path, true)?;
    place.remove_stale(request.kind.raw())?;
    let private = place.private()?;
    let fd = socket(AddressFamily::UNIX, request.kind)?;
    buffers(&fd, request)?;
    private.bind(&fd)?;
    if let Some((uid, gid)) = request.owner {
        private.give(uid, gid)?;
    }
    private.set_mode(request.mode)?;
    private.publish()?;
    Ok(fd)
}

fn shown(address: &Address) -> String {
    match address {
        Address::Inet(Some(ip), port) => SocketAddr::new(*ip, *port).to_string(),
        Address::Inet(None, port) => format!("port {port}"),
        Address::Unix(path) => path.display().to_string(),
        Address::Abstract(name) => format!("@{name}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn request(address: Address, kind: Kind) -> Request {
        Request {
            address,
            kind,
            backlog: 16,
            reuse_port: false,
            ipv6_only: false,
            free_bind: false,
            receive_buffer: Some(65_536),
            send_buffer: None,
            mode: 0o640,
            owner: None,
        }
    }

    #[test]
    fn a_unix_socket_has_its_mode_and_a_second_one_is_refused_until_the_first_is_gone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("run/app.sock");
        let wanted = request(Address::Unix(path.clone()), Kind::Stream);
        let first = open(&wanted).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(open(&wanted).unwrap_err().errno, Errno::ADDRINUSE);
        let datagrams = request(Address::Unix(path.clone()), Kind::Datagram);
        assert_eq!(open(&datagrams).unwrap_err().errno, Errno::ADDRINUSE);
        drop(first);
        let second = std::os::unix::net::UnixListener::from(open(&wanted).unwrap());
        let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        client.write_all(b"x").unwrap();
        let mut byte = [0];
        second.accept().unwrap().0.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        let left: Vec<_> = std::fs::read_dir(home.path().join("run")).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "no private folder stays behind: {left:?}");
    }

    #[test]
    fn a_place_may_be_as_long_as_a_socket_address_and_is_refused_beyond_it() {
        let home = tempfile::tempdir().unwrap();
        let room = 107 - home.path().as_os_str().len() - 1;
        let fits = home.path().join("x".repeat(room));
        let _socket = open(&request(Address::Unix(fits.clone()), Kind::Stream)).unwrap();
        std::os::unix::net::UnixStream::connect(&fits).unwrap();
        let longer = home.path().join("x".repeat(room + 1));
        let error = open(&request(Address::Unix(longer.clone()), Kind::Stream)).unwrap_err();
        assert!(error.to_string().contains("107 bytes") && !longer.exists(), "{error}");
    }

    #[test]
    fn what_is_no_socket_is_never_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        let wanted = request(Address::Unix(path.clone()), Kind::Seqpacket);
        assert_eq!(open(&wanted).unwrap_err().errno, Errno::ADDRINUSE);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
        // Nor a link, to whatever.
        let (dead, link) = (home.path().join("dead"), home.path().join("link"));
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        std::os::unix::fs::symlink(&dead, &link).unwrap();
        assert_eq!(
            open(&request(Address::Unix(link.clone()), Kind::Stream)).unwrap_err().errno,
            Errno::ADDRINUSE
        );
        assert!(dead.exists() && link.is_symlink());
    }

    #[test]
    fn a_port_is_taken_by_one_and_shared_only_where_both_want_that() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = Address::Inet(Some(Ipv4Addr::LOCALHOST.into()), free.local_addr().unwrap().port());
        let wanted = request(at.clone(), Kind::Stream);
        assert_eq!(open(&wanted).unwrap_err().errno, Errno::ADDRINUSE);
        drop(free);
        let shared = Request { reuse_port: true, ..wanted };
        let _first = open(&shared).unwrap();
        let _second = open(&shared).unwrap();
    }

    #[test]
    fn datagrams_and_abstract_names_work() {
        let name = format!("relume-test-{}", std::process::id());
        let fd = open(&request(Address::Abstract(name.clone()), Kind::Datagram)).unwrap();
        assert!(open(&request(Address::Abstract(name), Kind::Datagram)).is_err());
        drop(fd);
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let fd = open(&request(Address::Inet(Some(free.ip()), free.port()), Kind::Datagram)).unwrap();
        let server = std::net::UdpSocket::from(fd);
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"hi", free).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(server.recv(&mut buffer).unwrap(), 2);
    }
}
