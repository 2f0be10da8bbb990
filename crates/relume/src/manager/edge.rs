//! Everything the supervise thread waits for, and everything it knows of processes.
//!
//! Three files share this: `translate` turns what the kernel and other threads say into events, `perform`
//! carries out actions, and here is what both work on. Nothing here waits, but for the one `epoll_wait`.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use relume_core::{Event, Fact, Moment, RunId, ServiceId, Snapshot};
use relume_os::clock;
use relume_os::epoll::{Epoll, Inotify, Interest, Ready, Timer};
use relume_os::signals::SignalFd;
use tokio::sync::oneshot;

use super::aftermath::Aftermath;
use super::archive::Archive;
use super::attention::Attention;
use super::capture::Capture;
use super::inbox::{Inbox, News};
use super::journal::{Journal, Kept, Room};
use super::keeper::{self, Keeper};
use super::listening::Listening;
use super::oom::Witness;
use super::operations::Operations;
use super::orphans::Orphans;
use super::parent_death::Returned;
use super::publish::{Level, Publisher};
use super::ready::Readying;
use super::reload::{Reading, Source};
use super::respawn::{Back, Predecessor, Respawning};
use super::runs::Run;
use super::sampling::Sampler;
use super::schedule::{Clockwork, Due};
use super::spawn::Spawning;
use super::trees::Trees;
use super::units::Units;
use super::weigh::Asked;
use crate::guardian::link::Ended;

/// What wakes the thread, by the tokens of its epoll set. Tokens from [`FIRST_PROCESS`] on are processes,
/// and what they speak into.
pub(crate) const SIGNALS: u64 = 0;
/// The earliest deadline has come.
pub(crate) const TIMER: u64 = 1;
/// Another thread has something to say.
pub(crate) const INBOX: u64 = 2;
/// A cgroup has emptied.
pub(crate) const CGROUPS: u64 = 3;
/// The guardian has something to say.
pub(crate) const GUARDIAN: u64 = 4;
/// The end of the manager before this one.
pub(crate) const PREDECESSOR: u64 = 5;
/// The first token of a process, or of what one speaks into. Tokens are never used twice, so an event of one batch cannot meet a
/// descriptor that the same batch has closed.
pub(crate) const FIRST_PROCESS: u64 = 16;

/// Between two attempts at a checkpoint that finds no room.
const CHECKPOINT_AGAIN: Duration = Duration::from_secs(1);

/// The supervise thread's side of the world.
pub(crate) struct Edge {
    pub(crate) epoll: Epoll,
    pub(crate) signals: SignalFd,
    pub(crate) timer: Timer,
    pub(crate) armed: Option<u64>,
    pub(crate) cgroup_events: Inotify,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) news: VecDeque<News>,
    pub(crate) ready: Vec<Ready>,
    /// Every run that has, or has had and not yet lost, a process.
    pub(crate) runs: HashMap<RunId, Box<Run>>,
    /// Whose process a token stands for, and which: the main one, or one of those left behind.
    pub(crate) watched: HashMap<u64, (RunId, Option<u32>)>,
    pub(crate) next_token: u64,
    /// What runs say of themselves, and which are waited for.
    pub(crate) ready_runs: Readying,
    /// What the commands of alerts that are due are told.
    pub(crate) dossiers: HashMap<(ServiceId, u8), Vec<(String, String)>>,
    /// Whose `cgroup.events` an inotify watch stands for.
    pub(crate) emptying: HashMap<i32, RunId>,
    /// Children of children, which wait to be reaped.
    pub(crate) orphans: Orphans,
    /// Orders that the spawn threads have not answered.
    pub(crate) spawns_under_way: u32,
    /// Processes that the guardian has reaped, only the latest.
    pub(crate) reaped: VecDeque<Ended>,
    /// What follows from ends and can wait for those who have something to do.
    pub(crate) aftermath: Aftermath,
    /// Tells of kills for want of memory.
    pub(crate) witness: Witness,
    /// Guardian and manager watch each other.
    pub(crate) attention: Attention,
    pub(crate) keeper: Arc<Keeper>,
    /// What the guardian need not keep any more: names to be told before the next wait.
    pub(crate) to_forget: Vec<String>,
    pub(crate) journal: Journal,
    /// The runs that have a process, as the journal says it.
    pub(crate) kept: BTreeMap<RunId, Box<Kept>>,
    /// What clients wait for, beyond this manager's life.
    pub(crate) operations: Operations,
    /// Notes have not found room: a checkpoint is due.
    pub(crate) checkpoint_due: bool,
    /// The archive, until it has what earlier managers have noted: the second checkpoint from now would write over that.
    pub(crate) untold: Option<Archive>,
    /// When to try one again; none: the last one was written.
    pub(crate) checkpoint_again: Option<Moment>,
    /// Leave, and the services running.
    pub(crate) leave_running: bool,
    /// Opens the door to clients, once.
    pub(crate) open: Option<Sender<()>>,
    pub(crate) spawning: Spawning,
    pub(crate) trees: Trees,
    pub(crate) capture: Arc<Capture>,
    pub(crate) publisher: Publisher,
    pub(crate) units: Arc<Units>,
    pub(crate) autostart: bool,
    /// Clients who are to know when what they have asked for is noted.
    pub(crate) asked: Vec<oneshot::Sender<()>>,
    /// How often the end was asked for by signal.
    pub(crate) end_asked: u32,
    /// The planned replacement of this manager.
    pub(crate) respawn: Respawning,
    /// Why this manager has executed itself, until that is said.
    pub(crate) back: Option<Back>,
    /// The manager before this one, as long as it is about to leave.
    pub(crate) predecessor: Option<Predecessor>,
    /// This manager has come back of late.
    pub(crate) returned: Option<Returned>,
    /// Whether the configuration is being read.
    pub(crate) reading: Reading,
    /// How the configuration is read again.
    pub(crate) source: Arc<Source>,
    /// Configurations that clients want weighed.
    pub(crate) to_weigh: Vec<Asked>,
    /// Starts jobs by the clock.
    pub(crate) clockwork: Clockwork,
    /// Sockets that are opened for services.
    pub(crate) listening: Arc<Listening>,
    /// Measures what services use.
    pub(crate) sampler: Sampler,
    /// Jobs that are due.
    pub(crate) due: Vec<Due>,
    /// Jobs that were due while they went on, and follow.
    pub(crate) queued: BTreeSet<String>,
    /// Events that are known before the next wait.
    pub(crate) events: VecDeque<Event>,
}

impl Edge {
    /// The present moment. Time is read here and nowhere else.
    pub(crate) fn now() -> Moment {
        Moment(clock::monotonic_ns())
    }

    /// Waits until something happens or the deadline comes.
    pub(crate) fn wait(&mut self, deadline: Option<Moment>) -> relume_os::Result<()> {
        let orphans = self.orphans_due();
        let attention = self.attend();
        let (respawn, bite) = (self.respawn.deadline(), self.ready_runs.next_bite());
        let predecessor = self.predecessor.as_ref().map(Predecessor::deadline);
        let first = [deadline, orphans, attention, respawn, bite, predecessor, self.checkpoint_again];
        let first = first.into_iter().flatten().min();
        self.arm(first.map(|at| at.0))?;
        let woken = self.epoll.wait(&mut self.ready, None);
        self.journal.alive(Self::now().0);
        woken
    }

    /// Looks what has happened already. The first time: from here on nobody ends unseen.
    pub(crate) fn look(&mut self) -> relume_os::Result<()> {
        let looked = self.epoll.wait(&mut self.ready, Some(Duration::ZERO));
        self.journal.alive(Self::now().0);
        looked
    }

    fn arm(&mut self, at: Option<u64>) -> relume_os::Result<()> {
        if self.armed == at {
            return Ok(());
        }
        match at {
            Some(at) => self.timer.set(at)?,
            None => self.timer.disarm()?,
        }
        self.armed = at;
        Ok(())
    }

    /// A service is not meant to run any more, so nobody is to wait for it at its sockets.
    pub(crate) fn release_sockets(&self, service: &str, generation: u64) {
        if self.units.get(service).is_none_or(|unit| !unit.config.sockets.is_empty()) {
            self.trees.release((&self.listening, &self.keeper), service, generation);
        }
    }

    /// Notes a fact for a successor.
    pub(crate) fn note_fact(&mut self, fact: &Fact) {
        let room = self.journal.fact(fact);
        self.checkpoint_due |= room == Room::None;
    }

    /// A note that has found no room needs a checkpoint.
    pub(crate) fn made_room(&mut self, room: Room) {
        self.checkpoint_due |= room == Room::None;
    }

    /// Notes a run's process for a successor.
    pub(crate) fn note_began(&mut self, run: RunId, kept: Box<Kept>) {
        let room = self.journal.began(run, &kept);
        self.checkpoint_due |= room == Room::None;
        self.kept.insert(run, kept);
    }

    /// Has the guardian close what it need not keep any more. Not while relume leaves: the guardian is about to close all.
    pub(crate) fn forget(&mut self) {
        self.to_forget.drain(..).for_each(|name| self.keeper.forget(&name));
    }

    /// Notes that nothing is left of a run.
    pub(crate) fn note_gone(&mut self, run: RunId) {
        if let Some(kept) = self.kept.remove(&run) {
            // After what follows from its end: a successor shall not wait until the guardian has closed something.
            self.to_forget.push(keeper::process_name(&kept.name, run.generation));
            self.to_forget.push(keeper::output_name(&kept.name, run.generation));
            if kept.ears.is_some() {
                self.to_forget.push(keeper::ears_name(&kept.name, run.generation));
            }
            let room = self.journal.gone(run);
            self.checkpoint_due |= room == Room::None;
        }
    }

    /// Writes a checkpoint where notes have found no room. Then `facts`, which are part of it, are noted once
    /// more: a successor that has to tell what has happened finds each of them.
    pub(crate) fn checkpoint(&mut self, memory: &Snapshot, facts: &[Fact]) {
        // Before that, and until the manager before this one is gone, what it has told nobody yet is in the journal alone.
        if self.predecessor.is_none() && self.untold.take_if(|archive| !archive.is_behind()).is_some() {
            self.checkpoint_due = true;
        }
        let now = Self::now();
        // To put all in words again and again would keep this thread from its work.
        if !self.checkpoint_due || self.checkpoint_again.is_some_and(|at| now < at) {
            return;
        }
        if let Err(error) = self.journal.checkpoint(memory, &self.kept, self.operations.all()) {
            // Supervision goes on; a successor would know less.
            if self.checkpoint_again.is_none() {
                let text =
                    format!("the journal cannot grow: {error}; a manager that came back now would know less");
                self.say(Level::Error, text);
            }
            self.checkpoint_again = Some(now.after(CHECKPOINT_AGAIN));
            return;
        }
        self.checkpoint_due = false;
        if self.checkpoint_again.take().is_some() {
            self.say(Level::Info, "the journal has room again and is complete".into());
        }
        for fact in facts {
            // Without room it is in the checkpoint all the same.
            let _room = self.journal.fact(fact);
        }
    }

    /// Adds what is there from the beginning to the epoll set.
    pub(crate) fn watch_sources(&self) -> relume_os::Result<()> {
        self.epoll.add(&self.signals, SIGNALS, Interest::READ)?;
        self.epoll.add(&self.timer, TIMER, Interest::READ)?;
        self.epoll.add(&self.inbox, INBOX, Interest::READ)?;
        self.epoll.add(&self.cgroup_events, CGROUPS, Interest::READ)?;
        self.epoll.add(&*self.keeper, GUARDIAN, Interest::READ)
    }
}
