//! Coming up where an earlier manager left off: what the journal says, joined with what the guardian kept and
//! what the kernel knows.
//!
//! A process is believed to be a run's only by the pidfd that was kept, or by pid *and* start time; whatever
//! else is in a run's cgroup, or carries its tag, is found by looking there. How a main process ended while
//! nobody looked is asked of the kernel ([`relume_os::exit`]) and of the guardian, who reaped it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use relume_core::{Event, Exit, Moment, Name, Record, Rest, RunId, RunKind, State, Survivor};
use relume_os::cgroup::RunCgroup;
use relume_os::exit::{self, ExitStatus, Usage};
use relume_os::pidfd::{PidFd, ProcessId};
use relume_os::pipes;
use relume_os::tree::{self, RunMarks};
use smallvec::SmallVec;

use super::births;
use super::capture::{Origin, Stream, StreamId};
use super::edge::Edge;
use super::journal::{Home, Kept, Remains};
use super::keeper::{self, Kept as Fds};
use super::publish::Note;
use super::ready::{Ears, look_for_line};
use super::respawn::Back;
use super::runs::{Run, Stage};
use super::spawn::Ground;
use super::translate::{number, to_exit, to_mark};
use super::trees::Tree;
use super::units::{Unit, Units};
use crate::roles::{ROLE, Role};

/// How long a child may take to execute its program. It takes microseconds, on a disk that answers.
const UNBORN: Duration = Duration::from_secs(2);

/// How long one that was killed may take to die.
const DYING: Duration = Duration::from_millis(100);

/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(1);

/// Stands for a process of which nothing is left.
const GONE: ProcessId = ProcessId { pid: 0, start_time: 0 };

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
    pub(crate) kept: Box<Kept>,
    /// The run of which the journal says just that.
    pub(crate) noted: Option<RunId>,
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
    let mut known = BTreeSet::new();
    let recorded = remains.into_iter().flat_map(|all| all.runs.iter().map(move |one| (all, one)));
    let recorded = recorded.map(|(remains, (run, kept))| {
        if !planned {
            known.insert((kept.name.clone(), run.generation));
        }
        let state = remains.snapshot.services.get(&run.service).map(|record| &record.state);
        // Of one that is being stopped, or is only starting, its main process may have ended before.
        let runs = planned && matches!(state, Some(State::Running { run: present, .. }) if present == run);
        let starting = matches!(state, Some(State::Starting { .. })).then_some(*run);
        Recorded { run: *run, runs, starting, kept, held: Held::take(fds, &kept.name, run.generation) }
    });
    let mut all = recorded_runs(ground, units, recorded.collect());
    if !planned {
        for (name, generation, process) in born(ground).into_iter().chain(held(fds)) {
            // The guardian may still hold what is over and noted.
            let open = lives(process) || is_awaited(remains, &name, generation);
            if open && known.insert((Name::from(name.as_str()), generation)) {
                all.extend(unrecorded_run(ground, units, (name, generation, Some(process)), fds));
            }
        }
    }
    let others = if planned { Vec::new() } else { unrecorded(ground, remains.is_none()) };
    for (name, generation) in others {
        if known.insert((Name::from(name.as_str()), generation)) {
            all.extend(unrecorded_run(ground, units, (name, generation, None), fds));
        }
    }
    // Of starts that never became a process.
    for name in fds.keys().filter(|name| keeper::is_of_a_run(name)) {
        ground.keeper.forget(name);
    }
    all
}

/// What the guardian has kept of one run.
#[derive(Default)]
struct Held {
    process: Option<PidFd>,
    output: Vec<OwnedFd>,
    ears: Vec<OwnedFd>,
}

impl Held {
    fn take(fds: &mut Fds, name: &str, generation: u64) -> Self {
        let process = fds.remove(&keeper::process_name(name, generation));
        Self {
            process: process.and_then(|fds| fds.into_iter().next()).map(PidFd::from_owned),
            output: fds.remove(&keeper::output_name(name, generation)).unwrap_or_default(),
            ears: fds.remove(&keeper::ears_name(name, generation)).unwrap_or_default(),
        }
    }
}

/// A run that the journal has.
struct Recorded<'a> {
    run: RunId,
    /// It was running a moment ago, and its process is believed by what was kept.
    runs: bool,
    /// The run, if its start may wait for a line of its output.
    starting: Option<RunId>,
    kept: &'a Kept,
    held: Held,
}

/// So many are worth a thread that shares in the work, which costs as much as ten of them.
const CROWD: usize = 64;

/// Each is asked of the kernel in a dozen calls, and nobody supervises meanwhile: where there are many, two threads ask.
fn recorded_runs(ground: &Ground, units: &Units, mut all: Vec<Recorded<'_>>) -> Vec<Found> {
    let find = |one: Recorded<'_>| {
        let (run, kept) = (one.run, one.kept);
        let found =
            recorded_run(ground, units, (run.generation, one.runs, one.starting), kept.clone(), one.held);
        let noted = Some(run).filter(|_| *found.kept == *kept);
        Found { noted, ..found }
    };
    let rest = if all.len() < CROWD { Vec::new() } else { all.split_off(all.len() / 2) };
    let both = |all: Vec<Recorded<'_>>| all.into_iter().map(find).collect::<Vec<_>>();
    if rest.is_empty() {
        return both(all);
    }
    let rest = Mutex::new(rest);
    let take = || std::mem::take(&mut *rest.lock().unwrap_or_else(PoisonError::into_inner));
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("find".into());
        let other = thread.spawn_scoped(scope, || both(take()));
        let mut found = both(all);
        found.extend(match other {
            Ok(other) => other.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // No thread to be had: this one does it all.
            Err(_) => both(take()),
        });
        found
    })
}

/// `runs` and `starting`: as of [`Recorded`].
fn recorded_run(
    ground: &Ground,
    units: &Units,
    (generation, runs, starting): (u64, bool, Option<RunId>),
    kept: Kept,
    held: Held,
) -> Found {
    let mut kept = Box::new(kept);
    let process = ProcessId { pid: kept.pid, start_time: kept.start_time };
    let Held { process: held, output, ears: kept_ears } = held;
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
    if let Tree::Cgroup(cgroup) = &tree {
        kept.home = Home::Cgroup(Arc::clone(cgroup.path()));
    }
    let ended = ended.map(|exit| for_want_of_memory(exit, &tree));
    let alive = ended.is_some() && anybody(&tree);
    let rest = if ended.is_none() || alive { Rest::Alive } else { Rest::Gone };
    let stage = match (ended, pidfd) {
        (None, Some(pidfd)) => Some(Stage::Main { process, pidfd }),
        _ if alive => Some(Stage::Rest { members: BTreeMap::new() }),
        _ => None,
    };
    let streams = reattach(ground, units, (generation, starting), &kept, output);
    if let Some(exit) = ended {
        streams.iter().for_each(|id| ground.capture.mark(*id, to_mark(exit)));
    }
    if stage.is_none() {
        streams.iter().for_each(|id| ground.capture.finish(*id));
    }
    let unit = unit_of(units, &kept.name);
    // The same text, which is held once.
    kept.name = unit.config.spec.name.clone();
    let run = stage.map(|stage| Run::new(tree, streams.into(), unit, stage));
    let (name, kind) = (kept.name.clone(), kept.kind);
    let had = kept_ears.len();
    let ears = kept.ears.as_ref().filter(|_| run.is_some()).map(|ears| Ears::again(ears, kept_ears));
    if let Some(ears) = ears.as_ref().filter(|ears| ears.fds().len() > had) {
        ground.keeper.keep(&keeper::ears_name(&kept.name, generation), &ears.fds());
    }
    let survivor = Survivor { name, generation, kind, exit: ended, rest };
    Found { survivor, usage, run, kept, noted: None, ears }
}

fn lives(process: ProcessId) -> bool {
    let stat = relume_os::proc::stat(process.pid).ok().flatten();
    stat.is_some_and(|stat| stat.start_time == process.start_time && !stat.is_zombie())
}

/// Whether the journal has the run as one that may have a process.
fn is_awaited(remains: Option<&Remains>, name: &str, generation: u64) -> bool {
    let of_run = |run: RunId| run.generation == generation;
    remains.is_some_and(|remains| {
        remains.snapshot.services.values().any(|record| {
            let own =
                record.state.run().is_some_and(of_run) || record.sides.iter().any(|side| of_run(side.run));
            record.name == name && own
        })
    })
}

/// Starts that were under way when the manager died, and have come to a process.
fn born(ground: &Ground) -> Vec<(String, u64, ProcessId)> {
    let all = births::left(&ground.runtime_dir).into_iter();
    let known = all.filter_map(|birth| {
        let ended =
            || ground.keeper.ended().iter().map(|ended| ended.process).find(|process| birth.is(*process));
        let process = birth.process().or_else(ended).unwrap_or(birth.unseen());
        // One in a cgroup is found there and ended there; without any it must be known what it is before another is started.
        let lost = ground.cgroups.is_none() && !is_itself(process);
        (!lost).then_some((birth.name, birth.generation, process))
    });
    known.collect()
}

/// Whether the child has executed its program, or ended. Until then it is a part of the dead manager, with its memory and its
/// environment. One that hangs there is killed: it will not come to life when the disk answers.
fn is_itself(process: ProcessId) -> bool {
    let unborn = || {
        let role = relume_os::proc::environ(process.pid, ROLE);
        role.is_some_and(|role| role == Role::Manager.word().as_bytes()) && process.exists().unwrap_or(false)
    };
    let end = Instant::now() + UNBORN;
    while unborn() {
        if Instant::now() >= end {
            let pidfd = process.open().ok().flatten();
            // What does not even die now dies before it can execute anything.
            let _killed =
                pidfd.map(|pidfd| pidfd.send_signal(number::KILL).and_then(|_| pidfd.wait_ended(DYING)));
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}

/// Processes that the guardian keeps: it was told of them before the journal was.
fn held(fds: &Fds) -> Vec<(String, u64, ProcessId)> {
    let named = fds.iter().filter_map(|(kept, fds)| {
        let (name, generation) = keeper::process(kept)?;
        let pidfd = PidFd::from_owned(fds.first()?.try_clone().ok()?);
        // None: it has ended, and somebody has reaped it.
        let process = pidfd.pid().ok()?.and_then(|pid| ProcessId::of(pid).ok()?);
        Some((name.to_owned(), generation, process.unwrap_or(GONE)))
    });
    named.collect()
}

/// A run of which the journal knows no process: the manager died between starting and noting it. `main` is its first
/// process, where that is known.
fn unrecorded_run(
    ground: &Ground,
    units: &Units,
    (name, generation, main): (String, u64, Option<ProcessId>),
    fds: &mut Fds,
) -> Option<Found> {
    let tag = ground.tag(&name, generation);
    let blank = Kept {
        name: name.as_str().into(),
        kind: RunKind::Service,
        pid: 0,
        start_time: 0,
        tag: tag.into(),
        pipes: SmallVec::new(),
        began: Edge::now().0,
        ears: None,
        home: Home::Unknown,
    };
    let tree = tree_of(ground, &blank, generation, GONE);
    let eldest = || members(&tree).into_iter().min_by_key(|process| (process.start_time, process.pid));
    let main = main.or_else(eldest);
    let Some(main) = main else {
        if let Tree::Cgroup(cgroup) = &tree {
            let _litter = cgroup.remove();
        }
        return None;
    };
    let kept = Kept { pid: main.pid, start_time: main.start_time, ..blank };
    let held = Held::take(fds, &name, generation);
    Some(recorded_run(ground, units, (generation, false, None), kept, held))
}

/// Runs that the kernel shows: cgroups, and tags where there are none, or where nobody knows whether all runs were started with
/// them (`forgotten`).
fn unrecorded(ground: &Ground, forgotten: bool) -> Vec<(String, u64)> {
    let cgroups = ground.cgroups.as_ref().map(|cgroups| cgroups.root.runs().unwrap_or_default());
    match cgroups {
        Some(runs) if !forgotten => runs,
        runs => runs.into_iter().flatten().chain(tagged(ground)).collect(),
    }
}

fn tagged(ground: &Ground) -> BTreeSet<(String, u64)> {
    let own = format!("{}/", ground.id);
    let tags = relume_os::proc::all().unwrap_or_default().into_iter().filter(|stat| !stat.is_zombie());
    let tags = tags.filter_map(|stat| relume_os::proc::environ(stat.pid, super::trees::TAG));
    let named = |tag: Vec<u8>| {
        let tag = String::from_utf8(tag).ok()?;
        let (name, generation) = tag.strip_prefix(&own)?.rsplit_once('/')?;
        Some((name.to_owned(), generation.parse().ok()?))
    };
    tags.filter_map(named).collect()
}

fn tree_of(ground: &Ground, kept: &Kept, generation: u64, leader: ProcessId) -> Tree {
    let cgroup = match &kept.home {
        Home::Cgroup(path) => Some(RunCgroup::at(Arc::clone(path))),
        Home::Open => None,
        Home::Unknown => {
            let likely = ground.cgroups.as_ref().map(|cgroups| cgroups.root.run(&kept.name, generation));
            likely.filter(|cgroup| cgroup.path().is_dir())
        }
    };
    // One that cannot be asked (another mount, other rights) would look empty for ever.
    let can_be_asked = |cgroup: &RunCgroup| ground.cgroups.is_some() || cgroup.populated().is_ok();
    match cgroup.filter(can_be_asked) {
        Some(cgroup) => Tree::Cgroup(cgroup),
        None if kept.tag.is_empty() => Tree::Marked { leader, tag: ground.tag(&kept.name, generation) },
        None => Tree::Marked { leader, tag: kept.tag.to_string() },
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
    held: Vec<OwnedFd>,
) -> Vec<StreamId> {
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
        let Found { run, kept, noted, ears, usage, survivor: _ } = found;
        if let Some(usage) = usage {
            self.publisher.send(Note::Used { run: id, usage });
        }
        let Some(run) = run else {
            // Nothing of it lives: what the guardian kept of it can go.
            self.kept.insert(id, kept);
            return self.note_gone(id);
        };
        let began = Moment(kept.began);
        if noted == Some(id) {
            self.kept.insert(id, kept);
        } else {
            self.note_began(id, kept);
        }
        let main = matches!(run.stage, Stage::Main { .. });
        if let Stage::Main { process, pidfd } = &run.stage {
            self.watch_process(id, None, pidfd);
            self.publisher.send(Note::Process {
                run: id,
                pid: process.pid,
                began,
                cgroup: run.tree.cgroup(),
            });
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
