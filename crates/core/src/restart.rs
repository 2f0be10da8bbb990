//! When a failed service is started again: pure arithmetic over its history.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::moment::{Moment, nanos};
use crate::policy::{RespawnRate, RestartMode, RestartPolicy, WhenExhausted};
use crate::record::{History, RESTARTS_KEPT};
use crate::rng::Rng;
use crate::state::Pace;

/// The delay before a start is tried again for which the machine lacked something. Short, so that all is
/// back within a second of the cause's end; long enough not to add to the shortage.
pub const SHORTAGE_DELAY: Duration = Duration::from_millis(500);

/// What follows a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Another start after this delay.
    Retry(Duration, Pace),
    /// None: the policy says never.
    Never,
    /// None: the retries are used up.
    GiveUp,
}

/// Judges a failure of a service that had been ready for `ready_ns` nanoseconds; changes `history` with it.
pub(crate) fn after_failure(
    policy: &RestartPolicy,
    history: &mut History,
    ready_ns: u64,
    now: Moment,
    rng: &mut Rng,
) -> Verdict {
    forget_if_stable(policy, history, ready_ns);
    history.failures_in_row = history.failures_in_row.saturating_add(1);
    if policy.mode == RestartMode::Never || policy.max_retries == Some(0) {
        return Verdict::Never;
    }
    if let Some(most) = policy.max_retries {
        history.retries.retain(|at| now.since(*at) < policy.retry_window);
        if history.exhausted || history.retries.len() >= most as usize {
            history.exhausted = true;
            return match policy.when_exhausted {
                WhenExhausted::RetryEvery(span) => Verdict::Retry(span, Pace::Slow),
                WhenExhausted::GiveUp => Verdict::GiveUp,
            };
        }
        history.retries.push(now);
    }
    Verdict::Retry(delay(policy, history.failures_in_row, rng), Pace::Backoff)
}

/// A clean end breaks the row of failures; the window slides on by itself.
pub(crate) fn after_success(policy: &RestartPolicy, history: &mut History, ready_ns: u64) {
    forget_if_stable(policy, history, ready_ns);
    history.failures_in_row = 0;
}

fn forget_if_stable(policy: &RestartPolicy, history: &mut History, ready_ns: u64) {
    if ready_ns >= nanos(policy.stable_after) && ready_ns > 0 {
        history.failures_in_row = 0;
        history.exhausted = false;
    }
}

/// `retry_delay`, grown by `factor` for each failure after the first, at most `max`, moved by the jitter.
fn delay(policy: &RestartPolicy, failures: u32, rng: &mut Rng) -> Duration {
    let Some(backoff) = policy.backoff else { return policy.retry_delay };
    let first = policy.retry_delay.as_secs_f64();
    let most = backoff.max.as_secs_f64().max(first);
    let factor = if backoff.factor >= 1.0 { backoff.factor } else { 1.0 };
    let mut grown = first;
    for _ in 1..failures {
        if grown >= most || grown == 0.0 {
            break;
        }
        grown *= factor;
        if factor <= 1.0 {
            break;
        }
    }
    let jitter = backoff.jitter.clamp(0.0, 1.0);
    let moved = grown.min(most) * (1.0 + jitter * (2.0 * rng.share() - 1.0));
    Duration::try_from_secs_f64(moved).unwrap_or(backoff.max)
}

/// How many automatic restarts `rate` allows at `now`, after those in `past` (oldest first).
pub(crate) fn allowance(past: &VecDeque<Moment>, rate: RespawnRate, now: Moment) -> usize {
    let count = (rate.count.max(1) as usize).min(RESTARTS_KEPT);
    let recent = past.iter().rev().take(count).take_while(|at| now.since(**at) < rate.window).count();
    count - recent
}

/// When `rate` allows the next automatic restart; not before `now`.
pub(crate) fn next_allowed(past: &VecDeque<Moment>, rate: RespawnRate, now: Moment) -> Moment {
    let count = (rate.count.max(1) as usize).min(RESTARTS_KEPT);
    match past.len().checked_sub(count).and_then(|oldest| past.get(oldest)) {
        Some(oldest) => oldest.after(rate.window).max(now),
        None => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Backoff;

    const SECOND: u64 = 1_000_000_000;

    fn plain(max_retries: Option<u32>) -> RestartPolicy {
        let backoff = Some(Backoff { jitter: 0.0, ..Backoff::default() });
        RestartPolicy { max_retries, backoff, ..RestartPolicy::default() }
    }

    fn delays(policy: &RestartPolicy, failures: usize, ready_ns: u64) -> alloc::vec::Vec<Verdict> {
        let (mut history, mut rng) = (History::default(), Rng::new(1));
        (0..failures)
            .map(|i| after_failure(policy, &mut history, ready_ns, Moment(i as u64 * SECOND), &mut rng))
            .collect()
    }

    #[test]
    fn each_failure_in_a_row_doubles_the_delay_up_to_its_maximum() {
        let secs: alloc::vec::Vec<u64> = delays(&plain(None), 9, 0)
            .iter()
            .map(|v| if let Verdict::Retry(d, Pace::Backoff) = v { d.as_secs() } else { 0 })
            .collect();
        assert_eq!(secs, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_service_that_was_stable_starts_again_at_the_first_delay() {
        let second = Verdict::Retry(Duration::from_secs(1), Pace::Backoff);
        assert!(delays(&plain(None), 4, 60 * SECOND).iter().all(|v| *v == second));
    }

    #[test]
    fn retries_used_up_lead_to_the_slow_pace_and_stay_there() {
        let verdicts = delays(&plain(Some(2)), 4, 0);
        let slow = Verdict::Retry(Duration::from_secs(300), Pace::Slow);
        assert_eq!(verdicts[2..], [slow.clone(), slow]);
    }

    #[test]
    fn the_window_slides_and_gives_retries_back() {
        let policy = RestartPolicy { retry_window: Duration::from_secs(3), ..plain(Some(3)) };
        let all_backoff = |v: &Verdict| matches!(v, Verdict::Retry(_, Pace::Backoff));
        assert!(delays(&policy, 20, 0).iter().all(all_backoff));
    }

    #[test]
    fn no_retries_at_all_means_never() {
        assert_eq!(delays(&plain(Some(0)), 1, 0), [Verdict::Never]);
    }

    #[test]
    fn giving_up_is_final() {
        let policy = RestartPolicy { when_exhausted: WhenExhausted::GiveUp, ..plain(Some(1)) };
        assert_eq!(delays(&policy, 3, 0)[1..], [Verdict::GiveUp, Verdict::GiveUp]);
    }

    #[test]
    fn jitter_moves_a_delay_by_no_more_than_its_share() {
        let policy = RestartPolicy { max_retries: None, ..RestartPolicy::default() };
        let mut rng = Rng::new(7);
        for _ in 0..10_000 {
            let secs = delay(&policy, 3, &mut rng).as_secs_f64();
            assert!((3.6..=4.4).contains(&secs), "{secs}");
        }
    }

    #[test]
    fn the_rate_allows_its_count_in_any_window() {
        let rate = RespawnRate { count: 2, window: Duration::from_secs(1) };
        let past: VecDeque<Moment> = [Moment(0), Moment(SECOND / 2)].into();
        assert_eq!(allowance(&past, rate, Moment(SECOND - 1)), 0);
        assert_eq!(allowance(&past, rate, Moment(SECOND)), 1);
        assert_eq!(next_allowed(&past, rate, Moment(SECOND / 2)), Moment(SECOND));
        assert_eq!(allowance(&VecDeque::new(), rate, Moment(0)), 2);
    }
}
