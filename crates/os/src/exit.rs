//! How a process ended: the ladder of sources for it, in two operations.
//!
//! [`peek`] reads the status and leaves the zombie; [`reap`] removes it. Between the two the caller records the exit, so that
//! dying in between loses nothing. The sources, best first: `waitid` with WNOWAIT for our own children; `PIDFD_GET_INFO` for
//! what somebody else reaped (Linux 6.15); `/proc/PID/stat` field 52 for what nobody has reaped yet; `PIDFD_GET_INFO` again, for
//! what was reaped in between.
//!
//! `waitid(P_ALL)` takes nothing: without WNOWAIT it takes exits away from their owners. With it, it shows the same first zombie
//! until that is removed, and so tells whether there is any ([`first_ended_child`]). Children nobody knows are found by it or by
//! [`crate::proc::children`], and taken one by one with [`reap_orphan`].

use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use crate::error::{Errno, OsError, Result};
use crate::pidfd::{Info, PidFd};
use crate::{proc, signals};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitStatus {
    /// It called exit with this code (0 to 255).
    Code(i32),
    /// A signal ended it.
    Signal {
        /// Which (signal(7)).
        number: i32,
        /// Whether a core file was written.
        core_dumped: bool,
    },
    /// It has ended and nobody can say how: not our child, reaped by another, and the kernel is too old to tell.
    Unknown,
}

impl ExitStatus {
    /// From the raw status of wait(2).
    #[must_use]
    pub fn from_wait_status(status: i32) -> Self {
        if libc::WIFEXITED(status) {
            Self::Code(libc::WEXITSTATUS(status))
        } else if libc::WIFSIGNALED(status) {
            Self::Signal { number: libc::WTERMSIG(status), core_dumped: libc::WCOREDUMP(status) }
        } else {
            Self::Unknown
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal { number, core_dumped: false } => f.write_str(&signals::name(*number)),
            Self::Signal { number, core_dumped: true } => {
                write!(f, "{} (core dumped)", signals::name(*number))
            }
            Self::Unknown => f.write_str("exit status unknown"),
        }
    }
}

/// What a process and its reaped descendants used (getrusage(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// CPU time in user mode.
    pub user: Duration,
    /// CPU time in the kernel.
    pub system: Duration,
    /// Largest resident set of any one process, in KiB.
    pub max_rss_kib: u64,
}

/// What [`reap`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaped {
    /// Ended and now removed.
    Exited {
        /// Its former id.
        pid: u32,
        /// How it ended.
        status: ExitStatus,
        /// What it used.
        usage: Usage,
    },
    /// Still running.
    Alive,
    /// Not a child of this process, or reaped before: there is nothing to remove.
    NotOurs,
}

/// How the process behind `pidfd` ended; `None` while it runs, and only then. Removes nothing. `pid` is what it was known by; it is
/// only believed while the descriptor confirms it.
pub fn peek(pidfd: &PidFd, pid: u32) -> Result<Option<ExitStatus>> {
    Ok(peek_with_usage(pidfd, pid)?.map(|(status, _)| status))
}

/// The same, with what it used, where it is a child of ours: of others the kernel does not say.
pub fn peek_with_usage(pidfd: &PidFd, pid: u32) -> Result<Option<(ExitStatus, Option<Usage>)>> {
    // A child that has ended is `Alive` to its parent until whoever traces it has seen the end; and it may end between two questions.
    if let Reaped::Exited { status, usage, .. } =
        wait_by_pidfd(pidfd, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)?
    {
        return Ok(Some((status, Some(usage))));
    }
    if !pidfd.has_ended()? {
        return Ok(None);
    }
    if let Some(status) = from_info(pidfd)? {
        return Ok(Some((status, None)));
    }
    if let Some(status) = from_zombie(pidfd, pid)? {
        return Ok(Some((status, None)));
    }
    // Reaped between the two questions: now the kernel may know.
    Ok(Some((from_info(pidfd)?.unwrap_or(ExitStatus::Unknown), None)))
}

/// Removes the process behind `pidfd` if it is a child of ours that has ended.
pub fn reap(pidfd: &PidFd) -> Result<Reaped> {
    crate::tally::act();
    wait_by_pidfd(pidfd, libc::WEXITED | libc::WNOHANG)
}

/// Whether this child has ended and waits to be removed.
pub fn has_child_ended(pid: u32) -> Result<bool> {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    Ok(pid > 0 && matches!(wait(libc::P_PID, pid, options)?, Reaped::Exited { .. }))
}

/// A child that has ended and waits to be removed; none: there is no such child. It is the same one until it is removed: whoever leaves
/// one where it is does not hear of those behind it.
pub fn first_ended_child() -> Result<Option<u32>> {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    Ok(match wait(libc::P_ALL, 0, options)? {
        Reaped::Exited { pid, .. } => Some(pid),
        Reaped::Alive | Reaped::NotOurs => None,
    })
}

/// Removes this child if it has ended; for orphans that were handed to us as their subreaper.
pub fn reap_orphan(pid: u32) -> Result<Reaped> {
    if pid == 0 || i32::try_from(pid).is_err() {
        return Err(OsError::new("reap a child", Errno::INVAL).because(format!("{pid} is no process id")));
    }
    wait(libc::P_PID, pid, libc::WEXITED | libc::WNOHANG)
}

fn from_info(pidfd: &PidFd) -> Result<Option<ExitStatus>> {
    // ESRCH is a short moment during the reap by somebody else: ask once more.
    for _ in 0..2 {
        match pidfd.info()? {
            Info::Reaped { status } => return Ok(Some(ExitStatus::from_wait_status(status))),
            Info::NotReaped | Info::Unsupported => return Ok(None),
            Info::Gone => {}
        }
    }
    Ok(None)
}

fn from_zombie(pidfd: &PidFd, pid: u32) -> Result<Option<ExitStatus>> {
    let Some(stat) = proc::stat(pid)?.filter(proc::Stat::is_zombie) else {
        return Ok(None);
    };
    // The kernel writes 0, not an error, for a reader without the right to know: a link that asks for the same right
    // tells the two zeros apart.
    let permitted = rustix::fs::readlink(format!("/proc/{pid}/ns/user"), Vec::new());
    if matches!(permitted, Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM)) {
        return Ok(None);
    }
    // The id could have been given to another process whose zombie we looked at: only a descriptor that still
    // names this id vouches for it.
    if pidfd.pid()? != Some(pid) {
        return Ok(None);
    }
    Ok(Some(ExitStatus::from_wait_status(stat.exit_code)))
}

fn wait_by_pidfd(pidfd: &PidFd, options: i32) -> Result<Reaped> {
    // A descriptor number is never negative.
    let number = u32::try_from(pidfd.as_fd().as_raw_fd()).unwrap_or(u32::MAX);
    wait(libc::P_PIDFD, number, options)
}

/// waitid(2) with the fifth argument that only the bare system call has: rusage.
fn wait(kind: libc::idtype_t, id: u32, options: i32) -> Result<Reaped> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both structs are writable for the call; the other arguments are integers.
        let rc = unsafe {
            libc::syscall(libc::SYS_waitid, kind, id, info.as_mut_ptr(), options, usage.as_mut_ptr())
        };
        if rc == 0 {
            break;
        }
        match Errno::last() {
            Errno::INTR => {}
            Errno::CHILD => return Ok(Reaped::NotOurs),
            errno => return Err(OsError::new("wait for a child", errno)),
        }
    }
    // SAFETY: zeroed, then possibly filled by the kernel; both are plain data for which zero is valid.
    let (info, usage) = unsafe { (info.assume_init(), usage.assume_init()) };
    // SAFETY: waitid fills the SIGCHLD fields, or nothing (pid 0: no child is in the asked state).
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(Reaped::Alive);
    }
    Ok(Reaped::Exited {
        pid: u32::try_from(pid).unwrap_or(0),
        status: from_siginfo(info.si_code, status),
        usage: to_usage(&usage),
    })
}

fn from_siginfo(code: i32, status: i32) -> ExitStatus {
    match code {
        libc::CLD_EXITED => ExitStatus::Code(status),
        libc::CLD_KILLED => ExitStatus::Signal { number: status, core_dumped: false },
        libc::CLD_DUMPED => ExitStatus::Signal { number: status, core_dumped: true },
        _ => ExitStatus::Unknown,
    }
}

fn to_usage(raw: &libc::rusage) -> Usage {
    let time = |t: libc::timeval| {
        Duration::from_secs(u64::try_from(t.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(t.tv_usec).unwrap_or(0))
    };
    Usage {
        user: time(raw.ru_utime),
        system: time(raw.ru_stime),
        max_rss_kib: u64::try_from(raw.ru_maxrss).unwrap_or(0),
    }
}
