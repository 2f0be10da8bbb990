//! `GET /v1/version`: who answers here.

use axum::Json;
use axum::extract::State;
use relume_proto::{API_VERSION, VersionReport};

use super::Office;

pub(super) async fn get(State(office): State<Office>) -> Json<VersionReport> {
    let board = office.board();
    Json(VersionReport {
        version: env!("CARGO_PKG_VERSION").into(),
        api: API_VERSION,
        pid: std::process::id(),
        guardian_pid: board.guardian,
        state_dir: board.places.state_dir.display().to_string(),
    })
}
