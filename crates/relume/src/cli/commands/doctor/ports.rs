//! Who listens on the ports that the services want, from `/proc/net/tcp` and the descriptors of all processes.

use std::collections::{BTreeMap, HashMap};

use relume_config::ServiceConfig;
use relume_os::proc;

use crate::cli::render::doctor::Check;
use crate::cli::render::text::harmless;

/// State of a socket that listens (include/net/tcp_states.h).
const LISTEN: &str = "0A";

/// For each port of the config: free, held by its own service, or by somebody else.
pub(super) fn held(services: &[ServiceConfig]) -> Vec<Check> {
    let mut wanted: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for service in services {
        if let Some(port) = service.shown.port {
            wanted.entry(port).or_default().push(&service.spec.name);
        }
    }
    if wanted.is_empty() {
        return Vec::new();
    }
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let listening: HashMap<u64, u16> = tables.iter().flat_map(|table| listeners(table)).collect();
    let sockets = listening.iter().filter(|(_, port)| wanted.contains_key(port));
    let owners = owners(&sockets.map(|(inode, _)| *inode).collect::<Vec<_>>());
    wanted
        .into_iter()
        .map(|(port, names)| {
            let taken: Vec<u64> =
                listening.iter().filter(|(_, at)| **at == port).map(|(inode, _)| *inode).collect();
            let pids: Vec<u32> = taken.iter().filter_map(|inode| owners.get(inode)).copied().collect();
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
    let tag = proc::environ(*pid, "RELUME_SERVICE").unwrap_or_default();
    if names.iter().any(|name| name.as_bytes() == tag) {
        return Check::ok(&what, format!("held by {who} (pid {pid})"));
    }
    let program = proc::stat(*pid).ok().flatten().map(|stat| harmless(&stat.comm).into_owned());
    let program = program.unwrap_or_else(|| "gone meanwhile".into());
    Check::bad(&what, format!("wanted by {who}, held by pid {pid} ({program})"))
        .advice("end that process, or use another port")
}

/// Inode and port of every socket that listens, of one table of proc(5).
fn listeners(table: &str) -> Vec<(u64, u16)> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        (*state == LISTEN).then_some((inode.parse().ok()?, port))
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// Which process holds a socket; the first found where several do.
fn owners(inodes: &[u64]) -> HashMap<u64, u32> {
    let mut found = HashMap::new();
    if inodes.is_empty() {
        return found;
    }
    for process in proc::all().unwrap_or_default() {
        // Processes of others keep their descriptors to themselves.
        let Ok(fds) = std::fs::read_dir(format!("/proc/{}/fd", process.pid)) else { continue };
        for fd in fds.flatten() {
            let Ok(target) = std::fs::read_link(fd.path()) else { continue };
            let inode = target
                .to_str()
                .and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode.filter(|inode| inodes.contains(inode)) {
                found.entry(inode).or_insert(process.pid);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_that_listen_are_counted() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1F91 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0 20 4 30 10 -1
   2: broken
";
        assert_eq!(listeners(table), [(4711, 8080)]);
    }

    #[test]
    fn the_holder_of_a_port_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let inode = listeners(&table).into_iter().find(|(_, at)| *at == port).unwrap().0;
        assert_eq!(owners(&[inode]).get(&inode), Some(&std::process::id()));
    }
}
