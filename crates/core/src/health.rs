//! Health: the judgement beside a life. Probes answer outside; here their answers are counted.
//!
//! A [`Check`] is a question that is put again and again. Its [`Rule`] says how many answers in a row make up a mind; its
//! [`Count`] is what they have made so far. A startup check comes first and the others wait for it; readiness decides when a
//! service counts as ready and shows when it is not any more; liveness ends a life. `Health` is readiness and liveness in one.
//!
//! A count that has reached its threshold stays there, so a service that goes on as it is changes nothing and costs no fact.
//! Counts are part of the record: a manager that comes up again goes on counting.
//!
//! Probes that are commands are runs beside the main one, asked for in time by the edge and never two of one check at once.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::cause::{Cause, Exit, SpawnError};
use crate::fact::What;
use crate::id::{RunId, RunKind, ServiceId};
use crate::moment::Moment;
use crate::policy::{Policy, ServiceKind};
use crate::rare::Usual;
use crate::record::{Record, Side, SidePhase};
use crate::state::{StartPhase, State, StopPhase};
use crate::supervisor::Step;

/// Longest text of a failure that is kept, in bytes: a line on a screen.
const MOST_TEXT: usize = 300;

/// The most that one word of a service puts off a time limit by: whoever needs longer says so again.
const MOST_EXTENSION: Duration = Duration::from_secs(24 * 60 * 60);

/// A question about a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Check {
    /// Whether it has started; the others wait for it.
    Startup,
    /// Whether it can be used. Never ends a life.
    Readiness,
    /// Whether it still works. Ends a life.
    Liveness,
    /// Readiness until it is ready, then both.
    Health,
}

/// The rules of all checks of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// `startup`.
    pub startup: Option<Rule>,
    /// `readiness`.
    pub readiness: Option<Rule>,
    /// `liveness`.
    pub liveness: Option<Rule>,
    /// `health_check`, where it is both.
    pub health: Option<Rule>,
}

/// How the answers to one check are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Failures in a row that count; at least 1.
    pub failures: u32,
    /// Successes in a row that count; at least 1.
    pub successes: u32,
    /// The probe is a command, and how long it may take.
    pub command: Option<Duration>,
    /// In place of `timeout_stop` when this check ends a life.
    pub grace: Option<Duration>,
}

/// What the answers so far have come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Of `startup`.
    pub startup: Count,
    /// Of `readiness`.
    pub readiness: Count,
    /// Of `liveness`.
    pub liveness: Count,
    /// Of `health_check`.
    pub health: Count,
}

impl Usual for Health {
    const USUAL: &'static Self =
        &Self { startup: Count::NONE, readiness: Count::NONE, liveness: Count::NONE, health: Count::NONE };
}

impl Count {
    const NONE: Self = Self { well: None, failures: 0, successes: 0 };
}

/// The answers to one check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The mind that was made up last.
    pub well: Option<bool>,
    /// Failures in a row, up to the rule's.
    pub failures: u32,
    /// Successes in a row towards another mind.
    pub successes: u32,
}

impl Check {
    /// All of them, in the order in which they are asked.
    pub const ALL: [Self; 4] = [Self::Startup, Self::Readiness, Self::Liveness, Self::Health];

    /// The key of the configuration that names it.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
            Self::Health => "health_check",
        }
    }

    /// Whether failing it ends a life.
    #[must_use]
    pub fn is_vital(self) -> bool {
        self != Self::Readiness
    }
}

impl Checks {
    /// The rule of a check, if there is one.
    #[must_use]
    pub fn rule(&self, check: Check) -> Option<Rule> {
        match check {
            Check::Startup => self.startup,
            Check::Readiness => self.readiness,
            Check::Liveness => self.liveness,
            Check::Health => self.health,
        }
    }

    /// The checks there are.
    pub fn all(&self) -> impl Iterator<Item = Check> + '_ {
        Check::ALL.into_iter().filter(|check| self.rule(*check).is_some())
    }
}

impl Health {
    /// The answers to one check.
    #[must_use]
    pub fn count(&self, check: Check) -> Count {
        match check {
            Check::Startup => self.startup,
            Check::Readiness => self.readiness,
            Check::Liveness => self.liveness,
            Check::Health => self.health,
        }
    }

    fn set(&mut self, check: Check, count: Count) {
        match check {
            Check::Startup => self.startup = count,
            Check::Readiness => self.readiness = count,
            Check::Liveness => self.liveness = count,
            Check::Health => self.health = count,
        }
    }

    /// Whether the startup check has succeeded, or there is none.
    #[must_use]
    pub fn has_started(&self, checks: &Checks) -> bool {
        checks.startup.is_none() || self.startup.well == Some(true)
    }

    /// Whether no check speaks against its being used.
    #[must_use]
    pub fn is_usable(&self, checks: &Checks) -> bool {
        [Check::Readiness, Check::Health]
            .into_iter()
            .all(|check| checks.rule(check).is_none() || self.count(check).well != Some(false))
    }

    /// The judgement of its probes; `None`: there is none, or none has made up its mind.
    #[must_use]
    pub fn judgement(&self, checks: &Checks) -> Option<bool> {
        let minds = checks.all().filter_map(|check| self.count(check).well);
        minds.reduce(|one, other| one && other)
    }
}

impl Count {
    /// One more answer. A failure that does not count only breaks a row of successes.
    fn observe(self, rule: Rule, well: bool, counts: bool) -> Self {
        let mut next = self;
        if well {
            next.failures = 0;
            if self.well != Some(true) {
                next.successes = self.successes.saturating_add(1);
                if next.successes >= rule.successes.max(1) {
                    next = Self { well: Some(true), failures: 0, successes: 0 };
                }
            }
        } else {
            next.successes = 0;
            if counts && self.failures < rule.failures.max(1) {
                next.failures = self.failures + 1;
                if next.failures >= rule.failures.max(1) {
                    next.well = Some(false);
                }
            }
        }
        next
    }
}

impl Step<'_> {
    /// A probe was answered: `failure` says why badly.
    pub(crate) fn probed(&mut self, run: RunId, check: Check, failure: Option<String>, counts: bool) {
        let Some((record, policy, _)) = self.core.look(run.service) else { return self.note_stale(run) };
        let Some(rule) = policy.checks.rule(check).filter(|_| is_asked(record, policy, run, check)) else {
            return self.note_stale(run);
        };
        // Whoever is not ready yet cannot become unready: that wait has a limit of its own.
        let waits = matches!(record.state, State::Starting { .. })
            && matches!(check, Check::Readiness | Check::Health);
        let (mut health, before) = ((*record.health).clone(), record.health.count(check));
        let count = before.observe(rule, failure.is_none(), counts && !waits);
        if count != before {
            health.set(check, count);
            let failure = failure.map(shortened);
            self.note(What::Probed { run, check, failure, health });
        }
        match count.well {
            Some(true) => self.checked_well(run, check),
            Some(false) if check.is_vital() => self.begin_stop(run.service, Cause::Unhealthy(check)),
            Some(false) | None => {}
        }
    }

    fn checked_well(&mut self, run: RunId, check: Check) {
        let Some((record, policy, _)) = self.core.look(run.service) else { return };
        let waits = matches!(record.state, State::Starting { .. }) && policy.kind == ServiceKind::Notify;
        let last = match check {
            Check::Readiness | Check::Health => true,
            Check::Startup => policy.checks.readiness.is_none() && policy.checks.health.is_none(),
            Check::Liveness => false,
        };
        if waits && last {
            self.become_ready(run);
        }
    }

    /// It is time for a probe that is a command. One that still runs is left to its own time limit; one that does
    /// not even die is a failure.
    pub(crate) fn probe_due(&mut self, run: RunId, check: Check) {
        let Some((record, policy, _)) = self.core.look(run.service) else { return self.note_stale(run) };
        let limit = policy.checks.rule(check).and_then(|rule| rule.command);
        let Some(limit) = limit.filter(|_| is_asked(record, policy, run, check)) else {
            return self.note_stale(run);
        };
        // One of an earlier life, which does not die, asks nobody any more.
        let own = |side: &&Side| side.kind == RunKind::Probe(check) && side.run.generation > run.generation;
        match record.sides.iter().find(own).map(|side| side.phase) {
            Some(SidePhase::Killed { .. }) => {
                let text = "the command before it has not ended, in spite of SIGKILL";
                self.probed(run, check, Some(text.into()), true);
            }
            Some(SidePhase::Active { .. } | SidePhase::Rest { .. }) => {}
            None => {
                self.begin_side(run.service, RunKind::Probe(check), limit);
            }
        }
    }

    /// The command of a probe has taken too long. Its tree is being killed; the answer does not wait for that.
    pub(crate) fn probe_late(&mut self, side: Side) {
        let Some((run, check, rule)) = self.asker(side) else { return };
        let text = format!("has not ended within {:?}", rule.command.unwrap_or_default());
        self.probed(run, check, Some(text), true);
    }

    /// The command of a probe has ended, or could not be started: `None` where nobody saw how.
    pub(crate) fn probe_ended(&mut self, side: Side, exit: Option<Exit>, error: Option<&SpawnError>) {
        let Some((run, check, _)) = self.asker(side) else { return };
        match (exit, error) {
            (Some(Exit::Code(0)), _) => self.probed(run, check, None, true),
            (Some(Exit::Code(code)), _) => self.probed(run, check, Some(format!("exited {code}")), true),
            (Some(Exit::OutOfMemory { .. }), _) => {
                self.probed(run, check, Some("was killed for want of memory".into()), true);
            }
            (Some(Exit::Signal { number, .. }), _) => {
                self.probed(run, check, Some(format!("ended by signal {number}")), true);
            }
            // What the machine lacks, or a manager has not seen, says nothing about the service.
            (Some(Exit::Unknown), _) | (None, None) => {}
            (None, Some(error)) if error.shortage => {}
            (None, Some(error)) => {
                let text = format!("could not be started: {}", error.text);
                self.probed(run, check, Some(text), true);
            }
        }
    }

    /// Whom the probe asks: the life that it was begun in, if that still goes on.
    fn asker(&self, side: Side) -> Option<(RunId, Check, Rule)> {
        let RunKind::Probe(check) = side.kind else { return None };
        let (record, policy, _) = self.core.look(side.run.service)?;
        let run = record.state.run().filter(|run| run.generation < side.run.generation)?;
        Some((run, check, policy.checks.rule(check)?))
    }

    /// Nobody wants the answers of this service's probes any more.
    pub(crate) fn end_probes(&mut self, service: ServiceId) {
        let Some(record) = self.core.record(service) else { return };
        let probes = record.sides.iter().filter(|side| matches!(side.kind, RunKind::Probe(_)));
        let runs: alloc::vec::Vec<RunId> = probes.map(|side| side.run).collect();
        runs.into_iter().for_each(|run| self.kill_side(run));
    }

    /// The service asks for more time to start or to stop.
    pub(crate) fn extend(&mut self, run: RunId, by: Duration) {
        let until = self.core.now.after(by.min(MOST_EXTENSION));
        let later = |at: Moment| Some(at.max(until));
        let Some(record) = self.core.record(run.service).filter(|r| r.state.run() == Some(run)) else {
            return self.note_stale(run);
        };
        let mut to = record.state.clone();
        match &mut to {
            State::Starting {
                phase: StartPhase::Spawning | StartPhase::Alive | StartPhase::Forked,
                give_up_at: give_up_at @ Some(_),
                ..
            } => *give_up_at = give_up_at.and_then(later),
            State::Stopping {
                phase:
                    StopPhase::Asked { kill_at: kill_at @ Some(_) }
                    | StopPhase::Rest { kill_at: kill_at @ Some(_) },
                ..
            } => *kill_at = kill_at.and_then(later),
            State::Stopped
            | State::Pending { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Restarting { .. }
            | State::Completed
            | State::Failed { .. } => return,
        }
        if to != record.state {
            self.move_to(run.service, to);
        }
    }

    /// It has not shown within its time that it lives.
    pub(crate) fn silent(&mut self, run: RunId) {
        let state = self.core.record(run.service).map(|record| &record.state);
        match state.filter(|state| state.run() == Some(run)) {
            Some(State::Running { .. }) => self.begin_stop(run.service, Cause::Watchdog),
            _ => self.note_stale(run),
        }
    }

    /// Its tree uses more memory than it may. While it starts that is judged as well: what leaks may never get ready.
    pub(crate) fn too_much_memory(&mut self, run: RunId, used: u64, limit: u64) {
        let state = self.core.record(run.service).map(|record| &record.state);
        match state.filter(|state| state.run() == Some(run)) {
            Some(
                State::Running { .. } | State::Starting { phase: StartPhase::Alive | StartPhase::Forked, .. },
            ) => self.begin_stop(run.service, Cause::Memory { used, limit }),
            _ => self.note_stale(run),
        }
    }

    /// Of a service that is gone nobody needs to know any more.
    pub(crate) fn noticed(&mut self, service: Option<ServiceId>, text: String) {
        if service.is_none_or(|id| self.core.record(id).is_some()) {
            self.note(What::Noticed { service, text: shortened(text) });
        }
    }

    fn note_stale(&mut self, run: RunId) {
        self.note(What::Stale { run });
    }

    pub(crate) fn begin_side(&mut self, id: ServiceId, kind: RunKind, limit: Duration) -> RunId {
        let run = self.core.next_run(id);
        let give_up_at = self.core.now.after(limit);
        self.note(What::RunBegan { run, kind, launch: 0, automatic: false });
        self.note(What::SideMoved { run, kind, phase: SidePhase::Active { give_up_at } });
        self.act(Action::Spawn { run, kind });
        run
    }
}

/// Whether answers to this check are wanted of this run now.
fn is_asked(record: &Record, policy: &Policy, run: RunId, check: Check) -> bool {
    let started = record.health.has_started(&policy.checks);
    let there = match &record.state {
        State::Starting { phase: StartPhase::Spawning | StartPhase::Alive, .. } => true,
        State::Running { .. } => check != Check::Startup || !started,
        State::Stopped
        | State::Pending { .. }
        | State::Starting { .. }
        | State::Stopping { .. }
        | State::Restarting { .. }
        | State::Completed
        | State::Failed { .. } => false,
    };
    record.state.run() == Some(run) && there && (started != (check == Check::Startup))
}

fn shortened(mut text: String) -> String {
    if text.len() > MOST_TEXT {
        let mut end = MOST_TEXT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { failures: 3, successes: 2, command: None, grace: None };

    fn after(answers: &str) -> Count {
        answers
            .chars()
            .fold(Count::default(), |count, answer| count.observe(RULE, answer == '+', answer != 'x'))
    }

    #[test]
    fn a_mind_is_made_up_by_answers_in_a_row_and_kept_until_the_other_row_is_full() {
        for (answers, well) in [
            ("", None),
            ("+", None),
            ("++", Some(true)),
            ("+-+", None),
            ("--", None),
            ("--+--", None),
            ("---", Some(false)),
            ("---+", Some(false)),
            ("---++", Some(true)),
            ("++--+--", Some(true)),
            ("++---", Some(false)),
            ("xxxxxxxx", None),
            ("+x+", None),
        ] {
            assert_eq!(after(answers).well, well, "{answers}");
        }
    }

    #[test]
    fn a_service_that_goes_on_as_it_is_changes_nothing() {
        assert_eq!(after("++"), after("++++++"));
        assert_eq!(after("---"), after("-------"));
    }
}
