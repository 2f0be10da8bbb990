//! The end of all, as the manager has announced it: how long it is waited for.

use std::time::Duration;

/// How long a manager may take to leave: as long as all of what it waits for then may take together. One that still has output
/// to show, and somebody who reads it, says so again.
const LEAVING: Duration = Duration::from_secs(20);

pub(super) struct Leave {
    pub(super) code: u8,
    /// Services run on.
    pub(super) detach: bool,
    /// Until when it is waited for: first until it is killed, then until it is left behind.
    pub(super) until: u64,
    pub(super) killed: bool,
}

impl Leave {
    /// It has been announced, for the first time or again. Who is in a hurry, or has waited long enough, waits for nobody.
    pub(super) fn announced(before: Option<Self>, (code, detach): (u8, bool), now: u64) -> Self {
        match before {
            Some(before) if before.killed || before.until <= now => before,
            Some(_) | None => Self { code, detach, until: now + super::nanos(LEAVING), killed: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_that_gets_on_is_waited_for_but_not_by_who_is_in_a_hurry() {
        let second = super::super::nanos(Duration::from_secs(1));
        let first = Leave::announced(None, (3, false), second);
        assert_eq!((first.code, first.until), (3, 21 * second));
        let mut again = Leave::announced(Some(first), (3, false), 15 * second);
        assert_eq!(again.until, 35 * second);
        again.until = 16 * second;
        assert_eq!(Leave::announced(Some(again), (3, false), 17 * second).until, 16 * second);
    }
}
