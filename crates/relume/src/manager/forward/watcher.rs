//! Starts and ends the tasks, and tells them when files change.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use relume_config::Forward;
use relume_os::epoll::{Inotify, Watch};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::tail::Tails;
use super::task::{Orders, Task};
use super::{Level, Plan, Say, Source};

/// Between two looks for a directory that is not there.
const AGAIN: Duration = Duration::from_secs(1);

/// What the thread begins with.
pub(super) struct Begin {
    /// What is wanted; `None`: the end.
    pub(super) plans: watch::Receiver<Option<Plan>>,
    pub(super) opened: BTreeMap<Forward, Tails>,
    pub(super) dir: PathBuf,
    pub(super) say: Say,
}

struct Running {
    orders: watch::Sender<Orders>,
    task: JoinHandle<()>,
}

/// Runs until the end is wanted and every task has sent what it could.
pub(super) async fn run(begin: Begin) {
    let Begin { mut plans, mut opened, dir, say } = begin;
    let (changed, changes) = watch::channel(0);
    let mut running: BTreeMap<Forward, Running> = BTreeMap::new();
    let mut watcher = Watcher::new(&say);
    loop {
        let plan = plans.borrow_and_update().clone();
        let Some(plan) = plan else { break };
        watcher.want(&plan);
        let gone: Vec<Forward> =
            running.keys().filter(|target| !plan.contains_key(target)).cloned().collect();
        for target in gone {
            if let Some(gone) = running.remove(&target) {
                end(gone).await;
            }
        }
        for (target, sources) in plan {
            let orders = Orders { sources, end: false };
            if let Some(known) = running.get(&target) {
                known.orders.send_replace(orders);
                continue;
            }
            let tails = opened.remove(&target).unwrap_or_else(|| Tails::open(&dir, &target, &orders.sources));
            let (sender, orders) = watch::channel(orders);
            let (say, changes) = (say.clone(), changes.clone());
            let task = Task { target: target.clone(), tails, say, orders, changes };
            running.insert(target, Running { orders: sender, task: tokio::spawn(task.run()) });
        }
        loop {
            tokio::select! {
                wanted = plans.changed() => {
                    if wanted.is_err() {
                        return;
                    }
                    break;
                }
                () = watcher.changed() => changed.send_modify(|count| *count += 1),
            }
        }
    }
    for target in running.values() {
        target.orders.send_modify(|orders| orders.end = true);
    }
    // What was written last has not been told yet.
    changed.send_modify(|count| *count += 1);
    for (_, target) in running {
        let _panicked = target.task.await;
    }
}

/// A target that is not wanted any more gets no new lines, and keeps its cursors for when it is again.
async fn end(gone: Running) {
    gone.orders.send_modify(|orders| orders.end = true);
    let patience = tokio::time::timeout(Duration::from_secs(1), gone.task);
    // It hangs on its receiver: it is dropped, and what it has not confirmed is sent again one day.
    let _late = patience.await;
}

/// The directories of all logs.
struct Watcher {
    inotify: Option<AsyncFd<Descriptor>>,
    wanted: BTreeSet<PathBuf>,
    watched: BTreeMap<i32, PathBuf>,
}

struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[expect(
    deprecated,
    reason = "unsound only for what changes its descriptor while it is registered; this one cannot"
)]
fn register(inotify: Inotify) -> std::io::Result<AsyncFd<Descriptor>> {
    AsyncFd::new(Descriptor(inotify))
}

impl Watcher {
    fn new(say: &Say) -> Self {
        let made = Inotify::new().map_err(|error| error.to_string());
        let inotify = made.and_then(|fd| register(fd).map_err(|error| error.to_string()));
        let inotify = inotify
            .inspect_err(|error| {
                say(Level::Warn, format!("forwarding: logs are looked at once a second only: {error}"));
            })
            .ok();
        Self { inotify, wanted: BTreeSet::new(), watched: BTreeMap::new() }
    }

    fn want(&mut self, plan: &Plan) {
        let dir = |source: &Source| source.path.parent().map(PathBuf::from);
        self.wanted = plan.values().flatten().filter_map(dir).collect();
        self.watch();
    }

    fn watch(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let interest = Watch::MODIFIED | Watch::CREATED | Watch::MOVED | Watch::REMOVED | Watch::ITSELF_GONE;
        for dir in &self.wanted {
            if !self.watched.values().any(|known| known == dir)
                && let Ok(id) = inotify.get_ref().0.add_watch(dir, interest)
            {
                self.watched.insert(id.number(), dir.clone());
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.inotify.is_some()
            && self.wanted.iter().all(|dir| self.watched.values().any(|known| known == dir))
    }

    /// Until something has changed, or may have.
    async fn changed(&mut self) {
        if self.wanted.is_empty() {
            return std::future::pending().await;
        }
        if !self.is_whole() {
            sleep(AGAIN).await;
            return self.watch();
        }
        let Some(inotify) = &self.inotify else { return };
        let Ok(mut ready) = inotify.readable().await else { return sleep(AGAIN).await };
        let mut gone = Vec::new();
        let drained = ready.get_inner().0.drain(|change| {
            if let (Some(watch), None) = (change.watch, change.name) {
                gone.push(watch.number());
            }
        });
        ready.clear_ready();
        if drained.is_err() {
            sleep(AGAIN).await;
        }
        for watch in gone {
            self.watched.remove(&watch);
        }
    }
}
