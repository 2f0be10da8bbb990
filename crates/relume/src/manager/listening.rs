//! Listening sockets that are opened for services and outlive their processes.
//!
//! # Theory of operation
//!
//! A socket is opened when the first process that wants it is started, on the spawn thread. From then on it is held here and by
//! the guardian under a name, and handed to every process of the service from descriptor 3 on (sd_listen_fds(3)). While there is none, the
//! kernel queues connections: a restart of the service, or a death of the manager, refuses nobody. What makes it another socket
//! (address, mode, backlog …) is digested into its name, so a successor finds it by its configuration.
//!
//! Instances share the sockets of their service. A socket is closed when nobody is meant to have it any more: each that is stopped
//! on request, is done or has failed for good is struck off, or the configuration has another in its place. Then
//! clients are refused, which is right: nobody will answer them.
//!
//! # What it must never do
//!
//! Make the supervise thread wait: it only sends errands to the trees thread. Hold what it has while the system is asked who
//! somebody is: what the trees thread does waits for it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use relume_config::{Socket, SocketAddress, SocketKind};
use relume_core::SpawnError;
use relume_os::listen::{self, Address, Kind, Request};
use relume_os::spawn::SpawnRequest;

use super::keeper::{Keeper, Kept};
use super::launch;
use super::units::{Unit, Units};
use crate::port_holders;

/// What the names begin with under which they are kept.
const PREFIX: &str = "listen/";

/// FNV-1a, 64 bits: offset basis and prime (draft-eastlake-fnv). Told apart are the sockets of one service.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// All that are open, by the base name of their service; shared with the spawn threads.
#[derive(Debug, Default)]
pub(crate) struct Listening(Mutex<BTreeMap<String, Vec<Open>>>);

#[derive(Debug)]
struct Open {
    digest: u64,
    fd: Arc<OwnedFd>,
    /// Where its name is in the file system.
    path: Option<PathBuf>,
    /// Who is meant to have it, since which generation.
    holders: BTreeMap<String, u64>,
}

/// User and group; none: relume's own.
pub(crate) type Owner = Option<(u32, u32)>;

/// What came of giving a process its sockets.
enum Attempt<'a> {
    Given(Named),
    /// This one is to be opened, and whose it is was not asked yet.
    OwnerMissing(&'a Socket),
}

/// Sockets with the names that the process is told.
pub(crate) type Named = Vec<(String, Arc<OwnedFd>)>;

fn digest(socket: &Socket) -> u64 {
    let text = socket.identity();
    text.bytes().fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

fn kept_name(base: &str, digest: u64) -> String {
    format!("{PREFIX}{base}/{digest:016x}")
}

impl Listening {
    /// What an earlier manager had, out of what the guardian has kept. Every instance counts as a holder until the core says
    /// otherwise.
    pub(crate) fn again(kept: &mut Kept, units: &Units, keeper: &Keeper) -> Self {
        let mut all = BTreeMap::<String, Vec<Open>>::new();
        let names: Vec<String> = kept.keys().filter(|name| name.starts_with(PREFIX)).cloned().collect();
        for name in names {
            let fd = kept.remove(&name).and_then(|fds| fds.into_iter().next());
            let parts = name[PREFIX.len()..].rsplit_once('/');
            let known = parts.and_then(|(base, hex)| {
                let digest = u64::from_str_radix(hex, 16).ok()?;
                let of = |unit: &&Arc<Unit>| unit.config.base_name == base;
                let units: Vec<&Arc<Unit>> = units.by_name.values().filter(of).collect();
                let socket = units.first()?.config.sockets.iter().find(|one| self::digest(one) == digest)?;
                let holders = units.iter().map(|unit| (unit.config.spec.name.to_string(), 0)).collect();
                Some((base.to_owned(), digest, path_of(socket), holders))
            });
            match known.zip(fd) {
                Some(((base, digest, path, holders), fd)) => {
                    all.entry(base).or_default().push(Open { digest, fd: Arc::new(fd), path, holders });
                }
                None => keeper.forget(&name),
            }
        }
        Self(Mutex::new(all))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Open>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sockets for a new process of a service, opened where they are not; those that it wants no more are closed.
    /// Who they belong to is asked of `owner_of`, which may take its time.
    ///
    /// # Errors
    /// When one cannot be opened: the address, why, and who has it.
    pub(crate) fn give(
        &self,
        keeper: &Keeper,
        unit: &Unit,
        generation: u64,
        owner_of: impl Fn(&Socket) -> Result<Owner, SpawnError>,
    ) -> Result<Named, SpawnError> {
        let mut owners = BTreeMap::new();
        loop {
            let missing = match self.attempt(keeper, unit, generation, &owners)? {
                Attempt::Given(named) => return Ok(named),
                Attempt::OwnerMissing(socket) => socket,
            };
            // Asked for with nothing held: a directory server that does not answer is in nobody's way.
            owners.insert(digest(missing), owner_of(missing)?);
        }
    }

    fn attempt<'a>(
        &self,
        keeper: &Keeper,
        unit: &'a Unit,
        generation: u64,
        owners: &BTreeMap<u64, Owner>,
    ) -> Result<Attempt<'a>, SpawnError> {
        let (name, base) = (&unit.config.spec.name, &unit.config.base_name);
        let mut all = self.lock();
        if unit.config.sockets.is_empty() && !all.contains_key(base.as_str()) {
            return Ok(Attempt::Given(Vec::new()));
        }
        let open = all.entry(base.to_string()).or_default();
        let wanted: Vec<u64> = unit.config.sockets.iter().map(digest).collect();
        retain(open, keeper, base, |one| wanted.contains(&one.digest));
        let mut named = Vec::new();
        for (socket, digest) in unit.config.sockets.iter().zip(&wanted) {
            let known = open.iter().position(|one| one.digest == *digest);
            let place = match known {
                Some(place) => place,
                None => {
                    let Some(owner) = owners.get(digest) else { return Ok(Attempt::OwnerMissing(socket)) };
                    let fd = make(socket, *owner)?;
                    keeper.keep(&kept_name(base, *digest), &[fd.as_fd()]);
                    let (path, holders) = (path_of(socket), BTreeMap::new());
                    open.push(Open { digest: *digest, fd: Arc::new(fd), path, holders });
                    open.len() - 1
                }
            };
            if let Some(one) = open.get_mut(place) {
                one.holders.insert(name.to_string(), generation);
                named.push((socket.name.clone(), Arc::clone(&one.fd)));
            }
        }
        Ok(Attempt::Given(named))
    }

    /// A service is not meant to run any more, as it was decided when `generation` was its latest.
    pub(crate) fn release(&self, keeper: &Keeper, service: &str, generation: u64) {
        let mut all = self.lock();
        for (base, open) in all.iter_mut() {
            for one in open.iter_mut() {
                if one.holders.get(service).is_some_and(|since| *since <= generation) {
                    one.holders.remove(service);
                }
            }
            retain(open, keeper, base, |one| !one.holders.is_empty());
        }
        all.retain(|_, open| !open.is_empty());
    }
}

/// Closes the others.
fn retain(open: &mut Vec<Open>, keeper: &Keeper, base: &str, stays: impl Fn(&Open) -> bool) {
    open.retain(|one| {
        let stays = stays(one);
        if !stays {
            keeper.forget(&kept_name(base, one.digest));
            if let Some(path) = &one.path {
                // A name that stays behind is found to be stale by the next who wants it.
                let _litter = relume_os::files::remove(path);
            }
        }
        stays
    });
}

fn path_of(socket: &Socket) -> Option<PathBuf> {
    match &socket.address {
        SocketAddress::Unix(path) => Some(path.clone()),
        SocketAddress::Inet(..) | SocketAddress::Abstract(_) => None,
    }
}

/// Who a socket belongs to: what is said for it, and otherwise whom the process runs as. May have to ask the system.
///
/// # Errors
/// When the system does not know, or does not answer.
pub(crate) fn owner_of(socket: &Socket, unit: &Unit, request: &SpawnRequest) -> Result<Owner, SpawnError> {
    if socket.user.is_none() && socket.group.is_none() {
        return Ok(request.credentials.as_ref().map(|who| (who.uid, who.gid)));
    }
    let user = socket.user.as_ref().or(unit.config.launch.how.user.as_ref());
    let group = socket.group.as_ref().or(unit.config.launch.how.group.as_ref());
    Ok(launch::credentials(user, group)?.map(|who| (who.uid, who.gid)))
}

fn make(socket: &Socket, owner: Owner) -> Result<OwnedFd, SpawnError> {
    let address = match &socket.address {
        SocketAddress::Inet(ip, port) => Address::Inet(*ip, *port),
        SocketAddress::Unix(path) => Address::Unix(path.clone()),
        SocketAddress::Abstract(name) => Address::Abstract(name.clone()),
    };
    let kind = match socket.kind {
        SocketKind::Stream => Kind::Stream,
        SocketKind::Datagram => Kind::Datagram,
        SocketKind::Seqpacket => Kind::Seqpacket,
    };
    let wanted = Request {
        address,
        kind,
        backlog: socket.backlog,
        reuse_port: socket.reuse_port,
        ipv6_only: socket.ipv6_only,
        free_bind: socket.free_bind,
        receive_buffer: socket.receive_buffer,
        send_buffer: socket.send_buffer,
        mode: socket.mode,
        owner,
    };
    listen::open(&wanted).map_err(|error| {
        let by = (error.errno == relume_os::Errno::ADDRINUSE).then(|| holder(socket)).flatten();
        let by = by.map(|who| format!("; it is held by {who}")).unwrap_or_default();
        SpawnError { text: format!("its socket ({socket}): {error}{by}"), shortage: false }
    })
}

/// Who listens there.
fn holder(socket: &Socket) -> Option<String> {
    let inodes: Vec<u64> = match (&socket.address, socket.kind) {
        (SocketAddress::Inet(_, port), kind) => {
            let table = if kind == SocketKind::Datagram { port_holders::udp() } else { port_holders::tcp() };
            table.into_iter().filter(|(_, at)| at == port).map(|(inode, _)| inode).collect()
        }
        (SocketAddress::Unix(path), _) => port_holders::unix(path),
        (SocketAddress::Abstract(name), _) => port_holders::unix(format!("@{name}").as_ref()),
    };
    let owners = port_holders::owners(&inodes);
    owners.values().flatten().min().map(|pid| port_holders::in_words(*pid))
}

/// Tells a process of the descriptors that it gets from 3 on.
pub(crate) fn tell(request: &mut SpawnRequest, names: &[String]) {
    if names.is_empty() {
        return;
    }
    let ours =
        |name: &std::ffi::OsString| name == "LISTEN_FDS" || name == "LISTEN_FDNAMES" || name == "LISTEN_PID";
    request.environment.retain(|(name, _)| !ours(name));
    request.environment.push(("LISTEN_FDS".into(), names.len().to_string().into()));
    request.environment.push(("LISTEN_FDNAMES".into(), names.join(":").into()));
    request.listen_pid = true;
}

#[cfg(test)]
#[path = "listening_tests.rs"]
mod tests;
