//! `GET /v1/events`: what has happened since, and all to come, one JSON object a line.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use relume_proto::{EventRecord, NDJSON};
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Office;

#[derive(Deserialize)]
pub(super) struct Since {
    /// The last event the client has seen; 0: all that are kept. Without it only what is to come is told.
    after: Option<u64>,
    /// Whether to go on with what is to come.
    #[serde(default = "yes")]
    follow: bool,
}

fn yes() -> bool {
    true
}

pub(super) async fn get(State(office): State<Office>, Query(since): Query<Since>) -> Response {
    let (kept, live) = office.desk.follow(since.after.unwrap_or(u64::MAX));
    let last = kept.last().map_or(since.after.unwrap_or(0), |record| record.seq);
    let first: String = kept.iter().map(line).collect();
    if !since.follow {
        return ([(CONTENT_TYPE, NDJSON)], first).into_response();
    }
    let start = Follower { first: Some(first), last, live };
    let body = Body::from_stream(stream::unfold(start, next));
    ([(CONTENT_TYPE, NDJSON)], body).into_response()
}

struct Follower {
    first: Option<String>,
    last: u64,
    live: Receiver<EventRecord>,
}

async fn next(mut follower: Follower) -> Option<(Result<Bytes, Infallible>, Follower)> {
    if let Some(first) = follower.first.take().filter(|first| !first.is_empty()) {
        return Some((Ok(first.into()), follower));
    }
    loop {
        match follower.live.recv().await {
            // Kept and live overlap: nothing is told twice.
            Ok(record) if record.seq <= follower.last => {}
            Ok(record) => {
                follower.last = record.seq;
                return Some((Ok(line(&record).into()), follower));
            }
            // Too slow: the stream ends, and the client comes back with the last number it has seen.
            Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
        }
    }
}

fn line(record: &EventRecord) -> String {
    // Plain strings and numbers: this cannot fail.
    let mut line = serde_json::to_string(record).unwrap_or_default();
    line.push('\n');
    line
}
