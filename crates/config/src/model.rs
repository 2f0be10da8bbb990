//! What a config means, with every default filled in.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use relume_core::{ManagerPolicy, Name, ServiceSpec};

use crate::forward::Forward;
use crate::readiness::Readiness;
use crate::stand_in::StandIn;

/// Everything the config files say.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Settings of relume itself.
    pub manager: ManagerConfig,
    /// The services, instances spread out, in the order they are written.
    pub services: Vec<ServiceConfig>,
    /// The files it was read from, in reading order; the first is "the config". `env_file`s are not among them.
    pub sources: Vec<PathBuf>,
    /// Files to be created once before a start, from `env_file: {path, template}`. Their values are already in
    /// the environments.
    pub templates: Vec<Template>,
}

impl Config {
    /// The same, with its services in memory of their own. Worth it for one that is held for long, in a thread that has a heap of
    /// its own: what reading has left is then given back whole.
    #[must_use]
    pub fn afresh(&self) -> Self {
        Self {
            services: crate::lower::share::afresh(&self.services),
            manager: self.manager.clone(),
            sources: self.sources.clone(),
            templates: self.templates.clone(),
        }
    }
}

/// Settings of relume itself. Paths are absolute; `None` means: by the rule of where relume keeps its things.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ManagerConfig {
    /// The folder of the config (the directory itself when `-c` names one); relative defaults start here.
    pub config_dir: PathBuf,
    /// Where state, lock and pid files are kept; default `.relume` in `config_dir`.
    pub state_dir: Option<PathBuf>,
    /// Sockets and journal; by default on a tmpfs.
    pub runtime_dir: Option<PathBuf>,
    /// Where service logs go; default `logs` in `config_dir`.
    pub log_dir: PathBuf,
    /// The manager's own log; default `relume.log` in the state directory.
    pub log_file: Option<PathBuf>,
    /// The database; default `state.db` in the state directory.
    pub state_file: Option<PathBuf>,
    /// The status file for other programs; default `status.json` in the state directory.
    pub status_file: Option<PathBuf>,
    /// The folder of `NAME.pid`; default `pids` in the state directory.
    pub pid_dir: Option<PathBuf>,
    /// How much the manager's log tells.
    pub log_level: LogLevel,
    /// How the manager's log is written.
    pub log_format: LogFormat,
    /// Where else the manager's log is sent.
    pub log_forward: Vec<Forward>,
    /// How often the manager replaces itself; `None`: never.
    pub self_respawn: Option<Duration>,
    /// Whether a respawn takes up a changed config.
    pub apply_on_respawn: bool,
    /// How long a silent manager is borne; `None`: for ever.
    pub watchdog: Option<Duration>,
    /// The rules over all services.
    pub policy: ManagerPolicy,
}

/// How much the manager's log tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum LogLevel {
    /// What failed for good.
    Error,
    /// And what somebody should look at.
    Warn,
    /// And what happened to services.
    Info,
    /// And why relume did what it did.
    Debug,
    /// And each event.
    Trace,
}

/// How the manager's log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// One service (or one instance of one) with everything needed to run and show it. Thousands are held for as long as relume
/// runs: what many have alike is held once, what few have is a pointer. In words it is whole only as a part of
/// [`crate::Prepared`], which has what many services share beside it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ServiceConfig {
    /// What the core supervises it by. `spec.launch` is the digest of `launch`, `pid_file`, how it says that it
    /// is ready, and the log's wiring.
    #[serde(skip, default = "crate::prepared::no_spec")]
    pub spec: ServiceSpec,
    /// What its process is started with.
    pub launch: Launch,
    /// What its process stands in for, in place of a program. `launch.argv` is for people then: the image's name, or the
    /// first of the commands.
    pub stand_in: Option<Box<StandIn>>,
    /// The commands around its life. `spec.policy.hooks` says which exist and how long they may take.
    #[serde(skip)]
    pub hooks: Arc<HookCommands>,
    /// Where `type: forking` leaves the pid of its main process.
    pub pid_file: Option<Box<Path>>,
    /// What is waited for before it counts as ready.
    #[serde(skip)]
    pub readiness: Arc<Readiness>,
    /// Who is told of changes of its state.
    pub alerts: Arc<[crate::alert::Alert]>,
    /// Where its output goes.
    pub log: LogConfig,
    /// What people are shown.
    pub shown: Shown,
    /// When it is started by the clock.
    pub schedule: Option<Box<Schedule>>,
    /// What it may use.
    pub resources: Arc<crate::resources::Resources>,
    /// Sockets that are opened for it and kept; shared by all instances.
    pub sockets: Arc<[crate::resources::Socket]>,
    /// What this is an instance of: `web` for `web:2`; the service's own name otherwise.
    pub base_name: Name,
}

/// What a process is started with.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Launch {
    /// Program and arguments, never empty. A shell command is already `["/bin/sh", "-c", …]`.
    pub argv: Box<[Arc<str>]>,
    /// On top of what relume itself was started with: `env_file`s, then `environment`, then `RELUME_INSTANCE`.
    #[serde(skip)]
    pub environment: Environment,
    /// The rest, in which services hardly differ.
    pub how: Arc<How>,
}

impl Launch {
    /// Program and arguments.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        self.argv.iter().map(ToString::to_string).collect()
    }
}

/// How a process is started, whatever it runs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct How {
    /// Whether the command goes through a shell, so that the program on record is not the shell.
    pub shell: bool,
    /// Absolute.
    pub working_dir: PathBuf,
    /// Whom it runs as; `None`: as relume.
    pub user: Option<Account>,
    /// Its group; `None`: the user's, or relume's.
    pub group: Option<Account>,
    /// File mode creation mask; `None`: relume's.
    pub umask: Option<u32>,
    /// -20 to 19 (setpriority(2)); `None`: relume's.
    pub nice: Option<i32>,
    /// -1000 to 1000 (proc_pid_oom_score_adj(5)); `None`: relume's.
    pub oom_score_adj: Option<i32>,
    /// Limits that differ from relume's.
    pub rlimits: BTreeMap<Rlimit, RlimitValue>,
}

/// Names and values. `Debug` shows the names alone: values may be passwords.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(pub Arc<BTreeMap<String, String>>);

impl serde::Serialize for Environment {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'de> serde::Deserialize<'de> for Environment {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(from).map(|all| Self(Arc::new(all)))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A user or a group, by name or by number. Whether it exists is for the edge to find out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Account {
    /// A numeric id, below `u32::MAX` (which means "no change" to the kernel).
    Id(u32),
    /// A name in the form that useradd(8) accepts.
    Name(String),
}

/// A resource limit of getrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "each is the RLIMIT_ constant of the same name in getrlimit(2)")]
pub enum Rlimit {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// Soft and hard value; `None`: RLIM_INFINITY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RlimitValue {
    /// What is enforced.
    pub soft: Option<u64>,
    /// Up to where the process may raise it.
    pub hard: Option<u64>,
}

/// The commands around the life of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HookCommands {
    /// Whether there is something to do, before everything else.
    pub check: Option<JobCheck>,
    /// Before the main process.
    pub pre_start: Option<Hook>,
    /// When the service has become ready.
    pub post_start: Option<Hook>,
    /// Before the stop signal.
    pub pre_stop: Option<Hook>,
    /// When its whole tree is gone.
    pub post_stop: Option<Hook>,
    /// After each failure.
    pub on_failure: Option<Hook>,
    /// In place of the stop signal. Its time is that of the whole stop.
    pub stop: Option<Hook>,
    /// In place of the reload signal.
    pub reload: Option<Hook>,
}

/// When a job is started by the clock.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Schedule {
    /// When.
    pub when: When,
    /// Name of the time zone (tz database); `None`: local.
    pub timezone: Option<String>,
    /// What happens when it is due while it still goes on.
    pub overlap: Overlap,
    /// What was missed is made up for, once.
    pub catch_up: bool,
}

/// The times of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum When {
    /// A cron expression that can be parsed.
    Cron(String),
    /// Again and again, so long after the last time.
    Every(Duration),
}

/// What happens when a run is due while the last one still goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Overlap {
    /// The new one is left out.
    Skip,
    /// The new one follows; one at most waits.
    Queue,
    /// The old one is ended first.
    Kill,
}

/// Whether a job has been done already, and what it requires.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct JobCheck {
    /// Done when one of these exists; absolute.
    pub creates: Vec<PathBuf>,
    /// Done when none of the files that match has changed since it was last done; absolute patterns.
    pub inputs: Vec<String>,
    /// Done when this command exits with 0. Program and arguments.
    pub unless: Option<Vec<String>>,
    /// Programs that have to be there, before anything else is looked at.
    pub requires: Vec<Requirement>,
}

/// A program, perhaps of some version.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Requirement {
    /// As it would be typed.
    pub program: String,
    /// Which versions will do; all of them have to hold.
    pub versions: Vec<(Comparison, Vec<u64>)>,
    /// As written, for messages.
    pub text: String,
}

/// How a version is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "the operators of the same name")]
pub enum Comparison {
    Less,
    AtMost,
    Equal,
    AtLeast,
    Greater,
    Not,
}

/// One hook, run with the working directory, environment and user of its service.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hook {
    /// Program and arguments, never empty.
    pub argv: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Where a service's output goes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogConfig {
    /// Absolute; no two services share one.
    pub file: Arc<Path>,
    /// The rest, in which services hardly differ.
    pub rules: Arc<LogRules>,
}

/// How output is kept, wherever it goes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LogRules {
    /// What happens to stderr.
    pub stderr: Stderr,
    /// Whether separate streams outlive a death of both halves of relume, at the price of a stdout that is also
    /// readable.
    pub survive: bool,
    /// How lines are stored.
    pub format: LineFormat,
    /// What happens to output while the file cannot be written.
    pub when_full: WhenFull,
    /// `None`: the file grows without bound.
    pub rotate: Option<Rotate>,
    /// Where else its lines are sent.
    pub forward: Vec<Forward>,
}

/// How lines are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum LineFormat {
    /// Byte for byte.
    #[default]
    Raw,
    /// With the time in front.
    Timestamp,
    /// One JSON object a line.
    Json,
}

/// What happens to output while the log cannot be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum WhenFull {
    /// It waits in the service's pipe, and when that is full the service waits.
    #[default]
    Block,
    /// It is dropped when the pipe is full: whole lines, counted.
    Drop,
}

/// How old log files are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Compression {
    /// Not at all.
    #[default]
    Off,
    /// By gzip, `.gz`.
    Gzip,
    /// By zstd, `.zst`.
    Zstd,
}

/// What happens to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Stderr {
    /// Into the same file as stdout, in the order it was written.
    Merge,
    /// Into a file of its own beside it, `NAME.err.log` for `NAME.log`.
    Separate,
    /// Into /dev/null.
    Discard,
}

/// When a log file is put aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rotate {
    /// Bytes; at least 4096.
    pub size: u64,
    /// Old files kept beside the current one.
    pub keep: u32,
    /// The longest that a file is written to.
    pub age: Option<Duration>,
    /// How old files are compressed.
    pub compress: Compression,
}

/// What people are shown of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shown {
    /// Free text, unique; with `:N` for an instance. Not escaped: whoever prints it does that.
    pub display_name: Name,
    /// The rest, which few services have.
    pub more: Arc<More>,
}

/// What people are shown of a service beside its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct More {
    /// One sentence.
    pub description: Option<String>,
    /// Where to look at it.
    pub urls: Vec<String>,
    /// The TCP port it says it listens on.
    pub port: Option<u16>,
    /// Names under which several services are addressed together.
    pub groups: Vec<String>,
}

/// A file to be created once from another, mode 0600, if it is not there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Template {
    /// The file to be created.
    pub path: PathBuf,
    /// What it is a copy of.
    pub template: PathBuf,
}

impl Rlimit {
    /// Every limit of getrlimit(2).
    pub const ALL: [Self; 16] = [
        Self::As,
        Self::Core,
        Self::Cpu,
        Self::Data,
        Self::Fsize,
        Self::Locks,
        Self::Memlock,
        Self::Msgqueue,
        Self::Nice,
        Self::Nofile,
        Self::Nproc,
        Self::Rss,
        Self::Rtprio,
        Self::Rttime,
        Self::Sigpending,
        Self::Stack,
    ];

    /// As in the config: the name of the constant, small, without `RLIMIT_`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::As => "as",
            Self::Core => "core",
            Self::Cpu => "cpu",
            Self::Data => "data",
            Self::Fsize => "fsize",
            Self::Locks => "locks",
            Self::Memlock => "memlock",
            Self::Msgqueue => "msgqueue",
            Self::Nice => "nice",
            Self::Nofile => "nofile",
            Self::Nproc => "nproc",
            Self::Rss => "rss",
            Self::Rtprio => "rtprio",
            Self::Rttime => "rttime",
            Self::Sigpending => "sigpending",
            Self::Stack => "stack",
        }
    }
}

impl LogConfig {
    /// The file of stderr when it is kept apart: `web.err.log` beside `web.log`.
    #[must_use]
    pub fn stderr_file(&self) -> PathBuf {
        let name = self.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = match name.rsplit_once('.') {
            Some((stem, ending)) if !stem.is_empty() => format!("{stem}.err.{ending}"),
            Some(_) | None => format!("{name}.err"),
        };
        self.file.with_file_name(name)
    }

    /// Every file it writes to.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        match self.rules.stderr {
            Stderr::Separate => vec![self.file.to_path_buf(), self.stderr_file()],
            Stderr::Merge | Stderr::Discard => vec![self.file.to_path_buf()],
        }
    }
}
