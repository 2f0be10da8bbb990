//! A process that crashes begins anew: the handler of a fatal signal executes the program again, with its id, its
//! children and some descriptors kept.
//!
//! # Theory of operation
//!
//! [`install`] puts everything together beforehand and leaves one pointer to it where the handler finds it. The
//! handler runs on an alternate stack (a stack that has overflowed is one of the reasons to be there), makes system
//! calls and nothing else, and writes into one variable of the new environment what has happened and when.
//! `SA_NODEFER` keeps the signal from being blocked in the successor, whose mask is the one of the thread that
//! crashed.
//!
//! A program that crashes again and again would do so for ever: the third crash of its own within [`SPAN`] is the
//! end, by that signal. What somebody else's kill(2) has caused is no crash and is not counted.
//!
//! # What it must never do
//!
//! Allocate, take a lock, or unwind in the handler; keep a signal from ending the process when the exec fails.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

use crate::error::{Errno, OsError, Result};
use crate::exec::Prepared;

/// The signals that a bug raises.
pub const SIGNALS: [i32; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// Three crashes within this time, in nanoseconds, are the end.
pub const SPAN: u64 = 10_000_000_000;

/// Room for a handler on its own stack: the registers of a large processor and a few calls.
const STACK: usize = 64 * 1024;

/// Length of [`Crash`] as text: three digits, then three times a blank and twenty digits.
const STAMP: usize = 3 + 3 * 21;

/// What the handler finds; none: it lets the signal have its way. The only state outside of a value: a handler has
/// no argument to get it by.
static READIED: AtomicPtr<Readied> = AtomicPtr::new(std::ptr::null_mut());

struct Readied {
    prepared: Prepared,
    stamp: *mut u8,
    earlier: [u64; 2],
    /// The thread that is at it.
    crashing: AtomicI32,
}

/// What is to be executed after a crash.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The program.
    pub program: &'a Path,
    /// Its words.
    pub argv: &'a [OsString],
    /// Its variables.
    pub environment: &'a [(OsString, OsString)],
    /// Descriptors that stay open at their numbers.
    pub keep: &'a [RawFd],
    /// The variable that says what has happened, to be read with [`Crash::parse`].
    pub variable: &'a str,
    /// What it said to this process.
    pub before: Option<Crash>,
}

/// What an earlier image of this process has left of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// The signal; 0: a panic.
    pub signal: i32,
    /// When, in nanoseconds on CLOCK_MONOTONIC.
    pub at: u64,
    /// The latest two that count, latest first; 0: none.
    pub counted: [u64; 2],
}

impl Crash {
    /// Reads what the handler has written; none for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let signal = words.next()?.parse().ok()?;
        let mut number = || words.next()?.parse::<u64>().ok();
        let (at, latest, earlier) = (number()?, number()?, number()?);
        Some(Self { signal, at, counted: [latest, earlier] })
    }
}

/// From now on a fatal signal in any thread begins the program anew. To be called in the main thread.
///
/// # Errors
/// When the machine has no memory for a stack, or a string has a NUL in it.
pub fn install(plan: &Plan<'_>) -> Result<()> {
    let mut environment = plan.environment.to_vec();
    environment.push((plan.variable.into(), "0".repeat(STAMP).into()));
    let prepared = Prepared::new(plan.program, plan.argv, &environment, plan.keep)?;
    let stamp =
        prepared.last_value(STAMP).ok_or_else(|| OsError::new("prepare for a crash", Errno::INVAL))?;
    let earlier = plan.before.map_or([0; 2], |crash| crash.counted);
    let readied = Readied { prepared, stamp, earlier, crashing: AtomicI32::new(0) };
    // Never freed: the handler may be looking at it.
    READIED.store(Box::into_raw(Box::new(readied)), Ordering::Release);
    own_stack()?;
    for signal in SIGNALS {
        // SAFETY: zero is a valid sigaction.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_fatal as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        // SAFETY: the handler is async-signal-safe (see above) and has the signature that SA_SIGINFO asks for.
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(OsError::new("prepare for a crash", Errno::last()));
        }
    }
    Ok(())
}

/// After a panic: begins the program anew. Comes back where that is not to be, or cannot be.
pub fn begin_anew() {
    again(0, false);
}

/// An alternate stack for the calling thread, where it has none. (The standard library gives its threads one.)
fn own_stack() -> Result<()> {
    // SAFETY: zero is a valid stack_t.
    let mut old: libc::stack_t = unsafe { std::mem::zeroed() };
    // SAFETY: only asks; `old` is writable.
    if unsafe { libc::sigaltstack(std::ptr::null(), &raw mut old) } == 0
        && old.ss_flags & libc::SS_DISABLE == 0
    {
        return Ok(());
    }
    // Never freed: it serves this thread to its end.
    let stack = Box::leak(vec![0_u8; STACK].into_boxed_slice());
    let new = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: STACK };
    // SAFETY: the memory is ours for ever and of that size.
    if unsafe { libc::sigaltstack(&raw const new, std::ptr::null_mut()) } != 0 {
        return Err(OsError::new("set up a stack for a crash", Errno::last()));
    }
    Ok(())
}

extern "C" fn on_fatal(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo; for a code of kill(2) and its like the pid is set.
    let foreign = unsafe {
        let sent = [libc::SI_USER, libc::SI_QUEUE, libc::SI_TKILL].contains(&(*info).si_code);
        sent && (*info).si_pid() != libc::getpid()
    };
    again(signal, foreign);
    die(signal);
}

/// Executes the program again; comes back if it shall not be, or cannot be.
fn again(signal: i32, foreign: bool) {
    // SAFETY: null, or a value that is never freed.
    let Some(readied) = (unsafe { READIED.load(Ordering::Acquire).as_ref() }) else { return };
    // SAFETY: no arguments, cannot fail.
    let me = unsafe { libc::gettid() };
    match readied.crashing.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        // In the handler itself: there is no way but out.
        Err(thread) if thread == me => return,
        // Another thread is at it, and this one ends with its exec.
        Err(_) => loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        },
    }
    let now = now();
    let [latest, earlier] = readied.earlier;
    if !foreign && earlier > 0 && now.saturating_sub(earlier) < SPAN {
        return;
    }
    let counted = if foreign { [latest, earlier] } else { [now, latest] };
    // SAFETY: the stamp has STAMP bytes, and only this thread gets here.
    let stamp = unsafe { std::slice::from_raw_parts_mut(readied.stamp, STAMP) };
    digits(&mut stamp[..3], u64::from(signal.unsigned_abs()));
    for (number, place) in [now, counted[0], counted[1]].into_iter().zip(stamp[3..].chunks_exact_mut(21)) {
        place[0] = b' ';
        digits(&mut place[1..], number);
    }
    let _failed = readied.prepared.execute();
}

/// CLOCK_MONOTONIC in nanoseconds.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable; async-signal-safe.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// A number as decimal digits with leading zeros.
fn digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Ends the process by this signal, as if there were no handler.
fn die(signal: i32) {
    // SAFETY: async-signal-safe calls; zero is a valid sigaction (SIG_DFL) and sigset.
    unsafe {
        let action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_handler_writes_can_be_read() {
        let mut text = [b' '; 24];
        digits(&mut text[..3], 11);
        digits(&mut text[4..], 18_446_744_073_709_551_615);
        assert_eq!(&text, b"011 18446744073709551615");
        let crash = Crash::parse("011 00000000000000000300 00000000000000000200 00000000000000000100");
        assert_eq!(crash, Some(Crash { signal: 11, at: 300, counted: [200, 100] }));
        assert_eq!(Crash::parse("11 x"), None);
    }
}
