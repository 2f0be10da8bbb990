//! A probe by the health protocol of gRPC: `grpc.health.v1.Health/Check` over HTTP/2 without TLS.
//!
//! One call with one message each way, so the protocol is a dozen lines: a frame is a flag, a length and a message
//! (gRPC over HTTP2); the request has one string, the answer one number (protobuf encoding).

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use relume_config::GrpcTarget;
use tokio::net::TcpStream;

use super::probe::bracketed;

/// Longest answer; a good one has 7 bytes.
const MOST_ANSWER: usize = 4096;

/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u64 = 1;

/// Asks once: why the answer is not good.
pub(super) async fn ask(grpc: &GrpcTarget, connection: TcpStream) -> Result<(), String> {
    let broken = |error: hyper::Error| format!("no gRPC answer: {error}");
    let request =
        Request::post(format!("http://{}:{}/grpc.health.v1.Health/Check", bracketed(&grpc.host), grpc.port))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, concat!("relume/", env!("CARGO_PKG_VERSION")))
            .body(Body::from(question(&grpc.service)))
            .map_err(|error| format!("cannot ask: {error}"))?;
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.handshake(TokioIo::new(connection)).await.map_err(broken)?;
    let judged = async move {
        let answer = sender.send_request(request).await.map_err(broken)?;
        if !answer.status().is_success() {
            return Err(format!("answered {}", answer.status()));
        }
        // A call that fails at once has its status in the head.
        status(answer.headers())?;
        let body = Limited::new(answer.into_body(), MOST_ANSWER).collect().await;
        let body = body.map_err(|error| format!("no gRPC answer: {error}"))?;
        if let Some(trailers) = body.trailers() {
            status(trailers)?;
        }
        judge(&body.to_bytes())
    };
    tokio::pin!(judged, connection);
    tokio::select! {
        biased;
        judged = &mut judged => return judged,
        ended = &mut connection => ended.map_err(broken)?,
    }
    judged.await
}

fn status(headers: &HeaderMap) -> Result<(), String> {
    let Some(status) = headers.get("grpc-status").filter(|status| status.as_bytes() != b"0") else {
        return Ok(());
    };
    let text = |value: Option<&header::HeaderValue>| {
        value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
    };
    let (code, message) = (text(Some(status)), text(headers.get("grpc-message")));
    // The two that a health check can expect have words; the others have numbers everywhere else too.
    let code = match code.as_str() {
        "5" => "it does not know the service that was asked for (NOT_FOUND)".into(),
        "12" => "it has no grpc.health.v1.Health (UNIMPLEMENTED)".into(),
        _ => format!("answered gRPC status {code}"),
    };
    Err(if message.is_empty() { code } else { format!("{code}: {message}") })
}

/// Field 1, a string: the service.
fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    frame.extend_from_slice(&message);
    frame
}

/// Field 1, a number: the status. Anything else is skipped.
fn judge(frame: &[u8]) -> Result<(), String> {
    let unfit = || "answered with something that is no health response".to_owned();
    let (head, message) = frame.split_at_checked(5).ok_or_else(unfit)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if head[0] != 0 || message.len() < length {
        return Err(unfit());
    }
    let (mut message, mut found) = (&message[..length], 0);
    while !message.is_empty() {
        let key = number(&mut message).ok_or_else(unfit)?;
        let skip = match key & 7 {
            0 => {
                let value = number(&mut message).ok_or_else(unfit)?;
                found = if key >> 3 == 1 { value } else { found };
                0
            }
            1 => 8,
            2 => usize::try_from(number(&mut message).ok_or_else(unfit)?).map_err(|_| unfit())?,
            5 => 4,
            _ => return Err(unfit()),
        };
        message = message.get(skip..).ok_or_else(unfit)?;
    }
    match found {
        SERVING => Ok(()),
        0 => Err("its health is UNKNOWN".into()),
        2 => Err("its health is NOT_SERVING".into()),
        3 => Err("it does not know the service that was asked for".into()),
        other => Err(format!("its health is {other}")),
    }
}

/// A base-128 number from the front of `bytes`.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for at in 0..10 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f).checked_shl(7 * at)?;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_a_frame_with_one_string() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("ab"), [0, 0, 0, 0, 4, 10, 2, b'a', b'b']);
        let long = question(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 0x2f, 10, 0xac, 2]);
    }

    #[test]
    fn only_serving_is_good_and_noise_is_an_answer_that_is_not() {
        assert_eq!(judge(&[0, 0, 0, 0, 2, 8, 1]), Ok(()));
        assert_eq!(judge(&[0, 0, 0, 0, 6, 18, 2, 1, 1, 8, 1]), Ok(()));
        for bad in [
            &[][..],
            &[0, 0, 0, 0, 0],
            &[0, 0, 0, 0, 2, 8, 2],
            &[0, 0, 0, 0, 2, 8, 3],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 9, 8, 1],
            &[0, 0, 0, 0, 1, 8],
            &[0, 0, 0, 0, 2, 18, 200],
            &[0, 255, 255, 255, 255],
            &[0, 0, 0, 0, 12, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
            &[0, 0, 0, 0, 2, 15, 1],
        ] {
            assert!(judge(bad).is_err(), "{bad:?}");
        }
    }
}
