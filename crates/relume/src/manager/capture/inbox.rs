//! How orders reach the capture threads. Whoever gives one never waits for file work: the lock is held for a few
//! instructions on either side, and the queue is bounded by the streams that exist, not by how fast they are served.
//!
//! It knows which thread has a stream. All streams into one file have the same, for ever: threads take turns by the names of
//! the files, and by the name alone, whatever directory it is in. So two spellings of one path (a link in the middle)
//! cannot give one file to two threads, which would write over each other; a link at its end is refused when it is opened.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use relume_os::epoll::EventFd;

use super::compress::Done;
use super::orders::{Awaited, Moved, Order, Orders};
use super::{LogTarget, Look, Refused, Stream, StreamId};
use crate::output_index::Kind;

/// One of the threads, by number.
pub(super) type Hand = usize;

struct State {
    /// For each thread.
    orders: Vec<Orders>,
    /// Attached and not yet finished, and whose it is; the bound of everything here.
    live: HashMap<StreamId, Hand>,
    finishing: HashSet<StreamId>,
    /// Whose the files of a name are, by its hash: two names of one hash have the same thread, which is right as well.
    /// Kept: there are as many as services.
    names: HashMap<u64, u8>,
    hasher: RandomState,
    /// These threads will take no more orders.
    closed: Vec<bool>,
}

impl State {
    fn hand_for(&mut self, path: &Path) -> Hand {
        // File systems that do not tell letters by their case.
        let name = path.file_name().unwrap_or_default().to_ascii_lowercase();
        let next = self.names.len() % self.orders.len();
        let next = u8::try_from(next).unwrap_or(0);
        Hand::from(*self.names.entry(self.hasher.hash_one(name)).or_insert(next))
    }
}

/// Shared by the handle and the threads.
pub(super) struct Inbox {
    state: Mutex<State>,
    bells: Vec<EventFd>,
    pub(super) passes: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Each held by its thread during a pass, and by whoever halts it.
    passing: Vec<Mutex<()>>,
    /// Somebody waits for them: the threads let them go first.
    halting: AtomicBool,
    /// Streams that are attached are not begun with yet.
    gathering: AtomicBool,
    /// No pass is made any more.
    left: AtomicBool,
    limit: usize,
}

/// While this lives, no thread makes a pass.
pub(crate) struct Halt<'a> {
    inbox: &'a Inbox,
    _passes: Vec<MutexGuard<'a, ()>>,
}

impl Drop for Halt<'_> {
    fn drop(&mut self) {
        self.inbox.halting.store(false, Ordering::Release);
    }
}

/// Between two looks whether the other side has gone on.
const LOOK: Duration = Duration::from_micros(100);

impl Inbox {
    /// For as many threads as there are bells.
    pub(super) fn new(bells: Vec<EventFd>, limit: usize) -> Self {
        let hands = bells.len();
        let state = State {
            orders: (0..hands).map(|_| Orders::default()).collect(),
            live: HashMap::new(),
            finishing: HashSet::new(),
            names: HashMap::new(),
            hasher: RandomState::new(),
            closed: vec![false; hands],
        };
        let (passes, bytes, halting) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let passing = (0..hands).map(|_| Mutex::new(())).collect();
        let (gathering, left) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { state: Mutex::new(state), bells, passes, bytes, passing, halting, gathering, left, limit }
    }

    /// How many threads there are.
    pub(super) fn hands(&self) -> usize {
        self.bells.len()
    }

    /// What rings when there are orders for this thread.
    pub(super) fn bell(&self, hand: Hand) -> &EventFd {
        &self.bells[hand]
    }

    /// Who writes the file at this path.
    pub(super) fn hand_for(&self, path: &Path) -> Hand {
        self.lock().hand_for(path)
    }

    /// Thread: before it takes anything from a pipe; what is returned is held until all of it is in its file.
    pub(super) fn begin_pass(&self, hand: Hand) -> MutexGuard<'_, ()> {
        while self.halting.load(Ordering::Acquire) {
            std::thread::sleep(LOOK);
        }
        self.passing[hand].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn halt(&self, patience: Duration) -> Option<Halt<'_>> {
        let end = Instant::now() + patience;
        self.halting.store(true, Ordering::Release);
        let mut passes = Vec::new();
        while let Some(next) = self.passing.get(passes.len()) {
            match next.try_lock() {
                Ok(pass) => passes.push(pass),
                Err(TryLockError::Poisoned(poisoned)) => passes.push(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(LOOK),
                Err(TryLockError::WouldBlock) => {
                    self.halting.store(false, Ordering::Release);
                    return None;
                }
            }
        }
        Some(Halt { inbox: self, _passes: passes })
    }

    pub(super) fn attach(&self, stream: Stream, look: Option<Look>) -> Result<(), Refused> {
        let mut state = self.lock();
        let hand = state.hand_for(&stream.log.path);
        if state.closed[hand] {
            return Err(Refused::Ended);
        }
        if state.live.contains_key(&stream.id) {
            return Err(Refused::Duplicate);
        }
        if state.live.len() >= self.limit {
            return Err(Refused::Full);
        }
        state.live.insert(stream.id, hand);
        // In one with the stream: its pipe may be read as soon as the thread knows of it.
        state.orders[hand].each.extend(look.map(|look| (stream.id, Order::Look(look))));
        state.orders[hand].attach.push(stream);
        drop(state);
        if !self.gathering.load(Ordering::Acquire) {
            self.ring(hand);
        }
        Ok(())
    }

    pub(super) fn gather(&self) {
        self.gathering.store(true, Ordering::Release);
    }

    pub(super) fn begin(&self) {
        self.gathering.store(false, Ordering::Release);
        (0..self.bells.len()).for_each(|hand| self.ring(hand));
    }

    /// Without the bell.
    pub(super) fn finish_soon(&self, id: StreamId) {
        let mut state = self.lock();
        if let Some(hand) = state.live.get(&id).copied()
            && state.finishing.insert(id)
        {
            state.orders[hand].each.push((id, Order::Finish));
        }
    }

    /// Rings for whoever has orders that he may not have heard of.
    pub(super) fn ring_for_orders(&self) {
        let state = self.lock();
        let waiting: Vec<Hand> =
            (0..self.bells.len()).filter(|hand| !state.orders[*hand].each.is_empty()).collect();
        drop(state);
        waiting.into_iter().for_each(|hand| self.ring(hand));
    }

    pub(super) fn finish(&self, id: StreamId) {
        self.order(id, |state| state.finishing.insert(id).then_some(Order::Finish));
    }

    /// Another thread may have its file: then the present one hands it over.
    pub(super) fn retarget(&self, id: StreamId, target: Arc<LogTarget>) {
        let mut state = self.lock();
        let Some(before) = state.live.get(&id).copied() else { return };
        let hand = state.hand_for(&target.path);
        if hand == before {
            state.orders[hand].retarget.insert(id, target);
        } else if state.closed[hand] {
            return;
        } else {
            state.live.insert(id, hand);
            // The last word of this kind holds, and the earlier ones are not waited for.
            state.orders[before].retarget.remove(&id);
            state.orders[before].each.push((id, Order::Give(target, hand)));
        }
        drop(state);
        self.ring(before);
    }

    /// Thread: the stream belongs to another one now. Back: that one is no more.
    pub(super) fn give(&self, to: Hand, moved: Moved) -> Result<(), Moved> {
        let mut state = self.lock();
        if state.closed[to] {
            return Err(moved);
        }
        state.orders[to].moved.push(moved);
        drop(state);
        self.ring(to);
        Ok(())
    }

    /// Whether the stream is attached and not finished.
    pub(super) fn is_live(&self, id: StreamId) -> bool {
        self.lock().live.contains_key(&id)
    }

    pub(super) fn look_for(&self, id: StreamId, look: Look) {
        self.order(id, |_| Some(Order::Look(look)));
    }

    pub(super) fn reopen(&self) {
        self.all(|orders| orders.reopen = true);
    }

    pub(super) fn mark(&self, id: StreamId, kind: Kind) {
        self.order(id, |state| (!state.finishing.contains(&id)).then_some(Order::Mark(kind)));
    }

    /// The compressing thread of this one has ended a job.
    pub(super) fn compressed(&self, hand: Hand, done: Done) {
        let mut state = self.lock();
        if state.closed[hand] {
            // Nobody is left to put the result in its place; the next rotation makes it again.
            let _leftover = std::fs::remove_file(&done.result);
            return;
        }
        state.orders[hand].compressed.push(done);
        drop(state);
        self.ring(hand);
    }

    /// Whoever writes the file at this path is to take in what its pipes hold.
    pub(super) fn take_in(&self, awaited: Awaited) {
        let mut state = self.lock();
        let hand = state.hand_for(&awaited.path);
        if !state.closed[hand] {
            state.orders[hand].awaited.push(awaited);
            drop(state);
            self.ring(hand);
        }
    }

    pub(super) fn stop(&self) {
        self.all(|orders| orders.stop = true);
    }

    pub(super) fn leave(&self) {
        self.say_leave();
        self.all(|orders| orders.leave = true);
    }

    /// Whoever wakes up leaves; nobody is woken up for it.
    pub(super) fn say_leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    /// Thread: whether this pass is not to be made.
    pub(super) fn leaves(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// Thread: all orders since the last time.
    pub(super) fn take(&self, hand: Hand) -> Orders {
        std::mem::take(&mut self.lock().orders[hand])
    }

    /// Thread: the stream is no more.
    pub(super) fn forget(&self, id: StreamId) {
        let mut state = self.lock();
        state.live.remove(&id);
        state.finishing.remove(&id);
    }

    /// Thread: this was its last pass. What was ordered meanwhile; nothing more comes.
    pub(super) fn close(&self, hand: Hand) -> Orders {
        let mut state = self.lock();
        state.closed[hand] = true;
        std::mem::take(&mut state.orders[hand])
    }

    pub(super) fn count(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    /// To whoever has the stream.
    fn order(&self, id: StreamId, make: impl FnOnce(&mut State) -> Option<Order>) {
        let mut state = self.lock();
        let Some(hand) = state.live.get(&id).copied() else { return };
        if let Some(order) = make(&mut state) {
            state.orders[hand].each.push((id, order));
            drop(state);
            self.ring(hand);
        }
    }

    fn all(&self, order: impl Fn(&mut Orders)) {
        self.lock().orders.iter_mut().for_each(order);
        (0..self.bells.len()).for_each(|hand| self.ring(hand));
    }

    fn ring(&self, hand: Hand) {
        // An eventfd refuses only when its counter is full, and then the thread is awake already.
        let _ = self.bells[hand].signal();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
