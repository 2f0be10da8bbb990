//! What is to be kept and has not been written: bounded, whatever the disk does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use relume_core::Remembered;
use relume_proto::EventRecord;
use tokio::sync::oneshot;

use super::{Saved, lock};

/// Events that wait to be written; of more the oldest are dropped, and counted. Some megabytes at most.
const MOST_EVENTS: usize = 8192;

/// So many waiting events are worth a transaction of their own.
const MANY_EVENTS: usize = 1024;

/// How long what nobody waits for is collected: one transaction for a burst, and the journal has it meanwhile.
const COLLECT: Duration = Duration::from_millis(500);

/// One question to the history.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) after: u64,
    pub(super) before: u64,
    pub(super) answer: oneshot::Sender<Vec<EventRecord>>,
}

/// Makes the events that an earlier manager may have shown and not written.
pub(super) struct Replay(pub(super) Box<dyn FnOnce() -> Vec<EventRecord> + Send>);

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Replay")
    }
}

/// What is to be written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// By name, the latest.
    pub(super) services: BTreeMap<String, Remembered>,
    pub(super) events: VecDeque<EventRecord>,
    /// Of jobs that were done, what their inputs were.
    pub(super) inputs: BTreeMap<String, String>,
    /// The latest number that was reached.
    pub(super) seq: u64,
    /// Somebody waits for it: to be synced.
    pub(super) asked: bool,
    pub(super) waiting: Vec<oneshot::Sender<Saved>>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty() && self.events.is_empty() && self.inputs.is_empty()
    }
}

/// What the thread finds when it is woken.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) batch: Batch,
    pub(super) questions: Vec<Question>,
    pub(super) replay: Option<Replay>,
    /// Events that were dropped since the last time.
    pub(super) dropped: u64,
    /// It is the last; whether all is down.
    pub(super) closing: Option<bool>,
}

#[derive(Debug, Default)]
struct Inner {
    work: Work,
    /// Since when something has been waiting that nobody waits for.
    since: Option<Instant>,
    /// A batch that somebody has asked for is being written.
    writing: bool,
    /// Nothing will ever be written, and why.
    refused: Option<String>,
    closed: bool,
    /// What is to be told again is not written yet.
    behind: bool,
}

#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { inner: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn remember(&self, service: Remembered, asked: bool) {
        let mut inner = lock(&self.inner);
        let batch = &mut inner.work.batch;
        batch.asked |= asked;
        batch.services.insert(service.name.clone(), service);
        self.is_waiting(&mut inner, asked);
    }

    pub(super) fn inputs(&self, name: &str, digest: String) {
        let mut inner = lock(&self.inner);
        inner.work.batch.inputs.insert(name.to_owned(), digest);
        self.is_waiting(&mut inner, false);
    }

    pub(super) fn event(&self, record: EventRecord) {
        let mut inner = lock(&self.inner);
        let events = &mut inner.work.batch.events;
        events.push_back(record);
        let many = events.len() == MANY_EVENTS;
        inner.shorten();
        self.is_waiting(&mut inner, many);
    }

    pub(super) fn replay(&self, replay: Replay) {
        let mut inner = lock(&self.inner);
        inner.work.replay = Some(replay);
        inner.behind = true;
        self.is_waiting(&mut inner, true);
    }

    pub(super) fn reached(&self, seq: u64) {
        let mut inner = lock(&self.inner);
        inner.work.batch.seq = inner.work.batch.seq.max(seq);
    }

    pub(super) fn saved(&self) -> oneshot::Receiver<Saved> {
        let (tell, saved) = oneshot::channel();
        let mut inner = lock(&self.inner);
        if let Some(why) = &inner.refused {
            // It cannot be gone: it was made here.
            let _here = tell.send(Saved::No(why.clone()));
        } else if inner.closed || !(inner.work.batch.asked || inner.writing) {
            let _here = tell.send(Saved::Yes);
        } else {
            inner.work.batch.waiting.push(tell);
            self.changed.notify_one();
        }
        saved
    }

    /// What was to be told again is written.
    pub(super) fn caught_up(&self) {
        lock(&self.inner).behind = false;
    }

    /// Whether something that is to be told again is not written, and may be some day.
    pub(super) fn is_behind(&self) -> bool {
        let inner = lock(&self.inner);
        inner.behind && inner.refused.is_none()
    }

    /// Nothing will ever be written.
    pub(super) fn refuse(&self, why: &str) {
        lock(&self.inner).refused = Some(why.to_owned());
    }

    pub(super) fn history(&self, after: u64, before: u64) -> oneshot::Receiver<Vec<EventRecord>> {
        let (answer, told) = oneshot::channel();
        let mut inner = lock(&self.inner);
        if !inner.closed {
            inner.work.questions.push(Question { after, before, answer });
            self.changed.notify_one();
        }
        told
    }

    pub(super) fn close(&self, in_order: bool) {
        lock(&self.inner).work.closing = Some(in_order);
        self.changed.notify_one();
    }

    fn is_waiting(&self, inner: &mut Inner, now: bool) {
        let first = inner.since.is_none();
        inner.since.get_or_insert_with(Instant::now);
        if first || now {
            self.changed.notify_one();
        }
    }

    /// Waits until there is something to do. `not_before`: until then the disk is left alone.
    pub(super) fn wait(&self, not_before: Option<Instant>) -> Work {
        let mut inner = lock(&self.inner);
        inner.writing = false;
        loop {
            let now = Instant::now();
            let held = not_before.filter(|at| *at > now);
            let due = match held {
                Some(at) => inner.since.map(|_| at),
                None => inner.due(now),
            };
            // Who waits is told at once that it cannot be done now.
            let asked = !inner.work.questions.is_empty() || !inner.work.batch.waiting.is_empty();
            if asked || inner.work.closing.is_some() || due.is_some_and(|at| at <= now) {
                break;
            }
            inner = match due {
                Some(at) => {
                    let waited = self.changed.wait_timeout(inner, at.saturating_duration_since(now));
                    waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
                }
                None => self.changed.wait(inner).unwrap_or_else(std::sync::PoisonError::into_inner),
            };
        }
        inner.closed = inner.work.closing.is_some();
        inner.since = None;
        let work = std::mem::take(&mut inner.work);
        inner.work.batch.seq = work.batch.seq;
        inner.writing = work.batch.asked;
        work
    }

    /// What could not be written waits on; what has come since is newer.
    pub(super) fn put_back(&self, batch: Batch) {
        let mut inner = lock(&self.inner);
        for (name, service) in batch.services {
            inner.work.batch.services.entry(name).or_insert(service);
        }
        for (name, digest) in batch.inputs {
            inner.work.batch.inputs.entry(name).or_insert(digest);
        }
        let mut events = batch.events;
        events.append(&mut inner.work.batch.events);
        inner.work.batch.events = events;
        inner.shorten();
        inner.work.batch.asked |= batch.asked;
        if !inner.work.batch.is_empty() {
            inner.since.get_or_insert_with(Instant::now);
        }
    }
}

impl Inner {
    fn due(&self, now: Instant) -> Option<Instant> {
        let urgent = self.work.batch.asked
            || self.work.replay.is_some()
            || self.work.batch.events.len() >= MANY_EVENTS;
        self.since.map(|since| if urgent { now } else { since + COLLECT })
    }

    fn shorten(&mut self) {
        while self.work.batch.events.len() > MOST_EVENTS {
            self.work.batch.events.pop_front();
            self.work.dropped += 1;
        }
    }
}
