//! Which part of relume this process is. One binary; the part is told by the process that started it.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

/// The variable that tells a process its part. Never passed on to a service.
pub(crate) const ROLE: &str = "RELUME_ROLE";

/// Makes a process a service of `relume drill`. Not among the variables of relume's own, which no service gets.
pub(crate) const DRILL: &str = "DRILL_OF_RELUME";

/// Set for a manager that is not the guardian's first.
pub(crate) const AGAIN: &str = "RELUME_AGAIN";

/// Set for a manager that has executed itself on purpose: why, and when it stopped supervising.
pub(crate) const RESPAWNED: &str = "RELUME_RESPAWNED";

/// Set for a manager that has executed itself after a crash: what has happened.
pub(crate) const CRASHED: &str = "RELUME_CRASHED";

/// Set for a process that comes up beside the manager, and waits.
pub(crate) const STANDBY: &str = "RELUME_STANDBY";

/// Set for a manager that the guardian has not started: the guardian's pid.
pub(crate) const GUARDIAN: &str = "RELUME_GUARDIAN";

/// Set after a crash: the limit of open files that relume was started with, before it raised its own.
pub(crate) const NOFILE: &str = "RELUME_NOFILE";

/// The path by which the program was started, absolute: what lies there is executed when relume begins anew.
const PROGRAM: &str = "RELUME_PROGRAM";

/// Where everything is, as it was settled when relume was started ([`crate::settled`]).
pub(crate) const PLACES: &str = "RELUME_PLACES";

/// Set for the process that `up --detach` has put in the background: the pid of the command, which waits for its services.
pub(crate) const IN_BACKGROUND: &str = "RELUME_IN_BACKGROUND";

/// Set for a process that is to read a recorded configuration instead of the files: the number of its descriptor.
pub(crate) const RECORDED: &str = "RELUME_RECORDED";

/// Set for a trial, and for the manager that it proves: the number of the file in which the one leaves the configuration for the
/// other.
pub(crate) const PREPARED: &str = "RELUME_PREPARED";

/// Set where the last configuration is handed on: to the guardian by the command that has read it, to a manager by the guardian.
pub(crate) const KEPT_CONFIG: &str = "RELUME_KEPT_CONFIG";

/// Set for a manager in safe mode: why, for people.
pub(crate) const SAFE: &str = "RELUME_SAFE_MODE";

/// Set for a manager in safe mode when the journal is to be put aside as well.
pub(crate) const WITHOUT_JOURNAL: &str = "RELUME_WITHOUT_JOURNAL";

/// What holds for one life of a process and not for the next one.
const OF_ONE_LIFE: [&str; 13] = [
    ROLE,
    AGAIN,
    RESPAWNED,
    STANDBY,
    GUARDIAN,
    CRASHED,
    NOFILE,
    PROGRAM,
    RECORDED,
    PREPARED,
    KEPT_CONFIG,
    SAFE,
    WITHOUT_JOURNAL,
];

/// Where a manager finds its channel to the guardian.
pub(crate) const CHANNEL_FD: RawFd = 3;

/// Where guardian and manager find the lock of the state directory.
pub(crate) const LOCK_FD: RawFd = 4;

/// The part of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Started by a user: a command.
    Command,
    /// Starts the manager again whenever it dies, and holds what it must not lose.
    Guardian,
    /// Supervises.
    Manager,
    /// Looks whether it could be the next manager, says so, and ends.
    Trial,
    /// Stands in for a container or an external service.
    Shim,
    /// A service of `relume drill`.
    Drill,
}

impl Role {
    /// The part that this process was told.
    pub(crate) fn of_this_process() -> Self {
        match std::env::var_os(ROLE) {
            Some(word) if word == "guardian" => Self::Guardian,
            Some(word) if word == "manager" => Self::Manager,
            Some(word) if word == "trial" => Self::Trial,
            Some(word) if word == "shim" => Self::Shim,
            _ if std::env::var_os(DRILL).is_some() => Self::Drill,
            _ => Self::Command,
        }
    }

    /// The value of [`ROLE`] for a process of this part.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Guardian => "guardian",
            Self::Manager => "manager",
            Self::Trial => "trial",
            Self::Shim => "shim",
            Self::Drill => "drill",
        }
    }

    /// The environment of this process with another part.
    pub(crate) fn environment(self) -> Vec<(OsString, OsString)> {
        let old = |key: &OsString| OF_ONE_LIFE.iter().any(|own| key == own);
        let rest = std::env::vars_os().filter(|(key, _)| !old(key));
        let program = own_program().into_os_string();
        rest.chain([(ROLE.into(), self.word().into()), (PROGRAM.into(), program)]).collect()
    }
}

/// The program of this process by the path it was started from: an upgrade puts another one there.
pub(crate) fn own_program() -> PathBuf {
    if let Some(path) = std::env::var_os(PROGRAM).filter(|_| Role::of_this_process() != Role::Command) {
        return path.into();
    }
    // Without /proc the running image is still there to be had.
    let running = std::env::current_exe().unwrap_or_else(|_| PathBuf::from(RUNNING_IMAGE));
    // The kernel says so of a file that was replaced by renaming another over it.
    let replaced = running.to_str().and_then(|text| text.strip_suffix(" (deleted)")).map(PathBuf::from);
    let running = replaced.unwrap_or(running);
    // Not the file itself where a link leads to it: the link is what an upgrade turns to another file.
    let word = PathBuf::from(std::env::args_os().next().unwrap_or_default());
    let candidates: Vec<PathBuf> = if word.components().count() > 1 || word.is_absolute() {
        vec![std::env::current_dir().unwrap_or_default().join(&word)]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(&word)).collect()
    };
    let same = |path: &Path| path.canonicalize().is_ok_and(|path| path == running);
    candidates.into_iter().find(|path| same(path)).unwrap_or(running)
}

/// What a process of ours executes to be this very program: by its path, so that people recognise it, unless that path was
/// given to another program or to none, as an upgrade does.
pub(crate) fn running_program() -> PathBuf {
    // The kernel ends the path of a file that is gone with a word of its own, so that no file is there.
    std::env::current_exe().ok().filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from(RUNNING_IMAGE))
}

/// This program, whatever has become of its file.
pub(crate) const RUNNING_IMAGE: &str = "/proc/self/exe";
