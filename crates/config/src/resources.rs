//! What a service may use, and the sockets that are opened for it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::model::Account;

/// What the whole tree of a service may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Resources {
    /// Above so many bytes it is restarted.
    pub max_memory: Option<u64>,
    /// What the kernel shall not let it go beyond.
    pub limits: Limits,
}

/// Limits that the kernel keeps, through the controllers of cgroup v2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_milli: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl Limits {
    /// Whether there is any.
    #[must_use]
    pub fn is_some(self) -> bool {
        self != Self::default()
    }

    /// The controllers that keep them.
    #[must_use]
    pub fn controllers(self) -> Vec<&'static str> {
        let all = [
            (self.cpu_milli.is_some(), "cpu"),
            (self.memory.is_some(), "memory"),
            (self.pids.is_some(), "pids"),
        ];
        all.into_iter().filter(|(wanted, _)| *wanted).map(|(_, name)| name).collect()
    }
}

/// A socket that relume opens for a service and keeps.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Socket {
    /// Its name in `LISTEN_FDNAMES`.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddress,
    /// How it carries data.
    pub kind: SocketKind,
    /// Mode of a unix socket in the file system.
    pub mode: u32,
    /// Owner of a unix socket; `None`: the service's user.
    pub user: Option<Account>,
    /// Its group; `None`: the service's group.
    pub group: Option<Account>,
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
}

/// Where a socket listens.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SocketAddress {
    /// An address of this machine, `None` for all of them, and a port.
    Inet(Option<IpAddr>, u16),
    /// A path, absolute.
    Unix(PathBuf),
    /// A name in the abstract namespace (unix(7)).
    Abstract(String),
}

/// How a socket carries data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SocketKind {
    /// Connections.
    Stream,
    /// Single messages.
    Datagram,
    /// Connections of messages.
    Seqpacket,
}

impl Socket {
    /// All that makes it another socket: not its name, nor who may use it.
    #[must_use]
    pub fn identity(&self) -> String {
        format!(
            "{self} {} {} {} {} {:?} {:?} {:o} {:?} {:?}",
            self.backlog,
            self.reuse_port,
            self.ipv6_only,
            self.free_bind,
            self.receive_buffer,
            self.send_buffer,
            self.mode,
            self.user,
            self.group
        )
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (inet, unix) = match self.kind {
            SocketKind::Stream => ("tcp", "unix"),
            SocketKind::Datagram => ("udp", "unix datagram"),
            SocketKind::Seqpacket => ("", "unix seqpacket"),
        };
        match &self.address {
            SocketAddress::Inet(None, port) => write!(f, "{inet} port {port}"),
            SocketAddress::Inet(Some(IpAddr::V6(ip)), port) => write!(f, "{inet} [{ip}]:{port}"),
            SocketAddress::Inet(Some(ip), port) => write!(f, "{inet} {ip}:{port}"),
            SocketAddress::Unix(path) => write!(f, "{unix} {}", path.display()),
            SocketAddress::Abstract(name) => write!(f, "{unix} @{name}"),
        }
    }
}
