//! What clients have asked for and wait for, beyond the life of this manager.
//!
//! A request that carries a key is noted in the journal with what was so when it came, and each answer to it is.
//! A successor finds what is left of it, asks the core for that again in words that cannot do anything twice, and
//! the client, who comes back with the same key, waits on as if nothing had been.

use std::collections::{BTreeMap, VecDeque};

use relume_core::{Command, Event, Outcome, ServiceId, State, Supervisor, Ticket};
use serde::{Deserialize, Serialize};

use super::edge::Edge;
use super::publish::Note;

/// Set in the tickets of requests with a key; what is below it is the key.
const KEYED: u64 = 1 << 63;

/// Finished ones that are remembered, for clients that have not heard the answer: more than can be served at once.
const FINISHED: usize = 256;

/// The ticket of a request with this key.
pub(crate) fn ticket(key: u64) -> Ticket {
    Ticket(KEYED | key)
}

/// One request with a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Operation {
    pub(crate) ticket: Ticket,
    /// As it was asked.
    command: Command,
    /// Each service with the number of its last run when it was asked for.
    before: Vec<(ServiceId, u64)>,
    pub(crate) answered: Vec<(ServiceId, Outcome)>,
    /// By this manager it was only taken up.
    #[serde(skip)]
    taken_up: bool,
}

impl Operation {
    /// Who has not been answered for.
    pub(crate) fn left(&self) -> impl Iterator<Item = ServiceId> {
        let all = self.before.iter().map(|(id, _)| *id);
        all.filter(|id| self.answered.iter().all(|(other, _)| other != id))
    }

    /// What to ask the core so that it comes to what was asked, done once.
    fn rest(&self, core: &Supervisor) -> Vec<Command> {
        let left: Vec<ServiceId> = self.left().collect();
        match &self.command {
            Command::Restart(_) => {
                let untouched = |id: &ServiceId| {
                    let before = self.before.iter().find(|(other, _)| other == id);
                    core.record(*id).is_some_and(|record| {
                        let live = matches!(record.state, State::Starting { .. } | State::Running { .. });
                        live && record.replace.is_none() && Some(record.generation) == before.map(|(_, n)| *n)
                    })
                };
                let (again, rest) = left.into_iter().partition(untouched);
                vec![Command::Restart(again), Command::Start(rest)]
            }
            Command::Start(_) => vec![Command::Start(left)],
            Command::Stop { .. } => vec![Command::Stop { services: left, with_dependents: false }],
            Command::Reload(_) => vec![Command::Reload(left)],
            // Sent or not: a signal is not sent twice.
            Command::Signal { .. } => Vec::new(),
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    all: BTreeMap<Ticket, Operation>,
    finished: VecDeque<Ticket>,
}

impl Operations {
    /// What an earlier manager has left.
    pub(crate) fn of(all: BTreeMap<Ticket, Operation>) -> Self {
        let finished = all.values().filter(|one| one.left().next().is_none()).map(|one| one.ticket).collect();
        Self { all, finished }
    }

    pub(crate) fn all(&self) -> &BTreeMap<Ticket, Operation> {
        &self.all
    }

    fn insert(&mut self, operation: Operation) {
        self.all.insert(operation.ticket, operation);
    }

    fn answered(&mut self, ticket: Ticket, service: ServiceId, outcome: Outcome) -> Outcome {
        let Some(operation) = self.all.get_mut(&ticket) else { return outcome };
        // It was asked for before, and is so: by what was asked.
        let done = operation.taken_up && outcome == Outcome::Already;
        let outcome = if done { Outcome::Done } else { outcome };
        operation.answered.push((service, outcome.clone()));
        if operation.left().next().is_none() {
            self.finished.push_back(ticket);
            if self.finished.len() > FINISHED
                && let Some(oldest) = self.finished.pop_front()
            {
                self.all.remove(&oldest);
            }
        }
        outcome
    }
}

impl Edge {
    /// All that clients have asked for is noted.
    pub(super) fn say_noted(&mut self) {
        // Whoever has asked may have gone.
        self.asked.drain(..).for_each(|client| _ = client.send(()));
    }

    /// Notes a command that somebody with a key waits for, before anything is done about it.
    pub(crate) fn note_command(&mut self, core: &Supervisor, event: &Event) {
        let Event::Commanded { ticket, command } = event else { return };
        if ticket.0 & KEYED == 0 || self.operations.all.contains_key(ticket) {
            return;
        }
        let ids = match command {
            Command::Start(ids) | Command::Restart(ids) | Command::Reload(ids) => ids,
            Command::Stop { services, .. } | Command::Signal { services, .. } => services,
        };
        let number = |id: &ServiceId| core.record(*id).map_or(0, |record| record.generation);
        let before = ids.iter().map(|id| (*id, number(id))).collect();
        let (ticket, command) = (*ticket, command.clone());
        let operation = Operation { ticket, command, before, answered: Vec::new(), taken_up: false };
        let room = self.journal.asked(&operation);
        self.made_room(room);
        self.operations.insert(operation);
    }

    /// Notes an answer; as it is to be told.
    pub(crate) fn note_answer(&mut self, ticket: Ticket, service: ServiceId, outcome: Outcome) -> Outcome {
        if ticket.0 & KEYED == 0 {
            return outcome;
        }
        let outcome = self.operations.answered(ticket, service, outcome);
        let room = self.journal.answered(ticket, service, &outcome);
        self.made_room(room);
        outcome
    }

    /// Goes on with what clients of an earlier manager wait for.
    pub(crate) fn take_up(&mut self, core: &Supervisor) {
        for operation in self.operations.all.values_mut() {
            operation.taken_up = true;
            let (ticket, left) = (operation.ticket, operation.left().collect());
            self.publisher.send(Note::TakenUp { ticket, left, answered: operation.answered.clone() });
            let commands = operation.rest(core).into_iter();
            self.events.extend(commands.map(|command| Event::Commanded { ticket, command }));
        }
    }
}
