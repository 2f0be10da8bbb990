//! The supervise thread's side of the world, put together.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use relume_os::epoll::{Epoll, Inotify, Timer};
use relume_os::signals::SignalFd;

use crate::manager::capture::Capture;
use crate::manager::edge::{Edge, FIRST_PROCESS};
use crate::manager::gate::Gate;
use crate::manager::inbox::Inbox;
use crate::manager::journal::Journal;
use crate::manager::keeper::Keeper;
use crate::manager::operations::Operations;
use crate::manager::orphans::Orphans;
use crate::manager::parent_death::Returned;
use crate::manager::publish::Publisher;
use crate::manager::ready::{Prober, Readying};
use crate::manager::reload::{Reading, Source};
use crate::manager::respawn::{Back, Respawning};
use crate::manager::sampling::Sampler;
use crate::manager::schedule::{Clockwork, SCHEDULE_FILE, Times};
use crate::manager::spawn::{Ground, Spawning};
use crate::manager::translate::number;
use crate::manager::trees::Trees;
use crate::manager::units::Units;

use super::Trouble;

/// Signals that are read as data by the supervise thread. SIGTSTP is among them because a stopped supervisor
/// supervises nothing: Ctrl+Z does not stop relume.
pub(super) const HEARD: &[i32] = &[
    number::TERM,
    number::INT,
    number::HUP,
    number::QUIT,
    number::USR1,
    number::CHLD,
    SIGTSTP,
    // So that tests can see what a panic leads to.
    #[cfg(debug_assertions)]
    number::USR2,
];
pub(super) const SIGTSTP: i32 = 20;

/// What the edge is made of.
pub(super) struct Parts {
    pub(super) inbox: Arc<Inbox>,
    pub(super) capture: Arc<Capture>,
    pub(super) publisher: Publisher,
    pub(super) units: Arc<Units>,
    pub(super) source: Arc<Source>,
    pub(super) net: tokio::runtime::Handle,
    pub(super) ground: Ground,
    pub(super) keeper: Arc<Keeper>,
    pub(super) journal: Journal,
    pub(super) respawn: Respawning,
    pub(super) back: Option<Back>,
    /// The journal has all that this manager begins with.
    pub(super) noted: bool,
    pub(super) sampler: Sampler,
    pub(super) times: Times,
    pub(super) gate: Gate,
}

pub(super) fn edge(parts: Parts) -> Result<Edge, Trouble> {
    let kept = (parts.ground.archive.clone(), parts.ground.runtime_dir.join(SCHEDULE_FILE));
    let clockwork = Clockwork::start(Arc::clone(&parts.inbox), kept, (parts.times, parts.gate))?;
    clockwork.set(&parts.units);
    parts.sampler.watch(parts.units.has_memory_bounds());
    Ok(Edge {
        epoll: Epoll::new()?,
        signals: SignalFd::new(HEARD)?,
        timer: Timer::new()?,
        armed: None,
        cgroup_events: Inotify::new()?,
        trees: Trees::start(Arc::clone(&parts.inbox))?,
        ready_runs: Readying::new(
            Prober::new(parts.net, Arc::clone(&parts.inbox)),
            Arc::clone(&parts.ground.stored),
        ),
        listening: Arc::clone(&parts.ground.listening),
        spawning: Spawning::start(parts.ground)?,
        attention: crate::manager::attention::Attention::default(),
        aftermath: crate::manager::aftermath::Aftermath::default(),
        witness: crate::manager::oom::Witness::default(),
        inbox: parts.inbox,
        news: VecDeque::new(),
        ready: Vec::new(),
        runs: HashMap::new(),
        watched: HashMap::new(),
        next_token: FIRST_PROCESS,
        dossiers: HashMap::new(),
        emptying: HashMap::new(),
        orphans: Orphans::default(),
        spawns_under_way: 0,
        reaped: VecDeque::new(),
        keeper: parts.keeper,
        to_forget: Vec::new(),
        journal: parts.journal,
        kept: BTreeMap::new(),
        operations: Operations::default(),
        checkpoint_due: !parts.noted,
        untold: None,
        checkpoint_again: None,
        leave_running: false,
        open: None,
        capture: parts.capture,
        publisher: parts.publisher,
        autostart: true,
        units: parts.units,
        asked: Vec::new(),
        end_asked: 0,
        source: parts.source,
        respawn: parts.respawn,
        returned: parts.back.as_ref().map(|back| Returned { at: Edge::now(), planned: back.is_planned() }),
        back: parts.back,
        predecessor: None,
        to_weigh: Vec::new(),
        clockwork,
        sampler: parts.sampler,
        due: Vec::new(),
        queued: BTreeSet::new(),
        reading: Reading::default(),
        events: VecDeque::new(),
    })
}
