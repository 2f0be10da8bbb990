//! Who is told of changes of state: a service's own targets, then those of all services.

use relume_core::Word;

use super::Globals;
use super::command::{self, Context};
use super::service::Work;
use super::targets;
use crate::alert::Alert;
use crate::node::Node;
use crate::raw::{RawAlert, RawState};
use crate::readiness::{HttpTarget, ProbeTarget};

/// The most targets of one service: a run of a command is named by the place of its target.
const MOST: usize = 32;

pub(super) fn lower(work: &mut Work<'_, '_>, globals: &Globals<'_>, context: &Context<'_>) -> Vec<Alert> {
    let own = work.raw.alerts.clone().map(|own| own.0).unwrap_or_default();
    let node = work.node.get("alerts");
    let nodes = node.map(crate::raw::nodes_of).unwrap_or_default();
    let own: Vec<(RawAlert, Node)> = own.into_iter().zip(nodes.into_iter().cloned()).collect();
    let all = own.iter().chain(globals.alerts);
    let lowered: Vec<Alert> = all.filter_map(|(raw, node)| alert(raw, node, work, context)).collect();
    if lowered.len() > MOST {
        work.error(&["alerts"], format!("a service has at most {MOST} targets of alerts"));
    }
    lowered.into_iter().take(MOST).collect()
}

fn alert(raw: &RawAlert, node: &Node, work: &mut Work<'_, '_>, context: &Context<'_>) -> Option<Alert> {
    let on: Vec<Word> = raw.on.iter().flat_map(|on| &on.0).map(|state| word(*state)).collect();
    let on = if on.is_empty() { Alert::USUAL.to_vec() } else { on };
    if raw.webhook.is_none() && raw.command.is_none() {
        work.error_with(&["alerts"], "the alert tells nobody", "give it a `webhook` or a `command`");
        return None;
    }
    let webhook = match &raw.webhook {
        Some(url) => Some(Box::new(webhook(work, url)?)),
        None => None,
    };
    let command = match (&raw.command, node.get("command")) {
        (Some(command), Some(node)) => {
            let key = format!("{}.alerts.command", work.prefix);
            Some(command::lower(command, node, &key, context, work.files)?.0)
        }
        _ => None,
    };
    Some(Alert { on, webhook, command, template: raw.template.clone() })
}

fn webhook(work: &mut Work<'_, '_>, url: &str) -> Option<HttpTarget> {
    let url = url.trim();
    if !url.starts_with("http://") && !url.starts_with("https://") {
        work.error_with(
            &["alerts"],
            "a webhook is a URL with `http://` or `https://`",
            "`command` runs anything else",
        );
        return None;
    }
    if let Err(problem) = crate::raw::probe_url(url) {
        work.error(&["alerts"], problem);
        return None;
    }
    match targets::of_url(work, &["alerts"], url)? {
        ProbeTarget::Http(target) => Some(HttpTarget { method: "POST".into(), ..*target }),
        ProbeTarget::Tcp { .. }
        | ProbeTarget::Exec(_)
        | ProbeTarget::Grpc(_)
        | ProbeTarget::Unix(_)
        | ProbeTarget::File(_)
        | ProbeTarget::LogLine(_) => None,
    }
}

fn word(state: RawState) -> Word {
    match state {
        RawState::Pending => Word::Pending,
        RawState::Starting => Word::Starting,
        RawState::Running => Word::Running,
        RawState::Unhealthy => Word::Unhealthy,
        RawState::Stopping => Word::Stopping,
        RawState::Crashed => Word::Crashed,
        RawState::Restarting => Word::Restarting,
        RawState::Stopped => Word::Stopped,
        RawState::Completed => Word::Completed,
        RawState::Failed => Word::Failed,
        RawState::MaxRestarts => Word::MaxRestarts,
    }
}
