//! What `start`, `stop` and `restart` have in common: ask, show what happens meanwhile, tell what came of it.

use relume_proto::{EventRecord, OperationRequest, Targets, Verb};

use super::{client, find_manager, refused};
use crate::cli::args::{Global, TargetArgs};
use crate::cli::render::operation;
use crate::cli::render::text::harmless;
use crate::cli::{Exit, Failure, Screen};

/// Carries out one verb on the services that are meant.
pub(super) fn operate(
    verb: Verb,
    target: &TargetArgs,
    with_dependents: bool,
    global: &Global,
    screen: &Screen,
) -> Result<Exit, Failure> {
    let found = find_manager(global)?;
    let request = OperationRequest {
        verb,
        targets: if target.all { Targets::All } else { Targets::Names(target.names.clone()) },
        with_dependents,
        wait_ms: wait_ms(target),
        key: None,
    };
    let mut watcher = |event: EventRecord| show(&event, screen);
    // Events are only asked for where somebody sees them.
    let watched = screen.err.width.is_some() && !screen.json;
    let watcher: Option<relume_proto::Watcher<'_>> = if watched { Some(&mut watcher) } else { None };
    let answer = client(&found)?.operate(&request, watcher);
    screen.end_progress();
    let report = answer.map_err(|error| refused(error, &found))?;
    if screen.json {
        screen.result(&format!("{}\n", serde_json::json!(report)));
    } else {
        screen.result(&operation::render(verb, &report, screen.out));
    }
    Ok(match operation::judged(&report) {
        (true, _) => Exit::NotWell,
        // Not to wait was asked for: that it is not finished is no news.
        (false, true) if !target.no_wait => Exit::TimedOut,
        (false, _) => Exit::Done,
    })
}

fn wait_ms(target: &TargetArgs) -> Option<u64> {
    if target.no_wait {
        return Some(0);
    }
    target.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
}

/// The last thing that happened, in one line that the next one replaces.
pub(super) fn show(event: &EventRecord, screen: &Screen) {
    let (Some(service), Some(state)) = (&event.service, &event.to) else { return };
    let mut line = format!("{} {service} {state}", screen.err.sign("…", "..."));
    if let Some(detail) = event.detail.as_ref().filter(|detail| !detail.is_empty()) {
        line.push_str(": ");
        line.push_str(detail);
    }
    screen.progress(&harmless(&line));
}
