//! What can be written after `relume`, and the help for it.
//!
//! Words only: what a verb does stands in `commands/`. Manager settings are plain text here; whether a value
//! is a duration or a path is for the configuration to judge, which has one set of rules and messages for
//! files, variables and flags.

mod more;
mod rest;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use relume_config::Override;

pub(crate) use more::{
    Awaited, CompletionsArgs, DrillArgs, EventsArgs, InstallArgs, ManArgs, ReloadArgs, RunArgs, SignalArgs,
    UninstallArgs, UnitArgs, UrlsArgs, WaitArgs,
};
pub(crate) use rest::{ApplyArgs, CheckArgs, ExplainArgs};

const ABOUT: &str = "Runs the services of a config file and keeps them running.

relume starts services in dependency order, restarts what fails, keeps their logs, and is asked with the \
commands below from any other terminal.";

const EXAMPLES: &str = "Examples:
  relume                      start the services of ./relume.yaml (or .toml, .json, .ini)
  relume -c app.yaml up       the same with another file; stays in the foreground, Ctrl+C stops all
  relume status               what runs, what does not, and why
  relume restart web          restart one service
  relume logs -f web worker   follow the output of two
  relume down                 stop everything

Exit codes:
  0  done
  1  it did not work, or a service is not well (status)
  2  bad usage or bad config
  3  no manager is running
  4  timed out";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "relume", version, about = ABOUT, after_help = EXAMPLES, max_term_width = 110)]
#[command(disable_help_subcommand = true, infer_subcommands = false)]
pub(crate) struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do; without it: `up`, if there is a config.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// Config file or directory; may be given several times [env: RELUME_CONFIG] [default: relume.yaml, .yml,
    /// .toml, .json, .ini or services_config.json in the working directory]
    #[arg(short = 'c', long = "config", value_name = "PATH", global = true)]
    pub(crate) configs: Vec<PathBuf>,
    /// Where the manager keeps its state [env: RELUME_STATE_DIR] [default: .relume beside the config]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) state_dir: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log everything the manager does [env: DEBUG=1]
    #[arg(long, global = true)]
    pub(crate) debug: bool,
    /// No colours, also on a terminal [env: NO_COLOR]
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// The relume of the whole machine: config in /etc/relume, state in /var/lib/relume, sockets in /run/relume,
    /// logs in /var/log/relume
    #[arg(long, global = true)]
    pub(crate) system: bool,
    /// As root: use a config that other users can write
    #[arg(long, global = true)]
    pub(crate) trust: bool,
}

/// The verbs, one file each in `commands/`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the services and supervise them until Ctrl+C
    Up(Box<UpArgs>),
    /// Stop every service in reverse order, then the manager
    Down,
    /// Show every service: state, pid, uptime, restarts, and what matters now
    #[command(visible_aliases = ["ps", "ls"])]
    Status(StatusArgs),
    /// Start services, and what they depend on
    Start(StartArgs),
    /// Stop services; they stay stopped until they are started again
    Stop(StopArgs),
    /// Stop services and start them again
    Restart(StopArgs),
    /// Let services read their own config again, by signal or command
    Reload(ReloadArgs),
    /// Send services any signal
    Signal(SignalArgs),
    /// Wait until services are ready, healthy, or in a state
    Wait(WaitArgs),
    /// Show the output of services
    Logs(LogsArgs),
    /// Show what has happened
    Events(EventsArgs),
    /// Say why a service is as it is: what led to it, its last lines, what comes next
    Explain(ExplainArgs),
    /// Show where to look at the services
    Urls(UrlsArgs),
    /// Say what a changed config would do
    Plan,
    /// Put a changed config in force; only what changed is restarted
    Apply(ApplyArgs),
    /// Replace relume by a fresh copy of itself, or by an upgrade; services are not touched
    Respawn,
    /// Run one command as a service, until it ends
    Run(RunArgs),
    /// Kill parts of relume on purpose, and prove that nothing is lost
    Drill(DrillArgs),
    /// Make a systemd unit that runs `relume up`
    Install(InstallArgs),
    /// Stop and remove the unit that `install` has made
    Uninstall(UninstallArgs),
    /// Look for what could keep relume or the services from working
    Doctor,
    /// Check the config: every error in one go, with file, line and column
    Check(CheckArgs),
    /// Print the JSON Schema of the config, for editors
    Schema,
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
    /// Whether a job has something to do; asked by the manager
    #[command(hide = true)]
    Judge {
        /// `done` where files have told that it has been done, else `open`
        known: String,
        /// What is to be judged, as JSON
        check: String,
    },
}

const UP_EXAMPLES: &str = "Examples:
  relume up                  all services that start by themselves
  relume up web              web and what it depends on
  relume up --follow         show the output of the services, too
  relume up --log-level debug --exit-when all_done

While it runs: Ctrl+C stops all in reverse order, a second Ctrl+C kills at once. SIGHUP applies a changed config, \
SIGQUIT leaves the services running for the next `relume up`.

Every manager setting can also stand in the config (manager: log_level: debug) or in the environment \
(RELUME_LOG_LEVEL=debug). A flag counts more than the environment, the environment more than the file.";

/// Options of `up`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = UP_EXAMPLES)]
pub(crate) struct UpArgs {
    /// Only these services (or group/NAME), and what they depend on
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Go to the background once all services are up; where relume runs already, start what is missing
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// With --detach: do not wait until the services are up
    #[arg(long, requires = "detach")]
    pub(crate) no_wait: bool,
    /// Show the output of the services here
    #[arg(long, conflicts_with = "detach")]
    pub(crate) follow: bool,
    /// Settings of the manager.
    #[command(flatten)]
    pub(crate) manager: ManagerFlags,
}

/// The manager settings as flags, as text.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Manager settings")]
pub(crate) struct ManagerFlags {
    /// Replace the manager by a fresh copy each so often, services untouched; or off [default: 5m]
    #[arg(long, value_name = "DURATION")]
    self_respawn: Option<String>,
    /// A manager silent for so long is replaced; or off [default: 10s]
    #[arg(long, value_name = "DURATION")]
    watchdog: Option<String>,
    /// Sockets and journal [default: /run/relume/ID, $XDG_RUNTIME_DIR/relume/ID or /dev/shm/relume-UID/ID]
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<String>,
    /// Logs of the services [default: logs beside the config]
    #[arg(long, value_name = "DIR")]
    log_dir: Option<String>,
    /// The manager's own log [default: relume.log in the state directory]
    #[arg(long, value_name = "FILE")]
    log_file: Option<String>,
    /// error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// States for other programs to read [default: status.json in the state directory]
    #[arg(long, value_name = "FILE")]
    status_file: Option<String>,
    /// One NAME.pid for each service that runs [default: pids in the state directory]
    #[arg(long, value_name = "DIR")]
    pid_dir: Option<String>,
    /// At most so many automatic restarts over all services (20/1s); or off
    #[arg(long, value_name = "COUNT/WINDOW")]
    respawn_rate: Option<String>,
    /// Services being started at once [default: 64]
    #[arg(long, value_name = "COUNT")]
    start_parallelism: Option<String>,
    /// never, all_done or any_failed [default: never]
    #[arg(long, value_name = "WHEN")]
    exit_when: Option<String>,
    /// Variables for ${VAR} in the config and for all services
    #[arg(long, value_name = "FILE")]
    env_file: Option<String>,
    /// The database [default: state.db in the state directory]
    #[arg(long, value_name = "FILE")]
    state_file: Option<String>,
}

impl ManagerFlags {
    /// Everything of the manager's in one folder, whatever the environment says; it leaves when all is done.
    pub(crate) fn all_within(folder: &std::path::Path) -> Self {
        let place = |name: &str| Some(folder.join(name).to_string_lossy().into_owned());
        Self {
            runtime_dir: place("run"),
            log_dir: place("logs"),
            log_file: place("relume.log"),
            status_file: place("status.json"),
            pid_dir: place("pids"),
            state_file: place("state.db"),
            exit_when: Some("all_done".to_owned()),
            ..Self::default()
        }
    }

    fn pairs(&self) -> [(&'static str, Option<&String>); 14] {
        [
            ("self_respawn", self.self_respawn.as_ref()),
            ("watchdog", self.watchdog.as_ref()),
            ("runtime_dir", self.runtime_dir.as_ref()),
            ("log_dir", self.log_dir.as_ref()),
            ("log_file", self.log_file.as_ref()),
            ("log_level", self.log_level.as_ref()),
            ("log_format", self.log_format.as_ref()),
            ("status_file", self.status_file.as_ref()),
            ("pid_dir", self.pid_dir.as_ref()),
            ("respawn_rate", self.respawn_rate.as_ref()),
            ("start_parallelism", self.start_parallelism.as_ref()),
            ("exit_when", self.exit_when.as_ref()),
            ("env_file", self.env_file.as_ref()),
            ("state_file", self.state_file.as_ref()),
        ]
    }

    /// Settings of the environment and of flags, the strongest last.
    pub(crate) fn overrides(&self, global: &Global, env: impl Fn(&str) -> Option<OsString>) -> Vec<Override> {
        let text = |value: OsString| value.into_string().ok().filter(|value| !value.is_empty());
        let variable = |key: &str| {
            let origin = format!("RELUME_{}", key.to_ascii_uppercase());
            let value = text(env(&origin)?)?;
            Some(Override { key: key.to_owned(), value, origin })
        };
        let keys = self.pairs().map(|(key, _)| key);
        let mut all: Vec<Override> = Vec::new();
        if text(env("DEBUG").unwrap_or_default()).is_some_and(|value| value == "1") {
            all.push(Override { key: "log_level".into(), value: "debug".into(), origin: "DEBUG".into() });
        }
        all.extend(keys.into_iter().chain(["state_dir"]).filter_map(variable));
        if global.system {
            let places = crate::places::SYSTEM.settings();
            all.extend(places.map(|(key, value)| Override {
                key: key.into(),
                value: value.into(),
                origin: "--system".into(),
            }));
        }
        if global.debug {
            all.push(Override { key: "log_level".into(), value: "debug".into(), origin: "--debug".into() });
        }
        all.extend(self.pairs().into_iter().filter_map(|(key, value)| {
            let origin = format!("--{}", key.replace('_', "-"));
            Some(Override { key: key.to_owned(), value: value?.clone(), origin })
        }));
        if let Some(dir) = global.state_dir.as_ref().and_then(|dir| dir.to_str()) {
            let value = dir.to_owned();
            all.push(Override { key: "state_dir".into(), value, origin: "--state-dir".into() });
        }
        all
    }
}

/// Options of `status`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  relume status               everything
  relume status web group/db  one service and one group
  relume status --watch       the same, kept up to date until Ctrl+C
  relume status --json | jq '.services[] | select(.state != \"running\") | .name'

Exit code 1 while a service that starts by itself is not running, completed or stopped.")]
pub(crate) struct StatusArgs {
    /// Only these services (or group/NAME)
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Show it again whenever something changes, until Ctrl+C
    #[arg(short = 'w', long)]
    pub(crate) watch: bool,
}

/// Which services, and how long to wait for them.
#[derive(Debug, Clone, Args)]
pub(crate) struct TargetArgs {
    /// Services, or group/NAME for all of a group
    #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) names: Vec<String>,
    /// Every service
    #[arg(long)]
    pub(crate) all: bool,
    /// Wait no longer than this, then leave it to go on (exit code 4) [default: as long as it takes]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Do not wait at all
    #[arg(long, conflicts_with = "timeout")]
    pub(crate) no_wait: bool,
}

/// Options of `start`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  relume start web             start web and what it depends on, wait until it is ready
  relume start group/backend   every service of a group
  relume start --all           everything, also what does not start by itself

A start by you clears the retries a service has used up.")]
pub(crate) struct StartArgs {
    /// Which services.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Options of `stop` and `restart`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  relume stop db                      db alone; what depends on it is named and keeps running
  relume stop db --with-dependents    first what depends on it, then db
  relume restart web --timeout 30s    give up waiting after 30 s (exit code 4); the restart goes on
  relume restart --all")]
pub(crate) struct StopArgs {
    /// Which services.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Also what depends on them
    #[arg(long)]
    pub(crate) with_dependents: bool,
}

/// Options of `logs`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  relume logs                 the last 10 lines of every service
  relume logs -n 100 web      the last 100 of one
  relume logs -f web worker   follow two, until Ctrl+C; rotation loses nothing
  relume logs -n all web > web.txt

Works while no manager is running. On a terminal, escape sequences in the output are made harmless.")]
pub(crate) struct LogsArgs {
    /// Only these services (or group/NAME)
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Go on showing what is written
    #[arg(short = 'f', long)]
    pub(crate) follow: bool,
    /// So many lines of each service, or all
    #[arg(short = 'n', long = "lines", value_name = "N", default_value = "10", value_parser = line_count)]
    pub(crate) lines: u64,
    /// Show escape sequences to the terminal as they are
    #[arg(long)]
    pub(crate) raw: bool,
}

fn line_count(text: &str) -> Result<u64, String> {
    if text == "all" { Ok(u64::MAX) } else { text.parse().map_err(|_| "a number, or all".to_owned()) }
}

/// A span of time as in the config: seconds, or `500ms`, `5s`, `1m30s`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a number of seconds, or 500ms, 5s, 1m30s, 2h".to_owned();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| wrong());
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|&at| at > 0).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| at + digits);
        let millis: u64 = match &rest[digits..unit] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        total += Duration::from_millis(number.checked_mul(millis).ok_or_else(wrong)?);
        rest = &rest[unit..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_has_no_contradictions() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_verb() {
        for line in ["relume --state-dir /s -c a -c b status", "relume status -c a -c b --state-dir /s"] {
            let cli = parse(line).unwrap();
            assert_eq!(cli.global.configs, [PathBuf::from("a"), PathBuf::from("b")]);
            assert_eq!(cli.global.state_dir, Some(PathBuf::from("/s")));
        }
    }

    #[test]
    fn an_operation_needs_to_be_told_on_what() {
        assert!(parse("relume stop").is_err());
        assert!(parse("relume stop --all web").is_err());
        assert!(parse("relume stop --all").is_ok());
        assert!(parse("relume start web --with-dependents").is_err());
    }

    #[test]
    fn a_flag_is_stronger_than_the_environment() {
        let Some(Command::Up(up)) = parse("relume up --log-level warn --state-dir /flag").unwrap().command
        else {
            panic!("not up");
        };
        let global = parse("relume up --state-dir /flag").unwrap().global;
        let env = |key: &str| match key {
            "RELUME_LOG_LEVEL" => Some("trace".into()),
            "RELUME_STATE_DIR" => Some("/env".into()),
            "DEBUG" => Some("1".into()),
            _ => None,
        };
        let overrides = up.manager.overrides(&global, env);
        let of = |key: &str| -> Vec<(&str, &str)> {
            let found = overrides.iter().filter(|over| over.key == key);
            found.map(|over| (over.value.as_str(), over.origin.as_str())).collect()
        };
        assert_eq!(
            of("log_level"),
            [("debug", "DEBUG"), ("trace", "RELUME_LOG_LEVEL"), ("warn", "--log-level")]
        );
        assert_eq!(of("state_dir"), [("/env", "RELUME_STATE_DIR"), ("/flag", "--state-dir")]);
    }

    #[test]
    fn durations_are_those_of_the_config() {
        let all = ["5", "0.5", "500ms", "5s", "1m30s", "2h"].map(|text| duration(text).unwrap().as_millis());
        assert_eq!(all, [5000, 500, 500, 5000, 90_000, 7_200_000]);
        for wrong in ["", "s", "5x", "-1", "1m 30s", "NaN", "5s3"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
