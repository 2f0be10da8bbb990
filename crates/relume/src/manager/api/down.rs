//! `POST /v1/down`: stop every service in reverse order and leave.

use axum::Json;
use axum::extract::State;
use relume_proto::{DownReport, DownRequest};

use super::Office;
use crate::manager::inbox::News;

pub(super) async fn post(
    State(office): State<Office>,
    Json(DownRequest {}): Json<DownRequest>,
) -> Json<DownReport> {
    let live = office.board().memory.services.values().filter(|record| record.state.is_live()).count();
    office.inbox.send(News::DownAsked);
    Json(DownReport { pid: std::process::id(), stopping: u32::try_from(live).unwrap_or(u32::MAX) })
}
