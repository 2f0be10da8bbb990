//! Starting the manager: which program, with which configuration, and what it finds; and what follows from one that has
//! proved itself.
//!
//! The program is the one at the path that relume was started by, so that an upgrade is picked up. After a death that
//! counts it is the last one that was proven, by a descriptor that stays open here, whatever lies at the path by now;
//! where none was proven yet, the one that this process itself runs. In safe mode the manager also gets the last good
//! configuration instead of the files.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use relume_os::channel::Channel;
use relume_os::clock;
use relume_os::epoll::Interest;
use relume_os::exit::ExitStatus;
use relume_os::inherit::Handle;
use relume_os::spawn::{SpawnFds, SpawnPlan, SpawnRequest, Spawned};

use super::judge::{Death, Mode};
use super::link::Why;
use super::store::Store;
use super::table::{self, Heir, Table};
use super::watch::Watch;
use super::{
    CHANNEL, CONFIG, GOOD_CONFIG, Guardian, KILL, MANAGER, Manager, Out, complain, link, nanos, own_program,
};
use crate::prepared::KEPT_FDS;
use crate::roles::{AGAIN, CHANNEL_FD, KEPT_CONFIG, LOCK_FD, Role, SAFE, WITHOUT_JOURNAL};

/// Where a manager in safe mode finds the last good configuration, if there is one.
pub(crate) const SAFE_CONFIG_FD: RawFd = 5;

/// The last configuration, recorded and prepared.
fn last_config(store: &Store) -> Option<[BorrowedFd<'_>; 2]> {
    store.get(CONFIG)?.try_into().ok()
}

impl Guardian {
    pub(super) fn start_manager(&mut self) {
        self.start_at = None;
        match self.try_start_manager() {
            Ok(manager) => {
                if let Err(error) = self.attend(manager) {
                    complain(&format!("error: the manager cannot be heard: {error}; trying again"));
                    return self.start_later();
                }
                // First what ended while nobody looked, so that the manager is told with all the rest.
                let _told_below = self.exits.reap(self.manager.as_ref().map(|manager| manager.process.pid));
                self.hand_over();
            }
            Err(text) => {
                complain(&format!("error: the manager could not be started: {text}; trying again"));
                self.start_later();
            }
        }
    }

    fn start_later(&mut self) {
        self.start_at = Some(clock::monotonic_ns() + nanos(self.judge.failed()));
    }

    /// Hears this manager from now on.
    pub(super) fn attend(&mut self, manager: Manager) -> relume_os::Result<()> {
        let heard = self.epoll.add(&manager.pidfd, MANAGER, Interest::READ);
        let heard = heard.and_then(|()| self.epoll.add(&manager.channel, CHANNEL, Interest::READ));
        if let Err(error) = heard {
            // Unheard, it would take us for dead and start another one.
            let _gone = manager.pidfd.send_signal(KILL);
            return Err(error);
        }
        self.manager = Some(manager);
        Ok(())
    }

    /// Gives the manager all that is kept, then what it was not told yet. One that begins anew finds what it had not read in the
    /// channel, and what it had read and not dealt with is lost with it: which is which nobody knows, so it is told again.
    pub(super) fn hand_over(&mut self) {
        let Some(manager) = &mut self.manager else { return };
        let kept = self.store.names().map(|name| Out::Kept(name.to_owned()));
        let ended = self.exits.all().map(|ended| Out::Text(link::exited(ended)));
        let all = Out::Text(link::kept_all(self.why.as_ref(), self.ignores_hangup));
        let signals = manager.left_signals().into_iter().chain(self.untold.drain(..));
        let signals: Vec<Out> = signals.map(Out::Signal).collect();
        manager.outbox.clear();
        manager.outbox.extend(kept.chain(ended).chain([all]).chain(signals));
        self.flush();
    }

    fn try_start_manager(&mut self) -> Result<Manager, String> {
        let (ours, theirs) = Channel::pair().map_err(|error| error.to_string())?;
        // As wide as the kernel gives it; a narrow one only takes more rounds.
        let _narrow = ours.widen().and_then(|()| theirs.widen());
        let mode = self.judge.mode();
        let last_good = self.last_good_program();
        let spawned = if self.judge.failures() > 0 {
            self.spawn(&last_good, mode, &theirs)?
        } else {
            // A program that is missing or is none at all does not even become a process.
            self.spawn(&own_program(), mode, &theirs).or_else(|_| self.spawn(&last_good, mode, &theirs))?
        };
        let watch = Watch::new(clock::monotonic_ns(), self.period, self.judge.failures());
        Ok(Manager::new((spawned.id, spawned.pidfd), ours, mode, watch))
    }

    fn last_good_program(&self) -> PathBuf {
        let own = std::process::id();
        match &self.good_program {
            Some(program) => PathBuf::from(format!("/proc/{own}/fd/{}", program.as_raw_fd())),
            None => PathBuf::from(format!("/proc/{own}/exe")),
        }
    }

    fn spawn(&mut self, program: &Path, mode: Mode, channel: &Channel) -> Result<Spawned, String> {
        let mut argv: Vec<OsString> = std::env::args_os().collect();
        let arg0 = argv.first().cloned();
        if let Some(first) = argv.first_mut() {
            *first = program.into();
        }
        let request = SpawnRequest {
            argv,
            arg0,
            environment: self.environment(mode),
            limits: self.original.clone(),
            ..SpawnRequest::default()
        };
        let plan = SpawnPlan::prepare(&request).map_err(|error| error.to_string())?;
        let (out, err) = (std::io::stdout(), std::io::stderr());
        let mut extra = vec![(CHANNEL_FD, channel.as_fd()), (LOCK_FD, self.lock.as_fd())];
        if mode >= Mode::Safe {
            let config: Option<BorrowedFd<'_>> =
                self.store.get(GOOD_CONFIG).and_then(|fds| fds.first().copied());
            extra.extend(config.map(|config| (SAFE_CONFIG_FD, config)));
        } else {
            extra.extend(
                last_config(&self.store).into_iter().flat_map(|config| KEPT_FDS.into_iter().zip(config)),
            );
        }
        let fds = SpawnFds {
            stdin: None,
            stdout: Some(out.as_fd()),
            stderr: Some(err.as_fd()),
            extra: &extra,
            cgroup: None,
        };
        self.spawner.spawn(&plan, &fds).map_err(|error| error.to_string())
    }

    /// Ours, with the part it is to play.
    fn environment(&self, mode: Mode) -> Vec<(OsString, OsString)> {
        let mut all = Role::Manager.environment();
        all.retain(|(key, _)| !table::is_own(key));
        if mode < Mode::Safe && last_config(&self.store).is_some() {
            all.push((KEPT_CONFIG.into(), "1".into()));
        }
        if let Some(why) = &self.why {
            all.push((AGAIN.into(), "1".into()));
            if mode >= Mode::Safe {
                let times = self.judge.failures();
                all.push((SAFE.into(), format!("{}, {times} times in a row", why.text).into()));
            }
            if mode == Mode::WithoutJournal {
                all.push((WITHOUT_JOURNAL.into(), "1".into()));
            }
        }
        all
    }

    /// The manager has supervised for long enough: what it runs is good. If that is newer than what we run, we follow.
    pub(super) fn proven(&mut self) {
        self.judge.proven();
        let Some(manager) = &self.manager else { return };
        if manager.mode >= Mode::Safe {
            return;
        }
        let program = format!("/proc/{}/exe", manager.process.pid);
        let Ok(file) = File::open(&program) else { return };
        let identity = |path: &str| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        let newer = identity(&program) != identity("/proc/self/exe");
        self.good_program = Some(file.into());
        if newer && manager.outbox.is_empty() && self.leave.is_none() {
            let error = table::become_guardian(&self.last_good_program(), &self.table());
            complain(&format!("warning: the guardian could not take the newer program: {error}"));
        }
    }

    /// The manager has begun anew by itself after a crash, which counts like a death: crashes that are too far apart for it to give
    /// up would else go on for ever. Whether it is killed, so that the next one can be started in safe mode.
    pub(super) fn has_crashed_too_often(
        &mut self,
        signal: i32,
        supervised: Option<Duration>,
        mode: Mode,
    ) -> bool {
        let status = ExitStatus::Signal { number: signal, core_dumped: false };
        self.judge.died(Death { status, supervised, by_watchdog: false });
        let Some(manager) = self.manager.as_ref().filter(|_| self.judge.mode() > mode) else { return false };
        // Its end is noticed as any other.
        manager.pidfd.send_signal(KILL).unwrap_or(false)
    }

    /// All that another program in this process has to know.
    fn table(&self) -> Table {
        let heir = |manager: &Manager| {
            let (pidfd, channel) = (Handle::of(&manager.pidfd).ok()?, Handle::of(&manager.channel).ok()?);
            Some(Heir { process: manager.process, pidfd, channel })
        };
        Table {
            limits: self.original.clone(),
            ignores_hangup: self.ignores_hangup,
            period: self.period,
            why: Why {
                text: "the guardian runs the program that its manager has proved".into(),
                ..Why::default()
            },
            kept: self.store.handles(),
            manager: self.manager.as_ref().and_then(heir),
            exits: self.exits.all().copied().collect(),
            told: self.exits.last(),
            strangers: self.strangers.clone(),
        }
    }
}
