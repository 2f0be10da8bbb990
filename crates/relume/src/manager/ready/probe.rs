//! One probe: one fresh connection, one question, one answer. Whoever calls bounds its time.
//!
//! Bounded in bytes too: a head that is too long is an error, and of a body no more is read than is looked through. No
//! redirect is followed: an answer that points elsewhere was given all the same. What the system may answer late (a name, a
//! file) is asked on a thread of the runtime's, and asked again only when it has answered: a dead server costs one thread a
//! probe and not one a time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use relume_config::{Probe, ProbeTarget};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use super::{grpc, http};

/// A question with what is kept from one probe to the next.
pub(super) struct Question {
    target: ProbeTarget,
    lookup: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
    look: Option<JoinHandle<io::Result<()>>>,
}

impl Question {
    pub(super) fn new(probe: &Probe) -> Self {
        Self { target: probe.target.clone(), lookup: None, look: None }
    }

    /// Asks once. Why the answer is not good: a fragment for people.
    pub(super) async fn ask(&mut self) -> Result<(), String> {
        match self.target.clone() {
            ProbeTarget::Tcp { host, port } => self.reach(&host, port).await.map(drop),
            ProbeTarget::Http(target) => {
                let connection = self.reach(&target.host, target.port).await?;
                http::ask(&target, connection).await
            }
            ProbeTarget::Grpc(target) => {
                let connection = self.reach(&target.host, target.port).await?;
                grpc::ask(&target, connection).await
            }
            ProbeTarget::Unix(path) => {
                UnixStream::connect(&path).await.map(drop).map_err(|error| in_words(&error))
            }
            ProbeTarget::File(path) => self.exists(&path).await.map_err(|error| in_words(&error)),
            // Commands are runs of the core's; a line is seen where it passes.
            ProbeTarget::Exec(_) | ProbeTarget::LogLine(_) => {
                Err("nothing can be asked over the network".into())
            }
        }
    }

    async fn reach(&mut self, host: &str, port: u16) -> Result<TcpStream, String> {
        self.connect(host, port).await.map_err(|error| in_words(&error))
    }

    async fn connect(&mut self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in self.addresses(host, port).await? {
            match TcpStream::connect(address).await {
                // A port out of the range of outgoing connections can connect to itself when nobody listens there.
                Ok(stream) if stream.local_addr()? == stream.peer_addr()? => {
                    last = io::ErrorKind::ConnectionRefused.into();
                }
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn addresses(&mut self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Some(known) = without_lookup(host) {
            return Ok(known.into_iter().map(|ip| SocketAddr::new(ip, port)).collect());
        }
        let name = host.to_owned();
        let lookup = self.lookup.get_or_insert_with(|| {
            tokio::spawn(async move { tokio::net::lookup_host((name, port)).await.map(Iterator::collect) })
        });
        let found = lookup.await;
        self.lookup = None;
        found.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
    }

    async fn exists(&mut self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        let look = self
            .look
            .get_or_insert_with(|| tokio::task::spawn_blocking(move || std::fs::metadata(path).map(drop)));
        let found = look.await;
        self.look = None;
        found.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if let Some(lookup) = &self.lookup {
            lookup.abort();
        }
        if let Some(look) = &self.look {
            look.abort();
        }
    }
}

/// What a probe asks, for people.
pub(super) fn subject(target: &ProbeTarget) -> String {
    match target {
        ProbeTarget::Http(http) => {
            let scheme = if http.tls { "https" } else { "http" };
            format!("{scheme}://{}:{}{}", bracketed(&http.host), http.port, http.path)
        }
        ProbeTarget::Tcp { host, port } => format!("tcp://{}:{port}", bracketed(host)),
        ProbeTarget::Grpc(grpc) => {
            format!("grpc://{}:{}/{}", bracketed(&grpc.host), grpc.port, grpc.service)
        }
        ProbeTarget::Unix(path) => format!("unix:{}", path.display()),
        ProbeTarget::File(path) => path.display().to_string(),
        ProbeTarget::Exec(argv) => argv.first().cloned().unwrap_or_default(),
        ProbeTarget::LogLine(text) => format!("a line with `{text}`"),
    }
}

/// A host as it stands before a port.
pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Addresses, and the one name that always means this machine (RFC 6761, 6.3).
fn without_lookup(host: &str) -> Option<Vec<IpAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    host.parse().ok().map(|ip| vec![ip])
}

fn in_words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return "nobody listens there".into();
    }
    if error.kind() == io::ErrorKind::NotFound {
        return "there is no such thing".into();
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    fn question(target: ProbeTarget) -> Question {
        Question { target, lookup: None, look: None }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), future).await.unwrap() })
    }

    #[test]
    fn a_tcp_probe_wants_a_connection_and_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = ProbeTarget::Tcp { host: "localhost".into(), port };
        assert_eq!(subject(&target), format!("tcp://localhost:{port}"));
        let mut question = question(target);
        assert_eq!(run(question.ask()), Ok(()));
        drop(listener);
        assert_eq!(run(question.ask()), Err("nobody listens there".into()));
    }

    #[test]
    fn a_unix_probe_wants_a_listener_and_a_file_probe_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it");
        let mut unix = question(ProbeTarget::Unix(path.clone()));
        let mut file = question(ProbeTarget::File(path.clone()));
        assert!(run(unix.ask()).is_err() && run(file.ask()).is_err());
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!((run(unix.ask()), run(file.ask())), (Ok(()), Ok(())));
        drop(listener);
        assert_eq!(run(unix.ask()), Err("nobody listens there".into()));
        assert_eq!(run(file.ask()), Ok(()));
    }

    #[test]
    fn addresses_are_taken_as_they_are_and_the_name_of_this_machine_needs_nobody() {
        assert_eq!(without_lookup("::1"), Some(vec![Ipv6Addr::LOCALHOST.into()]));
        assert_eq!(without_lookup("LocalHost").unwrap().len(), 2);
        assert_eq!(without_lookup("db.internal"), None);
    }
}
