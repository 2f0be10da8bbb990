//! Each command is answered once for each service it named, and what is said to be done is done.

use std::collections::{BTreeMap, BTreeSet};

use relume_core::{Action, Cause, Outcome, Pace, ServiceId, State, Ticket};

use super::View;

/// What a command wants of its services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To run.
    Up,
    /// Not to run.
    Down,
}

/// The answers owed and given.
#[derive(Debug, Default)]
pub struct Tickets {
    wishes: BTreeMap<Ticket, Wish>,
    owed: BTreeSet<(Ticket, ServiceId)>,
    given: BTreeSet<(Ticket, ServiceId)>,
}

impl Tickets {
    /// A command is about to be given.
    pub fn issue(&mut self, ticket: Ticket, wish: Wish, services: &[ServiceId]) {
        self.wishes.insert(ticket, wish);
        self.owed.extend(services.iter().map(|service| (ticket, *service)));
    }

    pub(super) fn manager_died(&mut self) {
        self.wishes.clear();
        self.owed.clear();
    }

    /// The services that clients wait for.
    pub fn waiting(&self) -> impl Iterator<Item = (Ticket, ServiceId)> + '_ {
        self.owed.iter().copied()
    }

    pub(super) fn action(&mut self, view: &View<'_>, action: &Action) -> Result<(), String> {
        let Action::Reply { ticket, service, outcome } = action else { return Ok(()) };
        let name = view.name(*service);
        let Some(wish) = self.wishes.get(ticket) else {
            return Err(format!("an answer about {name} to ticket {}, which nobody holds", ticket.0));
        };
        if !self.given.insert((*ticket, *service)) {
            return Err(format!("ticket {} was answered twice about {name}", ticket.0));
        }
        self.owed.remove(&(*ticket, *service));
        let Some(record) = view.memory.services.get(service) else { return Ok(()) };
        let so = match (outcome, wish) {
            // It was running; the same command started anew what it is restarted with.
            (Outcome::Already, Wish::Up)
                if matches!(record.state, State::Stopping { why: Cause::Dependency(_), .. }) =>
            {
                true
            }
            (Outcome::Done | Outcome::Already, Wish::Up) => matches!(
                record.state,
                State::Running { .. } | State::Completed | State::Restarting { pace: Pace::Prompt, .. }
            ),
            (Outcome::Done | Outcome::Already, Wish::Down) => !record.state.is_live(),
            (Outcome::Failed(_) | Outcome::Superseded | Outcome::Unknown, _) => true,
            // Only who reloads or signals hears that.
            (Outcome::NotRunning, _) => false,
        };
        // A step may end with the decision to shut down, after the answer.
        if so || view.memory.shutdown.is_some() {
            return Ok(());
        }
        Err(format!("{name} is said to be {outcome:?} ({wish:?}), yet it is {:?}", record.state))
    }

    pub(super) fn end(&self) -> Result<(), String> {
        match self.owed.first() {
            Some((ticket, service)) => {
                Err(format!("ticket {} was never answered about service {}", ticket.0, service.0))
            }
            None => Ok(()),
        }
    }
}
