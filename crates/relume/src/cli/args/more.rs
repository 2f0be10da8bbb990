//! The words of the verbs that ask, wait and change, as opposed to those that start and stop.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use relume_proto::State;

use super::logs::line_count;
use super::{TargetArgs, duration};

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
