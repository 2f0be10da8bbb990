//! The first movement of a step: one event, or a deadline, and what it makes so for one service.

use crate::action::Action;
use crate::cause::{Cause, Exit, SpawnError};
use crate::event::{Event, Rest};
use crate::fact::What;
use crate::id::{RunId, ServiceId};
use crate::lives::KILL_AGAIN;
use crate::moment::Moment;
use crate::planted::Bug;
use crate::policy::ServiceKind;
use crate::record::{Intent, SidePhase};
use crate::state::{StartPhase, State, StopPhase};
use crate::supervisor::Step;

impl Step<'_> {
    pub(crate) fn absorb(&mut self, event: Event) {
        match event {
            Event::Tick => {}
            Event::Configured(config) => self.configure(config),
            Event::Commanded { ticket, command } => self.obey(ticket, command),
            Event::Returned { planned, cause, took_us } => {
                self.note(What::Returned { planned, cause, took_us });
            }
            Event::ShutdownAsked { hurry, forget } => {
                self.shut_down(hurry, 0);
                if forget {
                    self.forget_stops();
                }
            }
            Event::Spawned { run } => match self.core.side(run) {
                Some(side) => self.side_spawned(side),
                None => self.spawned(run),
            },
            Event::SpawnFailed { run, error } => match self.core.side(run) {
                Some(side) => self.side_over(side, None, Some(error)),
                None => self.spawn_failed(run, error),
            },
            Event::Exited { run, exit, rest } => match self.core.side(run) {
                Some(side) => self.side_exited(side, exit, rest),
                None => self.exited(run, exit, rest),
            },
            Event::Emptied { run } => match self.core.side(run) {
                Some(side) => self.side_emptied(side),
                None => self.emptied(run),
            },
            Event::Ready { run } => self.ready(run),
            Event::MainFound { run } => match self.core.state_of(run) {
                Some(State::Starting { phase: StartPhase::Forked, .. }) => self.become_ready(run),
                _ => self.note(What::Stale { run }),
            },
            Event::Probed { run, check, failure, counts } => self.probed(run, check, failure, counts),
            Event::ProbeDue { run, check } => self.probe_due(run, check),
            Event::AlertDue { service, which } => self.alert_due(service, which),
            Event::Silent { run } => self.silent(run),
            Event::TooMuchMemory { run, used, limit } => self.too_much_memory(run, used, limit),
            Event::Noticed { service, text } => self.noticed(service, text),
            Event::Extended { run, by } => self.extend(run, by),
        }
    }

    /// Stops everything; asked again, or with hurry, it only gets more urgent.
    pub(crate) fn shut_down(&mut self, hurry: bool, code: i32) {
        let (known, code) = match self.core.memory.shutdown {
            Some(known) => (known.hurry, known.code),
            None => (false, code),
        };
        if self.core.memory.shutdown.is_none() || (hurry && !known) {
            self.note(What::ShutdownBegan { hurry, code });
            self.core.dirty.extend(self.core.services.keys().copied());
            if hurry {
                self.kill_sides();
            }
        }
    }

    /// Takes back every stop on request. Only with a shutdown: nobody starts by it now.
    fn forget_stops(&mut self) {
        let records = self.core.memory.services.iter();
        let stopped = records.filter(|(_, record)| record.intent == Intent::Down).map(|(id, _)| *id);
        for service in stopped.collect::<alloc::vec::Vec<ServiceId>>() {
            self.note(What::IntentSet { service, intent: Intent::Auto });
        }
    }

    fn kill_sides(&mut self) {
        let records = self.core.memory.services.values();
        let runs: alloc::vec::Vec<RunId> = records.flat_map(|r| r.sides.iter().map(|s| s.run)).collect();
        for run in runs {
            self.kill_side(run);
        }
    }

    fn spawned(&mut self, run: RunId) {
        match self.core.state_of(run).cloned() {
            Some(State::Starting { phase: StartPhase::Spawning, since, give_up_at, slot_until, .. }) => {
                let simple = self.core.kind_of(run.service) == Some(ServiceKind::Simple);
                if simple {
                    self.become_ready(run);
                } else {
                    let phase = StartPhase::Alive;
                    let to = State::Starting { run, phase, since, give_up_at, slot_until };
                    self.move_to(run.service, to);
                }
            }
            Some(State::Stopping { phase: StopPhase::AwaitSpawn { .. }, .. }) => self.ask_now(run),
            Some(State::Stopping { phase: StopPhase::Killed { .. }, .. }) => self.kill_tree(run),
            _ => self.note(What::Stale { run }),
        }
    }

    fn spawn_failed(&mut self, run: RunId, error: SpawnError) {
        match self.core.state_of(run).cloned() {
            Some(State::Starting { phase: StartPhase::Spawning, .. }) => {
                self.over(run, Cause::SpawnFailed(error), None);
            }
            Some(State::Stopping {
                why,
                phase: StopPhase::AwaitSpawn { .. } | StopPhase::Killed { .. },
                exit: None,
                ..
            }) => self.over(run, why, None),
            _ => self.note(What::Stale { run }),
        }
    }

    /// Nothing is waited for any more where the process exists and the configuration asks no longer.
    pub(crate) fn wait_no_longer(&mut self, run: RunId) {
        let simple = self.core.kind_of(run.service) == Some(ServiceKind::Simple);
        if let Some(State::Starting { phase: StartPhase::Alive, .. }) =
            self.core.state_of(run).filter(|_| simple)
        {
            self.become_ready(run);
        }
    }

    fn ready(&mut self, run: RunId) {
        let notifies = self.core.kind_of(run.service) == Some(ServiceKind::Notify);
        match self.core.state_of(run) {
            // The word may overtake the edge's own news that the process exists.
            Some(State::Starting { phase: StartPhase::Spawning | StartPhase::Alive, .. }) if notifies => {
                self.become_ready(run);
            }
            _ => self.note(What::Stale { run }),
        }
    }

    fn exited(&mut self, run: RunId, exit: Exit, rest: Rest) {
        let rest = if self.core.has(Bug::ForgetsRest) { Rest::Gone } else { rest };
        let Some(state) = self.core.state_of(run).cloned() else { return self.note(What::Stale { run }) };
        match state {
            State::Starting { phase: StartPhase::PreStart { .. }, .. }
            | State::Stopping { phase: StopPhase::Cancel { .. } | StopPhase::PostStop { .. }, .. } => {
                self.note(What::Stale { run });
            }
            State::Stopping { why, exit: Some(known), .. } => match rest {
                Rest::Gone => self.over(run, why, Some(known)),
                Rest::Alive => self.note(What::Stale { run }),
            },
            // The launcher's end, told again; the main process is not known yet, so it cannot be its.
            State::Starting { phase: StartPhase::Forked, .. } => match rest {
                Rest::Gone => self.over(run, Cause::LeftNothing, Some(exit)),
                Rest::Alive => self.note(What::Stale { run }),
            },
            State::Starting { phase: StartPhase::Spawning | StartPhase::Alive, .. }
                if self.leaves_a_daemon(run, exit) =>
            {
                self.launcher_ended(run, exit, rest);
            }
            State::Starting { .. } | State::Running { .. } => match rest {
                Rest::Gone => self.over(run, Cause::Exited(exit), Some(exit)),
                Rest::Alive => {
                    self.hint_at_forking(run, exit);
                    self.stop_rest(run, Cause::Exited(exit), exit);
                }
            },
            State::Stopping { why, phase, ready_at, exit: None, .. } => match (phase, rest) {
                (_, Rest::Gone) => self.over_after(run, why, phase, exit),
                (StopPhase::Killed { .. }, Rest::Alive) => {
                    let to = State::Stopping { run, why, phase, exit: Some(exit), ready_at };
                    self.move_to(run.service, to);
                }
                (_, Rest::Alive) => {
                    self.drop_pre_stop(phase);
                    self.stop_rest(run, why, exit);
                }
            },
            State::Stopped
            | State::Pending { .. }
            | State::Restarting { .. }
            | State::Completed
            | State::Failed { .. } => self.note(What::Stale { run }),
        }
    }

    /// A run being stopped is over; a `pre_stop` hook that still runs has lost its purpose.
    fn over_after(&mut self, run: RunId, why: Cause, phase: StopPhase, exit: Exit) {
        self.drop_pre_stop(phase);
        self.over(run, why, Some(exit));
    }

    fn drop_pre_stop(&mut self, phase: StopPhase) {
        if let StopPhase::PreStop { hook } = phase {
            self.kill_side(hook);
        }
    }

    fn leaves_a_daemon(&self, run: RunId, exit: Exit) -> bool {
        self.core.look(run.service).is_some_and(|(_, policy, _)| {
            policy.kind == ServiceKind::Forking && exit.is_success(&policy.restart)
        })
    }

    fn launcher_ended(&mut self, run: RunId, exit: Exit, rest: Rest) {
        if rest == Rest::Gone {
            return self.over(run, Cause::LeftNothing, Some(exit));
        }
        if let Some(State::Starting { since, give_up_at, slot_until, .. }) = self.core.state_of(run).cloned()
        {
            let phase = StartPhase::Forked;
            self.move_to(run.service, State::Starting { run, phase, since, give_up_at, slot_until });
            self.act(Action::FindMain { run });
        }
    }

    fn hint_at_forking(&mut self, run: RunId, exit: Exit) {
        let daemonizes = self.core.look(run.service).is_some_and(|(_, policy, _)| {
            matches!(policy.kind, ServiceKind::Simple | ServiceKind::Notify)
                && exit.is_success(&policy.restart)
        });
        if daemonizes {
            self.note(What::LooksForking { run });
        }
    }

    fn emptied(&mut self, run: RunId) {
        let Some(state) = self.core.state_of(run).cloned() else { return self.note(What::Stale { run }) };
        match state {
            State::Starting { phase: StartPhase::Forked, .. } => self.over(run, Cause::LeftNothing, None),
            State::Stopping { phase: StopPhase::Cancel { .. } | StopPhase::PostStop { .. }, .. }
            | State::Starting { phase: StartPhase::PreStart { .. }, .. } => self.note(What::Stale { run }),
            State::Stopping { why, exit: Some(exit), .. } => self.over(run, why, Some(exit)),
            // The tree is gone and nobody saw the main process end.
            State::Stopping { why, phase, exit: None, .. } => self.over_after(run, why, phase, Exit::Unknown),
            State::Starting { .. } | State::Running { .. } => {
                self.over(run, Cause::Exited(Exit::Unknown), Some(Exit::Unknown));
            }
            State::Stopped
            | State::Pending { .. }
            | State::Restarting { .. }
            | State::Completed
            | State::Failed { .. } => self.note(What::Stale { run }),
        }
    }
}

impl Step<'_> {
    /// Everything that is due by now.
    pub(crate) fn absorb_deadlines(&mut self) {
        while let Some((at, id)) = self.core.deadlines.first().copied().filter(|(at, _)| *at <= self.core.now)
        {
            // First, because what follows may be due at this very moment too: a time limit can be zero. What
            // is due and does not move is a restart that waits for its turn.
            self.core.deadlines.remove(&(at, id));
            self.core.dirty.insert(id);
            self.due(id);
        }
    }

    fn due(&mut self, id: ServiceId) {
        let now = self.core.now;
        self.due_sides(id);
        let Some(record) = self.core.record(id) else { return };
        match record.state.clone() {
            State::Starting { run, phase, since, give_up_at, slot_until } => {
                if give_up_at.is_some_and(|at| at <= now) {
                    self.begin_stop(id, Cause::StartTimeout);
                } else if slot_until.is_some_and(|at| at <= now) {
                    let to = State::Starting { run, phase, since, give_up_at, slot_until: None };
                    self.move_to(id, to);
                }
            }
            State::Stopping { run, why, phase: StopPhase::Killed { again_at }, exit, ready_at } => {
                if again_at <= now {
                    let phase = StopPhase::Killed { again_at: now.after(KILL_AGAIN) };
                    self.move_to(id, State::Stopping { run, why, phase, exit, ready_at });
                    self.note(What::StillAlive { run });
                    self.kill_tree(run);
                }
            }
            State::Stopping {
                phase:
                    StopPhase::AwaitSpawn { kill_at: Some(at) }
                    | StopPhase::Asked { kill_at: Some(at) }
                    | StopPhase::Rest { kill_at: Some(at) },
                ..
            } if at <= now => self.kill_now(id),
            State::Restarting { .. }
            | State::Stopping { .. }
            | State::Stopped
            | State::Pending { .. }
            | State::Running { .. }
            | State::Completed
            | State::Failed { .. } => {}
        }
    }

    fn due_sides(&mut self, id: ServiceId) {
        let now = self.core.now;
        let Some(record) = self.core.record(id) else { return };
        let due: alloc::vec::Vec<_> =
            record.sides.iter().filter(|side| side.phase.deadline() <= now).copied().collect();
        for side in due {
            match side.phase {
                SidePhase::Active { .. } | SidePhase::Rest { .. } => {
                    self.kill_side(side.run);
                    self.probe_late(side);
                }
                SidePhase::Killed { exit, .. } => {
                    let phase = SidePhase::Killed { again_at: now.after(KILL_AGAIN), exit };
                    self.note(What::SideMoved { run: side.run, kind: side.kind, phase });
                    self.note(What::StillAlive { run: side.run });
                    self.kill_tree(side.run);
                }
            }
        }
    }

    /// Leaves once everything is down; begins to bring it down where `exit_when` says so.
    pub(crate) fn leave(&mut self) {
        if self.core.memory.shutdown.is_none()
            && let Some(code) = self.core.exit_code_now()
        {
            self.shut_down(false, code);
            self.settle();
            self.answer();
        }
        let Some(shutdown) = self.core.memory.shutdown else { return };
        if self.core.tally.busy == 0 && !self.core.left {
            self.core.left = true;
            self.act(Action::Leave { code: shutdown.code });
        }
    }
}

impl crate::supervisor::Supervisor {
    /// The state of the service, if this is its present main run.
    fn state_of(&self, run: RunId) -> Option<&State> {
        self.record(run.service)
            .map(|record| &record.state)
            .filter(|state| state.run() == Some(run) || (state.is_live() && self.has(Bug::ForgetsGeneration)))
    }

    fn kind_of(&self, service: ServiceId) -> Option<ServiceKind> {
        self.look(service).map(|(_, policy, _)| policy.kind)
    }

    /// The deadline index as it should be, for the invariants.
    pub(crate) fn deadline_is_indexed(&self, id: ServiceId, at: Moment) -> bool {
        self.deadlines.contains(&(at, id)) || at <= self.now
    }
}
