//! Who listens where, from the tables in `/proc/net` and the descriptors of all processes.

use std::collections::HashMap;
use std::path::Path;

use relume_os::proc;

/// State of a TCP socket that listens (include/net/tcp_states.h).
const LISTEN: &str = "0A";

/// State of a UDP socket that is bound to nobody in particular.
const UNCONNECTED: &str = "07";

/// Inode and port of every TCP socket that listens.
pub(crate) fn tcp() -> HashMap<u64, u16> {
    tables(&["/proc/net/tcp", "/proc/net/tcp6"], LISTEN)
}

/// Inode and port of every UDP socket that takes from anybody.
pub(crate) fn udp() -> HashMap<u64, u16> {
    tables(&["/proc/net/udp", "/proc/net/udp6"], UNCONNECTED)
}

fn tables(paths: &[&str], state: &str) -> HashMap<u64, u16> {
    let texts = paths.iter().map(|path| std::fs::read_to_string(path).unwrap_or_default());
    texts.flat_map(|table| in_state(&table, state)).collect()
}

/// Inode and port of every socket in that state, of one table of proc(5).
fn in_state(table: &str, wanted: &str) -> Vec<(u64, u16)> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        (*state == wanted).then_some((inode.parse().ok()?, port))
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// Inodes of the unix sockets with this path; an abstract name begins with `@`.
pub(crate) fn unix(path: &Path) -> Vec<u64> {
    let table = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let wanted = path.to_string_lossy();
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let inode = fields.nth(6)?;
        (fields.next()? == wanted).then(|| inode.parse().ok())?
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// Which processes hold a socket, by its inode.
pub(crate) fn owners(inodes: &[u64]) -> HashMap<u64, Vec<u32>> {
    let mut found = HashMap::<u64, Vec<u32>>::new();
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
                found.entry(inode).or_default().push(process.pid);
            }
        }
    }
    found
}

/// Whether this process is a relume: guardian or manager, which hold sockets for their services.
pub(crate) fn is_relume(pid: u32) -> bool {
    let program = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    program(&pid.to_string()).is_some_and(|theirs| Some(theirs) == program("self"))
}

/// `pid 12 (nginx)`, `pid 12 (python3), a process of the service web`
pub(crate) fn in_words(pid: u32) -> String {
    let program = proc::stat(pid).ok().flatten().map_or_else(|| "gone meanwhile".into(), |stat| stat.comm);
    let service = proc::environ(pid, "RELUME_SERVICE").and_then(|name| String::from_utf8(name).ok());
    let whose = service.map(|name| format!(", a process of the service {name}")).unwrap_or_default();
    format!("pid {pid} ({program}){whose}")
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
        assert_eq!(in_state(table, LISTEN), [(4711, 8080)]);
    }

    #[test]
    fn the_holder_of_a_port_or_path_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let inode = tcp().into_iter().find(|(_, at)| *at == port).unwrap().0;
        assert!(owners(&[inode])[&inode].contains(&std::process::id()));
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("s");
        let _bound = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let inodes = unix(&path);
        assert!(owners(&inodes).values().flatten().any(|pid| *pid == std::process::id()));
        assert!(in_words(std::process::id()).starts_with(&format!("pid {} (", std::process::id())));
    }
}
