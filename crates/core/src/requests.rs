//! What can be asked of a life without ending it: to read its configuration again, and any signal at all.

use alloc::vec::Vec;

use crate::action::{Action, Outcome, Signal};
use crate::cause::{Cause, Exit};
use crate::id::{Hook, RunId, RunKind, ServiceId, Ticket};
use crate::orders::{Order, Until};
use crate::policy::Reach;
use crate::record::SidePhase;
use crate::state::{StartPhase, State, StopPhase};
use crate::supervisor::{Step, Supervisor};

impl Step<'_> {
    /// Only a service that is ready is asked: one that is still starting has just read its configuration, and
    /// a signal that it has not learned to take yet would end it.
    pub(crate) fn reload(&mut self, ticket: Ticket, id: ServiceId) {
        let Some((record, policy, _)) = self.core.look(id) else { return };
        let State::Running { run, .. } = record.state else {
            return self.reply(ticket, id, Outcome::NotRunning);
        };
        let signal = policy.reload_signal;
        match policy.hooks.reload {
            Some(limit) => {
                let hook = self.begin_hook(id, Hook::Reload, limit);
                self.await_service(id, Order { ticket, until: Until::Reloaded { hook } });
            }
            None => {
                self.act(Action::Signal { run, signal: Signal::Asked(signal), to: Reach::Main });
                self.reply(ticket, id, Outcome::Done);
            }
        }
    }

    /// A `reload_command` is over: whoever waits for it hears how.
    pub(crate) fn answer_reload(&mut self, hook: RunId, exit: Option<Exit>) {
        let outcome = match exit {
            Some(Exit::Code(0)) => Outcome::Done,
            exit => Outcome::Failed(Cause::HookFailed { hook: Hook::Reload, exit }),
        };
        let Some(service) = self.core.services.get_mut(&hook.service) else { return };
        let mine = |order: &Order| order.until == Until::Reloaded { hook };
        let done: Vec<Order> = service.orders.iter().copied().filter(mine).collect();
        service.orders.retain(|order| !mine(order));
        for order in done {
            self.reply(order.ticket, hook.service, outcome.clone());
        }
    }

    /// Sends a signal to a life that has a process.
    pub(crate) fn send(&mut self, ticket: Ticket, id: ServiceId, signal: i32, to: Reach) {
        let Some(record) = self.core.record(id) else { return };
        let outcome = match takes_signals(&record.state, to) {
            Some(run) => {
                self.act(Action::Signal { run, signal: Signal::Asked(signal), to });
                Outcome::Done
            }
            None => Outcome::NotRunning,
        };
        self.reply(ticket, id, outcome);
    }

    /// Commands that speak to a life have nobody to speak to once it is over.
    pub(crate) fn end_askers(&mut self, run: RunId) {
        let Some(record) = self.core.record(run.service) else { return };
        let asks = |kind| matches!(kind, RunKind::Hook(Hook::Stop | Hook::Reload));
        let sides = record.sides.iter().filter(|side| asks(side.kind));
        let askers: Vec<RunId> = sides.map(|side| side.run).collect();
        for asker in askers {
            self.kill_side(asker);
        }
    }

    fn reply(&mut self, ticket: Ticket, service: ServiceId, outcome: Outcome) {
        self.act(Action::Reply { ticket, service, outcome });
    }
}

/// The run whose process a signal can reach.
fn takes_signals(state: &State, to: Reach) -> Option<RunId> {
    match state {
        State::Starting { run, phase: StartPhase::Alive, .. } | State::Running { run, .. } => Some(*run),
        // The main process is not known, the tree is.
        State::Starting { run, phase: StartPhase::Forked, .. } => (to == Reach::Tree).then_some(*run),
        State::Stopping { run, phase, exit, .. } => {
            let there = matches!(
                phase,
                StopPhase::PreStop { .. }
                    | StopPhase::Asked { .. }
                    | StopPhase::Rest { .. }
                    | StopPhase::Killed { .. }
            );
            (there && (exit.is_none() || to == Reach::Tree)).then_some(*run)
        }
        State::Starting { phase: StartPhase::PreStart { .. } | StartPhase::Spawning, .. }
        | State::Stopped
        | State::Pending { .. }
        | State::Restarting { .. }
        | State::Completed
        | State::Failed { .. } => None,
    }
}

impl Supervisor {
    /// Whether a `stop_command` is at it for this life.
    pub(crate) fn is_asking(&self, run: RunId) -> bool {
        self.record(run.service).is_some_and(|record| {
            record.sides.iter().any(|side| {
                let active = matches!(side.phase, SidePhase::Active { .. } | SidePhase::Rest { .. });
                side.kind == RunKind::Hook(Hook::Stop) && active && side.run.generation > run.generation
            })
        })
    }
}
