//! The watchdog on the manager: whoever is silent for too long is asked for a core file (SIGABRT) and then killed.
//! Rules alone: the present comes as an argument.
//!
//! A guardian that comes late itself judges nobody. After a stop of both halves, or on a machine that gives them no
//! time, the manager gets a whole period more.

use std::time::Duration;

/// Between SIGABRT and SIGKILL: a manager that can still act begins anew within a few milliseconds.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The least that a manager gets from its start to its first word: it reads the journal and the configuration,
/// perhaps from a slow disk. Twice as long after each that was not enough.
const START: Duration = Duration::from_secs(30);

/// How often that is doubled at most: to 16 minutes.
const DOUBLED: u32 = 5;

/// The period until a manager has said one: it may hang before its first word.
pub(super) fn until_told() -> Option<Duration> {
    Some(start())
}

/// [`START`]; debug builds may be told otherwise, so that a test does not have to wait for it.
fn start() -> Duration {
    #[cfg(debug_assertions)]
    if let Some(ms) = std::env::var("RELUME_START_MS").ok().and_then(|text| text.parse().ok()) {
        return Duration::from_millis(ms);
    }
    START
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Fine,
    /// SIGABRT.
    Abort,
    /// SIGKILL.
    Kill,
}

/// Moments are in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    period: Option<Duration>,
    /// What it gets until its first word.
    patience: Duration,
    /// It has said something.
    spoken: bool,
    heard: u64,
    aborted: Option<u64>,
}

impl Watch {
    /// A manager that starts now. `period` is what the one before was given; so many in a row have failed before.
    pub(super) fn new(now: u64, period: Option<Duration>, failures: u32) -> Self {
        let patience = start().saturating_mul(1 << failures.min(DOUBLED));
        Self { period, patience, spoken: false, heard: now, aborted: None }
    }

    /// The manager lives.
    pub(super) fn heard(&mut self, now: u64, period: Option<Duration>) {
        *self = Self { period, spoken: true, heard: now, aborted: None, ..*self };
    }

    /// When it has last said that it lives.
    pub(super) fn last_heard(&self) -> u64 {
        self.heard
    }

    /// For how long it may be silent.
    pub(super) fn period(&self) -> Option<Duration> {
        self.period
    }

    /// The manager begins anew in the same process.
    pub(super) fn restarted(&mut self, now: u64) {
        *self = Self { spoken: false, heard: now, aborted: None, ..*self };
    }

    /// When to look next.
    pub(super) fn deadline(&self) -> Option<u64> {
        let allowed = self.allowed()?;
        Some(match self.aborted {
            Some(at) => at.saturating_add(nanos(LAST_WORDS)),
            None => self.heard.saturating_add(allowed),
        })
    }

    fn allowed(&self) -> Option<u64> {
        let period = self.period?;
        Some(nanos(if self.spoken { period } else { period.max(self.patience) }))
    }

    /// What is so now.
    pub(super) fn look(&mut self, now: u64) -> Verdict {
        let (Some(deadline), Some(allowed)) = (self.deadline(), self.allowed()) else { return Verdict::Fine };
        if now < deadline {
            return Verdict::Fine;
        }
        if self.aborted.is_some() {
            // Should it survive even that (it waits in the kernel), it is killed again in a while.
            self.aborted = Some(now);
            return Verdict::Kill;
        }
        if now - deadline > allowed / 4 {
            self.heard = now;
            return Verdict::Fine;
        }
        self.aborted = Some(now);
        Verdict::Abort
    }

    /// Whether it was this that ended the manager.
    pub(super) fn has_struck(&self) -> bool {
        self.aborted.is_some()
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const TEN: Option<Duration> = Some(Duration::from_secs(10));

    #[test]
    fn silence_is_answered_by_abort_and_half_a_second_later_by_kill() {
        let mut watch = Watch::new(0, None, 0);
        watch.heard(SECOND, TEN);
        assert_eq!(watch.deadline(), Some(11 * SECOND));
        assert_eq!(watch.look(10 * SECOND), Verdict::Fine);
        assert_eq!(watch.look(11 * SECOND), Verdict::Abort);
        assert_eq!(watch.look(11 * SECOND + 1), Verdict::Fine);
        assert_eq!(watch.look(11 * SECOND + SECOND / 2), Verdict::Kill);
        assert!(watch.has_struck());
    }

    #[test]
    fn a_guardian_that_was_stopped_too_judges_nobody() {
        let mut watch = Watch::new(0, None, 0);
        watch.heard(0, TEN);
        assert_eq!(watch.look(3600 * SECOND), Verdict::Fine);
        assert_eq!(watch.deadline(), Some(3610 * SECOND), "a whole period more");
        assert_eq!(watch.look(3610 * SECOND), Verdict::Abort);
    }

    #[test]
    fn without_a_period_nobody_is_watched_and_a_word_after_abort_ends_the_matter() {
        let mut watch = Watch::new(0, None, 0);
        assert_eq!((watch.deadline(), watch.look(u64::MAX)), (None, Verdict::Fine));
        watch.heard(0, TEN);
        assert_eq!(watch.look(10 * SECOND), Verdict::Abort);
        watch.heard(10 * SECOND + 1, TEN);
        assert_eq!(watch.look(11 * SECOND), Verdict::Fine);
    }

    #[test]
    fn a_manager_that_starts_gets_more_time() {
        assert_eq!(Watch::new(0, TEN, 0).deadline(), Some(30 * SECOND));
        assert_eq!(Watch::new(0, until_told(), 0).deadline(), Some(30 * SECOND), "the first of all, too");
        assert_eq!(
            Watch::new(0, TEN, 2).deadline(),
            Some(120 * SECOND),
            "a slow disk is not a hang for ever"
        );
    }
}
