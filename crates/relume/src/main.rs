//! relume keeps services running: it starts them in dependency order, restarts what fails, and recovers from
//! its own death.
//!
//! This is the program: the manager, and the command line that asks it. Which service is started when is
//! decided in `relume-core`; here it is learned, done and shown.

mod cli;
mod config_files;
mod guardian;
mod log_files;
mod manager;
mod orphans;
mod output_index;
mod places;
mod roles;
mod trust;

fn main() -> std::process::ExitCode {
    match roles::Role::of_this_process() {
        roles::Role::Guardian => guardian::run(),
        roles::Role::Command | roles::Role::Manager => cli::run(),
    }
}
