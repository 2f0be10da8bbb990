//! What there is to go on from: the journal, the archive, and what the kernel shows.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use relume_core::{
    Command, Event, Intent, Moment, Outbox, Record, Remembered, ServiceId, Snapshot, State, Supervisor,
    Survivor, Ticket,
};
use relume_os::clock;

use crate::manager::archive::{Archive, Copy};
use crate::manager::edge::Edge;
use crate::manager::forward::Forwarding;
use crate::manager::gate::Gate;
use crate::manager::journal::{Journal, Remains};
use crate::manager::operations::Operations;
use crate::manager::parent_death;
use crate::manager::publish::{self, Beginnings, Level};
use crate::manager::recovery::{self, Found};
use crate::manager::respawn::{self, Back};
use crate::manager::units::Units;
use crate::places::Places;

/// What there is of an earlier manager of this boot.
pub(super) struct Past<'a> {
    pub(super) remains: Option<&'a mut Remains>,
    /// The guardian has started this manager, and no user.
    pub(super) again: bool,
    /// What has become of the manager before this one.
    pub(super) back: Option<&'a Back>,
}

/// What the board and the core start with: what the journal says, else what the archive has of an earlier boot.
/// A shutdown that was under way when both halves died is not taken up by a user who starts relume again.
pub(super) fn beginnings(
    journal: &mut Journal,
    past: Past<'_>,
    archive: &Archive,
    (units, guardian): (&Units, u32),
) -> Beginnings {
    let (mut memory, began, recoveries, respawns) = match past.remains {
        Some(remains) => {
            if !past.again {
                remains.snapshot.shutdown = None;
            }
            let died = u64::from(past.back.is_some_and(Back::is_recovery));
            let replaced = u64::from(past.back.is_some_and(Back::is_planned));
            remains.snapshot.compact();
            (remains.snapshot.clone(), remains.began, remains.recoveries + died, remains.respawns + replaced)
        }
        // Of a journal that was put aside nobody knows how often before.
        None => {
            let died = u64::from(past.back.is_some_and(Back::is_recovery));
            (cold(archive.copy(), units), Edge::now().0, died, 0)
        }
    };
    for record in memory.services.values_mut() {
        if let Some(unit) = units.get(&record.name) {
            // The same text, which is held once.
            record.name = unit.config.spec.name.clone();
        }
    }
    archive.reached(memory.seq);
    journal.set_beginnings(began, recoveries, respawns);
    Beginnings { memory, began: Moment(began), recoveries, respawns, guardian }
}

/// What the archive knows of the services that are configured, in their order.
pub(super) fn cold(copy: Copy, units: &Units) -> Snapshot {
    let mut known: HashMap<String, Remembered> =
        copy.services.into_iter().map(|service| (service.name.clone(), service)).collect();
    Snapshot::cold(copy.seq, units.order.iter().filter_map(|name| known.remove(&**name)))
}

/// What can wait until somebody supervises.
pub(crate) struct Later {
    pub(super) gate: Gate,
    pub(super) archive: Archive,
    pub(super) remains: Option<Remains>,
    pub(super) places: Places,
    /// Where forwarding is still to begin.
    pub(super) forwarding: Option<Arc<OnceLock<Forwarding>>>,
}

impl Later {
    /// Nobody ends unseen from now on, and there is no other manager: threads that show, keep and capture begin. What the manager before
    /// this one has shown may be in nobody's archive yet, and comes before what happens now.
    pub(crate) fn go_on(self, edge: &mut Edge) {
        let Self { gate, archive, remains, places, forwarding } = self;
        if let Some(remains) = remains.as_ref().filter(|_| forwarding.is_some()) {
            // Of before this manager began: a service that it has started since has a later life.
            edge.release_idle(&remains.snapshot.services);
        }
        if let Some(mut remains) = remains {
            let past = std::mem::take(&mut remains.past);
            let units = Arc::clone(&edge.units);
            let own = places.clone();
            archive.replay(move || publish::events_of(&units, &own, past.read()));
            edge.untold = Some(archive.clone());
            for record in remains.snapshot.services.values() {
                archive.remember(Remembered::of(record), record.intent == Intent::Down);
            }
        }
        edge.journal.came_up();
        edge.checkpoint_due |= edge.untold.is_none();
        if let Some(cell) = forwarding {
            match Forwarding::start(&edge.units, &places, &edge.publisher) {
                Ok(forwarding) => drop(cell.set(forwarding)),
                Err(error) => edge.say(Level::Error, format!("logs are not forwarded: {error}")),
            }
        }
        if let Err(error) = edge.capture.begin() {
            edge.say(Level::Error, format!("no output can be captured: {error}; beginning anew"));
            gate.open();
            respawn::begin_anew();
        }
        gate.open();
    }
}

/// The core, fresh or recovered, and what it says on coming up. `stands_by`: another process is the manager, and opens and closes sockets.
pub(super) fn come_up(
    edge: &mut Edge,
    (memory, mut remains): (Snapshot, Option<&mut Remains>),
    found: Vec<Found>,
    (names, stands_by): (&[String], bool),
) -> (Supervisor, Outbox) {
    let mut out = Outbox::default();
    // Only the order of retries depends on it: any number that differs between machines and starts will do.
    let seed = clock::monotonic_ns() ^ (u64::from(std::process::id()) << 32);
    let config = edge.units.for_core(edge.autostart);
    let is_recovery = remains.is_some();
    if memory == Snapshot::default() && found.is_empty() {
        edge.events.push_back(Event::Configured(config));
        edge.start_named(names);
        return (Supervisor::new(seed, Edge::now()), out);
    }
    let survivors: Vec<Survivor> = found.iter().map(|found| found.survivor.clone()).collect();
    let unread = remains.as_ref().map_or(0, |remains| remains.unread);
    let struck = parent_death::struck(&memory, &found, edge.returned);
    let core = Supervisor::recover(config, memory, &survivors, (seed, Edge::now()), &mut out);
    if let Some(remains) = &mut remains {
        edge.operations = Operations::of(std::mem::take(&mut remains.operations));
        edge.take_up(&core);
    }
    if !stands_by {
        edge.release_idle(&core.snapshot().services);
    }
    edge.runs.reserve(found.len());
    edge.watched.reserve(found.len());
    edge.ready_runs.expect(found.len());
    let alive = found.iter().filter(|found| found.survivor.exit.is_none()).count();
    for found in found {
        if let Some(service) = core.find(&found.survivor.name) {
            let record = core.record(service);
            edge.adopt(recovery::run_id(service, &found.survivor), found, record);
        }
    }
    edge.tell_parent_deaths(&core, struck);
    if is_recovery || alive > 0 {
        let what = if is_recovery { "recovered" } else { "found services of an earlier relume" };
        // What is done every five minutes is no news.
        let planned = edge.back.as_ref().is_some_and(Back::is_planned);
        let level = if planned { Level::Debug } else { Level::Info };
        edge.say(level, format!("{what}: {alive} running processes adopted"));
    }
    if unread > 0 {
        edge.say(Level::Warn, format!("{unread} notes of the journal could not be read"));
    }
    edge.start_named_of(&core, names);
    (core, out)
}

impl Edge {
    /// Nobody waits at the sockets of services that are not meant to run.
    fn release_idle(&self, services: &BTreeMap<ServiceId, Record>) {
        for record in services.values() {
            if matches!(record.state, State::Stopped | State::Completed | State::Failed { .. }) {
                self.release_sockets(&record.name, record.generation);
            }
        }
    }

    /// The services that were named on the command line are commands like any other; nobody waits for them.
    pub(super) fn start_named(&mut self, names: &[String]) {
        // Ids are given out in the order of the configuration.
        let ids = names.iter().filter_map(|name| self.units.order.iter().position(|known| **known == **name));
        let ids = ids.filter_map(|n| u32::try_from(n).ok()).map(ServiceId).collect();
        self.start_services(ids);
    }

    /// The same, where ids are known.
    pub(super) fn start_named_of(&mut self, core: &Supervisor, names: &[String]) {
        self.start_services(names.iter().filter_map(|name| core.find(name)).collect());
    }

    fn start_services(&mut self, ids: Vec<ServiceId>) {
        if !ids.is_empty() {
            let event = Event::Commanded { ticket: Ticket(0), command: Command::Start(ids) };
            self.events.push_back(event);
        }
    }
}
