//! Signals: their names, the process's mask, signalfd.
//!
//! Signals are plain numbers here (signal(7)): the same that policies and exit statuses carry.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Errno, OsError, Result};

/// The highest signal number of Linux on the architectures supported.
pub const HIGHEST: i32 = 64;

/// Names without their `SIG`, by number.
const NAMES: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
    // Other names of the same numbers; `name` shows the first.
    ("IOT", libc::SIGABRT),
    ("CLD", libc::SIGCHLD),
    ("POLL", libc::SIGIO),
];

/// The number of `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3` or `SIGRTMAX-1`; `None` if there is no such signal.
#[must_use]
pub fn parse(text: &str) -> Option<i32> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().filter(|n| (1..=HIGHEST).contains(n));
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(name, _)| *name == bare) {
        return Some(*number);
    }
    let (low, high) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let number = if let Some(rest) = bare.strip_prefix("RTMIN") {
        low.checked_add(offset(rest, '+')?)?
    } else {
        high.checked_sub(offset(bare.strip_prefix("RTMAX")?, '-')?)?
    };
    (low..=high).contains(&number).then_some(number)
}

/// `""` is 0, `+3` is 3.
fn offset(rest: &str, sign: char) -> Option<i32> {
    if rest.is_empty() {
        return Some(0);
    }
    let digits = rest.strip_prefix(sign)?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// What messages call this signal: `SIGTERM`, `SIGRTMIN+3`, `signal 99`.
#[must_use]
pub fn name(number: i32) -> String {
    if let Some((name, _)) = NAMES.iter().find(|(_, n)| *n == number) {
        return format!("SIG{name}");
    }
    let low = libc::SIGRTMIN();
    match number - low {
        0 => "SIGRTMIN".to_owned(),
        n if n > 0 && number <= libc::SIGRTMAX() => format!("SIGRTMIN+{n}"),
        _ => format!("signal {number}"),
    }
}

/// Blocks these signals in the calling thread and all threads it starts from now on: call it before the first.
pub fn block(numbers: &[i32]) -> Result<()> {
    let set = to_set(numbers)?;
    // SAFETY: `set` is initialized and outlives the call; no old mask is asked for.
    let rc = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if rc == 0 { Ok(()) } else { Err(OsError::new("block signals", Errno::from_raw(rc))) }
}

/// Unblocks these signals in the calling thread.
pub fn unblock(numbers: &[i32]) -> Result<()> {
    let set = to_set(numbers)?;
    // SAFETY: as in `block`.
    let rc = unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
    if rc == 0 { Ok(()) } else { Err(OsError::new("unblock signals", Errno::from_raw(rc))) }
}

/// Unblocks every signal in the calling thread: execve(2) hands the mask on, and a signal handler that
/// replaced the process by itself has left its own signal blocked.
pub fn unblock_all() -> Result<()> {
    let set = to_set(&[])?;
    // SAFETY: as in `block`.
    let rc = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
    if rc == 0 { Ok(()) } else { Err(OsError::new("unblock signals", Errno::from_raw(rc))) }
}

/// Whether this signal is ignored now: asked first thing in `main`, whether it was inherited so (`nohup`).
pub fn is_ignored(number: i32) -> Result<bool> {
    // SAFETY: an all-zero sigaction is a valid value of this plain struct.
    let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null new action only asks; `old` is valid for writes.
    let rc = unsafe { libc::sigaction(number, std::ptr::null(), &raw mut old) };
    if rc == 0 {
        Ok(old.sa_sigaction == libc::SIG_IGN)
    } else {
        Err(OsError::new("ask for a signal's action", Errno::last()))
    }
}

/// The signals that are ignored now, a bit each from signal 1 on. One of which the C library does not tell (it keeps two for itself) counts.
/// `SIGKILL` and `SIGSTOP` cannot be ignored.
#[must_use]
pub fn ignored() -> u64 {
    let may_be = |number: &i32| {
        ![libc::SIGKILL, libc::SIGSTOP].contains(number) && is_ignored(*number).unwrap_or(true)
    };
    (1..=HIGHEST).filter(may_be).fold(0, |all, number| all | 1 << (number - 1))
}

/// Ignores this signal from now on.
pub fn ignore(number: i32) -> Result<()> {
    set_action(number, libc::SIG_IGN)
}

/// Gives this signal its default action. A supervisor needs it for `SIGCHLD`: inherited as ignored, the
/// kernel would reap its children before it could read their status.
pub fn set_default(number: i32) -> Result<()> {
    set_action(number, libc::SIG_DFL)
}

fn set_action(number: i32, action: libc::sighandler_t) -> Result<()> {
    // SAFETY: zero is a valid sigaction: no flags, empty mask.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = action;
    // SAFETY: SIG_IGN and SIG_DFL run no code of ours; `new` is valid for reads.
    let rc = unsafe { libc::sigaction(number, &raw const new, std::ptr::null_mut()) };
    if rc == 0 { Ok(()) } else { Err(OsError::new("set a signal's action", Errno::last())) }
}

fn to_set(numbers: &[i32]) -> Result<libc::sigset_t> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initializes the whole set it is given.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for &number in numbers {
        // SAFETY: `set` is initialized; a bad number is answered by -1.
        if unsafe { libc::sigaddset(&raw mut set, number) } != 0 {
            return Err(OsError::new("use this signal number", Errno::INVAL)
                .because(format!("there is no {}", name(number))));
        }
    }
    Ok(set)
}

/// One signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Which.
    pub signal: i32,
    /// Who sent it; 0: the kernel, or a process outside of this pid namespace.
    pub pid: u32,
    /// The sender's real uid.
    pub uid: u32,
    /// How it was sent (`si_code`): `SI_USER` is 0, the kernel itself is `SI_KERNEL` = 0x80.
    pub code: i32,
}

/// Receives blocked signals as data (signalfd(2), non-blocking).
#[derive(Debug)]
pub struct SignalFd {
    fd: OwnedFd,
}

impl SignalFd {
    /// Receives these signals, which the caller has [`block`]ed before.
    pub fn new(numbers: &[i32]) -> Result<Self> {
        let set = to_set(numbers)?;
        // SAFETY: `set` is initialized; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(OsError::new("create a signalfd", Errno::last()));
        }
        // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
        Ok(Self { fd: unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) } })
    }

    /// The next signal, `None` when there is none now. Signals of one number may have been merged by the
    /// kernel: 200 exits can be one `SIGCHLD`.
    pub fn read(&self) -> Result<Option<Arrived>> {
        let mut bytes = [0u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.fd, &mut bytes)) {
            Ok(n) if n == bytes.len() => {
                // SAFETY: the kernel filled the whole struct, which is plain integers valid for any bit pattern.
                let info: libc::signalfd_siginfo = unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
                let signal = i32::try_from(info.ssi_signo).unwrap_or(0);
                Ok(Some(Arrived { signal, pid: info.ssi_pid, uid: info.ssi_uid, code: info.ssi_code }))
            }
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(e) => Err(OsError::new("read a signalfd", e)),
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_known_by_name_with_or_without_sig_in_any_case_and_by_number() {
        for text in ["TERM", "SIGTERM", "sigterm", "15"] {
            assert_eq!(parse(text), Some(15), "{text}");
        }
        assert_eq!(parse("RTMIN"), Some(libc::SIGRTMIN()));
        assert_eq!(parse("SIGRTMIN+3"), Some(libc::SIGRTMIN() + 3));
        assert_eq!(parse("RTMAX-1"), Some(libc::SIGRTMAX() - 1));
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in [
            "",
            "0",
            "65",
            "-1",
            "SIG",
            "TERMINATE",
            "RTMIN-1",
            "RTMIN+99",
            "RTMIN+",
            "RTMAX+1",
            "+15",
            "RTMIN+x",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_number_has_a_name_that_reads_back_as_itself() {
        for number in (1..=31).chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
            assert_eq!(parse(&name(number)), Some(number));
        }
        assert_eq!(name(32), "signal 32");
    }
}
