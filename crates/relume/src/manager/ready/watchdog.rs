//! Watchdogs: services that have to show again and again that they live (`WATCHDOG=1`, sd_watchdog_enabled(3)).
//!
//! A sign of life only moves a deadline here; the core hears of one that has passed. Now and then, and not with each sign, the
//! last one is noted in the journal, so that a manager that comes up again goes on waiting instead of beginning anew.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use relume_core::{Event, Moment, RunId};

use super::ears::Watched;
use super::words::Alive;
use crate::manager::edge::Edge;

/// The shortest period: a service that could ask for less would keep the manager busy with nothing else.
const SHORTEST: Duration = Duration::from_millis(1);

/// All watchdogs, the next to bite first.
#[derive(Debug, Default)]
pub(crate) struct Dogs {
    deadlines: BTreeSet<(Moment, RunId)>,
    dogs: HashMap<RunId, Dog>,
}

#[derive(Debug, Clone, Copy)]
struct Dog {
    period: Duration,
    deadline: Moment,
    /// When a sign of life was last noted in the journal.
    noted: Moment,
}

impl Dogs {
    /// When the next service has been silent for too long.
    pub(crate) fn next(&self) -> Option<Moment> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Those that have been silent for too long by `now`.
    fn overdue(&self, now: Moment) -> Vec<RunId> {
        self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, run)| *run).collect()
    }

    fn set(&mut self, run: RunId, dog: Dog) {
        self.leave(run);
        self.deadlines.insert((dog.deadline, run));
        self.dogs.insert(run, dog);
    }

    /// Nobody waits for this run's signs any more.
    pub(super) fn leave(&mut self, run: RunId) {
        if let Some(dog) = self.dogs.remove(&run) {
            self.deadlines.remove(&(dog.deadline, run));
        }
    }
}

impl Edge {
    /// A run is ready: from now on its signs of life are waited for, where its configuration says so.
    pub(super) fn watch(&mut self, id: RunId, watched: Option<Watched>) {
        let Some(started) = self.runs.get(&id).map(|run| run.unit.config.readiness.watchdog) else { return };
        let now = Self::now();
        let Some(period) = watched.map(|watched| Duration::from_nanos(watched.period_ns)).or(started) else {
            return;
        };
        let period = period.max(SHORTEST);
        // What was noted may be older than the last sign by a quarter.
        let kept = watched.map(|watched| Moment(watched.at_ns).after(period + period / 4));
        let deadline = kept.unwrap_or_else(|| now.after(period)).max(Moment(now.0 + 1));
        self.ready_runs.dogs.set(id, Dog { period, deadline, noted: now });
        self.note_watched(id, watched.map_or(now, |watched| Moment(watched.at_ns)), period);
    }

    /// A service shows that it lives, or says that it does not; `every`: and how often it will.
    pub(super) fn sign_of_life(&mut self, id: RunId, alive: Alive, every: Option<Duration>) {
        let Some(dog) = self.ready_runs.dogs.dogs.get(&id).copied() else { return };
        if alive == Alive::Trigger {
            self.ready_runs.dogs.leave(id);
            return self.events.push_back(Event::Silent { run: id });
        }
        let now = Self::now();
        let period = every.unwrap_or(dog.period).max(SHORTEST);
        let stale = now.since(dog.noted) >= dog.period / 4 || period != dog.period;
        let noted = if stale { now } else { dog.noted };
        self.ready_runs.dogs.set(id, Dog { period, deadline: now.after(period), noted });
        if stale {
            self.note_watched(id, now, period);
        }
    }

    /// The timer has fired: whoever was silent for too long.
    pub(crate) fn bite(&mut self) {
        let now = Self::now();
        if self.ready_runs.dogs.next().is_none_or(|at| at > now) {
            return;
        }
        // A last sign may wait in its socket, where the manager itself has been held up.
        let suspects = self.ready_runs.dogs.overdue(now);
        for run in suspects {
            self.hear_socket(run);
            let late = self.ready_runs.dogs.dogs.get(&run).is_some_and(|dog| dog.deadline <= now);
            if late {
                self.ready_runs.dogs.leave(run);
                self.events.push_back(Event::Silent { run });
            }
        }
    }

    fn note_watched(&mut self, id: RunId, at: Moment, period: Duration) {
        let Some(mut kept) = self.kept.get(&id).cloned() else { return };
        if let Some(ears) = &mut kept.ears {
            let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
            let watched = Some(Watched { at_ns: at.0, period_ns });
            // What an earlier manager has noted need not be noted again.
            if ears.watchdog != watched {
                ears.watchdog = watched;
                self.note_began(id, kept);
            }
        }
    }

    /// That it has said that it is ready is not said again to a successor.
    pub(super) fn note_said(&mut self, id: RunId) {
        let Some(mut kept) = self.kept.get(&id).cloned() else { return };
        if let Some(ears) = &mut kept.ears {
            ears.said = true;
            self.note_began(id, kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use relume_core::ServiceId;

    use super::*;

    #[test]
    fn the_first_to_be_late_comes_first() {
        let run = |generation| RunId { service: ServiceId(1), generation };
        let dog = |at| Dog { period: SHORTEST, deadline: Moment(at), noted: Moment(0) };
        let mut dogs = Dogs::default();
        dogs.set(run(1), dog(30));
        dogs.set(run(2), dog(20));
        dogs.set(run(3), dog(40));
        assert_eq!(dogs.next(), Some(Moment(20)));
        dogs.set(run(2), dog(35));
        assert_eq!(dogs.overdue(Moment(35)), [run(1), run(2)]);
        (1..=3).for_each(|generation| dogs.leave(run(generation)));
        assert_eq!((dogs.next(), dogs.overdue(Moment(99)).len()), (None, 0));
    }
}
