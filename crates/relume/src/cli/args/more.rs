//! The words of the verbs that ask, wait and change, as opposed to those that start and stop.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use relume_proto::State;

use super::{TargetArgs, duration, line_count};

/// Options of `reload`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  relume reload web            its reload_signal (HUP unless configured), or its reload_command
  relume reload group/backend
  relume reload --all

The services go on running; only those that run can be asked. To apply a changed relume config: relume apply")]
pub(crate) struct ReloadArgs {
    /// Which services.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Options of `signal`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  relume signal USR1 web          to its main process
  relume signal HUP group/web     to the main process of each of a group
  relume signal QUIT web --tree   to every process of it
  relume signal 9 web             a death from outside: relume restarts it by its restart_policy")]
pub(crate) struct SignalArgs {
    /// A name with or without SIG, or a number
    #[arg(value_name = "SIGNAL", value_parser = signal)]
    pub(crate) signal: i32,
    /// Services, or group/NAME for all of a group
    #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) names: Vec<String>,
    /// Every service
    #[arg(long)]
    pub(crate) all: bool,
    /// To every process of a service
    #[arg(long)]
    pub(crate) tree: bool,
}

/// Options of `wait`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  relume wait db                              until it is ready
  relume wait web worker --timeout 30s        until both are, for 30 s at most
  relume wait migrate --for completed
  relume wait group/backend --for healthy

What can be waited for: ready, healthy, or a state as in `relume status`. Ends at once with 1 when it cannot come \
by itself: a service that has failed, or was stopped, does not become ready unless somebody starts it.

Exit codes: 0 it is so, 1 it will not be so, 4 timed out")]
pub(crate) struct WaitArgs {
    /// Services, or group/NAME for all of a group
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    /// ready, healthy, or a state
    #[arg(long = "for", value_name = "STATE", default_value = "ready", value_parser = awaited)]
    pub(crate) awaited: Awaited,
    /// Wait no longer than this (exit code 4) [default: as long as it takes]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// Ready; a oneshot: completed.
    Ready,
    /// Ready, and not judged bad.
    Healthy,
    /// In this state.
    State(State),
}

impl std::fmt::Display for Awaited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Healthy => f.write_str("healthy"),
            Self::State(state) => f.write_str(state.as_str()),
        }
    }
}

/// Options of `events`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  relume events                 the last 100 things that happened
  relume events -f web          those of one service, then what happens, until Ctrl+C
  relume events -n all --json   everything that is kept, one JSON object a line
  relume events --after 4711    what came after event 4711")]
pub(crate) struct EventsArgs {
    /// Only of these services (or group/NAME)
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Go on with what happens
    #[arg(short = 'f', long)]
    pub(crate) follow: bool,
    /// So many of the past, or all
    #[arg(short = 'n', long = "lines", value_name = "N", default_value = "100", value_parser = line_count)]
    pub(crate) lines: u64,
    /// Only what came after the event of this number
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub(crate) after: u64,
}

/// Options of `run`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  relume run -- python3 worker.py                   once; ends with its exit code
  relume run --restart on-failure:5 -- ./flaky      at most 5 restarts, as configured services have them
  relume run --restart always -- ./server
  relume run --service web -- ./manage.py migrate   as web is run: its folder, environment, user and limits

The command is a service of a temporary relume that has no other and leaves when it has ended, so a relume that runs \
already is not touched and need not run. Output is shown here, input is not passed on (/dev/null). Ctrl+C ends it with \
every process it has started.")]
pub(crate) struct RunArgs {
    /// Run it as this service of the config is run
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// When it is started again: never, on-failure, on-failure:N or always
    #[arg(long, value_name = "POLICY", default_value = "never")]
    pub(crate) restart: String,
    /// The program and its arguments
    #[arg(value_name = "CMD", required = true, last = true)]
    pub(crate) command: Vec<String>,
}

/// Options of `urls`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  relume urls              where to look at what runs: urls and ports of the config
  relume urls web --json")]
pub(crate) struct UrlsArgs {
    /// Only these services (or group/NAME)
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// Options of `drill`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  relume drill                          a relume of the drill's own, in a temporary folder
  relume drill --yes --kills 200 --json
  relume drill --parts manager --every 50ms
  relume drill --live                   the relume that runs here: its parts are killed, its services watched
  relume drill --live --include web     and web is killed, too

Services write numbered lines and end with known codes while the manager, the guardian, both, or a service is killed \
with SIGKILL at moments of chance. Reported are services lost, doubled or restarted without cause, lines and exit \
codes lost, and how long it took until all was supervised again. With --live the services' own output cannot be judged.

Exit code 1 if anything was lost.")]
pub(crate) struct DrillArgs {
    /// So many kills
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) kills: usize,
    /// Only these parts
    #[arg(long, value_name = "PART", value_delimiter = ',', value_enum)]
    pub(crate) parts: Vec<crate::cli::commands::drill::Part>,
    /// Time between two kills on average; each is left to chance
    #[arg(long, value_name = "DURATION", default_value = "250ms", value_parser = super::duration)]
    pub(crate) every: Duration,
    /// Repeats the choices of an earlier drill
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
    /// Services of the drill's own relume that write lines
    #[arg(long, value_name = "N", default_value_t = 10, conflicts_with = "live")]
    pub(crate) printers: usize,
    /// Drill the relume that runs here instead of one of the drill's own
    #[arg(long)]
    pub(crate) live: bool,
    /// With --live: kill these services, too (or group/NAME)
    #[arg(long, value_name = "NAME", num_args = 1.., requires = "live")]
    pub(crate) include: Vec<String>,
    /// Do not ask first
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// Which unit.
#[derive(Debug, Clone, Args)]
pub(crate) struct UnitArgs {
    /// The user's own systemd, not that of the whole system
    #[arg(long)]
    pub(crate) user: bool,
    /// The unit's name
    #[arg(long, value_name = "NAME", default_value = "relume", value_parser = unit_name)]
    pub(crate) name: String,
}

/// Options of `install`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  relume --system install               /etc/relume, at every boot
  relume -c app.yaml install --name app --as app --now
  relume install --user                 the config of this folder, in your own session
  relume install --print                only show the unit

A unit that is there and was not made by relume is left alone. With KillMode=process systemd never ends the services: \
systemctl stop asks relume to stop them in order, and when relume itself dies they go on and are adopted.")]
pub(crate) struct InstallArgs {
    /// Which unit.
    #[command(flatten)]
    pub(crate) unit: UnitArgs,
    /// Run relume, and so its services, as this user
    #[arg(long = "as", value_name = "USER", conflicts_with = "user", value_parser = account)]
    pub(crate) run_as: Option<String>,
    /// Show the unit and change nothing
    #[arg(long)]
    pub(crate) print: bool,
    /// Have it started at boot; so it is without this flag, too
    #[arg(long, conflicts_with = "no_enable")]
    pub(crate) enable: bool,
    /// Do not have it started at boot
    #[arg(long)]
    pub(crate) no_enable: bool,
    /// Start it at once, too
    #[arg(long, conflicts_with_all = ["no_enable", "print"])]
    pub(crate) now: bool,
}

/// Options of `uninstall`.
#[derive(Debug, Clone, Args)]
pub(crate) struct UninstallArgs {
    /// Which unit.
    #[command(flatten)]
    pub(crate) unit: UnitArgs,
}

/// A name that is a file name, and one systemd takes (systemd.unit(5)).
fn unit_name(text: &str) -> Result<String, String> {
    let name = text.strip_suffix(".service").unwrap_or(text);
    let fine = |c: char| c.is_ascii_alphanumeric() || ":-_.@".contains(c);
    if name.is_empty() || name.starts_with('.') || name.len() > 200 || !name.chars().all(fine) {
        return Err("letters, digits and : - _ . @".into());
    }
    Ok(name.to_owned())
}

fn account(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.starts_with('-') || !text.chars().all(fine) {
        return Err("the name of a user".into());
    }
    Ok(text.to_owned())
}

/// Options of `completions`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  relume completions bash > ~/.local/share/bash-completion/completions/relume
  relume completions zsh > ~/.zfunc/_relume        (with fpath+=~/.zfunc in .zshrc)
  relume completions fish > ~/.config/fish/completions/relume.fish")]
pub(crate) struct CompletionsArgs {
    /// bash, elvish, fish, powershell or zsh
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// Options of `man`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  relume man | man -l -                  read the page of relume
  relume man wait | man -l -             that of one command
  relume man --dir ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// The page of this command
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    pub(crate) verb: Option<String>,
    /// Write all pages into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

fn signal(text: &str) -> Result<i32, String> {
    let known = relume_os::signals::parse(text).filter(|number| *number > 0);
    known.ok_or_else(|| "a name such as HUP or USR1, or a number; see them with: kill -l".to_owned())
}

fn awaited(text: &str) -> Result<Awaited, String> {
    match text {
        "ready" => Ok(Awaited::Ready),
        "healthy" => Ok(Awaited::Healthy),
        word if State::WORDS.contains(&word) => Ok(Awaited::State(State::from(word))),
        _ => Err(format!("one of ready, healthy, {}", State::WORDS.join(", "))),
    }
}
