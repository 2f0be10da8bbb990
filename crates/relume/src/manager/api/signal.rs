//! `POST /v1/signal`: any signal, to the main process or the whole tree of services.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use relume_core::{Command, Reach};
use relume_proto::{OperationReport, SignalRequest};

use super::{Office, Refusal, operations, targets};

pub(super) async fn post(
    State(office): State<Office>,
    Json(request): Json<SignalRequest>,
) -> Result<Json<OperationReport>, Refusal> {
    let Some(signal) = relume_os::signals::parse(&request.signal).filter(|number| *number > 0) else {
        let detail = format!("there is no signal `{}`", request.signal);
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "bad_request", detail)
            .help("A name such as HUP, USR1 or KILL, or a number; see them with: kill -l"));
    };
    let names = targets::names(&office.board(), &request.targets)?;
    let to = if request.tree { Reach::Tree } else { Reach::Main };
    let command = |services| Command::Signal { services, signal, to };
    Ok(Json(operations::order(&office, &names, (None, None), command).await?))
}
