//! Who is who: the processes of the services before a kill and after it, by pid and start time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use relume_os::pidfd::ProcessId;
use relume_os::proc;
use relume_proto::{Client, EventKind, EventRecord, ServiceReport, State, StatusReport};

use super::figures::Services;
use super::target::{kill, open};

/// How long a killed service may take until it runs again: above the longest usual delay of a restart.
const BACK_AGAIN: Duration = Duration::from_secs(60);

/// How long a service may be between two lives before it counts as lost: above the first delays of a restart.
const SETTLES: Duration = Duration::from_secs(5);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(1);

/// One life of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    process: ProcessId,
    run: u64,
}

/// The services that are watched, each with its present life.
pub(super) struct Witness {
    lives: BTreeMap<String, Life>,
    /// The last event before the drill.
    pub(super) after: u64,
}

/// What one look has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) lost: Vec<String>,
    pub(super) restarted: Vec<String>,
    pub(super) ended: Vec<String>,
    pub(super) doubled: Vec<String>,
}

impl Found {
    /// Adds it to the figures; what must not be is said in sentences.
    pub(super) fn count(self, services: &mut Services, failures: &mut Vec<String>) {
        services.lost += self.lost.len() as u64;
        services.restarted += self.restarted.len() as u64;
        services.doubled += self.doubled.len() as u64;
        services.ended += self.ended.len() as u64;
        failures.extend(self.lost.into_iter().chain(self.restarted).chain(self.doubled));
    }
}

impl Witness {
    /// Watches the services that run now and are `watched`.
    pub(super) fn of(client: &Client, watched: impl Fn(&str) -> bool) -> Result<Self, String> {
        let report = client.status(&[]).map_err(|error| error.to_string())?;
        let services = report.services.iter().filter(|service| watched(&service.name));
        let lives = services.filter_map(|service| Some((service.name.clone(), life(service)?))).collect();
        let events = client.history(0).map_err(|error| error.to_string())?;
        Ok(Self { lives, after: events.last().map_or(0, |event| event.seq) })
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.lives.len() as u64
    }

    /// Looks at all of them. Whatever is not as before is told once, and is the new measure.
    pub(super) fn look(&mut self, client: &Client) -> Result<Found, String> {
        let report = self.settled(client)?;
        let mut found = Found::default();
        let (mut gone, mut changed) = (Vec::new(), Vec::new());
        for (name, before) in &self.lives {
            let now = report.services.iter().find(|service| service.name == *name);
            match now.and_then(life) {
                Some(now) if now == *before => {}
                now => changed.push((name.clone(), *before, now)),
            }
        }
        let events =
            if changed.is_empty() { Vec::new() } else { client.history(self.after).unwrap_or_default() };
        for (name, before, now) in changed {
            let lives_on = before.process.exists().unwrap_or(false);
            match now {
                _ if ended_by_itself(&events, &name, before.run) => found.ended.push(name.clone()),
                Some(now) if lives_on && now.process != before.process => {
                    found
                        .doubled
                        .push(format!("{name} runs twice: {} and {}", before.process.pid, now.process.pid));
                }
                Some(now) => found.restarted.push(format!(
                    "{name} was restarted without cause: pid {}, run {} became pid {}, run {}",
                    before.process.pid, before.run, now.process.pid, now.run
                )),
                None => found.lost.push(format!(
                    "{name} is not running any more: pid {}, run {}{}",
                    before.process.pid,
                    before.run,
                    if lives_on { " lives and nobody knows it" } else { "" }
                )),
            }
            match now {
                Some(now) => drop(self.lives.insert(name, now)),
                None => gone.push(name),
            }
        }
        self.lives.retain(|name, _| !gone.contains(name));
        Ok(found)
    }

    /// The status once nobody watched is between two lives: one that is about to come back is restarted, not lost.
    fn settled(&self, client: &Client) -> Result<StatusReport, String> {
        let began = Instant::now();
        loop {
            let report = client.status(&[]).map_err(|error| error.to_string())?;
            let between = |service: &ServiceReport| {
                // One that says it runs and has no living process has died a moment ago.
                let over = [State::Stopped, State::Completed, State::Failed, State::MaxRestarts];
                self.lives.contains_key(&service.name)
                    && !over.contains(&service.state)
                    && life(service).is_none()
            };
            if !report.services.iter().any(between) || began.elapsed() >= SETTLES {
                return Ok(report);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Kills a service and waits until its next life runs. How long that took.
    pub(super) fn kill(&mut self, client: &Client, name: &str) -> Result<Duration, String> {
        let Some(before) = self.lives.get(name).copied() else {
            return Err(format!("{name} does not run, so it cannot be killed"));
        };
        let process = open(before.process.pid, name)?;
        let killed = Instant::now();
        kill(&process)?;
        while killed.elapsed() < BACK_AGAIN {
            let report = client.status(&[name.to_owned()]).map_err(|error| error.to_string())?;
            let now = report.services.first().and_then(life);
            if let Some(now) = now.filter(|now| now.run > before.run) {
                self.lives.insert(name.to_owned(), now);
                let took = killed.elapsed();
                let more = now.run - before.run - 1;
                return if more == 0 {
                    Ok(took)
                } else {
                    Err(format!("{name} was restarted {more} times too often"))
                };
            }
            std::thread::sleep(LOOK);
        }
        self.lives.remove(name);
        Err(format!("{name} was killed and does not run again within {} s", BACK_AGAIN.as_secs()))
    }
}

/// Its present life, while it has a process that is not about to end.
fn life(service: &ServiceReport) -> Option<Life> {
    let lives = [State::Starting, State::Running, State::Unhealthy].contains(&service.state);
    let process = service.pid.filter(|_| lives).and_then(|pid| ProcessId::of(pid).ok().flatten())?;
    let zombie = proc::stat(process.pid).ok().flatten().is_none_or(|stat| stat.is_zombie());
    (!zombie).then_some(Life { process, run: service.run? })
}

/// Whether that run ended with an exit code: its own doing. SIGPIPE and SIGKILL may be relume's.
fn ended_by_itself(events: &[EventRecord], name: &str, run: u64) -> bool {
    events.iter().any(|event| {
        event.event == EventKind::Exit
            && event.service.as_deref() == Some(name)
            && event.run == Some(run)
            && event.detail.as_deref().is_some_and(|detail| detail.starts_with("exited "))
    })
}
