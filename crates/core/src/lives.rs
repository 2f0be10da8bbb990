//! One life of a service: how it begins, how it is ended, and what follows.

use crate::action::{Action, Signal};
use crate::cause::{Cause, Exit};
use crate::fact::What;
use crate::id::{Hook, RunId, RunKind, ServiceId};
use crate::moment::Moment;
use crate::planted::Bug;
use crate::policy::{Policy, Reach, RestartMode, ServiceKind};
use crate::restart::{self, Verdict};
use crate::state::{Pace, StartPhase, State, StopPhase};
use crate::supervisor::{Step, Supervisor};

use core::time::Duration;

/// How long a start takes one of the `start_parallelism` places at most: a service that is slow to become
/// ready does not hold up the others.
pub const SLOT_HELD: Duration = Duration::from_secs(2);

/// How long after SIGKILL it is sent again. A process in uninterruptible sleep dies only when the kernel lets
/// go of it; nothing but patience helps, and a repeated word in the log.
pub const KILL_AGAIN: Duration = Duration::from_secs(5);

impl Step<'_> {
    /// Begins a life: takes a generation, and asks for the `pre_start` hook or the process itself.
    pub(crate) fn begin_start(&mut self, id: ServiceId) {
        let Some((record, policy, launch)) = self.core.look(id) else { return };
        let automatic = record.state.leads_to_automatic();
        let kind = policy.run_kind();
        let hooks = &policy.hooks;
        let check = hooks.check.map(|limit| (Hook::Check, limit));
        let first = check.or(hooks.pre_start.map(|limit| (Hook::PreStart, limit)));
        let run = self.core.next_run(id);
        self.note(What::RunBegan { run, kind, launch, automatic });
        match first {
            Some((hook, limit)) => {
                let hook = self.begin_hook(id, hook, limit);
                let slot_until = Some(self.core.now.after(SLOT_HELD));
                let phase = StartPhase::PreStart { hook };
                let since = self.core.now;
                self.move_to(id, State::Starting { run, phase, since, give_up_at: None, slot_until });
            }
            None => self.spawn_main(run),
        }
    }

    /// The check has not found the job done: the `pre_start` hook follows, or the process itself.
    pub(crate) fn go_on_after_check(&mut self, main: RunId) {
        let Some((record, policy, _)) = self.core.look(main.service) else { return };
        let state = record.state.clone();
        match (policy.hooks.pre_start, state) {
            (Some(limit), State::Starting { run, since, give_up_at, slot_until, .. }) => {
                let hook = self.begin_hook(run.service, Hook::PreStart, limit);
                let phase = StartPhase::PreStart { hook };
                self.move_to(run.service, State::Starting { run, phase, since, give_up_at, slot_until });
            }
            _ => self.spawn_main(main),
        }
    }

    /// Asks for the main process.
    pub(crate) fn spawn_main(&mut self, run: RunId) {
        let now = self.core.now;
        let Some((record, policy, _)) = self.core.look(run.service) else { return };
        let kind = policy.run_kind();
        let give_up_at = policy.timeout_start.map(|span| now.after(span));
        // After a long pre_start hook the place may be taken by another; it is not claimed again.
        let slot_until = if let State::Starting { slot_until, .. } = record.state {
            slot_until
        } else {
            Some(now.after(SLOT_HELD))
        };
        let phase = StartPhase::Spawning;
        self.move_to(run.service, State::Starting { run, phase, since: now, give_up_at, slot_until });
        self.act(Action::Spawn { run, kind });
    }

    /// The service is ready.
    pub(crate) fn become_ready(&mut self, run: RunId) {
        let since = self.core.now;
        self.move_to(run.service, State::Running { run, since });
        let limit = self.core.look(run.service).and_then(|(_, policy, _)| policy.hooks.post_start);
        if let Some(limit) = limit {
            self.begin_hook(run.service, Hook::PostStart, limit);
        }
    }

    /// Begins to end a life that is starting or running.
    pub(crate) fn begin_stop(&mut self, id: ServiceId, why: Cause) {
        let now = self.core.now;
        let Some((record, policy, _)) = self.core.look(id) else { return };
        let kill_at = policy.timeout_stop_for(&why).map(|span| now.after(span));
        let pre_stop = policy.hooks.pre_stop;
        match record.state {
            State::Starting { run, phase: StartPhase::PreStart { hook }, .. } => {
                self.stopping(run, why, StopPhase::Cancel { hook }, None);
                self.kill_side(hook);
            }
            State::Starting { run, phase: StartPhase::Spawning, .. } => {
                self.stopping(run, why, StopPhase::AwaitSpawn { kill_at }, None);
            }
            // The launcher has ended and the main process is not known: what it left behind is told.
            State::Starting { run, phase: StartPhase::Forked, .. } => {
                self.stopping(run, why, StopPhase::Asked { kill_at }, None);
                self.ask_rest(run);
            }
            State::Starting { run, phase: StartPhase::Alive, .. } => {
                self.stopping(run, why, StopPhase::Asked { kill_at }, None);
                self.ask(run);
            }
            State::Running { run, since } => match pre_stop {
                Some(limit) if !why.is_illness() => {
                    let hook = self.begin_hook(id, Hook::PreStop, limit);
                    self.stopping(run, why, StopPhase::PreStop { hook }, Some(since));
                }
                _ => {
                    self.stopping(run, why, StopPhase::Asked { kill_at }, Some(since));
                    self.ask(run);
                }
            },
            State::Stopped
            | State::Pending { .. }
            | State::Stopping { .. }
            | State::Restarting { .. }
            | State::Completed
            | State::Failed { .. } => {}
        }
        self.end_probes(id);
    }

    fn stopping(&mut self, run: RunId, why: Cause, phase: StopPhase, ready_at: Option<Moment>) {
        self.move_to(run.service, State::Stopping { run, why, phase, exit: None, ready_at });
    }

    /// Asks to stop, as the service wants it: by its own command or by signal. A service that was judged ill
    /// may not answer a command, so that one gets the signal.
    pub(crate) fn ask(&mut self, run: RunId) {
        let Some((record, policy, _)) = self.core.look(run.service) else { return };
        let ill = matches!(&record.state, State::Stopping { why, .. } if why.is_illness());
        match policy.hooks.stop.filter(|_| !ill) {
            Some(limit) => {
                self.begin_hook(run.service, Hook::Stop, limit);
            }
            None => self.ask_by_signal(run),
        }
    }

    /// Sends the stop signal.
    pub(crate) fn ask_by_signal(&mut self, run: RunId) {
        let Some((_, policy, _)) = self.core.look(run.service) else { return };
        let (signal, to) = (Signal::Stop(policy.stop_signal), policy.stop_to);
        self.act(Action::Signal { run, signal, to });
    }

    /// Sends the stop signal to what is left of a tree without its main process.
    pub(crate) fn ask_rest(&mut self, run: RunId) {
        let Some((_, policy, _)) = self.core.look(run.service) else { return };
        let signal = Signal::Stop(policy.stop_signal);
        self.act(Action::Signal { run, signal, to: Reach::Tree });
    }

    /// The process exists, or its hook is done: now it can be asked to stop.
    pub(crate) fn ask_now(&mut self, run: RunId) {
        let now = self.core.now;
        let Some((record, policy, _)) = self.core.look(run.service) else { return };
        let kill_at = policy.timeout_stop.map(|span| now.after(span));
        if let State::Stopping { run, why, exit, ready_at, .. } = record.state.clone() {
            let phase = StopPhase::Asked { kill_at };
            self.move_to(run.service, State::Stopping { run, why, phase, exit, ready_at });
            self.ask(run);
        }
    }

    /// The main process has ended and left others behind: they get the stop signal, and SIGKILL in time.
    pub(crate) fn stop_rest(&mut self, run: RunId, cause: Cause, exit: Exit) {
        let now = self.core.now;
        let Some((record, policy, _)) = self.core.look(run.service) else { return };
        let fresh = policy.timeout_stop.map(|span| now.after(span));
        // Whoever was asked by a command was asked alone.
        let told = policy.stop_to == Reach::Tree && policy.hooks.stop.is_none();
        let ready_at = record.state.ready_at();
        let (why, kill_at, told) = if let State::Stopping { why, phase, .. } = &record.state {
            match phase {
                // Whatever was forked after the signal has not heard it; where no SIGKILL follows, it must.
                StopPhase::Asked { kill_at } => (why.clone(), *kill_at, told && kill_at.is_some()),
                StopPhase::Cancel { .. }
                | StopPhase::AwaitSpawn { .. }
                | StopPhase::PreStop { .. }
                | StopPhase::Rest { .. }
                | StopPhase::Killed { .. }
                | StopPhase::PostStop { .. } => (why.clone(), fresh, false),
            }
        } else {
            (cause, fresh, false)
        };
        let (phase, exit) = (StopPhase::Rest { kill_at }, Some(exit));
        self.move_to(run.service, State::Stopping { run, why, phase, exit, ready_at });
        if !told {
            self.ask_rest(run);
        }
    }

    /// The stop has taken too long, or there is hurry: SIGKILL to the whole tree.
    pub(crate) fn kill_now(&mut self, id: ServiceId) {
        let Some(record) = self.core.record(id) else { return };
        match record.state.clone() {
            State::Starting { phase: StartPhase::PreStart { .. }, .. } => {
                self.begin_stop(id, Cause::Shutdown);
            }
            State::Starting { run, .. } => self.killed(run, Cause::Shutdown, None, None),
            State::Running { run, since } => self.killed(run, Cause::Shutdown, None, Some(since)),
            State::Stopping { phase: StopPhase::Cancel { hook } | StopPhase::PostStop { hook }, .. } => {
                self.kill_side(hook);
            }
            State::Stopping { run, why, exit, ready_at, phase } => {
                if let StopPhase::PreStop { hook } = phase {
                    self.kill_side(hook);
                }
                self.end_askers(run);
                self.killed(run, why, exit, ready_at);
            }
            State::Stopped
            | State::Pending { .. }
            | State::Restarting { .. }
            | State::Completed
            | State::Failed { .. } => {}
        }
    }

    fn killed(&mut self, run: RunId, why: Cause, exit: Option<Exit>, ready_at: Option<Moment>) {
        let phase = StopPhase::Killed { again_at: self.core.now.after(KILL_AGAIN) };
        self.move_to(run.service, State::Stopping { run, why, phase, exit, ready_at });
        self.kill_tree(run);
    }

    /// The run is over: nothing of its tree is left.
    pub(crate) fn over(&mut self, run: RunId, cause: Cause, exit: Option<Exit>) {
        let now = self.core.now;
        let id = run.service;
        let Some((record, policy, _)) = self.core.look(id) else { return };
        let ready_at = record.state.ready_at();
        // A shortage of the machine is nothing that a service's own hook could see to.
        let failed = cause.is_failure(&policy.restart) && !cause.is_shortage();
        let hooks = policy.hooks.clone();
        self.end_askers(run);
        self.end_probes(id);
        // At least one nanosecond, so that zero keeps meaning "never ready".
        let ready_ns = ready_at.map_or(0, |at| (now.0.saturating_sub(at.0)).max(1));
        self.note(What::RunEnded { run, exit, cause: cause.clone(), ready_ns });
        if let Some(limit) = hooks.on_failure.filter(|_| failed && !self.core.in_hurry()) {
            self.begin_hook(id, Hook::OnFailure, limit);
        }
        match hooks.post_stop.filter(|_| !self.core.in_hurry()) {
            Some(limit) => {
                let hook = self.begin_hook(id, Hook::PostStop, limit);
                let phase = StopPhase::PostStop { hook };
                self.move_to(id, State::Stopping { run, why: cause, phase, exit, ready_at });
            }
            None => self.follow(id, cause, ready_ns),
        }
    }

    /// What follows a life.
    pub(crate) fn follow(&mut self, id: ServiceId, cause: Cause, ready_ns: u64) {
        let now = self.core.now;
        let Some((record, policy, _)) = self.core.look(id) else { return };
        let (replace, mut history) = (record.replace.clone(), (*record.history).clone());
        let (mut rules, oneshot) = (policy.restart.clone(), policy.kind == ServiceKind::Oneshot);
        if self.core.has(Bug::CountsHalfWindow) {
            rules.retry_window /= 2;
        }
        let ready_ns = if self.core.has(Bug::NeverStable) { 0 } else { ready_ns };
        let wanted = self.core.is_wanted(id);
        let failed = cause.is_failure(&rules);
        let next = match (&cause, replace) {
            (Cause::Exited(_), None) if oneshot && !failed => State::Completed,
            (Cause::AlreadyDone, None) if wanted => State::Completed,
            _ if !wanted => State::Stopped,
            (_, Some(why)) => begin_again(&why),
            (Cause::Exited(_), None) if !failed => {
                restart::after_success(&rules, &mut history, ready_ns);
                match rules.mode {
                    RestartMode::Always => {
                        let retry_at = now.after(rules.retry_delay);
                        State::Restarting { retry_at, cause, pace: Pace::Prompt }
                    }
                    RestartMode::OnFailure | RestartMode::Never => State::Completed,
                }
            }
            _ if cause.is_shortage() => {
                let retry_at = now.after(restart::SHORTAGE_DELAY);
                State::Restarting { retry_at, cause, pace: Pace::Shortage }
            }
            _ if failed => {
                match restart::after_failure(&rules, &mut history, ready_ns, now, &mut self.core.rng) {
                    Verdict::Retry(span, pace) => {
                        State::Restarting { retry_at: now.after(span), cause, pace }
                    }
                    Verdict::Never => State::Failed { cause, exhausted: false },
                    Verdict::GiveUp => State::Failed { cause, exhausted: true },
                }
            }
            (why, None) => begin_again(why),
        };
        self.set_history(id, history);
        self.clear_replace(id);
        self.move_to(id, next);
    }

    pub(crate) fn set_history(&mut self, id: ServiceId, history: crate::record::History) {
        if self.core.record(id).is_some_and(|record| *record.history != history) {
            self.note(What::HistorySet { service: id, history });
        }
    }

    pub(crate) fn clear_replace(&mut self, id: ServiceId) {
        if self.core.record(id).is_some_and(|record| record.replace.is_some()) {
            self.note(What::ReplaceSet { service: id, cause: None });
        }
    }
}

/// A new life without delay. It counts as an automatic restart only when nobody asked for it.
fn begin_again(why: &Cause) -> State {
    let automatic = matches!(why, Cause::Dependency(_));
    State::Pending { on: crate::state::WaitFor::Nothing, automatic }
}

impl Supervisor {
    /// Record, policy and launch digest of a service.
    pub(crate) fn look(&self, id: ServiceId) -> Option<(&crate::record::Record, &Policy, u64)> {
        let (record, service) = (self.record(id)?, self.services.get(&id)?);
        Some((record, &service.spec.policy, service.spec.launch))
    }

    /// The id of the next run of a service.
    pub(crate) fn next_run(&self, service: ServiceId) -> RunId {
        RunId { service, generation: self.record(service).map_or(0, |r| r.generation) + 1 }
    }

    pub(crate) fn in_hurry(&self) -> bool {
        self.memory.shutdown.is_some_and(|shutdown| shutdown.hurry)
    }
}

impl Policy {
    /// How long a stop for this cause may take.
    fn timeout_stop_for(&self, why: &Cause) -> Option<Duration> {
        let grace = if let Cause::Unhealthy(check) = why { self.checks.rule(*check) } else { None };
        grace.and_then(|rule| rule.grace).or(self.timeout_stop)
    }

    pub(crate) fn run_kind(&self) -> RunKind {
        match self.kind {
            ServiceKind::Oneshot => RunKind::Job,
            ServiceKind::Simple | ServiceKind::Notify | ServiceKind::Forking => RunKind::Service,
        }
    }
}
