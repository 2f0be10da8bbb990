//! What a drill has found, in numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// The manager.
    Manager,
    /// The guardian.
    Guardian,
    /// Both at once; relume is then started again.
    Both,
    /// One of the services, by SIGKILL: it has to be restarted once.
    Services,
}

impl Part {
    /// The word of the command line and of the report.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Guardian => "guardian",
            Self::Both => "both",
            Self::Services => "services",
        }
    }
}

/// Lines of the printers.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Lines {
    /// By their own count.
    pub(crate) written: u64,
    /// Not in the log.
    pub(crate) lost: u64,
    /// In it more than once.
    pub(crate) repeated: u64,
    /// Behind a later one.
    pub(crate) out_of_order: u64,
    /// No line of theirs.
    pub(crate) torn: u64,
}

impl Lines {
    /// Takes in those of another service or life.
    pub(crate) fn add(&mut self, other: &Self) {
        self.written += other.written;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.out_of_order += other.out_of_order;
        self.torn += other.torn;
    }

    fn is_whole(&self) -> bool {
        self.lost + self.repeated + self.out_of_order + self.torn == 0
    }
}

/// Ends of the services that end by themselves.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Exits {
    /// That were announced.
    pub(crate) expected: u64,
    /// Not told, or with another code.
    pub(crate) lost: u64,
    /// Told more than once.
    pub(crate) repeated: u64,
    /// While both halves of relume were dead, so that nobody could see them; not counted as lost.
    pub(crate) unseen: u64,
}

impl Exits {
    /// Takes in those of another service.
    pub(crate) fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.unseen += other.unseen;
    }
}

/// What became of the services that were watched.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Services {
    /// How many there were.
    pub(crate) watched: u64,
    /// Not running any more.
    pub(crate) lost: u64,
    /// Two lives at once.
    pub(crate) doubled: u64,
    /// Another process than before, although nobody had killed it.
    pub(crate) restarted: u64,
    /// Ended by themselves, which is their own business.
    pub(crate) ended: u64,
}

/// How long it took, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Times {
    /// How many times were measured.
    pub(crate) count: usize,
    /// The middle one.
    pub(crate) p50_ms: f64,
    /// Of a hundred, ninety-nine are shorter.
    pub(crate) p99_ms: f64,
    /// The longest.
    pub(crate) max_ms: f64,
}

impl Times {
    fn of(times: &[Duration]) -> Self {
        let mut ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1000.0).collect();
        ms.sort_by(f64::total_cmp);
        // The nearest rank: a time that was measured, never one between two.
        let rank = |percent: usize| ms.get((ms.len() * percent).div_ceil(100).max(1) - 1).copied();
        let round = |ms: Option<f64>| (ms.unwrap_or(0.0) * 100.0).round() / 100.0;
        Self {
            count: ms.len(),
            p50_ms: round(rank(50)),
            p99_ms: round(rank(99)),
            max_ms: round(ms.last().copied()),
        }
    }
}

/// The whole report; `relume drill --json`.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Figures {
    /// Nothing was lost, doubled or repeated.
    pub(crate) passed: bool,
    /// Repeats this drill: `--seed`.
    pub(crate) seed: u64,
    /// How long it took.
    pub(crate) seconds: f64,
    /// It was ended before its time.
    pub(crate) interrupted: bool,
    /// The running relume was drilled, and not one of the drill's own.
    pub(crate) live: bool,
    /// How often each part was killed.
    pub(crate) kills: BTreeMap<&'static str, usize>,
    /// What became of the services.
    pub(crate) services: Services,
    /// Lines of the printers; none with `--live`.
    pub(crate) lines: Option<Lines>,
    /// Exits of the services that end by themselves; none with `--live`.
    pub(crate) exits: Option<Exits>,
    /// From each kill until everything was supervised again.
    pub(crate) supervised_again: BTreeMap<&'static str, Times>,
    /// What went wrong, in sentences.
    pub(crate) failures: Vec<String>,
    /// Where the files of a drill that has failed are.
    pub(crate) kept: Option<String>,
}

impl Figures {
    /// Takes in the times of each part.
    pub(crate) fn set_times(&mut self, times: &BTreeMap<Part, Vec<Duration>>) {
        for (part, times) in times {
            self.kills.insert(part.word(), times.len());
            self.supervised_again.insert(part.word(), Times::of(times));
        }
    }

    /// Judges: whatever was lost, doubled or repeated has failed the drill.
    pub(crate) fn judge(&mut self) {
        let Services { lost, doubled, restarted, .. } = self.services;
        let lines = self.lines.as_ref().is_none_or(Lines::is_whole);
        let exits = self.exits.as_ref().is_none_or(|exits| exits.lost + exits.repeated == 0);
        self.passed = lost + doubled + restarted == 0 && lines && exits && self.failures.is_empty();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        let of = Times::of(&times);
        assert_eq!((of.count, of.p50_ms, of.p99_ms, of.max_ms), (100, 50.0, 99.0, 100.0));
        assert_eq!(Times::of(&times[..1]).p99_ms, 1.0);
        assert_eq!(Times::of(&[]), Times::default());
    }

    #[test]
    fn a_single_thing_lost_fails_the_drill() {
        let whole = || Figures {
            lines: Some(Lines { written: 9, ..Lines::default() }),
            exits: Some(Exits { expected: 2, unseen: 1, ..Exits::default() }),
            ..Figures::default()
        };
        let passed = |change: &dyn Fn(&mut Figures)| {
            let mut figures = whole();
            change(&mut figures);
            figures.judge();
            figures.passed
        };
        assert!(passed(&|_| {}));
        assert!(!passed(&|figures| figures.services.lost = 1));
        assert!(!passed(&|figures| figures.services.doubled = 1));
        assert!(!passed(&|figures| figures.services.restarted = 1));
        assert!(!passed(&|figures| figures.failures.push("x".into())));
        assert!(!passed(&|figures| figures.lines.as_mut().unwrap().lost = 1));
        assert!(!passed(&|figures| figures.lines.as_mut().unwrap().torn = 1));
        assert!(!passed(&|figures| figures.exits.as_mut().unwrap().lost = 1));
        assert!(!passed(&|figures| figures.exits.as_mut().unwrap().repeated = 1));
    }
}
