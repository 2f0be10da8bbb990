//! Where log lines are sent besides their files: targets as people write them.

use std::path::PathBuf;

/// What is said about a target that is none.
pub(crate) const HELP: &str = "syslog+udp://HOST:514, syslog+tcp://HOST:514, syslog+tls://HOST:6514, syslog:/dev/log,\n\
    otlp+http://HOST:4318, otlp+https://HOST:4318, fluent://HOST:24224, fluent+tls://HOST:24224, journald:";

/// One target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Forward {
    /// As it was written, without what could be a secret.
    pub shown: String,
    /// What is spoken, and with whom.
    pub to: Receiver,
    /// syslog: its facility, 0 to 23 (RFC 5424, section 6.2.1).
    pub facility: u8,
    /// syslog: in the form of RFC 5424; without it, in the older one that syslog(3) writes to a local socket, which is
    /// all that many a daemon reads there.
    pub rfc5424: bool,
    /// What comes before the service's name in a tag of Fluent.
    pub tag: String,
    /// OTLP: further headers.
    pub headers: Vec<(String, String)>,
    /// TLS: a file of certificates (PEM) to trust instead of the system's.
    pub ca: Option<PathBuf>,
}

/// What is spoken, and with whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Receiver {
    /// RFC 5424, one datagram a message (RFC 5426).
    SyslogUdp(Address),
    /// RFC 5424, octet counting (RFC 6587).
    SyslogTcp(Address),
    /// RFC 5424 over TLS (RFC 5425).
    SyslogTls(Address),
    /// To a socket of this machine.
    SyslogUnix(PathBuf),
    /// OpenTelemetry logs as JSON over HTTP.
    Otlp {
        /// Where it listens.
        address: Address,
        /// The path of the request.
        path: String,
        /// Over TLS.
        tls: bool,
    },
    /// The Forward protocol of Fluentd and Fluent Bit, with acknowledgements.
    Fluent {
        /// Where it listens.
        address: Address,
        /// Over TLS.
        tls: bool,
    },
    /// The journal of systemd, in its own protocol.
    Journald(PathBuf),
}

/// A host by name or number, and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Address {
    /// Without the brackets of IPv6.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Where the journal of systemd listens (systemd-journald.service(8)).
const JOURNAL: &str = "/run/systemd/journal/socket";

/// `daemon` (RFC 5424, section 6.2.1).
const DAEMON: u8 = 3;

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "security", "console", "clock", "local0", "local1", "local2", "local3", "local4", "local5",
    "local6", "local7",
];

/// The target that these words mean.
pub(crate) fn parse(text: &str) -> Result<Forward, String> {
    let (scheme, rest) =
        text.split_once(':').ok_or_else(|| format!("`{text}` is no target of forwarding"))?;
    let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
    let host = |default: u16| address(rest, default);
    let to = match scheme {
        "syslog" if rest.starts_with("//") && !rest.starts_with("///") => Receiver::SyslogUdp(host(514)?.0),
        "syslog" | "syslog+unix" => Receiver::SyslogUnix(local(rest, "/dev/log")?),
        "syslog+udp" => Receiver::SyslogUdp(host(514)?.0),
        "syslog+tcp" => Receiver::SyslogTcp(host(514)?.0),
        "syslog+tls" => Receiver::SyslogTls(host(6514)?.0),
        "otlp" | "otlp+http" | "otlp+https" | "http" | "https" => {
            let tls = scheme.ends_with('s');
            let (address, path) = host(if tls { 443 } else { 4318 })?;
            let path = if path.len() <= 1 { "/v1/logs".to_owned() } else { path };
            Receiver::Otlp { address, path, tls }
        }
        "fluent" => Receiver::Fluent { address: host(24224)?.0, tls: false },
        "fluent+tls" => Receiver::Fluent { address: host(24224)?.0, tls: true },
        "journald" => Receiver::Journald(local(rest, JOURNAL)?),
        _ => return Err(format!("`{scheme}` is no kind of target for forwarding")),
    };
    let shown = format!("{scheme}:{rest}");
    let rfc5424 = !matches!(to, Receiver::SyslogUnix(_));
    let tag = "relume.".to_owned();
    let mut target = Forward { shown, to, facility: DAEMON, rfc5424, tag, headers: Vec::new(), ca: None };
    for option in options.split('&').filter(|option| !option.is_empty()) {
        set(&mut target, option)?;
    }
    Ok(target)
}

fn set(target: &mut Forward, option: &str) -> Result<(), String> {
    let (key, value) = option.split_once('=').ok_or_else(|| format!("`{option}` has no value"))?;
    match key {
        "facility" => {
            let known = FACILITIES.iter().position(|name| *name == value);
            let number = known.and_then(|at| u8::try_from(at).ok()).or_else(|| value.parse().ok());
            target.facility = number
                .filter(|number| usize::from(*number) < FACILITIES.len())
                .ok_or_else(|| format!("`{value}` is no facility of syslog"))?;
        }
        "format" => {
            target.rfc5424 = match value {
                "rfc5424" => true,
                "rfc3164" => false,
                _ => return Err(format!("`{value}` is no format of syslog: rfc5424 or rfc3164")),
            }
        }
        "tag" => value.clone_into(&mut target.tag),
        "ca" if value.starts_with('/') => target.ca = Some(PathBuf::from(value)),
        "ca" => return Err("`ca` is the absolute path of a file".into()),
        "header" => {
            let (name, value) = value.split_once(':').ok_or("a header is `NAME:VALUE`")?;
            let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || !name.chars().all(is_name) || value.chars().any(|c| c.is_control()) {
                return Err(format!("`{name}` is no header"));
            }
            target.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        _ => {
            return Err(format!(
                "a target has no option `{key}`; it may have facility, format, tag, header, ca"
            ));
        }
    }
    Ok(())
}

/// `//HOST:PORT/path`
fn address(rest: &str, default: u16) -> Result<(Address, String), String> {
    let wrong = || format!("`{rest}` names no host: write `//HOST:PORT`");
    let rest_ = rest.strip_prefix("//").ok_or_else(wrong)?;
    let (authority, path) = rest_.find('/').map_or((rest_, ""), |at| rest_.split_at(at));
    if authority.contains('@') {
        return Err(
            "a user and password are not part of a target; OTLP takes `?header=authorization:…`".into()
        );
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None => default,
        Some(port) => {
            port.parse().ok().filter(|&port| port > 0).ok_or_else(|| format!("`{port}` is no port"))?
        }
    };
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.:%".contains(c);
    if host.is_empty() || !host.chars().all(fine) {
        return Err(wrong());
    }
    Ok((Address { host: host.to_owned(), port }, path.to_owned()))
}

fn local(rest: &str, default: &str) -> Result<PathBuf, String> {
    let path = rest.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(rest);
    match path {
        "" => Ok(PathBuf::from(default)),
        path if path.starts_with('/') => Ok(PathBuf::from(path)),
        path => Err(format!("`{path}` is not an absolute path")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(text: &str) -> Receiver {
        parse(text).unwrap_or_else(|wrong| panic!("{text}: {wrong}")).to
    }

    fn at(host: &str, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    #[test]
    fn targets_are_understood() {
        assert_eq!(to("syslog+tcp://logs.example:601"), Receiver::SyslogTcp(at("logs.example", 601)));
        assert_eq!(to("syslog+udp://[::1]"), Receiver::SyslogUdp(at("::1", 514)));
        assert_eq!(to("syslog+tls://h"), Receiver::SyslogTls(at("h", 6514)));
        assert_eq!(to("syslog:"), Receiver::SyslogUnix("/dev/log".into()));
        assert_eq!(to("syslog:///run/log.sock"), Receiver::SyslogUnix("/run/log.sock".into()));
        assert_eq!(to("journald:"), Receiver::Journald(JOURNAL.into()));
        let otlp = |address, path: &str, tls| Receiver::Otlp { address, path: path.into(), tls };
        assert_eq!(to("otlp+http://h"), otlp(at("h", 4318), "/v1/logs", false));
        assert_eq!(to("https://h/otlp/v1/logs"), otlp(at("h", 443), "/otlp/v1/logs", true));
        assert_eq!(
            to("fluent://127.0.0.1"),
            Receiver::Fluent { address: at("127.0.0.1", 24224), tls: false }
        );
    }

    #[test]
    fn options_are_taken_and_secrets_are_not_shown() {
        let target =
            parse("otlp+http://h?header=Authorization:Bearer 1&facility=local3&tag=x.&ca=/ca.pem").unwrap();
        assert_eq!(target.headers, [("authorization".to_owned(), "Bearer 1".to_owned())]);
        assert_eq!((target.facility, target.tag.as_str(), target.ca), (19, "x.", Some("/ca.pem".into())));
        assert_eq!(target.shown, "otlp+http://h");
        assert!(parse("syslog+udp://h").unwrap().rfc5424 && !parse("syslog:").unwrap().rfc5424);
        assert!(parse("syslog:?format=rfc5424").unwrap().rfc5424);
    }

    #[test]
    fn what_is_no_target_is_told() {
        for wrong in [
            "logs.example",
            "ftp://h",
            "syslog+tcp://",
            "syslog+tcp://h:0",
            "syslog+tcp://h:99999",
            "syslog:dev/log",
            "fluent://h?colour=red",
            "syslog:?facility=x",
            "otlp://u:p@h",
            "syslog+tcp://a b",
            "otlp://h?header=a",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
