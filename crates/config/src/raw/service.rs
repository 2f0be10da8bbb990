//! The keys of a service.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::forms::{CommandText, OneOrMany, RawDependencies, RawEnvFile, RawEnvironment, RawHook, Toggle};
use super::later::{RawAlert, RawContainer, RawLimits, RawOverlap, RawProbe};
use super::sockets::RawSockets;
use super::values::{
    AccountName, DisplayName, Name, Octal, PathText, Restart, Retries, Signal, Size, Span, SpanOrOff,
};

/// One service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Service")]
pub(crate) struct RawService {
    /// Unique, at most 64 characters: a letter, a digit or `_`, then also `. - @`. `NAME:2` is instance 2.
    pub(crate) name: Option<Name>,
    /// Free text for people, unique; names the log file.
    #[schemars(extend("x-default" = "`name`"))]
    pub(crate) display_name: Option<DisplayName>,
    /// What is run. A list is executed as it is. A string with a character that means something to the shell
    /// goes to `/bin/sh -c`; any other is split by the shell's quoting rules and executed directly.
    pub(crate) command: Option<CommandText>,
    /// The program alone, with `arguments` beside it, in place of `command`.
    pub(crate) executable: Option<String>,
    /// The arguments of `executable`.
    pub(crate) arguments: Option<CommandText>,
    /// Which shell runs a `command` that needs one; `off`: none, the string is always split.
    #[schemars(extend("x-default" = "/bin/sh"))]
    pub(crate) shell: Option<String>,
    /// How its start is judged. `simple`: ready as soon as it runs. `oneshot`: done when it exits with success.
    /// `forking`: it puts itself in the background and its first process exits. `notify`: it says so itself.
    #[schemars(extend("x-default" = "simple"))]
    pub(crate) r#type: Option<RawType>,
    /// Where a `forking` service writes the number of its main process.
    pub(crate) pid_file: Option<PathText>,
    /// The folder it runs in.
    #[schemars(extend("x-default" = "the folder of the config"))]
    pub(crate) working_dir: Option<PathText>,
    /// Variables of this service alone, as a map or a list of `NAME=VALUE`.
    pub(crate) environment: Option<RawEnvironment>,
    /// Files with more variables; `environment` wins over them.
    pub(crate) env_file: Option<OneOrMany<RawEnvFile>>,
    /// The TCP port it listens on; shown to people.
    #[schemars(range(min = 1))]
    pub(crate) port: Option<u16>,
    /// Whom it runs as, by name or number.
    #[schemars(extend("x-default" = "as relume"))]
    pub(crate) user: Option<AccountName>,
    /// Its group, by name or number.
    #[schemars(extend("x-default" = "the user's"))]
    pub(crate) group: Option<AccountName>,
    /// File mode mask; the digits are octal, quoted or not.
    #[schemars(extend("x-default" = "as relume"))]
    pub(crate) umask: Option<Octal>,
    /// Scheduling priority, from -20 (first) to 19 (last).
    #[schemars(range(min = -20, max = 19), extend("x-default" = "as relume"))]
    pub(crate) nice: Option<i32>,
    /// How readily the kernel kills it when memory runs out, from -1000 (never) to 1000 (first).
    #[schemars(range(min = -1000, max = 1000), extend("x-default" = "as relume"))]
    pub(crate) oom_score_adj: Option<i32>,
    /// Resource limits by their names in getrlimit(2): `nofile: 65536`, `core: unlimited`, `nproc: 100:200`.
    pub(crate) rlimits: Option<BTreeMap<String, String>>,
    /// Memory, CPU and processes of the whole tree (cgroup v2).
    pub(crate) limits: Option<RawLimits>,
    /// Whether it is started without being asked for.
    #[schemars(extend("x-default" = "true"))]
    pub(crate) autostart: Option<bool>,
    /// Which ends are followed by a new start. `on-failure:5` also sets `max_retries`.
    #[schemars(extend("x-default" = "`always`; `on-failure` for a oneshot"))]
    pub(crate) restart_policy: Option<Restart>,
    /// Exit codes that count as success.
    #[schemars(extend("x-default" = "[0]"))]
    pub(crate) success_exit_codes: Option<OneOrMany<i32>>,
    /// Restarts after failures within `retry_window`; 0: none; `unlimited`. A clean exit uses none of it.
    #[schemars(extend("x-default" = "5"))]
    pub(crate) max_retries: Option<Retries>,
    /// The sliding window that `max_retries` is counted in.
    #[schemars(extend("x-default" = "5m"))]
    pub(crate) retry_window: Option<Span>,
    /// Delay before the first restart; a clean exit waits only this.
    #[schemars(extend("x-default" = "1s"))]
    pub(crate) retry_delay: Option<Span>,
    /// How the delay grows with each failure in a row; `off`: it does not.
    pub(crate) backoff: Option<Toggle<RawBackoff>>,
    /// Up for so long, it counts as stable: its next delay is `retry_delay` again.
    #[schemars(extend("x-default" = "60s"))]
    pub(crate) stable_after: Option<Span>,
    /// What happens when `max_retries` is used up: `{retry_every: 5m}`, or `give_up`.
    #[schemars(extend("x-default" = "{retry_every: 5m}"))]
    pub(crate) when_exhausted: Option<RawExhausted>,
    /// The services it waits for: names (condition `ready`), or a map name → `{condition, restart}`.
    pub(crate) dependencies: Option<RawDependencies>,
    /// From the start of the process to ready, else the start has failed; `off` or 0: no limit.
    #[schemars(extend("x-default" = "60s; `off` for a oneshot"))]
    pub(crate) timeout_start: Option<SpanOrOff>,
    /// From the stop signal to SIGKILL of the whole tree; 0: at once; `off`: never.
    #[schemars(extend("x-default" = "10s"))]
    pub(crate) timeout_stop: Option<SpanOrOff>,
    /// The signal that asks it to stop.
    #[schemars(extend("x-default" = "TERM"))]
    pub(crate) stop_signal: Option<Signal>,
    /// Who gets the stop signal first: the main process, or every process of the run.
    #[schemars(extend("x-default" = "main"))]
    pub(crate) stop_to: Option<RawReach>,
    /// A command that stops it, in place of the signal.
    pub(crate) stop_command: Option<CommandText>,
    /// The signal that makes it read its own config again.
    #[schemars(extend("x-default" = "HUP"))]
    pub(crate) reload_signal: Option<Signal>,
    /// A command that makes it read its own config again, in place of the signal.
    pub(crate) reload_command: Option<CommandText>,
    /// Starts an `external` service.
    pub(crate) start_command: Option<CommandText>,
    /// Tells by its exit code whether an `external` service runs.
    pub(crate) status_command: Option<CommandText>,
    /// Before the main process; failing, it fails the start.
    pub(crate) pre_start: Option<RawHook>,
    /// When the service has become ready.
    pub(crate) post_start: Option<RawHook>,
    /// Before the stop signal.
    pub(crate) pre_stop: Option<RawHook>,
    /// When its whole tree is gone.
    pub(crate) post_stop: Option<RawHook>,
    /// After each failure.
    pub(crate) on_failure: Option<RawHook>,
    /// Readiness and liveness in one: a URL, `tcp://host:port`, or a map.
    pub(crate) health_check: Option<RawProbe>,
    /// Until it succeeds, the other probes wait.
    pub(crate) startup: Option<RawProbe>,
    /// Whether it can take work. Failing never restarts it.
    pub(crate) readiness: Option<RawProbe>,
    /// Whether it is well. Failing restarts it.
    pub(crate) liveness: Option<RawProbe>,
    /// How often it must send WATCHDOG=1 to NOTIFY_SOCKET, else it is restarted; `off` for never.
    #[schemars(extend("x-default" = "off"))]
    pub(crate) watchdog: Option<SpanOrOff>,
    /// Descriptors that it may have kept for its next life by FDSTORE=1, at most so many.
    #[schemars(range(max = 512), extend("x-default" = "0"))]
    pub(crate) fd_store: Option<u32>,
    /// The number of a file descriptor it writes a newline to when it is ready, in the manner of s6.
    #[schemars(range(min = 3))]
    pub(crate) notification_fd: Option<u32>,
    /// A container in place of `command`.
    pub(crate) container: Option<RawContainer>,
    /// A oneshot is skipped when this path exists.
    pub(crate) creates: Option<OneOrMany<PathText>>,
    /// A oneshot is skipped when this command exits with 0.
    pub(crate) unless: Option<CommandText>,
    /// A oneshot is skipped when these files are as they were when it last succeeded.
    pub(crate) inputs: Option<OneOrMany<String>>,
    /// What must be installed: `python3 >= 3.8`.
    pub(crate) requires: Option<OneOrMany<String>>,
    /// Who is told of changes of its state.
    pub(crate) alerts: Option<OneOrMany<RawAlert>>,
    /// How many of it run, as `NAME:1` to `NAME:n`, each with its number in `RELUME_INSTANCE`.
    #[schemars(range(min = 1, max = 10_000), extend("x-default" = "1"))]
    pub(crate) instances: Option<u32>,
    /// When a oneshot runs: a cron expression, or `@every 5m`.
    pub(crate) schedule: Option<super::later::CronText>,
    /// The time zone of `schedule`.
    #[schemars(extend("x-default" = "local"))]
    pub(crate) timezone: Option<String>,
    /// What happens when a run is due while the last one still goes on.
    #[schemars(extend("x-default" = "skip"))]
    pub(crate) overlap: Option<RawOverlap>,
    /// Whether a run missed while relume was down is made up for.
    #[schemars(extend("x-default" = "false"))]
    pub(crate) catch_up: Option<bool>,
    /// Listening sockets that relume opens and keeps for it (`LISTEN_FDS`).
    pub(crate) sockets: Option<RawSockets>,
    /// Where its output goes.
    pub(crate) log: Option<RawLog>,
    /// It is restarted when its tree takes more memory than this.
    pub(crate) max_memory: Option<Size>,
    /// Where to look at it; shown to people.
    pub(crate) urls: Option<OneOrMany<String>>,
    /// One sentence about it; shown to people.
    pub(crate) description: Option<String>,
    /// Names under which several services are addressed together.
    pub(crate) groups: Option<OneOrMany<Name>>,
}

/// How a start is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawType {
    /// Ready as soon as its program runs.
    Simple,
    /// Ready when it says so (sd_notify).
    Notify,
    /// Ready when it has ended with success.
    Oneshot,
    /// Its first process exits and leaves the real one running.
    Forking,
    /// Not a child of relume: started, stopped and asked by commands.
    External,
}

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawReach {
    /// The main process; when it has ended, what is left of the tree.
    Main,
    /// Every process of the run at once.
    Tree,
}

/// Growth of the delay between restarts.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Backoff")]
pub(crate) struct RawBackoff {
    /// Each delay is this many times the one before.
    #[schemars(range(min = 1), extend("x-default" = "2"))]
    pub(crate) factor: Option<f64>,
    /// No delay is longer.
    #[schemars(extend("x-default" = "60s"))]
    pub(crate) max: Option<Span>,
    /// Each delay is moved at random by up to this share of it.
    #[schemars(range(min = 0, max = 1), extend("x-default" = "0.1"))]
    pub(crate) jitter: Option<f64>,
}

/// Where output goes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Log")]
pub(crate) struct RawLog {
    /// The file.
    #[schemars(extend("x-default" = "`LOG_DIR/DISPLAY_NAME.log`"))]
    pub(crate) file: Option<PathText>,
    /// What happens to stderr: into the same file, into `NAME.err.log` beside it, or away.
    #[schemars(extend("x-default" = "merge"))]
    pub(crate) stderr: Option<RawStderr>,
    /// Whether separate streams outlive a death of all of relume.
    #[schemars(extend("x-default" = "false"))]
    pub(crate) survive: Option<bool>,
    /// How lines are stored.
    #[schemars(extend("x-default" = "raw"))]
    pub(crate) format: Option<RawLogFormat>,
    /// What happens while the file cannot be written, as on a full disk: the service waits when its pipe is full, or what it
    /// prints is dropped, counted and told.
    #[schemars(extend("x-default" = "block"))]
    pub(crate) when_full: Option<RawWhenFull>,
    /// When a file is put aside and a new one begun; `off`: never.
    pub(crate) rotate: Option<Toggle<RawRotate>>,
    /// Where else lines are sent: one target or several, such as `syslog+tcp://HOST:514`, `syslog:/dev/log`,
    /// `otlp+http://HOST:4318`, `fluent://HOST:24224` or `journald:`; `off`: nowhere.
    pub(crate) forward: Option<OneOrMany<String>>,
}

/// What happens to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawStderr {
    /// Into the same file as stdout.
    Merge,
    /// Into a file of its own.
    Separate,
    /// Nowhere.
    Discard,
}

/// How lines are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawLogFormat {
    /// Byte for byte.
    Raw,
    /// With the time in front.
    Timestamp,
    /// One JSON object a line.
    Json,
}

/// What happens to output that cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawWhenFull {
    /// It waits, and so does the service once its pipe is full.
    Block,
    /// It goes away, in whole lines.
    Drop,
}

/// When a log file is put aside.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rotate")]
pub(crate) struct RawRotate {
    /// When it has grown to this; at least 4096 bytes.
    #[schemars(extend("x-default" = "10MB"))]
    pub(crate) size: Option<Size>,
    /// When it is as old as this.
    pub(crate) age: Option<Span>,
    /// Old files kept.
    #[schemars(range(max = 1000), extend("x-default" = "5"))]
    pub(crate) keep: Option<u32>,
    /// How old files are compressed.
    #[schemars(extend("x-default" = "gzip"))]
    pub(crate) compress: Option<RawCompress>,
}

/// How old log files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawCompress {
    /// By gzip.
    Gzip,
    /// By zstd.
    Zstd,
    /// Not at all.
    #[serde(alias = "none", alias = "no", alias = "false")]
    Off,
}

pub(crate) use exhausted::RawExhausted;

mod exhausted {
    use std::borrow::Cow;
    use std::fmt;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use serde::de::value::MapAccessDeserializer;
    use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

    use super::super::values::Span;

    /// What happens when the retries are used up.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) enum RawExhausted {
        GiveUp,
        RetryEvery(Span),
    }

    #[derive(Default, serde::Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Map {
        /// One slow attempt each so often.
        retry_every: Option<Span>,
    }

    struct Visit;

    impl<'de> Visitor<'de> for Visit {
        type Value = RawExhausted;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("`give_up`, or a map with `retry_every`")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<RawExhausted, E> {
            match text.trim() {
                "give_up" | "give-up" => Ok(RawExhausted::GiveUp),
                other => Err(E::custom(format!(
                    "expected `give_up`, or a map with `retry_every`, found `{}`",
                    crate::node::shortened(other)
                ))),
            }
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawExhausted, A::Error> {
            let Map { retry_every } = Map::deserialize(MapAccessDeserializer::new(map))?;
            retry_every
                .map(RawExhausted::RetryEvery)
                .ok_or_else(|| A::Error::custom("`retry_every` is missing"))
        }
    }

    impl<'de> Deserialize<'de> for RawExhausted {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Visit)
        }
    }

    impl JsonSchema for RawExhausted {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "WhenExhausted".into()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            let span = generator.subschema_for::<Span>();
            json_schema!({
                "anyOf": [
                    { "const": "give_up" },
                    { "type": "object", "properties": { "retry_every": span }, "required": ["retry_every"],
                      "additionalProperties": false }
                ],
                "x-form": "`give_up` or `{retry_every: DURATION}`"
            })
        }
    }
}
