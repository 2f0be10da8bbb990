//! The first exec: the command that the user has started becomes the guardian.

use std::ffi::OsString;
use std::os::fd::AsFd;

use relume_os::exec;

use crate::prepared::{KEPT_FDS, Written};
use crate::roles::{KEPT_CONFIG, LOCK_FD, PLACES, Role, own_program};
use crate::settled::Settled;
use crate::systemd;

/// Turns the process that the user started into the guardian, which keeps its pid and hands on the places that are settled, and the
/// configuration. Comes back only if that fails.
pub(crate) fn become_guardian(
    lock: &impl AsFd,
    settled: &Settled,
    config: Option<&Written>,
) -> relume_os::OsError {
    let argv: Vec<OsString> = std::env::args_os().collect();
    let mut environment = systemd::with_own_watchdog(Role::Guardian.environment());
    environment.retain(|(key, _)| key != PLACES);
    environment.push(settled.handed_on());
    let mut keep = vec![(lock.as_fd(), LOCK_FD)];
    // One that has to be read has been read in vain.
    let fds = config.map(Written::fds).filter(|fds| fds.len() == KEPT_FDS.len());
    if let Some(fds) = fds {
        keep.extend(fds.into_iter().zip(KEPT_FDS));
        environment.push((KEPT_CONFIG.into(), "1".into()));
    }
    exec::replace(&own_program(), &argv, &environment, &keep)
}
