//! What the death of a manager means for the next one: at once, later, or in safe mode. Rules alone, without a clock.
//!
//! Only what a manager brings upon itself counts: dying before it supervised, or of a fault of its own soon after. A
//! SIGKILL from outside (an operator, the OOM killer, a test) never does, however often it comes.

use std::time::Duration;

use relume_os::exit::ExitStatus;

/// The pause after the first death that counts, doubled for each in a row up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// How long a manager has to supervise to be proven: what it dies of later has another cause than its start.
pub(super) const PROVEN: Duration = Duration::from_secs(10);

/// Deaths in a row from which on the next manager gets the last good configuration and program. The first two
/// may have been a full disk or a lack of memory that is over by now.
const SAFE_FROM: u32 = 3;

/// From here on the journal may be the cause, too.
const WITHOUT_JOURNAL_FROM: u32 = 6;

/// Kills from outside before a manager could supervise, in a row, from which on there is a pause between starts: the
/// OOM killer would otherwise be given one new manager after the other at full speed.
const KILLED_EARLY: u32 = 5;

/// That pause: short enough for whoever kills a manager by hand now and then.
const EARLY_PAUSE: Duration = Duration::from_millis(200);

const KILL: i32 = 9;

/// SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS.
const FAULTS: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];

/// The end of one manager.
#[derive(Debug, Clone, Copy)]
pub(super) struct Death {
    /// How.
    pub(super) status: ExitStatus,
    /// For how long it had supervised; none: not yet.
    pub(super) supervised: Option<Duration>,
    /// The watchdog has ended it.
    pub(super) by_watchdog: bool,
}

/// How a manager is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    /// As the user has said.
    Plain,
    /// With the last good configuration and program.
    Safe,
    /// The same, and the journal is put aside.
    WithoutJournal,
}

/// What is remembered of managers that have died.
#[derive(Debug, Default)]
pub(super) struct Judge {
    failures: u32,
    killed_early: u32,
}

impl Judge {
    /// How long to wait before the next start.
    pub(super) fn died(&mut self, death: Death) -> Duration {
        let killed = matches!(death.status, ExitStatus::Signal { number: KILL, .. }) && !death.by_watchdog;
        if killed {
            self.killed_early = if death.supervised.is_some() { 0 } else { self.killed_early + 1 };
            return if self.killed_early > KILLED_EARLY { EARLY_PAUSE } else { Duration::ZERO };
        }
        self.killed_early = 0;
        let own_fault = match death.status {
            ExitStatus::Code(_) => true,
            ExitStatus::Signal { number, .. } => FAULTS.contains(&number),
            ExitStatus::Unknown => false,
        };
        let counts = match death.supervised {
            None => true,
            Some(time) => own_fault && !death.by_watchdog && time < PROVEN,
        };
        if counts { self.failed() } else { Duration::ZERO }
    }

    /// One more death that counts, or a start that did not even make a process.
    pub(super) fn failed(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(10)).min(LAST_PAUSE)
    }

    /// The present manager has supervised for [`PROVEN`].
    pub(super) fn proven(&mut self) {
        *self = Self::default();
    }

    /// How the next manager is started.
    pub(super) fn mode(&self) -> Mode {
        match self.failures {
            0..SAFE_FROM => Mode::Plain,
            SAFE_FROM..WITHOUT_JOURNAL_FROM => Mode::Safe,
            WITHOUT_JOURNAL_FROM.. => Mode::WithoutJournal,
        }
    }

    /// How often in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(status: ExitStatus, supervised: Option<u64>) -> Death {
        Death { status, supervised: supervised.map(Duration::from_secs), by_watchdog: false }
    }

    fn signal(number: i32) -> ExitStatus {
        ExitStatus::Signal { number, core_dumped: false }
    }

    #[test]
    fn a_kill_from_outside_never_counts() {
        let mut judge = Judge::default();
        for _ in 0..1000 {
            assert_eq!(judge.died(death(signal(KILL), Some(0))), Duration::ZERO);
            judge.died(death(signal(KILL), None));
        }
        assert_eq!((judge.mode(), judge.failures()), (Mode::Plain, 0));
    }

    #[test]
    fn managers_that_are_killed_before_they_supervise_are_not_started_at_full_speed() {
        let mut judge = Judge::default();
        let pauses: Vec<_> = (0..8).map(|_| judge.died(death(signal(KILL), None))).collect();
        assert_eq!(pauses.first(), Some(&Duration::ZERO));
        assert_eq!(pauses.last(), Some(&EARLY_PAUSE));
    }

    #[test]
    fn deaths_before_supervision_lead_to_at_most_one_try_a_second_and_to_safe_mode_and_never_to_an_end() {
        let mut judge = Judge::default();
        let mut modes = Vec::new();
        for _ in 0..40 {
            assert!(judge.died(death(ExitStatus::Code(2), None)) <= LAST_PAUSE);
            modes.push(judge.mode());
        }
        assert_eq!(modes[..3], [Mode::Plain, Mode::Plain, Mode::Safe]);
        assert_eq!(judge.died(death(ExitStatus::Code(2), None)), LAST_PAUSE);
        judge.proven();
        assert_eq!(judge.mode(), Mode::Plain);
    }

    #[test]
    fn a_fault_counts_within_ten_seconds_and_not_after() {
        let mut judge = Judge::default();
        judge.died(death(signal(11), Some(9)));
        judge.died(death(signal(11), Some(11)));
        judge.died(death(signal(15), Some(1)));
        assert_eq!(judge.failures(), 1);
        judge.died(Death { by_watchdog: true, ..death(signal(6), Some(1)) });
        assert_eq!(judge.failures(), 1, "a hang is no fault of its start");
    }
}
