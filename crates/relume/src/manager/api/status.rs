//! `GET /v1/status`: everything, or the named services.

use axum::Json;
use axum::extract::{RawQuery, State};
use relume_proto::{StatusReport, Targets, names_from_query};

use super::{Office, Refusal, targets};
use crate::manager::publish::status_report;

pub(super) async fn get(
    State(office): State<Office>,
    RawQuery(query): RawQuery,
) -> Result<Json<StatusReport>, Refusal> {
    let names = names_from_query(query.as_deref().unwrap_or_default());
    let services = office.board().memory.services.len();
    office.sampler.ask(services).await;
    let board = office.board();
    let meant = match names {
        None => Vec::new(),
        Some(words) => targets::names(&board, &Targets::Names(words))?,
    };
    Ok(Json(status_report(&board, &meant)))
}
