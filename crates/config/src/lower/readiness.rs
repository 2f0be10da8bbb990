//! How a service becomes ready and shows that it is well: what it says itself, and what it is asked.

use std::time::Duration;

use relume_core::{Check, ServiceKind};

use super::command::{self, Context};
use super::service::Work;
use super::targets;
use crate::raw::{RawExec, RawExecMap, RawProbe, RawProbeMap, RawType};
use crate::readiness::{Probe, ProbeTarget, Probes, Readiness, Said};

/// The most descriptors that a service can have kept: as many as one datagram can carry (SCM_MAX_FD), twice over.
const MOST_KEPT: u32 = 512;

/// What is waited for and asked; less for a type whose readiness is its own end or the finding of its main process.
pub(super) fn lower(work: &mut Work<'_, '_>, kind: ServiceKind) -> Readiness {
    let mut written = Readiness {
        said: said(work),
        probes: probes(work),
        watchdog: watchdog(work),
        fd_store: fd_store(work),
    };
    if let Some(Said::Fd(number)) = written.said
        && i64::from(number) < 3 + i64::from(written.fd_store)
    {
        let message = format!("descriptors from 3 to {} are those of `fd_store`", 2 + written.fd_store);
        work.error(&["notification_fd"], message);
    }
    let instead = match kind {
        ServiceKind::Simple | ServiceKind::Notify => return written,
        ServiceKind::Oneshot => "a oneshot is ready when it has ended with success",
        ServiceKind::Forking => "a `forking` service is ready when its main process is known",
    };
    let mut useless = vec!["notification_fd", "startup", "readiness"];
    if kind == ServiceKind::Oneshot {
        useless.extend(["liveness", "health_check", "watchdog"]);
    }
    for key in useless.into_iter().filter(|key| is_on(work, key)).collect::<Vec<_>>() {
        work.warning(
            &[key],
            format!("`{key}` decides nothing here: {instead}"),
            "leave it out, or change `type`",
        );
    }
    written.said = None;
    if kind == ServiceKind::Oneshot {
        return Readiness { fd_store: written.fd_store, ..Readiness::default() };
    }
    // Whoever is ready by other signs can still be asked whether it lives.
    let liveness = written.probes.liveness.take().or(written.probes.health.take());
    written.probes = Probes { liveness, ..Probes::default() };
    written
}

fn is_on(work: &Work<'_, '_>, key: &str) -> bool {
    match key {
        "notification_fd" => work.raw.notification_fd.is_some(),
        "watchdog" => work.raw.watchdog.as_ref().is_some_and(|span| span.0.is_some()),
        key => raw_probe(work, key).is_some_and(|probe| *probe != RawProbe::Off),
    }
}

fn raw_probe<'a>(work: &'a Work<'_, '_>, key: &str) -> Option<&'a RawProbe> {
    match key {
        "startup" => work.raw.startup.as_ref(),
        "readiness" => work.raw.readiness.as_ref(),
        "liveness" => work.raw.liveness.as_ref(),
        _ => work.raw.health_check.as_ref(),
    }
}

fn watchdog(work: &mut Work<'_, '_>) -> Option<Duration> {
    let span = work.raw.watchdog.as_ref()?.0?;
    if span.is_zero() {
        work.error(&["watchdog"], "the service needs some time between two signs of life");
    }
    Some(span)
}

fn fd_store(work: &mut Work<'_, '_>) -> u32 {
    let most = work.raw.fd_store.unwrap_or(0);
    if most > MOST_KEPT {
        work.error(&["fd_store"], format!("at most {MOST_KEPT} descriptors are kept for a service"));
    }
    most.min(MOST_KEPT)
}

fn said(work: &mut Work<'_, '_>) -> Option<Said> {
    let notify = matches!(work.raw.r#type, Some(RawType::Notify | RawType::External));
    let Some(number) = work.raw.notification_fd else { return notify.then_some(Said::Notify) };
    if notify {
        let help = "`type: notify` listens on NOTIFY_SOCKET, `notification_fd` on a descriptor";
        work.error_with(&["notification_fd"], "a service says in one way that it is ready", help);
    }
    match i32::try_from(number) {
        Ok(number @ 3..=Said::HIGHEST_FD) => Some(Said::Fd(number)),
        Ok(_) | Err(_) => {
            let message = format!("a notification descriptor has a number from 3 to {}", Said::HIGHEST_FD);
            work.error(&["notification_fd"], message);
            None
        }
    }
}

/// `health_check` is readiness and liveness in one; where one of them is written too, it is the other.
fn probes(work: &mut Work<'_, '_>) -> Probes {
    let mut probes = Probes {
        startup: probe(work, Check::Startup),
        readiness: probe(work, Check::Readiness),
        liveness: probe(work, Check::Liveness),
        health: probe(work, Check::Health),
    };
    let (readiness, liveness) = (work.raw.readiness.is_some(), work.raw.liveness.is_some());
    match (readiness, liveness, probes.health.take()) {
        (true, false, health @ Some(_)) => probes.liveness = health,
        (false, true, health @ Some(_)) => probes.readiness = health,
        (true, true, Some(_)) => {
            let help = "leave it out";
            work.warning(&["health_check"], "`readiness` and `liveness` say already all that it could", help);
        }
        (_, _, health) => probes.health = health,
    }
    probes
}

fn probe(work: &mut Work<'_, '_>, check: Check) -> Option<Probe> {
    let key = check.key();
    let timeout = if check == Check::Health { Duration::from_secs(3) } else { Duration::from_secs(1) };
    let (target, map) = match raw_probe(work, key)?.clone() {
        RawProbe::Off => return None,
        RawProbe::Url(url) => (targets::of_url(work, &[key], &url)?, RawProbeMap::default()),
        RawProbe::Map(map) => (targets::of_map(work, key, &map)?, *map),
    };
    if matches!(target, ProbeTarget::LogLine(_)) && check != Check::Readiness {
        let help = "a line is printed once: it says that a service is ready, not that it still is";
        work.error_with(&[key, "log_line"], "`log_line` is for `readiness` only", help);
    }
    let span = |raw: &Option<crate::raw::Span>, default| raw.as_ref().map_or(default, |span| span.0);
    let probe = Probe {
        target,
        interval: span(&map.interval, Duration::from_secs(10)),
        timeout: span(&map.timeout, timeout),
        start_period: span(&map.start_period, Duration::ZERO),
        failures: map.retries.unwrap_or(3),
        successes: map.successes.unwrap_or(1),
        grace: map.grace_period.as_ref().map(|span| span.0),
    };
    let none = [("interval", probe.interval.is_zero()), ("timeout", probe.timeout.is_zero())];
    for (name, _) in none.into_iter().filter(|(_, zero)| *zero) {
        work.error(&[key, name], format!("the {name} of a probe cannot be zero"));
    }
    if probe.successes == 0 {
        work.error(&[key, "successes"], "a probe must succeed at least once");
    }
    if probe.failures == 0 {
        work.error(&[key, "retries"], "a probe must fail at least once before that counts");
    }
    if probe.grace.is_some() && !check.is_vital() {
        let help = "leave it out";
        work.warning(&[key, "grace_period"], "failing readiness never stops a service", help);
    }
    Some(probe)
}

/// The commands of probes, with the variables of one instance.
pub(super) fn commands(readiness: &mut Readiness, work: &mut Work<'_, '_>, context: &Context<'_>) {
    for check in Check::ALL {
        for key in [check.key(), "health_check"] {
            let Some(RawProbe::Map(map)) = raw_probe(work, key).cloned() else { continue };
            let Some(RawExec::Command(command) | RawExec::Map(RawExecMap { command: Some(command) })) =
                map.exec
            else {
                continue;
            };
            let Some(Probe { target: ProbeTarget::Exec(argv), .. }) = readiness.probes.get_mut(check) else {
                continue;
            };
            if !argv.is_empty() {
                continue;
            }
            let Some(node) = work.node.get(key).and_then(|node| node.get("exec")) else { continue };
            let node = node.get("command").unwrap_or(node);
            let name = format!("{}.{key}.exec", work.prefix);
            if let Some((words, _)) = command::lower(&command, node, &name, context, work.files) {
                *argv = words;
            }
        }
    }
}
