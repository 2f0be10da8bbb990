//! Traits of this process and its threads (prctl(2)).

use crate::error::{Errno, OsError, Result};

/// Orphaned descendants become our children instead of init's.
pub fn set_child_subreaper() -> Result<()> {
    set(libc::PR_SET_CHILD_SUBREAPER, 1, "become a child subreaper")
}

/// Timers of the calling thread fire without the usual 50 µs of tolerance. New threads and children of this
/// thread inherit it: set it in the supervising thread, after the others were started.
pub fn set_finest_timer_slack() -> Result<()> {
    set(libc::PR_SET_TIMERSLACK, 1, "set the timer slack")
}

/// How late timers of the calling thread may fire, in nanoseconds. Children inherit it, as what they can be set back to; over an exec it
/// stays.
pub fn timer_slack() -> Result<u64> {
    let slack = rustix::thread::current_timer_slack();
    slack.map_err(|e| OsError::new("read the timer slack", e))
}

/// Sets it; none: what the calling thread began with.
pub fn set_timer_slack(nanoseconds: Option<u64>) -> Result<()> {
    let value = libc::c_ulong::try_from(nanoseconds.unwrap_or(0)).unwrap_or(libc::c_ulong::MAX);
    set(libc::PR_SET_TIMERSLACK, value, "set the timer slack")
}

/// Names the calling thread, for `ps -L` and debuggers; cut after 15 bytes.
pub fn set_thread_name(name: &str) -> Result<()> {
    let mut buffer = [0u8; 16];
    for (to, from) in buffer.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: a NUL-terminated buffer of 16 bytes, as PR_SET_NAME wants.
    let rc = unsafe { libc::prctl(libc::PR_SET_NAME, buffer.as_ptr()) };
    if rc == 0 { Ok(()) } else { Err(OsError::new("name a thread", Errno::last())) }
}

/// The calling thread's nice value, -20 (favoured) to 19.
pub fn nice() -> Result<i32> {
    rustix::process::getpriority_process(None).map_err(|e| OsError::new("read the nice value", e))
}

/// Sets the calling thread's nice value; below the present one needs `CAP_SYS_NICE` or `RLIMIT_NICE`.
pub fn set_nice(value: i32) -> Result<()> {
    rustix::process::setpriority_process(None, value).map_err(|e| OsError::new("set the nice value", e))
}

fn set(option: i32, value: libc::c_ulong, what: &'static str) -> Result<()> {
    // SAFETY: integer arguments only.
    let rc = unsafe { libc::prctl(option, value, 0, 0, 0) };
    if rc == 0 { Ok(()) } else { Err(OsError::new(what, Errno::last())) }
}
