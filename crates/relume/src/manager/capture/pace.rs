//! When a pipe is looked at again: at once, after a rest, or when the kernel tells.
//!
//! A pipe that was emptied rests, so that small writes run together: whoever writes lines wakes us once a tick and not once
//! a line, which saves the processor time of both. The rest is as long as the writer lets it be. One who fills the pipe
//! within it would stand still for the remainder, so that the next rest is half as long, and the pipe soon larger; one
//! who leaves it nearly empty gets a longer one again, up to a tick.
//!
//! Not measured is how large single writes are: the pipe does not tell, and how fast it fills says all that is needed.

use std::time::Duration;

/// The longest rest. Measured: 0.5 to 2 ms save 8 to 10 times the processor time of small writes, for the service as
/// well; a person reading along does not notice.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// The shortest rest: below it, the sleep costs what it saves.
const SHORTEST: Duration = Duration::from_micros(60);

/// Times in a row that a pipe must be found half full before it gets a larger one: a burst is no flood.
const HOT: u8 = 4;

/// See the module's description.
#[derive(Debug)]
pub(super) struct Pace {
    /// In nanoseconds: at most a tick, and there is one for each of thousands of pipes.
    rest_ns: u32,
    full: u8,
}

impl Pace {
    /// Of a pipe that nobody has written to.
    pub(super) fn new() -> Self {
        Self { rest_ns: TICK.as_nanos() as u32, full: 0 }
    }

    /// How long it rests now.
    pub(super) fn rest(&self) -> Duration {
        Duration::from_nanos(u64::from(self.rest_ns))
    }

    /// The pipe was found with so much in it; `rested`: for the first time since it was left alone.
    pub(super) fn found(&mut self, waiting: usize, capacity: usize, rested: bool) {
        if waiting >= capacity / 2 {
            self.full = self.full.saturating_add(1);
            if rested {
                self.rest_ns = (self.rest_ns / 2).max(SHORTEST.as_nanos() as u32);
            }
        } else if rested {
            self.full = 0;
            if waiting < capacity / 8 {
                self.rest_ns = (self.rest_ns * 2).min(TICK.as_nanos() as u32);
            }
        }
    }

    /// Whether it is too small for its writer.
    pub(super) fn is_flooded(&self) -> bool {
        self.full >= HOT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rests until the pipe and its pace have settled, with a writer of so many bytes a second; the last look.
    fn settle(rate: usize, capacity: usize) -> (usize, Duration) {
        let mut pace = Pace::new();
        let mut last = 0;
        for _ in 0..50 {
            last = (pace.rest().as_nanos() as usize * rate / 1_000_000_000).min(capacity);
            pace.found(last, capacity, true);
        }
        (last, pace.rest())
    }

    /// No writer waits for us: a rest never lasts until the pipe is full. Seen to fail with rests of a tick: all of these.
    #[test]
    fn a_rest_ends_before_the_pipe_is_full() {
        for (rate, capacity) in
            [(100_000_000, 65_536), (380_000_000, 65_536), (380_000_000, 1 << 20), (2_000_000_000, 1 << 20)]
        {
            let (found, rest) = settle(rate, capacity);
            assert!(found < capacity * 3 / 4, "{rate} B/s: {found} of {capacity} after {rest:?}");
        }
    }

    #[test]
    fn who_writes_little_gets_the_longest_rest() {
        assert_eq!(settle(1_000_000, 65_536).1, TICK);
        let mut pace = Pace::new();
        (0..9).for_each(|_| pace.found(65_536, 65_536, true));
        assert_eq!((pace.is_flooded(), pace.rest()), (true, SHORTEST));
        (0..9).for_each(|_| pace.found(100, 65_536, true));
        assert_eq!((pace.is_flooded(), pace.rest()), (false, TICK));
    }
}
