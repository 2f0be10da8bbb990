//! `relume explain`: why a service is as it is. Without a manager: from what the last one has written.

use relume_core::{Cause, Exit as Ended};
use relume_os::signals;
use relume_proto::{
    ChainLink, ErrorKind, EventRecord, ExplainReport, LastExit, Retries, ServiceReport, State,
};

use super::{client, find_manager, last_status, refused, unknown};
use crate::cli::args::{ExplainArgs, Global};
use crate::cli::render::explain;
use crate::cli::{Exit, Failure, Screen};
use crate::last_lines;
use crate::manager::last_known::{self, LastKnown};
use crate::places::Found;

/// Events of the service that are shown.
const HISTORY: usize = 20;

/// Asks, and tells.
pub(crate) fn run(args: &ExplainArgs, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let found = find_manager(global)?;
    let report = match client(&found)?.explain(&args.name, args.lines) {
        Ok(report) => report,
        Err(error) if matches!(error.kind, ErrorKind::NotRunning) => {
            remembered(args, &found)?.ok_or_else(|| refused(error, &found))?
        }
        Err(error) => return Err(refused(error, &found)),
    };
    if screen.json {
        screen.result(&format!("{}\n", serde_json::json!(report)));
    } else {
        screen.result(&explain::render(&report, &jiff::tz::TimeZone::system(), screen.out));
    }
    Ok(Exit::Done)
}

/// None: nothing was ever written here.
fn remembered(args: &ExplainArgs, found: &Found) -> Result<Option<ExplainReport>, Failure> {
    let status = last_status(found);
    let known = last_known::read(&last_known::file_in(&found.state_dir));
    if status.is_none() && known.is_none() {
        return Ok(None);
    }
    let (status, known) = (status.unwrap_or_default(), known.unwrap_or_default());
    let names = status.keys().map(String::as_str).chain(known.services.iter().map(|one| one.name.as_str()));
    if !names.clone().any(|name| name == args.name) {
        return Err(unknown(&args.name, names));
    }
    let entry = status.get(&args.name).cloned().unwrap_or_default();
    let history = history(&known, &args.name);
    let memory = known.services.iter().find(|service| service.name == args.name);
    let end = memory.and_then(|memory| memory.last_end.as_ref());
    let became = history.iter().rev().find(|event| event.to.is_some());
    let because = became.and_then(|event| event.detail.clone());
    let state = if entry.status == State::default() {
        became.and_then(|event| event.to.clone()).unwrap_or_default()
    } else {
        entry.status
    };
    let service = ServiceReport {
        name: args.name.clone(),
        display_name: args.name.clone(),
        state: state.clone(),
        reason: because.clone(),
        run: memory.map(|memory| memory.generation),
        restarts: memory.map_or(0, |memory| memory.restarts),
        last_exit: end.and_then(|end| last_exit(end.exit, &end.cause, &history)),
        log: entry.log.clone(),
        ..ServiceReport::default()
    };
    let link =
        ChainLink { service: args.name.clone(), state, because, since: became.map(|event| event.at.clone()) };
    let retries = memory.map_or_else(Retries::default, |memory| Retries {
        failures_in_row: memory.history.failures_in_row,
        exhausted: memory.history.exhausted,
        ..Retries::default()
    });
    let lines = entry.log.map(|log| last_lines::of(log.as_ref(), args.lines as usize)).unwrap_or_default();
    let next = Some("no manager runs; relume up starts one".to_owned());
    Ok(Some(ExplainReport {
        service,
        live: false,
        chain: vec![link],
        needs: Vec::new(),
        retries,
        next,
        lines,
        history,
    }))
}

fn history(known: &LastKnown, name: &str) -> Vec<EventRecord> {
    let own = known.events.iter().rev().filter(|event| event.service.as_deref() == Some(name));
    let mut own: Vec<EventRecord> = own.take(HISTORY).cloned().collect();
    own.reverse();
    own
}

/// How its last life ended, as far as it was written.
fn last_exit(exit: Option<Ended>, cause: &Cause, history: &[EventRecord]) -> Option<LastExit> {
    let told = history.iter().rev().find(|event| event.event == relume_proto::EventKind::Exit);
    let mut last = LastExit {
        at: told.map(|event| event.at.clone()).unwrap_or_default(),
        reason: told.and_then(|event| event.detail.clone()).unwrap_or_default(),
        ..LastExit::default()
    };
    match exit {
        Some(Ended::Code(code)) => last.code = Some(code),
        Some(Ended::OutOfMemory { .. }) => last.signal = Some("SIGKILL".to_owned()),
        Some(Ended::Signal { number, .. }) => last.signal = Some(signals::name(number)),
        Some(Ended::Unknown) => last.unknown = Some(true),
        None => {
            let Cause::SpawnFailed(error) = cause else { return None };
            last.reason.clone_from(&error.text);
        }
    }
    Some(last)
}
