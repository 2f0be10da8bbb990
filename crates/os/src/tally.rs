//! For tests of debug builds alone: the process dies by SIGKILL at its n-th act from now.
//!
//! What acts on the kernel calls `act` first. A test arms the count, lets something be done, and sees whether
//! whoever comes after makes good what was left half done; it does so for every n. In a release nothing is here.

#[cfg(debug_assertions)]
mod counting {
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Acts left; 0: not armed.
    static LEFT: AtomicU64 = AtomicU64::new(0);

    pub(super) fn arm(acts: u64) {
        LEFT.store(acts, Ordering::SeqCst);
    }

    pub(super) fn act() {
        let less = |left: u64| left.checked_sub(1);
        if LEFT.load(Ordering::Relaxed) > 0
            && LEFT.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) == Ok(1)
        {
            // SAFETY: our own pid; the process ends here.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
    }
}

/// Dies at the act of this number, counted from 1; 0: not at all.
#[cfg(debug_assertions)]
pub fn arm(acts: u64) {
    counting::arm(acts);
}

/// Something is about to be done.
#[inline]
pub(crate) fn act() {
    #[cfg(debug_assertions)]
    counting::act();
}
