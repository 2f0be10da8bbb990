//! Commands, and the answers owed for them: each ticket is answered once for each service it named.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::action::{Action, Outcome};
use crate::cause::{Cause, Exit};
use crate::event::Command;
use crate::fact::What;
use crate::id::{RunId, ServiceId, Ticket};
use crate::planted::Bug;
use crate::policy::ExitWhen;
use crate::record::{History, Intent};
use crate::state::{Pace, State, WaitFor};
use crate::supervisor::{Step, Supervisor};

/// A client that waits for one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) ticket: Ticket,
    pub(crate) until: Until,
}

/// What it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Ready, by a run later than this generation.
    Up { after: u64 },
    /// No life under way.
    Down,
    /// The end of this `reload_command`, which answers by itself.
    Reloaded { hook: RunId },
}

impl Step<'_> {
    pub(crate) fn obey(&mut self, ticket: Ticket, command: Command) {
        match command {
            Command::Start(services) => {
                self.each_known(ticket, services, |step, id| step.start(ticket, id));
            }
            Command::Restart(services) => {
                self.each_known(ticket, services, |step, id| step.restart(ticket, id));
            }
            Command::Stop { services, with_dependents } => {
                let services = if with_dependents { self.core.with_dependents(&services) } else { services };
                self.each_known(ticket, services, |step, id| step.stop(ticket, id));
            }
            Command::Reload(services) => {
                self.each_known(ticket, services, |step, id| step.reload(ticket, id));
            }
            Command::Signal { services, signal, to } => {
                self.each_known(ticket, services, |step, id| step.send(ticket, id, signal, to));
            }
        }
    }

    fn each_known(&mut self, ticket: Ticket, services: Vec<ServiceId>, each: impl Fn(&mut Self, ServiceId)) {
        let mut seen = BTreeSet::new();
        for service in services.into_iter().filter(|service| seen.insert(*service)) {
            if self.core.record(service).is_none_or(|record| record.retired) {
                self.act(Action::Reply { ticket, service, outcome: Outcome::Unknown });
            } else if self.core.memory.shutdown.is_some() {
                self.act(Action::Reply { ticket, service, outcome: Outcome::Superseded });
            } else {
                each(self, service);
            }
        }
    }

    fn start(&mut self, ticket: Ticket, id: ServiceId) {
        let Some(record) = self.core.record(id) else { return };
        let state = record.state.clone();
        let running = matches!(state, State::Running { .. }) && record.replace.is_none();
        // A life under way counts, unless it is to be replaced. (The record's own number may be that of a hook.)
        let counts = u64::from(record.replace.is_none());
        let generation = state.run().map_or(record.generation, |run| run.generation - counts);
        if matches!(state, State::Stopping { .. }) {
            // Its end is awaited first; what counts is the life after it, which follows without delay.
            return self.restart(ticket, id);
        }
        self.want_up(id);
        self.bring_needs(id);
        if running {
            self.act(Action::Reply { ticket, service: id, outcome: Outcome::Already });
            return;
        }
        self.kick(id);
        self.await_service(id, Order { ticket, until: Until::Up { after: generation } });
    }

    fn restart(&mut self, ticket: Ticket, id: ServiceId) {
        let Some(record) = self.core.record(id) else { return };
        let generation = record.generation;
        match record.state {
            // Whatever one that stops is being stopped for, a new life follows without delay.
            State::Starting { .. } | State::Running { .. } | State::Stopping { .. } => {
                self.want_up(id);
                self.set_history(id, History::default());
                self.note(What::ReplaceSet { service: id, cause: Some(Cause::Asked) });
                self.bring_needs(id);
                self.await_service(id, Order { ticket, until: Until::Up { after: generation } });
            }
            State::Stopped
            | State::Pending { .. }
            | State::Restarting { .. }
            | State::Completed
            | State::Failed { .. } => self.start(ticket, id),
        }
    }

    fn stop(&mut self, ticket: Ticket, id: ServiceId) {
        let Some(record) = self.core.record(id) else { return };
        let live = record.state.is_live();
        let still = matches!(record.state, State::Stopped | State::Completed | State::Failed { .. });
        if record.intent != Intent::Down {
            self.note(What::IntentSet { service: id, intent: Intent::Down });
        }
        // What the present life was to be replaced for still holds, should a start come before its end.
        if still && !live {
            if matches!(self.core.record(id), Some(r) if matches!(r.state, State::Failed { .. })) {
                self.move_to(id, State::Stopped);
            }
            self.act(Action::Reply { ticket, service: id, outcome: Outcome::Already });
        } else {
            self.await_service(id, Order { ticket, until: Until::Down });
        }
    }

    /// What a service depends on comes up with it: somebody's stop is taken back, and what would stay down,
    /// or would for long, is tried now.
    fn bring_needs(&mut self, id: ServiceId) {
        for need in self.core.with_needs(id) {
            if matches!(self.core.record(need), Some(r) if r.intent == Intent::Down) {
                self.want_up(need);
            }
            if self.core.is_stuck(need) {
                self.kick(need);
            }
        }
    }

    fn want_up(&mut self, id: ServiceId) {
        if self.core.record(id).is_some_and(|record| record.intent != Intent::Up) {
            self.note(What::IntentSet { service: id, intent: Intent::Up });
        }
    }

    /// Gets a service that rests or waits for its next attempt going now, with a clean history.
    pub(crate) fn kick(&mut self, id: ServiceId) {
        let Some(record) = self.core.record(id) else { return };
        let resting = matches!(
            record.state,
            State::Restarting { .. }
                | State::Completed
                | State::Failed { .. }
                | State::Pending { automatic: true, .. }
        );
        self.set_history(id, History::default());
        if resting {
            // Out of the line of automatic restarts: this start was asked for.
            self.core.starts.remove(id);
            self.move_to(id, State::Pending { on: WaitFor::Nothing, automatic: false });
        }
    }

    pub(crate) fn await_service(&mut self, id: ServiceId, order: Order) {
        let forgetful = self.core.has(Bug::LosesTicket);
        if let Some(service) = self.core.services.get_mut(&id) {
            if service.orders.is_empty() || !forgetful {
                service.orders.push(order);
            }
            self.core.awaited.insert(id);
        }
    }

    /// Answers all whose wait is over.
    pub(crate) fn answer(&mut self) {
        let awaited: Vec<ServiceId> = self.core.awaited.iter().copied().collect();
        for id in awaited {
            let Some(service) = self.core.services.get_mut(&id) else { continue };
            let orders = core::mem::take(&mut service.orders);
            let (open, done): (Vec<_>, Vec<_>) = orders
                .into_iter()
                .map(|order| (order, self.core.outcome(id, order.until)))
                .partition(|(_, outcome)| outcome.is_none());
            for (order, outcome) in done {
                if let Some(outcome) = outcome {
                    self.act(Action::Reply { ticket: order.ticket, service: id, outcome });
                }
            }
            if open.is_empty() {
                self.core.awaited.remove(&id);
            }
            if let Some(service) = self.core.services.get_mut(&id) {
                service.orders = open.into_iter().map(|(order, _)| order).collect();
            }
        }
    }

    /// Forgets retired services of which nothing runs any more.
    pub(crate) fn forget(&mut self) {
        let quiet = |id: &ServiceId| self.core.record(*id).is_none_or(|record| !record.is_busy());
        let gone: Vec<ServiceId> = self.core.retired.iter().copied().filter(quiet).collect();
        for id in gone {
            if let Some(service) = self.core.services.remove(&id) {
                for order in service.orders {
                    let outcome = Outcome::Superseded;
                    self.act(Action::Reply { ticket: order.ticket, service: id, outcome });
                }
                self.core.names.remove(&service.spec.name);
            }
            self.core.awaited.remove(&id);
            self.core.retired.remove(&id);
            self.core.starts.remove(id);
            self.note(What::Removed { service: id });
            self.core.dirty.remove(&id);
        }
    }
}

impl Supervisor {
    fn outcome(&self, id: ServiceId, until: Until) -> Option<Outcome> {
        let (record, service) = (self.record(id)?, self.services.get(&id)?);
        match until {
            Until::Reloaded { hook } => self.side(hook).is_none().then_some(Outcome::Superseded),
            Until::Down if self.is_wanted(id) => Some(Outcome::Superseded),
            Until::Down => (!record.state.is_live()).then_some(Outcome::Done),
            Until::Up { .. } if !self.is_wanted(id) => Some(Outcome::Superseded),
            Until::Up { after } => match &record.state {
                State::Running { run, .. } => (run.generation > after).then_some(Outcome::Done),
                State::Completed => (record.generation > after).then_some(Outcome::Done),
                State::Failed { cause, .. } => Some(Outcome::Failed(cause.clone())),
                State::Restarting { cause, pace: Pace::Backoff | Pace::Slow, .. } => {
                    (record.generation > after).then(|| Outcome::Failed(cause.clone()))
                }
                State::Restarting { cause, .. } => {
                    let ended = !cause.is_failure(&service.spec.policy.restart);
                    (ended && record.generation > after).then_some(Outcome::Done)
                }
                State::Pending { on: WaitFor::Dependency(need), .. } => {
                    self.hopeless(*need).map(|need| Outcome::Failed(Cause::Dependency(need)))
                }
                State::Stopped | State::Pending { .. } | State::Starting { .. } | State::Stopping { .. } => {
                    None
                }
            },
        }
    }

    /// Whether a dependency is down and stays so, or will for long, unless somebody asks for it; a completed
    /// one only if that is not what its dependents wait for.
    fn is_stuck(&self, id: ServiceId) -> bool {
        let Some(record) = self.record(id) else { return true };
        match record.state {
            State::Failed { .. } | State::Restarting { pace: Pace::Slow, .. } => true,
            State::Completed => self.dependents(id).iter().any(|dependent| {
                let needs = self.services.get(dependent).map_or(&[][..], |service| &service.needs);
                needs.iter().any(|(need, how)| *need == id && !self.is_met(id, *how))
            }),
            State::Stopped => !self.is_wanted(id),
            State::Pending { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Restarting { .. } => false,
        }
    }

    /// The dependency at the end of the waiting for `need`, if it does not come up by itself.
    fn hopeless(&self, need: ServiceId) -> Option<ServiceId> {
        let mut at = need;
        while let Some(State::Pending { on: WaitFor::Dependency(next), .. }) =
            self.record(at).map(|r| &r.state)
        {
            at = *next;
        }
        self.is_stuck(at).then_some(at)
    }

    /// These and all that depend on them, however indirectly.
    #[must_use]
    pub fn with_dependents(&self, services: &[ServiceId]) -> Vec<ServiceId> {
        let next = |id: ServiceId| self.dependents(id).to_vec();
        let mut all = closure(services, next);
        // The edges of services that left the configuration outlive them.
        let here = |id: &ServiceId| self.record(*id).is_some_and(|record| !record.retired);
        all.retain(|id| services.contains(id) || here(id));
        all
    }

    /// All that the service depends on, however indirectly.
    fn with_needs(&self, service: ServiceId) -> Vec<ServiceId> {
        let next = |id: ServiceId| {
            self.services.get(&id).map_or(Vec::new(), |s| s.needs.iter().map(|(need, _)| *need).collect())
        };
        let mut all = closure(&[service], next);
        all.retain(|id| *id != service);
        all
    }

    /// The exit code, when `exit_when` says that it is time to leave.
    pub(crate) fn exit_code_now(&self) -> Option<i32> {
        let failed = |record: &&crate::record::Record| {
            matches!(record.state, State::Failed { .. } | State::Restarting { pace: Pace::Slow, .. })
        };
        let code = || {
            let record = self.memory.services.values().find(failed)?;
            let exit = record.last_end.as_ref().and_then(|end| end.exit).unwrap_or(Exit::Unknown);
            Some(match exit.shell_code() {
                0 => 1,
                code => code,
            })
        };
        match self.manager.exit_when {
            ExitWhen::Never => None,
            ExitWhen::AllDone if self.tally.unfinished > 0 || self.tally.busy > 0 => None,
            ExitWhen::AllDone => (!self.services.is_empty()).then(|| code().unwrap_or(0)),
            ExitWhen::AnyFailed => code(),
        }
    }
}

fn closure(start: &[ServiceId], next: impl Fn(ServiceId) -> Vec<ServiceId>) -> Vec<ServiceId> {
    let mut seen: BTreeSet<ServiceId> = start.iter().copied().collect();
    let mut all: Vec<ServiceId> = start.to_vec();
    let mut at = 0;
    while let Some(id) = all.get(at).copied() {
        at += 1;
        all.extend(next(id).into_iter().filter(|other| seen.insert(*other)));
    }
    all
}
