//! The fake kernel, with the thin edge that turns what it knows into events: process trees, signals, exits
//! that are kept until they are recorded, and a clock that moves only when everything has happened.
//!
//! What is true of a process and what the manager has been told about it are kept apart, because the death
//! of the manager undoes the second and never the first.

use std::collections::BTreeMap;
use std::time::Duration;

use relume_core::{Event, Exit, Moment, Reach, Rest, RunId, RunKind, Signal, SpawnError};

use crate::dice::Dice;
use crate::programs::{Nuisance, Plan};

/// The number of a process tree; stays when the name of its run changes.
pub type Pid = u64;

/// Something that is going to happen.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// News on its way to the manager, and lost with it.
    News(News),
    /// A process comes to be.
    Born(Pid),
    /// The main process ends by itself, if it is still the same one.
    Ends(Pid, Life, Exit),
    /// All but the main process end.
    ChildrenEnd(Pid),
    /// SIGKILL has done its work.
    Killed(Pid),
    /// The program says that it is ready.
    SaysReady(Pid),
    /// The operator does something.
    Operator,
    /// A fault without a cause of its own is due.
    Nonsense,
}

/// Which of the main processes a tree has had.
pub type Life = u32;

/// What is on its way to the manager.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// The process exists.
    Spawned(Pid),
    /// It could not be started.
    Refused(RunId, SpawnError),
    /// The main process ended.
    Ended(Pid),
    /// The last of the others ended.
    Empty(Pid),
    /// It is ready.
    Ready(Pid),
    /// The daemon was found.
    Found(Pid),
    /// Something was told before, and is told again.
    Again(Event),
}

/// The main process of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Main {
    /// Asked for; it does not exist yet.
    Unborn,
    /// It lives.
    Alive,
    /// It has ended; its exit is kept until it is recorded.
    Ended(Exit),
}

/// What the manager has been told of the end of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nothing, and nothing is on its way.
    Nothing,
    /// News is on its way.
    Coming,
    /// That the main process ended and others live.
    MainEnded,
    /// That all of it is gone.
    All,
}

/// One process tree.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The run that it is.
    pub run: RunId,
    /// The name of its service.
    pub name: String,
    /// What it is for.
    pub kind: RunKind,
    /// What it is going to do.
    pub plan: Plan,
    /// Its main process.
    pub main: Main,
    /// Which main process that is.
    pub life: Life,
    /// How many others live.
    pub children: u32,
    /// What is known of its end.
    pub told: Told,
    /// It has said that it is ready.
    pub ready: bool,
    /// The others heard a stop signal that they heed.
    pub asked: bool,
    /// SIGKILL was sent.
    pub killed: bool,
}

impl Tree {
    /// Whether any process of it lives.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.main == Main::Alive || self.children > 0
    }

    /// Whether it lives or is about to.
    #[must_use]
    pub fn may_live(&self) -> bool {
        self.main == Main::Unborn || self.is_alive()
    }

    /// Whether it is the service itself and not a hook.
    #[must_use]
    pub fn is_main(&self) -> bool {
        matches!(self.kind, RunKind::Service | RunKind::Job)
    }
}

/// The kernel.
#[derive(Debug)]
pub struct Kernel {
    /// The present.
    pub now: Moment,
    /// All trees of which something lives, or of which the manager has not recorded the end.
    pub trees: BTreeMap<Pid, Tree>,
    /// News takes up to so many milliseconds.
    pub latency: u64,
    queue: BTreeMap<(Moment, u64), Happening>,
    sequence: u64,
    pub(crate) dice: Dice,
}

impl Kernel {
    /// An empty machine that has been up for `now`.
    #[must_use]
    pub fn new(seed: u64, now: Moment) -> Self {
        let dice = Dice::new(seed, 2);
        Self { now, trees: BTreeMap::new(), latency: 2, queue: BTreeMap::new(), sequence: 0, dice }
    }

    /// Lets something happen at `at`.
    pub fn plan(&mut self, at: Moment, what: Happening) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), what);
    }

    fn plan_in(&mut self, delay: Duration, what: Happening) {
        self.plan(self.now.after(delay), what);
    }

    fn tell(&mut self, news: News) {
        let at = self.dice.soon(self.now, 0, self.latency);
        self.plan(at, Happening::News(news));
    }

    /// When the next thing happens.
    #[must_use]
    pub fn next_at(&self) -> Option<Moment> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    /// Takes the next thing; the clock moves to it.
    pub fn pop(&mut self) -> Option<Happening> {
        let ((at, _), what) = self.queue.pop_first()?;
        self.now = self.now.max(at);
        Some(what)
    }

    /// How many things are still to happen but the operator's.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        !self.queue.values().any(|what| !matches!(what, Happening::Operator | Happening::Nonsense))
    }

    /// Drops what the operator and chance had in mind.
    pub fn drop_meddling(&mut self) {
        self.queue.retain(|_, what| !matches!(what, Happening::Operator | Happening::Nonsense));
    }

    /// The tree of a run.
    #[must_use]
    pub fn tree_of(&self, run: RunId) -> Option<(Pid, &Tree)> {
        self.trees.iter().find(|(_, tree)| tree.run == run).map(|(pid, tree)| (*pid, tree))
    }

    /// Begins to start a tree; it is there after `delay`.
    pub fn begin(&mut self, (run, kind): (RunId, RunKind), name: String, plan: Plan, delay: Duration) {
        self.sequence += 1;
        let pid = self.sequence;
        let tree = Tree {
            run,
            name,
            kind,
            plan,
            main: Main::Unborn,
            life: 0,
            children: 0,
            told: Told::Nothing,
            ready: false,
            asked: false,
            killed: false,
        };
        self.trees.insert(pid, tree);
        self.plan_in(delay, Happening::Born(pid));
    }

    /// Says that a run could not be started.
    pub fn refuse(&mut self, run: RunId, shortage: bool) {
        let text = if shortage { "clone3: EAGAIN" } else { "exec: ENOENT" }.into();
        self.tell(News::Refused(run, SpawnError { text, shortage }));
    }

    /// Sends a signal, as kill(2) and the tree walk do.
    pub fn signal(&mut self, run: RunId, signal: Signal, to: Reach) {
        let Some((pid, tree)) = self.tree_of(run) else { return };
        let (plan, life, main, children) = (tree.plan, tree.life, tree.main, tree.children);
        match signal {
            Signal::Kill => {
                if main != Main::Unborn {
                    self.plan_in(plan.kill_takes, Happening::Killed(pid));
                    self.trees.entry(pid).and_modify(|tree| tree.killed = true);
                }
            }
            // Programs of the simulation take no notice of signals that do not end them.
            Signal::Asked(_) => {}
            Signal::Stop(_) => {
                if main == Main::Alive && !plan.deaf {
                    self.plan_in(plan.stop_takes, Happening::Ends(pid, life, plan.stop_exit));
                }
                if to == Reach::Tree && children > 0 && !plan.deaf_children {
                    self.plan_in(plan.stop_takes, Happening::ChildrenEnd(pid));
                    self.trees.entry(pid).and_modify(|tree| tree.asked = true);
                }
            }
        }
    }

    /// The edge looks for the daemon of a `forking` service.
    pub fn find_main(&mut self, run: RunId) {
        if let Some((pid, tree)) = self.tree_of(run)
            && tree.is_alive()
        {
            self.tell(News::Found(pid));
        }
    }

    /// Lets one thing happen; what the manager hears of it.
    pub fn happen(&mut self, what: Happening) -> Option<Event> {
        match what {
            Happening::News(news) => self.deliver(news),
            Happening::Born(pid) => {
                self.born(pid);
                None
            }
            Happening::Ends(pid, life, exit) => {
                let tree = self.trees.get_mut(&pid)?;
                if tree.life == life && tree.main == Main::Alive {
                    tree.main = Main::Ended(exit);
                    if tree.plan.daemon && life == 0 && exit == Exit::Code(0) {
                        tree.children += 1;
                    }
                    self.notice(pid);
                }
                None
            }
            Happening::ChildrenEnd(pid) => {
                self.trees.get_mut(&pid)?.children = 0;
                self.notice(pid);
                None
            }
            Happening::Killed(pid) => {
                let tree = self.trees.get_mut(&pid)?;
                tree.children = 0;
                if tree.main == Main::Alive {
                    tree.main = Main::Ended(Exit::Signal { number: 9, core_dumped: false });
                }
                self.notice(pid);
                None
            }
            Happening::SaysReady(pid) => {
                let tree = self.trees.get_mut(&pid)?;
                if tree.main == Main::Alive {
                    tree.ready = true;
                    self.tell(News::Ready(pid));
                }
                None
            }
            Happening::Operator | Happening::Nonsense => None,
        }
    }

    fn born(&mut self, pid: Pid) {
        let Some(tree) = self.trees.get_mut(&pid).filter(|tree| tree.main == Main::Unborn) else { return };
        tree.main = Main::Alive;
        tree.children = tree.plan.children;
        let plan = tree.plan;
        self.tell(News::Spawned(pid));
        if let Some((delay, exit)) = plan.ends {
            self.plan_in(delay, Happening::Ends(pid, 0, exit));
        }
        if let Some(delay) = plan.ready {
            self.plan_in(delay, Happening::SaysReady(pid));
        }
    }

    /// Something of a tree ended: the manager is going to notice, unless it is told already.
    fn notice(&mut self, pid: Pid) {
        let Some(tree) = self.trees.get_mut(&pid) else { return };
        match (tree.main, tree.told) {
            (Main::Ended(_), Told::Nothing) => {
                tree.told = Told::Coming;
                self.tell(News::Ended(pid));
            }
            (Main::Ended(_), Told::MainEnded) if tree.children == 0 => {
                tree.told = Told::Coming;
                self.tell(News::Empty(pid));
            }
            _ => {}
        }
    }

    fn deliver(&mut self, news: News) -> Option<Event> {
        match news {
            News::Again(event) => Some(event),
            News::Refused(run, error) => Some(Event::SpawnFailed { run, error }),
            News::Spawned(pid) => self.trees.get(&pid).map(|tree| Event::Spawned { run: tree.run }),
            News::Ready(pid) => self.trees.get(&pid).map(|tree| Event::Ready { run: tree.run }),
            News::Ended(pid) => {
                let tree = self.trees.get_mut(&pid)?;
                let Main::Ended(exit) = tree.main else { return None };
                let rest = if tree.children > 0 { Rest::Alive } else { Rest::Gone };
                tree.told = if rest == Rest::Alive { Told::MainEnded } else { Told::All };
                Some(Event::Exited { run: tree.run, exit, rest })
            }
            News::Empty(pid) => {
                let tree = self.trees.get_mut(&pid)?;
                tree.told = Told::All;
                Some(Event::Emptied { run: tree.run })
            }
            News::Found(pid) => {
                let tree = self.trees.get_mut(&pid)?;
                // One that is about to end is not taken for the main process any more.
                if !tree.is_alive() || (tree.asked && tree.main != Main::Alive) {
                    return None;
                }
                if tree.main != Main::Alive {
                    tree.main = Main::Alive;
                    tree.children -= 1;
                    tree.life += 1;
                    tree.told = Told::Nothing;
                }
                Some(Event::MainFound { run: tree.run })
            }
        }
    }

    /// Forgets the trees whose end is recorded.
    pub fn bury(&mut self) {
        self.trees.retain(|_, tree| tree.told != Told::All);
    }

    /// All news on its way is lost; spawns under way have succeeded or never were.
    pub fn manager_dies(&mut self) {
        self.queue.retain(|_, what| !matches!(what, Happening::News(_)));
        let unborn: Vec<Pid> = self.unborn().collect();
        for pid in unborn {
            if self.dice.chance(500) {
                self.born(pid);
            } else {
                self.trees.remove(&pid);
            }
        }
        self.queue.retain(|_, what| !matches!(what, Happening::News(_)));
        for tree in self.trees.values_mut() {
            tree.told = Told::Nothing;
        }
    }

    fn unborn(&self) -> impl Iterator<Item = Pid> + '_ {
        self.trees.iter().filter(|(_, tree)| tree.main == Main::Unborn).map(|(pid, _)| *pid)
    }

    /// A new manager has been shown what survives. Ends that it was shown are told; the words of readiness
    /// that it may have missed are said again.
    pub fn manager_came(&mut self) {
        let pids: Vec<Pid> = self.trees.keys().copied().collect();
        for pid in pids {
            let Some(tree) = self.trees.get_mut(&pid) else { continue };
            match tree.main {
                Main::Ended(_) if tree.children > 0 => tree.told = Told::MainEnded,
                Main::Ended(_) => tree.told = Told::All,
                Main::Alive if tree.ready => self.tell(News::Ready(pid)),
                Main::Alive | Main::Unborn => {}
            }
        }
    }

    /// Somebody ends every misbehaving process by hand.
    pub fn clear_out(&mut self, spare: impl Fn(&Tree) -> bool) {
        let bad = |tree: &Tree| tree.plan.nuisance != Nuisance::Good && !spare(tree);
        let pids: Vec<Pid> = self.trees.iter().filter(|(_, tree)| bad(tree)).map(|(pid, _)| *pid).collect();
        for pid in pids {
            self.born(pid);
            let at = self.dice.soon(self.now, 0, 5_000);
            self.plan(at, Happening::Killed(pid));
        }
    }
}
