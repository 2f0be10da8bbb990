//! What happens in the child between clone and exec.
//!
//! Nothing here allocates, locks, unwinds or calls libc; everything was prepared. The order matters and each step says why it stands
//! where it stands.

use std::ffi::c_void;

use super::error::SpawnStep;
use super::plan::SpawnPlan;
use super::{start_time, sys};

/// Where a descriptor is and where the child wants it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement {
    pub(super) source: i32,
    pub(super) target: i32,
}

/// How far the child got; read by the parent when the child has left our memory.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    /// Not even near its exec.
    Begun,
    /// The next thing was execve.
    Executing,
    /// This failed; `index` counts the candidates of an exec.
    Failed { step: SpawnStep, index: usize, errno: i32 },
}

/// Everything the child needs.
pub(super) struct Work<'a> {
    pub(super) plan: &'a SpawnPlan,
    /// Pointers into the plan's strings, null-terminated.
    pub(super) argv: Vec<*const libc::c_char>,
    pub(super) environment: Vec<*const libc::c_char>,
    /// Strings of the environment, to be completed by the child: its own pid.
    pub(super) own_pids: [Option<Box<OwnPid>>; 2],
    /// Sorted by target; the child may overwrite the sources.
    pub(super) placements: Vec<Placement>,
    /// `cgroup.procs`, open for writing, or -1.
    pub(super) cgroup_procs: i32,
    /// Highest descriptor that is needed: what lies above is not copied into the child's own table.
    pub(super) highest_needed: i32,
    /// The table is shared with the parent until it is unshared.
    pub(super) shared_files: bool,
    /// Highest descriptor that may be open, for closing one by one where close_range is missing.
    pub(super) highest_open: i32,
    /// Signals that this program may ignore, a bit each from 1.
    pub(super) ignored: u64,
    /// Where the child writes its own pid, when the kernel did not.
    pub(super) trace: Option<*mut u64>,
    /// The child's first moment, by [`start_time::boottime`].
    pub(super) began: u64,
    pub(super) outcome: Outcome,
}

/// A variable whose value the child writes: `NAME=`, and room for any pid and the NUL behind it.
pub(super) struct OwnPid {
    text: [u8; LONGEST + 11],
    /// Length of `NAME=`.
    begin: usize,
}

/// Bytes of the longest name that is asked for, `WATCHDOG_PID=`.
const LONGEST: usize = 13;

impl OwnPid {
    /// To be completed by the child. `begin` is `NAME=`; what is beyond [`LONGEST`] of it is cut off.
    pub(super) fn new(begin: &[u8]) -> Box<Self> {
        let mut text = [0; LONGEST + 11];
        let length = begin.len().min(LONGEST);
        text[..length].copy_from_slice(&begin[..length]);
        Box::new(Self { text, begin: length })
    }

    /// The string, as the environment has it.
    pub(super) fn pointer(&mut self) -> *const libc::c_char {
        self.text.as_mut_ptr().cast()
    }
}

/// Decimal digits without zeros in front, which some readers take for octal.
fn name_own_pid(work: &mut Work<'_>) {
    let mut pid = call(libc::SYS_getpid, [0; 5]).unsigned_abs();
    let (mut digits, mut count) = ([0u8; 10], 0);
    while count == 0 || (pid > 0 && count < digits.len()) {
        digits[count] = b'0' + (pid % 10) as u8;
        pid /= 10;
        count += 1;
    }
    for one in work.own_pids.iter_mut().flatten() {
        for (at, digit) in digits[..count].iter().rev().enumerate() {
            let place = one.text.as_mut_ptr().wrapping_add(one.begin + at);
            // SAFETY: within the text, by the lengths above; volatile because the reader is the kernel's execve.
            unsafe { place.write_volatile(*digit) };
        }
    }
}

type Step = Result<(), (SpawnStep, usize, i32)>;

/// The child's main.
///
/// # Safety
/// `argument` must point to a [`Work`] that nobody else touches until this process has exec'ed or ended.
pub(super) unsafe extern "C" fn run(argument: *mut c_void) -> ! {
    // SAFETY: the caller's promise.
    let work = unsafe { &mut *argument.cast::<Work<'_>>() };
    let began = start_time::boottime();
    // SAFETY: a plain store through our exclusive reference; volatile because the reader is another process's thread.
    unsafe { std::ptr::write_volatile(&raw mut work.began, began) };
    if let Some(trace) = work.trace {
        let pid = call(libc::SYS_getpid, [0; 5]).unsigned_abs();
        // SAFETY: a number that outlives the spawn, in memory that we share; volatile because its reader is another process.
        unsafe { trace.write_volatile(pid as u64) };
    }
    let result = set_up(work).and_then(|()| execute(work));
    if let Err((step, index, errno)) = result {
        // SAFETY: a plain store through our exclusive reference; volatile because the reader is another process's thread.
        unsafe { std::ptr::write_volatile(&raw mut work.outcome, Outcome::Failed { step, index, errno }) };
    }
    sys::exit(127)
}

fn set_up(work: &mut Work<'_>) -> Step {
    // First: until this is done, closing something here would close it in the parent.
    unshare_files(work)?;
    // Before anything that could be slow or fork, and while we still have the right.
    join_cgroup(work)?;
    reset_signals(work.ignored)?;
    let plan = work.plan;
    if plan.session {
        check(SpawnStep::Session, call(libc::SYS_setsid, [0; 5]))?;
    }
    if let Some(mask) = plan.umask {
        call(libc::SYS_umask, [mask as usize, 0, 0, 0, 0]);
    }
    // The next three may need rights that the change of user takes away.
    set_nice(plan.nice)?;
    set_oom_score(plan)?;
    place_files(work)?;
    set_limits(plan)?;
    become_user(plan)?;
    // As the user: the directory must be one the service may enter.
    if let Some(dir) = &plan.working_dir {
        check(
            SpawnStep::WorkingDirectory,
            call(libc::SYS_chdir, [dir.as_ptr().expose_provenance(), 0, 0, 0, 0]),
        )?;
    }
    Ok(())
}

fn unshare_files(work: &Work<'_>) -> Step {
    if !work.shared_files {
        return Ok(());
    }
    let first = number(work.highest_needed + 1);
    check(
        SpawnStep::UnshareDescriptors,
        call(libc::SYS_close_range, [first, u32::MAX as usize, libc::CLOSE_RANGE_UNSHARE as usize, 0, 0]),
    )
}

fn join_cgroup(work: &Work<'_>) -> Step {
    if work.cgroup_procs < 0 {
        return Ok(());
    }
    // 0 stands for whoever writes it.
    let text = b"0";
    check(
        SpawnStep::JoinCgroup,
        call(libc::SYS_write, [number(work.cgroup_procs), text.as_ptr().expose_provenance(), 1, 0, 0]),
    )
}

/// Only what is ignored: exec gives the default back where there is a handler, and leaves ignored what is ignored, as
/// CLONE_CLEAR_SIGHAND does. The mask stays full until the exec.
fn reset_signals(ignored: u64) -> Step {
    // Handler SIG_DFL, no flags, no restorer, empty mask: 32 zero bytes on every supported architecture.
    let action = [0u64; 4];
    for signal in (1..=crate::signals::HIGHEST).filter(|signal| ignored >> (signal - 1) & 1 == 1) {
        let args = [number(signal), action.as_ptr().expose_provenance(), 0, 8, 0];
        check(SpawnStep::Signals, call(libc::SYS_rt_sigaction, args))?;
    }
    Ok(())
}

fn set_nice(nice: Option<i32>) -> Step {
    let Some(nice) = nice else { return Ok(()) };
    // The bare system call answers 20 - nice, so that no value is negative.
    let now = 20 - call(libc::SYS_getpriority, [libc::PRIO_PROCESS as usize, 0, 0, 0, 0]);
    if now == nice as isize {
        return Ok(());
    }
    check(
        SpawnStep::Nice,
        call(libc::SYS_setpriority, [libc::PRIO_PROCESS as usize, 0, nice as isize as usize, 0, 0]),
    )
}

/// The kernel keeps this from our own memory's owner: it does not touch those who share a vfork child's memory.
fn set_oom_score(plan: &SpawnPlan) -> Step {
    let Some(text) = &plan.oom_score_adj else { return Ok(()) };
    let path = c"/proc/self/oom_score_adj";
    let flags = (libc::O_WRONLY | libc::O_CLOEXEC) as usize;
    let fd = call(
        libc::SYS_openat,
        [libc::AT_FDCWD as isize as usize, path.as_ptr().expose_provenance(), flags, 0, 0],
    );
    check(SpawnStep::OomScore, fd)?;
    let written = call(libc::SYS_write, [fd as usize, text.as_ptr().expose_provenance(), text.len(), 0, 0]);
    call(libc::SYS_close, [fd as usize, 0, 0, 0, 0]);
    check(SpawnStep::OomScore, written)
}

/// Before the limits: a lower RLIMIT_NOFILE would refuse the numbers used in between.
fn place_files(work: &mut Work<'_>) -> Step {
    let Some(last) = work.placements.last().copied() else { return Ok(()) };
    // A source among the targets would be overwritten before its turn: move those out of the way first.
    for placement in &mut work.placements {
        if placement.source <= last.target {
            let moved = call(
                libc::SYS_fcntl,
                [number(placement.source), libc::F_DUPFD_CLOEXEC as usize, number(last.target + 1), 0, 0],
            );
            check(SpawnStep::Stdio, moved)?;
            placement.source = i32::try_from(moved).unwrap_or(-1);
        }
    }
    let mut next = 0;
    for placement in &work.placements {
        while next < placement.target {
            call(libc::SYS_close, [number(next), 0, 0, 0, 0]);
            next += 1;
        }
        check(
            SpawnStep::Stdio,
            call(libc::SYS_dup3, [number(placement.source), number(placement.target), 0, 0, 0]),
        )?;
        next = placement.target + 1;
    }
    close_from(next, work)
}

/// Everything is close-on-exec by this program's own rule; what was inherited from outside may not be.
fn close_from(first: i32, work: &Work<'_>) -> Step {
    if work.shared_files {
        return check(
            SpawnStep::Stdio,
            call(libc::SYS_close_range, [number(first), u32::MAX as usize, 0, 0, 0]),
        );
    }
    let moved = work.placements.iter().map(|p| p.source).max().unwrap_or(0);
    for fd in first..=work.highest_open.max(moved) {
        call(libc::SYS_close, [number(fd), 0, 0, 0, 0]);
    }
    Ok(())
}

fn set_limits(plan: &SpawnPlan) -> Step {
    for (resource, limit) in &plan.limits {
        let args = [0, resource.number() as usize, std::ptr::from_ref(limit).expose_provenance(), 0, 0];
        check(SpawnStep::Limit(*resource), call(libc::SYS_prlimit64, args))?;
    }
    Ok(())
}

/// Groups first: afterwards there is no right to set them.
fn become_user(plan: &SpawnPlan) -> Step {
    let Some(who) = &plan.identity else { return Ok(()) };
    let (uid, gid) = (who.uid as usize, who.gid as usize);
    check(
        SpawnStep::Groups,
        call(libc::SYS_setgroups, [who.groups.len(), who.groups.as_ptr().expose_provenance(), 0, 0, 0]),
    )?;
    check(SpawnStep::Group, call(libc::SYS_setresgid, [gid, gid, gid, 0, 0]))?;
    check(SpawnStep::User, call(libc::SYS_setresuid, [uid, uid, uid, 0, 0]))
}

/// Tries the candidates as execvp(3) does, but never hands a file of unknown format to a shell. Returns only with an error.
fn execute(work: &mut Work<'_>) -> Step {
    // SAFETY: a plain store through our exclusive reference, volatile as in `run`.
    unsafe { std::ptr::write_volatile(&raw mut work.outcome, Outcome::Executing) };
    name_own_pid(work);
    let empty = 0u64;
    let args = [libc::SIG_SETMASK as usize, (&raw const empty).expose_provenance(), 0, 8, 0];
    check(SpawnStep::Signals, call(libc::SYS_rt_sigprocmask, args))?;
    let (argv, environment) =
        (work.argv.as_ptr().expose_provenance(), work.environment.as_ptr().expose_provenance());
    let mut worst = (0, libc::ENOENT);
    for (index, candidate) in work.plan.candidates.iter().enumerate() {
        let result =
            call(libc::SYS_execve, [candidate.as_ptr().expose_provenance(), argv, environment, 0, 0]);
        match errno(result) {
            // Found, but not for us: another directory may have one that is.
            libc::EACCES => worst = (index, libc::EACCES),
            libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT
                if work.plan.candidates.len() > 1 => {}
            other => return Err((SpawnStep::Execute, index, other)),
        }
    }
    Err((SpawnStep::Execute, worst.0, worst.1))
}

fn call(nr: libc::c_long, args: [usize; 5]) -> isize {
    // SAFETY: every caller here passes pointers into the plan or its own frame, valid for the call.
    unsafe { sys::call(nr, args) }
}

fn number(fd: i32) -> usize {
    fd as isize as usize
}

fn errno(result: isize) -> i32 {
    (-result) as i32
}

fn check(step: SpawnStep, result: isize) -> Step {
    if result < 0 { Err((step, 0, errno(result))) } else { Ok(()) }
}
