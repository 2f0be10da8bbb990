//! Which part of relume this process is. One binary; the part is told by the process that started it.

use std::ffi::OsString;
use std::os::fd::RawFd;

/// The variable that tells a process its part. Never passed on to a service.
pub(crate) const ROLE: &str = "RELUME_ROLE";

/// Makes a process a service of `relume drill`. Not among the variables of relume's own, which no service gets.
pub(crate) const DRILL: &str = "DRILL_OF_RELUME";

/// Set for a manager that is not the guardian's first.
pub(crate) const AGAIN: &str = "RELUME_AGAIN";

/// Set for the process that `up --detach` has put in the background.
pub(crate) const IN_BACKGROUND: &str = "RELUME_IN_BACKGROUND";

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
            Self::Shim => "shim",
            Self::Drill => "drill",
        }
    }

    /// The environment of this process with another part.
    pub(crate) fn environment(self) -> Vec<(OsString, OsString)> {
        let rest = std::env::vars_os().filter(|(key, _)| key != ROLE);
        rest.chain([(ROLE.into(), self.word().into())]).collect()
    }
}
