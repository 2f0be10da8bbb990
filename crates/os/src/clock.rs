//! The clocks. Supervision counts in [`monotonic_ns`] alone; wall time is for people and schedules.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::error::{OsError, Result};

/// Nanoseconds of `CLOCK_MONOTONIC`: never goes back, stands still during a suspend.
#[must_use]
pub fn monotonic_ns() -> u64 {
    to_ns(clock_gettime(ClockId::Monotonic))
}

/// Now in the unit of start times (field 22 of `/proc/PID/stat`): ticks after boot, of which the kernel shows 100 a second.
#[must_use]
pub fn boot_ticks() -> u64 {
    to_ticks(to_ns(clock_gettime(ClockId::Boottime)))
}

/// Nanoseconds of `CLOCK_BOOTTIME` as start times count them: the kernel cuts off the rest, too.
pub(crate) fn to_ticks(boottime_ns: u64) -> u64 {
    boottime_ns / 10_000_000
}

/// Wall time as the duration since 1970-01-01 UTC (`CLOCK_REALTIME`); it may jump. A clock set before 1970 reads as 0.
#[must_use]
pub fn realtime() -> Duration {
    let now = Duration::from_nanos(to_ns(clock_gettime(ClockId::Realtime)));
    #[cfg(debug_assertions)]
    let now = shifted(now);
    now
}

/// The environment variable that names a file with seconds to be added to wall time. Debug builds only: so a test can set the clock of one
/// program, where the kernel knows one for the whole machine.
#[cfg(debug_assertions)]
const SHIFT: &str = "RELUME_WALL_SHIFT";

#[cfg(debug_assertions)]
fn shifted(now: Duration) -> Duration {
    let text = std::env::var_os(SHIFT).and_then(|file| std::fs::read_to_string(file).ok());
    match text.and_then(|text| text.trim().parse::<i64>().ok()) {
        Some(by) if by < 0 => now.saturating_sub(Duration::from_secs(by.unsigned_abs())),
        Some(by) => now.saturating_add(Duration::from_secs(by.unsigned_abs())),
        None => now,
    }
}

/// Identifies this boot of the machine. Pids and start times of another boot mean nothing.
pub fn boot_id() -> Result<String> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(PATH).map_err(|e| OsError::at("read", PATH, e))?;
    Ok(text.trim().to_owned())
}

fn to_ns(t: rustix::time::Timespec) -> u64 {
    let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(t.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_never_goes_back_and_the_boot_has_a_name() {
        let first = monotonic_ns();
        assert!(monotonic_ns() >= first);
        assert!(realtime() > Duration::from_secs(1_600_000_000));
        assert_eq!(boot_id().unwrap().len(), 36);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let started = crate::proc::stat(child.id()).unwrap().unwrap().start_time;
        assert!(boot_ticks().abs_diff(started) < 1000, "{started}");
        child.wait().unwrap();
    }
}
