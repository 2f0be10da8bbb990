//! How a service becomes ready: what it says itself, and what it is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use relume_core::ServiceKind;

use super::service::Work;
use crate::model::Environment;
use crate::raw::{RawHttp, RawHttpMap, RawProbe, RawProbeMap, RawTcp, RawTcpMap, RawType};
use crate::readiness::{HttpTarget, Probe, ProbeTarget, Readiness, Said};

/// Where a probe connects to when nothing else is said.
const HERE: &str = "127.0.0.1";

/// What is waited for; nothing for a type whose readiness is its own end or the finding of its main process.
pub(super) fn lower(work: &mut Work<'_, '_>, kind: ServiceKind) -> Readiness {
    let written = Readiness { said: said(work), probe: probe(work) };
    let instead = match kind {
        ServiceKind::Simple | ServiceKind::Notify => return written,
        ServiceKind::Oneshot => "a oneshot is ready when it has ended with success",
        ServiceKind::Forking => "a `forking` service is ready when its main process is known",
    };
    for key in ["notification_fd", "readiness", "health_check"] {
        if is_on(work, key) {
            work.warning(
                &[key],
                format!("`{key}` decides nothing here: {instead}"),
                "leave it out, or change `type`",
            );
        }
    }
    Readiness::default()
}

fn is_on(work: &Work<'_, '_>, key: &str) -> bool {
    match key {
        "readiness" => work.raw.readiness.as_ref().is_some_and(|probe| *probe != RawProbe::Off),
        "health_check" => work.raw.health_check.as_ref().is_some_and(|probe| *probe != RawProbe::Off),
        _ => work.raw.notification_fd.is_some(),
    }
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

/// `readiness`, else `health_check`; `readiness: off` leaves the latter to liveness.
fn probe(work: &mut Work<'_, '_>) -> Option<Probe> {
    if is_on(work, "health_check") {
        let message = "`health_check` decides when it is ready; that it fails later is not acted on by this version yet";
        work.warning(&["health_check"], message, "`readiness` says the same without promising more");
    }
    let (key, raw, timeout) = match (work.raw.readiness.clone(), work.raw.health_check.clone()) {
        (Some(raw), _) => ("readiness", raw, Duration::from_secs(1)),
        (None, Some(raw)) => ("health_check", raw, Duration::from_secs(3)),
        (None, None) => return None,
    };
    let (target, map) = match raw {
        RawProbe::Off => return None,
        RawProbe::Url(url) => (target_of_url(work, &[key], &url)?, RawProbeMap::default()),
        RawProbe::Map(map) => (target_of_map(work, key, &map)?, *map),
    };
    let span = |raw: &Option<crate::raw::Span>, default| raw.as_ref().map_or(default, |span| span.0);
    let probe = Probe {
        target,
        interval: span(&map.interval, Duration::from_secs(10)),
        timeout: span(&map.timeout, timeout),
        start_period: span(&map.start_period, Duration::ZERO),
        successes: map.successes.unwrap_or(1),
    };
    let none = [("interval", probe.interval.is_zero()), ("timeout", probe.timeout.is_zero())];
    for (name, _) in none.into_iter().filter(|(_, zero)| *zero) {
        work.error(&[key, name], format!("the {name} of a probe cannot be zero"));
    }
    if probe.successes == 0 {
        work.error(&[key, "successes"], "a probe must succeed at least once");
    }
    Some(probe)
}

fn target_of_map(work: &mut Work<'_, '_>, key: &'static str, map: &RawProbeMap) -> Option<ProbeTarget> {
    // The others are not acted on yet; `maturity` has said so.
    match (&map.http, &map.tcp) {
        (Some(RawHttp(http)), _) => target_of_http(work, key, http),
        (None, Some(RawTcp(RawTcpMap { host, port }))) => {
            let port = port_of(work, &[key, "tcp"], *port, None)?;
            let host = host_of(work, &[key, "tcp"], host.as_deref().unwrap_or(HERE))?;
            Some(ProbeTarget::Tcp { host, port })
        }
        (None, None) => None,
    }
}

fn target_of_http(work: &mut Work<'_, '_>, key: &'static str, http: &RawHttpMap) -> Option<ProbeTarget> {
    let at = [key, "http"];
    let mut target = match &http.url {
        Some(url) => {
            if http.host.is_some() || http.scheme.is_some() || http.path.is_some() || http.port.is_some() {
                work.error(&at, "`url` says already where to ask");
            }
            if let Err(problem) = crate::raw::probe_url(url.trim()) {
                work.error(&at, problem);
                return None;
            }
            match target_of_url(work, &at, url)? {
                ProbeTarget::Http(target) => target,
                ProbeTarget::Tcp { .. } => {
                    work.error(&at, "expected a URL with `http://`");
                    return None;
                }
            }
        }
        None => {
            // Kubernetes writes it in capitals.
            match http.scheme.as_deref().unwrap_or("http").to_ascii_lowercase().as_str() {
                "http" => {}
                "https" => return no_tls(work, &at),
                _ => {
                    work.error(&[key, "http", "scheme"], "expected `http` or `https`");
                    return None;
                }
            }
            let port = port_of(work, &at, http.port, Some(80))?;
            let host = host_of(work, &at, http.host.as_deref().unwrap_or(HERE))?;
            let path = path_of(work, &at, http.path.as_deref().unwrap_or("/"))?;
            HttpTarget { host, port, path, headers: Environment::default(), status: None }
        }
    };
    target.status = http.status;
    if target.status.is_some_and(|status| !(200..=599).contains(&status)) {
        work.error(&[key, "http", "status"], "an answer has a status from 200 to 599");
    }
    target.headers = headers(work, key, http);
    Some(ProbeTarget::Http(target))
}

fn headers(work: &mut Work<'_, '_>, key: &'static str, http: &RawHttpMap) -> Environment {
    let mut all = BTreeMap::new();
    for (name, value) in http.headers.iter().flat_map(|raw| &raw.0) {
        let value = value.clone().unwrap_or_default();
        // A token of RFC 9110, 5.6.2.
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            work.error(
                &[key, "http", "headers"],
                format!("`{}` is no name of a header", crate::node::shortened(name)),
            );
        } else if value.chars().any(char::is_control) {
            work.error(
                &[key, "http", "headers"],
                format!("the value of the header `{name}` has control characters"),
            );
        } else {
            all.insert(name.clone(), value);
        }
    }
    Environment(all.into())
}

/// The scheme, the host and the number are known to be there; see `RawProbe`.
fn target_of_url(work: &mut Work<'_, '_>, at: &[&str], url: &str) -> Option<ProbeTarget> {
    let (scheme, rest) = url.trim().split_once("://")?;
    if scheme == "https" {
        return no_tls(work, at);
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        Some(_) | None => (authority, None),
    };
    // A URL without a port means the port of its scheme, whatever the service says.
    let port = port_of(work, at, port.or((scheme == "http").then_some(80)), None)?;
    let host = host_of(work, at, host)?;
    if scheme == "tcp" {
        return Some(ProbeTarget::Tcp { host, port });
    }
    let path = rest.split('#').next().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let path = path_of(work, at, &path)?;
    Some(ProbeTarget::Http(HttpTarget { host, port, path, headers: Environment::default(), status: None }))
}

fn no_tls(work: &mut Work<'_, '_>, at: &[&str]) -> Option<ProbeTarget> {
    let help = "`http://` or `tcp://` can be asked";
    work.warning(at, "a probe by `https` is not acted on by this version yet", help);
    None
}

/// The probe's own port, else the one the service says it listens on.
fn port_of(work: &mut Work<'_, '_>, at: &[&str], own: Option<u16>, usual: Option<u16>) -> Option<u16> {
    let port = own.or(work.raw.port).or(usual);
    match port {
        Some(1..) => return port,
        Some(0) => work.error(at, "a port is a number from 1 to 65535"),
        None => work.error_with(at, "the probe names no port", "the `port` of the service serves too"),
    }
    None
}

fn host_of(work: &mut Work<'_, '_>, at: &[&str], host: &str) -> Option<String> {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
                || host.parse::<std::net::Ipv6Addr>().is_ok()
        }
    };
    if !good {
        let help = "a name, an IPv4 address, or an IPv6 address in brackets";
        work.error_with(at, format!("`{}` is no host that can be asked", crate::node::shortened(host)), help);
        return None;
    }
    Some(inner.unwrap_or(host).to_owned())
}

fn path_of(work: &mut Work<'_, '_>, at: &[&str], path: &str) -> Option<String> {
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    // What must be percent-encoded in a URL and is passed on by nobody (RFC 3986, 2).
    if path.chars().any(|c| !c.is_ascii_graphic() || "\"<>\\^`{|}#".contains(c)) {
        let help = "write it percent-encoded, a space as %20";
        work.error_with(
            at,
            format!("`{}` has characters that no URL can have", crate::node::shortened(&path)),
            help,
        );
        return None;
    }
    Some(path)
}
