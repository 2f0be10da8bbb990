//! Who listens on the ports that the services want, from `/proc/net/tcp` and the descriptors of all processes.

use std::collections::BTreeMap;

use relume_config::{ServiceConfig, SocketAddress, SocketKind};
use relume_os::proc;

use crate::cli::render::doctor::Check;
use crate::cli::render::text::harmless;
use crate::port_holders;

/// For each port of the config: free, held by its own service, or by somebody else.
pub(super) fn held(services: &[ServiceConfig]) -> Vec<Check> {
    let mut wanted: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for service in services {
        if let Some(port) = service.shown.more.port {
            wanted.entry(port).or_default().push(&service.spec.name);
        }
        // Those of a service's sockets: instances share them.
        for socket in &*service.sockets {
            if let (SocketAddress::Inet(_, port), SocketKind::Stream) = (&socket.address, socket.kind) {
                let names = wanted.entry(*port).or_default();
                if !names.iter().any(|name| *name == service.spec.name || *name == service.base_name) {
                    names.push(&service.base_name);
                }
            }
        }
    }
    if wanted.is_empty() {
        return Vec::new();
    }
    let listening = port_holders::tcp();
    let sockets = listening.iter().filter(|(_, port)| wanted.contains_key(port));
    let owners = port_holders::owners(&sockets.map(|(inode, _)| *inode).collect::<Vec<_>>());
    wanted
        .into_iter()
        .map(|(port, names)| {
            let taken: Vec<u64> =
                listening.iter().filter(|(_, at)| **at == port).map(|(inode, _)| *inode).collect();
            let pids: Vec<u32> =
                taken.iter().filter_map(|inode| owners.get(inode)).flatten().copied().collect();
            judge(port, &names, !taken.is_empty(), &pids)
        })
        .collect()
}

fn judge(port: u16, names: &[&str], taken: bool, pids: &[u32]) -> Check {
    let what = format!("port {port}");
    let who = names.join(", ");
    if !taken {
        return if names.len() > 1 {
            Check::warn(&what, format!("free, but wanted by {who}")).advice("give each a port of its own")
        } else {
            Check::ok(&what, format!("free for {who}"))
        };
    }
    let Some(pid) = pids.first() else {
        return Check::warn(&what, format!("wanted by {who}, held by a process that this user may not see"))
            .advice("ask again as root");
    };
    let is_its = |pid: &&u32| {
        let tag = proc::environ(**pid, "RELUME_SERVICE").unwrap_or_default();
        let tag = String::from_utf8_lossy(&tag).into_owned();
        let base = tag.split(':').next().unwrap_or_default();
        names.iter().any(|name| *name == tag || *name == base) || port_holders::is_relume(**pid)
    };
    if let Some(pid) = pids.iter().find(is_its) {
        return Check::ok(&what, format!("held by {who} (pid {pid})"));
    }
    let holder = port_holders::in_words(*pid);
    Check::bad(&what, format!("wanted by {who}, held by {}", harmless(&holder)))
        .advice("end that process, or use another port")
}
