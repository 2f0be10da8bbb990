//! `GET /v1/events`: what has happened since, and all to come, one JSON object a line.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use relume_proto::{EventRecord, NDJSON};
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::Office;
use crate::manager::archive::Archive;
use crate::manager::publish::Follower;

/// How long the history may take to answer. A disk that hangs does not keep what is in memory from the client.
const PATIENCE: Duration = Duration::from_secs(5);

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
    let after = since.after.unwrap_or(u64::MAX);
    let (kept, live) = office.desk.follow(after);
    let before = kept.first().map_or(u64::MAX, |record| record.seq);
    let last = kept.last().map(|record| record.seq);
    let older = since.after.filter(|after| after.saturating_add(1) < before);
    let (archive, closing) = (office.archive, office.closing);
    let live = since.follow.then_some(live);
    let teller = Teller { archive, older, before, kept, last, live, closing };
    let body = Body::from_stream(stream::unfold(teller, next));
    ([(CONTENT_TYPE, NDJSON)], body).into_response()
}

/// Tells the history page by page, then what memory keeps, then what comes.
struct Teller {
    archive: Archive,
    /// The last event told, while there may be more in the history.
    older: Option<u64>,
    /// Where the history ends and memory begins.
    before: u64,
    kept: Vec<EventRecord>,
    last: Option<u64>,
    live: Option<Follower>,
    closing: watch::Receiver<bool>,
}

async fn next(mut teller: Teller) -> Option<(Result<Bytes, Infallible>, Teller)> {
    while let Some(after) = teller.older {
        let asked = tokio::time::timeout(PATIENCE, teller.archive.history(after, teller.before)).await;
        let page = asked.ok().and_then(Result::ok).unwrap_or_default();
        teller.older = page.last().map(|record| record.seq);
        teller.last = teller.last.max(teller.older);
        if !page.is_empty() {
            return Some((Ok(lines(&page)), teller));
        }
    }
    let kept = std::mem::take(&mut teller.kept);
    if !kept.is_empty() {
        return Some((Ok(lines(&kept)), teller));
    }
    loop {
        let next = tokio::select! {
            biased;
            next = teller.live.as_mut()?.recv() => next,
            // The client comes back to the successor with the last number it has seen.
            _ = teller.closing.wait_for(|closing| *closing) => return None,
        };
        match next {
            // Kept and live overlap: nothing is told twice.
            Ok(record) if Some(record.seq) <= teller.last => {}
            Ok(record) => {
                teller.last = Some(record.seq);
                return Some((Ok(lines(&[record])), teller));
            }
            // Too slow: the stream ends, and the client comes back with the last number it has seen.
            Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
        }
    }
}

fn lines(records: &[EventRecord]) -> Bytes {
    let mut text = String::new();
    for record in records {
        // Plain strings and numbers: this cannot fail.
        text.push_str(&serde_json::to_string(record).unwrap_or_default());
        text.push('\n');
    }
    text.into()
}
