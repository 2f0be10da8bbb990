//! What services use, measured while somebody looks, and always for those with a `max_memory`.
//!
//! # Theory of operation
//!
//! One thread. It takes from the board who runs, lets go of it, and reads cgroup files or /proc, which costs some 40 µs a
//! service: a thousand of them take a few hundredths of a second every [`INTERVAL`], and nothing at all while nobody asks. Whoever asks gets
//! what was measured last; only when there is nothing yet, and few services, he waits a moment for it.
//!
//! Memory is added up from resident pages, so what processes share counts several times. That is good enough to look
//! at. Before anything is ended for it, each page is counted once.
//!
//! # What it must never do
//!
//! Hold the board while it reads, or decide: a service above its bound is news for the core.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use relume_core::{Moment, RunId};
use relume_os::cgroup::RunCgroup;
use relume_os::clock;
use relume_os::proc::{self, Stat};
use relume_os::usage::{self, Usage};
use tokio::sync::Notify;

use super::inbox::{Inbox, News};
use super::publish::Board;
use super::trees::TAG;

/// From one look to the next while somebody wants to know.
const INTERVAL: Duration = Duration::from_secs(5);

/// The same for services with a `max_memory`: what leaks does so over minutes, and one look costs little.
const WATCHED: Duration = Duration::from_secs(2);

/// After so long without a question nobody looks any more.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// What is older than this is not shown.
const STALE: Duration = Duration::from_secs(15);

/// Of so many services a look is taken while somebody waits for it; of more he gets it with the next question.
const FEW: usize = 100;

/// How long he waits for it at most.
const PATIENCE: Duration = Duration::from_millis(30);

/// Over less than this, in seconds, what a start takes would look like load.
const LEAST: f64 = 1.0;

/// A parent's parent's parent: further up nobody looks for the service a process belongs to.
const DEEPEST: usize = 64;

/// What was measured of a run, or of relume itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// What it uses.
    pub(crate) usage: Usage,
    /// Of one processor, since the look before; of the first look: since it was started.
    pub(crate) cpu_percent: f64,
    at: Instant,
}

impl Reading {
    fn of(usage: Usage, before: Option<&Self>, age: Duration, at: Instant) -> Self {
        let (spent, span) = match before {
            Some(before) => (usage.cpu.saturating_sub(before.usage.cpu), at.duration_since(before.at)),
            None => (usage.cpu, age),
        };
        let share = spent.as_secs_f64() / span.as_secs_f64().max(LEAST);
        Self { usage, cpu_percent: share * 100.0, at }
    }
}

/// The latest readings, for the board.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readings(Arc<Mutex<Latest>>);

#[derive(Debug, Default)]
struct Latest {
    runs: HashMap<RunId, Reading>,
    own: Option<Reading>,
}

impl Readings {
    fn lock(&self) -> MutexGuard<'_, Latest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a run uses, if that was measured lately.
    pub(crate) fn of(&self, run: RunId) -> Option<Reading> {
        self.lock().runs.get(&run).copied().filter(is_fresh)
    }

    /// What relume itself uses: this process and its guardian.
    pub(crate) fn own(&self) -> Option<Reading> {
        self.lock().own.filter(is_fresh)
    }
}

fn is_fresh(reading: &Reading) -> bool {
    reading.at.elapsed() < STALE
}

/// The handle of the thread.
#[derive(Debug, Clone)]
pub(crate) struct Sampler(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    wishes: Mutex<Wishes>,
    changed: Condvar,
    /// A look at everything has been taken.
    looked: Notify,
}

#[derive(Debug, Default)]
struct Wishes {
    /// When somebody asked last.
    asked: Option<Instant>,
    /// When the last look at everything was taken.
    looked: Option<Instant>,
    /// There are services with a `max_memory`.
    watched: bool,
}

/// One run to be looked at.
pub(crate) struct Target {
    pub(crate) run: RunId,
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) started: Moment,
    /// Where all of it is. One that another manager has started may be in none, or in one where this manager would make none.
    pub(crate) cgroup: Option<RunCgroup>,
    pub(crate) max_memory: Option<u64>,
}

impl Sampler {
    /// Starts the thread, which sleeps until somebody wants something.
    pub(crate) fn start(board: Arc<Mutex<Board>>, inbox: Arc<Inbox>) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let readings = board.lock().unwrap_or_else(PoisonError::into_inner).readings.clone();
        let thread = Thread { shared: Arc::clone(&shared), board, readings, inbox, told: HashSet::new() };
        std::thread::Builder::new().name("sample".into()).spawn(move || thread.run())?;
        Ok(Self(shared))
    }

    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.0.lock()
    }

    /// Whether there is anybody with a `max_memory` from now on.
    pub(crate) fn watch(&self, watched: bool) {
        self.lock().watched = watched;
        self.0.changed.notify_one();
    }

    /// Somebody wants to know about `services` of them: measured now and for a while, and waited for where there is
    /// nothing yet.
    pub(crate) async fn ask(&self, services: usize) {
        let looked = self.0.looked.notified();
        let now = Instant::now();
        let known = {
            let mut wishes = self.lock();
            let slept = wishes.asked.replace(now).is_none_or(|asked| now - asked >= FORGOTTEN);
            if slept {
                self.0.changed.notify_one();
            }
            wishes.looked.is_some_and(|looked| looked.elapsed() < STALE)
        };
        if !known && services <= FEW {
            let _late = tokio::time::timeout(PATIENCE, looked).await;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Thread {
    shared: Arc<Shared>,
    board: Arc<Mutex<Board>>,
    readings: Readings,
    inbox: Arc<Inbox>,
    /// Runs that the core has been told of: each once.
    told: HashSet<RunId>,
}

impl Thread {
    fn run(mut self) {
        loop {
            let everything = self.wait();
            self.look(everything);
        }
    }

    /// Waits until a look is due; whether at everything, or only at services with a bound.
    fn wait(&self) -> bool {
        let mut wishes = self.shared.lock();
        // One look at everything serves the bounds as well, so that both keep to their own interval.
        let mut watched_at = Instant::now() + WATCHED;
        loop {
            let now = Instant::now();
            let wanted = wishes.asked.is_some_and(|asked| now - asked < FORGOTTEN);
            let all_at = wanted.then(|| wishes.looked.map_or(now, |looked| looked + INTERVAL));
            if all_at.is_some_and(|at| at <= now) {
                wishes.looked = Some(now);
                return true;
            }
            if !wishes.watched {
                watched_at = now + WATCHED;
            } else if watched_at <= now {
                return false;
            }
            let until = [all_at, wishes.watched.then_some(watched_at)].into_iter().flatten().min();
            wishes = match until {
                Some(until) => {
                    let waited = self.shared.changed.wait_timeout(wishes, until - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.shared.changed.wait(wishes).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn look(&mut self, everything: bool) {
        let (mut targets, guardian) = {
            let board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
            (board.targets(), board.guardian)
        };
        self.told.retain(|run| targets.iter().any(|target| target.run == *run));
        if !everything {
            targets.retain(|target| target.max_memory.is_some());
        }
        let marked: Vec<&Target> = targets.iter().filter(|target| target.cgroup.is_none()).collect();
        let trees = if marked.is_empty() { HashMap::new() } else { trees(&marked, guardian) };
        let mut found = Vec::with_capacity(targets.len());
        for target in &targets {
            let usage = match &target.cgroup {
                Some(cgroup) => usage::of_cgroup(cgroup),
                None => usage::of_processes(trees.get(&target.run).map_or(&[], Vec::as_slice)),
            };
            if usage.processes > 0 {
                found.push((target.run, usage, target.started));
                self.judge(target, usage, &trees);
            }
        }
        let own = everything.then(|| of_ourselves(&own_pids(guardian)));
        self.keep(found, own, everything);
    }

    fn keep(&self, found: Vec<(RunId, Usage, Moment)>, own: Option<(Usage, Duration)>, everything: bool) {
        let (at, now) = (Instant::now(), clock::monotonic_ns());
        let mut latest = self.readings.lock();
        let mut runs = if everything { HashMap::with_capacity(found.len()) } else { latest.runs.clone() };
        for (run, usage, started) in found {
            let age = Duration::from_nanos(now.saturating_sub(started.0));
            runs.insert(run, Reading::of(usage, latest.runs.get(&run), age, at));
        }
        latest.runs = runs;
        if let Some((usage, age)) = own {
            latest.own = Some(Reading::of(usage, latest.own.as_ref(), age, at));
        }
        drop(latest);
        if everything {
            self.shared.looked.notify_waiters();
        }
    }

    /// Tells the core of a run above its bound, once each page was counted once.
    fn judge(&mut self, target: &Target, usage: Usage, trees: &HashMap<RunId, Vec<u32>>) {
        let Some(limit) = target.max_memory.filter(|limit| usage.memory > *limit) else { return };
        if self.told.contains(&target.run) {
            return;
        }
        let pids = match &target.cgroup {
            Some(cgroup) if cgroup.memory().is_some() => None,
            Some(cgroup) => Some(cgroup.procs().unwrap_or_default()),
            None => Some(trees.get(&target.run).cloned().unwrap_or_default()),
        };
        // Where the kernel does not say what is shared, the sum has to do.
        let used = pids.and_then(|pids| usage::proportional(&pids)).unwrap_or(usage.memory);
        if used > limit {
            self.told.insert(target.run);
            self.inbox.send(News::TooMuchMemory { run: target.run, used, limit });
        }
    }
}

fn own_pids(guardian: u32) -> Vec<u32> {
    let me = std::process::id();
    if guardian == me { vec![me] } else { vec![me, guardian] }
}

/// Who belongs to which run, of those without a cgroup: by session and descent, and orphans by their tag.
fn trees(targets: &[&Target], guardian: u32) -> HashMap<RunId, Vec<u32>> {
    let table: BTreeMap<u32, Stat> =
        proc::all().unwrap_or_default().into_iter().map(|stat| (stat.pid, stat)).collect();
    let leaders: HashMap<u32, &Target> = targets.iter().map(|target| (target.pid, *target)).collect();
    let ours = own_pids(guardian);
    let mut found: HashMap<RunId, Vec<u32>> = HashMap::new();
    for stat in table.values() {
        if let Some(target) = owner(stat, &table, &leaders, targets, &ours) {
            found.entry(target.run).or_default().push(stat.pid);
        }
    }
    found
}

fn owner<'a>(
    stat: &Stat,
    table: &BTreeMap<u32, Stat>,
    leaders: &HashMap<u32, &'a Target>,
    targets: &[&'a Target],
    ours: &[u32],
) -> Option<&'a Target> {
    let mut at = stat;
    for _ in 0..DEEPEST {
        if ours.contains(&at.pid) {
            return None;
        }
        if let Some(target) = leaders.get(&at.pid).or_else(|| leaders.get(&at.session)) {
            return Some(target);
        }
        if ours.contains(&at.ppid) {
            // Handed to us when its parent ended.
            let tag = String::from_utf8(proc::environ(at.pid, TAG)?).ok()?;
            let (rest, generation) = tag.rsplit_once('/')?;
            let (_, name) = rest.split_once('/')?;
            let generation: u64 = generation.parse().ok()?;
            let is_it = |target: &&&Target| target.name == name && target.run.generation == generation;
            return targets.iter().find(is_it).copied();
        }
        at = table.get(&at.ppid)?;
    }
    None
}

/// What relume's own processes use, and how old the eldest is: a young manager has not used what its guardian has.
fn of_ourselves(pids: &[u32]) -> (Usage, Duration) {
    let eldest = pids.iter().filter_map(|pid| usage::age_of(*pid)).max();
    (usage::of_processes(pids), eldest.unwrap_or(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(cpu_ms: u64) -> Usage {
        Usage { cpu: Duration::from_millis(cpu_ms), memory: 1, processes: 1, fds: 1 }
    }

    #[test]
    fn the_first_reading_is_of_its_life_and_later_ones_are_of_the_time_between() {
        let now = Instant::now();
        let first = Reading::of(usage(500), None, Duration::from_secs(10), now);
        assert_eq!(first.cpu_percent.round(), 5.0);
        let second =
            Reading::of(usage(1500), Some(&first), Duration::from_secs(15), now + Duration::from_secs(2));
        assert_eq!(second.cpu_percent.round(), 50.0);
        // A child that nobody has waited for takes its time with it.
        let third =
            Reading::of(usage(900), Some(&second), Duration::from_secs(20), now + Duration::from_secs(4));
        assert_eq!(third.cpu_percent, 0.0);
    }

    /// The first process of all stands for a guardian that has seen many managers. Shown to fail with the age of the younger one.
    #[test]
    fn what_relume_uses_is_of_the_life_of_its_eldest_process() {
        let age = usage::age_of(1).unwrap();
        let (used, eldest) = of_ourselves(&[std::process::id(), 1]);
        assert_eq!(used.processes, 2);
        assert!(eldest >= age, "{eldest:?} {age:?}");
    }
}
