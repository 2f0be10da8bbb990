//! The guardian: whatever happens to the manager, it is started again and finds what it must not lose.
//!
//! # Theory of operation
//!
//! One thread, one epoll set, no configuration, no network. It starts the manager ([`starting`]) and hears of its end
//! ([`judge`] says what follows); it watches that the manager goes on speaking ([`watch`]); it hears the terminal and
//! the signals that are meant for relume and passes them on ([`heard`]); it keeps descriptors under names that the manager gives
//! them ([`store`]), in the words of sd_notify's FDSTORE; and it reaps whatever was handed to it when a manager died,
//! telling every next one how each ended until one has it in its journal ([`exits`]).
//!
//! A manager that ends by itself after saying `LEAVE` ends the guardian with that code. One that ends by itself
//! before any was ever ready has said why on the terminal: the guardian ends with it. Any other death is
//! answered by a new manager, and that never ends. A manager may also hand over to a process that has come up beside it
//! ([`handover`]).
//!
//! What the manager is to hear waits in a queue of its own and goes out as the channel has room ([`Manager::outbox`]):
//! a manager that does not read holds up nobody.
//!
//! The guardian itself is replaced in two ways, both by an exec of this process that keeps every descriptor
//! ([`table`]): a manager whose guardian has died takes its part, and a guardian whose manager has proved a newer
//! program takes that program.
//!
//! It must never: read a configuration, open a file of the user's, decide anything about a service, wait for
//! the manager.

mod begin;
mod exits;
mod handover;
mod heard;
mod judge;
mod leave;
pub(crate) mod link;
mod manager;
mod starting;
mod store;
pub(crate) mod table;
mod watch;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

use relume_os::channel::{Channel, Sending, is_gone};
use relume_os::epoll::{Epoll, Interest, Ready, Timer};
use relume_os::exit::ExitStatus;
use relume_os::pidfd::{PidFd, ProcessId};
use relume_os::signals::{self, SignalFd};
use relume_os::spawn::Spawner;
use relume_os::{clock, exec, limits, prctl};

use crate::orphans;
use crate::prepared;
use crate::roles::{LOCK_FD, own_program};
use crate::systemd;
use exits::Exits;
use heard::Heard;
use judge::{Death, Judge, Mode, PROVEN};
use leave::Leave;
use link::{How, Why, Word};
use manager::{Manager, Out};
use store::Store;
use table::{Heir, Table};
use watch::{Verdict, Watch};

pub(crate) use begin::become_guardian;
pub(crate) use starting::SAFE_CONFIG_FD;

const SIGNALS: u64 = 0;
const TIMER: u64 = 1;
const CHANNEL: u64 = 2;
const MANAGER: u64 = 3;
const OUTGOING: u64 = 4;
const SYSTEMD: u64 = 16;

const HUP: i32 = 1;
const INT: i32 = 2;
const QUIT: i32 = 3;
const ABRT: i32 = 6;
const KILL: i32 = 9;
const USR1: i32 = 10;
const TERM: i32 = 15;
const CHLD: i32 = 17;
const TSTP: i32 = 20;

/// What is heard. SIGTSTP is heard and not obeyed: a stopped guardian guards nothing.
const HEARD: [i32; 7] = [TERM, INT, HUP, QUIT, USR1, CHLD, TSTP];

/// The pause after a wait that has failed.
const REST: Duration = Duration::from_millis(50);

/// How long it may take to die of SIGKILL.
const DYING: Duration = Duration::from_secs(1);

/// The name under which the configuration of the present manager is kept.
pub(crate) const CONFIG: &str = "config";

/// The name under which the last configuration is kept that has held for [`PROVEN`].
pub(crate) const GOOD_CONFIG: &str = "config.good";

/// The guardian's whole life.
pub(crate) fn run() -> ExitCode {
    match Guardian::new() {
        Ok(guardian) => guardian.guard(),
        Err(error) => {
            complain(&format!("error: relume could not start: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// To whoever sees our standard error; there may be nobody.
fn complain(text: &str) {
    let _nobody = std::io::Write::write_all(&mut std::io::stderr(), format!("{text}\n").as_bytes());
}

struct Guardian {
    epoll: Epoll,
    signals: SignalFd,
    timer: Timer,
    armed: Option<u64>,
    /// Who expects signs of life.
    systemd: Option<systemd::Watchdog>,
    lock: OwnedFd,
    /// What relume was started with.
    original: Vec<(limits::Resource, limits::Limit)>,
    ignores_hangup: bool,
    spawner: Spawner,
    store: Store,
    manager: Option<Manager>,
    /// A manager that has handed over and has not ended yet.
    outgoing: Option<PidFd>,
    /// When the next manager is started, while there is none.
    start_at: Option<u64>,
    /// When to try again to tell the manager what could not be sent.
    flush_at: Option<u64>,
    /// When the present configuration has held for long enough.
    config_good_at: Option<u64>,
    /// Signals that no manager has been told yet.
    untold: VecDeque<Heard>,
    exits: Exits,
    judge: Judge,
    ever_ready: bool,
    /// Why the next manager is not the first; none: it is.
    why: Option<Why>,
    /// For how long a manager may be silent, as the last one has said; none: it is not watched.
    period: Option<Duration>,
    /// The program of the last manager that was proven.
    good_program: Option<OwnedFd>,
    /// The manager is leaving.
    leave: Option<Leave>,
    /// Who was a child of this process before it guarded anything.
    strangers: Vec<ProcessId>,
}

impl Guardian {
    fn new() -> relume_os::Result<Self> {
        let lock = exec::take_inherited(LOCK_FD)?;
        let table = Table::inherited();
        let ignores_hangup = match &table {
            Some(table) => table.ignores_hangup,
            None => signals::is_ignored(HUP)?,
        };
        signals::block(&HEARD)?;
        signals::set_default(CHLD)?;
        prctl::set_child_subreaper()?;
        let original = match &table {
            Some(table) => table.limits.clone(),
            None => limits::snapshot()?,
        };
        limits::raise_nofile()?;
        // Early: low numbers make its spawns cheap.
        let spawner = Spawner::new()?;
        let epoll = Epoll::new()?;
        let signals = SignalFd::new(&HEARD)?;
        let timer = Timer::new()?;
        epoll.add(&signals, SIGNALS, Interest::READ)?;
        epoll.add(&timer, TIMER, Interest::READ)?;
        let systemd = systemd::Watchdog::of_this_process();
        if let Some(watchdog) = &systemd {
            epoll.add(watchdog.timer(), SYSTEMD, Interest::READ)?;
        }
        let mut guardian = Self {
            epoll,
            signals,
            timer,
            armed: None,
            systemd,
            lock,
            original,
            ignores_hangup,
            spawner,
            store: Store::default(),
            manager: None,
            outgoing: None,
            start_at: None,
            flush_at: None,
            config_good_at: None,
            untold: VecDeque::new(),
            exits: Exits::default(),
            judge: Judge::default(),
            ever_ready: false,
            why: None,
            period: watch::until_told(),
            good_program: None,
            leave: None,
            strangers: Vec::new(),
        };
        if let Some(config) = prepared::kept() {
            guardian.store.keep(CONFIG.to_owned(), config.into());
        }
        match table {
            Some(table) => guardian.take_over(table),
            None => guardian.strangers = orphans::before_us(),
        }
        Ok(guardian)
    }

    /// What was kept in this process before its exec: by a manager, or by an older guardian.
    fn take_over(&mut self, table: Table) {
        for (name, handles) in table.kept {
            if let Some(fds) = table::take_kept(&handles) {
                self.store.keep(name, fds);
            }
        }
        self.ever_ready = true;
        self.period = table.period;
        self.exits = Exits::of(table.exits.into(), table.told);
        let why = self.why.insert(table.why).text.clone();
        self.strangers = table.strangers;
        if let Some(Heir { process, pidfd, channel }) = table.manager
            && let (Some(pidfd), Some(channel)) = (pidfd.take(), channel.take())
        {
            let (pidfd, channel) = (PidFd::from_owned(pidfd), Channel::from_owned(channel));
            let watch = Watch::new(clock::monotonic_ns(), self.period, 0);
            let mut manager = Manager::new((process, pidfd), channel, Mode::Plain, watch);
            (manager.ready_at, manager.proven) = (Some(clock::monotonic_ns()), true);
            manager.outbox.push_back(Out::Text(link::replaced(&why)));
            match self.attend(manager) {
                Ok(()) => self.flush(),
                Err(error) => complain(&format!("error: the manager cannot be heard any more: {error}")),
            }
        }
    }

    fn guard(mut self) -> ExitCode {
        if self.manager.is_none() {
            self.start_manager();
        }
        self.reap();
        let mut ready: Vec<Ready> = Vec::new();
        loop {
            self.arm();
            if self.epoll.wait(&mut ready, None).is_err() {
                // Nothing can be heard: at least not at full speed.
                std::thread::sleep(REST);
            }
            for event in &ready {
                match event.token {
                    SIGNALS => self.hear(),
                    TIMER => {
                        let _fired = self.timer.drain();
                        self.armed = None;
                    }
                    CHANNEL => {
                        let before = self.manager_pid();
                        self.listen();
                        self.flush();
                        // What has hung up may be the channel of one that has handed over.
                        if event.hangup && self.manager_pid() == before {
                            self.hung_up();
                        }
                    }
                    OUTGOING => self.outgoing_ended(),
                    SYSTEMD => drop(self.systemd.as_ref().map(systemd::Watchdog::due)),
                    MANAGER => {
                        if let Some(code) = self.manager_ended() {
                            return code;
                        }
                    }
                    _ => {}
                }
            }
            self.tick(clock::monotonic_ns());
            if let Some(code) = self.left_behind(clock::monotonic_ns()) {
                return code;
            }
        }
    }

    /// Waits for the earliest of all that has a time.
    fn arm(&mut self) {
        let proven = self.manager.as_ref().filter(|manager| !manager.proven);
        let proven = proven.and_then(|manager| Some(manager.ready_at? + nanos(PROVEN)));
        let watch = self.manager.as_ref().and_then(|manager| manager.watch.deadline());
        let start = self.start_at.filter(|_| self.manager.is_none() && self.outgoing.is_none());
        let leave = self.leave.as_ref().map(|leave| leave.until);
        let at =
            [proven, watch, start, self.config_good_at, self.flush_at, leave].into_iter().flatten().min();
        if at == self.armed {
            return;
        }
        // Neither can fail for a valid time.
        let _unset = at.map_or_else(|| self.timer.disarm(), |at| self.timer.set(at));
        self.armed = at;
    }

    /// Does what is due.
    fn tick(&mut self, now: u64) {
        if self.manager.is_none() && self.outgoing.is_none() && self.start_at.is_none_or(|at| at <= now) {
            self.start_manager();
        }
        if self.config_good_at.is_some_and(|at| at <= now) {
            self.config_good_at = None;
            self.store.copy(CONFIG, GOOD_CONFIG);
        }
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush_at = None;
            self.flush();
        }
        let Some(manager) = &mut self.manager else { return };
        match manager.watch.look(now) {
            Verdict::Fine => {}
            // It may have ended by now, which is what is wanted.
            Verdict::Abort => drop(manager.pidfd.send_signal(ABRT)),
            Verdict::Kill => drop(manager.pidfd.send_signal(KILL)),
        }
        if !manager.proven && manager.ready_at.is_some_and(|at| at + nanos(PROVEN) <= now) {
            manager.proven = true;
            self.proven();
        }
    }

    fn hear(&mut self) {
        while let Ok(Some(arrived)) = self.signals.read() {
            match arrived.signal {
                CHLD => self.reap(),
                TSTP => {}
                HUP if self.ignores_hangup => {}
                // Asked again, and nobody is there to hear it.
                TERM | INT if self.leave.is_some() => self.hurry(),
                _ => {
                    let heard = Heard { arrived, again: false };
                    match &mut self.manager {
                        Some(manager) => manager.outbox.push_back(Out::Signal(heard)),
                        None => self.untold.push_back(heard),
                    }
                }
            }
        }
        self.flush();
    }

    fn manager_pid(&self) -> Option<u32> {
        self.manager.as_ref().map(|manager| manager.process.pid)
    }

    /// Reaps what was handed to us. The manager itself is reaped where its end is dealt with.
    fn reap(&mut self) {
        for ended in self.exits.reap(self.manager_pid()) {
            if let Some(manager) = &mut self.manager {
                manager.outbox.push_back(Out::Text(link::exited(&ended)));
            }
        }
        self.flush();
    }

    /// Tells the manager what it is to hear, as far as there is room in the channel.
    fn flush(&mut self) {
        let Some(manager) = &mut self.manager else { return };
        let mut full = false;
        while let Some(next) = manager.outbox.front() {
            let (taken, text, fds) = match next {
                Out::Text(text) => (1, text.clone(), Vec::new()),
                Out::Signal(heard) => (1, link::signal(heard.arrived, heard.again), Vec::new()),
                Out::Kept(_) => self.store.message(manager.outbox.iter().map_while(Out::kept)),
            };
            let sent = match text.is_empty() {
                true => Ok(Sending::Sent),
                false => manager.channel.send(text.as_bytes(), &fds),
            };
            match sent {
                Ok(Sending::Sent) => {
                    if let Out::Signal(heard) = next {
                        manager.told.add(*heard);
                    }
                    drop(manager.outbox.drain(..taken));
                }
                Ok(Sending::Full) => {
                    full = true;
                    break;
                }
                Ok(Sending::Short) => {
                    self.flush_at = Some(clock::monotonic_ns() + nanos(REST));
                    break;
                }
                // What it was not told, the next one is.
                Err(error) if is_gone(&error) => break,
                Err(error) => {
                    complain(&format!("error: the manager cannot be told something: {error}"));
                    drop(manager.outbox.drain(..taken));
                }
            }
        }
        let writing = full;
        if writing != manager.writing {
            let interest = Interest { writable: writing, ..Interest::READ };
            let _gone = self.epoll.modify(&manager.channel, CHANNEL, interest);
            manager.writing = writing;
        }
    }

    fn listen(&mut self) {
        while let Some(manager) = &mut self.manager {
            let Some(word) = link::receive(&manager.channel) else { return };
            let now = clock::monotonic_ns();
            match word {
                Word::Keep { name, fds } => {
                    let ready = manager.ready_at.is_some();
                    let is_config = name == CONFIG;
                    self.store.keep(name, fds);
                    if ready && is_config {
                        self.config_held(now);
                    }
                }
                Word::Drop { name } => self.store.drop(&name),
                Word::Lost { name } => {
                    // A part of them would stand for the whole.
                    self.store.drop(&name);
                    complain(&format!("error: the guardian has no room for the descriptors of {name}"));
                }
                Word::Hello { crash } => {
                    let supervised = manager.ready_at.map(|at| Duration::from_nanos(now.saturating_sub(at)));
                    let mode = manager.mode;
                    (manager.ready_at, manager.proven) = (None, false);
                    // It crashed while it left, and comes back to do that in order.
                    self.leave = None;
                    manager.watch.restarted(now);
                    self.why = None;
                    if crash.is_none_or(|signal| !self.has_crashed_too_often(signal, supervised, mode)) {
                        self.hand_over();
                    }
                }
                Word::Ready => self.supervised(now),
                Word::Alive { period } => {
                    manager.watch.heard(now, period);
                    self.period = period;
                }
                Word::Ack { upto } => self.exits.acknowledged(upto),
                Word::Heard { signals } => manager.told.dealt_with(signals),
                Word::Successor { process, since, fds } => self.handed_over(process, since, fds),
                Word::Leave { code, detach } => {
                    let now = clock::monotonic_ns();
                    self.leave = Some(Leave::announced(self.leave.take(), (code, detach), now));
                }
                Word::Other => {}
            }
        }
    }

    /// A manager that is leaving is to end now.
    fn hurry(&mut self) {
        if let Some(leave) = &mut self.leave {
            leave.until = leave.until.min(clock::monotonic_ns());
        }
    }

    /// A manager that is leaving is waited for, then killed; one that does not even die of that waits in the kernel, for a
    /// disk that hangs, and is left behind.
    fn left_behind(&mut self, now: u64) -> Option<ExitCode> {
        let (manager, leave) = (self.manager.as_ref()?, self.leave.as_mut()?);
        if now < leave.until {
            return None;
        }
        if !leave.killed {
            (leave.killed, leave.until) = (true, now + nanos(DYING));
            // It may have ended by now, which is what is wanted.
            drop(manager.pidfd.send_signal(KILL));
            return None;
        }
        complain(&format!(
            "warning: the manager (pid {}) waits in the kernel, for a disk that does not answer: relume leaves without it",
            manager.process.pid
        ));
        self.leave.as_ref().map(|leave| self.left(leave))
    }

    fn left(&self, leave: &Leave) -> ExitCode {
        if !leave.detach {
            orphans::end_all(&self.strangers);
        }
        ExitCode::from(leave.code)
    }

    /// The manager has closed its end and is about to end: what is ready for ever would keep us busy until then.
    fn hung_up(&mut self) {
        if let Some(manager) = &self.manager {
            let _gone = self.epoll.delete(&manager.channel);
        }
    }

    /// The manager supervises.
    fn supervised(&mut self, now: u64) {
        let Some(manager) = &mut self.manager else { return };
        manager.ready_at = Some(now);
        self.ever_ready = true;
        self.config_held(now);
        // What only a start, or handing over to this manager, has needed; what is not given back stays mapped.
        relume_os::memory::give_back_heap();
        let _mapped = relume_os::memory::give_back_code();
    }

    /// The configuration that is kept now holds since now.
    fn config_held(&mut self, now: u64) {
        self.config_good_at = Some(now + nanos(PROVEN));
        if self.store.get(GOOD_CONFIG).is_none() {
            // Better than none, until one is proven.
            self.store.copy(CONFIG, GOOD_CONFIG);
        }
    }

    /// The manager is dead. The exit code, where that is the end of all.
    fn manager_ended(&mut self) -> Option<ExitCode> {
        // What it said last was said before it died.
        self.listen();
        // Which may have been that it hands over.
        let mut manager = self.manager.take_if(|manager| !matches!(manager.pidfd.has_ended(), Ok(false)))?;
        let _gone = self.epoll.delete(&manager.pidfd);
        let _gone = self.epoll.delete(&manager.channel);
        self.hurry_outgoing();
        let status = handover::end_of(&manager);
        if let Some(leave) = &self.leave {
            return Some(self.left(leave));
        }
        if let (ExitStatus::Code(code), false) = (status, self.ever_ready) {
            return Some(ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
        let now = clock::monotonic_ns();
        let supervised = manager.ready_at.map(|at| Duration::from_nanos(now.saturating_sub(at)));
        let by_watchdog = manager.watch.has_struck();
        let why = why(&manager, status, now);
        // A time without supervision ends with a manager that supervises.
        let since = self.why.take().filter(|_| supervised.is_none()).map_or(why.since, |first| first.since);
        self.why = Some(Why { since, ..why });
        self.untold.extend(manager.left_signals());
        self.config_good_at = None;
        let pause = self.judge.died(Death { status, supervised, by_watchdog });
        self.start_at = Some(now + nanos(pause));
        None
    }
}

/// What the next manager is told of this one's end.
fn why(manager: &Manager, status: ExitStatus, now: u64) -> Why {
    if let Some(period) = manager.watch.period().filter(|_| manager.watch.has_struck()) {
        let text = format!("it had not answered for {period:?}");
        return Why { text, how: How::Silence, since: manager.watch.last_heard() };
    }
    let how = match status {
        ExitStatus::Code(_) => How::Exit,
        ExitStatus::Signal { .. } => How::Signal,
        ExitStatus::Unknown => How::Unknown,
    };
    Why { text: status.to_string(), how, since: now }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
