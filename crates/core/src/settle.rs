//! From what was asked to what is done: goals through the graph, then one decision for each service, until
//! nothing changes any more.

use alloc::vec::Vec;
use core::cell::Cell;

use crate::action::{Action, Signal};
use crate::cause::Cause;
use crate::decide::{Decision, Goal, decide};
use crate::fact::What;
use crate::id::ServiceId;
use crate::planted::Bug;
use crate::policy::{Condition, Dependency, Reach, RespawnRate, ServiceKind};
use crate::record::Intent;
use crate::restart;
use crate::starts::Line;
use crate::state::{StartPhase, State, WaitFor};
use crate::supervisor::{Step, Supervisor};

impl Step<'_> {
    /// Works off all that was marked, lowest id first. Each pass either moves a service on or drops its mark,
    /// and no move leads back within one moment, so it ends.
    pub(crate) fn settle(&mut self) {
        let (mut passes, most) = (0, self.core.most_passes());
        loop {
            while let Some(id) = self.core.dirty.pop_first() {
                passes += 1;
                debug_assert!(passes <= most, "settling does not end, at service {}", id.0);
                self.want_dependencies(id);
                self.replace_dependents(id);
                if let Some(goal) = self.core.goal(id) {
                    self.carry_out(id, &goal);
                }
                // At once, so that whoever waits for this one is told that it is starting.
                self.release_starts();
            }
            if !self.release_starts() {
                break;
            }
        }
        self.park_the_rest();
    }

    /// A wanted service makes its dependencies wanted too, unless somebody stopped them. Once for each
    /// configuration: after that only a command takes back what is wanted, and it means it.
    fn want_dependencies(&mut self, id: ServiceId) {
        if !self.core.is_wanted(id) {
            return;
        }
        let Some(service) = self.core.services.get(&id) else { return };
        if service.needs_wanted.replace(true) {
            return;
        }
        let idle = |need: &ServiceId| {
            let auto = self.core.record(*need).is_some_and(|r| r.intent == Intent::Auto && !r.retired);
            auto && !self.core.is_wanted(*need)
        };
        let ids: Vec<_> = service.needs.iter().map(|(need, _)| *need).filter(idle).collect();
        for need in ids {
            self.note(What::IntentSet { service: need, intent: Intent::Up });
        }
    }

    /// A life whose dependency, marked `restart: true`, is not as it has to be any more is replaced.
    fn replace_dependents(&mut self, id: ServiceId) {
        let core = &*self.core;
        let Some(service) = core.services.get(&id) else { return };
        let hit = |dependent: &ServiceId| {
            let needs = core.services.get(dependent).map_or(&[][..], |d| &d.needs);
            let lost = needs.iter().any(|(need, how)| *need == id && how.restart && !core.stands(id, *how));
            let record = core.record(*dependent);
            let alive = record.is_some_and(|r| {
                r.replace.is_none() && matches!(r.state, State::Starting { .. } | State::Running { .. })
            });
            lost && alive && core.is_wanted(*dependent)
        };
        let hits: Vec<_> = service.followers.iter().copied().filter(hit).collect();
        for dependent in hits {
            self.note(What::ReplaceSet { service: dependent, cause: Some(Cause::Dependency(id)) });
        }
    }

    fn carry_out(&mut self, id: ServiceId, goal: &Goal) {
        let Some(record) = self.core.record(id) else { return };
        let decision = decide(&record.state, goal, self.core.now);
        let stray = self.core.has_stray(id);
        if stray || !matches!(decision, Decision::Queue { .. }) {
            self.core.starts.remove(id);
        }
        match decision {
            Decision::Stay => {}
            Decision::Queue { automatic } if stray => {
                let to = State::Pending { on: WaitFor::Predecessor, automatic };
                if self.core.record(id).is_some_and(|record| record.state != to) {
                    self.move_to(id, to);
                }
            }
            Decision::Queue { automatic } => {
                let limited = automatic && self.core.manager.respawn_rate.is_some();
                self.core.starts.push(id, if limited { Line::Automatic } else { Line::Asked });
            }
            Decision::Park { on, automatic } => {
                self.move_to(id, State::Pending { on: WaitFor::Dependency(on), automatic });
            }
            Decision::Stop(cause) => self.begin_stop(id, cause),
            Decision::Kill => self.kill_now(id),
            Decision::Rest => self.move_to(id, State::Stopped),
        }
    }

    /// Starts those at the head of the lines for which there is a place; whether there were any. One that is
    /// still marked may not be wanted any more: it waits until it has been looked at.
    fn release_starts(&mut self) -> bool {
        let mut released = false;
        while self.core.tally.slots < self.core.manager.start_parallelism.max(1) {
            let more = u32::from(self.core.has(Bug::OneTooMany));
            let rate = self.core.manager.respawn_rate.map(|r| RespawnRate { count: r.count + more, ..r });
            let turn =
                rate.is_none_or(|r| restart::allowance(&self.core.memory.restarted_at, r, self.core.now) > 0);
            let ready = |line| self.core.starts.first(line).filter(|id| !self.core.dirty.contains(id));
            let automatic = if turn { ready(Line::Automatic) } else { None };
            let Some(id) = automatic.or_else(|| ready(Line::Asked)) else { break };
            self.core.starts.remove(id);
            self.begin_start(id);
            released = true;
        }
        released
    }

    /// Says of those still in line what they wait for.
    fn park_the_rest(&mut self) {
        for id in self.core.starts.take_untold() {
            let Some(record) = self.core.record(id) else { continue };
            let automatic = record.state.leads_to_automatic();
            let on = match self.core.starts.line_of(id) {
                Some(Line::Automatic) => WaitFor::RespawnRate,
                Some(Line::Asked) | None => WaitFor::Slot,
            };
            self.move_to(id, State::Pending { on, automatic });
        }
        // Waiting in line changes nobody's goal: the marks of these moves can go.
        self.core.dirty.clear();
    }
}

impl Supervisor {
    /// More passes than any step can need: each of a few moves of a service marks it and its neighbours.
    fn most_passes(&self) -> usize {
        let services = self.services.len() + 1;
        services.saturating_mul(services).saturating_mul(64)
    }

    /// Whether the service is meant to run.
    #[must_use]
    pub fn is_wanted(&self, id: ServiceId) -> bool {
        let (Some(record), Some(service)) = (self.record(id), self.services.get(&id)) else { return false };
        self.memory.shutdown.is_none()
            && !record.retired
            && match record.intent {
                Intent::Up => true,
                Intent::Down => false,
                Intent::Auto => self.memory.autostart && service.spec.policy.autostart,
            }
    }

    /// The goal of a service, from its own record and its neighbours'.
    #[must_use]
    pub fn goal(&self, id: ServiceId) -> Option<Goal> {
        let (record, service) = (self.record(id)?, self.services.get(&id)?);
        let wanted = self.is_wanted(id);
        if self.has(Bug::RestartsDespiteStop) && matches!(record.state, State::Restarting { .. }) {
            return Some(Goal::Up);
        }
        // Before its process exists nobody lives on it: a start in that stage is called off at once.
        let begun = !matches!(record.state, State::Starting { phase: StartPhase::PreStart { .. }, .. });
        if record.state.is_live() && (!wanted || record.replace.is_some()) {
            if self.memory.shutdown.is_some_and(|shutdown| shutdown.hurry) {
                return Some(Goal::Kill);
            }
            let leaving = |dependent: &ServiceId| self.is_leaving(*dependent);
            if begun
                && !self.has(Bug::StopsInAnyOrder)
                && let Some(first) = look_from(&service.blocked_at, &service.dependents, leaving)
            {
                return Some(Goal::After(*first));
            }
        }
        if !wanted {
            return Some(Goal::Down(self.why_down(record.retired)));
        }
        if let Some(cause) = record.replace.as_ref().filter(|_| record.state.is_live()) {
            return Some(Goal::Replace(Cause::clone(cause)));
        }
        let unmet = look_from(&service.unmet_at, &service.needs, |(need, how)| !self.is_met(*need, *how));
        Some(unmet.map_or(Goal::Up, |(need, _)| Goal::Wait(*need)))
    }

    pub(crate) fn why_down(&self, retired: bool) -> Cause {
        match (self.memory.shutdown.is_some(), retired) {
            (true, _) => Cause::Shutdown,
            (false, true) => Cause::Removed,
            (false, false) => Cause::Asked,
        }
    }

    /// Whether its life is to end for another reason than its own failing.
    pub(crate) fn is_leaving(&self, id: ServiceId) -> bool {
        self.record(id)
            .is_some_and(|record| record.state.is_live() && (record.replace.is_some() || !self.is_wanted(id)))
    }

    /// Whether `dependency` is as `how` demands. One whose life is about to end counts as gone already, so
    /// that nobody starts on it.
    #[must_use]
    pub fn is_met(&self, dependency: ServiceId, how: Dependency) -> bool {
        let usable = || {
            let (record, policy, _) = self.look(dependency)?;
            Some(!matches!(record.state, State::Running { .. }) || record.health.is_usable(&policy.checks))
        };
        self.stands(dependency, how) && (how.condition != Condition::Ready || usable().unwrap_or(false))
    }

    /// The same, whatever its readiness says: one that cannot be used for a while is not down.
    fn stands(&self, dependency: ServiceId, how: Dependency) -> bool {
        let (Some(record), Some(service)) = (self.record(dependency), self.services.get(&dependency)) else {
            return false;
        };
        let oneshot = service.spec.policy.kind == ServiceKind::Oneshot;
        match (&record.state, how.condition) {
            (State::Completed, Condition::Ready) => oneshot,
            (State::Completed, Condition::Started | Condition::Completed) => true,
            (State::Running { .. }, Condition::Started | Condition::Ready)
            | (State::Starting { phase: StartPhase::Alive | StartPhase::Forked, .. }, Condition::Started) => {
                !self.is_leaving(dependency) || self.has(Bug::StartsOnLeaving)
            }
            (
                State::Stopped
                | State::Pending { .. }
                | State::Starting { .. }
                | State::Running { .. }
                | State::Stopping { .. }
                | State::Restarting { .. }
                | State::Failed { .. },
                _,
            ) => false,
        }
    }
}

/// The first of `all` that `is_it`, beginning where the last look ended and going round once.
fn look_from<'a, T>(at: &Cell<usize>, all: &'a [T], is_it: impl Fn(&T) -> bool) -> Option<&'a T> {
    let start = at.get().min(all.len());
    let found = (start..all.len()).chain(0..start).find(|index| is_it(&all[*index]))?;
    at.set(found);
    all.get(found)
}

impl Step<'_> {
    /// SIGKILL to every process of a run.
    pub(crate) fn kill_tree(&mut self, run: crate::id::RunId) {
        if self.core.has(Bug::ForgetsKill) {
            return;
        }
        self.act(Action::Signal { run, signal: Signal::Kill, to: Reach::Tree });
    }
}
