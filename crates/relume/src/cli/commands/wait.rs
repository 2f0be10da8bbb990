//! `relume wait`: until services are as wanted, cannot become so, or the time is over.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Instant;

use relume_proto::{ErrorKind, EventRecord, ServiceReport, State};
use serde_json::json;

use super::events::comes_back;
use super::{client, find_manager, refused, select};
use crate::cli::args::{Awaited, Global, WaitArgs};
use crate::cli::render::text::harmless;
use crate::cli::render::{BAD, BUSY, GOOD};
use crate::cli::{Exit, Failure, Screen};

/// Waits, by asking again whenever something has happened.
pub(crate) fn run(args: &WaitArgs, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let found = find_manager(global)?;
    let client = client(&found)?;
    let end = args.timeout.map(|timeout| Instant::now() + timeout);
    let mut watch = Watch { awaited: &args.awaited, seen: BTreeSet::new() };
    let mut latest = Vec::new();
    let verdict = loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let answer = client.watch(left, |report, happened| {
            let mut services = report.services;
            if let Err(failure) = select(&mut services, &args.names) {
                return ControlFlow::Break(Err(failure));
            }
            let verdict = watch.judge(&services, &happened);
            latest = services;
            match verdict {
                Verdict::NotYet => {
                    show_progress(&watch, &latest, screen);
                    ControlFlow::Continue(())
                }
                done @ (Verdict::Met | Verdict::Never) => ControlFlow::Break(Ok(done)),
            }
        });
        match answer {
            Ok(Some(verdict)) => break verdict.inspect_err(|_| screen.end_progress())?,
            Ok(None) => break Verdict::NotYet,
            // A manager that is being replaced is there again in a moment.
            Err(error) if matches!(error.kind, ErrorKind::Lost) && comes_back(&client) => {}
            Err(error) => {
                screen.end_progress();
                return Err(refused(error, &found));
            }
        }
    };
    screen.end_progress();
    tell(&watch, verdict, &latest, screen);
    Ok(match verdict {
        Verdict::Met => Exit::Done,
        Verdict::Never => Exit::NotWell,
        Verdict::NotYet => Exit::TimedOut,
    })
}

/// What can be said of the services now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// All are as wanted.
    Met,
    /// One will not become so unless somebody asks for it.
    Never,
    /// There is hope.
    NotYet,
}

/// What is waited for, and who was seen to pass through it.
struct Watch<'a> {
    awaited: &'a Awaited,
    seen: BTreeSet<String>,
}

impl Watch<'_> {
    fn judge(&mut self, services: &[ServiceReport], happened: &[EventRecord]) -> Verdict {
        if let Awaited::State(wanted) = self.awaited
            && passes(wanted)
        {
            let there = services.iter().filter(|service| service.state == *wanted);
            self.seen.extend(there.map(|service| service.name.clone()));
            let through = happened.iter().filter(|event| event.to.as_ref() == Some(wanted));
            self.seen.extend(through.filter_map(|event| event.service.clone()));
        }
        if services.iter().all(|service| self.is_met(service)) {
            Verdict::Met
        } else if services.iter().any(|service| self.is_hopeless(service)) {
            Verdict::Never
        } else {
            Verdict::NotYet
        }
    }

    fn is_met(&self, service: &ServiceReport) -> bool {
        match self.awaited {
            Awaited::Ready => service.ready,
            Awaited::Healthy => service.ready && service.healthy != Some(false),
            Awaited::State(state) => service.state == *state || self.seen.contains(&service.name),
        }
    }

    fn is_hopeless(&self, service: &ServiceReport) -> bool {
        !self.is_met(service) && stays(service)
    }
}

/// States that a service may have left before anybody looks. Of those all need not be in it at once.
fn passes(state: &State) -> bool {
    matches!(
        state,
        State::Pending
            | State::Starting
            | State::Stopping
            | State::Crashed
            | State::Restarting
            | State::Unhealthy
    )
}

/// Whether it stays as it is until somebody asks for something else.
fn stays(service: &ServiceReport) -> bool {
    match &service.state {
        State::Stopped | State::Completed | State::Failed => true,
        State::MaxRestarts => service.next_start_in_s.is_none(),
        State::Pending
        | State::Starting
        | State::Running
        | State::Unhealthy
        | State::Stopping
        | State::Crashed
        | State::Restarting
        | State::Other(_) => false,
    }
}

fn about(service: &ServiceReport) -> String {
    let mut text = format!("{} is {}", service.name, service.state);
    if let Some(reason) = service.reason.as_ref().filter(|reason| !reason.is_empty()) {
        text.push_str(": ");
        text.push_str(reason);
    }
    harmless(&text).into_owned()
}

fn show_progress(watch: &Watch<'_>, services: &[ServiceReport], screen: &Screen) {
    if let Some(service) = services.iter().find(|service| !watch.is_met(service)) {
        screen.progress(&format!("{} {}", screen.err.sign("…", "..."), about(service)));
    }
}

fn tell(watch: &Watch<'_>, verdict: Verdict, services: &[ServiceReport], screen: &Screen) {
    let word = match verdict {
        Verdict::Met => "met",
        Verdict::Never => "never",
        Verdict::NotYet => "timed_out",
    };
    if screen.json {
        let one = |service: &ServiceReport| json!({"name": service.name, "state": service.state, "reason": service.reason, "met": watch.is_met(service)});
        let all: Vec<_> = services.iter().map(one).collect();
        let answer = json!({"for": watch.awaited.to_string(), "result": word, "services": all});
        screen.result(&format!("{answer}\n"));
        return;
    }
    for service in services {
        let (style, sign) = match (watch.is_met(service), watch.is_hopeless(service)) {
            (true, _) => (GOOD, screen.out.sign("✓", "+")),
            (false, true) => (BAD, screen.out.sign("✗", "x")),
            (false, false) => (BUSY, screen.out.sign("…", "~")),
        };
        screen.result(&format!("{} {}\n", screen.out.paint(style, sign), about(service)));
    }
    match verdict {
        Verdict::Met => {}
        Verdict::Never => {
            screen.note(&format!("waited for {}, which will not come by itself\n", watch.awaited))
        }
        Verdict::NotYet => screen.note(&format!("timed out waiting for {}\n", watch.awaited)),
    }
}

#[cfg(test)]
mod tests {
    use relume_proto::EventKind;

    use super::*;

    fn service(name: &str, state: State) -> ServiceReport {
        let ready = matches!(state, State::Running | State::Completed);
        ServiceReport { name: name.into(), state, ready, ..ServiceReport::default() }
    }

    fn judged(awaited: &Awaited, states: &[State]) -> Verdict {
        let services: Vec<_> = states.iter().map(|state| service("web", state.clone())).collect();
        Watch { awaited, seen: BTreeSet::new() }.judge(&services, &[])
    }

    #[test]
    fn ready_means_all_are() {
        let ready = Awaited::Ready;
        assert_eq!(judged(&ready, &[State::Running, State::Completed]), Verdict::Met);
        assert_eq!(judged(&ready, &[State::Running, State::Starting]), Verdict::NotYet);
        assert_eq!(judged(&ready, &[State::Crashed]), Verdict::NotYet);
    }

    #[test]
    fn what_stays_as_it_is_ends_the_wait() {
        for state in [State::Failed, State::Stopped, State::MaxRestarts] {
            assert_eq!(judged(&Awaited::Ready, &[State::Starting, state.clone()]), Verdict::Never, "{state}");
            assert_eq!(judged(&Awaited::State(state.clone()), &[state]), Verdict::Met);
        }
        let slow = ServiceReport { next_start_in_s: Some(3.0), ..service("web", State::MaxRestarts) };
        let mut watch = Watch { awaited: &Awaited::Ready, seen: BTreeSet::new() };
        assert_eq!(watch.judge(&[slow], &[]), Verdict::NotYet);
        assert_eq!(judged(&Awaited::State(State::Running), &[State::Completed]), Verdict::Never);
    }

    #[test]
    fn healthy_is_ready_and_not_judged_bad() {
        let mut ill = service("web", State::Running);
        ill.healthy = Some(false);
        let mut watch = Watch { awaited: &Awaited::Healthy, seen: BTreeSet::new() };
        assert_eq!(watch.judge(&[ill], &[]), Verdict::NotYet);
        assert_eq!(watch.judge(&[service("web", State::Running)], &[]), Verdict::Met);
    }

    #[test]
    fn a_state_that_was_passed_through_counts() {
        let crashed = EventRecord {
            service: Some("web".into()),
            event: EventKind::State,
            to: Some(State::Crashed),
            ..EventRecord::default()
        };
        let awaited = Awaited::State(State::Crashed);
        let mut watch = Watch { awaited: &awaited, seen: BTreeSet::new() };
        assert_eq!(watch.judge(&[service("web", State::Running)], &[]), Verdict::NotYet);
        assert_eq!(watch.judge(&[service("web", State::Running)], &[crashed]), Verdict::Met);
    }
}
