//! The rules a service is supervised by.

use std::time::Duration;

use relume_core::{
    Backoff, Condition, Dependency, Hooks, Policy, Reach, RestartMode, RestartPolicy, ServiceKind,
    WhenExhausted,
};

use super::service::{Work, kind};
use crate::raw::{RawCondition, RawExhausted, RawReach, RawType, Toggle};

/// Everything but the hooks.
pub(super) fn lower(work: &mut Work<'_, '_>) -> Policy {
    let defaults = Policy::default();
    let kind = kind(work.raw.r#type);
    let oneshot = kind == ServiceKind::Oneshot;
    // A oneshot may be a migration of hours: a limit that nobody asked for would kill it half way.
    let timeout_start = if oneshot { None } else { defaults.timeout_start };
    let raw = &work.raw;
    let stands_in = raw.container.is_some() || raw.r#type == Some(RawType::External);
    let policy = Policy {
        kind,
        autostart: raw.autostart.unwrap_or(defaults.autostart),
        dependencies: dependencies(work),
        restart: RestartPolicy::default(),
        // A start that must be over at once could never succeed; elsewhere 0 means "no limit", too.
        timeout_start: raw
            .timeout_start
            .as_ref()
            .map_or(timeout_start, |span| span.0.filter(|span| !span.is_zero())),
        timeout_stop: raw.timeout_stop.as_ref().map_or(defaults.timeout_stop, |span| span.0),
        // What stands in for a container or an external service is asked to end in one way. The signal is the container's:
        // a shim that gets it might pass it on as any other, or die of it and leave the container running.
        stop_signal: match stands_in {
            true => defaults.stop_signal,
            false => raw.stop_signal.as_ref().map_or(defaults.stop_signal, |signal| signal.0),
        },
        stop_to: match raw.stop_to {
            None | Some(RawReach::Main) => Reach::Main,
            Some(RawReach::Tree) => Reach::Tree,
        },
        reload_signal: raw.reload_signal.as_ref().map_or(defaults.reload_signal, |signal| signal.0),
        checks: relume_core::Checks::default(),
        hooks: Hooks::default(),
    };
    Policy { restart: restart(work, oneshot), ..policy }
}

fn dependencies(work: &Work<'_, '_>) -> std::collections::BTreeMap<String, Dependency> {
    let written = work.raw.dependencies.iter().flat_map(|raw| &raw.0);
    written
        .map(|(name, raw)| {
            let condition = match raw.condition {
                None | Some(RawCondition::Ready) => Condition::Ready,
                Some(RawCondition::Started) => Condition::Started,
                Some(RawCondition::Completed) => Condition::Completed,
            };
            (name.clone(), Dependency { condition, restart: raw.restart.unwrap_or(false) })
        })
        .collect()
}

fn restart(work: &mut Work<'_, '_>, oneshot: bool) -> RestartPolicy {
    let defaults = RestartPolicy::default();
    let (mode, counted) = match &work.raw.restart_policy {
        Some(restart) => restart.0,
        None if oneshot => (RestartMode::OnFailure, None),
        None => (RestartMode::Always, None),
    };
    if oneshot && mode == RestartMode::Always {
        let help = "`on-failure` repeats it until it succeeds; `schedule` runs it again and again";
        work.error_with(
            &["restart_policy"],
            "a oneshot is done when it succeeds, it cannot be restarted always",
            help,
        );
    }
    let retries = work.raw.max_retries.as_ref().map(|retries| retries.0);
    if let (Some(counted), Some(retries)) = (counted, retries)
        && retries != Some(counted)
    {
        work.error(
            &["max_retries"],
            format!("`restart_policy` says already that there are {counted} retries"),
        );
    }
    let codes = work.raw.success_exit_codes.clone().map_or(defaults.success_exit_codes, |codes| codes.0);
    if let Some(code) = codes.iter().find(|code| !(0..=255).contains(*code)) {
        work.error(&["success_exit_codes"], format!("an exit code goes from 0 to 255, {code} cannot happen"));
    }
    let span =
        |raw: &Option<crate::raw::Span>, default: Duration| raw.as_ref().map_or(default, |span| span.0);
    let policy = RestartPolicy {
        mode,
        success_exit_codes: codes,
        max_retries: retries.or(counted.map(Some)).unwrap_or(defaults.max_retries),
        retry_window: span(&work.raw.retry_window, defaults.retry_window),
        retry_delay: span(&work.raw.retry_delay, defaults.retry_delay),
        backoff: backoff(work),
        stable_after: span(&work.raw.stable_after, defaults.stable_after),
        when_exhausted: when_exhausted(work, defaults.when_exhausted),
    };
    if policy.retry_window.is_zero() {
        work.error_with(
            &["retry_window"],
            "retries are counted in a window of some length",
            "`max_retries: unlimited` does not count them",
        );
    }
    policy
}

fn backoff(work: &mut Work<'_, '_>) -> Option<Backoff> {
    let raw = match work.raw.backoff.clone() {
        Some(Toggle::Off) => return None,
        Some(Toggle::Set(raw)) => raw,
        None => return Some(Backoff::default()),
    };
    let defaults = Backoff::default();
    let backoff = Backoff {
        factor: raw.factor.unwrap_or(defaults.factor),
        max: raw.max.map_or(defaults.max, |span| span.0),
        jitter: raw.jitter.unwrap_or(defaults.jitter),
    };
    if !(1.0..=1000.0).contains(&backoff.factor) {
        work.error_with(
            &["backoff", "factor"],
            "the factor goes from 1 to 1000",
            "`backoff: off` keeps the delay as it is",
        );
    }
    if !(0.0..=1.0).contains(&backoff.jitter) {
        work.error(&["backoff", "jitter"], "the jitter is a share from 0 to 1");
    }
    Some(backoff)
}

fn when_exhausted(work: &mut Work<'_, '_>, default: WhenExhausted) -> WhenExhausted {
    match work.raw.when_exhausted.clone() {
        None => default,
        Some(RawExhausted::GiveUp) => WhenExhausted::GiveUp,
        Some(RawExhausted::RetryEvery(span)) => {
            if span.0.is_zero() {
                work.error(&["when_exhausted", "retry_every"], "a slow retry needs some time in between");
            }
            WhenExhausted::RetryEvery(span.0)
        }
    }
}
