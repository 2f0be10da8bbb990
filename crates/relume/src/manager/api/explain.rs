//! `GET /v1/explain`: why a service is as it is.
//!
//! The board says what is so. The history may lie on a disk that does not answer and so may the log: each has its patience, and
//! what does not come in time is left out.

use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use relume_proto::{EventKind, EventRecord, ExplainReport, Targets, names_from_query};

use super::{Office, Refusal, targets};
use crate::manager::archive::PAGE;
use crate::manager::{last_words, publish};

/// How long the history may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Events of the service that are told.
const HISTORY: usize = 20;

/// So many events are looked through for them, back from the last.
const LOOKED_THROUGH: u64 = 5_000;

/// Most lines of a log in one answer.
const MOST_LINES: usize = 1_000;

pub(super) async fn get(
    State(office): State<Office>,
    RawQuery(query): RawQuery,
) -> Result<Json<ExplainReport>, Refusal> {
    let query = query.unwrap_or_default();
    let words = names_from_query(&query).unwrap_or_default();
    let lines = query.split('&').find_map(|pair| pair.strip_prefix("lines=")?.parse().ok()).unwrap_or(20);
    let services = office.board().memory.services.len();
    office.sampler.ask(services).await;
    let mut report = {
        let board = office.board();
        let names = targets::names(&board, &Targets::Names(words))?;
        let [name] = names.as_slice() else {
            let several = format!("one service is explained at a time; this means {}", names.join(", "));
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "bad_request", several));
        };
        publish::explain(&board, name).unwrap_or_default()
    };
    let all = events(&office).await;
    for link in &mut report.chain {
        let became = all.iter().rev().find(|event| {
            event.service.as_ref() == Some(&link.service) && event.to.as_ref() == Some(&link.state)
        });
        link.since = became.map(|event| event.at.clone());
    }
    report.history = of(&all, &report.service.name);
    if let Some(log) = report.service.log.clone() {
        report.lines = last_words::of(&office.capture, log.into(), lines.min(MOST_LINES)).await;
    }
    Ok(Json(report))
}

/// The latest that happened to a service, oldest first.
fn of(all: &[EventRecord], service: &str) -> Vec<EventRecord> {
    let told = |event: &&EventRecord| {
        event.service.as_deref() == Some(service)
            || (event.service.is_none() && event.event == EventKind::Recovery)
    };
    let mut own: Vec<EventRecord> = all.iter().rev().filter(told).take(HISTORY).cloned().collect();
    own.reverse();
    own
}

/// The latest events, from the history and from memory.
async fn events(office: &Office) -> Vec<EventRecord> {
    let (kept, _) = office.desk.follow(0);
    let first = kept.first().map_or(u64::MAX, |event| event.seq);
    if u64::try_from(kept.len()).is_ok_and(|kept| kept >= LOOKED_THROUGH / 2) {
        return kept;
    }
    let mut all = Vec::new();
    let mut after = first.saturating_sub(LOOKED_THROUGH);
    let read = async {
        // One page after the other: numbers have gaps, so the first may hold all.
        for _ in 0..LOOKED_THROUGH.div_ceil(PAGE as u64) {
            let page = office.archive.history(after, first).await.unwrap_or_default();
            let Some(last) = page.last().map(|event| event.seq) else { break };
            after = last;
            all.extend(page);
        }
    };
    let _late = tokio::time::timeout(PATIENCE, read).await;
    all.extend(kept);
    all
}
