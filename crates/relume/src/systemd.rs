//! relume as a service of systemd, or of whoever else speaks sd_notify(3).
//!
//! The manager tells that it supervises, how its services are, and that it stops. The guardian, which is the main
//! process of the unit, gives the signs of life for `WatchdogSec=`: a hung manager is its own to replace, and no
//! reason to end the whole unit. A `relume up` that finds relume alive without its main process (the guardian had
//! been killed, the manager has taken its place, systemd has started the unit again) hands the unit over to it with
//! `MAINPID=` and is done.
//!
//! None of this may hold anything up: what cannot be said now is said with the next news, or not at all.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use relume_os::epoll::Timer;
use relume_os::files::{self, LockError};
use relume_os::notify_client::NotifyClient;
use relume_os::{clock, pidfd::PidFd};
use relume_proto::{Client, State, StatusFile, VersionReport};

use crate::places::Places;

/// Where messages go; as systemd sets it.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// How often a sign of life is expected, in microseconds, and from which process.
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// How long the holder of the lock may take to answer: a manager that takes the guardian's place, or comes back, needs
/// less than a second.
const HOLDER: Duration = Duration::from_secs(20);

/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(20);

/// How long systemd may take to read what it is told: it would be waited for by sd_notify_barrier(3) just so.
const READ: Duration = Duration::from_secs(5);

/// Names shown of services that are not well.
const NAMES: usize = 3;

/// The client for the address in the environment; none without one, or with one that cannot be used.
fn client() -> Option<NotifyClient> {
    NotifyClient::to(&std::env::var_os(NOTIFY_SOCKET)?).ok().flatten()
}

/// What the manager has to say.
#[derive(Debug)]
pub(crate) struct Teller {
    client: Option<NotifyClient>,
    ready: bool,
    stopping: bool,
    /// What was understood last.
    told: String,
}

impl Teller {
    /// For this process's environment.
    pub(crate) fn of_this_process() -> Self {
        Self { client: client(), ready: false, stopping: false, told: String::new() }
    }

    /// Supervision has begun. Services may still be starting: one that is slow must not make the unit fail.
    /// False: there was no room for it.
    pub(crate) fn ready(&mut self, services: impl FnOnce() -> StatusFile) -> bool {
        self.ready = true;
        self.client.is_none() || self.tell(&services())
    }

    /// All services are being stopped, for relume to leave.
    pub(crate) fn stopping(&mut self) {
        self.stopping = true;
    }

    /// Tells what is so, if it was not told before. False: there was no room for it, it is to be said again.
    pub(crate) fn tell(&mut self, services: &StatusFile) -> bool {
        let Some(client) = &self.client else { return true };
        if !self.ready {
            return true;
        }
        let first = if self.stopping { "STOPPING=1" } else { "READY=1" };
        let text = format!("{first}\nSTATUS={}", summary(entries(services)));
        if text == self.told {
            return true;
        }
        match client.send(&text) {
            Ok(false) => false,
            // Nobody listens there any more: then nobody misses it.
            Ok(true) | Err(_) => {
                self.told = text;
                true
            }
        }
    }
}

/// `12 of 12 services running`, and who is not well. What was stopped on request is not counted.
fn summary<'a>(services: impl Iterator<Item = (&'a str, &'a State)> + Clone) -> String {
    let wanted = || services.clone().filter(|(_, state)| **state != State::Stopped);
    let well = |state: &State| matches!(state, State::Running | State::Completed);
    let ill = |state: &State| {
        matches!(state, State::Crashed | State::Failed | State::MaxRestarts | State::Unhealthy)
    };
    let running = wanted().filter(|(_, state)| well(state)).count();
    let mut text = format!("{running} of {} services running", wanted().count());
    let names: Vec<String> = wanted()
        .filter(|(_, state)| ill(state))
        .map(|(name, state)| format!("{name} {}", state.as_str()))
        .collect();
    if !names.is_empty() {
        text.push_str(&format!("; {}", names.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ")));
    }
    if names.len() > NAMES {
        text.push_str(&format!(" and {} more", names.len() - NAMES));
    }
    text
}

fn entries(services: &StatusFile) -> impl Iterator<Item = (&str, &State)> + Clone {
    services.iter().map(|(name, service)| (name.as_str(), &service.status))
}

/// The guardian's signs of life.
#[derive(Debug)]
pub(crate) struct Watchdog {
    client: NotifyClient,
    timer: Timer,
    every_ns: u64,
}

impl Watchdog {
    /// None where nobody expects any.
    pub(crate) fn of_this_process() -> Option<Self> {
        let usec: u64 = std::env::var(WATCHDOG_USEC).ok()?.parse().ok()?;
        // Half of what is allowed, as sd_watchdog_enabled(3) advises.
        let every_ns = usec.checked_mul(1000)? / 2;
        let (client, timer) = (client()?, Timer::new().ok()?);
        let watchdog = Self { client, timer, every_ns };
        (every_ns > 0).then(|| watchdog.sign()).map(|()| watchdog)
    }

    /// What the epoll set has to watch.
    pub(crate) fn timer(&self) -> &Timer {
        &self.timer
    }

    /// The timer has fired.
    pub(crate) fn due(&self) {
        let _fired = self.timer.drain();
        self.sign();
    }

    fn sign(&self) {
        // One that is lost is made up for by the next.
        let _lost = self.client.send("WATCHDOG=1");
        let _unset = self.timer.set(clock::monotonic_ns().saturating_add(self.every_ns));
    }
}

/// The guardian's environment: signs of life that are expected of another process are not ours to give. Those that are
/// expected of us are later given by whoever takes the guardian's place, under another pid.
pub(crate) fn with_own_watchdog(mut environment: Vec<(OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let ours = OsString::from(std::process::id().to_string());
    let strange = environment.iter().any(|(key, value)| key == WATCHDOG_PID && *value != ours);
    environment.retain(|(key, _)| key != WATCHDOG_PID && !(strange && key == WATCHDOG_USEC));
    environment
}

/// Under systemd, and with a relume that holds the lock already: makes that one the unit's main process. Whether it did.
pub(crate) fn hand_over(places: &Places) -> bool {
    let Some(client) = client() else { return false };
    let Ok(api) = Client::new(places.socket()) else { return false };
    let end = Instant::now() + HOLDER;
    while Instant::now() < end {
        if let Ok(holder) = api.version() {
            if tell_main(&client, &api, &holder) {
                return true;
            }
        } else if !is_held(places) {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    false
}

/// A guardian that has just died is still named by its manager for a moment.
fn tell_main(client: &NotifyClient, api: &Client, holder: &VersionReport) -> bool {
    let lives = |pid| PidFd::open(pid).and_then(|process| process.has_ended()).is_ok_and(|ended| !ended);
    if !lives(holder.guardian_pid) {
        return false;
    }
    // It has told its services already, of which systemd forgets at each start, and tells again only what changes.
    let status = api.status(&[]).map_or_else(
        |_| "handed over to the relume that runs".to_owned(),
        |report| summary(report.services.iter().map(|service| (service.name.as_str(), &service.state))),
    );
    let text = format!("MAINPID={}\nREADY=1\nSTATUS={status}", holder.guardian_pid);
    // Read before we end: who has sent it is looked up by our pid.
    client.send(&text).is_ok_and(|sent| sent) && client.wait_until_read(READ).is_ok()
}

fn is_held(places: &Places) -> bool {
    let text = format!("pid {}", std::process::id());
    matches!(files::lock(&places.lock_file(), &text), Err(LockError::Held { .. }))
}

#[cfg(test)]
mod tests {
    use relume_proto::StatusEntry;

    use super::*;

    fn services(states: &[(&str, State)]) -> StatusFile {
        let entry = |state: &State| StatusEntry { status: state.clone(), ..StatusEntry::default() };
        states.iter().map(|(name, state)| ((*name).to_owned(), entry(state))).collect()
    }

    #[test]
    fn the_status_counts_what_is_wanted_and_names_who_is_not_well() {
        let all = [("a", State::Running), ("b", State::Completed), ("c", State::Stopped)];
        assert_eq!(summary(entries(&services(&all))), "2 of 2 services running");
        let all = [("a", State::Running), ("b", State::Crashed), ("c", State::Starting)];
        assert_eq!(summary(entries(&services(&all))), "1 of 3 services running; b crashed");
        let all = ["a", "b", "c", "d", "e"].map(|name| (name, State::Failed));
        let text = "0 of 5 services running; a failed, b failed, c failed and 2 more";
        assert_eq!(summary(entries(&services(&all))), text);
    }

    #[test]
    fn signs_of_life_expected_of_another_process_are_not_given() {
        let of = |pid: String| {
            let all = [("WATCHDOG_PID", pid.as_str()), ("WATCHDOG_USEC", "5"), ("A", "b")];
            let all = all.map(|(key, value)| (OsString::from(key), OsString::from(value)));
            with_own_watchdog(all.into()).into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(of(std::process::id().to_string()), ["WATCHDOG_USEC", "A"]);
        assert_eq!(of("1".into()), ["A"]);
    }
}
