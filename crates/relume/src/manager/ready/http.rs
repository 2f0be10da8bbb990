//! A probe by HTTP: one request, the head of the answer, and of its body only where a text is looked for in it.

use axum::body::Body;
use axum::http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use axum::http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use relume_config::HttpTarget;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::probe::bracketed;

/// The longest head of an answer. Real ones have a few hundred bytes.
const MOST_HEAD: usize = 64 * 1024;

/// So much of a body is looked through.
const MOST_BODY: usize = 64 * 1024;

/// Sends the request and judges the answer: why it is not good.
pub(super) async fn ask(http: &HttpTarget, connection: TcpStream) -> Result<(), String> {
    if http.tls {
        return exchange(http, None, super::tls::over(&http.host, connection, false).await?).await;
    }
    exchange(http, None, connection).await
}

/// Posts a text to whoever is named, if he can prove his name where that is asked by `https`: why it has not worked.
pub(in crate::manager) async fn post(http: &HttpTarget, text: String) -> Result<(), String> {
    let connection = TcpStream::connect((http.host.as_str(), http.port)).await;
    let connection = connection.map_err(|error| format!("cannot connect: {error}"))?;
    if http.tls {
        return exchange(http, Some(text), super::tls::over(&http.host, connection, true).await?).await;
    }
    exchange(http, Some(text), connection).await
}

async fn exchange(
    http: &HttpTarget,
    text: Option<String>,
    connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<(), String> {
    let request = request(http, text)?;
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(MOST_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(connection)).await.map_err(broken)?;
    // The connection makes progress only while it is polled; it is dropped with the rest of the answer unread.
    let judged = async move {
        let answer = sender.send_request(request).await.map_err(broken)?;
        judge(http, answer.status())?;
        match &http.body {
            Some(text) => look_for(text, answer.into_body()).await,
            None => Ok(()),
        }
    };
    tokio::pin!(judged, connection);
    tokio::select! {
        biased;
        judged = &mut judged => return judged,
        ended = &mut connection => ended.map_err(broken)?,
    }
    // The other side has closed; what it said before is there by now.
    judged.await
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn broken(error: hyper::Error) -> String {
    format!("no HTTP answer: {error}")
}

async fn look_for(text: &str, mut body: Incoming) -> Result<(), String> {
    let mut read = Vec::new();
    while read.len() < MOST_BODY {
        let Some(frame) = body.frame().await else { break };
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        read.extend_from_slice(&data[..data.len().min(MOST_BODY - read.len())]);
        if read.windows(text.len()).any(|part| part == text.as_bytes()) {
            return Ok(());
        }
    }
    Err(format!("its answer does not contain `{text}`"))
}

fn request(http: &HttpTarget, text: Option<String>) -> Result<Request<Body>, String> {
    let usual = if http.tls { 443 } else { 80 };
    let host = bracketed(&http.host);
    let host = if http.port == usual { host } else { format!("{host}:{}", http.port) };
    let json = text.as_ref().is_some_and(|text| text.starts_with(['{', '[']));
    let kind = if json { "application/json" } else { "text/plain; charset=utf-8" };
    let posts = text.is_some();
    let mut request = Request::builder()
        .method(http.method.as_str())
        .uri(http.path.as_str())
        .body(text.map_or_else(Body::empty, Body::from))
        .map_err(|error| format!("cannot ask {}: {error}", http.path))?;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("relume/", env!("CARGO_PKG_VERSION"))));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if posts {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use relume_config::Environment;

    use super::*;

    fn http(port: u16, status: Option<u16>) -> HttpTarget {
        let headers = Environment(BTreeMap::from([("X-Token".into(), "secret".into())]).into());
        let (host, method, path) = ("127.0.0.1".into(), "GET".into(), "/up?x=1".into());
        HttpTarget { tls: false, host, port, method, path, headers, status, body: None }
    }

    fn ask(http: &HttpTarget) -> Result<(), String> {
        run(async { super::ask(http, TcpStream::connect(("127.0.0.1", http.port)).await.unwrap()).await })
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
            let said = ask(&http(port, named));
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
        assert_eq!(ask(&http(port, None)), Ok(()));
        asked.join().unwrap();
        let (port, asked) = server(
            b"HTTP/1.1 200 OK\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy",
            true,
        );
        assert!(ask(&http(port, None)).is_err());
        asked.join().unwrap();
    }

    #[test]
    fn what_is_no_http_is_no_answer() {
        for answer in [&b"SSH-2.0-OpenSSH\r\n"[..], b"", b"\0\0\0\0", b"HTTP/1.1 999999 x\r\n\r\n"] {
            let (port, asked) = server(answer, false);
            assert!(ask(&http(port, None)).is_err(), "{answer:?}");
            asked.join().unwrap();
        }
    }

    #[test]
    fn a_text_is_looked_for_in_the_beginning_of_the_body() {
        for (text, good) in [("status: ok", true), ("status: bad", false)] {
            let (port, asked) =
                server(b"HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\nall in all, status: ok", false);
            let target = HttpTarget { body: Some(text.into()), method: "POST".into(), ..http(port, None) };
            assert_eq!(ask(&target).is_ok(), good, "{text}");
            assert!(asked.join().unwrap().starts_with("POST /up"));
        }
        let (port, asked) =
            server(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxxxx", true);
        assert!(ask(&HttpTarget { body: Some("y".into()), ..http(port, None) }).is_err());
        asked.join().unwrap();
    }
}
