//! The manager: supervises the services of one configuration.
//!
//! # Theory of operation
//!
//! What happens is *learned* in [`translate`], *decided* in `relume-core`, *done* in [`perform`] and *shown* in
//! [`publish`]. The supervise thread ([`main_loop`]) does the first three and waits for nothing but events.
//! Whatever can wait for something else has a thread of its own: starting processes ([`spawn`]), moving their
//! output into files ([`capture`]), walking through /proc ([`trees`]), showing ([`publish`], with one more for
//! the disk and one for the terminal), clients ([`api`]), and reading the configuration again ([`reload`]).
//!
//! Threads speak through queues. Towards the supervise thread there is one, [`inbox`]; from it, one to each.

mod accounts;
mod aftermath;
mod alerts;
mod api;
mod archive;
mod attention;
mod births;
mod capture;
mod disks;
mod edge;
mod forward;
mod gate;
mod inbox;
mod job;
mod journal;
mod keeper;
pub(crate) mod last_known;
mod last_words;
mod launch;
mod leaving;
mod limiting;
mod listening;
mod lull;
mod main_loop;
mod oom;
mod operations;
mod orphans;
mod parent_death;
mod perform;
mod promotion;
mod publish;
mod ready;
mod recovery;
mod reload;
mod respawn;
mod runs;
pub(crate) mod safe_mode;
mod sampling;
mod schedule;
mod spawn;
mod start_up;
mod translate;
mod trees;
mod undelivered;
mod units;
mod weigh;

use std::os::fd::OwnedFd;
use std::process::ExitCode;

pub(crate) use respawn::try_out;
pub(crate) use start_up::{Arrival, Handed};

use crate::cli::Screen;
use crate::recorded::Recording;
use crate::roles::{Role, STANDBY};
use crate::settled::Settled;

/// What `relume up` has settled before the manager begins.
pub(crate) struct Options {
    /// What to run.
    pub(crate) read: Read,
    /// How `config` was read, to read it again.
    pub(crate) load: relume_config::Options,
    /// Files that others can write are used all the same.
    pub(crate) trust: bool,
    /// Where everything is; its directories exist.
    pub(crate) settled: Settled,
    /// The services to start, with what they depend on; empty: those that start by themselves.
    pub(crate) names: Vec<String>,
    /// Show the output of the services on the terminal.
    pub(crate) follow: bool,
    /// Where to show it.
    pub(crate) screen: Screen,
    /// What a manager finds; none: this process is to be the guardian.
    pub(crate) arrival: Option<Arrival>,
}

/// A configuration as it was read.
pub(crate) struct Read {
    pub(crate) config: relume_config::Config,
    /// What it was read from.
    pub(crate) recording: Recording,
    /// The same for the next manager.
    pub(crate) prepared: Option<OwnedFd>,
    /// It was read, and not handed on.
    pub(crate) anew: bool,
}

/// Runs until asked to leave, and says how that went. In the user's own process this is where the guardian
/// begins; in the process that the guardian has started, the manager.
pub(crate) fn run(options: Options) -> ExitCode {
    let screen = options.screen.clone();
    let started = match Role::of_this_process() {
        Role::Manager => {
            #[cfg(debug_assertions)]
            hang("RELUME_HANG");
            start_up::start(options)
        }
        Role::Command | Role::Guardian | Role::Trial | Role::Shim | Role::Drill => {
            Err(start_up::begin(options))
        }
    };
    match started {
        Ok(manager) => ExitCode::from(u8::try_from(manager.run()).unwrap_or(1)),
        // The manager goes on, and says that nobody has come up beside it.
        Err(_) if std::env::var_os(STANDBY).is_some() => ExitCode::FAILURE,
        Err(trouble) => {
            screen.error(&trouble.text, trouble.help.as_deref());
            ExitCode::FAILURE
        }
    }
}

/// For tests: while the file that the variable names is there, the manager gets no further than this, and says so by another.
#[cfg(debug_assertions)]
fn hang(variable: &str) {
    let Some(file) = std::env::var_os(variable).map(std::path::PathBuf::from) else { return };
    if file.exists() {
        let _untold = std::fs::write(file.with_extension("reached"), "");
    }
    while file.exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
