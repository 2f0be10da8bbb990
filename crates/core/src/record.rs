//! All that the core remembers, as plain data, and the one way it changes: folding facts.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::cause::{Cause, Exit};
use crate::fact::{Fact, What};
use crate::health::Health;
use crate::id::{RunId, RunKind, ServiceId};
use crate::moment::Moment;
use crate::name::Name;
use crate::rare::{Rare, Usual};
use crate::state::State;

/// The whole memory of a supervisor. A checkpoint with later facts folded in is the supervisor's own memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last fact that is part of it.
    pub seq: u64,
    /// The id that the next new service gets.
    pub next_id: u32,
    /// Every known service.
    pub services: BTreeMap<ServiceId, Record>,
    /// The moments of the latest automatic restarts over all services, oldest first; as many as fit in
    /// [`RESTARTS_KEPT`].
    pub restarted_at: VecDeque<Moment>,
    /// Whether everything is being stopped.
    pub shutdown: Option<Shutdown>,
    /// Whether services with `autostart` start without being asked for.
    pub autostart: bool,
    /// The last generation of services that were removed, so that one which comes back goes on above it: a name and a
    /// number stand for one life, also in files and in the environment of what it left behind.
    #[serde(default)]
    pub removed: BTreeMap<Name, u64>,
    /// The highest generation that is no longer in `removed`, which has at most [`REMOVED_KEPT`] names.
    #[serde(default)]
    pub removed_before: u64,
}

/// How many names of removed services are kept with their number; beyond it the highest number counts for all.
pub const REMOVED_KEPT: usize = 1_000;

/// How many moments of automatic restarts are kept. `respawn_rate` cannot count beyond it; a manager that
/// restarts more in a second has other worries.
pub const RESTARTS_KEPT: usize = 10_000;

/// A shutdown under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shutdown {
    /// With SIGKILL, in no order.
    pub hurry: bool,
    /// The exit code to leave with.
    pub code: i32,
}

/// All that is remembered of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub name: Name,
    /// What the operator asked last.
    pub intent: Intent,
    /// What is so.
    pub state: State,
    /// The last generation taken.
    pub generation: u64,
    /// Digest of what the latest run was started with.
    pub launch: u64,
    /// Failures and retries that count against it.
    pub history: Rare<History>,
    /// Automatic restarts so far.
    pub restarts: u64,
    /// How the latest run ended.
    pub last_end: Option<Box<End>>,
    /// The present life has to be replaced, and why.
    pub replace: Option<Box<Cause>>,
    /// No longer in the configuration.
    pub retired: bool,
    /// What the probes of the latest run have said.
    pub health: Rare<Health>,
    /// The runs beside the main one.
    pub sides: Vec<Side>,
}

/// What the operator asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intent {
    /// Nothing: `autostart` decides.
    Auto,
    /// To run.
    Up,
    /// To stay stopped.
    Down,
}

/// What counts against a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Failures since it was last stable or ended well; chooses the delay.
    pub failures_in_row: u32,
    /// When automatic restarts after failures were granted, within `retry_window`, oldest first. Empty where
    /// there is no limit.
    pub retries: Vec<Moment>,
    /// The retries were used up and it has not been stable since.
    pub exhausted: bool,
}

impl Usual for History {
    const USUAL: &'static Self = &Self { failures_in_row: 0, retries: Vec::new(), exhausted: false };
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The run.
    pub run: RunId,
    /// How its main process ended; none: it never existed.
    pub exit: Option<Exit>,
    /// Why it ended.
    pub cause: Cause,
    /// When.
    pub at: Moment,
    /// How long it had been ready, in nanoseconds; 0: never.
    pub ready_ns: u64,
}

/// A run beside the main one: a hook, or a stray life that recovery found and that is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// The run.
    pub run: RunId,
    /// What it is for.
    pub kind: RunKind,
    /// How far it got.
    pub phase: SidePhase,
}

/// How far a run beside the main one got. Each wait has its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SidePhase {
    /// Asked for, or running.
    Active {
        /// When it is killed.
        give_up_at: Moment,
    },
    /// Its main process has ended; the rest of its tree may take until its limit.
    Rest {
        /// When the rest is killed.
        give_up_at: Moment,
        /// How its main process ended.
        exit: Exit,
    },
    /// SIGKILL was sent to its tree.
    Killed {
        /// When it is sent again.
        again_at: Moment,
        /// How its main process ended, where that was before.
        exit: Option<Exit>,
    },
}

impl SidePhase {
    pub(crate) fn deadline(self) -> Moment {
        match self {
            Self::Active { give_up_at } | Self::Rest { give_up_at, .. } => give_up_at,
            Self::Killed { again_at, .. } => again_at,
        }
    }
}

impl Record {
    pub(crate) fn new(name: Name) -> Self {
        Self {
            name,
            intent: Intent::Auto,
            state: State::Stopped,
            generation: 0,
            launch: 0,
            history: Rare::default(),
            restarts: 0,
            last_end: None,
            replace: None,
            retired: false,
            health: Rare::default(),
            sides: Vec::new(),
        }
    }

    /// The earliest deadline of its state and the runs beside it.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let sides = self.sides.iter().map(|side| side.phase.deadline()).min();
        crate::state::earlier(self.state.deadline(), sides)
    }

    /// Whether any run is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.state.is_live() || !self.sides.is_empty()
    }
}

impl Snapshot {
    /// Builds the table of services anew: one that was filled in the order of its keys is half empty.
    pub fn compact(&mut self) {
        self.services = core::mem::take(&mut self.services).into_iter().collect();
    }

    /// Makes `fact` so. Facts that are part of it already change nothing.
    pub fn fold(&mut self, fact: &Fact) {
        if fact.seq <= self.seq {
            return;
        }
        self.seq = fact.seq;
        match &fact.what {
            What::Added { service, name } => {
                self.next_id = self.next_id.max(service.0 + 1);
                let generation = self.removed.remove(name).unwrap_or(self.removed_before);
                self.services.insert(*service, Record { generation, ..Record::new(name.clone()) });
            }
            What::Removed { service } => {
                if let Some(gone) = self.services.remove(service).filter(|gone| gone.generation > 0) {
                    self.remember_removed(gone);
                }
            }
            What::ConfigApplied { autostart, .. } => self.autostart = *autostart,
            What::ShutdownBegan { hurry, code } => {
                self.shutdown = Some(Shutdown { hurry: *hurry, code: *code });
            }
            What::RunBegan { automatic: true, .. } => {
                self.restarted_at.push_back(fact.at);
                if self.restarted_at.len() > RESTARTS_KEPT {
                    self.restarted_at.pop_front();
                }
            }
            What::RunBegan { .. }
            | What::Retired { .. }
            | What::IntentSet { .. }
            | What::ReplaceSet { .. }
            | What::Moved { .. }
            | What::RunEnded { .. }
            | What::HistorySet { .. }
            | What::Probed { .. }
            | What::SideMoved { .. }
            | What::SideEnded { .. }
            | What::ConfigRefused { .. }
            | What::StillAlive { .. }
            | What::Returned { .. }
            | What::Noticed { .. }
            | What::LooksForking { .. }
            | What::Stale { .. }
            | What::Adopted { .. } => {}
        }
        if let Some(record) = fact.what.service().and_then(|id| self.services.get_mut(&id)) {
            record.fold(fact.at, &fact.what);
        }
    }

    fn remember_removed(&mut self, gone: Record) {
        self.removed.insert(gone.name, gone.generation);
        if self.removed.len() > REMOVED_KEPT
            && let Some((_, generation)) = self.removed.pop_first()
        {
            self.removed_before = self.removed_before.max(generation);
        }
    }

    /// The service of that name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<ServiceId> {
        self.services.iter().find(|(_, record)| record.name == name).map(|(id, _)| *id)
    }
}

impl Record {
    fn fold(&mut self, at: Moment, what: &What) {
        match what {
            What::Retired { retired, .. } => self.retired = *retired,
            What::IntentSet { intent, .. } => self.intent = *intent,
            What::ReplaceSet { cause, .. } => self.replace = cause.clone().map(Box::new),
            What::Moved { to, .. } => self.state = to.clone(),
            What::HistorySet { history, .. } => self.history = history.clone().into(),
            What::RunBegan { run, kind, launch, automatic } => {
                self.generation = self.generation.max(run.generation);
                // One more attempt at a start that the machine had no room for is no further restart.
                let again = self.last_end.as_ref().is_some_and(|end| end.cause.is_shortage());
                self.restarts += u64::from(*automatic && !again);
                if matches!(kind, RunKind::Service | RunKind::Job) {
                    self.launch = *launch;
                    self.health = Rare::default();
                }
            }
            What::RunEnded { run, exit, cause, ready_ns } => {
                let end = End { run: *run, exit: *exit, cause: cause.clone(), at, ready_ns: *ready_ns };
                self.last_end = Some(Box::new(end));
            }
            What::Probed { health, .. } => self.health = health.clone().into(),
            What::SideMoved { run, kind, phase } => {
                let side = Side { run: *run, kind: *kind, phase: *phase };
                match self.sides.iter_mut().find(|known| known.run == *run) {
                    Some(known) => *known = side,
                    None => self.sides.push(side),
                }
            }
            What::SideEnded { run, .. } => self.sides.retain(|side| side.run != *run),
            What::Adopted { run } => self.generation = self.generation.max(run.generation),
            What::Added { .. }
            | What::Removed { .. }
            | What::ConfigApplied { .. }
            | What::ConfigRefused { .. }
            | What::ShutdownBegan { .. }
            | What::StillAlive { .. }
            | What::Returned { .. }
            | What::Noticed { .. }
            | What::LooksForking { .. }
            | What::Stale { .. } => {}
        }
    }
}
