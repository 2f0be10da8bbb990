//! The desk: clients that wait for the outcome of a command, or follow the events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use relume_core::{Outcome, ServiceId, Ticket};
use relume_proto::{EventRecord, Outcome as Word, ServiceResult};
use tokio::sync::oneshot;

use super::board::Board;
use super::tape::{Follower, Tape};
use super::{report, words};

/// Where the answers of the core meet the clients that asked.
#[derive(Debug)]
pub(crate) struct Desk {
    next_ticket: AtomicU64,
    waiting: Mutex<BTreeMap<Ticket, Waiting>>,
    events: Tape,
}

#[derive(Debug)]
struct Waiting {
    left: BTreeSet<ServiceId>,
    results: Vec<ServiceResult>,
    done: Option<oneshot::Sender<()>>,
}

/// One command under way.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) ticket: Ticket,
    /// Resolves when each service has been answered for.
    pub(crate) done: oneshot::Receiver<()>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self { next_ticket: AtomicU64::new(1), waiting: Mutex::default(), events: Tape::new() }
    }

    /// Before a command is sent: its ticket.
    pub(crate) fn claim(&self, services: impl IntoIterator<Item = ServiceId>) -> Claim {
        let ticket = Ticket(self.next_ticket.fetch_add(1, Ordering::Relaxed));
        let (sender, done) = oneshot::channel();
        let left = services.into_iter().collect();
        let waiting = Waiting { left, results: Vec::new(), done: Some(sender) };
        lock(&self.waiting).insert(ticket, waiting);
        Claim { ticket, done }
    }

    /// The same under a ticket that the client has chosen. False beside it: the command was sent before, by this
    /// client too, and is only waited for.
    pub(crate) fn claim_as(
        &self,
        ticket: Ticket,
        services: impl IntoIterator<Item = ServiceId>,
    ) -> (Claim, bool) {
        let (sender, done) = oneshot::channel();
        let mut all = lock(&self.waiting);
        let new = !all.contains_key(&ticket);
        let left = || services.into_iter().collect();
        let known =
            all.entry(ticket).or_insert_with(|| Waiting { left: left(), results: Vec::new(), done: None });
        if known.left.is_empty() {
            let _just_made = sender.send(());
        } else {
            known.done = Some(sender);
        }
        (Claim { ticket, done }, new)
    }

    /// What a client of an earlier manager waits for, and will ask for by its ticket.
    pub(super) fn take_up(
        &self,
        board: &Board,
        ticket: Ticket,
        left: BTreeSet<ServiceId>,
        answered: &[(ServiceId, Outcome)],
    ) {
        let results = answered.iter().map(|(service, outcome)| result(board, *service, outcome)).collect();
        lock(&self.waiting).insert(ticket, Waiting { left, results, done: None });
    }

    /// What has been answered so far, and who has not; the claim ends with it.
    pub(crate) fn collect(&self, ticket: Ticket) -> (Vec<ServiceResult>, BTreeSet<ServiceId>) {
        let waiting = lock(&self.waiting).remove(&ticket);
        waiting.map_or_else(Default::default, |waiting| (waiting.results, waiting.left))
    }

    /// The core's answer for one service.
    pub(super) fn reply(&self, board: &Board, ticket: Ticket, service: ServiceId, outcome: &Outcome) {
        let mut all = lock(&self.waiting);
        // A client that has gone wants no answer.
        let Some(waiting) = all.get_mut(&ticket) else { return };
        waiting.left.remove(&service);
        waiting.results.push(result(board, service, outcome));
        if waiting.left.is_empty()
            && let Some(done) = waiting.done.take()
        {
            let _gone = done.send(());
        }
    }

    /// An event, to all that follow.
    pub(super) fn tell(&self, record: EventRecord) {
        self.events.write(record);
    }

    /// Those kept that came after `seq`, and all to come.
    pub(crate) fn follow(&self, after: u64) -> (Vec<EventRecord>, Follower) {
        self.events.follow(after)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What came of a command for one service, in the words of the API.
fn result(board: &Board, service: ServiceId, outcome: &Outcome) -> ServiceResult {
    let (word, reason) = match outcome {
        Outcome::Done => (Word::Done, None),
        Outcome::Already => (Word::Already, None),
        Outcome::Failed(cause) => (Word::Failed, Some(words::because(board, cause))),
        Outcome::Superseded => (Word::Failed, Some("something else was asked of it meanwhile".to_owned())),
        Outcome::NotRunning => (Word::Failed, Some("it is not running".to_owned())),
        Outcome::Unknown => (Word::Failed, Some("it is no longer configured".to_owned())),
    };
    ServiceResult { outcome: word, reason, ..so_far(board, service) }
}

/// What is so of a service while nothing has come of the command.
pub(crate) fn so_far(board: &Board, service: ServiceId) -> ServiceResult {
    let name = board.name(service).to_owned();
    let now = report::status_report(board, std::slice::from_ref(&name)).services.into_iter().next();
    let now = now.unwrap_or_default();
    ServiceResult {
        service: name,
        state: now.state,
        reason: now.reason,
        pid: now.pid,
        ..ServiceResult::default()
    }
}
