//! The command line: one enum of verbs, one file a verb, rendering apart from fetching.
//!
//! A verb fetches (through `relume-proto`, or from files), lets `render/` make text of it, and shows that on
//! the [`Screen`]. It never decides about services, never reads the manager's state but through the API and
//! the files that are meant to be read, and never ends the process from within.

pub(crate) mod args;
mod commands;
pub(crate) mod render;
mod screen;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use relume_proto::{ApiError, ClientError, ErrorCode, ErrorKind};

pub(crate) use commands::drill::play_part as play_drill_part;
pub(crate) use commands::logs::{Followed, NOTED_FILES, Stream as LogStream};
pub(crate) use screen::Screen;

use args::{Cli, Command, Global, UpArgs};

/// How a command ends, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It was done.
    Done,
    /// It did not work, or some wanted service is not well.
    NotWell,
    /// Bad usage or bad config.
    Usage,
    /// No manager is running.
    NotRunning,
    /// Timed out.
    TimedOut,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::NotWell => 1,
            Exit::Usage => 2,
            Exit::NotRunning => 3,
            Exit::TimedOut => 4,
        })
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    code: ErrorCode,
    message: String,
    help: Option<String>,
}

impl Failure {
    /// What failed, on what, and why.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        let word = match exit {
            Exit::Done | Exit::NotWell => "failed",
            Exit::Usage => "usage",
            Exit::NotRunning => "not_running",
            Exit::TimedOut => "timed_out",
        };
        Self { exit, code: ErrorCode::from(word), message: message.into(), help: None }
    }

    /// What to do about it.
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    fn show(&self, screen: &Screen) {
        if screen.json {
            let error =
                ApiError { error: self.code.clone(), detail: self.message.clone(), help: self.help.clone() };
            screen.note(&format!("{}\n", serde_json::json!(error)));
        } else {
            // Names and texts of services are part of some messages.
            let harmless =
                |text: &str| text.lines().map(render::text::harmless).collect::<Vec<_>>().join("\n");
            screen.error(&harmless(&self.message), self.help.as_deref().map(harmless).as_deref());
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error.kind {
            ErrorKind::Refused(refusal) => {
                let unknown = [ErrorCode::UnknownService, ErrorCode::BadRequest].contains(&refusal.error);
                let exit = if unknown { Exit::Usage } else { Exit::NotWell };
                Self { exit, code: refusal.error, message, help: refusal.help }
            }
            ErrorKind::NotRunning => Self::new(Exit::NotRunning, message),
            ErrorKind::TimedOut => Self::new(Exit::TimedOut, message),
            ErrorKind::Forbidden => Self::new(Exit::NotWell, message)
                .help("Only the user who started the manager, or root, may ask it."),
            ErrorKind::NotOurs | ErrorKind::Version | ErrorKind::Lost | ErrorKind::Broken => {
                Self::new(Exit::NotWell, message)
            }
        }
    }
}

/// Reads the command line, does what it says, and says how that ended.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to standard output; if nobody reads them, so be it.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let screen = Screen::new(cli.global.json, cli.global.no_color);
    let result = match cli.command {
        Some(command) => dispatch(command, &cli.global, &screen),
        None => without_verb(&cli.global, &screen),
    };
    result.unwrap_or_else(|failure| {
        failure.show(&screen);
        failure.exit.into()
    })
}

fn dispatch(command: Command, global: &Global, screen: &Screen) -> Result<ExitCode, Failure> {
    let exit = match command {
        // The only verb that does not return before its services do.
        Command::Up(args) => return commands::up::run(&args, global, screen),
        Command::Down => commands::down::run(global, screen),
        Command::Status(args) => commands::status::run(&args, global, screen),
        Command::Start(args) => commands::start::run(&args, global, screen),
        Command::Stop(args) => commands::stop::run(&args, global, screen),
        Command::Restart(args) => commands::restart::run(&args, global, screen),
        Command::Run(args) => return commands::run::run(&args, global, screen),
        Command::Reload(args) => commands::reload::run(&args, global, screen),
        Command::Signal(args) => commands::signal::run(&args, global, screen),
        Command::Wait(args) => commands::wait::run(&args, global, screen),
        Command::Events(args) => commands::events::run(&args, global, screen),
        Command::Explain(args) => commands::explain::run(&args, global, screen),
        Command::Urls(args) => commands::urls::run(&args, global, screen),
        Command::Plan => commands::plan::run(global, screen),
        Command::Respawn => commands::respawn::run(global, screen),
        Command::Drill(args) => commands::drill::run(&args, global, screen),
        Command::Install(args) => commands::install::run(&args, global, screen),
        Command::Uninstall(args) => commands::uninstall::run(&args, screen),
        Command::Apply(args) => commands::apply::run(&args, global, screen),
        Command::Doctor => commands::doctor::run(global, screen),
        Command::Completions(args) => commands::completions::run(&args, screen),
        Command::Man(args) => commands::man::run(&args, screen),
        Command::Logs(args) => commands::logs::run(&args, global, screen),
        Command::Check(args) => commands::check::run(&args, global, screen),
        Command::Judge { known, check } => return commands::judge::run(&known, &check, screen),
        Command::Schema => commands::schema::run(screen),
    };
    exit.map(ExitCode::from)
}

/// `relume` alone is `relume up` where there is a config, and a short help where there is none.
fn without_verb(global: &Global, screen: &Screen) -> Result<ExitCode, Failure> {
    if !commands::configs(global).is_empty() {
        return commands::up::run(&UpArgs::default(), global, screen);
    }
    screen.note(&format!("{}\n", Cli::command().render_help()));
    Err(commands::no_config())
}

/// The working directory; `.` if it is gone, so that the first path that is tried says so.
fn working_dir() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."))
}
