//! Why a process could not be started: at which step, on what, and what that means.

use std::fmt;
use std::path::PathBuf;

use crate::error::Errno;
use crate::limits::Resource;

/// The step of a spawn that failed, in the order in which they happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpawnStep {
    /// Putting command, environment or directory into the form the kernel wants.
    Prepare,
    /// Placing the descriptors where the child finds them.
    Descriptors,
    /// Making the new process.
    Clone,
    /// Giving the child a descriptor table of its own.
    UnshareDescriptors,
    /// Entering the run's cgroup.
    JoinCgroup,
    /// Setting signal dispositions and mask.
    Signals,
    /// Becoming the leader of a new session.
    Session,
    /// Setting the nice value.
    Nice,
    /// Setting `oom_score_adj`.
    OomScore,
    /// Setting this resource limit.
    Limit(Resource),
    /// Setting the supplementary groups.
    Groups,
    /// Setting the group.
    Group,
    /// Setting the user.
    User,
    /// Entering the working directory.
    WorkingDirectory,
    /// Connecting standard input, output, error and what else was asked for.
    Stdio,
    /// Executing the program.
    Execute,
    /// The child was ended by a signal before it could execute the program.
    Killed,
    /// Reading who the new process is.
    Identify,
}

impl fmt::Display for SpawnStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "prepare the command",
            Self::Descriptors => "prepare its descriptors",
            Self::Clone => "create a process",
            Self::UnshareDescriptors => "separate its descriptors from ours",
            Self::JoinCgroup => "enter its cgroup",
            Self::Signals => "reset its signals",
            Self::Session => "create its session",
            Self::Nice => "set its nice value",
            Self::OomScore => "set its oom_score_adj",
            Self::Limit(resource) => return write!(f, "set its limit {}", resource.name()),
            Self::Groups => "set its supplementary groups",
            Self::Group => "set its group",
            Self::User => "set its user",
            Self::WorkingDirectory => "enter the working directory",
            Self::Stdio => "connect its standard streams",
            Self::Execute => "execute",
            Self::Killed => "execute the program",
            Self::Identify => "identify the new process",
        })
    }
}

/// A process could not be started; nothing of it is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnError {
    /// What failed.
    pub step: SpawnStep,
    /// On which file or directory, where there is one.
    pub path: Option<PathBuf>,
    /// Why.
    pub errno: Errno,
    /// What the number alone does not say: `its interpreter /usr/bin/python2 is missing`.
    pub hint: Option<String>,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.step)?;
        if let Some(path) = &self.path {
            write!(f, " {}", path.display())?;
        }
        match &self.hint {
            Some(hint) => write!(f, ": {hint} ({})", self.errno.name()),
            None => write!(f, ": {}", self.errno),
        }
    }
}

impl std::error::Error for SpawnError {}
