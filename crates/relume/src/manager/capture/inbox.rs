//! How orders reach the capture thread. Whoever gives one never waits for file work: the lock is held for a few
//! instructions on either side, and the queue is bounded by the streams that exist, not by how fast they are served.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use relume_os::epoll::EventFd;

use super::compress::Done;
use super::{LogTarget, Look, Refused, Stream, StreamId};
use crate::output_index::Kind;

/// Orders since the thread last looked. They are carried out in the order of the fields.
#[derive(Default)]
pub(super) struct Orders {
    pub(super) attach: Vec<Stream>,
    pub(super) look: Vec<(StreamId, Look)>,
    pub(super) retarget: BTreeMap<StreamId, Arc<LogTarget>>,
    pub(super) reopen: bool,
    pub(super) compressed: Vec<Done>,
    pub(super) marks: Vec<(StreamId, Kind)>,
    pub(super) finish: Vec<StreamId>,
    pub(super) stop: bool,
    /// End as one who is succeeded: what stands in the pipes stays there.
    pub(super) leave: bool,
}

struct State {
    orders: Orders,
    /// Attached and not yet finished; the bound of everything here.
    live: HashSet<StreamId>,
    finishing: HashSet<StreamId>,
    /// No thread will take orders any more.
    closed: bool,
}

/// Shared by the handle and the thread.
pub(super) struct Inbox {
    state: Mutex<State>,
    pub(super) bell: EventFd,
    pub(super) passes: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Held by the thread during a pass, and by whoever halts it.
    pass: Mutex<()>,
    /// Somebody waits for `pass`: the thread lets them go first.
    halting: AtomicBool,
    limit: usize,
}

/// While this lives, the thread makes no pass.
pub(crate) struct Halt<'a> {
    inbox: &'a Inbox,
    _pass: MutexGuard<'a, ()>,
}

impl Drop for Halt<'_> {
    fn drop(&mut self) {
        self.inbox.halting.store(false, Ordering::Release);
    }
}

/// Between two looks whether the other side has gone on.
const LOOK: Duration = Duration::from_micros(100);

impl Inbox {
    pub(super) fn new(bell: EventFd, limit: usize) -> Self {
        let (orders, live, finishing) = (Orders::default(), HashSet::new(), HashSet::new());
        let state = Mutex::new(State { orders, live, finishing, closed: false });
        let (passes, bytes, halting) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        Self { state, bell, passes, bytes, pass: Mutex::new(()), halting, limit }
    }

    /// Thread: before it takes anything from a pipe; what is returned is held until all of it is in its file.
    pub(super) fn begin_pass(&self) -> MutexGuard<'_, ()> {
        while self.halting.load(Ordering::Acquire) {
            std::thread::sleep(LOOK);
        }
        self.pass.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn halt(&self, patience: Duration) -> Option<Halt<'_>> {
        let end = Instant::now() + patience;
        self.halting.store(true, Ordering::Release);
        loop {
            match self.pass.try_lock() {
                Ok(pass) => return Some(Halt { inbox: self, _pass: pass }),
                Err(TryLockError::Poisoned(poisoned)) => {
                    return Some(Halt { inbox: self, _pass: poisoned.into_inner() });
                }
                Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(LOOK),
                Err(TryLockError::WouldBlock) => {
                    self.halting.store(false, Ordering::Release);
                    return None;
                }
            }
        }
    }

    pub(super) fn attach(&self, stream: Stream, look: Option<Look>) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Ended);
        }
        if state.live.contains(&stream.id) {
            return Err(Refused::Duplicate);
        }
        if state.live.len() >= self.limit {
            return Err(Refused::Full);
        }
        state.live.insert(stream.id);
        // In one with the stream: its pipe may be read as soon as the thread knows of it.
        state.orders.look.extend(look.map(|look| (stream.id, look)));
        state.orders.attach.push(stream);
        drop(state);
        self.ring();
        Ok(())
    }

    pub(super) fn finish(&self, id: StreamId) {
        let mut state = self.lock();
        if state.live.contains(&id) && state.finishing.insert(id) {
            state.orders.finish.push(id);
            drop(state);
            self.ring();
        }
    }

    pub(super) fn retarget(&self, id: StreamId, target: Arc<LogTarget>) {
        let mut state = self.lock();
        if state.live.contains(&id) {
            state.orders.retarget.insert(id, target);
            drop(state);
            self.ring();
        }
    }

    pub(super) fn look_for(&self, id: StreamId, look: Look) {
        let mut state = self.lock();
        if state.live.contains(&id) {
            state.orders.look.push((id, look));
            drop(state);
            self.ring();
        }
    }

    pub(super) fn reopen(&self) {
        self.lock().orders.reopen = true;
        self.ring();
    }

    pub(super) fn mark(&self, id: StreamId, kind: Kind) {
        let mut state = self.lock();
        if state.live.contains(&id) && !state.finishing.contains(&id) {
            state.orders.marks.push((id, kind));
            drop(state);
            self.ring();
        }
    }

    /// The compressing thread has ended a job.
    pub(super) fn compressed(&self, done: Done) {
        let mut state = self.lock();
        if state.closed {
            // Nobody is left to put the result in its place; the next rotation makes it again.
            let _leftover = std::fs::remove_file(&done.result);
            return;
        }
        state.orders.compressed.push(done);
        drop(state);
        self.ring();
    }

    pub(super) fn stop(&self) {
        self.lock().orders.stop = true;
        self.ring();
    }

    pub(super) fn leave(&self) {
        self.lock().orders.leave = true;
        self.ring();
    }

    /// Thread: all orders since the last time.
    pub(super) fn take(&self) -> Orders {
        std::mem::take(&mut self.lock().orders)
    }

    /// Thread: the stream is no more.
    pub(super) fn forget(&self, id: StreamId) {
        let mut state = self.lock();
        state.live.remove(&id);
        state.finishing.remove(&id);
    }

    /// Thread: this was the last pass. What was ordered meanwhile is dropped with its pipes.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let dropped = std::mem::take(&mut state.orders);
        drop(state);
        drop(dropped);
    }

    pub(super) fn count(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    fn ring(&self) {
        // An eventfd refuses only when its counter is full, and then the thread is awake already.
        let _ = self.bell.signal();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
