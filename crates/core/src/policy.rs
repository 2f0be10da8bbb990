//! What the core reads of a service's configuration. Everything else (argv, environment, user, files)
//! is opaque to it and enters only as a digest.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::health::Checks;
use crate::name::Name;
use serde::{Deserialize, Serialize};

/// One service as the core is told about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Unique. An instance is a service of its own: `web:2`.
    pub name: Name,
    /// What the core decides by.
    #[serde(with = "shared")]
    pub policy: Arc<Policy>,
    /// Digest of all that a running process was started with. When it changes, and only then, the
    /// service is restarted by a configuration change.
    pub launch: u64,
}

/// The rules one service is supervised by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// How its start is judged.
    pub kind: ServiceKind,
    /// Started without being asked for.
    pub autostart: bool,
    /// What must be so before it starts, by the name of the other service.
    pub dependencies: BTreeMap<String, Dependency>,
    /// When and how often it is started again.
    pub restart: RestartPolicy,
    /// From the start of the process to ready; `None`: no limit.
    pub timeout_start: Option<Duration>,
    /// From the stop signal to SIGKILL of the whole tree; `None`: SIGKILL is never sent on its own.
    pub timeout_stop: Option<Duration>,
    /// The number of the signal that asks the service to stop (signal(7)).
    pub stop_signal: i32,
    /// Who gets the stop signal first.
    pub stop_to: Reach,
    /// The number of the signal that asks the service to read its own config again.
    pub reload_signal: i32,
    /// How its health is judged.
    pub checks: Checks,
    /// Commands of the user's around a life of the service. The core knows only that they exist.
    pub hooks: Hooks,
}

/// How a start is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceKind {
    /// Ready as soon as its program runs.
    Simple,
    /// Ready when it says so (sd_notify(3), a notification fd, or a probe).
    Notify,
    /// Ready when it has ended with success.
    Oneshot,
    /// Its first process ends with success and leaves the real one running.
    Forking,
}

/// What another service must be before this one starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The state that is waited for.
    pub condition: Condition,
    /// Whether a running dependent is restarted when the dependency goes down.
    pub restart: bool,
}

/// The state of a dependency that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Its process exists.
    Started,
    /// It is ready; a oneshot has completed.
    Ready,
    /// It has ended with success.
    Completed,
}

/// When and how often a service is started again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// Which ends are followed by a new start.
    pub mode: RestartMode,
    /// Exit codes that count as success.
    pub success_exit_codes: Vec<i32>,
    /// Automatic restarts after failures within `retry_window`; `Some(0)`: none at all; `None`: no limit.
    pub max_retries: Option<u32>,
    /// The sliding window that `max_retries` is counted in.
    pub retry_window: Duration,
    /// Delay before the first restart; a clean exit waits only this.
    pub retry_delay: Duration,
    /// How the delay grows with each failure in a row; `None`: it does not.
    pub backoff: Option<Backoff>,
    /// Up for so long, a service counts as stable: its next delay is `retry_delay` again.
    pub stable_after: Duration,
    /// What happens once `max_retries` is used up.
    pub when_exhausted: WhenExhausted,
}

/// Which ends of a run are followed by a new start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartMode {
    /// All of them.
    Always,
    /// All but success.
    OnFailure,
    /// None.
    Never,
}

/// Exponential growth of the delay between restarts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    /// Each delay is this many times the one before; at least 1.
    pub factor: f64,
    /// No delay is longer, jitter apart.
    pub max: Duration,
    /// Each delay is moved at random by up to this share of it, up or down; 0 to 1.
    pub jitter: f64,
}

/// What happens to a service that has used up its retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhenExhausted {
    /// One slow attempt each so often, for ever.
    RetryEvery(Duration),
    /// None until somebody asks.
    GiveUp,
}

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// The main process alone.
    Main,
    /// Every process of the run.
    Tree,
}

/// Which hooks a service has, each with the time it may take.
///
/// `pre_start`, `pre_stop` and `post_stop` are waited for; `post_start` and `on_failure` run beside. `stop` and
/// `reload` stand in the place of a signal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// Whether it has been done already, or cannot be done here.
    #[serde(default)]
    pub check: Option<Duration>,
    /// Before the main process; failing, it fails the start.
    pub pre_start: Option<Duration>,
    /// When the service has become ready.
    pub post_start: Option<Duration>,
    /// Before the stop signal.
    pub pre_stop: Option<Duration>,
    /// When the whole tree is gone, before a successor starts.
    pub post_stop: Option<Duration>,
    /// After each failure.
    pub on_failure: Option<Duration>,
    /// Asks the service to stop, in place of the stop signal.
    pub stop: Option<Duration>,
    /// Asks the service to read its own config again, in place of the reload signal.
    pub reload: Option<Duration>,
}

/// The rules that hold over all services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerPolicy {
    /// At most so many automatic restarts within a window over all services; the rest wait their turn.
    pub respawn_rate: Option<RespawnRate>,
    /// Services being started at once.
    pub start_parallelism: u32,
    /// When relume itself is done.
    pub exit_when: ExitWhen,
}

/// A limit on automatic restarts over all services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RespawnRate {
    /// Restarts; at least 1.
    pub count: u32,
    /// In any span of this length.
    pub window: Duration,
}

/// When relume stops everything and leaves by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitWhen {
    /// Only when asked.
    Never,
    /// When nothing is left to run.
    AllDone,
    /// As soon as one service has failed for good.
    AnyFailed,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            kind: ServiceKind::Simple,
            autostart: true,
            dependencies: BTreeMap::new(),
            restart: RestartPolicy::default(),
            timeout_start: Some(Duration::from_secs(60)),
            timeout_stop: Some(Duration::from_secs(10)),
            stop_signal: SIGTERM,
            stop_to: Reach::Main,
            reload_signal: SIGHUP,
            checks: Checks::default(),
            hooks: Hooks::default(),
        }
    }
}

/// SIGHUP on every Linux architecture (signal(7)).
pub const SIGHUP: i32 = 1;

/// SIGTERM on every Linux architecture (signal(7)).
pub const SIGTERM: i32 = 15;

/// The longest a hook may run unless told otherwise. Long enough for a migration step or a webhook,
/// short enough that a hung one is noticed before its author has left.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(60);

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            mode: RestartMode::Always,
            success_exit_codes: alloc::vec![0],
            max_retries: Some(5),
            retry_window: Duration::from_secs(300),
            retry_delay: Duration::from_secs(1),
            backoff: Some(Backoff::default()),
            stable_after: Duration::from_secs(60),
            when_exhausted: WhenExhausted::RetryEvery(Duration::from_secs(300)),
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { factor: 2.0, max: Duration::from_secs(60), jitter: 0.1 }
    }
}

impl Default for ManagerPolicy {
    fn default() -> Self {
        Self { respawn_rate: None, start_parallelism: 64, exit_when: ExitWhen::Never }
    }
}

impl RespawnRate {
    /// The default for so many services: the larger of 10 and a tenth of them, per second.
    #[must_use]
    pub fn for_services(services: usize) -> Self {
        let tenth = u32::try_from(services / 10).unwrap_or(u32::MAX);
        Self { count: tenth.max(10), window: Duration::from_secs(1) }
    }
}

/// A shared policy on the wire is a policy: that others hold the same one is nothing to tell.
mod shared {
    use super::{Arc, Deserialize, Policy, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(policy: &Policy, to: S) -> Result<S::Ok, S::Error> {
        policy.serialize(to)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Arc<Policy>, D::Error> {
        Policy::deserialize(from).map(Arc::new)
    }
}
