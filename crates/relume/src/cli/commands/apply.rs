//! `relume apply`: the manager reads its config again and puts it in force.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use relume_proto::{ChangeReport, Client, ErrorKind, Fate, ServiceReport, State};

use super::events::comes_back;
use super::plan::{ask, show};
use super::{client, find_manager, refused};
use crate::cli::args::{ApplyArgs, Global};
use crate::cli::render::text::harmless;
use crate::cli::{Exit, Failure, Screen};

/// Returns when it holds and what it started is up, or will not come up by itself.
pub(crate) fn run(args: &ApplyArgs, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let found = find_manager(global)?;
    let client = client(&found)?;
    let before = if args.no_wait { Vec::new() } else { client.status(&[]).unwrap_or_default().services };
    let report = ask(Client::apply, &client, screen).map_err(|error| refused(error, &found))?;
    let exit = show(&report, screen);
    let awaited = Awaited::of(&report, before);
    if args.no_wait || !report.applied || awaited.0.is_empty() {
        return Ok(exit);
    }
    let unwell = loop {
        let answer = client.watch(None, |status, _| {
            let pending: Vec<&str> =
                awaited.not_up(&status.services).map(|service| service.name.as_str()).collect();
            if pending.is_empty() {
                return ControlFlow::Break(Vec::new());
            }
            screen.progress(&harmless(&format!("waiting for {}", pending.join(", "))));
            let hopeless: Vec<ServiceReport> = awaited.not_up(&status.services).cloned().collect();
            if hopeless.iter().all(is_hopeless) {
                ControlFlow::Break(hopeless)
            } else {
                ControlFlow::Continue(())
            }
        });
        match answer {
            // A manager that is being replaced is there again in a moment.
            Err(error) if matches!(error.kind, ErrorKind::Lost) && comes_back(&client) => {}
            answer => break answer,
        }
    };
    screen.end_progress();
    let unwell = unwell.map_err(|error| refused(error, &found))?.unwrap_or_default();
    for service in &unwell {
        let reason = service.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        screen.note(&format!(
            "{}\n",
            harmless(&format!("{} is {}{reason}", service.name, service.state.as_str()))
        ));
    }
    Ok(if unwell.is_empty() { Exit::Done } else { Exit::NotWell })
}

/// What a change starts, each with when its process of before was started.
struct Awaited(BTreeMap<String, (Option<String>, Option<u64>)>);

impl Awaited {
    fn of(report: &ChangeReport, before: Vec<ServiceReport>) -> Self {
        let mut lives: BTreeMap<String, (Option<String>, Option<u64>)> =
            before.into_iter().map(|service| (service.name, (service.started_at, service.run))).collect();
        let starts = |fate: &Fate| matches!(fate, Fate::Added | Fate::Restarted | Fate::TriedAgain);
        let started = report.changes.iter().filter(|change| starts(&change.fate));
        Self(
            started
                .map(|change| (change.service.clone(), lives.remove(&change.service).unwrap_or_default()))
                .collect(),
        )
    }

    /// Those of which no new life is ready yet.
    fn not_up<'a>(&'a self, services: &'a [ServiceReport]) -> impl Iterator<Item = &'a ServiceReport> {
        services.iter().filter(|service| {
            self.0.get(&service.name).is_some_and(|(started_at, run)| {
                // A job that is done has no process any more.
                let done = service.state == State::Completed;
                let fresh = if done { service.run > *run } else { service.started_at != *started_at };
                !(service.ready && fresh)
            })
        })
    }
}

/// It does not come up without somebody doing something, or has failed at least once.
fn is_hopeless(service: &ServiceReport) -> bool {
    service.is_failing()
        || matches!(service.state, State::Failed | State::MaxRestarts | State::Stopped)
        || (service.state == State::Pending && !service.depends_on.is_empty())
}
