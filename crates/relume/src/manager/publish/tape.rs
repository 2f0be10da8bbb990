//! The latest events, for those who follow them and those who come back.
//!
//! One ring for all readers, each with a place of its own in it: it grows with what happens and not with who might
//! listen. It must never make the writer wait: a reader that is overtaken is told so, and finds what it has missed in
//! the history.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use relume_proto::EventRecord;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

/// Events kept for those who come back with `?after=SEQ`, and the most a slow follower may be behind. What is older
/// is in the history, which is written before it answers.
const EVENTS_KEPT: usize = 1024;

/// The writing end.
#[derive(Debug)]
pub(super) struct Tape {
    ring: Arc<Mutex<Ring>>,
    latest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Packed>,
    /// The number of the last event that is no longer kept.
    lost: u64,
}

/// An event as it is kept: in a third of the room that it takes as a value.
#[derive(Debug)]
struct Packed {
    seq: u64,
    bytes: Box<[u8]>,
}

impl Packed {
    fn of(event: &EventRecord) -> Self {
        // Plain data into memory: there is nothing in it that cannot be written.
        let bytes = rmp_serde::to_vec(event).unwrap_or_default().into_boxed_slice();
        Self { seq: event.seq, bytes }
    }

    fn open(&self) -> Option<EventRecord> {
        rmp_serde::from_slice(&self.bytes).ok()
    }
}

/// One reader.
#[derive(Debug)]
pub(crate) struct Follower {
    ring: Arc<Mutex<Ring>>,
    latest: watch::Receiver<u64>,
    /// The last event that it has seen, or was told before.
    seen: u64,
}

impl Tape {
    pub(super) fn new() -> Self {
        Self { ring: Arc::default(), latest: watch::channel(0).0 }
    }

    pub(super) fn write(&self, record: EventRecord) {
        let seq = record.seq;
        let mut ring = lock(&self.ring);
        if ring.events.len() >= EVENTS_KEPT
            && let Some(oldest) = ring.events.pop_front()
        {
            ring.lost = oldest.seq;
        }
        ring.events.push_back(Packed::of(&record));
        drop(ring);
        self.latest.send_replace(seq);
    }

    /// Those kept that came after `seq`, and all to come.
    pub(super) fn follow(&self, after: u64) -> (Vec<EventRecord>, Follower) {
        let ring = lock(&self.ring);
        let kept = ring.after(after).filter_map(Packed::open).collect();
        let seen = ring.events.back().map_or(ring.lost, |latest| latest.seq);
        let (latest, ring) = (self.latest.subscribe(), Arc::clone(&self.ring));
        (kept, Follower { ring, latest, seen })
    }
}

impl Ring {
    /// The events are in the order of their numbers.
    fn after(&self, seq: u64) -> impl Iterator<Item = &Packed> {
        self.events.range(self.events.partition_point(|record| record.seq <= seq)..)
    }
}

impl Follower {
    /// The next event.
    ///
    /// # Errors
    /// `Lagged` when it has been overtaken, `Closed` when there will be no more.
    pub(crate) async fn recv(&mut self) -> Result<EventRecord, RecvError> {
        loop {
            self.latest.borrow_and_update();
            {
                let ring = lock(&self.ring);
                if ring.lost > self.seen {
                    self.seen = ring.lost;
                    return Err(RecvError::Lagged(1));
                }
                if let Some(next) = ring.after(self.seen).next() {
                    self.seen = next.seq;
                    if let Some(event) = next.open() {
                        return Ok(event);
                    }
                    continue;
                }
            }
            self.latest.changed().await.map_err(|_| RecvError::Closed)?;
        }
    }
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn event(seq: u64) -> EventRecord {
        EventRecord { seq, ..EventRecord::default() }
    }

    #[test]
    fn a_follower_is_told_what_comes_after_it_came_in_order() {
        let tape = Tape::new();
        [1, 4].into_iter().for_each(|seq| tape.write(event(seq)));
        let (kept, mut live) = tape.follow(1);
        assert_eq!(kept, [event(4)]);
        [5, 9].into_iter().for_each(|seq| tape.write(event(seq)));
        assert_eq!(wait(live.recv()), Ok(event(5)));
        assert_eq!(wait(live.recv()), Ok(event(9)));
        drop(tape);
        assert_eq!(wait(live.recv()), Err(RecvError::Closed));
    }

    #[test]
    fn a_follower_that_is_overtaken_is_told_so_and_the_writer_never_waits() {
        let tape = Tape::new();
        let (_, mut slow) = tape.follow(0);
        (1..=EVENTS_KEPT as u64 + 1).for_each(|seq| tape.write(event(seq)));
        assert_eq!(wait(slow.recv()), Err(RecvError::Lagged(1)));
        assert_eq!(wait(slow.recv()), Ok(event(2)));
        assert_eq!(tape.follow(0).0.len(), EVENTS_KEPT);
    }
}
