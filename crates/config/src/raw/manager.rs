//! The settings of the manager.

use schemars::JsonSchema;
use serde::Deserialize;

use super::forms::{OneOrMany, RawEnvFile};
use super::later::RawApi;
use super::values::{PathText, Rate, SpanOrOff};

/// Settings of relume itself. Each is also a flag (`--log-level`) and a variable (`RELUME_LOG_LEVEL`).
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Manager")]
pub(crate) struct RawManager {
    /// How often the manager replaces itself by a fresh copy of its program, services untouched.
    #[schemars(extend("x-default" = "5m"))]
    pub(crate) self_respawn: Option<SpanOrOff>,
    /// Whether a respawn takes up a changed config.
    #[schemars(extend("x-default" = "true"))]
    pub(crate) apply_on_respawn: Option<bool>,
    /// A manager silent for so long is replaced.
    #[schemars(extend("x-default" = "10s"))]
    pub(crate) watchdog: Option<SpanOrOff>,
    /// Where relume keeps its state.
    #[schemars(extend("x-default" = "`.relume` beside the config"))]
    pub(crate) state_dir: Option<PathText>,
    /// Where relume keeps its socket and its journal; on a tmpfs.
    #[schemars(extend("x-default" = "`/run/relume/ID`, else `$XDG_RUNTIME_DIR/relume/ID`, else `/dev/shm/relume-UID/ID`"))]
    pub(crate) runtime_dir: Option<PathText>,
    /// Where the logs of services go.
    #[schemars(extend("x-default" = "`logs` beside the config"))]
    pub(crate) log_dir: Option<PathText>,
    /// The manager's own log.
    #[schemars(extend("x-default" = "`STATE_DIR/relume.log`"))]
    pub(crate) log_file: Option<PathText>,
    /// How much the manager's own log tells.
    #[schemars(extend("x-default" = "info"))]
    pub(crate) log_level: Option<RawLevel>,
    /// How the manager's own log is written.
    #[schemars(extend("x-default" = "text"))]
    pub(crate) log_format: Option<RawManagerLogFormat>,
    /// Where else the manager's own log is sent: targets as in `log.forward` of a service.
    pub(crate) log_forward: Option<OneOrMany<String>>,
    /// The file that tells other programs the state of every service.
    #[schemars(extend("x-default" = "`STATE_DIR/status.json`"))]
    pub(crate) status_file: Option<PathText>,
    /// The folder of `NAME.pid`.
    #[schemars(extend("x-default" = "`STATE_DIR/pids`"))]
    pub(crate) pid_dir: Option<PathText>,
    /// At most so many automatic restarts in a time over all services; the rest wait their turn.
    #[schemars(extend("x-default" = "the larger of 10 and a tenth of the services, per second"))]
    pub(crate) respawn_rate: Option<Rate>,
    /// Services being started at once.
    #[schemars(range(min = 1), extend("x-default" = "64"))]
    pub(crate) start_parallelism: Option<u32>,
    /// When relume stops everything and leaves by itself.
    #[schemars(extend("x-default" = "never"))]
    pub(crate) exit_when: Option<RawExitWhen>,
    /// Files with variables, for `${VAR}` and for all services.
    pub(crate) env_file: Option<OneOrMany<RawEnvFile>>,
    /// The database of states and events.
    #[schemars(extend("x-default" = "`STATE_DIR/state.db`"))]
    pub(crate) state_file: Option<PathText>,
    /// Where the control API listens besides its unix socket.
    #[schemars(extend("x-default" = "unix socket only"))]
    pub(crate) api: Option<RawApi>,
}

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawLevel {
    /// What failed for good.
    Error,
    /// And what somebody should look at.
    #[serde(alias = "warning")]
    Warn,
    /// And what happened to services.
    Info,
    /// And why relume did what it did.
    Debug,
    /// And each event.
    Trace,
}

/// How the manager's own log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawManagerLogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// When relume leaves by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawExitWhen {
    /// Only when asked.
    Never,
    /// When nothing is left to run.
    AllDone,
    /// As soon as one service has failed for good.
    AnyFailed,
}
