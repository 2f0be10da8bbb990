//! The guardian: whatever happens to the manager, it is started again and finds what it must not lose.
//!
//! # Theory of operation
//!
//! One thread, one epoll set, no configuration, no network. It starts the manager and hears of its end; it hears
//! the terminal and the signals that are meant for relume and passes them on; it keeps descriptors under names
//! that the manager gives them ([`store`]), in the words of sd_notify's FDSTORE; and it reaps whatever was
//! handed to it when a manager died, telling the next one how each ended.
//!
//! A manager that ends by itself after saying `LEAVE` ends the guardian with that code. One that ends by itself
//! before it was ever ready has said why on the terminal: the guardian ends with it. Any other death is
//! answered by a new manager, at once after a kill from outside, with growing delays (never more than a second)
//! while managers do not even become ready.
//!
//! It must never: read a configuration, open a file of the user's, decide anything about a service, wait for
//! the manager.

pub(crate) mod link;
mod store;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use relume_os::channel::Channel;
use relume_os::epoll::{Epoll, Interest, Ready, Timer};
use relume_os::exit::{ExitStatus, Reaped};
use relume_os::pidfd::{PidFd, ProcessId};
use relume_os::signals::{self, Arrived, SignalFd};
use relume_os::spawn::{SpawnFds, SpawnPlan, SpawnRequest, Spawner};
use relume_os::{clock, exec, exit, limits, prctl, proc};

use crate::orphans;
use crate::roles::{AGAIN, CHANNEL_FD, LOCK_FD, Role};
use link::Word;
use store::Store;

const SIGNALS: u64 = 0;
const TIMER: u64 = 1;
const CHANNEL: u64 = 2;
const MANAGER: u64 = 3;

const HUP: i32 = 1;
const INT: i32 = 2;
const QUIT: i32 = 3;
const USR1: i32 = 10;
const TERM: i32 = 15;
const CHLD: i32 = 17;
const TSTP: i32 = 20;

/// What is heard. SIGTSTP is heard and not obeyed: a stopped guardian guards nothing.
const HEARD: [i32; 7] = [TERM, INT, HUP, QUIT, USR1, CHLD, TSTP];

/// The first delay after a manager that did not become ready, doubled for each in a row up to the last.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(1);

/// Turns the process that the user started into the guardian, which keeps its pid. Comes back only if that
/// fails.
pub(crate) fn become_guardian(lock: &impl AsFd) -> relume_os::OsError {
    let argv: Vec<OsString> = std::env::args_os().collect();
    exec::replace(&own_program(), &argv, &Role::Guardian.environment(), &[(lock.as_fd(), LOCK_FD)])
}

/// The program of this process by the path it was started from: an upgrade puts another one there.
fn own_program() -> PathBuf {
    // Without /proc, or when the file was removed, the running image is still there to be had.
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"))
}

/// The guardian's whole life.
pub(crate) fn run() -> ExitCode {
    match Guardian::new() {
        Ok(guardian) => guardian.guard(),
        Err(error) => {
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("error: relume could not start: {error}\n").as_bytes(),
            );
            ExitCode::FAILURE
        }
    }
}

struct Guardian {
    epoll: Epoll,
    signals: SignalFd,
    timer: Timer,
    lock: OwnedFd,
    original: Vec<(limits::Resource, limits::Limit)>,
    ignores_hangup: bool,
    spawner: Spawner,
    store: Store,
    manager: Option<Manager>,
    /// Signals that no manager has been told yet.
    untold: VecDeque<Arrived>,
    /// Ends of processes that were handed to us, for the next manager too.
    exits: VecDeque<String>,
    ever_ready: bool,
    /// A manager has been started before.
    started: bool,
    failures: u32,
    /// The exit code, and whether services run on.
    leave: Option<(u8, bool)>,
}

struct Manager {
    process: ProcessId,
    pidfd: PidFd,
    channel: Channel,
    ready: bool,
}

/// Ends kept for a manager that has not asked yet: as many as services can end while one is being started.
const EXITS_KEPT: usize = 16_384;

impl Guardian {
    fn new() -> relume_os::Result<Self> {
        let lock = exec::take_inherited(LOCK_FD)?;
        let ignores_hangup = signals::is_ignored(HUP)?;
        signals::block(&HEARD)?;
        signals::set_default(CHLD)?;
        prctl::set_child_subreaper()?;
        let original = limits::snapshot()?;
        limits::raise_nofile()?;
        // Early: low numbers make its spawns cheap.
        let spawner = Spawner::new()?;
        let epoll = Epoll::new()?;
        let signals = SignalFd::new(&HEARD)?;
        let timer = Timer::new()?;
        epoll.add(&signals, SIGNALS, Interest::READ)?;
        epoll.add(&timer, TIMER, Interest::READ)?;
        Ok(Self {
            epoll,
            signals,
            timer,
            lock,
            original,
            ignores_hangup,
            spawner,
            store: Store::default(),
            manager: None,
            untold: VecDeque::new(),
            exits: VecDeque::new(),
            ever_ready: false,
            started: false,
            failures: 0,
            leave: None,
        })
    }

    fn guard(mut self) -> ExitCode {
        self.start_manager();
        let mut ready: Vec<Ready> = Vec::new();
        loop {
            if self.epoll.wait(&mut ready, None).is_err() {
                // Nothing can be heard: at least not at full speed.
                std::thread::sleep(FIRST_DELAY);
            }
            for event in &ready {
                match event.token {
                    SIGNALS => self.hear(),
                    TIMER => {
                        let _fired = self.timer.drain();
                        if self.manager.is_none() {
                            self.start_manager();
                        }
                    }
                    CHANNEL => self.listen(),
                    MANAGER => {
                        if let Some(code) = self.manager_ended() {
                            return code;
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn hear(&mut self) {
        while let Ok(Some(arrived)) = self.signals.read() {
            match arrived.signal {
                CHLD => self.reap(),
                TSTP => {}
                HUP if self.ignores_hangup => {}
                _ => {
                    self.untold.push_back(arrived);
                    self.pass_on();
                }
            }
        }
    }

    /// Tells the manager what it has not been told; what cannot be said now is said later.
    fn pass_on(&mut self) {
        let Some(manager) = &self.manager else { return };
        while let Some(arrived) = self.untold.front() {
            match manager.channel.send(link::signal(*arrived).as_bytes(), &[]) {
                Ok(true) => drop(self.untold.pop_front()),
                Ok(false) | Err(_) => return,
            }
        }
        while let Some(exit) = self.exits.front() {
            match manager.channel.send(exit.as_bytes(), &[]) {
                Ok(true) => drop(self.exits.pop_front()),
                Ok(false) | Err(_) => return,
            }
        }
    }

    /// Reaps what was handed to us. The manager itself is reaped where its end is dealt with.
    fn reap(&mut self) {
        let manager = self.manager.as_ref().map(|manager| manager.process.pid);
        for pid in proc::children().unwrap_or_default() {
            if Some(pid) == manager {
                continue;
            }
            if let Ok(Reaped::Exited { pid, status, .. }) = exit::reap_orphan(pid) {
                if self.exits.len() == EXITS_KEPT {
                    self.exits.pop_front();
                }
                self.exits.push_back(link::exited(pid, status));
            }
        }
        self.pass_on();
    }

    fn listen(&mut self) {
        loop {
            let Some(manager) = &mut self.manager else { return };
            match link::receive(&manager.channel) {
                Some(Word::Keep { name, fds }) => self.store.keep(name, fds),
                Some(Word::Drop { name }) => self.store.drop(&name),
                Some(Word::Ready) => {
                    manager.ready = true;
                    self.ever_ready = true;
                    self.failures = 0;
                    self.pass_on();
                    // What only its own start has needed; where it is not given back it stays mapped.
                    let _mapped = relume_os::memory::give_back_code();
                }
                Some(Word::Leave { code, detach }) => self.leave = Some((code, detach)),
                Some(Word::Other) => {}
                None => return,
            }
        }
    }

    /// The manager is dead. The exit code, where that is the end of all.
    fn manager_ended(&mut self) -> Option<ExitCode> {
        // What it said last was said before it died.
        self.listen();
        let manager = self.manager.take()?;
        let _gone = self.epoll.delete(&manager.pidfd);
        let _gone = self.epoll.delete(&manager.channel);
        let status = match exit::reap(&manager.pidfd) {
            Ok(Reaped::Exited { status, .. }) => status,
            Ok(Reaped::Alive | Reaped::NotOurs) | Err(_) => ExitStatus::Unknown,
        };
        if let Some((code, detach)) = self.leave {
            if !detach {
                orphans::end_all();
            }
            return Some(ExitCode::from(code));
        }
        if let (ExitStatus::Code(code), false) = (status, self.ever_ready) {
            return Some(ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
        if manager.ready {
            self.start_manager();
        } else {
            self.failures = self.failures.saturating_add(1);
            self.start_later();
        }
        None
    }

    fn start_later(&self) {
        let delay = FIRST_DELAY.saturating_mul(1 << self.failures.min(10)).min(LAST_DELAY);
        let at = clock::monotonic_ns() + u64::try_from(delay.as_nanos()).unwrap_or(0);
        // Without the timer the next signal or child would have to do; it cannot fail for a valid time.
        let _unset = self.timer.set(at);
    }

    fn start_manager(&mut self) {
        match self.try_start_manager() {
            Ok(manager) => {
                self.manager = Some(manager);
                self.started = true;
                self.hand_over();
                self.reap();
            }
            Err(text) => {
                let _ = std::io::Write::write_all(
                    &mut std::io::stderr(),
                    format!("error: the manager could not be started: {text}; trying again\n").as_bytes(),
                );
                self.failures = self.failures.saturating_add(1);
                self.start_later();
            }
        }
    }

    fn try_start_manager(&mut self) -> Result<Manager, String> {
        let (ours, theirs) = Channel::pair().map_err(|error| error.to_string())?;
        // As wide as the kernel gives it; a narrow one only takes more rounds.
        let _narrow = ours.widen().and_then(|()| theirs.widen());
        let mut argv: Vec<OsString> = std::env::args_os().collect();
        let arg0 = argv.first().cloned();
        if let Some(program) = argv.first_mut() {
            *program = own_program().into_os_string();
        }
        let request = SpawnRequest {
            argv,
            arg0,
            environment: self.environment(),
            limits: self.original.clone(),
            ..SpawnRequest::default()
        };
        let plan = SpawnPlan::prepare(&request).map_err(|error| error.to_string())?;
        let (out, err) = (std::io::stdout(), std::io::stderr());
        let fds = SpawnFds {
            stdin: None,
            stdout: Some(out.as_fd()),
            stderr: Some(err.as_fd()),
            extra: &[(CHANNEL_FD, theirs.as_fd()), (LOCK_FD, self.lock.as_fd())],
            cgroup: None,
        };
        let spawned = self.spawner.spawn(&plan, &fds).map_err(|error| error.to_string())?;
        self.epoll.add(&spawned.pidfd, MANAGER, Interest::READ).map_err(|error| error.to_string())?;
        self.epoll.add(&ours, CHANNEL, Interest::READ).map_err(|error| error.to_string())?;
        Ok(Manager { process: spawned.id, pidfd: spawned.pidfd, channel: ours, ready: false })
    }

    /// Ours, with the part it is to play.
    fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut all = Role::Manager.environment();
        if self.started {
            all.push((AGAIN.into(), "1".into()));
        }
        all
    }

    /// Gives a new manager all that is kept. It reads before it does anything else, so waiting for it is
    /// bounded by its own life.
    fn hand_over(&self) {
        let Some(manager) = &self.manager else { return };
        let all = self.store.all().map(|(name, fds)| (link::kept(name), fds));
        for (word, fds) in all.chain([(link::KEPT_ALL.to_owned(), Vec::new())]) {
            while let Ok(false) = manager.channel.send(word.as_bytes(), &fds) {
                if manager.pidfd.wait_ended(Duration::from_millis(1)).unwrap_or(true) {
                    return;
                }
            }
        }
    }
}
