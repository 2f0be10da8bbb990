//! The draws that options, kernel, operator and faults make: each from a generator of its own, so that a
//! change of one leaves the numbers of the others as they were.

use std::time::Duration;

use relume_core::{Moment, Rng};

/// A generator with the questions that a simulation asks.
#[derive(Debug, Clone)]
pub struct Dice(Rng);

impl Dice {
    /// The dice of one room (`salt`) of the run with this seed.
    #[must_use]
    pub fn new(seed: u64, salt: u64) -> Self {
        let mut rng = Rng::new(seed ^ salt.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        rng.next_u64();
        Self(rng)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// From `low` to `high`, both included.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.below(high.saturating_sub(low).saturating_add(1))
    }

    /// An index below `len`; 0 for an empty range.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.0.below(len as u64)).unwrap_or(0)
    }

    /// True in `in_thousand` of a thousand cases.
    pub fn chance(&mut self, in_thousand: u32) -> bool {
        in_thousand > 0 && self.0.below(1000) < u64::from(in_thousand)
    }

    /// One of `all`, which is never empty.
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.index(all.len())]
    }

    /// A span of `low` to `high` milliseconds.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.range(low, high))
    }

    /// A moment `low` to `high` milliseconds after `now`.
    pub fn soon(&mut self, now: Moment, low: u64, high: u64) -> Moment {
        now.after(self.millis(low, high))
    }
}
