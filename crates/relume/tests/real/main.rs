//! The real program, real processes: what users of relume rely on, one file per feature.
//!
//! Every test starts a relume of its own in a directory of its own ([`harness::Relume`]), waits for what it
//! wants to see instead of for a time, and leaves no process behind: the harness looks, and fails the test
//! that did. All of them pass as root and as an ordinary user; what needs root says so and is skipped.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed, here and now")]
#![expect(clippy::print_stderr, reason = "the test runner shows it beside the failed test")]

mod alerts;
mod apply;
mod archive;
mod births;
mod captured;
mod clients;
mod clock_jumps;
mod containers;
mod crash;
mod daemons;
mod defects;
mod dependencies;
mod die_together;
mod drill;
mod ending;
mod exactly_once;
mod examples;
mod explain;
mod external;
mod figures;
mod following;
mod forwarding;
mod frozen;
mod guardian;
mod guardian_death;
mod handover;
mod hanging;
mod harness;
mod healing_bot;
mod health;
mod hostile_configs;
mod jobs;
mod leaving;
mod lifecycle;
mod log_line;
mod many;
mod next_config;
mod own_log;
mod pid1;
mod pipe_room;
mod places;
mod planted;
mod random_operations;
mod readiness;
mod reload_faults;
mod requests;
mod resources;
mod respawn;
mod safe_mode;
mod secrets;
mod shortage;
mod sockets;
mod spawn_errors;
mod start_state;
mod state_disk;
mod stdout;
mod stop_tree;
mod strangers;
mod sweep;
mod systemd;
mod together;
mod told;
mod upgrade;
mod watchdog;
