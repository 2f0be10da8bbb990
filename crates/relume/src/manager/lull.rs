//! The lulls of a thread that takes notes from others.
//!
//! Whoever sends a note to a thread that waits has to wake it: a system call, and a switch of the processor, which in a
//! storm (a thousand services starting) cost more than the note. So a thread that is woken in quick succession rests
//! for a moment instead of waiting: notes gather meanwhile, and nobody has to wake it. A single note is taken up at once.

use std::sync::mpsc::{Receiver, RecvError, TryRecvError};
use std::time::{Duration, Instant};

/// Woken again within this, a thread is in a storm.
const DENSE: Duration = Duration::from_millis(2);

/// How long it rests then: what an answer to a command can be late by.
const REST: Duration = Duration::from_millis(1);

/// When a thread last had nothing to do.
#[derive(Debug, Default)]
pub(crate) struct Lull {
    idle: Option<Instant>,
}

impl Lull {
    /// Before waiting for the next note: rests, if there was one a moment ago.
    pub(crate) fn rest(&mut self) {
        let now = Instant::now();
        let before = self.idle.replace(now);
        if before.is_some_and(|before| now.saturating_duration_since(before) < DENSE) {
            std::thread::sleep(REST);
            self.idle = Some(Instant::now());
        }
    }

    /// The next note, after a rest if they come in quick succession.
    pub(crate) fn next<T>(&mut self, queue: &Receiver<T>) -> Result<T, RecvError> {
        match queue.try_recv() {
            Ok(note) => return Ok(note),
            Err(TryRecvError::Disconnected) => return Err(RecvError),
            Err(TryRecvError::Empty) => self.rest(),
        }
        queue.recv()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn notes_in_quick_succession_gather_and_all_arrive_in_order() {
        let (sender, queue) = channel();
        let thread = std::thread::spawn(move || {
            let (mut lull, mut taken) = (Lull::default(), Vec::new());
            while let Ok(note) = lull.next(&queue) {
                taken.push(note);
            }
            taken
        });
        for note in 0..10_000 {
            sender.send(note).unwrap();
        }
        drop(sender);
        assert_eq!(thread.join().unwrap(), (0..10_000).collect::<Vec<_>>());
    }
}
