//! relume keeps services running: it starts them in dependency order, restarts what fails, and recovers from
//! its own death.
//!
//! This is the program: the manager, and the command line that asks it. Which service is started when is
//! decided in `relume-core`; here it is learned, done and shown.

mod cli;
mod config_files;
mod guardian;
mod last_lines;
mod log_files;
mod manager;
mod orphans;
mod output_index;
mod places;
mod port_holders;
mod prepared;
mod recorded;
mod roles;
mod room;
mod settled;
mod shim;
mod sizes;
mod systemd;
mod trust;

fn main() -> std::process::ExitCode {
    relume_os::memory::be_lean();
    // What an image before this one has set for itself would be the services'.
    let _finer = relume_os::prctl::set_timer_slack(None);
    if std::process::id() == 1 {
        keep_early_signals();
    }
    match roles::Role::of_this_process() {
        roles::Role::Guardian => guardian::run(),
        roles::Role::Shim => shim::run(),
        roles::Role::Drill => cli::play_drill_part(),
        roles::Role::Command | roles::Role::Manager | roles::Role::Trial => cli::run(),
    }
}

/// The kernel throws away what process 1 of a namespace has no handler for: a container that is stopped in its first
/// moments would go on until it is killed. Blocked signals wait; the guardian, which this process becomes, reads them.
fn keep_early_signals() {
    const HUP_INT_QUIT_TERM: [i32; 4] = [1, 2, 3, 15];
    // Without it only those moments are deaf.
    let _deaf = relume_os::signals::block(&HUP_INT_QUIT_TERM);
}
