//! The board: what is so, as facts have told it, for whoever wants to read it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use relume_core::{Fact, Moment, Name, Record, RunId, RunKind, ServiceId, Snapshot, What};
use relume_os::cgroup::RunCgroup;
use relume_os::clock;
use relume_os::exit::Usage;
use relume_proto::EventRecord;

use super::words;
use crate::manager::disks::Rooms;
use crate::manager::sampling::{Reading, Readings, Target};
use crate::manager::schedule::Times;
use crate::manager::units::{Unit, Units};
use crate::places::Places;

/// A mirror of the core's memory, with the configuration and the processes beside it.
pub(crate) struct Board {
    pub(crate) memory: Snapshot,
    pub(crate) units: Arc<Units>,
    /// By name; the memory knows services by id.
    pub(crate) ids: BTreeMap<Name, ServiceId>,
    processes: HashMap<RunId, Process>,
    /// Runs of services, as opposed to those of their hooks.
    mains: HashMap<ServiceId, RunId>,
    /// Runs that put themselves in the background, the last of each service.
    forkers: HashMap<ServiceId, RunId>,
    /// What is said of a service's run, by itself or its probes: the last of each service.
    told: HashMap<ServiceId, (RunId, String)>,
    /// What the last run of a service that has ended had used.
    used: HashMap<ServiceId, (RunId, Usage)>,
    /// Why a probe of a service failed last.
    failures: HashMap<ServiceId, String>,
    pub(crate) places: Places,
    /// What runs use, as it was measured last.
    pub(crate) readings: Readings,
    /// The room on the file systems, likewise.
    pub(crate) rooms: Rooms,
    /// When jobs are due next.
    pub(crate) times: Times,
    pub(crate) began: Moment,
    /// How often a manager has come back.
    pub(crate) recoveries: u64,
    /// How often a manager has replaced itself on purpose.
    pub(crate) respawns: u64,
    /// The guardian's pid; our own while there is none.
    pub(crate) guardian: u32,
    /// The last good configuration holds instead of the configured one.
    pub(crate) safe_mode: bool,
}

/// What the board starts with.
pub(crate) struct Beginnings {
    /// What an earlier manager remembered.
    pub(crate) memory: Snapshot,
    /// When supervision began.
    pub(crate) began: Moment,
    /// How often a manager has come back.
    pub(crate) recoveries: u64,
    /// How often a manager has replaced itself on purpose.
    pub(crate) respawns: u64,
    /// The guardian's pid.
    pub(crate) guardian: u32,
}

/// The main process of a run.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) started: Moment,
    /// Of the whole run.
    pub(crate) cgroup: Option<RunCgroup>,
}

impl Board {
    pub(crate) fn new(units: Arc<Units>, places: Places, beginnings: Beginnings) -> Self {
        let Beginnings { memory, began, recoveries, respawns, guardian } = beginnings;
        let known = memory.services.iter();
        let ids = known.clone().map(|(id, record)| (record.name.clone(), *id)).collect();
        let mains = known.filter_map(|(id, record)| Some((*id, record.state.run()?))).collect();
        Self {
            memory,
            units,
            ids,
            processes: HashMap::new(),
            mains,
            recoveries,
            respawns,
            guardian,
            safe_mode: false,
            forkers: HashMap::new(),
            told: HashMap::new(),
            used: HashMap::new(),
            failures: HashMap::new(),
            places,
            readings: Readings::default(),
            rooms: Rooms::default(),
            times: Times::default(),
            began,
        }
    }

    /// Takes a fact in, and says it as an event where it is one that people follow.
    pub(crate) fn learn(&mut self, fact: &Fact) -> Option<EventRecord> {
        // Before the fold: a removed service still has its name, and what probes have changed can be seen.
        let early = matches!(fact.what, What::Removed { .. } | What::Probed { .. });
        let early = early.then(|| words::event(self, fact)).flatten();
        match &fact.what {
            What::Added { service, name } => {
                self.ids.insert(name.clone(), *service);
            }
            What::Removed { service } => {
                self.ids.retain(|_, id| id != service);
                self.mains.remove(service);
                self.forkers.remove(service);
                self.told.remove(service);
                self.used.remove(service);
                self.failures.remove(service);
            }
            What::Probed { run, failure: Some(failure), .. } => {
                self.failures.insert(run.service, failure.clone());
            }
            What::LooksForking { run } => {
                self.forkers.insert(run.service, *run);
            }
            What::RunBegan { run, kind: RunKind::Service | RunKind::Job, .. } | What::Adopted { run } => {
                self.mains.insert(run.service, *run);
            }
            What::Retired { .. }
            | What::IntentSet { .. }
            | What::ReplaceSet { .. }
            | What::Moved { .. }
            | What::RunBegan { .. }
            | What::RunEnded { .. }
            | What::Probed { failure: None, .. }
            | What::HistorySet { .. }
            | What::SideMoved { .. }
            | What::SideEnded { .. }
            | What::ConfigApplied { .. }
            | What::ConfigRefused { .. }
            | What::ShutdownBegan { .. }
            | What::StillAlive { .. }
            | What::Returned { .. }
            | What::Noticed { .. }
            | What::Stale { .. } => {}
        }
        self.memory.fold(fact);
        if matches!(fact.what, What::Probed { .. }) {
            return early;
        }
        if let What::ConfigApplied { .. } = fact.what {
            self.memory.compact();
            self.ids = std::mem::take(&mut self.ids).into_iter().collect();
        }
        early.or_else(|| words::event(self, fact))
    }

    /// The configuration that holds from now on.
    pub(crate) fn reconfigure(&mut self, units: Arc<Units>) {
        self.units = units;
    }

    /// Notes a run's main process. For a service's own run: its name.
    pub(crate) fn process_began(&mut self, run: RunId, process: Process) -> Option<String> {
        self.processes.insert(run, process);
        self.name_of_main(run)
    }

    /// A run's main process is no more. For a service's own run: its name.
    pub(crate) fn process_ended(&mut self, run: RunId) -> Option<String> {
        self.processes.remove(&run)?;
        self.name_of_main(run)
    }

    fn name_of_main(&self, run: RunId) -> Option<String> {
        let main = self.mains.get(&run.service) == Some(&run);
        main.then(|| self.memory.services.get(&run.service).map(|record| record.name.to_string()))?
    }

    /// What is said of a run from now on; none: nothing any more.
    pub(crate) fn told(&mut self, run: RunId, text: Option<String>) {
        match text {
            Some(text) => self.told.insert(run.service, (run, text)),
            None => self.told.remove(&run.service),
        };
    }

    /// What a run's main process has used.
    pub(crate) fn used(&mut self, run: RunId, usage: Usage) {
        self.used.insert(run.service, (run, usage));
    }

    /// What that run's main process has used, where it is the last that has ended and an end was seen.
    pub(crate) fn used_by(&self, run: RunId) -> Option<Usage> {
        self.used.get(&run.service).filter(|(of, _)| *of == run).map(|(_, usage)| *usage)
    }

    /// What is said of the present run of a service.
    pub(crate) fn told_of(&self, service: ServiceId) -> Option<&str> {
        let (run, text) = self.told.get(&service)?;
        (self.mains.get(&service) == Some(run)).then_some(text.as_str())
    }

    /// Why a probe of a service failed last.
    pub(crate) fn last_failure(&self, service: ServiceId) -> Option<&str> {
        self.failures.get(&service).map(String::as_str)
    }

    /// The present main process of a service.
    pub(crate) fn process_of(&self, service: ServiceId) -> Option<&Process> {
        self.processes.get(self.mains.get(&service)?)
    }

    /// What the present run of a service uses, if that was measured lately.
    pub(crate) fn reading_of(&self, service: ServiceId) -> Option<Reading> {
        self.readings.of(*self.mains.get(&service)?)
    }

    /// Every run that could be measured.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let target = |(service, run): (&ServiceId, &RunId)| {
            let process = self.processes.get(run)?;
            let unit = self.unit(*service)?;
            Some(Target {
                run: *run,
                name: unit.config.spec.name.to_string(),
                pid: process.pid,
                started: process.started,
                cgroup: process.cgroup.clone(),
                max_memory: unit.config.resources.max_memory,
            })
        };
        self.mains.iter().filter_map(target).collect()
    }

    /// Whether the last run of a service put itself in the background, although nothing says that it does.
    pub(crate) fn forked(&self, record: &Record) -> bool {
        let last = record.last_end.as_ref().map(|end| end.run);
        last.is_some_and(|run| self.forkers.get(&run.service) == Some(&run))
    }

    /// The configured service of that id.
    pub(crate) fn unit(&self, service: ServiceId) -> Option<&Arc<Unit>> {
        self.units.get(&self.memory.services.get(&service)?.name)
    }

    /// The name of a service, for people.
    pub(crate) fn name(&self, service: ServiceId) -> &str {
        self.memory.services.get(&service).map_or("?", |record| &record.name)
    }

    /// Name and memory of each service in the order of the configuration, those that are leaving it last.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (ServiceId, &Record)> {
        let configured = self.units.order.iter().filter_map(|name| self.ids.get(name));
        let leaving = self.ids.iter().filter(|(name, _)| self.units.get(name).is_none()).map(|(_, id)| id);
        configured.chain(leaving).filter_map(|id| Some((*id, self.memory.services.get(id)?)))
    }
}

/// The present moment.
pub(crate) fn now() -> Moment {
    Moment(clock::monotonic_ns())
}

/// A moment of this boot on the wall clock as it stands now, in the words of RFC 3339 (UTC).
pub(crate) fn wall(at: Moment) -> String {
    let ago = Duration::from_nanos(clock::monotonic_ns().saturating_sub(at.0));
    let since_epoch = clock::realtime().saturating_sub(ago);
    let micros = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros).map_or_else(|_| String::new(), |time| format!("{time:.3}"))
}
