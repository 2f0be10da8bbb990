//! A million failures of one service with random policies and random lives, judged by the core and by a
//! model of its own: no difference, never more restarts than allowed in any window, and never silence where
//! another start is due.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed, here and now")]
#![expect(clippy::wildcard_enum_match_arm, reason = "the model is about a few states and actions")]

use std::time::Duration;

use relume_core::{
    Action, Cause, Config, Event, Exit, Intent, ManagerPolicy, Moment, Outbox, Pace, Policy, Rest,
    RestartMode, RestartPolicy, RunId, ServiceSpec, State, Supervisor,
};
use relume_sim::checks::restarts::{Model, Next};
use relume_sim::dice::Dice;
use relume_sim::operator::restart_policy;

/// Failures judged.
const FAILURES: u64 = 1_000_000;

/// Lives under one policy, after which another is drawn.
const EACH: u64 = 200;

/// One service under one policy.
struct Patient {
    core: Supervisor,
    out: Outbox,
    policy: RestartPolicy,
    model: Model,
    now: Moment,
    granted: Vec<Moment>,
    /// Failures judged so far.
    failures: u64,
}

impl Patient {
    fn new(seed: u64, dice: &mut Dice) -> Self {
        let policy = restart_policy(dice, 50);
        let now = Moment(1);
        let mut core = Supervisor::new(seed, now);
        let mut out = Outbox::default();
        let rules = Policy { restart: policy.clone(), ..Policy::default() };
        let services = vec![ServiceSpec { name: "s".into(), policy: rules.into(), launch: 1 }];
        let config = Config { manager: ManagerPolicy::default(), autostart: true, services };
        core.step(now, Event::Configured(config), &mut out);
        Self { core, out, policy, model: Model::default(), now, granted: Vec::new(), failures: 0 }
    }

    /// The run that was asked for.
    fn spawn(&mut self) -> Option<RunId> {
        let run = self.out.actions.iter().find_map(|action| match action {
            Action::Spawn { run, .. } => Some(*run),
            _ => None,
        });
        self.out.actions.clear();
        self.out.facts.clear();
        run
    }

    fn step(&mut self, event: Event) {
        self.core.step(self.now, event, &mut self.out);
    }

    fn state(&self) -> State {
        self.core.snapshot().services.values().next().map(|record| record.state.clone()).unwrap()
    }

    /// One life: begins, lasts, ends badly or well. Whether another follows.
    fn live(&mut self, dice: &mut Dice) -> bool {
        let Some(run) = self.spawn() else { return false };
        self.step(Event::Spawned { run });
        let since = self.now;
        let longest = if dice.chance(200) { 30_000 } else { 500 };
        self.now = dice.soon(self.now, 0, longest);
        let ready_ns = (self.now.0 - since.0).max(1);
        let code = dice.pick(&[0, 1, 7]);
        self.step(Event::Exited { run, exit: Exit::Code(code), rest: Rest::Gone });
        if self.policy.success_exit_codes.contains(&code) {
            self.model.ended_well(&self.policy, ready_ns);
            match self.policy.mode {
                RestartMode::Always => {
                    self.due(Pace::Prompt, self.policy.retry_delay, self.policy.retry_delay)
                }
                RestartMode::OnFailure | RestartMode::Never => {
                    assert_eq!(self.state(), State::Completed);
                    return false;
                }
            }
        } else {
            self.failures += 1;
            let next = self.model.failed(&self.policy, ready_ns, self.now);
            match next {
                Next::Retry(pace, least, most) => {
                    self.due(pace, least.since(self.now), most.since(self.now));
                    self.count(pace);
                }
                Next::Rest | Next::GiveUp => {
                    let cause = Cause::Exited(Exit::Code(code));
                    let exhausted = next == Next::GiveUp;
                    assert_eq!(self.state(), State::Failed { cause, exhausted });
                    return false;
                }
            }
        }
        true
    }

    /// The next start is due in time, at that pace; time goes on to it, and it comes.
    fn due(&mut self, pace: Pace, least: Duration, most: Duration) {
        let retry_at = match self.state() {
            State::Restarting { retry_at, pace: is, .. } => {
                assert_eq!(is, pace);
                retry_at
            }
            // Without delay it has begun in the same step.
            State::Starting { since, .. } => since,
            other => panic!("{other:?}, and the model says {pace:?}"),
        };
        let span = retry_at.since(self.now);
        assert!(least <= span && span <= most, "{span:?} is not from {least:?} to {most:?}");
        if retry_at > self.now {
            assert_eq!(self.core.next_deadline().map(|deadline| deadline.at), Some(retry_at));
            self.now = retry_at;
            self.step(Event::Tick);
        }
    }

    /// Never more than the limit in any window.
    fn count(&mut self, pace: Pace) {
        let (Some(most), Pace::Backoff) = (self.policy.max_retries, pace) else { return };
        let failed_at = self.core.snapshot().services.values().next().and_then(|r| r.last_end.as_ref());
        self.granted.push(failed_at.map(|end| end.at).unwrap());
        let last = *self.granted.last().unwrap();
        self.granted.retain(|at| last.since(*at) < self.policy.retry_window);
        let within = self.granted.len();
        assert!(
            within <= most as usize,
            "{within} within {:?}: {:?}",
            self.policy.retry_window,
            self.granted
        );
    }
}

#[test]
fn a_million_failures_are_followed_by_what_the_model_says() {
    let mut dice = Dice::new(32, 1);
    let (mut judged, mut seed) = (0, 0);
    while judged < FAILURES {
        seed += 1;
        let mut patient = Patient::new(seed, &mut dice);
        for _ in 0..EACH {
            if !patient.live(&mut dice) {
                break;
            }
        }
        judged += patient.failures;
        let record = patient.core.snapshot().services.values().next().unwrap();
        assert_ne!(record.intent, Intent::Down);
        relume_core::invariants::check(&patient.core).unwrap();
    }
}

#[test]
fn the_model_sees_a_restart_too_many() {
    let policy = RestartPolicy { max_retries: Some(2), backoff: None, ..RestartPolicy::default() };
    let mut model = Model::default();
    let next: Vec<Next> = (0..3).map(|i| model.failed(&policy, 0, Moment(i * 1_000_000_000))).collect();
    assert!(matches!(next[1], Next::Retry(Pace::Backoff, ..)));
    assert!(matches!(next[2], Next::Retry(Pace::Slow, ..)));
}
