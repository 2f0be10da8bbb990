//! A successor that comes up beside this manager, so that nobody is without supervision while it does.
//!
//! # Theory of operation
//!
//! With a thousand services an exec leaves them alone for some thirty milliseconds: the image has to end, and the next one to
//! read, ask and build what this one knows. Here a child does all of that while this manager supervises: it is given the
//! descriptors that the guardian keeps, reads the journal, adopts the runs and arms its epoll set, and waits ([`super::standby`]).
//! What it knows is what was noted up to its start. If nothing was noted since when the moment has come, the guardian is told that
//! it goes on ([`crate::guardian`]), and this process leaves; else it is another one's turn, and after some turns the exec's.
//!
//! The services stay who they are and become the guardian's children when their parent leaves. Where the kernel keeps the status of
//! a process that somebody else has reaped nothing is lost by that, whoever dies; on others this road is not taken
//! ([`is_wished`]).
//!
//! # What it must never do
//!
//! Leave two at work: a successor that has not said that it goes on is killed before anything else happens.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use relume_os::channel::{Channel, MOST_BYTES, MOST_FDS, Received, Sending};
use relume_os::exit;
use relume_os::limits::{Limit, Resource};
use relume_os::pidfd::{PidFd, ProcessId};
use relume_os::prctl;
use relume_os::spawn::{SpawnFds, SpawnPlan, SpawnRequest, Spawner};

use super::standby::{COMES_UP, GOES_ON, LINE_FD};
use super::successor::Leap;
use crate::guardian::link;
use crate::manager::edge::Edge;
use crate::manager::inbox::{Inbox, News};
use crate::manager::keeper::{Keeper, Word};
use crate::manager::publish::Level;
use crate::manager::translate::number::KILL;
use crate::roles::{CHANNEL_FD, LOCK_FD, PREPARED, RECORDED, STANDBY, own_program};

/// By which road relume replaces itself, for those who want to know.
const HANDOVER: &str = "RELUME_HANDOVER";

/// From so many runs on: below it the time without supervision is mostly that of the exec itself, some milliseconds, and not worth a
/// second process with all that the first one knows.
const MANY: usize = 64;

/// How often a successor is started that knows all, where something is noted all the time, before this process executes itself.
pub(super) const TURNS: u32 = 3;

/// How long one may take to come up. It takes as long as a manager after a `kill -9`, on a machine that supervises meanwhile.
const COMING_UP: Duration = Duration::from_secs(5);

/// How long it may take until a guardian that reads has told it, and it has said so.
const GOING_ON: Duration = Duration::from_secs(1);

/// How long one that was killed may take to be gone.
const DYING: Duration = Duration::from_secs(1);

/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_micros(200);

/// Where it finds the configuration, as recorded and as prepared.
const CONFIG_FDS: [RawFd; 2] = [8, 9];

/// What this manager has written and had kept: who has read both while they were so knows all as long as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    written: u64,
    kept: u64,
}

impl Known {
    fn of(edge: &Edge) -> Self {
        Self { written: edge.journal.written(), kept: edge.keeper.changes() }
    }
}

/// How this manager is to be replaced.
#[derive(Debug)]
pub(super) enum Way {
    /// It executes the program.
    Exec,
    /// Somebody is coming up.
    Coming {
        /// Which.
        number: u64,
        /// It reads what was written until then.
        known: Known,
        /// So many more may be tried.
        turns: u32,
    },
    /// It has come up. What it knows, and how many more may be tried.
    Waiting(Box<Successor>, Known, u32),
}

impl Way {
    /// Whether this is the one that comes up.
    pub(super) fn is_number(&self, wanted: u64) -> bool {
        matches!(self, Self::Coming { number, .. } if *number == wanted)
    }

    /// It has, or there is none to be had.
    pub(super) fn came_up(&mut self, came: Option<Box<Successor>>) {
        *self = match (&self, came) {
            (Self::Coming { known, turns, .. }, Some(successor)) => Self::Waiting(successor, *known, *turns),
            _ => Self::Exec,
        };
    }

    /// Another one is taken.
    pub(super) fn dismiss(self) {
        match self {
            Self::Waiting(successor, ..) => successor.dismiss(),
            // One that comes up later finds that nobody waits for it.
            Self::Coming { .. } | Self::Exec => {}
        }
    }
}

/// A process that has come up and waits.
#[derive(Debug)]
pub(crate) struct Successor {
    process: ProcessId,
    pidfd: PidFd,
    /// The guardian's end of its channel.
    channel: Channel,
    /// Where it speaks to this process.
    line: Channel,
}

/// What a successor begins with.
struct Start {
    keeper: Arc<Keeper>,
    lock: OwnedFd,
    environment: Vec<(OsString, OsString)>,
    config: Vec<(&'static str, RawFd, OwnedFd)>,
    limits: Vec<(Resource, Limit)>,
}

/// Whether a successor is to come up beside a manager of so many runs. `RELUME_HANDOVER` says `always` or `never`; else it is to where
/// there are many and no status can get lost.
pub(super) fn is_wished(runs: usize) -> bool {
    match std::env::var(HANDOVER).as_deref() {
        Ok("always") => true,
        Ok("never") => false,
        Ok(_) | Err(_) => runs >= MANY && relume_os::features::status_outlives_reap(),
    }
}

/// Whether it is to in any case.
pub(crate) fn is_always_wished() -> bool {
    std::env::var(HANDOVER).is_ok_and(|word| word == "always")
}

impl Edge {
    /// Starts a successor that knows all; without turns, or where there is none to be had, it is an exec.
    pub(super) fn next_turn(&mut self, leap: &Leap, turns: u32) -> Way {
        let Some(left) = turns.checked_sub(1).filter(|_| self.keeper.hands_over()) else { return Way::Exec };
        let Some(lock) = self.respawn.lock.as_ref().and_then(|lock| lock.try_clone().ok()) else {
            return Way::Exec;
        };
        self.note_all_sayings();
        let known = Known::of(self);
        self.respawn.started += 1;
        let number = self.respawn.started;
        match self.begin_beside(leap, number, lock) {
            Ok(()) => {
                // A child that nobody supervises, as the trial.
                self.spawns_under_way += 1;
                Way::Coming { number, known, turns: left }
            }
            Err(_) => Way::Exec,
        }
    }

    fn begin_beside(&self, leap: &Leap, number: u64, lock: OwnedFd) -> std::io::Result<()> {
        let copies = [(RECORDED, &leap.recording), (PREPARED, &leap.prepared)];
        let copies = copies.into_iter().zip(CONFIG_FDS);
        let copy = |((key, file), number): ((_, &Option<OwnedFd>), _)| {
            Some((key, number, file.as_ref()?.try_clone()))
        };
        let config = copies.filter_map(copy).map(|(key, number, file)| Ok((key, number, file?)));
        let config = config.collect::<std::io::Result<Vec<_>>>()?;
        let mut environment = leap.environment(0, (self.keeper.guardian(), self.safe_mode()));
        environment.push((STANDBY.into(), LINE_FD.to_string().into()));
        environment.extend(config.iter().map(|(key, number, _)| ((*key).into(), number.to_string().into())));
        let keeper = Arc::clone(&self.keeper);
        let limits = keeper.limits().to_vec();
        let start = Start { keeper, lock, environment, config, limits };
        let inbox = Arc::clone(&self.inbox);
        let slack = self.respawn.slack;
        let work = move || {
            // Inherited from the thread that supervises, whose timers are finer.
            let _finer = prctl::set_timer_slack(slack);
            tell(&inbox, number, start.come_up());
        };
        std::thread::Builder::new().name("beside".into()).spawn(work).map(drop)
    }

    /// A successor has come up, or why not.
    pub(crate) fn came_up_beside(&mut self, number: u64, came: Result<Box<Successor>, String>) {
        self.spawns_under_way = self.spawns_under_way.saturating_sub(1);
        if let Err(why) = &came {
            self.say(Level::Debug, format!("no successor has come up beside this manager: {why}"));
        }
        self.respawn.came_up(number, came.ok());
    }

    /// Whether one that knew so much knows all.
    pub(super) fn is_known(&mut self, known: Known) -> bool {
        self.note_all_sayings();
        Known::of(self) == known
    }
}

fn tell(inbox: &Inbox, number: u64, came: Result<Successor, String>) {
    inbox.send(News::CameUpBeside { number, came: came.map(Box::new) });
}

impl Start {
    /// Starts it, gives it what is kept, and waits until it has come up.
    fn come_up(self) -> Result<Successor, String> {
        let channels = Channel::pair().and_then(|channel| Ok((channel, Channel::pair()?)));
        let ((channel, theirs), (line, far)) = channels.map_err(|error| error.to_string())?;
        // As wide as the kernel gives it; a narrow one only takes more rounds.
        let _narrow = channel.widen().and_then(|()| theirs.widen());
        let (process, pidfd) = self.spawn(&theirs, &far)?;
        drop((theirs, far));
        let successor = Successor { process, pidfd, channel, line };
        let until = Instant::now() + COMING_UP;
        let came = successor.give(&self.keeper, until).and_then(|()| hear(&successor.line, COMES_UP, until));
        match came {
            Ok(()) => Ok(successor),
            Err(why) => {
                successor.dismiss();
                Err(why)
            }
        }
    }

    fn spawn(&self, channel: &Channel, line: &Channel) -> Result<(ProcessId, PidFd), String> {
        let mut argv: Vec<OsString> = std::env::args_os().collect();
        let (program, arg0) = (own_program(), argv.first().cloned());
        if let Some(first) = argv.first_mut() {
            *first = program.into_os_string();
        }
        let (environment, limits) = (self.environment.clone(), self.limits.clone());
        let request = SpawnRequest { argv, arg0, environment, limits, ..SpawnRequest::default() };
        let plan = SpawnPlan::prepare(&request).map_err(|error| error.to_string())?;
        let mut extra: Vec<(RawFd, BorrowedFd<'_>)> =
            vec![(CHANNEL_FD, channel.as_fd()), (LOCK_FD, self.lock.as_fd()), (LINE_FD, line.as_fd())];
        extra.extend(self.config.iter().map(|(_, number, file)| (*number, file.as_fd())));
        let (out, err) = (std::io::stdout(), std::io::stderr());
        let (stdout, stderr) = (Some(out.as_fd()), Some(err.as_fd()));
        let fds = SpawnFds { stdin: None, stdout, stderr, extra: &extra, cgroup: None };
        let mut spawner = Spawner::new().map_err(|error| error.to_string())?;
        let spawned = spawner.spawn(&plan, &fds).map_err(|error| error.to_string())?;
        Ok((spawned.id, spawned.pidfd))
    }
}

impl Successor {
    /// Gives it all that the guardian keeps, in the guardian's words.
    fn give(&self, keeper: &Keeper, until: Instant) -> Result<(), String> {
        let (mut text, mut fds) = (String::new(), Vec::new());
        for (name, handles) in keeper.handles() {
            let copies: Vec<OwnedFd> = handles.iter().filter_map(|handle| handle.duplicate()).collect();
            if copies.len() < handles.len() {
                return Err(format!("a descriptor of {name} was closed meanwhile, or has no room"));
            }
            let more = link::kept(&name, copies.len());
            if fds.len() + copies.len() > MOST_FDS || text.len() + more.len() > MOST_BYTES {
                self.send(&std::mem::take(&mut text), &std::mem::take(&mut fds), until)?;
            }
            text.push_str(&more);
            fds.extend(copies);
        }
        if !text.is_empty() {
            self.send(&text, &fds, until)?;
        }
        self.send(&keeper.kept_all(), &[], until)
    }

    fn send(&self, text: &str, fds: &[OwnedFd], until: Instant) -> Result<(), String> {
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        loop {
            match self.channel.send(text.as_bytes(), &fds) {
                Ok(Sending::Sent) => return Ok(()),
                Ok(Sending::Full | Sending::Short) if Instant::now() < until => std::thread::sleep(LOOK),
                Ok(Sending::Full | Sending::Short) => return Err(late()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Has it go on. `Ok(true)`: it does, and this process is to leave. `Ok(false)`: nothing was said, and it is dismissed.
    ///
    /// # Errors
    /// The guardian was told, and it has not said that it goes on: it is dead now, and [`starts_another`] says what follows.
    pub(super) fn go_on(self, keeper: &Keeper, since: u64) -> Result<bool, Lost> {
        let Self { process, pidfd, channel, line } = self;
        let said = keeper.hand_over((process, since), [pidfd.as_fd(), channel.as_fd()]);
        // From here on it is the guardian's alone: what closes with the guardian is to be closed.
        drop(channel);
        if !matches!(said, Ok(true)) {
            end(&pidfd);
            return Ok(false);
        }
        match hear(&line, GOES_ON, Instant::now() + GOING_ON) {
            Ok(()) => Ok(true),
            Err(_) => {
                end(&pidfd);
                Err(Lost)
            }
        }
    }

    /// Ends it: another takes its place, or nobody. It is reaped as whoever else is nobody's.
    pub(super) fn dismiss(self) {
        // Whether it lives to see it or not: its channel closes here.
        let _gone = self.pidfd.send_signal(KILL);
    }
}

/// A successor that was told to the guardian and does not go on.
#[derive(Debug)]
pub(super) struct Lost;

/// After the end of a successor that the guardian was told of: whether the guardian has heard of it, and starts another as soon as this
/// process is gone. It has closed our channel then. If not, there is none any more, and nothing was handed over.
pub(super) fn starts_another(keeper: &Keeper) -> bool {
    let until = Instant::now() + GOING_ON;
    while keeper.has_guardian() {
        if std::iter::from_fn(|| keeper.hear()).any(|word| matches!(word, Word::Gone)) {
            return true;
        }
        if Instant::now() >= until {
            // It hangs, and nobody would be left to see that.
            let _gone = keeper.kill_guardian();
            return !keeper.has_lost_guardian(DYING);
        }
        std::thread::sleep(LOOK);
    }
    false
}

/// Waits for a word.
fn hear(line: &Channel, word: &str, until: Instant) -> Result<(), String> {
    loop {
        match line.receive() {
            Ok(Received::Message(message)) if message.bytes == word.as_bytes() => return Ok(()),
            Ok(Received::Message(message)) => return Err(String::from_utf8_lossy(&message.bytes).into()),
            Ok(Received::Nothing) if Instant::now() < until => std::thread::sleep(LOOK),
            Ok(Received::Nothing) => return Err(late()),
            Ok(Received::Closed) => return Err("it has ended".into()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn late() -> String {
    "it has not answered in time".into()
}

/// Kills it and waits until it is gone. One that waits in the kernel is gone before it does anything else.
fn end(pidfd: &PidFd) {
    let _gone = pidfd.send_signal(KILL).and_then(|_| pidfd.wait_ended(DYING));
    let _reaped = exit::reap(pidfd);
}
