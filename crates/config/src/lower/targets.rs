//! What a probe asks, from the ways of writing it.

use std::collections::BTreeMap;

use super::service::Work;
use crate::model::Environment;
use crate::raw::{RawExec, RawGrpc, RawGrpcMap, RawHttp, RawHttpMap, RawProbeMap, RawTcp, RawTcpMap};
use crate::readiness::{GrpcTarget, HttpTarget, ProbeTarget};

/// Where a probe connects to when nothing else is said.
const HERE: &str = "127.0.0.1";

/// The longest text that is looked for in the output of a service: so much of it is kept at hand.
const MOST_LINE: usize = 1024;

/// At most one is there; see `RawProbe`. The words of a command come with the variables of an instance.
pub(super) fn of_map(work: &mut Work<'_, '_>, key: &'static str, map: &RawProbeMap) -> Option<ProbeTarget> {
    if let Some(RawHttp(http)) = &map.http {
        return of_http(work, key, http);
    }
    if let Some(RawTcp(RawTcpMap { host, port })) = &map.tcp {
        let port = port_of(work, &[key, "tcp"], *port, None)?;
        let host = host_of(work, &[key, "tcp"], host.as_deref().unwrap_or(HERE))?;
        return Some(ProbeTarget::Tcp { host, port });
    }
    if let Some(RawGrpc(RawGrpcMap { host, port, service })) = &map.grpc {
        let port = port_of(work, &[key, "grpc"], *port, None)?;
        let host = host_of(work, &[key, "grpc"], host.as_deref().unwrap_or(HERE))?;
        let service = service.clone().unwrap_or_default();
        return Some(ProbeTarget::Grpc(GrpcTarget { host, port, service }));
    }
    if let Some(exec) = &map.exec {
        if matches!(exec, RawExec::Map(map) if map.command.is_none()) {
            work.error(&[key, "exec"], "the probe has no `command`");
            return None;
        }
        return Some(ProbeTarget::Exec(Vec::new()));
    }
    if let Some(path) = &map.unix {
        let path = work.files.resolve(work.span(&[key, "unix"]), &path.0);
        return Some(ProbeTarget::Unix(path));
    }
    if let Some(path) = &map.file {
        let path = work.files.resolve(work.span(&[key, "file"]), &path.0);
        return Some(ProbeTarget::File(path));
    }
    let Some(text) = map.log_line.clone() else {
        let help = "one of `http`, `tcp`, `exec`, `grpc`, `unix`, `file`, `log_line`";
        work.error_with(&[key], "the probe does not say what to ask", help);
        return None;
    };
    let fits = !text.is_empty() && text.len() <= MOST_LINE && !text.contains(['\n', '\r']);
    if !fits {
        let message = format!("a text of 1 to {MOST_LINE} bytes within one line is looked for");
        work.error(&[key, "log_line"], message);
        return None;
    }
    Some(ProbeTarget::LogLine(text))
}

fn of_http(work: &mut Work<'_, '_>, key: &'static str, http: &RawHttpMap) -> Option<ProbeTarget> {
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
            let ProbeTarget::Http(target) = of_url(work, &at, url)? else {
                work.error(&at, "expected a URL with `http://` or `https://`");
                return None;
            };
            *target
        }
        None => {
            // Kubernetes writes it in capitals.
            let tls = match http.scheme.as_deref().unwrap_or("http").to_ascii_lowercase().as_str() {
                "http" => false,
                "https" => true,
                _ => {
                    work.error(&[key, "http", "scheme"], "expected `http` or `https`");
                    return None;
                }
            };
            let port = port_of(work, &at, http.port, Some(usual_port(tls)))?;
            let host = host_of(work, &at, http.host.as_deref().unwrap_or(HERE))?;
            let path = path_of(work, &at, http.path.as_deref().unwrap_or("/"))?;
            plain(tls, host, port, path)
        }
    };
    target.method = method(work, key, http.method.as_deref())?;
    target.body = http.body.clone().filter(|text| !text.is_empty());
    target.status = http.status;
    if target.status.is_some_and(|status| !(200..=599).contains(&status)) {
        work.error(&[key, "http", "status"], "an answer has a status from 200 to 599");
    }
    target.headers = headers(work, key, http);
    Some(ProbeTarget::Http(Box::new(target)))
}

fn usual_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

fn plain(tls: bool, host: String, port: u16, path: String) -> HttpTarget {
    let (method, headers) = ("GET".into(), Environment::default());
    HttpTarget { tls, host, port, method, path, headers, status: None, body: None }
}

fn method(work: &mut Work<'_, '_>, key: &'static str, written: Option<&str>) -> Option<String> {
    let method = written.unwrap_or("GET").to_ascii_uppercase();
    let known = ["GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "PATCH"].contains(&method.as_str());
    if !known {
        let help = "GET, HEAD, POST, PUT, OPTIONS, DELETE or PATCH";
        let message = format!("`{}` is no method a probe can use", crate::node::shortened(&method));
        work.error_with(&[key, "http", "method"], message, help);
    }
    known.then_some(method)
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
pub(super) fn of_url(work: &mut Work<'_, '_>, at: &[&str], url: &str) -> Option<ProbeTarget> {
    let (scheme, rest) = url.trim().split_once("://")?;
    let tls = scheme == "https";
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        Some(_) | None => (authority, None),
    };
    // A URL without a port means the port of its scheme, whatever the service says.
    let port = port_of(work, at, port.or((scheme != "tcp").then_some(usual_port(tls))), None)?;
    let host = host_of(work, at, host)?;
    if scheme == "tcp" {
        return Some(ProbeTarget::Tcp { host, port });
    }
    let path = rest.split('#').next().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let path = path_of(work, at, &path)?;
    Some(ProbeTarget::Http(Box::new(plain(tls, host, port, path))))
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
