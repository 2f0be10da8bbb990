//! What the core has decided or noticed, final and in the past tense.
//!
//! One fact has many renderings: journal, log line, status row, event stream. Every change to a [`Snapshot`]
//! is made by folding a fact, in the core itself too, so checkpoint and facts can never disagree.
//!
//! [`Snapshot`]: crate::Snapshot

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::cause::{Away, Cause, Exit, SpawnError};
use crate::health::{Check, Health};
use crate::id::{RunId, RunKind, ServiceId};
use crate::moment::Moment;
use crate::name::Name;
use crate::record::{History, Intent, SidePhase};
use crate::state::State;

/// One thing that is so from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Counts up from 1 without a gap.
    pub seq: u64,
    /// When.
    pub at: Moment,
    /// What.
    pub what: What,
}

/// The kinds of facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A service is known from now on.
    Added {
        /// Its id.
        service: ServiceId,
        /// Its name.
        name: Name,
    },
    /// A service left the configuration; it is forgotten once nothing of it runs.
    Retired {
        /// Which; `false` when it came back before it was forgotten.
        service: ServiceId,
        /// Whether it is retired now.
        retired: bool,
    },
    /// A service is forgotten.
    Removed {
        /// Its last id.
        service: ServiceId,
    },
    /// What the operator wants of a service.
    IntentSet {
        /// Which.
        service: ServiceId,
        /// What.
        intent: Intent,
    },
    /// The present life of a service has to be replaced, or no longer.
    ReplaceSet {
        /// Which.
        service: ServiceId,
        /// Why.
        cause: Option<Cause>,
    },
    /// A service moved from one state to another.
    Moved {
        /// Which.
        service: ServiceId,
        /// Where it was.
        from: State,
        /// Where it is.
        to: State,
    },
    /// A generation was taken for a run.
    RunBegan {
        /// The run.
        run: RunId,
        /// What it is for.
        kind: RunKind,
        /// Digest of what the service is started with.
        launch: u64,
        /// Whether it is an automatic restart, which `restarts` and `respawn_rate` count.
        automatic: bool,
    },
    /// The main run of a service is over: its tree is gone. Told exactly once for each run.
    RunEnded {
        /// The run.
        run: RunId,
        /// How its main process ended; none: it never existed.
        exit: Option<Exit>,
        /// Why it ended.
        cause: Cause,
        /// How long it had been ready, in nanoseconds; 0: never.
        ready_ns: u64,
    },
    /// The failures and retries that count against a service.
    HistorySet {
        /// Which.
        service: ServiceId,
        /// The whole of it.
        history: History,
    },
    /// Probes have made or changed a mind, or are on their way to it.
    Probed {
        /// The run that was asked.
        run: RunId,
        /// What was asked.
        check: Check,
        /// Why it was answered badly; none: it was answered well.
        failure: Option<String>,
        /// All that the answers have come to.
        health: Health,
    },
    /// A run beside the main one moved on.
    SideMoved {
        /// The run.
        run: RunId,
        /// What it is for.
        kind: RunKind,
        /// How far it got.
        phase: SidePhase,
    },
    /// A run beside the main one is over: nothing of its tree is left.
    SideEnded {
        /// The run.
        run: RunId,
        /// What it was for.
        kind: RunKind,
        /// How it ended; none: it could not be started, was cancelled or ran into its time limit.
        exit: Option<Exit>,
        /// Why it could not be started.
        error: Option<SpawnError>,
    },
    /// A new configuration holds.
    ConfigApplied {
        /// Services that are new.
        added: u32,
        /// Services whose launch changed.
        changed: u32,
        /// Services that are gone.
        removed: u32,
        /// Whether services with `autostart` start without being asked for.
        autostart: bool,
    },
    /// A configuration was refused; the one before still holds.
    ConfigRefused {
        /// Why.
        problem: String,
    },
    /// Everything is being stopped.
    ShutdownBegan {
        /// With SIGKILL, in no order.
        hurry: bool,
        /// The exit code to leave with.
        code: i32,
    },
    /// relume itself is back: as planned, or after a death.
    Returned {
        /// Why it had been away.
        why: Away,
        /// The same for people, in a word or two.
        detail: String,
        /// How long nobody supervised, in microseconds; none: nobody knows.
        took_us: Option<u64>,
    },
    /// SIGKILL has not ended a run within the time it should take.
    StillAlive {
        /// The run.
        run: RunId,
    },
    /// A `simple` service put itself in the background: its first process ended well, its tree lives.
    LooksForking {
        /// The run.
        run: RunId,
    },
    /// Something that people should know of, and that changes nothing.
    Noticed {
        /// The service it is about, if it is about one.
        service: Option<ServiceId>,
        /// A sentence.
        text: String,
    },
    /// News of a run that is over or was never begun.
    Stale {
        /// The run it spoke of.
        run: RunId,
    },
    /// A run that nobody had recorded was found alive at recovery.
    Adopted {
        /// The run.
        run: RunId,
    },
}

impl What {
    /// The service it is about.
    #[must_use]
    pub fn service(&self) -> Option<ServiceId> {
        match self {
            Self::Added { service, .. }
            | Self::Retired { service, .. }
            | Self::Removed { service }
            | Self::IntentSet { service, .. }
            | Self::ReplaceSet { service, .. }
            | Self::Moved { service, .. }
            | Self::HistorySet { service, .. } => Some(*service),
            Self::RunBegan { run, .. }
            | Self::RunEnded { run, .. }
            | Self::Probed { run, .. }
            | Self::SideMoved { run, .. }
            | Self::SideEnded { run, .. }
            | Self::StillAlive { run }
            | Self::LooksForking { run }
            | Self::Stale { run }
            | Self::Adopted { run } => Some(run.service),
            Self::Noticed { service, .. } => *service,
            Self::ConfigApplied { .. }
            | Self::ConfigRefused { .. }
            | Self::ShutdownBegan { .. }
            | Self::Returned { .. } => None,
        }
    }
}
