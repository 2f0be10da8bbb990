//! What a service may use, and its listening sockets.

use std::net::{IpAddr, Ipv4Addr};

use relume_core::ServiceKind;

use super::service::Work;
use crate::gather::plain;
use crate::raw::{Cpus, RawSocketMap, RawSocketType};
use crate::resources::{Limits, Resources, Socket, SocketAddress, SocketKind};

/// Connections that may wait, unless told otherwise: the kernel's own default bound (`net.core.somaxconn`, Linux 5.4).
const BACKLOG: u32 = 4096;

/// Below this nothing can even be executed, in bytes: a limit in megabytes was probably meant.
const LEAST_MEMORY: u64 = 1 << 20;

/// The longest path of a unix socket with its NUL (unix(7)).
const LONGEST_PATH: usize = 107;

/// The longest name of a descriptor (sd_listen_fds(3)).
const LONGEST_NAME: usize = 255;

pub(super) fn resources(work: &mut Work<'_, '_>) -> Resources {
    let max_memory = work.raw.max_memory.as_ref().map(|size| size.0);
    if max_memory.is_some_and(|bytes| bytes < LEAST_MEMORY) {
        work.error_with(&["max_memory"], "no program fits into less than 1 MiB", "write `512MB` or `2GiB`");
    }
    let limits = limits(work);
    if let (Some(restart), Some(hard)) = (max_memory, limits.memory)
        && restart >= hard
    {
        let message = "`limits.memory` ends it before `max_memory` restarts it";
        work.warning(&["max_memory"], message, "make `max_memory` the smaller one");
    }
    Resources { max_memory, limits }
}

fn limits(work: &mut Work<'_, '_>) -> Limits {
    let Some(raw) = work.raw.limits.clone() else { return Limits::default() };
    let memory = raw.memory.map(|size| size.0);
    if memory.is_some_and(|bytes| bytes < LEAST_MEMORY) {
        let help = "write `512MB` or `2GiB`";
        work.error_with(&["limits", "memory"], "no program fits into less than 1 MiB", help);
    }
    if raw.pids == Some(0) {
        work.error(&["limits", "pids"], "a service needs one process at least");
    }
    let cpu_milli = raw.cpu.and_then(|Cpus(cpus)| {
        // Below, the kernel's shortest quota (1 ms in 100 ms) could not be kept; above, nobody has so many.
        if (0.01..=8192.0).contains(&cpus) {
            return Some((cpus * 1000.0).round() as u64);
        }
        let help = "`0.5` or `50%` is half of one processor, `2` are two";
        work.error_with(&["limits", "cpu"], "expected a number of processors from 0.01 to 8192", help);
        None
    });
    Limits { memory, cpu_milli, pids: raw.pids }
}

pub(super) fn sockets(work: &mut Work<'_, '_>, kind: ServiceKind, base_name: &str) -> Vec<Socket> {
    let raw: Vec<RawSocketMap> =
        work.raw.sockets.iter().flat_map(|all| all.0.iter().map(|one| one.0.clone())).collect();
    if raw.is_empty() {
        return Vec::new();
    }
    if work.raw.container.is_some() || work.raw.r#type == Some(crate::raw::RawType::External) {
        let help = "give the container `ports`; others open their own sockets";
        work.error_with(&["sockets"], "sockets can only be handed to a process of relume's own", help);
        return Vec::new();
    }
    if kind == ServiceKind::Forking {
        let message = "`LISTEN_PID` names the first process, which a `forking` service leaves behind";
        work.warning(&["sockets"], message, "use its foreground option and `type: simple`");
    }
    let mut all: Vec<Socket> = Vec::new();
    for one in &raw {
        let Some(socket) = socket(one, work, base_name) else { continue };
        if all.iter().any(|other| other.address == socket.address && other.kind == socket.kind) {
            work.error(&["sockets"], format!("{socket} is listed twice"));
        }
        all.push(socket);
    }
    let taken = i64::try_from(all.len()).unwrap_or(i64::MAX) + i64::from(work.raw.fd_store.unwrap_or(0));
    if work.raw.notification_fd.is_some_and(|number| i64::from(number) < 3 + taken) {
        let message = format!("descriptors from 3 to {} are those of `sockets` and `fd_store`", 2 + taken);
        work.error(&["notification_fd"], message);
    }
    all
}

fn socket(raw: &RawSocketMap, work: &mut Work<'_, '_>, base_name: &str) -> Option<Socket> {
    let Some(text) = raw.listen.as_deref().filter(|text| !text.is_empty()) else {
        let help = "`listen: 8080`, `listen: 127.0.0.1:8080` or `listen: run/app.sock`";
        work.error_with(&["sockets"], "a socket needs `listen`", help);
        return None;
    };
    let (datagram, bare) = match text {
        _ if text.starts_with("udp://") => (true, &text[6..]),
        _ if text.starts_with("tcp://") => (false, &text[6..]),
        _ => (false, text),
    };
    let address = match address(bare, text != bare, work) {
        Ok(address) => address,
        Err(message) => {
            let help = "a port, `127.0.0.1:8080`, `[::1]:8080`, `udp://:514`, a path (`./name`), or `@name`";
            work.error_with(&["sockets"], message, help);
            return None;
        }
    };
    let kind = match raw.r#type {
        Some(RawSocketType::Stream) => SocketKind::Stream,
        Some(RawSocketType::Datagram) => SocketKind::Datagram,
        Some(RawSocketType::Seqpacket) => SocketKind::Seqpacket,
        None if datagram => SocketKind::Datagram,
        None => SocketKind::Stream,
    };
    let is_inet = matches!(address, SocketAddress::Inet(..));
    if is_inet && kind == SocketKind::Seqpacket {
        work.error(&["sockets"], "`seqpacket` goes with unix sockets only");
    }
    if text != bare && datagram != (kind == SocketKind::Datagram) {
        work.error(&["sockets"], format!("`{text}` and its `type` say different things"));
    }
    if is_inet && (raw.mode.is_some() || raw.user.is_some() || raw.group.is_some()) {
        let help = "a port has no owner: leave them out";
        work.warning(&["sockets"], "`mode`, `user` and `group` are those of unix sockets", help);
    }
    let name = raw.name.clone().unwrap_or_else(|| base_name.to_owned());
    if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(|c| c == ':' || !c.is_ascii_graphic())
    {
        let message = format!("`{}` is no name for a socket", crate::node::shortened(&name));
        work.error_with(&["sockets"], message, "letters, digits and signs but `:`");
    }
    let size = |size: &Option<crate::raw::Size>| size.as_ref().map(|size| size.0);
    Some(Socket {
        name,
        address,
        kind,
        mode: raw.mode.as_ref().map_or(0o660, |mode| mode.0 & 0o777),
        user: raw.user.as_ref().map(|user| user.0.clone()),
        group: raw.group.as_ref().map(|group| group.0.clone()),
        backlog: raw.backlog.unwrap_or(BACKLOG).max(1),
        reuse_port: raw.reuse_port.unwrap_or(false),
        ipv6_only: raw.ipv6_only.unwrap_or(false),
        free_bind: raw.free_bind.unwrap_or(false),
        receive_buffer: size(&raw.receive_buffer),
        send_buffer: size(&raw.send_buffer),
    })
}

/// `inet`: a scheme has said that it is an address with a port.
fn address(text: &str, inet: bool, work: &mut Work<'_, '_>) -> Result<SocketAddress, String> {
    let shown = crate::node::shortened(text);
    let unix = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:"));
    let path = unix.unwrap_or(text);
    if !inet && let Some(name) = path.strip_prefix('@') {
        let fits = !name.is_empty() && name.len() < LONGEST_PATH;
        return fits.then(|| SocketAddress::Abstract(name.to_owned())).ok_or(format!("`{shown}` is no name"));
    }
    let is_file = |end: &str| text.ends_with(end) && !text.contains(':');
    if !inet && (unix.is_some() || text.contains('/') || is_file(".sock") || is_file(".socket")) {
        let whole = plain(&work.files.resolve(work.span(&["sockets"]), path));
        if whole.as_os_str().len() > LONGEST_PATH {
            return Err(format!("the path of a unix socket has {LONGEST_PATH} bytes at most: `{shown}`"));
        }
        return Ok(SocketAddress::Unix(whole));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port = match port.parse::<u16>() {
        Ok(port) if port > 0 => port,
        Ok(_) | Err(_) => return Err(format!("`{shown}` names no port from 1 to 65535")),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let ip = match bare {
        "" | "*" => None,
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => Some(
            bare.parse()
                .map_err(|_| format!("`{}` is no address of a machine", crate::node::shortened(host)))?,
        ),
    };
    Ok(SocketAddress::Inet(ip, port))
}
