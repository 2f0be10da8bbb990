//! Probes, and keys whose behaviour comes in a later version. Those are decoded like all others, so that a
//! config is either right or wrong, and the `maturity` table warns where one is used.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize as Derive;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::forms::{CommandText, OneOrMany, RawEnvironment};
use super::values::{PathText, Size, Span, is_off, scalar};

/// A probe, written as a map.
#[derive(Debug, Clone, Default, PartialEq, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Probe")]
pub(crate) struct RawProbeMap {
    /// A URL that answers with 200 to 399, or a map in the manner of Kubernetes.
    pub(crate) http: Option<RawHttp>,
    /// `host:port` or a port that accepts a connection.
    pub(crate) tcp: Option<RawTcp>,
    /// A command that exits with 0.
    pub(crate) exec: Option<RawExec>,
    /// A port or `host:port` with the gRPC health protocol, or a map with `service`.
    pub(crate) grpc: Option<RawGrpc>,
    /// A unix socket that accepts a connection.
    pub(crate) unix: Option<PathText>,
    /// A file that exists.
    pub(crate) file: Option<PathText>,
    /// A text that appears in the service's output.
    pub(crate) log_line: Option<String>,
    /// From one probe to the next.
    #[schemars(extend("x-default" = "10s"))]
    pub(crate) interval: Option<Span>,
    /// How long one probe may take.
    #[schemars(extend("x-default" = "3s for `health_check`, else 1s"))]
    pub(crate) timeout: Option<Span>,
    /// Failures in a row that count.
    #[schemars(extend("x-default" = "3"))]
    pub(crate) retries: Option<u32>,
    /// Successes in a row that count.
    #[schemars(extend("x-default" = "1"))]
    pub(crate) successes: Option<u32>,
    /// Before the first probe.
    #[schemars(extend("x-default" = "0s"))]
    pub(crate) start_period: Option<Span>,
    /// In place of `timeout_stop` when this probe is why the service is stopped.
    pub(crate) grace_period: Option<Span>,
}

/// The keys of [`RawProbeMap`] that say what is asked.
pub(crate) const PROBE_TARGETS: [&str; 7] = ["http", "tcp", "exec", "grpc", "unix", "file", "log_line"];

/// A probe: a URL, a map, or `off`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RawProbe {
    Off,
    /// `http://`, `https://` or `tcp://`.
    Url(String),
    Map(Box<RawProbeMap>),
}

struct ProbeVisit;

impl<'de> Visitor<'de> for ProbeVisit {
    type Value = RawProbe;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL, `tcp://host:port`, a map, or `off`")
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<RawProbe, E> {
        if on {
            Err(E::custom("a probe needs a URL or a map; `on` does not say what to ask"))
        } else {
            Ok(RawProbe::Off)
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RawProbe, E> {
        if is_off(text.trim()) {
            return Ok(RawProbe::Off);
        }
        probe_url(text.trim()).map(|()| RawProbe::Url(text.trim().to_owned())).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawProbe, A::Error> {
        let map = RawProbeMap::deserialize(MapAccessDeserializer::new(map))?;
        let targets = [
            map.http.is_some(),
            map.tcp.is_some(),
            map.exec.is_some(),
            map.grpc.is_some(),
            map.unix.is_some(),
            map.file.is_some(),
            map.log_line.is_some(),
        ];
        // With none it may be a default, and the service says what to ask.
        match targets.iter().filter(|is| **is).count() {
            0 | 1 => Ok(RawProbe::Map(Box::new(map))),
            _ => Err(A::Error::custom("a probe asks one thing, this one asks several")),
        }
    }
}

/// Enough of a URL to be worth asking: a scheme that is known and something behind it.
pub(crate) fn probe_url(text: &str) -> Result<(), String> {
    let shown = crate::node::shortened(text);
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("expected a URL, `tcp://host:port`, a map, or `off`, found `{shown}`"));
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let port = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map(|(_, port)| port);
    match scheme {
        "http" | "https" | "tcp" if host.is_empty() => Err(format!("`{shown}` names no host")),
        "tcp" if port.is_none() => Err(format!("`{shown}` names no port")),
        "http" | "https" | "tcp" if port.is_some_and(|port| port.parse::<u16>().is_err()) => {
            Err(format!("`{shown}` has a port that is no number from 0 to 65535"))
        }
        "http" | "https" | "tcp" => Ok(()),
        _ => Err(format!("a probe cannot ask `{scheme}://`\nhelp: `http://`, `https://` or `tcp://`")),
    }
}

impl<'de> Deserialize<'de> for RawProbe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ProbeVisit)
    }
}

impl JsonSchema for RawProbe {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ProbeForm".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<RawProbeMap>();
        json_schema!({ "anyOf": [{ "type": "string" }, { "const": false }, map], "x-form": "URL, map, or `off`" })
    }
}

/// Makes a type that is either one scalar or a map.
macro_rules! word_or_map {
    ($(#[$doc:meta])* $name:ident, $map:ident, $expected:literal, |$text:ident| $word:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) struct $name(pub(crate) $map);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visit;
                impl<'de> Visitor<'de> for Visit {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_i64<E: Error>(self, number: i64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_str<E: Error>(self, $text: &str) -> Result<$name, E> {
                        let word: Result<$map, String> = $word;
                        word.map($name).map_err(E::custom)
                    }
                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$name, A::Error> {
                        $map::deserialize(MapAccessDeserializer::new(map)).map($name)
                    }
                }
                deserializer.deserialize_any(Visit)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let map = generator.subschema_for::<$map>();
                json_schema!({ "anyOf": [{ "type": ["string", "integer"] }, map] })
            }
        }
    };
}

/// An HTTP request in the manner of Kubernetes.
#[derive(Debug, Clone, Default, PartialEq, Derive, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(crate) struct RawHttpMap {
    /// The whole URL in one.
    pub(crate) url: Option<String>,
    /// Where to.
    #[schemars(extend("x-default" = "127.0.0.1"))]
    pub(crate) host: Option<String>,
    /// `http` or `https`.
    #[schemars(extend("x-default" = "http"))]
    pub(crate) scheme: Option<String>,
    /// What to ask for.
    #[schemars(extend("x-default" = "/"))]
    pub(crate) path: Option<String>,
    /// The port.
    #[schemars(extend("x-default" = "the service's `port`, else 80"))]
    pub(crate) port: Option<u16>,
    /// Headers to send.
    #[serde(alias = "httpHeaders")]
    pub(crate) headers: Option<RawEnvironment>,
    /// How it is asked.
    #[schemars(extend("x-default" = "GET"))]
    pub(crate) method: Option<String>,
    /// A text that the first 64 KiB of the answer must contain.
    pub(crate) body: Option<String>,
    /// The one status that is good, in place of 200 to 399.
    #[serde(alias = "status_code")]
    pub(crate) status: Option<u16>,
}

word_or_map! {
    /// A URL, or a map.
    RawHttp, RawHttpMap, "a URL or a map", |text| {
        let known = text.starts_with("http://") || text.starts_with("https://");
        if known { probe_url(text).map(|()| RawHttpMap { url: Some(text.to_owned()), ..RawHttpMap::default() }) }
        else { Err(format!("expected a URL with `http://` or `https://`, found `{}`", crate::node::shortened(text))) }
    }
}

/// Where a TCP probe connects to.
#[derive(Debug, Clone, Default, PartialEq, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTcpMap {
    /// Where to.
    #[schemars(extend("x-default" = "127.0.0.1"))]
    pub(crate) host: Option<String>,
    /// The port.
    pub(crate) port: Option<u16>,
}

word_or_map! {
    /// A port, `host:port`, or a map.
    RawTcp, RawTcpMap, "a port, `host:port`, or a map", |text| {
        let bare = text.strip_prefix("tcp://").unwrap_or(text);
        let (host, port) = bare.rsplit_once(':').map_or((None, bare), |(host, port)| (Some(host.to_owned()), port));
        port.parse().map(|port| RawTcpMap { host, port: Some(port) })
            .map_err(|_| format!("expected a port or `host:port`, found `{}`", crate::node::shortened(text)))
    }
}

/// What a gRPC probe asks.
#[derive(Debug, Clone, Default, PartialEq, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawGrpcMap {
    /// Where to.
    #[schemars(extend("x-default" = "127.0.0.1"))]
    pub(crate) host: Option<String>,
    /// The port.
    pub(crate) port: Option<u16>,
    /// The service that is asked for, in place of the server as a whole.
    pub(crate) service: Option<String>,
}

word_or_map! {
    /// A port, `host:port`, or a map.
    RawGrpc, RawGrpcMap, "a port, `host:port`, or a map", |text| {
        let (host, port) = text.rsplit_once(':').map_or((None, text), |(host, port)| (Some(host.to_owned()), port));
        port.parse().map(|port| RawGrpcMap { host, port: Some(port), service: None })
            .map_err(|_| format!("expected a port or `host:port`, found `{}`", crate::node::shortened(text)))
    }
}

/// What an `exec` probe runs.
#[derive(Debug, Clone, Default, PartialEq, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawExecMap {
    /// The command.
    pub(crate) command: Option<CommandText>,
}

/// A command, or a map with `command` in the manner of Kubernetes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RawExec {
    Command(CommandText),
    Map(RawExecMap),
}

struct ExecVisit;

impl<'de> Visitor<'de> for ExecVisit {
    type Value = RawExec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command, or a map with `command`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RawExec, E> {
        Ok(RawExec::Command(CommandText::Text(text.to_owned())))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<RawExec, A::Error> {
        Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(seq))
            .map(|list| RawExec::Command(CommandText::List(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawExec, A::Error> {
        RawExecMap::deserialize(MapAccessDeserializer::new(map)).map(RawExec::Map)
    }
}

impl<'de> Deserialize<'de> for RawExec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ExecVisit)
    }
}

impl JsonSchema for RawExec {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Exec".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let command = generator.subschema_for::<CommandText>();
        let map = generator.subschema_for::<RawExecMap>();
        json_schema!({ "anyOf": [command, map] })
    }
}

scalar! {
    /// How many processors.
    Cpus(f64), "a number of processors such as 0.5, 2, `50%`", |text| cpus(text), {
        "type": ["number", "string"], "minimum": 0, "x-form": "number or percentage"
    }
}

/// A number, a percentage of one processor, or thousandths of one in the manner of Kubernetes (`500m`).
fn cpus(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let (number, share) = match (text.strip_suffix('%'), text.strip_suffix('m')) {
        (Some(percent), _) => (percent.trim_end(), 0.01),
        (None, Some(milli)) => (milli.trim_end(), 0.001),
        (None, None) => (text, 1.0),
    };
    let number = number.parse::<f64>().ok().filter(|number| number.is_finite());
    number.map(|number| number * share).ok_or_else(|| {
        let found = crate::node::shortened(text);
        format!("expected a number of processors such as 0.5, 2, `50%`, found `{found}`")
    })
}

/// Limits of the whole tree.
#[derive(Debug, Clone, Default, PartialEq, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Limits")]
pub(crate) struct RawLimits {
    /// Bytes of memory.
    pub(crate) memory: Option<Size>,
    /// CPUs: `0.5` or `50%` is half of one.
    pub(crate) cpu: Option<Cpus>,
    /// Processes and threads.
    pub(crate) pids: Option<u64>,
}

/// A container.
#[derive(Debug, Clone, Default, PartialEq, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Container")]
pub(crate) struct RawContainer {
    /// The image it is made from.
    pub(crate) image: Option<String>,
    /// Its name.
    pub(crate) name: Option<String>,
    /// Arguments of its program.
    pub(crate) args: Option<OneOrMany<String>>,
    /// Its variables.
    pub(crate) env: Option<RawEnvironment>,
    /// `HOST:CONTAINER` ports.
    pub(crate) ports: Option<OneOrMany<String>>,
    /// `HOST:CONTAINER` paths.
    pub(crate) volumes: Option<OneOrMany<String>>,
    /// Its network.
    pub(crate) network: Option<String>,
    /// What runs it.
    #[schemars(extend("x-default" = "auto"))]
    pub(crate) engine: Option<RawEngine>,
}

/// What runs containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Derive, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawEngine {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// Whichever answers.
    Auto,
}

/// Who is told of changes of state.
#[derive(Debug, Clone, Default, PartialEq, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Alert")]
pub(crate) struct RawAlert {
    /// The states that are told.
    pub(crate) on: Option<OneOrMany<RawState>>,
    /// A URL that is posted to.
    pub(crate) webhook: Option<String>,
    /// A command that is run.
    pub(crate) command: Option<CommandText>,
    /// The text that is sent.
    pub(crate) template: Option<String>,
}

/// The node of each of one or many.
pub(crate) fn nodes_of(node: &crate::node::Node) -> Vec<&crate::node::Node> {
    if matches!(node.value, crate::node::Value::List(_)) {
        node.elements().iter().collect()
    } else {
        vec![node]
    }
}

/// A state as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Derive, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawState {
    Pending,
    Starting,
    Running,
    Unhealthy,
    Stopping,
    Crashed,
    Restarting,
    Stopped,
    Completed,
    Failed,
    MaxRestarts,
}

/// What happens when a scheduled run is due while the last one goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Derive, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawOverlap {
    /// The new one is left out.
    Skip,
    /// The new one waits.
    Queue,
    /// The old one is killed.
    Kill,
}

/// The control API.
#[derive(Debug, Clone, Default, PartialEq, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Api")]
pub(crate) struct RawApi {
    /// `host:port`.
    pub(crate) listen: Option<String>,
    /// The file with the token that clients must show.
    pub(crate) token_file: Option<PathText>,
    /// Certificate and key.
    pub(crate) tls: Option<BTreeMap<String, String>>,
}

scalar! {
    /// When something runs.
    CronText(String), "a cron expression such as `0 3 * * *`, or `@every 5m`", |text| cron(text), {
        "type": "string", "x-form": "cron expression or `@every DURATION`"
    }
}

impl CronText {
    /// The span of an `@every`.
    pub(crate) fn every(&self) -> Option<std::time::Duration> {
        let text = self.0.strip_prefix("@every ")?;
        let span: Result<Span, DurationError> =
            Span::deserialize(serde::de::value::StrDeserializer::new(text));
        span.ok().map(|span| span.0)
    }
}

/// The shape of a cron expression: a word with `@`, or five or six fields of its characters.
fn cron(text: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "expected a cron expression such as `0 3 * * *`, or `@every 5m`, found `{}`",
            crate::node::shortened(text)
        )
    };
    if let Some(every) = text.strip_prefix("@every ") {
        let text = every.trim();
        let span: Result<Span, DurationError> =
            Span::deserialize(serde::de::value::StrDeserializer::new(text));
        return span.map(|_| format!("@every {text}")).map_err(|error| error.to_string());
    }
    if ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"].contains(&text) {
        return Ok(text.to_owned());
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let known = |field: &&str| field.chars().all(|c| c.is_ascii_alphanumeric() || "*/,-?#".contains(c));
    let numbers = |field: &&str| field.starts_with(|c: char| c.is_ascii_digit() || c == '*');
    match fields.len() {
        5..=6 if fields.iter().all(known) => Ok(fields.join(" ")),
        // Words in between, as `every day`, are something else.
        found @ (2..=4 | 7..=9) if fields.iter().all(numbers) => Err(format!(
            "a cron expression has five fields (minute, hour, day of the month, month, day of the week), and this has {found}"
        )),
        _ => Err(wrong()),
    }
}

type DurationError = serde::de::value::Error;
