//! Why a service is as it is: the chain of reasons, read off the board.

use relume_core::{Condition, Intent, Moment, Pace, Record, ServiceId, State, WaitFor, WhenExhausted};
use relume_proto::{ChainLink, ExplainReport, Need, Retries};

use super::board::{Board, now};
use super::{report, words};

/// More links than this nobody follows.
const LONGEST_CHAIN: usize = 16;

/// Everything the board says about one service; log and history are not on it.
pub(crate) fn explain(board: &Board, name: &str) -> Option<ExplainReport> {
    let id = *board.ids.get(name)?;
    let record = board.memory.services.get(&id)?;
    let names = [record.name.to_string()];
    Some(ExplainReport {
        service: report::status_report(board, &names).services.into_iter().next()?,
        live: true,
        chain: chain(board, id),
        needs: needs(board, record),
        retries: retries(board, id, record),
        next: next(board, id, record),
        ..ExplainReport::default()
    })
}

/// The service, what it waits for or was restarted for, what that waits for, and so on.
fn chain(board: &Board, first: ServiceId) -> Vec<ChainLink> {
    let mut ids = vec![first];
    while let Some(next) = ids.last().and_then(|id| reason_elsewhere(board, *id)) {
        if ids.contains(&next) || ids.len() == LONGEST_CHAIN {
            break;
        }
        ids.push(next);
    }
    let link = |id: ServiceId| {
        let record = board.memory.services.get(&id)?;
        Some(ChainLink {
            service: record.name.to_string(),
            state: words::word(report::word(board, id, record)),
            because: words::due(board, record)
                .or_else(|| words::reason(board, record))
                .or_else(|| words::ended(record)),
            since: None,
        })
    };
    ids.into_iter().filter_map(link).collect()
}

/// The service that is the reason for the state of this one.
fn reason_elsewhere(board: &Board, id: ServiceId) -> Option<ServiceId> {
    use relume_core::Cause::Dependency;
    match &board.memory.services.get(&id)?.state {
        State::Pending { on: WaitFor::Dependency(need), .. }
        | State::Stopping { why: Dependency(need), .. }
        | State::Restarting { cause: Dependency(need), .. }
        | State::Failed { cause: Dependency(need), .. } => Some(*need),
        State::Stopped
        | State::Pending { .. }
        | State::Starting { .. }
        | State::Running { .. }
        | State::Stopping { .. }
        | State::Restarting { .. }
        | State::Completed
        | State::Failed { .. } => None,
    }
}

fn needs(board: &Board, record: &Record) -> Vec<Need> {
    let Some(unit) = board.units.get(&record.name) else { return Vec::new() };
    let need = |(name, how): (&String, &relume_core::Dependency)| {
        let id = *board.ids.get(name.as_str())?;
        let known = board.memory.services.get(&id)?;
        let ready = matches!(known.state, State::Running { .. });
        let done = known.state == State::Completed;
        let (condition, met) = match how.condition {
            Condition::Started => ("started", ready || done || known.state.may_have_process()),
            Condition::Ready => ("ready", ready || done),
            Condition::Completed => ("completed", done),
        };
        let state = words::word(report::word(board, id, known));
        Some(Need { service: name.clone(), condition: condition.into(), state, met })
    };
    unit.config.spec.policy.dependencies.iter().filter_map(need).collect()
}

fn retries(board: &Board, id: ServiceId, record: &Record) -> Retries {
    let policy = board.unit(id).map(|unit| unit.config.spec.policy.restart.clone()).unwrap_or_default();
    let within = record.history.retries.iter().filter(|at| now().since(**at) < policy.retry_window);
    Retries {
        used: u32::try_from(within.count()).unwrap_or(u32::MAX),
        most: policy.max_retries,
        window_s: policy.retry_window.as_secs_f64(),
        failures_in_row: record.history.failures_in_row,
        exhausted: record.history.exhausted,
    }
}

/// What happens next by itself.
fn next(board: &Board, id: ServiceId, record: &Record) -> Option<String> {
    let unit = board.unit(id);
    let wait = |at: Moment| words::span(at.since(now()));
    let start = format!("relume start {}", record.name);
    if words::due(board, record).is_some() {
        return Some(format!("its schedule starts it; {start} runs it now"));
    }
    Some(match &record.state {
        State::Running { .. } | State::Starting { .. } => return None,
        State::Pending { on: WaitFor::Dependency(need), .. } => {
            format!("it starts by itself as soon as {} is there", board.name(*need))
        }
        State::Pending { .. } => "it starts by itself when its turn comes".into(),
        State::Stopping { .. } => return None,
        State::Restarting { retry_at, pace: Pace::Slow, .. } => {
            let every = match unit.map(|unit| unit.config.spec.policy.restart.when_exhausted) {
                Some(WhenExhausted::RetryEvery(every)) => format!(", then every {}", words::span(every)),
                Some(WhenExhausted::GiveUp) | None => String::new(),
            };
            format!("one attempt in {}{every}; {start} tries now and forgets what counted", wait(*retry_at))
        }
        State::Restarting { retry_at, .. } => format!("it is started again in {}", wait(*retry_at)),
        State::Failed { .. } => format!("nothing until somebody asks: {start}"),
        State::Completed => return None,
        State::Stopped => match (record.intent, unit.map(|unit| unit.config.spec.policy.autostart)) {
            (Intent::Down, _) => {
                format!("it stays stopped, over reboots too, until somebody asks: {start}")
            }
            (Intent::Auto, Some(false)) => format!("it is not started by itself (autostart: false): {start}"),
            (Intent::Auto | Intent::Up, _) => return None,
        },
    })
}
