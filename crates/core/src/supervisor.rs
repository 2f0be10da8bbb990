//! The supervisor: what it holds, its one entrance, and the one place that changes what is so.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cell::Cell;
use core::mem::{Discriminant, discriminant};

use crate::action::{Action, Outbox};
use crate::event::{Config, Event};
use crate::fact::{Fact, What};
use crate::id::ServiceId;
use crate::moment::Moment;
use crate::name::Name;
use crate::orders::Order;
use crate::planted::Bug;
use crate::policy::{Dependency, ManagerPolicy, ServiceSpec};
use crate::record::{Intent, Record, Snapshot};
use crate::restart;
use crate::rng::Rng;
use crate::starts::StartQueue;
use crate::state::{StartPhase, State};

/// Decides everything and does nothing.
#[derive(Debug)]
pub struct Supervisor {
    /// All that is remembered; changed only by [`Step::note`].
    pub(crate) memory: Snapshot,
    /// What the configuration says of each known service, and who stands beside it in the graph.
    pub(crate) services: BTreeMap<ServiceId, Service>,
    pub(crate) names: BTreeMap<Name, ServiceId>,
    pub(crate) manager: ManagerPolicy,
    /// Every deadline of every service, kept in step with the records by `note`.
    pub(crate) deadlines: BTreeSet<(Moment, ServiceId)>,
    pub(crate) tally: Tally,
    pub(crate) starts: StartQueue,
    /// Services to be settled and decided before the step ends.
    pub(crate) dirty: BTreeSet<ServiceId>,
    /// Services with clients waiting for them.
    pub(crate) awaited: BTreeSet<ServiceId>,
    /// Retired services, to be forgotten once nothing of them runs.
    pub(crate) retired: BTreeSet<ServiceId>,
    pub(crate) rng: Rng,
    /// The latest moment seen; time that goes back counts as this.
    pub(crate) now: Moment,
    /// `Leave` was issued.
    pub(crate) left: bool,
    #[cfg(feature = "planted")]
    pub(crate) planted: Option<crate::planted::Bug>,
}

/// One service as configured, with its neighbours.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) spec: ServiceSpec,
    pub(crate) needs: Box<[(ServiceId, Dependency)]>,
    pub(crate) dependents: Box<[ServiceId]>,
    /// Those of the dependents that want to be restarted with it.
    pub(crate) followers: Box<[ServiceId]>,
    /// Where the last look found a need that was not met, and a dependent that had to end first. The next
    /// look begins there, so that a hub with ten thousand neighbours costs no more than ten thousand looks.
    pub(crate) unmet_at: Cell<usize>,
    pub(crate) blocked_at: Cell<usize>,
    /// Its dependencies have been made wanted since the configuration came.
    pub(crate) needs_wanted: Cell<bool>,
    /// Clients that wait for it.
    pub(crate) orders: Vec<Order>,
}

/// Counts over all records, so that no step has to look at all services.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Services that take one of the `start_parallelism` places.
    pub(crate) slots: u32,
    /// Services with a run of any kind.
    pub(crate) busy: u32,
    /// Services that run or may still start by themselves.
    pub(crate) unfinished: u32,
}

/// When the supervisor has to be called again if nothing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// When.
    pub at: Moment,
    /// For which service; none: for all that wait for their turn under `respawn_rate`.
    pub service: Option<ServiceId>,
}

impl Supervisor {
    /// One without services; the first `Configured` brings them. `seed` chooses all jitter.
    #[must_use]
    pub fn new(seed: u64, now: Moment) -> Self {
        Self {
            memory: Snapshot::default(),
            services: BTreeMap::new(),
            names: BTreeMap::new(),
            manager: ManagerPolicy::default(),
            deadlines: BTreeSet::new(),
            tally: Tally::default(),
            starts: StartQueue::default(),
            dirty: BTreeSet::new(),
            awaited: BTreeSet::new(),
            retired: BTreeSet::new(),
            rng: Rng::new(seed),
            now,
            left: false,
            #[cfg(feature = "planted")]
            planted: None,
        }
    }

    /// The only way in. Total: accepts every event in every state; what is stale or unknown becomes a fact.
    ///
    /// Fills `out`, to be carried out in order before the next step. The same history in gives the same
    /// bytes out. `now` never goes back: an older one counts as the latest seen.
    pub fn step(&mut self, now: Moment, event: Event, out: &mut Outbox) {
        self.now = self.now.max(now);
        let mut step = Step { core: self, out };
        step.absorb(event);
        step.absorb_deadlines();
        step.settle();
        step.answer();
        step.forget();
        step.leave();
        #[cfg(debug_assertions)]
        crate::invariants::assert_quick(self);
    }

    /// When to call again if nothing happens, and for whom.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline> {
        let first = self.deadlines.first().map(|(at, id)| Deadline { at: *at, service: Some(*id) });
        let turn = self.next_turn().map(|at| Deadline { at, service: None });
        match (first, turn) {
            (Some(first), Some(turn)) if turn.at < first.at => Some(turn),
            (first, turn) => first.or(turn),
        }
    }

    /// All that is remembered. Stored by someone else, it is what `recover` begins with.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.memory
    }

    /// What is remembered of one service.
    #[must_use]
    pub fn record(&self, service: ServiceId) -> Option<&Record> {
        self.memory.services.get(&service)
    }

    /// How one service is configured.
    #[must_use]
    pub fn spec(&self, service: ServiceId) -> Option<&ServiceSpec> {
        self.services.get(&service).map(|known| &known.spec)
    }

    /// The service of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ServiceId> {
        self.names.get(name).copied()
    }

    /// All services, in the order in which they became known.
    pub fn ids(&self) -> impl Iterator<Item = ServiceId> + '_ {
        self.services.keys().copied()
    }

    /// Those that depend on the service directly.
    #[must_use]
    pub fn dependents(&self, service: ServiceId) -> &[ServiceId] {
        self.services.get(&service).map_or(&[], |known| &known.dependents)
    }

    /// The rules over all services.
    #[must_use]
    pub fn manager(&self) -> &ManagerPolicy {
        &self.manager
    }

    fn next_turn(&self) -> Option<Moment> {
        let rate = self.manager.respawn_rate.filter(|_| self.starts.has_automatic())?;
        let at = restart::next_allowed(&self.memory.restarted_at, rate, self.now);
        // In the present only when no slot is free; then the slot's own deadline is the next.
        (at > self.now).then_some(at)
    }

    /// The configuration as `recover` and the simulator want it back.
    #[must_use]
    pub fn config(&self) -> Config {
        let known = self.services.iter().filter(|(id, _)| !self.retired.contains(id));
        Config {
            manager: self.manager.clone(),
            autostart: self.memory.autostart,
            services: known.map(|(_, service)| service.spec.clone()).collect(),
        }
    }
}

/// One step under way: the supervisor and what it has to say.
pub(crate) struct Step<'a> {
    pub(crate) core: &'a mut Supervisor,
    pub(crate) out: &'a mut Outbox,
}

impl Step<'_> {
    /// Makes something so. The only writer of records: folds the fact, keeps the deadline index and the
    /// tally in step, and marks whoever has to be looked at again.
    pub(crate) fn note(&mut self, what: What) {
        let core = &mut *self.core;
        let fact = Fact { seq: core.memory.seq + 1, at: core.now, what };
        let service = fact.what.service();
        let before = service.and_then(|id| core.memory.services.get(&id)).map(Mark::of);
        core.memory.fold(&fact);
        let after = service.and_then(|id| core.memory.services.get(&id)).map(Mark::of);
        if let Some(id) = service {
            core.reindex(id, before, after);
        }
        if !(self.core.has(Bug::ChangesInSilence) && matches!(fact.what, What::ReplaceSet { .. })) {
            self.out.facts.push(fact);
        }
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.out.actions.push(action);
    }

    /// Moves a service to another state.
    pub(crate) fn move_to(&mut self, service: ServiceId, to: State) {
        if let Some(from) = self.core.memory.services.get(&service).map(|record| record.state.clone()) {
            self.note(What::Moved { service, from, to });
        }
    }
}

/// What index, tally and neighbours read of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    deadline: Option<Moment>,
    tally: Tally,
    face: Face,
}

/// What of a record the neighbours' goals depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Face {
    live: bool,
    leaving: bool,
    intent: Intent,
    unusable: [Option<bool>; 2],
    stage: (Discriminant<State>, bool),
}

impl Mark {
    fn of(record: &Record) -> Self {
        Self { deadline: record.deadline(), tally: Tally::of(record), face: Face::of(record) }
    }
}

impl Face {
    fn of(record: &Record) -> Self {
        let alive =
            matches!(record.state, State::Starting { phase: StartPhase::Alive | StartPhase::Forked, .. });
        Self {
            live: record.state.is_live(),
            unusable: [record.health.readiness.well, record.health.health.well],
            leaving: record.replace.is_some() || record.retired || record.intent == Intent::Down,
            intent: record.intent,
            stage: (discriminant(&record.state), alive),
        }
    }
}

impl Tally {
    pub(crate) fn of(record: &Record) -> Self {
        let finished = matches!(record.state, State::Stopped | State::Completed | State::Failed { .. });
        Self {
            slots: u32::from(record.state.holds_slot()),
            busy: u32::from(record.is_busy()),
            unfinished: u32::from(!finished),
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.slots += other.slots;
        self.busy += other.busy;
        self.unfinished += other.unfinished;
    }

    fn remove(&mut self, other: Self) {
        self.slots -= other.slots;
        self.busy -= other.busy;
        self.unfinished -= other.unfinished;
    }
}

impl Supervisor {
    fn reindex(&mut self, id: ServiceId, before: Option<Mark>, after: Option<Mark>) {
        let kept = self.has(Bug::KeepsOldDeadline) && before.is_some() && after.is_some();
        if let Some(mark) = before {
            self.tally.remove(mark.tally);
            mark.deadline.filter(|_| !kept).map(|at| self.deadlines.remove(&(at, id)));
        }
        if let Some(mark) = after {
            self.tally.add(mark.tally);
            mark.deadline.filter(|_| !kept).map(|at| self.deadlines.insert((at, id)));
        }
        self.dirty.insert(id);
        let (before, after) = (before.map(|mark| mark.face), after.map(|mark| mark.face));
        let Some(service) = self.services.get(&id).filter(|_| before != after) else { return };
        self.dirty.extend(service.dependents.iter().copied());
        let leaves = |face: Option<Face>| face.is_some_and(|face| face.live && face.leaving);
        let over = before.is_some_and(|face| face.live) && !after.is_some_and(|face| face.live);
        // One that was down by its configuration alone, and is wanted again before its life is over.
        let swayed = before.is_some_and(|before| {
            before.live
                && before.intent == Intent::Auto
                && after.is_some_and(|after| after.intent == Intent::Up)
        });
        if over || swayed || (leaves(before) && !leaves(after)) {
            // What a dependency waits for is that a life is over, or is not to end after all.
            self.dirty.extend(service.needs.iter().map(|(need, _)| *need));
        }
    }

    /// Builds index and tally anew from the records: after recovery, and nowhere else.
    pub(crate) fn index_all(&mut self) {
        self.deadlines.clear();
        self.tally = Tally::default();
        for (id, record) in &self.memory.services {
            self.tally.add(Tally::of(record));
            record.deadline().map(|at| self.deadlines.insert((at, *id)));
        }
    }
}
