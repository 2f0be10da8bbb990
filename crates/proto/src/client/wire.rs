//! One request on one connection: connect, send, check who answered, read.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::error::{ClientError, ErrorKind};
use crate::{API_VERSION, ApiError, VERSION_HEADER};

/// A manager that lives accepts at once: the kernel does it. Two seconds are for a machine in trouble.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// No answer is larger, in bytes: 10,000 services take about 10 MB. Guards against a stranger's endless body.
const BODY_LIMIT: usize = 256 << 20;

/// The longest path `sockaddr_un` holds, with its final NUL (unix(7)).
const SUN_PATH: usize = 108;

/// Where to, and how long an answer may take to begin.
pub(super) struct Call<'a> {
    pub(super) socket: &'a Path,
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) body: Vec<u8>,
    /// `None`: as long as it takes.
    pub(super) limit: Option<Duration>,
}

/// Sends the request and returns the answer's beginning; what is no success is an error already.
pub(super) async fn send(call: Call<'_>) -> Result<Response<Incoming>, ClientError> {
    let socket = call.socket;
    let stream = connect(socket).await?;
    let exchange = exchange(stream, &call);
    let response = match call.limit {
        Some(limit) => {
            timeout(limit, exchange).await.map_err(|_| ClientError::too_slow(socket, "answer", limit))?
        }
        None => exchange.await,
    };
    let response = response.map_err(|error| ClientError::lost(socket, &error))?;
    check_version(socket, &response)?;
    if response.status().is_success() {
        return Ok(response);
    }
    Err(refusal(socket, response).await)
}

/// Reads the whole body as JSON.
pub(super) async fn read<T: DeserializeOwned>(
    socket: &Path,
    response: Response<Incoming>,
) -> Result<T, ClientError> {
    let body = Limited::new(response.into_body(), BODY_LIMIT)
        .collect()
        .await
        .map_err(|error| ClientError::lost(socket, &error))?
        .to_bytes();
    serde_json::from_slice(&body).map_err(|error| ClientError::foreign(socket, &error.to_string()))
}

async fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    let (path, _directory) = reachable(socket).map_err(|error| ClientError::connecting(socket, &error))?;
    let stream = timeout(CONNECT_LIMIT, UnixStream::connect(&path))
        .await
        .map_err(|_| ClientError::too_slow(socket, "accept the connection", CONNECT_LIMIT))?
        .map_err(|error| ClientError::connecting(socket, &error))?;
    check_owner(socket, &stream)?;
    Ok(stream)
}

/// A path of the socket that connect(2) takes: long ones go by way of their opened directory, which has to
/// stay open until connected.
fn reachable(socket: &Path) -> std::io::Result<(PathBuf, Option<File>)> {
    if socket.as_os_str().len() < SUN_PATH {
        return Ok((socket.to_owned(), None));
    }
    let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Ok((socket.to_owned(), None));
    };
    let directory = File::open(directory)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok((path, Some(directory)))
}

/// Only a manager of this user, or of root, is spoken to (unix(7), SO_PEERCRED: who called listen(2)).
fn check_owner(socket: &Path, stream: &UnixStream) -> Result<(), ClientError> {
    let theirs = stream.peer_cred().map_err(|error| ClientError::lost(socket, &error))?.uid();
    let ours = effective_uid();
    if theirs == 0 || ours.is_none_or(|ours| ours == theirs) {
        return Ok(());
    }
    let detail = format!(
        "the manager on {} belongs to user {theirs}; run this command as that user",
        socket.display()
    );
    Err(ClientError::new(ErrorKind::NotOurs, socket, detail))
}

/// The effective user, as the owner of /proc/self (proc(5)); `None` without a /proc.
///
/// Not geteuid(2), which std does not offer: this crate shall not need a system crate for one number.
fn effective_uid() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").ok().map(|process| process.uid())
}

async fn exchange(stream: UnixStream, call: &Call<'_>) -> hyper::Result<Response<Incoming>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the connection; an error on it also reaches whoever reads the answer.
    tokio::spawn(connection);
    let mut request = Request::new(Full::new(Bytes::from(call.body.clone())));
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = call.path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(hyper::header::HOST, hyper::header::HeaderValue::from_static("relume"));
    headers.insert(VERSION_HEADER, hyper::header::HeaderValue::from(API_VERSION));
    if call.method == Method::POST {
        let json = hyper::header::HeaderValue::from_static("application/json");
        headers.insert(hyper::header::CONTENT_TYPE, json);
    }
    sender.send_request(request).await
}

fn check_version(socket: &Path, response: &Response<Incoming>) -> Result<(), ClientError> {
    let Some(version) = response.headers().get(VERSION_HEADER) else {
        return Err(ClientError::foreign(socket, "its answer names no version of the control API"));
    };
    let version = version.to_str().unwrap_or("?");
    if version.parse() == Ok(API_VERSION) { Ok(()) } else { Err(ClientError::other_version(socket, version)) }
}

async fn refusal(socket: &Path, response: Response<Incoming>) -> ClientError {
    let status = response.status();
    match read::<ApiError>(socket, response).await {
        Ok(error) => {
            let detail = error.to_string();
            ClientError::new(ErrorKind::Refused(error), socket, detail)
        }
        Err(error) => ClientError::foreign(socket, &format!("HTTP {status} ({error})")),
    }
}
