//! `POST /v1/down`: stop every service in reverse order and leave.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use relume_proto::{DownReport, DownRequest};
use tokio::sync::oneshot;

use super::{Office, Refusal};
use crate::manager::inbox::News;

/// Answered when it is noted: then a manager that is killed is followed by one that goes on with it, and a client whose connection is
/// lost before asks again.
pub(super) async fn post(
    State(office): State<Office>,
    Json(DownRequest {}): Json<DownRequest>,
) -> Result<Json<DownReport>, Refusal> {
    let live = office.board().memory.services.values().filter(|record| record.state.is_live()).count();
    let (answer, answered) = oneshot::channel();
    office.inbox.send(News::DownAsked(answer));
    let report = DownReport { pid: std::process::id(), stopping: u32::try_from(live).unwrap_or(u32::MAX) };
    match answered.await {
        Ok(()) => Ok(Json(report)),
        Err(_) if office.board().memory.shutdown.is_some() => Ok(Json(report)),
        Err(_) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "relume is leaving")),
    }
}
