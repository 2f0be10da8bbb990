//! `relume events`: what has happened, and what happens.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use relume_proto::{Client, EventRecord, ServiceReport};

use super::{Named, client, find_manager, refused, unknown};
use crate::cli::args::{EventsArgs, Global};
use crate::cli::render::event;
use crate::cli::{Exit, Failure, Screen};

/// How long a manager that is being replaced may be away. It takes milliseconds.
const AWAY: Duration = Duration::from_secs(3);

/// Between two attempts to find it again.
const PAUSE: Duration = Duration::from_millis(50);

/// Shows those that are kept, then those that come.
pub(crate) fn run(args: &EventsArgs, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let found = find_manager(global)?;
    let client = client(&found)?;
    let services = client.status(&[]).map_err(|error| refused(error, &found))?.services;
    let history = client.history(args.after).map_err(|error| refused(error, &found))?;
    let names = Names::of(&args.names, &services, &history)?;
    let zone = TimeZone::system();
    let show = |event: &EventRecord| show(event, &zone, screen);
    let last = history.last().map_or(args.after, |event| event.seq);
    let mine: Vec<&EventRecord> = history.iter().filter(|event| names.include(event)).collect();
    let most = usize::try_from(args.lines).unwrap_or(usize::MAX);
    for event in &mine[mine.len().saturating_sub(most)..] {
        if !show(event) {
            return Ok(Exit::Done);
        }
    }
    if args.follow { follow(last, &client, &names, &show, screen) } else { Ok(Exit::Done) }
}

/// Until nobody reads any more or the manager goes.
fn follow(
    mut last: u64,
    client: &Client,
    names: &Names,
    show: &dyn Fn(&EventRecord) -> bool,
    screen: &Screen,
) -> Result<Exit, Failure> {
    loop {
        let mut reader = true;
        let ended = client.events(Some(last), |event| {
            last = event.seq;
            reader = !names.include(&event) || show(&event);
            if reader { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if !reader {
            return Ok(Exit::Done);
        }
        // The stream ends with the manager. One that was replaced goes on from the last number seen.
        if !comes_back(client) {
            ended.map_err(Failure::from).or_else(only_gone)?;
            screen.note("the manager has gone\n");
            return Ok(Exit::Done);
        }
    }
}

/// That nobody answers any more is how following ends, and no failure.
fn only_gone(failure: Failure) -> Result<(), Failure> {
    if failure.exit == Exit::NotRunning { Ok(()) } else { Err(failure) }
}

/// Whether a manager answers again soon.
pub(super) fn comes_back(client: &Client) -> bool {
    let end = Instant::now() + AWAY;
    loop {
        if client.version().is_ok() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}

/// False: nobody reads any more.
fn show(event: &EventRecord, zone: &TimeZone, screen: &Screen) -> bool {
    if screen.json {
        screen.result(&format!("{}\n", serde_json::json!(event)))
    } else {
        screen.result(&event::render(event, zone, screen.out))
    }
}

/// Whose events are shown; none: everybody's, and relume's own.
struct Names(Vec<String>);

impl Names {
    /// A word means what it means elsewhere; a service that has left the config still has its past.
    fn of(words: &[String], services: &[ServiceReport], past: &[EventRecord]) -> Result<Self, Failure> {
        let mut names = Vec::new();
        for word in words {
            let before = names.len();
            let meant = services.iter().filter(|service| service.is_meant_by(word));
            names.extend(meant.map(|service| service.name.clone()));
            let of_word = |event: &EventRecord| event.service.as_deref() == Some(word);
            if past.iter().any(of_word) {
                names.push(word.clone());
            }
            if names.len() == before {
                return Err(unknown(word, services.iter().map(Named::name)));
            }
        }
        Ok(Self(names))
    }

    fn include(&self, event: &EventRecord) -> bool {
        self.0.is_empty() || event.service.as_ref().is_some_and(|service| self.0.contains(service))
    }
}
