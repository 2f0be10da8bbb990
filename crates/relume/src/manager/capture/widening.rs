//! Who may have a larger pipe.
//!
//! The pipe of a flood is made 16 times as large, so that service and reader wake up seldom. What all pipes of a user hold
//! together has a bound (`fs.pipe-user-pages-soft`, 64 MiB): above it the kernel gives every *new* pipe of that user 8 KiB, of
//! relume's later services and of any other program. So larger pipes take a quarter of that at most, and less where the
//! ordinary pipes of many services need it; and a pipe that is no longer found busy becomes an ordinary one again, within two
//! looks. The rule is the same for root, whom the kernel does not bound: it keeps its memory bounded, and more floods
//! than that have no cores to run on.
//!
//! The road not taken: to grow until the kernel refuses takes the room from those who come later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::thread::Worker;

/// Size of the pipe of a flood, the most that an ordinary user may ask for (pipe(7)).
pub(super) const WIDE: usize = 1024 * 1024;

/// Size of a new pipe (pipe(7)).
pub(super) const ORDINARY: usize = 64 * 1024;

/// Time between two looks at the larger pipes. Longer than the pauses of who writes in bursts, and short enough that what
/// one flood has left is there for the next.
const LOOK: Duration = Duration::from_secs(5);

/// The room for larger pipes, shared by the threads.
#[derive(Debug)]
pub(super) struct PipeRoom {
    /// Bytes of all pipes of the user.
    limit: usize,
    pipes: AtomicUsize,
    wide: AtomicUsize,
}

impl PipeRoom {
    /// For a user whose pipes may hold so many bytes together.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, pipes: AtomicUsize::new(0), wide: AtomicUsize::new(0) })
    }

    /// How many larger pipes there may be now. A sixteenth is left to pipes that are not capture's.
    fn most(&self) -> usize {
        let ordinary = self.pipes.load(Ordering::Relaxed) * ORDINARY;
        let left = (self.limit / 16 * 15).saturating_sub(ordinary);
        left.min(self.limit / 4) / (WIDE - ORDINARY)
    }
}

/// One pipe's part of the room, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    room: Arc<PipeRoom>,
    is_wide: bool,
}

impl Share {
    /// Of a pipe that holds so much: one that a predecessor has made larger counts as that, whatever there is.
    pub(super) fn new(room: &Arc<PipeRoom>, capacity: usize) -> Self {
        let is_wide = capacity > ORDINARY;
        room.pipes.fetch_add(1, Ordering::Relaxed);
        room.wide.fetch_add(usize::from(is_wide), Ordering::Relaxed);
        Self { room: Arc::clone(room), is_wide }
    }

    pub(super) fn is_wide(&self) -> bool {
        self.is_wide
    }

    /// Whether there are more larger pipes than there may be by now.
    pub(super) fn is_too_much(&self) -> bool {
        self.is_wide && self.room.wide.load(Ordering::Relaxed) > self.room.most()
    }

    /// Takes the room of a larger pipe, if there is one. Two threads may both take the last one: nothing depends on one more.
    pub(super) fn widen(&mut self) -> bool {
        if !self.is_wide && self.room.wide.load(Ordering::Relaxed) < self.room.most() {
            self.room.wide.fetch_add(1, Ordering::Relaxed);
            self.is_wide = true;
        }
        self.is_wide
    }

    /// It is an ordinary one again.
    pub(super) fn narrow(&mut self) {
        if std::mem::take(&mut self.is_wide) {
            self.room.wide.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.narrow();
        self.room.pipes.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Worker {
    /// After a pipe may have been made larger: it will be looked at.
    pub(super) fn watch_width(&mut self, is_watched: bool) {
        if is_watched {
            self.look_at.get_or_insert(self.now + LOOK);
        }
    }

    /// Makes the larger pipes of those who write little by now ordinary ones.
    pub(super) fn narrow(&mut self) {
        if self.look_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.pipes.values_mut().for_each(|pipe| pipe.cool());
        self.look_at = None;
        let any = self.pipes.values().any(|pipe| pipe.is_watched());
        self.watch_width(any);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 64 * WIDE;

    /// Shown to fail: without the bound 64 of them take all that a user has.
    #[test]
    fn larger_pipes_take_a_quarter_and_are_given_back() {
        let room = PipeRoom::new(LIMIT);
        let mut shares: Vec<Share> = (0..70).map(|_| Share::new(&room, ORDINARY)).collect();
        let wide = shares.iter_mut().filter_map(|share| share.widen().then_some(())).count();
        assert_eq!(wide, 17, "16 MiB");
        assert!(!shares[20].widen(), "no more");
        shares[3].narrow();
        assert!(shares[20].widen(), "the room of another");
        drop(shares);
        assert_eq!((room.pipes.load(Ordering::Relaxed), room.wide.load(Ordering::Relaxed)), (0, 0));
    }

    /// What ordinary pipes need is not taken, and is given back when they come later.
    #[test]
    fn the_pipes_of_many_services_come_first() {
        let room = PipeRoom::new(LIMIT);
        let mut first: Vec<Share> = (0..100).map(|_| Share::new(&room, ORDINARY)).collect();
        let wide = first.iter_mut().filter_map(|share| share.widen().then_some(())).count();
        assert_eq!(wide, 17);
        let _others: Vec<Share> = (0..700).map(|_| Share::new(&room, ORDINARY)).collect();
        let mut given_back = 0;
        for share in &mut first {
            if share.is_too_much() {
                share.narrow();
                given_back += 1;
            }
        }
        let all = 800 * ORDINARY + (17 - given_back) * (WIDE - ORDINARY);
        assert!((1..17).contains(&given_back) && all <= LIMIT, "{given_back} given back, {all} bytes");
        // One of an earlier manager counts, whatever there is.
        let found = Share::new(&room, WIDE);
        assert!(found.is_wide());
    }
}
