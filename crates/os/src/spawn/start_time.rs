//! When a child began, without a look into /proc.
//!
//! A start time counts ticks of 10 ms, and the kernel reads `CLOCK_BOOTTIME` for it while it makes the child. Where that clock shows the
//! same tick before the clone and in the child's first moment, this is the start time, and so it is for all but one child in a hundred.
//! `/proc/PID/stat` would say the same for a tenth of what the whole start costs; and what a look leaves in the kernel's cache of
//! /proc has to be found and thrown away when the process is reaped.

use std::mem::MaybeUninit;

use super::sys;
use crate::clock;
use crate::error::Result;
use crate::pidfd::ProcessId;

/// Whether the clock is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartTimes {
    /// Not compared with /proc yet.
    Untried,
    /// It has said what /proc said.
    ByClock,
    /// It has not, as may be where something emulates Linux: /proc is asked each time.
    ByProc,
}

impl StartTimes {
    /// The identity of a child that nobody has reaped, born between two readings of `CLOCK_BOOTTIME` in nanoseconds. `None`: /proc does not
    /// know it.
    pub(super) fn identify(&mut self, pid: u32, (before, after): (u64, u64)) -> Result<Option<ProcessId>> {
        let (first, last) = (clock::to_ticks(before), clock::to_ticks(after));
        if first != last || *self == Self::ByProc {
            return ProcessId::of(pid);
        }
        let id = ProcessId { pid, start_time: first };
        if *self == Self::ByClock {
            return Ok(Some(id));
        }
        let told = ProcessId::of(pid)?;
        *self = if told == Some(id) { Self::ByClock } else { Self::ByProc };
        Ok(told)
    }
}

/// Now by `CLOCK_BOOTTIME`, in nanoseconds, by a bare system call: for the child. `u64::MAX` where the kernel does not say.
pub(super) fn boottime() -> u64 {
    let mut now = MaybeUninit::<[i64; 2]>::zeroed();
    let args = [libc::CLOCK_BOOTTIME.unsigned_abs() as usize, now.as_mut_ptr().expose_provenance(), 0, 0, 0];
    // SAFETY: the kernel writes two numbers of 64 bits, for which there is room.
    let done = unsafe { sys::call(libc::SYS_clock_gettime, args) };
    // SAFETY: zeroed, or written by the kernel.
    let [seconds, nanos] = unsafe { now.assume_init() };
    match (done, u64::try_from(seconds), u64::try_from(nanos)) {
        (0, Ok(seconds), Ok(nanos)) => seconds.saturating_mul(1_000_000_000).saturating_add(nanos),
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_believed_once_it_has_said_what_proc_says() {
        let own = std::process::id();
        let told = ProcessId::of(own).unwrap();
        let start = told.unwrap().start_time;
        let at = |tick: u64| tick * 10_000_000;
        let mut times = StartTimes::Untried;
        // Across two ticks it says nothing.
        assert_eq!(times.identify(own, (at(start), at(start + 1))).unwrap(), told);
        assert_eq!(times, StartTimes::Untried);
        assert_eq!(times.identify(own, (at(start), at(start) + 9_999_999)).unwrap(), told);
        assert_eq!(times, StartTimes::ByClock);
        let later = times.identify(own, (at(start + 5), at(start + 5))).unwrap();
        assert_eq!(later, Some(ProcessId { pid: own, start_time: start + 5 }));
    }

    #[test]
    fn a_clock_that_says_otherwise_is_not_asked_again() {
        let own = std::process::id();
        let told = ProcessId::of(own).unwrap();
        let mut times = StartTimes::Untried;
        assert_eq!(times.identify(own, (7, 7)).unwrap(), told);
        assert_eq!(times, StartTimes::ByProc);
        assert_eq!(times.identify(own, (7, 7)).unwrap(), told);
    }

    #[test]
    fn a_bare_call_reads_the_same_clock() {
        let (before, now, after) = (clock::boot_ticks(), clock::to_ticks(boottime()), clock::boot_ticks());
        assert!((before..=after).contains(&now), "{before} {now} {after}");
    }
}
