//! Making the new process: stack, flags, and the signals held back around it.

use std::ffi::c_void;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use super::sys::{self, Entry};
use crate::error::{Errno, OsError, Result};
use crate::exit::{ExitStatus, Reaped};
use crate::pidfd::{Info, PidFd};

/// The child's stack: some calls deep, no recursion; a page below it is no memory at all.
const STACK: usize = 64 * 1024;
/// No supported machine has larger pages.
const GUARD: usize = 64 * 1024;

/// clone3(2). Own constants: the libc crate's are of a type that cannot hold them.
const CLONE_VM: u64 = 0x100;
const CLONE_FILES: u64 = 0x400;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_PARENT_SETTID: u64 = 0x10_0000;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The kernel's struct up to and with `cgroup` (Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}
const _: () = assert!(size_of::<CloneArgs>() == 88);

/// How the child is to come about.
#[derive(Debug, Clone, Copy)]
pub(super) struct CloneWay<'a> {
    /// clone3(2) instead of clone(2).
    pub(super) clone3: bool,
    /// Share the descriptor table until the child unshares it.
    pub(super) share_files: bool,
    /// The cgroup to be born in; needs `clone3`.
    pub(super) cgroup: Option<BorrowedFd<'a>>,
    /// Where the kernel writes the child's pid before the child runs; needs `clone3`.
    pub(super) trace: Option<&'a AtomicU64>,
}

/// Memory for the child to run in; reused for every spawn of its owner, who waits until the child has left it.
#[derive(Debug)]
pub(super) struct Stack {
    base: NonNull<c_void>,
}

// SAFETY: a mapping belongs to the process, not to the thread that made it.
unsafe impl Send for Stack {}

impl Stack {
    pub(super) fn new() -> Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice disturbs nothing.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), GUARD + STACK, libc::PROT_NONE, flags, -1, 0) };
        let base = NonNull::new(base).filter(|b| b.as_ptr() != libc::MAP_FAILED);
        let base = base.ok_or_else(|| OsError::new("reserve a stack for children", Errno::last()))?;
        let stack = Self { base };
        // SAFETY: the upper part of the mapping just made, nobody else's.
        let rc = unsafe { libc::mprotect(stack.low(), STACK, libc::PROT_READ | libc::PROT_WRITE) };
        if rc == 0 { Ok(stack) } else { Err(OsError::new("reserve a stack for children", Errno::last())) }
    }

    fn low(&self) -> *mut c_void {
        self.base.as_ptr().wrapping_byte_add(GUARD)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping; a child that used it has exec'ed or ended, or `clone` had not returned.
        unsafe { libc::munmap(self.base.as_ptr(), GUARD + STACK) };
    }
}

/// Runs `entry(argument)` in a new process on `stack` and returns once it has exec'ed or ended: its pid and pidfd. All signals are blocked in
/// the child when it begins.
///
/// # Safety
/// `entry` must be sound in memory and thread-local storage borrowed from this suspended thread, and must exec or exit.
pub(super) unsafe fn clone(
    stack: &mut Stack,
    way: CloneWay<'_>,
    entry: Entry,
    argument: *mut c_void,
) -> std::result::Result<(u32, PidFd), Errno> {
    let mut pidfd: i32 = -1;
    let flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | if way.share_files { CLONE_FILES } else { 0 };
    let pidfd_pointer = (&raw mut pidfd).expose_provenance();
    let mask = block_everything();
    let result = if way.clone3 {
        let traced = if way.trace.is_some() { CLONE_PARENT_SETTID } else { 0 };
        let args = CloneArgs {
            flags: flags | traced | if way.cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 },
            pidfd: pidfd_pointer as u64,
            // The lower half of the number: all machines that relume runs on are little-endian.
            parent_tid: way.trace.map_or(0, |trace| trace.as_ptr().expose_provenance() as u64),
            exit_signal: libc::SIGCHLD as u64,
            stack: stack.low().expose_provenance() as u64,
            stack_size: STACK as u64,
            // A descriptor number is never negative.
            cgroup: way.cgroup.map_or(0, |fd| u64::try_from(fd.as_raw_fd()).unwrap_or(u64::MAX)),
            ..CloneArgs::default()
        };
        let args_pointer = (&raw const args).expose_provenance();
        // SAFETY: args and the stack are valid and exclusively ours; entry is the caller's promise.
        unsafe {
            sys::clone_onto(
                libc::SYS_clone3,
                [args_pointer, size_of::<CloneArgs>(), 0, 0, 0],
                entry,
                argument,
            )
        }
    } else {
        let top = stack.low().expose_provenance() + STACK;
        let low_flags = usize::try_from(flags).unwrap_or(0) | libc::SIGCHLD as usize;
        // SAFETY: as above; clone(2) writes the pidfd where it would write the parent's thread id.
        unsafe { sys::clone_onto(libc::SYS_clone, [low_flags, top, pidfd_pointer, 0, 0], entry, argument) }
    };
    set_mask(mask);
    let pid =
        u32::try_from(result).map_err(|_| Errno::from_raw(i32::try_from(-result).unwrap_or(libc::EIO)))?;
    // SAFETY: CLONE_PIDFD made this descriptor for us alone.
    Ok((pid, PidFd::from_owned(unsafe { OwnedFd::from_raw_fd(pidfd) })))
}

/// Blocks all signals of this thread, those too that libc keeps for itself (and would not block when asked
/// through its own functions): none of their handlers may run in the child. Returns the mask before.
fn block_everything() -> u64 {
    let (all, mut before) = (u64::MAX, 0u64);
    let args = [
        libc::SIG_SETMASK as usize,
        (&raw const all).expose_provenance(),
        (&raw mut before).expose_provenance(),
        8,
        0,
    ];
    // SAFETY: two masks of the kernel's 8 bytes; cannot fail with these arguments.
    unsafe { sys::call(libc::SYS_rt_sigprocmask, args) };
    before
}

fn set_mask(mask: u64) {
    // SAFETY: one mask of 8 bytes; cannot fail with these arguments.
    unsafe {
        sys::call(
            libc::SYS_rt_sigprocmask,
            [libc::SIG_SETMASK as usize, (&raw const mask).expose_provenance(), 0, 8, 0],
        )
    };
}

/// Whether clone3(2) is there and no filter refuses it.
pub(crate) fn has_clone3() -> bool {
    // SAFETY: no arguments at all: the kernel answers EINVAL, a filter or an old kernel something else.
    let result = unsafe { sys::call(libc::SYS_clone3, [0, 0, 0, 0, 0]) };
    result == -(libc::EINVAL as isize)
}

/// Whether close_range(2) is there (5.9, with CLOSE_RANGE_UNSHARE from the start).
pub(crate) fn has_close_range() -> bool {
    // SAFETY: an empty range is refused with EINVAL before anything is closed.
    let result = unsafe { sys::call(libc::SYS_close_range, [1, 0, 0, 0, 0]) };
    result == -(libc::EINVAL as isize)
}

unsafe extern "C" fn leave(_: *mut c_void) -> ! {
    sys::exit(0)
}

/// Tries once whether the kernel still tells how a process ended after it was reaped (`PIDFD_GET_INFO` of Linux 6.15).
pub(crate) fn status_outlives_reap() -> Result<bool> {
    let mut stack = Stack::new()?;
    let way = CloneWay { clone3: false, share_files: false, cgroup: None, trace: None };
    // SAFETY: the child exits at once.
    let cloned = unsafe { clone(&mut stack, way, leave, std::ptr::null_mut()) };
    let (_, pidfd) = cloned.map_err(|e| OsError::new("create a process", e))?;
    reap_now(&pidfd)?;
    Ok(matches!(pidfd.info()?, Info::Reaped { .. }))
}

/// Tries once whether a child born into the cgroup behind `dir` lives: kernels up to 6.18 compare its kill counter with
/// the wrong cgroup's and kill it at birth.
pub(crate) fn into_cgroup_survives(dir: BorrowedFd<'_>) -> Result<bool> {
    if !has_clone3() {
        return Ok(false);
    }
    let mut stack = Stack::new()?;
    let way = CloneWay { clone3: true, share_files: false, cgroup: Some(dir), trace: None };
    // SAFETY: the child exits at once.
    let pidfd = match unsafe { clone(&mut stack, way, leave, std::ptr::null_mut()) } {
        Ok((_, pidfd)) => pidfd,
        Err(_) => return Ok(false),
    };
    Ok(matches!(reap_now(&pidfd)?, Reaped::Exited { status: ExitStatus::Code(0), .. }))
}

/// Tries once whether a child can write itself into the cgroup at `path`; the error is the child's.
pub(crate) fn move_into_cgroup_works(path: &Path) -> Result<()> {
    unsafe extern "C" fn enter(procs: *mut c_void) -> ! {
        // SAFETY: the parent's descriptor, open until this process has ended.
        let fd = unsafe { *procs.cast::<i32>() };
        let text = b"0";
        // SAFETY: one byte of readable memory.
        let result =
            unsafe { sys::call(libc::SYS_write, [fd as usize, text.as_ptr().expose_provenance(), 1, 0, 0]) };
        sys::exit(if result == 1 { 0 } else { (-result) as usize })
    }
    let path = path.join("cgroup.procs");
    let procs = File::options().write(true).open(&path).map_err(|e| OsError::at("open", &path, e))?;
    let mut fd = procs.as_raw_fd();
    let mut stack = Stack::new()?;
    let way = CloneWay { clone3: false, share_files: false, cgroup: None, trace: None };
    // SAFETY: the child makes one system call and exits; `fd` outlives it.
    let cloned = unsafe { clone(&mut stack, way, enter, (&raw mut fd).cast()) };
    let (_, pidfd) = cloned.map_err(|e| OsError::new("create a process", e))?;
    match reap_now(&pidfd)? {
        Reaped::Exited { status: ExitStatus::Code(0), .. } => Ok(()),
        Reaped::Exited { status: ExitStatus::Code(errno), .. } => {
            Err(OsError::at("move a process by", path, Errno::from_raw(errno)))
        }
        Reaped::Exited { .. } | Reaped::Alive | Reaped::NotOurs => {
            Err(OsError::at("move a process by", path, Errno::IO))
        }
    }
}

/// Waits for a child that has ended or is about to, and removes it.
pub(super) fn reap_now(pidfd: &PidFd) -> Result<Reaped> {
    loop {
        match crate::exit::reap(pidfd)? {
            Reaped::Alive => {
                // A second is a safety net, not a poll interval: the end wakes us.
                pidfd.wait_ended(std::time::Duration::from_secs(1))?;
            }
            done @ (Reaped::Exited { .. } | Reaped::NotOurs) => return Ok(done),
        }
    }
}
