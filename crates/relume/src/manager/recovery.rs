//! Coming up where an earlier manager left off: what the journal says, joined with what the guardian kept and
//! what the kernel knows.
//!
//! A process is believed to be a run's only by the pidfd that was kept, or by pid *and* start time; whatever
//! else is in a run's cgroup, or carries its tag, is found by looking there. How a main process ended while
//! nobody looked is asked of the kernel ([`relume_os::exit`]) and of the guardian, who reaped it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use relume_core::{Event, Exit, Moment, Record, Rest, RunId, RunKind, State, Survivor};
use relume_os::exit::{self, ExitStatus, Usage};
use relume_os::pidfd::{PidFd, ProcessId};
use relume_os::pipes;
use relume_os::tree::{self, RunMarks};

use super::capture::{Origin, Stream, StreamId};
use super::edge::Edge;
use super::journal::{Kept, Remains};
use super::keeper::{self, Kept as Fds};
use super::publish::Note;
use super::ready::{Ears, look_for_line};
use super::respawn::Back;
use super::runs::{Run, Stage};
use super::spawn::Ground;
use super::translate::{number, to_exit, to_mark};
use super::trees::Tree;
use super::units::{Unit, Units};

/// One run that was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// As the core is told.
    pub(crate) survivor: Survivor,
    /// What its main process has used, if that has ended.
    pub(crate) usage: Option<Usage>,
    /// As it is watched from now on; none: nothing of it lives.
    pub(crate) run: Option<Run>,
    /// As the journal goes on to say.
    pub(crate) kept: Kept,
    /// Where it is heard.
    pub(crate) ears: Option<Ears>,
}

/// Finds every run that an earlier manager of this place had. After a planned respawn that was this very process, between two events and with no
/// start under way. Then the journal is complete, and nobody else can have reaped a process of ours: what was kept is believed, and
/// whether it lives is seen by the first wait.
pub(crate) fn find(
    ground: &Ground,
    units: &Units,
    (remains, back): (Option<&Remains>, Option<&Back>),
    fds: &mut Fds,
) -> Vec<Found> {
    let planned = back.is_some_and(Back::is_planned);
    let mut all = Vec::new();
    let mut known = BTreeSet::new();
    let recorded = remains.into_iter().flat_map(|all| all.runs.iter().map(move |one| (all, one)));
    for (remains, (run, kept)) in recorded {
        if !planned {
            known.insert((kept.name.clone(), run.generation));
        }
        let state = remains.snapshot.services.get(&run.service).map(|record| &record.state);
        // Of one that is being stopped, or is only starting, its main process may have ended before.
        let runs = planned && matches!(state, Some(State::Running { run: present, .. }) if present == run);
        let starting = matches!(state, Some(State::Starting { .. })).then_some(*run);
        all.push(recorded_run(ground, units, (run.generation, runs, starting), kept.clone(), fds));
    }
    let others = if planned { Vec::new() } else { unrecorded(ground) };
    for (name, generation) in others {
        if !known.contains(&(name.clone(), generation)) {
            all.extend(unrecorded_run(ground, units, name, generation, fds));
        }
    }
    // Of starts that never became a process.
    for name in fds.keys().filter(|name| keeper::is_of_a_run(name)) {
        ground.keeper.forget(name);
    }
    all
}

/// `runs`: it was running a moment ago, and its process is believed by what was kept. `starting`: the run is one whose start may wait
/// for a line of its output.
fn recorded_run(
    ground: &Ground,
    units: &Units,
    (generation, runs, starting): (u64, bool, Option<RunId>),
    kept: Kept,
    fds: &mut Fds,
) -> Found {
    let process = ProcessId { pid: kept.pid, start_time: kept.start_time };
    let held = fds.remove(&keeper::process_name(&kept.name, generation));
    let held = held.and_then(|fds| fds.into_iter().next()).map(PidFd::from_owned);
    // Where pidfds cannot be told apart, one that names another process has taken the place of ours.
    let trusted = runs && held.is_some();
    let held =
        held.filter(|held| trusted || held.pid().is_ok_and(|pid| pid.is_none_or(|pid| pid == process.pid)));
    let pidfd = held.or_else(|| {
        let pidfd = process.open().ok()??;
        ground.keeper.keep(&keeper::process_name(&kept.name, generation), &[pidfd.as_fd()]);
        Some(pidfd)
    });
    let (ended, usage) = match &pidfd {
        Some(_) if trusted => (None, None),
        Some(pidfd) => exit::peek_with_usage(pidfd, process.pid).unwrap_or(None).unzip(),
        None => (Some(ExitStatus::Unknown), None),
    };
    let ended = ended.map(to_exit);
    // Whoever reaped it has told, and where the kernel has no memory for it that is all there is.
    let told = ground.keeper.ended().iter().find(|ended| ended.process == process);
    let usage = usage.flatten().or(told.map(|told| told.usage));
    let ended = match (ended, told) {
        (Some(Exit::Unknown), Some(told)) => Some(to_exit(told.status)),
        (ended, _) => ended,
    };
    let tree = tree_of(ground, &kept, generation, process);
    let ended = ended.map(|exit| for_want_of_memory(exit, &tree));
    let alive = ended.is_some() && anybody(&tree);
    let rest = if ended.is_none() || alive { Rest::Alive } else { Rest::Gone };
    let stage = match (ended, pidfd) {
        (None, Some(pidfd)) => Some(Stage::Main { process, pidfd }),
        _ if alive => Some(Stage::Rest { members: BTreeMap::new() }),
        _ => None,
    };
    let streams = reattach(ground, units, (generation, starting), &kept, fds);
    if let Some(exit) = ended {
        streams.iter().for_each(|id| ground.capture.mark(*id, to_mark(exit)));
    }
    if stage.is_none() {
        streams.iter().for_each(|id| ground.capture.finish(*id));
    }
    let unit = unit_of(units, &kept.name);
    let run = stage.map(|stage| Run { tree, streams, unit, stage, cancelled: Arc::default(), killed: false });
    let (name, kind) = (kept.name.clone(), kept.kind);
    let held = fds.remove(&keeper::ears_name(&kept.name, generation)).unwrap_or_default();
    let had = held.len();
    let ears = kept.ears.as_ref().filter(|_| run.is_some()).map(|ears| Ears::again(ears, held));
    if let Some(ears) = ears.as_ref().filter(|ears| ears.fds().len() > had) {
        ground.keeper.keep(&keeper::ears_name(&kept.name, generation), &ears.fds());
    }
    Found { survivor: Survivor { name, generation, kind, exit: ended, rest }, usage, run, kept, ears }
}

/// A run of which the journal knows no process: the manager died between starting and noting it.
fn unrecorded_run(
    ground: &Ground,
    units: &Units,
    name: String,
    generation: u64,
    fds: &mut Fds,
) -> Option<Found> {
    let tag = ground.tag(&name, generation);
    let nobody = ProcessId { pid: 0, start_time: 0 };
    let blank = Kept {
        name: name.clone(),
        kind: RunKind::Service,
        pid: 0,
        start_time: 0,
        tag,
        pipes: Vec::new(),
        began: Edge::now().0,
        ears: None,
    };
    let tree = tree_of(ground, &blank, generation, nobody);
    let main = members(&tree).into_iter().min_by_key(|process| (process.start_time, process.pid));
    let Some(main) = main else {
        if let Tree::Cgroup(cgroup) = &tree {
            let _litter = cgroup.remove();
        }
        return None;
    };
    let kept = Kept { pid: main.pid, start_time: main.start_time, ..blank };
    Some(recorded_run(ground, units, (generation, false, None), kept, fds))
}

/// Runs that the kernel shows: cgroups, or tags where there are none.
fn unrecorded(ground: &Ground) -> Vec<(String, u64)> {
    if let Some(cgroups) = &ground.cgroups {
        return cgroups.root.runs().unwrap_or_default();
    }
    let own = format!("{}/", ground.id);
    let tags = relume_os::proc::all().unwrap_or_default().into_iter().filter(|stat| !stat.is_zombie());
    let tags = tags.filter_map(|stat| relume_os::proc::environ(stat.pid, super::trees::TAG));
    let named = |tag: Vec<u8>| {
        let tag = String::from_utf8(tag).ok()?;
        let (name, generation) = tag.strip_prefix(&own)?.rsplit_once('/')?;
        Some((name.to_owned(), generation.parse().ok()?))
    };
    let runs: BTreeSet<(String, u64)> = tags.filter_map(named).collect();
    runs.into_iter().collect()
}

fn tree_of(ground: &Ground, kept: &Kept, generation: u64, leader: ProcessId) -> Tree {
    match &ground.cgroups {
        Some(cgroups) => Tree::Cgroup(cgroups.root.run(&kept.name, generation)),
        None => Tree::Marked { leader, tag: kept.tag.clone() },
    }
}

/// What happened while nobody looked is still counted in the run's own cgroup.
fn for_want_of_memory(exit: Exit, tree: &Tree) -> Exit {
    match (exit, tree) {
        (Exit::Signal { number: number::KILL, .. }, Tree::Cgroup(cgroup))
            if cgroup.oom_kills().is_some_and(|kills| kills > 0) =>
        {
            Exit::OutOfMemory { certain: true }
        }
        (exit, _) => exit,
    }
}

fn anybody(tree: &Tree) -> bool {
    match tree {
        Tree::Cgroup(cgroup) => cgroup.populated().unwrap_or(false),
        Tree::Marked { .. } => !members(tree).is_empty(),
    }
}

fn members(tree: &Tree) -> Vec<ProcessId> {
    match tree {
        Tree::Cgroup(cgroup) => {
            let pids = cgroup.procs().unwrap_or_default();
            pids.into_iter().filter_map(|pid| ProcessId::of(pid).ok()?).collect()
        }
        Tree::Marked { leader, tag } => {
            let leader = Some(*leader).filter(|leader| leader.pid > 0);
            let marks = RunMarks { leader, tag: Some((super::trees::TAG, tag)), adopters: &[] };
            tree::members(&marks).unwrap_or_default()
        }
    }
}

/// The read ends of a run's output go to capture again: those that were kept, or, where both halves had died,
/// the service's own pipes opened through its descriptors.
///
/// The line that a start waits for is looked for from the first byte: what stands in the pipe is read at once.
fn reattach(
    ground: &Ground,
    units: &Units,
    (generation, starting): (u64, Option<RunId>),
    kept: &Kept,
    fds: &mut Fds,
) -> Vec<StreamId> {
    let held = fds.remove(&keeper::output_name(&kept.name, generation)).unwrap_or_default();
    let ends: Vec<OwnedFd> = if held.is_empty() {
        let ends = reopen(kept);
        let borrowed: Vec<BorrowedFd<'_>> = ends.iter().map(AsFd::as_fd).collect();
        ground.keeper.keep(&keeper::output_name(&kept.name, generation), &borrowed);
        ends
    } else {
        held
    };
    let unit = unit_of(units, &kept.name);
    let targets = [Some(&unit.out), unit.err.as_ref()];
    let mut streams = Vec::new();
    for (pipe, log) in ends.into_iter().zip(targets.into_iter().flatten()) {
        let id = StreamId(ground.next_stream.fetch_add(1, Ordering::Relaxed));
        let origin = Origin::of(generation, unit.err.as_ref().is_some_and(|err| Arc::ptr_eq(err, log)));
        let stream = Stream { id, log: Arc::clone(log), pipe, who: kept.name.clone(), origin, begins: false };
        let look = starting.and_then(|run| look_for_line(&unit, run, &ground.inbox));
        if ground.capture.attach_looking(stream, look).is_ok() {
            streams.push(id);
        }
    }
    streams
}

fn reopen(kept: &Kept) -> Vec<OwnedFd> {
    // The first pipe is stdout, the second a stderr of its own.
    let numbers = [1, 2];
    let pipes = kept.pipes.iter().zip(numbers);
    pipes.filter_map(|((dev, ino), number)| pipes::reopen_of(kept.pid, number, (*dev, *ino)).ok()).collect()
}

/// The configured service, or one that only says where its output went: it is about to be ended.
fn unit_of(units: &Units, name: &str) -> Arc<Unit> {
    units.get(name).cloned().unwrap_or_else(|| Arc::new(Unit::unconfigured(name, &units.manager.log_dir)))
}

/// Where a run that was found stands in the core, once the core has given its service an id.
pub(crate) fn run_id(service: relume_core::ServiceId, survivor: &Survivor) -> RunId {
    RunId { service, generation: survivor.generation }
}

impl Edge {
    /// Watches a run that was found from now on.
    pub(crate) fn adopt(&mut self, id: RunId, found: Found, record: Option<&Record>) {
        let Found { run, kept, ears, usage, survivor: _ } = found;
        if let Some(usage) = usage {
            self.publisher.send(Note::Used { run: id, usage });
        }
        let Some(run) = run else {
            // Nothing of it lives: what the guardian kept of it can go.
            self.kept.insert(id, kept);
            return self.note_gone(id);
        };
        let began = Moment(kept.began);
        self.note_began(id, kept);
        let main = matches!(run.stage, Stage::Main { .. });
        if let Stage::Main { process, pidfd } = &run.stage {
            self.watch_process(id, None, pidfd);
            self.publisher.send(Note::Process { run: id, pid: process.pid, began });
        }
        let tree = run.tree.clone();
        self.runs.insert(id, Box::new(run));
        if let Some(ears) = ears {
            self.listen_again(id, ears, record);
        }
        if main {
            return;
        }
        match &tree {
            Tree::Marked { .. } => self.trees.walk(id, &tree),
            Tree::Cgroup(_) => {
                if !self.rest_is_alive(id) {
                    self.events.push_back(Event::Emptied { run: id });
                }
            }
        }
    }
}
