//! relume replaces itself, as planned or because somebody asks: the same process executes the program anew, or a successor that has
//! come up beside it takes over.
//!
//! # Theory of operation
//!
//! There is one way to come up, [`recovery`](super::recovery); this is a gentle way to get there. A *trial* comes first: the
//! program that lies at our path now is started as a child and has to prove that it reads the journal and the configuration
//! ([`trial`]). Then the door is closed: connections that are being answered have a second to end, all others are
//! taken by the successor from the backlog. Supervision goes on all the while. At last, between two events and with
//! no start under way, what was to be shown is shown, capture stops between two chunks, and the process executes the
//! program ([`exec`](relume_os::exec)): same pid, same children. The successor takes what the guardian keeps.
//!
//! Where there are many services that exec would be a pause. There the program comes up as another process before the door is closed, and
//! at that last moment it is told to go on ([`beside`], [`standby`]); the exec is what is left where this does not come off.
//!
//! Whatever goes wrong before that leaves this manager at work, and who has asked is told why. If the exec itself
//! fails, the running image is executed instead: there is no way back to threads that have been ended.
//!
//! # What it must never do
//!
//! Wait on the supervise thread for anything but the last milliseconds; execute what has not proved itself.

mod beside;
mod crash;
mod standby;
mod successor;
mod trial;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use relume_core::{Away, Moment};
use tokio::sync::{oneshot, watch};

use super::alerts::UnderWay;
use super::edge::Edge;
use super::inbox::{Inbox, News};
use super::reload::Reading;
use super::units::Units;
use beside::{TURNS, Way};

pub(crate) use beside::{Successor, is_always_wished};
pub(crate) use crash::{NET, begin_anew, install as prepare_for_crashes};
pub(crate) use standby::{Predecessor, Standby};
pub(crate) use successor::{Back, Leap, execute};
pub(crate) use trial::{Proved, try_out};

/// How long it may take until no start is under way and the door is closed; connections have a second of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long alerts on their way are waited for before a respawn begins: longer than nearly every
/// server takes to answer. One that has not answered by then may not be told.
const ALERTED: Duration = Duration::from_secs(5);

/// How soon it is looked again whether an alert is told, or whether a thread still waits in the kernel: a disk takes milliseconds.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long capture may take to come to the end of a chunk, before another moment is chosen: it takes less than one, and supervision
/// waits for it.
const HALT: Duration = Duration::from_millis(2);

/// What a client is told: the respawn it asked for goes on, with what it should know of the configuration; or why not.
pub(crate) type Answer = Result<Option<String>, String>;

/// The planned replacement of this manager.
pub(crate) struct Respawning {
    every: Option<Duration>,
    due: Option<Moment>,
    phase: Phase,
    asked: Vec<oneshot::Sender<Answer>>,
    /// True: the door is to be closed.
    door: watch::Sender<bool>,
    /// What new connections find.
    door_is: Door,
    /// Why it was not done last; said once.
    refused: Option<String>,
    /// Alerts on their way, which an exec would cut off.
    alerts: UnderWay,
    /// They are waited for: until when, and when to look again.
    hold: Option<(Moment, Moment)>,
    /// The lock of the state directory, for a successor beside this manager; none: it has to be this process.
    lock: Option<OwnedFd>,
    /// How many successors were started.
    started: u64,
    /// How late timers of this process might fire when it began, in nanoseconds.
    slack: Option<u64>,
}

enum Phase {
    Idle,
    /// The program at our path proves itself, with the configuration that is in force or the one that follows.
    Trying(Cause, Arc<Units>),
    /// Waiting for a successor, for the door, and for starts under way.
    Closing {
        leap: Leap,
        way: Way,
        until: Moment,
        /// When to look again, if nothing happens.
        look_at: Moment,
    },
}

/// What new connections find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    /// Those that are being answered have some time left.
    Closing,
    Closed,
}

/// Why relume replaces itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Asked,
    Schedule,
}

impl Cause {
    /// How the successor is told, with what has come of the trial.
    fn leap(self, proved: Proved, units: Arc<Units>) -> Leap {
        let (why, word) = match self {
            Self::Asked => (Away::Asked, "asked"),
            Self::Schedule => (Away::Schedule, "schedule"),
        };
        let upgrade = if proved.other_program { ", upgrade" } else { "" };
        let note = proved.note.map(|note| format!("; {note}")).unwrap_or_default();
        let detail = format!("{word}{upgrade}{note}");
        let Proved { recording, prepared, .. } = proved;
        Leap { cause: self, why, detail, units, recording, prepared, successor: None }
    }
}

impl Respawning {
    /// Every so often from now on; none: only when asked.
    pub(crate) fn new(
        every: Option<Duration>,
        (door, alerts): (watch::Sender<bool>, UnderWay),
        lock: Option<OwnedFd>,
    ) -> Self {
        let (phase, asked) = (Phase::Idle, Vec::new());
        let (due, refused, hold, slack) = (None, None, None, None);
        let (door_is, started) = (Door::Open, 0);
        let mut new =
            Self { every, due, phase, asked, door, door_is, refused, alerts, hold, lock, started, slack };
        new.schedule();
        new
    }

    /// What a successor is to begin with, too: how late timers may fire, in nanoseconds.
    pub(crate) fn begins_with(&mut self, slack: Option<u64>) {
        self.slack = slack;
    }

    /// When there is something to do here.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Idle => self.hold.map(|(_, look_at)| look_at).or(self.due),
            Phase::Trying(..) => None,
            Phase::Closing { look_at, .. } => Some(*look_at),
        }
    }

    /// A client asks for it.
    pub(crate) fn asked(&mut self, answer: oneshot::Sender<Answer>) {
        self.asked.push(answer);
    }

    /// The program has proved itself.
    fn proved(&mut self, note: Option<&str>) {
        for answer in self.asked.drain(..) {
            // Whoever asked may have gone.
            let _gone = answer.send(Ok(note.map(str::to_owned)));
        }
    }

    /// From now on connections are waited for.
    fn close_door(&mut self) {
        if self.door_is == Door::Open {
            // Without a net thread there is none.
            self.door_is = if self.door.send(true).is_err() { Door::Closed } else { Door::Closing };
        }
    }

    /// The door is closed, unless it was opened again meanwhile.
    pub(crate) fn closed(&mut self) {
        if self.door_is == Door::Closing {
            self.door_is = Door::Closed;
        }
    }

    /// A successor has come up beside this manager, or there is none to be had.
    fn came_up(&mut self, number: u64, came: Option<Box<Successor>>) {
        let waited = match &mut self.phase {
            Phase::Closing { way: way @ Way::Coming { .. }, .. } => Some(way),
            Phase::Closing { .. } | Phase::Idle | Phase::Trying(..) => None,
        };
        match waited.filter(|way| way.is_number(number)) {
            Some(way) => way.came_up(came),
            // Nobody waits for it any more.
            None => drop(came.map(|successor| successor.dismiss())),
        }
    }

    /// Another configuration holds.
    pub(crate) fn reconfigure(&mut self, every: Option<Duration>) {
        if every != self.every {
            self.every = every;
            self.schedule();
        }
    }

    fn schedule(&mut self) {
        self.due = self.every.map(|every| Edge::now().after(every));
    }

    /// What to say about it, if that is new.
    fn give_up(&mut self, why: String) -> Option<String> {
        self.phase = Phase::Idle;
        self.schedule();
        let _open = self.door.send(false);
        self.door_is = Door::Open;
        for answer in self.asked.drain(..) {
            let _gone = answer.send(Err(why.clone()));
        }
        let news = self.refused.as_ref() != Some(&why);
        self.refused = Some(why.clone());
        news.then(|| format!("not respawned, this manager goes on: {why}"))
    }

    /// Whether alerts on their way are waited for: for a while, because whom they are for may not listen.
    fn holds_for_alerts(&mut self, now: Moment) -> bool {
        let until = self.hold.map_or_else(|| now.after(ALERTED), |(until, _)| until);
        let holds = !self.alerts.none() && now < until;
        self.hold = holds.then(|| (until, until.min(now.after(LOOK_AGAIN))));
        holds
    }
}

impl Edge {
    /// Goes on with a respawn; how, when the moment has come.
    pub(crate) fn consider_respawn(&mut self) -> Option<Leap> {
        let now = Self::now();
        let said = match std::mem::replace(&mut self.respawn.phase, Phase::Idle) {
            Phase::Idle => {
                let due = self.respawn.due.is_some_and(|due| due <= now);
                let cause = if self.respawn.asked.is_empty() { Cause::Schedule } else { Cause::Asked };
                if !due && cause == Cause::Schedule {
                    return None;
                }
                if self.respawn.holds_for_alerts(now) {
                    return None;
                }
                self.try_out(cause)
            }
            phase @ Phase::Trying(..) => {
                self.respawn.phase = phase;
                None
            }
            Phase::Closing { leap, way, until, .. } => match self.consider_leap(leap, way, until) {
                Ok(leap) => return leap,
                Err(why) => self.respawn.give_up(why),
            },
        };
        self.refused(said);
        None
    }

    /// The program has proved itself: goes on when there is nothing under way. Why not, when that has taken too long.
    fn consider_leap(&mut self, leap: Leap, way: Way, until: Moment) -> Result<Option<Leap>, String> {
        let now = Self::now();
        if !Arc::ptr_eq(&leap.units, &self.units) {
            // It would go on with another configuration than the one in force.
            way.dismiss();
            let said = self.try_out(leap.cause);
            self.refused(said);
            return Ok(None);
        }
        if matches!(way, Way::Coming { .. }) {
            // Supervision goes on, and whoever starts it says what comes of it.
            let until = now.after(PATIENCE);
            self.respawn.phase = Phase::Closing { leap, way, until, look_at: until };
            return Ok(None);
        }
        self.respawn.close_door();
        let closed = self.respawn.door_is == Door::Closed;
        // What an alert has led to may be a command that is to be started.
        let quiet = self.spawns_under_way == 0 && self.reading == Reading::Idle && self.inbox.is_empty();
        // What the guardian has not been given to keep dies with this image.
        let unread = !self.keeper.is_settled();
        let ready = closed && quiet && !unread && self.events.is_empty();
        // An exec waits for every thread, and one that waits in the kernel does not even die.
        let hangs = ready.then(relume_os::proc::waiting_thread).flatten();
        if ready && hangs.is_none() {
            return Ok(self.leap(leap, way, until));
        }
        if now < until {
            let look_at = if hangs.is_some() || unread { until.min(now.after(LOOK_AGAIN)) } else { until };
            self.respawn.phase = Phase::Closing { leap, way, until, look_at };
            return Ok(None);
        }
        way.dismiss();
        let what = match hangs {
            Some(thread) => format!("a disk does not answer (thread {thread:?} waits for it)"),
            None if closed && unread => "the guardian does not read".to_owned(),
            None if closed => "a service is being started".to_owned(),
            None => "connections do not end".to_owned(),
        };
        Err(format!("{what}, for {} s now", PATIENCE.as_secs()))
    }

    /// Nothing is under way. None: something is after all, or the successor does not know what has happened since it began, and
    /// another one comes up.
    fn leap(&mut self, leap: Leap, way: Way, until: Moment) -> Option<Leap> {
        let capture = Arc::clone(&self.capture);
        // What those two find from here on would be told to a manager that leaves, and no successor finds it again.
        self.clockwork.hold(true);
        let halt = capture.halt(HALT);
        let busy = halt.is_none() || !self.inbox.is_empty();
        if busy && Self::now() < until {
            self.clockwork.hold(false);
            let look_at = until.min(Self::now().after(LOOK_AGAIN));
            self.respawn.phase = Phase::Closing { leap, way, until, look_at };
            return None;
        }
        let leap = match way {
            Way::Exec | Way::Coming { .. } => leap,
            Way::Waiting(successor, known, _) if self.is_known(known) => {
                Leap { successor: Some(successor), ..leap }
            }
            Way::Waiting(successor, _, turns) => {
                successor.dismiss();
                let way = self.next_turn(&leap, turns);
                if !matches!(way, Way::Exec) {
                    self.clockwork.hold(false);
                    let until = Self::now().after(PATIENCE);
                    self.respawn.phase = Phase::Closing { leap, way, until, look_at: until };
                    return None;
                }
                leap
            }
        };
        capture.say_leave();
        Some(leap)
    }

    /// Why the program cannot even be tried.
    fn try_out(&mut self, cause: Cause) -> Option<String> {
        self.respawn.phase = Phase::Trying(cause, Arc::clone(&self.units));
        let sources = trial::Sources::of(&self.units, &self.source);
        match trial::begin(&self.inbox, sources, self.runs.len()) {
            Ok(()) => {
                // The trial is a child that nobody supervises: its end must not be taken for an orphan's.
                self.spawns_under_way += 1;
                None
            }
            Err(error) => self.respawn.give_up(format!("the program cannot be tried: {error}")),
        }
    }

    /// What came of the trial.
    pub(crate) fn tried(&mut self, proved: Result<Proved, String>) {
        self.spawns_under_way = self.spawns_under_way.saturating_sub(1);
        let (cause, units) = match std::mem::replace(&mut self.respawn.phase, Phase::Idle) {
            Phase::Trying(cause, units) => (cause, units),
            other @ (Phase::Idle | Phase::Closing { .. }) => {
                self.respawn.phase = other;
                return;
            }
        };
        match proved {
            Err(why) => {
                let said = self.respawn.give_up(why);
                self.refused(said);
            }
            Ok(proved) => {
                self.respawn.proved(proved.note.as_deref());
                let stands_by = proved.stands_by;
                let leap = cause.leap(proved, units);
                let way = if stands_by { self.next_turn(&leap, TURNS) } else { Way::Exec };
                let (until, look_at) = (Self::now().after(PATIENCE), Self::now());
                self.respawn.phase = Phase::Closing { leap, way, until, look_at };
            }
        }
    }

    /// An event, so that whoever looks for the reason of an upgrade that did not take place finds it also later.
    fn refused(&mut self, said: Option<String>) {
        if let Some(text) = said {
            self.notice(text);
        }
    }

    /// This manager is a successor, and supervises from now on.
    pub(crate) fn say_back(&mut self) {
        if let Some(back) = self.back.take() {
            self.events.push_back(back.event());
        }
    }
}

fn told(inbox: &Inbox, proved: Result<Proved, String>) {
    inbox.send(News::Tried(proved));
}
