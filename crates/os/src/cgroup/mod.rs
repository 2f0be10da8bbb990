//! One cgroup v2 directory per run: the kernel's own list of a service's processes.
//!
//! # Theory of operation
//!
//! Below our own cgroup lies a root of ours, below it `SERVICE:GENERATION`, made fresh for each run and removed after it. (A directory
//! for each service between the two would be one more to make and to remove for each, and one more to look through after
//! a death.) No controller is needed: membership, `cgroup.kill`, `cgroup.events` and CPU accounting work in an empty tree. A process cannot
//! leave its cgroup by forking, by setsid or by changing its environment, so stopping the cgroup leaves nothing behind.
//!
//! *Fresh* matters. Kernels up to 6.18 at least compare, when a child is born into a cgroup, the target's kill counter with that of the *spawner's* cgroup: once
//! `cgroup.kill` was written to a directory or one above it, every later child born there is killed at birth, and if the spawner's own cgroup was killed
//! once, all its children are. So a directory that was killed is never used again, the root is never killed, and [`CgroupRoot::probe`] finds out
//! whether birth works here at all.
//!
//! Nothing here holds a descriptor: with thousands of services each would count. Watch `cgroup.events` of all of
//! them through one inotify.
//!
//! No mount is made and no cgroup v1 hierarchy touched.

mod locate;
mod name;
mod resources;
mod root;

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

pub use resources::{Limits, controllers_in, handing_on, may_hand_on};
pub use root::{CgroupRoot, EntryWay, SUBGROUP};

use crate::error::{Errno, OsError, Result};
use crate::pidfd::PidFd;

/// Rounds of the kill without `cgroup.kill`; the group is frozen meanwhile, so two suffice unless freezing is refused.
const MOST_KILL_ROUNDS: usize = 100;

/// Bytes of `cgroup.events`; two short lines up to Linux 6.18.
const MOST_EVENTS_TEXT: usize = 256;

/// The cgroup of one run. A name only: holds no descriptor, need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunCgroup {
    path: Arc<Path>,
}

/// What became of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is gone (also when it was before).
    Removed,
    /// Something lives in it: try again when `cgroup.events` changes.
    Busy,
}

impl RunCgroup {
    /// The one whose directory this is, as an earlier process of ours has noted it.
    #[must_use]
    pub fn at(path: Arc<Path>) -> Self {
        Self { path }
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// Its `cgroup.events`, to be watched with inotify ([`crate::epoll::Watch::MODIFIED`]) and then asked for [`Self::populated`].
    #[must_use]
    pub fn events_path(&self) -> PathBuf {
        self.path.join("cgroup.events")
    }

    /// The directory's descriptor, for a spawn.
    pub fn open_dir(&self) -> Result<OwnedFd> {
        rustix::fs::open(&*self.path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| OsError::at("open", &self.path, e))
    }

    /// Whether a living process is in it or below. Zombies do not count, so this is the signal that the tree is gone. False when the
    /// directory does not exist.
    pub fn populated(&self) -> Result<bool> {
        let path = self.events_path();
        // Asked at every exit: one read, where a file of unknown length would take four calls. The kernel writes it in one piece.
        let mut text = [0; MOST_EVENTS_TEXT];
        match fs::File::open(&path).and_then(|mut file| file.read(&mut text)) {
            Ok(length) => Ok(text[..length].split(|byte| *byte == b'\n').any(|line| line == b"populated 1")),
            Err(e) if is_gone(&e) => Ok(false),
            Err(e) => Err(OsError::at("read", path, e)),
        }
    }

    /// SIGKILL to everything in it and below, with no way to fork past it. The directory must not be used for another run.
    pub fn kill(&self) -> Result<()> {
        crate::tally::act();
        let path = self.path.join("cgroup.kill");
        match fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut f| std::io::Write::write_all(&mut f, b"1"))
        {
            Ok(()) => Ok(()),
            Err(e) if is_gone(&e) && self.path.is_dir() => self.kill_frozen(),
            Err(e) if is_gone(&e) => Ok(()),
            Err(e) => Err(OsError::at("write", path, e)),
        }
    }

    /// Before Linux 5.14: freeze, so that nothing forks, kill each, thaw (SIGKILL reaches the frozen).
    fn kill_frozen(&self) -> Result<()> {
        let freezer = self.path.join("cgroup.freeze");
        // Without a freezer (before 5.2) the rounds below must outrun the forks.
        let frozen = fs::write(&freezer, "1").is_ok();
        let mut result = Ok(());
        for _ in 0..MOST_KILL_ROUNDS {
            match self.signal_all(libc::SIGKILL) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) => {
                    result = Err(e);
                    break;
                }
            }
        }
        if frozen {
            fs::write(&freezer, "0").map_err(|e| OsError::at("write", freezer, e))?;
        }
        result
    }

    /// Sends a signal to every process in it and below; how many got it. One that forks meanwhile may leave a child without.
    pub fn signal_all(&self, signal: i32) -> Result<usize> {
        let opened: Vec<(u32, PidFd)> =
            self.procs()?.into_iter().filter_map(|pid| Some((pid, PidFd::open(pid).ok()?))).collect();
        // A pid may have been given to a stranger between list and open. If it is listed again after the open, either the
        // descriptor is the member's, or its process is dead and the signal goes nowhere.
        let still = self.procs()?;
        let mut reached = 0;
        for (pid, pidfd) in opened {
            if still.contains(&pid) && pidfd.send_signal(signal)? {
                reached += 1;
            }
        }
        Ok(reached)
    }

    /// Ids of the processes in it and below; empty when it does not exist.
    pub fn procs(&self) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        for dir in directories(&self.path)? {
            let path = dir.join("cgroup.procs");
            match fs::read_to_string(&path) {
                // 0 stands for a process this pid namespace cannot name.
                Ok(text) => {
                    found.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()).filter(|&pid| pid != 0))
                }
                Err(e) if is_gone(&e) => {}
                // A threaded cgroup lists its processes at the top of its own tree.
                Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                Err(e) => return Err(OsError::at("read", path, e)),
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Removes it if nothing lives in it and there is nothing below it: whether it was empty and its removal in one call, where
    /// [`Self::populated`] and [`Self::remove`] would be four.
    pub fn remove_if_bare(&self) -> Result<Removal> {
        crate::tally::act();
        let removed = remove_one(&self.path)?;
        if let (Removal::Removed, Some(service)) = (removed, name::service_dir(&self.path)) {
            // Busy: another generation is there.
            let _busy_is_fine = remove_one(service)?;
        }
        Ok(removed)
    }

    /// Removes it and what the service made below it, deepest first.
    pub fn remove(&self) -> Result<Removal> {
        // Few services make cgroups of their own: only then is there something to look for.
        if self.remove_if_bare()? == Removal::Removed {
            return Ok(Removal::Removed);
        }
        for dir in directories(&self.path)?.into_iter().rev() {
            if remove_one(&dir)? == Removal::Busy {
                return Ok(Removal::Busy);
            }
        }
        if let Some(service) = name::service_dir(&self.path) {
            // Busy: another generation is there.
            let _busy_is_fine = remove_one(service)?;
        }
        Ok(Removal::Removed)
    }
}

fn remove_one(dir: &Path) -> Result<Removal> {
    match fs::remove_dir(dir) {
        Ok(()) => Ok(Removal::Removed),
        Err(e) if is_gone(&e) => Ok(Removal::Removed),
        Err(e) if matches!(Errno::of(&e), Errno::BUSY | Errno::NOTEMPTY) => Ok(Removal::Busy),
        Err(e) => Err(OsError::at("remove", dir, e)),
    }
}

/// `top` and all directories below it, each before its children.
fn directories(top: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![top.to_owned()];
    let mut next = 0;
    while let Some(dir) = found.get(next).cloned() {
        next += 1;
        match fs::read_dir(&dir) {
            Ok(entries) => found.extend(
                entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()),
            ),
            Err(e) if is_gone(&e) => {}
            Err(e) => return Err(OsError::at("list", dir, e)),
        }
    }
    Ok(found)
}

/// ENODEV is what an open file of a removed cgroup answers.
fn is_gone(e: &std::io::Error) -> bool {
    e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(libc::ENODEV)
}
