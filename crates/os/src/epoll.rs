//! Waiting: epoll, and the descriptors that exist to be waited for (eventfd, timerfd, inotify).
//!
//! Level-triggered unless asked otherwise. A pidfd stays ready for ever once its process is dead, and a
//! descriptor of which another process has a copy stays in the set after `close`: take both out with
//! [`Epoll::delete`] first.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::epoll as sys;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

use crate::error::{Errno, OsError, Result};

/// Events fetched by one `epoll_wait`; the rest stays ready and comes with the next.
const BATCH: usize = 256;

/// What to be told about one descriptor. Hang-up and error are always told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interest {
    /// Something can be read, a process has ended, a connection waits.
    pub readable: bool,
    /// Something can be written.
    pub writable: bool,
    /// An exceptional condition: a change of a `cgroup.events` file, a PSI trigger.
    pub priority: bool,
    /// Tell once, then stay silent until [`Epoll::modify`].
    pub oneshot: bool,
    /// Tell only changes (EPOLLET).
    pub edge: bool,
}

impl Interest {
    /// Readable, level-triggered.
    pub const READ: Self =
        Self { readable: true, writable: false, priority: false, oneshot: false, edge: false };
    /// Writable, level-triggered.
    pub const WRITE: Self = Self { readable: false, writable: true, ..Self::READ };
    /// Exceptional conditions.
    pub const PRIORITY: Self = Self { readable: false, priority: true, ..Self::READ };
    /// Readable, once.
    pub const READ_ONCE: Self = Self { oneshot: true, ..Self::READ };
    /// In the set, but silent (hang-up and error apart, which oneshot mutes too once they were told).
    pub const NONE: Self = Self { readable: false, ..Self::READ };

    fn flags(self) -> sys::EventFlags {
        let mut flags = sys::EventFlags::empty();
        flags.set(sys::EventFlags::IN, self.readable);
        flags.set(sys::EventFlags::OUT, self.writable);
        flags.set(sys::EventFlags::PRI, self.priority);
        flags.set(sys::EventFlags::ONESHOT, self.oneshot);
        flags.set(sys::EventFlags::ET, self.edge);
        flags
    }
}

/// What one descriptor has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The number given when it was added.
    pub token: u64,
    /// It can be read without blocking.
    pub readable: bool,
    /// It can be written without blocking.
    pub writable: bool,
    /// An exceptional condition is there.
    pub priority: bool,
    /// The other side is gone.
    pub hangup: bool,
    /// An error is pending; for `cgroup.events` this accompanies `priority`.
    pub error: bool,
}

/// A set of descriptors to wait for (epoll(7)).
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    /// An empty set.
    pub fn new() -> Result<Self> {
        let fd =
            sys::create(sys::CreateFlags::CLOEXEC).map_err(|e| OsError::new("create an epoll set", e))?;
        Ok(Self { fd })
    }

    /// Adds `fd`; its events carry `token`.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> Result<()> {
        crate::tally::act();
        sys::add(&self.fd, fd, sys::EventData::new_u64(token), interest.flags())
            .map_err(|e| OsError::new("add a descriptor to the epoll set", e))
    }

    /// Changes what is wanted of `fd`; also re-arms a oneshot.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> Result<()> {
        sys::modify(&self.fd, fd, sys::EventData::new_u64(token), interest.flags())
            .map_err(|e| OsError::new("change a descriptor of the epoll set", e))
    }

    /// Takes `fd` out.
    pub fn delete(&self, fd: impl AsFd) -> Result<()> {
        crate::tally::act();
        sys::delete(&self.fd, fd).map_err(|e| OsError::new("take a descriptor out of the epoll set", e))
    }

    /// Replaces the content of `ready` by what is ready, waiting up to `timeout` (`None`: for ever) for the first.
    /// Interruption by a signal returns early and empty-handed, which every caller must expect anyway.
    pub fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> Result<()> {
        ready.clear();
        let limit = timeout.map(to_timespec);
        let mut buffer = [MaybeUninit::<sys::Event>::uninit(); BATCH];
        match sys::wait(&self.fd, &mut buffer, limit.as_ref()) {
            Ok((events, _rest)) => ready.extend(events.iter().map(to_ready)),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(OsError::new("wait for events", e)),
        }
        Ok(())
    }

    /// The same for waits of less than a few milliseconds, of which `epoll_wait` makes whole ones: two system calls
    /// instead of one. (`epoll_pwait2` needs Linux 5.11.)
    pub fn wait_finely(&self, ready: &mut Vec<Ready>, timeout: Duration) -> Result<()> {
        let mut set = [PollFd::new(&self.fd, PollFlags::IN)];
        match poll(&mut set, Some(&to_timespec(timeout))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => self.wait(ready, Some(Duration::ZERO)),
            Err(e) => Err(OsError::new("wait for events", e)),
        }
    }
}

/// This thread's waits end when they are due, not up to 50 µs later (PR_SET_TIMERSLACK). Best effort.
pub fn wake_on_time() {
    let _later = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn to_ready(event: &sys::Event) -> Ready {
    // The kernel's struct is packed on x86-64: copy before use.
    let (flags, data) = (event.flags, event.data);
    Ready {
        token: data.u64(),
        readable: flags.contains(sys::EventFlags::IN),
        writable: flags.contains(sys::EventFlags::OUT),
        priority: flags.contains(sys::EventFlags::PRI),
        hangup: flags.contains(sys::EventFlags::HUP),
        error: flags.contains(sys::EventFlags::ERR),
    }
}

fn to_timespec(d: Duration) -> Timespec {
    // A day is for ever to an event loop, and keeps the millisecond conversion of old kernels from overflowing.
    let d = d.min(Duration::from_secs(86_400));
    Timespec { tv_sec: i64::try_from(d.as_secs()).unwrap_or(86_400), tv_nsec: i64::from(d.subsec_nanos()) }
}

/// Wakes another thread's epoll (eventfd(2), non-blocking).
#[derive(Debug)]
pub struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    /// Not signalled.
    pub fn new() -> Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| OsError::new("create an eventfd", e))?;
        Ok(Self { fd })
    }

    /// Makes it readable. A counter that is full is signalled already.
    pub fn signal(&self) -> Result<()> {
        match rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, &1u64.to_ne_bytes())) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(e) => Err(OsError::new("signal an eventfd", e)),
        }
    }

    /// Takes all signals back; their number, 0 if there was none.
    pub fn drain(&self) -> Result<u64> {
        read_counter(&self.fd, "read an eventfd")
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// One timer on `CLOCK_MONOTONIC` (timerfd_create(2)): 24 µs late in the median where an epoll timeout is 66 µs.
#[derive(Debug)]
pub struct Timer {
    fd: OwnedFd,
}

impl Timer {
    /// Disarmed.
    pub fn new() -> Result<Self> {
        let fd = rustix::time::timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )
        .map_err(|e| OsError::new("create a timer", e))?;
        Ok(Self { fd })
    }

    /// Fires at this time of [`crate::clock::monotonic_ns`], once; at once if that is past.
    pub fn set(&self, at_ns: u64) -> Result<()> {
        // Zero means "disarm" to the kernel.
        let at_ns = at_ns.max(1);
        self.arm(Timespec {
            tv_sec: i64::try_from(at_ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(at_ns % 1_000_000_000).unwrap_or(0),
        })
    }

    /// Fires no more.
    pub fn disarm(&self) -> Result<()> {
        self.arm(Timespec { tv_sec: 0, tv_nsec: 0 })
    }

    /// Takes the firing back; true if it had fired.
    pub fn drain(&self) -> Result<bool> {
        Ok(read_counter(&self.fd, "read a timer")? > 0)
    }

    fn arm(&self, at: Timespec) -> Result<()> {
        let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
        rustix::time::timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &spec)
            .map_err(|e| OsError::new("set a timer", e))?;
        Ok(())
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn read_counter(fd: &OwnedFd, what: &'static str) -> Result<u64> {
    let mut bytes = [0u8; 8];
    match rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut bytes)) {
        Ok(_) => Ok(u64::from_ne_bytes(bytes)),
        Err(rustix::io::Errno::AGAIN) => Ok(0),
        Err(e) => Err(OsError::new(what, e)),
    }
}

/// What to be told about a watched path. Combine with `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch(inotify::WatchFlags);

impl Watch {
    /// Content was changed; for `cgroup.events`: its values changed.
    pub const MODIFIED: Self = Self(inotify::WatchFlags::MODIFY);
    /// Closed after it was open for writing.
    pub const CLOSED_AFTER_WRITE: Self = Self(inotify::WatchFlags::CLOSE_WRITE);
    /// An entry appeared in the watched directory.
    pub const CREATED: Self = Self(inotify::WatchFlags::CREATE);
    /// An entry was removed from the watched directory.
    pub const REMOVED: Self = Self(inotify::WatchFlags::DELETE);
    /// An entry was moved into or out of the watched directory.
    pub const MOVED: Self = Self(inotify::WatchFlags::MOVE);
    /// The watched thing itself was removed or renamed.
    pub const ITSELF_GONE: Self =
        Self(inotify::WatchFlags::DELETE_SELF.union(inotify::WatchFlags::MOVE_SELF));
    /// Owner, mode or link count changed.
    pub const ATTRIBUTES: Self = Self(inotify::WatchFlags::ATTRIB);
}

impl std::ops::BitOr for Watch {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Names one watch of one [`Inotify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(i32);

impl WatchId {
    /// Its number, for use as a key.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }
}

/// One change of a watched path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'a> {
    /// Which watch; `None` when the kernel's queue overflowed and anything may have changed.
    pub watch: Option<WatchId>,
    /// The entry of the watched directory, if it is one.
    pub name: Option<&'a OsStr>,
    /// The watch is gone (its path was removed or unmounted); its id may be given out again.
    pub ended: bool,
}

/// Watches paths for changes (inotify(7)).
#[derive(Debug)]
pub struct Inotify {
    fd: OwnedFd,
}

impl Inotify {
    /// Watches nothing yet.
    pub fn new() -> Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .map_err(|e| OsError::new("create an inotify set", e))?;
        Ok(Self { fd })
    }

    /// Watches `path`; a second call for the same file replaces the first and gives the same id.
    pub fn add_watch(&self, path: &Path, watch: Watch) -> Result<WatchId> {
        inotify::add_watch(&self.fd, path, watch.0).map(WatchId).map_err(|e| OsError::at("watch", path, e))
    }

    /// Ends a watch. One that ended by itself is no error.
    pub fn remove_watch(&self, id: WatchId) -> Result<()> {
        match inotify::remove_watch(&self.fd, id.0) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
            Err(e) => Err(OsError::new("end a watch", e)),
        }
    }

    /// Hands every pending change to `each`, without an allocation, until there is none.
    pub fn drain(&self, mut each: impl FnMut(Change<'_>)) -> Result<()> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let flags = event.events();
                    let lost = flags.contains(inotify::ReadFlags::QUEUE_OVERFLOW);
                    each(Change {
                        watch: (!lost).then(|| WatchId(event.wd())),
                        name: event.file_name().map(|n| OsStr::from_bytes(n.to_bytes())),
                        ended: flags.contains(inotify::ReadFlags::IGNORED),
                    });
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(OsError::new("read changes of watched paths", Errno::from(e))),
            }
        }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
