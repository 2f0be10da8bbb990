//! Services in a few words.

use std::time::Duration;

use relume_core::{Condition, Dependency, Policy, RestartMode, Rule, ServiceKind, ServiceSpec};

/// A service being described. Its delays have no jitter, so that scenarios can name them exactly.
#[derive(Debug, Clone)]
pub(crate) struct Svc(pub(crate) ServiceSpec);

/// A simple service with the defaults of the reference.
pub(crate) fn svc(name: &str) -> Svc {
    let mut policy = Policy::default();
    if let Some(backoff) = &mut policy.restart.backoff {
        backoff.jitter = 0.0;
    }
    Svc(ServiceSpec { name: name.into(), policy: policy.into(), launch: 1 })
}

impl Svc {
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(std::sync::Arc::make_mut(&mut self.0.policy));
        self
    }

    pub(crate) fn kind(self, kind: ServiceKind) -> Self {
        self.with(|policy| policy.kind = kind)
    }

    pub(crate) fn notify(self) -> Self {
        self.kind(ServiceKind::Notify)
    }

    pub(crate) fn forking(self) -> Self {
        self.kind(ServiceKind::Forking)
    }

    /// A oneshot, with the mode that is its default.
    pub(crate) fn oneshot(self) -> Self {
        self.kind(ServiceKind::Oneshot).mode(RestartMode::OnFailure)
    }

    /// Judged ill after so many failures in a row of a probe that is a command.
    pub(crate) fn liveness(self, failures: u32) -> Self {
        let rule = Rule { failures, successes: 1, command: Some(Duration::from_secs(3)), grace: None };
        self.with(|policy| policy.checks.liveness = Some(rule))
    }

    pub(crate) fn mode(self, mode: RestartMode) -> Self {
        self.with(|policy| policy.restart.mode = mode)
    }

    pub(crate) fn retries(self, most: Option<u32>) -> Self {
        self.with(|policy| policy.restart.max_retries = most)
    }

    fn depends(self, on: &str, condition: Condition, restart: bool) -> Self {
        self.with(|policy| {
            policy.dependencies.insert(on.into(), Dependency { condition, restart });
        })
    }

    pub(crate) fn needs(self, on: &str) -> Self {
        self.depends(on, Condition::Ready, false)
    }

    pub(crate) fn needs_started(self, on: &str) -> Self {
        self.depends(on, Condition::Started, false)
    }

    pub(crate) fn needs_completed(self, on: &str) -> Self {
        self.depends(on, Condition::Completed, false)
    }

    /// Depends, and wants to be restarted when the dependency goes down.
    pub(crate) fn follows(self, on: &str) -> Self {
        self.depends(on, Condition::Ready, true)
    }

    pub(crate) fn asleep(self) -> Self {
        self.with(|policy| policy.autostart = false)
    }

    pub(crate) fn launch(mut self, launch: u64) -> Self {
        self.0.launch = launch;
        self
    }

    pub(crate) fn pre_start(self) -> Self {
        self.with(|policy| policy.hooks.pre_start = Some(HOOK))
    }

    pub(crate) fn post_start(self) -> Self {
        self.with(|policy| policy.hooks.post_start = Some(HOOK))
    }

    pub(crate) fn pre_stop(self) -> Self {
        self.with(|policy| policy.hooks.pre_stop = Some(HOOK))
    }

    pub(crate) fn post_stop(self) -> Self {
        self.with(|policy| policy.hooks.post_stop = Some(HOOK))
    }

    pub(crate) fn stop_command(self) -> Self {
        self.with(|policy| policy.hooks.stop = Some(HOOK))
    }

    pub(crate) fn reload_command(self) -> Self {
        self.with(|policy| policy.hooks.reload = Some(HOOK))
    }

    pub(crate) fn on_failure(self) -> Self {
        self.with(|policy| policy.hooks.on_failure = Some(HOOK))
    }
}

/// How long a hook of these services may take.
pub(crate) const HOOK: Duration = Duration::from_secs(7);

pub(crate) fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}
