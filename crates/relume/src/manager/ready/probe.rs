//! One probe: one fresh connection, one question, one answer. Whoever calls bounds its time.
//!
//! Bounded in bytes too: of an HTTP answer only the head is read, and a head that is too long is an error. No
//! redirect is followed: an answer that points elsewhere was given all the same.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::body::Body;
use axum::http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use axum::http::{HeaderName, HeaderValue, Request, StatusCode};
use hyper_util::rt::TokioIo;
use relume_config::{HttpTarget, Probe, ProbeTarget};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// The longest head of an answer. Real ones have a few hundred bytes.
const MOST_HEAD: usize = 64 * 1024;

/// A question with what is kept from one probe to the next.
pub(super) struct Question {
    target: ProbeTarget,
    /// A look-up that the system has not answered: it is waited for again instead of begun again, so that a dead name
    /// server costs one thread a service and not one a probe.
    lookup: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
}

impl Question {
    pub(super) fn new(probe: &Probe) -> Self {
        Self { target: probe.target.clone(), lookup: None }
    }

    /// Asks once. Why the answer is not good: a fragment for people.
    pub(super) async fn ask(&mut self) -> Result<(), String> {
        let (host, port) = match &self.target {
            ProbeTarget::Http(http) => (http.host.clone(), http.port),
            ProbeTarget::Tcp { host, port } => (host.clone(), *port),
        };
        let connection = self.connect(&host, port).await.map_err(|error| in_words(&error))?;
        match &self.target {
            ProbeTarget::Tcp { .. } => Ok(()),
            ProbeTarget::Http(http) => judge(http, status(http, connection).await?),
        }
    }

    /// What it asks, for people.
    pub(super) fn subject(&self) -> String {
        let name = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match &self.target {
            ProbeTarget::Http(http) => format!("http://{}:{}{}", name(&http.host), http.port, http.path),
            ProbeTarget::Tcp { host, port } => format!("tcp://{}:{port}", name(host)),
        }
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
}

impl Drop for Question {
    fn drop(&mut self) {
        if let Some(lookup) = &self.lookup {
            lookup.abort();
        }
    }
}

/// Addresses, and the one name that always means this machine (RFC 6761, 6.3).
fn without_lookup(host: &str) -> Option<Vec<IpAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    host.parse().ok().map(|ip| vec![ip])
}

/// Sends the request and reads the head of the answer.
async fn status(http: &HttpTarget, connection: TcpStream) -> Result<StatusCode, String> {
    let broken = |error: hyper::Error| format!("no HTTP answer: {error}");
    let request = request(http)?;
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(MOST_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(connection)).await.map_err(broken)?;
    // The connection makes progress only while it is polled; it is dropped with the rest of the answer unread.
    let answer = sender.send_request(request);
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => return answer.map(|answer| answer.status()).map_err(broken),
        ended = &mut connection => ended.map_err(broken)?,
    }
    // The other side has closed; what it said before is there by now.
    answer.await.map(|answer| answer.status()).map_err(broken)
}

fn request(http: &HttpTarget) -> Result<Request<Body>, String> {
    let host = if http.host.contains(':') { format!("[{}]", http.host) } else { http.host.clone() };
    let host = if http.port == 80 { host } else { format!("{host}:{}", http.port) };
    let mut request = Request::get(http.path.as_str())
        .body(Body::empty())
        .map_err(|error| format!("cannot ask {}: {error}", http.path))?;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("relume/", env!("CARGO_PKG_VERSION"))));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let own = http.headers.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in std::iter::once((HOST.as_str(), host.as_str())).chain(own) {
        // The value may be a password: it is not shown.
        let unfit = || format!("the header {name} cannot be sent");
        let header: HeaderName = name.parse().map_err(|_| unfit())?;
        headers.insert(header, HeaderValue::from_str(value).map_err(|_| unfit())?);
    }
    Ok(request)
}

fn judge(http: &HttpTarget, status: StatusCode) -> Result<(), String> {
    let good = http.status.map_or((200..400).contains(&status.as_u16()), |wanted| status.as_u16() == wanted);
    if good { Ok(()) } else { Err(format!("answered {status}")) }
}

fn in_words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return "nobody listens there".into();
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use relume_config::Environment;

    use super::*;

    fn http(port: u16, status: Option<u16>) -> Question {
        let headers = Environment(BTreeMap::from([("X-Token".into(), "secret".into())]).into());
        let target = HttpTarget { host: "127.0.0.1".into(), port, path: "/up?x=1".into(), headers, status };
        Question { target: ProbeTarget::Http(target), lookup: None }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), future).await.unwrap() })
    }

    /// Answers one connection with `answer`, again and again while `endless`; gives what was asked.
    fn server(answer: &'static [u8], endless: bool) -> (u16, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                request.push(byte[0]);
            }
            while stream.write_all(answer).is_ok() && endless {}
            String::from_utf8(request).unwrap()
        };
        (port, std::thread::spawn(serve))
    }

    #[test]
    fn statuses_from_200_to_399_are_good_unless_one_is_named() {
        for (answer, named, good) in [
            (&b"HTTP/1.1 200 OK\r\n\r\n"[..], None, true),
            (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", None, true),
            (b"HTTP/1.0 204 No Content\r\n\r\n", None, true),
            (b"HTTP/1.1 404 Not Found\r\n\r\n", None, false),
            (b"HTTP/1.1 503 Busy\r\n\r\n", None, false),
            (b"HTTP/1.1 200 OK\r\n\r\n", Some(204), false),
            (b"HTTP/1.1 401 No\r\n\r\n", Some(401), true),
        ] {
            let (port, asked) = server(answer, false);
            let said = run(http(port, named).ask());
            assert_eq!(said.is_ok(), good, "{said:?} {}", String::from_utf8_lossy(answer));
            let asked = asked.join().unwrap();
            assert!(asked.starts_with("GET /up?x=1 HTTP/1.1\r\n"), "{asked}");
            let asked = asked.to_ascii_lowercase();
            assert!(asked.contains(&format!("\r\nhost: 127.0.0.1:{port}\r\n")), "{asked}");
            assert!(asked.contains("\r\nx-token: secret\r\n"), "{asked}");
        }
    }

    #[test]
    fn an_endless_body_is_not_read_and_an_endless_head_is_an_error() {
        let (port, asked) =
            server(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nxxxxxxxxxxxxxxxxxxxxx", true);
        assert_eq!(run(http(port, None).ask()), Ok(()));
        asked.join().unwrap();
        let (port, asked) = server(
            b"HTTP/1.1 200 OK\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy",
            true,
        );
        assert!(run(http(port, None).ask()).is_err());
        asked.join().unwrap();
    }

    #[test]
    fn what_is_no_http_is_no_answer() {
        for answer in [&b"SSH-2.0-OpenSSH\r\n"[..], b"", b"\0\0\0\0", b"HTTP/1.1 999999 x\r\n\r\n"] {
            let (port, asked) = server(answer, false);
            assert!(run(http(port, None).ask()).is_err(), "{answer:?}");
            asked.join().unwrap();
        }
    }

    #[test]
    fn a_tcp_probe_wants_a_connection_and_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut question =
            Question { target: ProbeTarget::Tcp { host: "localhost".into(), port }, lookup: None };
        assert_eq!(run(question.ask()), Ok(()));
        drop(listener);
        assert_eq!(run(question.ask()), Err("nobody listens there".into()));
        assert_eq!(question.subject(), format!("tcp://localhost:{port}"));
    }

    #[test]
    fn addresses_are_taken_as_they_are_and_the_name_of_this_machine_needs_nobody() {
        assert_eq!(without_lookup("::1"), Some(vec![Ipv6Addr::LOCALHOST.into()]));
        assert_eq!(without_lookup("LocalHost").unwrap().len(), 2);
        assert_eq!(without_lookup("db.internal"), None);
    }
}
