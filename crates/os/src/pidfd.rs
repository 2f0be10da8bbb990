//! Processes by descriptor: a pidfd never comes to mean another process, a pid does.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};

use crate::error::{Errno, OsError, Result};
use crate::proc;

/// One process of this boot: its id and when it started (field 22 of `/proc/PID/stat`, clock ticks after boot). Together with
/// [`crate::clock::boot_id`] this names a process for ever, on kernels of any age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks after boot.
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has this id now (zombies too); `None` if none has.
    pub fn of(pid: u32) -> Result<Option<Self>> {
        Ok(proc::stat(pid)?.map(|s| Self { pid, start_time: s.start_time }))
    }

    /// Whether this very process still exists (zombies too).
    pub fn exists(self) -> Result<bool> {
        Ok(Self::of(self.pid)? == Some(self))
    }

    /// A pidfd of this very process; `None` when it is gone. The start time is read after the descriptor was
    /// opened, so an id given to another process in between is noticed.
    pub fn open(self) -> Result<Option<PidFd>> {
        let fd = match PidFd::open(self.pid) {
            Ok(fd) => fd,
            Err(e) if e.errno == Errno::SRCH => return Ok(None),
            // A thread's id, or a zombie on kernels that refuse it: not a process of ours to act on.
            Err(e) if e.errno == Errno::INVAL => return Ok(None),
            Err(e) => return Err(e),
        };
        Ok(self.exists()?.then_some(fd))
    }
}

/// What the kernel tells of a process through its pidfd (`PIDFD_GET_INFO`, Linux 6.13; exit status from 6.15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Info {
    /// Reaped; its raw wait(2) status.
    Reaped {
        /// Raw wait status.
        status: i32,
    },
    /// Running, or a zombie that nobody has reaped yet.
    NotReaped,
    /// Gone, and its status was not kept.
    Gone,
    /// The kernel does not know the question.
    Unsupported,
}

/// The kernel's struct in its first published size (64 bytes); it accepts that size for ever.
#[repr(C)]
#[derive(Default)]
struct RawInfo {
    mask: u64,
    cgroup_id: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}
const _: () = assert!(size_of::<RawInfo>() == 64);

/// `_IOWR(0xFF, 11, 64 bytes)`.
const PIDFD_GET_INFO: libc::c_ulong = (3 << 30) | (64 << 16) | (0xFF << 8) | 11;
/// Ask for the ids, which are there on return in any case.
const INFO_PID: u64 = 1 << 0;
/// Ask for, and on return: there is, the exit status.
const INFO_EXIT: u64 = 1 << 3;

/// pidfd_send_signal(2), Linux 6.9: to the group the process leads.
const PIDFD_SIGNAL_PROCESS_GROUP: u32 = 1 << 2;

/// A descriptor that stands for one process (pidfd_open(2)). Readable in epoll once the process has ended.
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
}

impl PidFd {
    /// Opens the process that has this id now. 0 is refused: it means the caller's own group elsewhere.
    pub fn open(pid: u32) -> Result<Self> {
        let number = i32::try_from(pid).ok().filter(|&p| p > 0);
        let Some(number) = number else {
            return Err(
                OsError::new("open a process", Errno::INVAL).because(format!("{pid} is no process id"))
            );
        };
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
        let Some(fd) = i32::try_from(fd).ok().filter(|&fd| fd >= 0) else {
            return Err(OsError::new("open a process", Errno::last()));
        };
        // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// A pidfd that came from elsewhere: clone3(2), a descriptor store.
    #[must_use]
    pub fn from_owned(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Gives the descriptor away.
    #[must_use]
    pub fn into_owned(self) -> OwnedFd {
        self.fd
    }

    /// A second descriptor of the same process.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self.fd.try_clone().map_err(|e| OsError::new("copy a process descriptor", e))?;
        Ok(Self { fd })
    }

    /// Sends a signal; false when the process has ended already (a zombie still takes it, to no effect).
    pub fn send_signal(&self, signal: i32) -> Result<bool> {
        crate::tally::act();
        match self.send(signal, 0) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(errno) => Err(OsError::new("send a signal", errno)
                .because(format!("{}: {errno}", crate::signals::name(signal)))),
        }
    }

    /// Sends a signal to the whole process group this process leads, in one act that a fork cannot slip through; false when there is no
    /// such group or the kernel is older than 6.9.
    pub fn send_signal_to_group(&self, signal: i32) -> Result<bool> {
        match self.send(signal, PIDFD_SIGNAL_PROCESS_GROUP) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH | Errno::INVAL) => Ok(false),
            Err(errno) => Err(OsError::new("signal a process group", errno)
                .because(format!("{}: {errno}", crate::signals::name(signal)))),
        }
    }

    fn send(&self, signal: i32, flags: u32) -> std::result::Result<(), Errno> {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: integers and a null siginfo; no memory of ours is touched.
        let rc =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal, none, flags) };
        if rc == 0 { Ok(()) } else { Err(Errno::last()) }
    }

    /// Whether the process has ended: reaped or not, child of ours or not.
    pub fn has_ended(&self) -> Result<bool> {
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            // A signal that came in between is no answer.
            if let Some(ended) = self.poll(Some(&now))? {
                return Ok(ended);
            }
        }
    }

    /// Waits until the process has ended, at most `timeout`; whether it has.
    pub fn wait_ended(&self, timeout: std::time::Duration) -> Result<bool> {
        let deadline = std::time::Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let left_spec = rustix::event::Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            if self.poll(Some(&left_spec))? == Some(true) {
                return Ok(true);
            }
            if left.is_zero() {
                return Ok(false);
            }
        }
    }

    /// Whether it has ended; `None` if a signal came before there was an answer.
    fn poll(&self, timeout: Option<&rustix::event::Timespec>) -> Result<Option<bool>> {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, timeout) {
            Ok(n) => Ok(Some(n > 0)),
            Err(rustix::io::Errno::INTR) => Ok(None),
            Err(e) => Err(OsError::new("ask whether a process has ended", e)),
        }
    }

    /// The id of the process, from the descriptor itself; `None` once it is reaped or when it is of another pid namespace.
    pub fn pid(&self) -> Result<Option<u32>> {
        let mut raw = RawInfo { mask: INFO_PID, ..RawInfo::default() };
        match self.ask(&mut raw) {
            Ok(()) => Ok(Some(raw.tgid).filter(|&pid| pid > 0)),
            Err(Errno::SRCH) => Ok(None),
            Err(_) => self.pid_by_proc(),
        }
    }

    /// The same before Linux 6.13, for twenty times as much.
    fn pid_by_proc(&self) -> Result<Option<u32>> {
        let path = format!("/proc/self/fdinfo/{}", self.fd.as_raw_fd());
        let text = std::fs::read_to_string(&path).map_err(|e| OsError::at("read", &path, e))?;
        let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")).map(str::trim);
        Ok(pid.and_then(|p| p.parse::<u32>().ok()).filter(|&p| p > 0))
    }

    /// `PIDFD_GET_INFO`. The return code is looked at before the mask: on failure the kernel leaves the mask as
    /// it was given, and "exit status known" would be read out of our own question.
    pub fn info(&self) -> Result<Info> {
        let mut raw = RawInfo { mask: INFO_EXIT, ..RawInfo::default() };
        match self.ask(&mut raw) {
            Ok(()) if raw.mask & INFO_EXIT != 0 => Ok(Info::Reaped { status: raw.exit_code }),
            Ok(()) => Ok(Info::NotReaped),
            Err(Errno::SRCH) => Ok(Info::Gone),
            Err(Errno::NOTTY | Errno::INVAL | Errno::NOSYS) => Ok(Info::Unsupported),
            Err(errno) => Err(OsError::new("ask the kernel about a process", errno)),
        }
    }

    fn ask(&self, raw: &mut RawInfo) -> std::result::Result<(), Errno> {
        // SAFETY: `raw` is 64 writable bytes, the size encoded in the request.
        let rc = unsafe { libc::ioctl(self.fd.as_raw_fd(), PIDFD_GET_INFO as _, std::ptr::from_mut(raw)) };
        if rc == 0 { Ok(()) } else { Err(Errno::last()) }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
