//! `POST /v1/respawn`: relume replaces itself, services untouched.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use relume_proto::{RespawnReport, RespawnRequest};
use tokio::sync::oneshot;

use super::{Office, Refusal};
use crate::manager::inbox::News;

/// Answered when the program has proved itself, just before it takes over: the client sees that by the counts.
pub(super) async fn post(
    State(office): State<Office>,
    Json(RespawnRequest {}): Json<RespawnRequest>,
) -> Result<Json<RespawnReport>, Refusal> {
    let (respawns, recoveries) = {
        let board = office.board();
        (board.respawns + 1, Some(board.recoveries))
    };
    let (answer, answered) = oneshot::channel();
    office.inbox.send(News::RespawnAsked(answer));
    match answered.await {
        Ok(Ok(config)) => Ok(Json(RespawnReport { pid: std::process::id(), respawns, recoveries, config })),
        Ok(Err(why)) => Err(Refusal::new(StatusCode::CONFLICT, "not_respawned", why)),
        Err(_) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "relume is leaving")),
    }
}
