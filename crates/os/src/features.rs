//! What this kernel, with its filters and with our rights, can do. Each thing was tried, not inferred from a version.

use crate::cgroup::{CgroupRoot, EntryWay};
use crate::error::Errno;
use crate::pidfd::PidFd;
use crate::spawn;

/// The answers, for people and for choosing a way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a list of independent yes/no answers")]
pub struct Features {
    /// Release of the kernel, as `uname -r` shows it.
    pub kernel: String,
    /// pidfd_open(2), Linux 5.3.
    pub pidfd: bool,
    /// clone3(2), Linux 5.3; container filters may refuse it.
    pub clone3: bool,
    /// close_range(2), Linux 5.9.
    pub close_range: bool,
    /// How a process ended can be asked after somebody else reaped it (`PIDFD_GET_INFO`), Linux 6.15.
    pub pidfd_info_exit: bool,
    /// openat2(2), Linux 5.6.
    pub openat2: bool,
    /// `/proc/PID/task/TID/children` (CONFIG_PROC_CHILDREN).
    pub proc_children: bool,
    /// How children enter a cgroup of their own, or why there is none.
    pub cgroup: Result<EntryWay, String>,
    /// `cgroup.kill`, Linux 5.14.
    pub cgroup_kill: bool,
}

/// Tries everything; takes some milliseconds. `cgroup` is the root in use, or why there is none.
#[must_use]
pub fn probe(cgroup: Result<&CgroupRoot, String>) -> Features {
    let me = PidFd::open(std::process::id());
    Features {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        pidfd: me.is_ok(),
        clone3: spawn::has_clone3(),
        close_range: spawn::has_close_range(),
        pidfd_info_exit: status_outlives_reap(),
        openat2: has_openat2(),
        proc_children: std::path::Path::new("/proc/thread-self/children").exists(),
        cgroup_kill: cgroup.as_ref().is_ok_and(|root| root.has_kill()),
        cgroup: cgroup.and_then(|root| root.probe().map_err(|e| e.to_string())),
    }
}

/// Whether how a process ended can be asked after somebody else reaped it. Takes a process.
#[must_use]
pub fn status_outlives_reap() -> bool {
    spawn::status_outlives_reap().unwrap_or(false)
}

fn has_openat2() -> bool {
    // SAFETY: no arguments at all: the kernel answers with some error, ENOSYS if it has no such call, EPERM if a filter refuses.
    unsafe { libc::syscall(libc::SYS_openat2, -1, 0, 0, 0) };
    !matches!(Errno::last(), Errno::NOSYS | Errno::PERM)
}
