//! What takes a walk through /proc or the cgroup tree, on a thread of its own.
//!
//! With cgroup v2 the kernel says when a tree is empty and kills it in one go; all that is left for this
//! thread is to remove directories. Without it a tree is found by walking: by descent, session and tag.
//!
//! Two threads: what signals and kills waits for ends, and a process that hangs in the kernel does not end; what
//! looks, waits for nothing, because the end of every run is told only after a look at what it has left.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use relume_core::RunId;
use relume_os::cgroup::{Removal, RunCgroup};
use relume_os::pidfd::{PidFd, ProcessId};
use relume_os::tree::{self, RunMarks};

use super::inbox::{Inbox, News};
use super::keeper::Keeper;
use super::listening::Listening;

/// The tree of one run.
#[derive(Debug, Clone)]
pub(crate) enum Tree {
    /// All that is in this cgroup.
    Cgroup(RunCgroup),
    /// All that descends from the leader, is in its session or carries the tag.
    Marked {
        /// The run's first process.
        leader: ProcessId,
        /// The value of `RELUME_RUN`.
        tag: String,
    },
}

impl Tree {
    /// The cgroup it is, if it is one.
    pub(crate) fn cgroup(&self) -> Option<RunCgroup> {
        match self {
            Self::Cgroup(cgroup) => Some(cgroup.clone()),
            Self::Marked { .. } => None,
        }
    }
}

/// Something to do about a tree.
#[derive(Debug)]
enum Errand {
    /// Say who is left of it, as `News::Walked`.
    Walk(RunId, Tree),
    /// Say whether this process is one of its own, as `News::Claimed`.
    Claim(RunId, Tree, u32),
    /// Remove the empty cgroup.
    Remove(RunCgroup),
    /// Remove the name of a socket that nobody holds any more.
    Forget(PathBuf),
    /// Close the listening sockets that only this service had, up to this generation.
    Release(Arc<Listening>, Arc<Keeper>, String, u64),
    /// Nothing more will come.
    End,
}

/// Something to do to a tree.
#[derive(Debug)]
enum Blow {
    /// Send each of its processes a signal.
    Signal(RunId, Tree, i32),
    /// Kill it, with no way to fork past it.
    Kill(RunId, Tree),
    /// Nothing more will come.
    End,
}

/// The threads' queues. Bounded by the number of runs: each has at most a few errands under way.
pub(crate) struct Trees {
    /// What looks and tidies up.
    errands: Sender<Errand>,
    /// What signals and kills.
    blows: Sender<Blow>,
    inbox: Arc<Inbox>,
    threads: [JoinHandle<()>; 2],
}

/// The variable that marks every process of a run.
pub(crate) const TAG: &str = "RELUME_RUN";

/// How often a pid file is looked for while a `forking` service starts. Programs write it at about the time
/// at which their first process ends.
const PID_FILE_LOOK: Duration = Duration::from_millis(20);

impl Trees {
    pub(crate) fn start(inbox: Arc<Inbox>) -> std::io::Result<Self> {
        let ((errands, queue), (blows, others)) = (channel(), channel());
        let (own, also) = (Arc::clone(&inbox), Arc::clone(&inbox));
        let looks = std::thread::Builder::new().name("trees".into()).spawn(move || work(&queue, &own))?;
        let strikes =
            std::thread::Builder::new().name("kill".into()).spawn(move || strike(&others, &also))?;
        Ok(Self { errands, blows, inbox, threads: [looks, strikes] })
    }

    pub(crate) fn walk(&self, run: RunId, tree: &Tree) {
        self.send(Errand::Walk(run, tree.clone()));
    }

    pub(crate) fn signal(&self, run: RunId, tree: &Tree, signal: i32) {
        self.blow(Blow::Signal(run, tree.clone(), signal));
    }

    pub(crate) fn kill(&self, run: RunId, tree: &Tree) {
        self.blow(Blow::Kill(run, tree.clone()));
    }

    pub(crate) fn remove(&self, cgroup: RunCgroup) {
        self.send(Errand::Remove(cgroup));
    }

    /// Does what is left and ends, unless that takes too long.
    pub(crate) fn finish(&self, patience: Duration) {
        self.send(Errand::End);
        self.blow(Blow::End);
        let began = std::time::Instant::now();
        while !self.threads.iter().all(JoinHandle::is_finished) && began.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn claim(&self, run: RunId, tree: &Tree, pid: u32) {
        self.send(Errand::Claim(run, tree.clone(), pid));
    }

    pub(crate) fn forget(&self, socket: PathBuf) {
        self.send(Errand::Forget(socket));
    }

    pub(crate) fn release(
        &self,
        (listening, keeper): (&Arc<Listening>, &Arc<Keeper>),
        service: &str,
        generation: u64,
    ) {
        let (listening, keeper) = (Arc::clone(listening), Arc::clone(keeper));
        self.send(Errand::Release(listening, keeper, service.to_owned(), generation));
    }

    fn send(&self, errand: Errand) {
        // The thread ends only with the program.
        let _ended = self.errands.send(errand);
    }

    fn blow(&self, blow: Blow) {
        let _ended = self.blows.send(blow);
    }

    /// Looks for the main process of a `forking` service until it is found or `cancelled`.
    pub(crate) fn find_main(
        &self,
        run: RunId,
        tree: Tree,
        pid_file: Option<PathBuf>,
        cancelled: Arc<AtomicBool>,
    ) -> std::io::Result<()> {
        let inbox = Arc::clone(&self.inbox);
        let look = move || {
            while !cancelled.load(Ordering::Relaxed) {
                if let Some((process, pidfd)) = main_of(&tree, pid_file.as_ref()) {
                    inbox.send(News::MainFound { run, process, pidfd });
                    return;
                }
                std::thread::sleep(PID_FILE_LOOK);
            }
        };
        std::thread::Builder::new().name("find-main".into()).spawn(look).map(drop)
    }
}

fn work(queue: &Receiver<Errand>, inbox: &Inbox) {
    let mut emptied = Emptied::default();
    while let Some(first) = emptied.next(queue) {
        // A thousand services can die at once: one look at all processes serves all walks of a batch.
        let batch: Vec<Errand> = std::iter::once(first).chain(queue.try_iter()).collect();
        let many = batch.iter().filter(|errand| matches!(errand, Errand::Walk(..))).count() > 1;
        let census = many.then(Census::take);
        for errand in batch {
            match errand {
                Errand::Walk(run, tree) => {
                    let empty = census.as_ref().is_some_and(|census| !census.may_have(&tree));
                    let members = if empty { Vec::new() } else { members(&tree) };
                    let open = |process: ProcessId| Some((process, process.open().ok()??));
                    inbox.send(News::Walked { run, members: members.into_iter().filter_map(open).collect() });
                }
                Errand::Claim(run, tree, pid) => {
                    let process = members(&tree).into_iter().find(|process| process.pid == pid);
                    let found = process.and_then(|process| Some((process, process.open().ok()??)));
                    inbox.send(News::Claimed { run, found });
                }
                Errand::Remove(cgroup) => emptied.fresh.push(cgroup),
                // One that stays behind is found by the next start.
                Errand::Forget(socket) => drop(relume_os::files::remove(&socket)),
                Errand::Release(listening, keeper, service, generation) => {
                    listening.release(&keeper, &service, generation);
                }
                Errand::End => return emptied.remove(),
            }
        }
    }
}

/// Cgroups that are to be removed.
#[derive(Default)]
struct Emptied {
    /// Not at once: to remove one and to make one exclude each other in the kernel, and a service that has died is about to be started again.
    fresh: Vec<RunCgroup>,
    /// Their removal came too early: a zombie keeps its cgroup until it is reaped.
    late: Vec<RunCgroup>,
}

/// How long an empty cgroup is left for the sake of the next start, which takes a millisecond.
const LEFT: Duration = Duration::from_millis(5);

/// So many are removed whatever happens at the time.
const MOST_LEFT: usize = 32;

impl Emptied {
    /// The next errand; in the quiet before it, what has been left.
    fn next(&mut self, queue: &Receiver<Errand>) -> Option<Errand> {
        while !self.fresh.is_empty() {
            match queue.recv_timeout(LEFT) {
                Ok(errand) if self.fresh.len() < MOST_LEFT => return Some(errand),
                Ok(errand) => {
                    self.remove();
                    return Some(errand);
                }
                Err(RecvTimeoutError::Timeout) => self.remove(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        queue.recv().ok()
    }

    fn remove(&mut self) {
        self.late.append(&mut self.fresh);
        self.late.retain(|cgroup| matches!(cgroup.remove(), Ok(Removal::Busy)));
    }
}

/// Signals and kills, in order.
fn strike(queue: &Receiver<Blow>, inbox: &Inbox) {
    // Runs that refused: said once, though a kill is repeated for as long as something lives.
    let mut refusing: HashSet<RunId> = HashSet::new();
    while let Ok(first) = queue.recv() {
        // What piled up behind a kill that had to wait may name a run twice; to kill it once is to kill it.
        let mut killed: HashSet<RunId> = HashSet::new();
        for blow in std::iter::once(first).chain(queue.try_iter().collect::<Vec<_>>()) {
            let (run, done) = match blow {
                // A process that is gone needs no signal.
                Blow::Signal(run, tree, signal) => (run, signal_all(&tree, signal).map(drop)),
                Blow::Kill(run, _) if !killed.insert(run) => continue,
                Blow::Kill(run, tree) => (run, kill_all(&tree)),
                Blow::End => return,
            };
            match done {
                Err(error) if refusing.insert(run) => {
                    inbox.send(News::Refused { run, error: error.to_string() })
                }
                Err(_) => {}
                Ok(()) => drop(refusing.remove(&run)),
            }
        }
    }
}

/// One look at every living process.
struct Census {
    /// Sessions and process groups that somebody is in.
    groups: HashSet<u32>,
    /// The tags of our own children: whatever survives of a tree whose main process is dead hangs from one.
    tags: HashSet<Vec<u8>>,
}

impl Census {
    fn take() -> Self {
        let me = std::process::id();
        let (mut groups, mut tags) = (HashSet::new(), HashSet::new());
        for stat in relume_os::proc::all().unwrap_or_default() {
            if stat.is_zombie() {
                continue;
            }
            groups.extend([stat.session, stat.pgrp]);
            if stat.ppid == me {
                tags.extend(relume_os::proc::environ(stat.pid, TAG));
            }
        }
        Self { groups, tags }
    }

    /// Whether a walk could find anybody. Only a tree whose main process is dead may be asked about.
    fn may_have(&self, tree: &Tree) -> bool {
        match tree {
            Tree::Cgroup(_) => true,
            Tree::Marked { leader, tag } => {
                self.groups.contains(&leader.pid) || self.tags.contains(tag.as_bytes())
            }
        }
    }
}

/// Every living process of the tree.
fn members(tree: &Tree) -> Vec<ProcessId> {
    match tree {
        Tree::Cgroup(cgroup) => {
            let pids = cgroup.procs().unwrap_or_default();
            pids.into_iter().filter_map(|pid| ProcessId::of(pid).ok()?).collect()
        }
        Tree::Marked { .. } => tree::members(&marks(tree)).unwrap_or_default(),
    }
}

fn signal_all(tree: &Tree, signal: i32) -> relume_os::Result<usize> {
    match tree {
        Tree::Cgroup(cgroup) => cgroup.signal_all(signal),
        Tree::Marked { .. } => tree::signal_all(&marks(tree), signal),
    }
}

fn kill_all(tree: &Tree) -> relume_os::Result<()> {
    match tree {
        Tree::Cgroup(cgroup) => cgroup.kill(),
        Tree::Marked { .. } => tree::kill_all(&marks(tree)).map(drop),
    }
}

fn marks(tree: &Tree) -> RunMarks<'_> {
    match tree {
        Tree::Cgroup(_) => RunMarks { leader: None, tag: None, adopters: &[] },
        Tree::Marked { leader, tag } => {
            RunMarks { leader: Some(*leader), tag: Some((TAG, tag)), adopters: &[] }
        }
    }
}

/// The process that the pid file names, if it is one of the run's own; without a pid file the eldest.
fn main_of(tree: &Tree, pid_file: Option<&PathBuf>) -> Option<(ProcessId, PidFd)> {
    let members = members(tree);
    let process = match pid_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).ok()?;
            let pid: u32 = text.trim().parse().ok()?;
            // A stale file names a stranger: it is not believed.
            members.into_iter().find(|process| process.pid == pid)?
        }
        None => members.into_iter().min_by_key(|process| (process.start_time, process.pid))?,
    };
    Some((process, process.open().ok()??))
}
