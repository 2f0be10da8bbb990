//! Restarts and their delays are what the policy says, by a model of its own: window, backoff, stability,
//! slow retry.

use std::collections::BTreeMap;
use std::time::Duration;

use relume_core::{
    Cause, Exit, Fact, History, Moment, Pace, RestartMode, RestartPolicy, SHORTAGE_DELAY, ServiceId,
    ServiceKind, State, What, WhenExhausted,
};

use super::{Trigger, View};

/// What the model remembers of each service.
#[derive(Debug, Default)]
pub struct Restarts {
    services: BTreeMap<ServiceId, Model>,
}

/// What counts against one service.
#[derive(Debug, Clone, Default)]
pub struct Model {
    row: u32,
    granted: Vec<Moment>,
    exhausted: bool,
}

/// What follows the end of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another life, between these two moments.
    Retry(Pace, Moment, Moment),
    /// None, as the policy says.
    Rest,
    /// None: the retries are used up.
    GiveUp,
}

impl Model {
    /// What has to follow a failure at `now` of a life that had been ready for `ready_ns`.
    pub fn failed(&mut self, policy: &RestartPolicy, ready_ns: u64, now: Moment) -> Next {
        self.settle(policy, ready_ns);
        self.row = self.row.saturating_add(1);
        if policy.mode == RestartMode::Never || policy.max_retries == Some(0) {
            return Next::Rest;
        }
        if let Some(most) = policy.max_retries {
            let window = policy.retry_window.as_nanos();
            self.granted.retain(|at| u128::from(now.0 - at.0) < window);
            if self.exhausted || self.granted.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
                self.exhausted = true;
                return match policy.when_exhausted {
                    WhenExhausted::GiveUp => Next::GiveUp,
                    WhenExhausted::RetryEvery(span) => {
                        Next::Retry(Pace::Slow, now.after(span), now.after(span))
                    }
                };
            }
            self.granted.push(now);
        }
        let (least, most) = delay_bounds(policy, self.row);
        Next::Retry(Pace::Backoff, now.after(least), now.after(most))
    }

    /// A life ended well.
    pub fn ended_well(&mut self, policy: &RestartPolicy, ready_ns: u64) {
        self.settle(policy, ready_ns);
        self.row = 0;
    }

    fn settle(&mut self, policy: &RestartPolicy, ready_ns: u64) {
        if ready_ns > 0 && u128::from(ready_ns) >= policy.stable_after.as_nanos() {
            self.row = 0;
            self.exhausted = false;
        }
    }
}

/// The least and the greatest delay after so many failures in a row. A microsecond of grace on both sides is
/// for the rounding of floating point.
fn delay_bounds(policy: &RestartPolicy, row: u32) -> (Duration, Duration) {
    let Some(backoff) = policy.backoff else { return (policy.retry_delay, policy.retry_delay) };
    let first = policy.retry_delay.as_secs_f64();
    let power = i32::try_from(row - 1).unwrap_or(i32::MAX);
    // Nothing, however often doubled, stays nothing; the power alone may be infinite.
    let grown = if first == 0.0 { 0.0 } else { first * backoff.factor.max(1.0).powi(power) };
    let middle = grown.min(backoff.max.as_secs_f64().max(first));
    let jitter = backoff.jitter.clamp(0.0, 1.0);
    let least = Duration::from_secs_f64(middle * (1.0 - jitter));
    let most = Duration::from_secs_f64(middle * (1.0 + jitter));
    let grace = Duration::from_micros(1);
    (least.saturating_sub(grace), most + grace)
}

impl Restarts {
    pub(super) fn fact(&mut self, view: &View<'_>, fact: &Fact) -> Result<(), String> {
        match &fact.what {
            What::Removed { service } => {
                self.services.remove(service);
                Ok(())
            }
            What::HistorySet { service, history } => {
                // Whoever asks clears what counted; nothing else may.
                let asked = view.trigger != Trigger::World;
                if asked && *history == History::default() {
                    self.services.remove(service);
                }
                Ok(())
            }
            What::Moved { service, from, to } if from.is_live() && !to.is_live() => self
                .ended(view, *service, to, fact.at)
                .map_err(|what| format!("{}: {what}", view.name(*service))),
            _ => Ok(()),
        }
    }

    fn ended(&mut self, view: &View<'_>, id: ServiceId, to: &State, now: Moment) -> Result<(), String> {
        let (Some(spec), Some(record)) = (view.spec(id), view.memory.services.get(&id)) else {
            return Ok(());
        };
        let policy = &spec.policy.restart;
        let ready_ns = record.last_end.as_ref().map_or(0, |end| end.ready_ns);
        let model = self.services.entry(id).or_default();
        match to {
            State::Restarting { cause, pace: Pace::Shortage, retry_at } => {
                expect(cause.is_shortage(), "a shortage without a shortage")?;
                within(*retry_at, now.after(SHORTAGE_DELAY), now.after(SHORTAGE_DELAY))?;
            }
            State::Restarting { cause, pace: Pace::Prompt, retry_at } => {
                expect(!failed(cause, policy), "a failure is taken for a clean end")?;
                expect(policy.mode == RestartMode::Always, "a clean end is followed by a start")?;
                model.ended_well(policy, ready_ns);
                within(*retry_at, now.after(policy.retry_delay), now.after(policy.retry_delay))?;
            }
            State::Restarting { cause, pace, retry_at } => {
                expect(failed(cause, policy), "a clean end is taken for a failure")?;
                match model.failed(policy, ready_ns, now) {
                    Next::Retry(right, least, most) if right == *pace => within(*retry_at, least, most)?,
                    other => {
                        return Err(format!("{cause:?} is followed by {to:?}, and should be by {other:?}"));
                    }
                }
            }
            State::Failed { cause, exhausted } => {
                expect(failed(cause, policy), "a clean end is taken for a failure")?;
                let right = if *exhausted { Next::GiveUp } else { Next::Rest };
                let next = model.failed(policy, ready_ns, now);
                expect(
                    next == right,
                    &format!("{cause:?} is followed by {to:?}, and should be by {next:?}"),
                )?;
            }
            // A oneshot that is done is not judged, and neither is what is replaced or stopped.
            State::Completed if spec.policy.kind != ServiceKind::Oneshot => {
                model.ended_well(policy, ready_ns)
            }
            _ => return Ok(()),
        }
        same(model, &record.history)
    }
}

/// The model against what the core remembers.
fn same(model: &Model, history: &History) -> Result<(), String> {
    let right = model.row == history.failures_in_row && model.exhausted == history.exhausted;
    expect(
        right && model.granted == history.retries,
        &format!("its history is {history:?}, the model says {model:?}"),
    )
}

fn failed(cause: &Cause, policy: &RestartPolicy) -> bool {
    match cause {
        Cause::Exited(Exit::Code(code)) => !policy.success_exit_codes.contains(code),
        Cause::Asked | Cause::Dependency(_) | Cause::ConfigChanged | Cause::Removed | Cause::Shutdown => {
            false
        }
        _ => true,
    }
}

fn within(at: Moment, least: Moment, most: Moment) -> Result<(), String> {
    expect(least <= at && at <= most, &format!("its next start is due at {at}, not from {least} to {most}"))
}

fn expect(so: bool, otherwise: &str) -> Result<(), String> {
    if so { Ok(()) } else { Err(otherwise.into()) }
}
