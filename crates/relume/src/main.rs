//! relume keeps services running: it starts them in dependency order, restarts what fails, and recovers from
//! its own death.
//!
//! This is the program: the manager, and the command line that asks it. Which service is started when is
//! decided in `relume-core`; here it is learned, done and shown.

mod cli;
mod config_files;
mod guardian;
mod manager;
mod orphans;
mod places;
mod roles;
mod trust;

fn main() -> std::process::ExitCode {
    relume_os::memory::be_lean();
    match roles::Role::of_this_process() {
        roles::Role::Guardian => guardian::run(),
        roles::Role::Command | roles::Role::Manager => cli::run(),
    }
}
