//! How runs end, and why the core acts.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::health::Check;
use crate::id::{Hook, ServiceId};
use crate::policy::RestartPolicy;

/// How the main process of a run ended, as the kernel says (wait(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// The signal's number.
        number: i32,
        /// Whether the kernel wrote a core dump.
        core_dumped: bool,
    },
    /// It is gone and nobody can say how. A failure, and never the completion of a oneshot.
    Unknown,
    /// SIGKILL from the kernel, which had no memory left: on the machine, or within the limit of the run.
    OutOfMemory {
        /// The run's own cgroup counts it; else it is only known that the kernel killed somebody at that time.
        certain: bool,
    },
}

impl Exit {
    /// Whether `policy` counts this end as success.
    #[must_use]
    pub fn is_success(self, policy: &RestartPolicy) -> bool {
        match self {
            Self::Code(code) => policy.success_exit_codes.contains(&code),
            Self::Signal { .. } | Self::Unknown | Self::OutOfMemory { .. } => false,
        }
    }

    /// The code a shell would report: the code itself, 128 + the signal, or 1 where it is not known.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal { number, .. } => 128 + number,
            Self::OutOfMemory { .. } => 128 + SIGKILL,
            Self::Unknown => 1,
        }
    }
}

/// The same number on every Linux architecture (signal(7)).
const SIGKILL: i32 = 9;

/// Why a process could not be started, in the words of the edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnError {
    /// What failed, on what, with which errno; a lower-case fragment for people.
    pub text: String,
    /// The machine ran out of something (EAGAIN, ENOMEM, EMFILE, ENFILE): not the service's fault, so it
    /// is tried again soon and no retry is used up.
    pub shortage: bool,
}

/// Why a run is ended, or why a service is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Somebody asked.
    Asked,
    /// The main process ended by itself.
    Exited(Exit),
    /// A job had been done already, so nothing was started.
    AlreadyDone,
    /// A `forking` service's first process ended with success and nothing was left behind it.
    LeftNothing,
    /// The process could not be started.
    SpawnFailed(SpawnError),
    /// Not ready within `timeout_start`.
    StartTimeout,
    /// A hook that is waited for failed; no exit: it took too long or could not be started.
    HookFailed {
        /// Which hook.
        hook: Hook,
        /// How it ended.
        exit: Option<Exit>,
    },
    /// A check of its health failed too often in a row.
    Unhealthy(Check),
    /// It has not shown within its `watchdog` time that it lives.
    Watchdog,
    /// Its tree uses more memory than its `max_memory`, both in bytes.
    Memory {
        /// What was measured.
        used: u64,
        /// What it may use.
        limit: u64,
    },
    /// A dependency with `restart: true` went down; as an answer: this dependency does not come up by itself.
    Dependency(ServiceId),
    /// What it is started with has changed.
    ConfigChanged,
    /// It is no longer in the configuration.
    Removed,
    /// relume is shutting down.
    Shutdown,
}

impl Cause {
    /// Whether this is the service's own failure under `policy`, so that restart policy and retries apply.
    #[must_use]
    pub fn is_failure(&self, policy: &RestartPolicy) -> bool {
        match self {
            Self::Exited(exit) => !exit.is_success(policy),
            Self::LeftNothing
            | Self::SpawnFailed(_)
            | Self::StartTimeout
            | Self::HookFailed { .. }
            | Self::Unhealthy(_)
            | Self::Watchdog
            | Self::Memory { .. } => true,
            Self::AlreadyDone
            | Self::Asked
            | Self::Dependency(_)
            | Self::ConfigChanged
            | Self::Removed
            | Self::Shutdown => false,
        }
    }

    /// Whether the service was judged ill, so that it may not answer when it is asked.
    #[must_use]
    pub fn is_illness(&self) -> bool {
        matches!(self, Self::Unhealthy(_) | Self::Watchdog)
    }

    /// Whether the run ended or could not begin for want of something the machine lacks just now.
    #[must_use]
    pub fn is_shortage(&self) -> bool {
        matches!(self, Self::SpawnFailed(error) if error.shortage)
    }
}
