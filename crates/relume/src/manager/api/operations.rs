//! `POST /v1/operations`: start, stop or restart services, and wait for what comes of it.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use relume_core::{Command, ServiceId, Ticket};
use relume_proto::{OperationReport, OperationRequest, Outcome, ServiceResult, Verb};
use tokio::sync::oneshot;

use super::{Office, Refusal, targets};
use crate::manager::archive::Saved;
use crate::manager::inbox::News;
use crate::manager::operations::ticket;
use crate::manager::publish::Board;
use crate::manager::publish::so_far;

/// The longest wait that a clock can count; in effect for ever.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The largest key: what every language can count to (2^53 - 1).
const MOST_KEY: u64 = (1 << 53) - 1;

/// How long the answer to a command waits for the disk.
const SAVING: Duration = Duration::from_secs(5);

pub(super) async fn post(
    State(office): State<Office>,
    Json(request): Json<OperationRequest>,
) -> Result<Json<OperationReport>, Refusal> {
    let (names, hints) = {
        let board = office.board();
        let mut names = targets::names(&board, &request.targets)?;
        if request.with_dependents {
            names = targets::with_dependents(&board, names);
        }
        let hints = hints(&board, &request, &names);
        (names, hints)
    };
    let command = |services| match request.verb {
        Verb::Start => Command::Start(services),
        // Dependents are among the services already.
        Verb::Stop => Command::Stop { services, with_dependents: false },
        Verb::Restart => Command::Restart(services),
        Verb::Reload => Command::Reload(services),
    };
    let ticket = request.key.map(|key| ticket(key & MOST_KEY));
    let report = order(&office, &names, (request.wait_ms, ticket), command).await?;
    Ok(Json(OperationReport { hints: hints.into_iter().chain(report.hints).collect(), ..report }))
}

/// Carries out a command on these services and waits for what comes of it.
pub(super) async fn order(
    office: &Office,
    names: &[String],
    how: (Option<u64>, Option<Ticket>),
    command: impl FnOnce(Vec<ServiceId>) -> Command,
) -> Result<OperationReport, Refusal> {
    let began = Instant::now();
    let ids: Vec<ServiceId> = {
        let board = office.board();
        names.iter().filter_map(|name| board.ids.get(name.as_str())).copied().collect()
    };
    let mut results = if ids.is_empty() { Vec::new() } else { carry_out(office, &ids, how, command).await? };
    let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let unsaved = unsaved(office).await;
    let board = office.board();
    let place = |result: &ServiceResult| board.units.order.iter().position(|name| **name == *result.service);
    results.sort_by_key(|result| place(result).unwrap_or(usize::MAX));
    for result in &mut results {
        result.took_ms = Some(took);
    }
    Ok(OperationReport { results, hints: unsaved.into_iter().collect() })
}

/// Waits until what was asked is on the disk. If it is not: what the user should know of that.
async fn unsaved(office: &Office) -> Option<String> {
    let why = match tokio::time::timeout(SAVING, office.archive.saved()).await {
        Ok(Ok(Saved::Yes)) => return None,
        Ok(Ok(Saved::No(why))) => why,
        Ok(Err(_)) => "relume is leaving".into(),
        Err(_) => format!("the disk has not answered within {} s", SAVING.as_secs()),
    };
    Some(format!("this holds for as long as relume runs, but could not be saved for a reboot: {why}"))
}

async fn carry_out(
    office: &Office,
    ids: &[ServiceId],
    (wait_ms, ticket): (Option<u64>, Option<Ticket>),
    command: impl FnOnce(Vec<ServiceId>) -> Command,
) -> Result<Vec<ServiceResult>, Refusal> {
    let all = ids.iter().copied();
    let (claim, new) = match ticket {
        Some(ticket) => office.desk.claim_as(ticket, all),
        None => (office.desk.claim(all), true),
    };
    if ticket.is_none() && *office.closing.borrow() {
        // What cannot be asked for twice is not begun any more: so it can.
        return Err(respawning());
    }
    if new {
        let (noted, is_noted) = oneshot::channel();
        office.inbox.send(News::Asked { ticket: claim.ticket, command: command(ids.to_vec()), noted });
        // Also for whoever waits for nothing: what was answered is not lost with this manager.
        let _leaving = is_noted.await;
    }
    let patience = wait_ms.map_or(FOR_EVER, Duration::from_millis);
    let mut closing = office.closing.clone();
    let in_time = tokio::select! {
        biased;
        in_time = tokio::time::timeout(patience, claim.done) => in_time,
        // What was asked goes on; the client comes back with its key and waits at the successor's.
        _ = closing.wait_for(|closing| *closing) => {
            return Err(if ticket.is_some() { respawning() } else { interrupted() });
        }
    };
    let (mut results, left) = office.desk.collect(claim.ticket);
    if in_time.is_err() || !left.is_empty() {
        let board = office.board();
        results.extend(
            left.into_iter().map(|id| ServiceResult { outcome: Outcome::TimedOut, ..so_far(&board, id) }),
        );
    }
    Ok(results)
}

fn respawning() -> Refusal {
    let text = "this manager is being replaced; ask again with the same key";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "respawning", text)
}

fn interrupted() -> Refusal {
    let text = "this manager is being replaced; whether it was done is not known";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "interrupted", text)
}

/// What the user should know beside: who goes on without what was stopped.
fn hints(board: &Board, request: &OperationRequest, names: &[String]) -> Vec<String> {
    if request.verb != Verb::Stop || request.with_dependents {
        return Vec::new();
    }
    let mut left: Vec<String> = names
        .iter()
        .flat_map(|name| targets::dependents(board, name))
        .filter(|name| !names.contains(name))
        .filter(|name| {
            let record = board.ids.get(name.as_str()).and_then(|id| board.memory.services.get(id));
            record.is_some_and(|record| record.state.is_live())
        })
        .collect();
    left.sort();
    left.dedup();
    if left.is_empty() {
        return Vec::new();
    }
    let verbs = if left.len() == 1 { ("depends", "keeps") } else { ("depend", "keep") };
    let (depend, keep) = verbs;
    let who = left.join(", ");
    vec![format!("{who} {depend} on what is stopped and {keep} running; --with-dependents stops them too")]
}
