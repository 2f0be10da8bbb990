//! When probes are asked: one task on the network thread for each check that is being asked of a run.
//!
//! *Eager*, while the answer is waited for: fast at first, because most services are ready within a fraction of a second and
//! others wait for them, then ever slower up to the interval. *Steady* afterwards: on a grid of the interval whose beginning
//! follows from the service's name, so that probes are spread evenly over time, and a manager that comes up again asks at the
//! very moments at which its predecessor would have.
//!
//! There is one probe at a time in a task. What the core counts and what it does not is said with each answer. A steady answer
//! that cannot change anything is not told.

use std::sync::Arc;
use std::time::Duration;

use relume_config::{Probe, ProbeTarget};
use relume_core::{Check, Moment, RunId};
use relume_os::clock;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::probe::{Question, subject};
use crate::manager::inbox::{Inbox, News};

/// Before the first probe. Hardly a program listens sooner, and while it is being loaded a probe of it, and whoever has to
/// answer that nobody is there, would only take the processor from it.
const FIRST_LOOK: Duration = Duration::from_millis(10);

/// Between the first probe and the second: a delay that nobody notices, and 20 connections a second at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The same for a command, which costs a process.
const FIRST_COMMAND_PAUSE: Duration = Duration::from_millis(250);

/// Where probes run, and where their results go.
pub(crate) struct Prober {
    net: Handle,
    inbox: Arc<Inbox>,
}

/// How often a check is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Until it is answered well.
    Eager,
    /// Again and again, not before this moment.
    Steady(Moment),
}

/// What is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) run: RunId,
    pub(super) check: Check,
    pub(super) pace: Pace,
    pub(super) probe: Probe,
    /// Chooses the beginning of the grid.
    pub(super) name: String,
}

/// Probes under way. Dropped, they end.
#[derive(Debug)]
pub(super) struct Asking {
    task: AbortHandle,
    /// Tells this asking's answers from those of one before it.
    pub(super) number: u64,
    pub(super) asked: Asked,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What probes have to tell of a run.
#[derive(Debug)]
pub(crate) enum Probed {
    /// An answer.
    Answered {
        /// Why it is bad, for people; none: it is good.
        failure: Option<String>,
        /// Whether it was a regular one.
        counts: bool,
    },
    /// It is time for a command.
    Due,
}

impl Prober {
    pub(crate) fn new(net: Handle, inbox: Arc<Inbox>) -> Self {
        Self { net, inbox }
    }

    /// Begins to ask. Never waits.
    pub(super) fn begin(&self, asked: Asked, number: u64) -> Asking {
        let inbox = Arc::clone(&self.inbox);
        let (run, check) = (asked.run, asked.check);
        let tell = move |what| inbox.send(News::Probed { run, number, what });
        let (probe, pace, name) = (asked.probe.clone(), asked.pace, asked.name.clone());
        let task = match pace {
            Pace::Eager => self.net.spawn(eager(probe, check, tell)),
            Pace::Steady(not_before) => {
                let phase = phase(&name, check, probe.interval);
                self.net.spawn(steady(probe, phase, not_before, tell))
            }
        };
        Asking { task: task.abort_handle(), number, asked }
    }
}

/// Where in each interval a service is asked: FNV-1a over its name and the check, and a mix so that the names `a1`, `a2` … do
/// not lie side by side (the finalizer of SplitMix64).
fn phase(name: &str, check: Check, interval: Duration) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = name.as_bytes().iter().chain(check.key().as_bytes()).fold(0xcbf2_9ce4_8422_2325, fold);
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % nanos(interval)
}

/// The first moment of the grid at or after `from`.
fn next_on_grid(phase: u64, interval: u64, from: u64) -> u64 {
    let passed = from.saturating_sub(phase).div_ceil(interval);
    phase.saturating_add(passed.saturating_mul(interval))
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX).max(1)
}

async fn sleep_until(at: u64) {
    tokio::time::sleep(Duration::from_nanos(at.saturating_sub(clock::monotonic_ns()))).await;
}

/// One answer; none of a command, which is only due.
async fn ask(probe: &Probe, question: &mut Question) -> Option<Result<(), String>> {
    if matches!(probe.target, ProbeTarget::Exec(_)) {
        return None;
    }
    let said = tokio::time::timeout(probe.timeout, question.ask()).await;
    let said = said.unwrap_or_else(|_| Err(format!("no answer within {:?}", probe.timeout)));
    Some(said.map_err(|why| format!("{}: {why}", subject(&probe.target))))
}

async fn eager(probe: Probe, check: Check, tell: impl Fn(Probed)) {
    let began = clock::monotonic_ns().saturating_add(nanos(probe.start_period.max(FIRST_LOOK)));
    sleep_until(began).await;
    let mut question = Question::new(&probe);
    let command = matches!(probe.target, ProbeTarget::Exec(_));
    let first = match (command, check) {
        (false, _) => FIRST_PAUSE,
        // Each failure of a command counts, and for a startup that is what ends the wait.
        (true, Check::Startup) => probe.interval,
        (true, Check::Readiness | Check::Liveness | Check::Health) => FIRST_COMMAND_PAUSE,
    };
    let mut pause = first.min(probe.interval);
    let mut regular = began.saturating_add(nanos(probe.interval));
    let (mut told, mut well) = (None, false);
    loop {
        let counts = clock::monotonic_ns() >= regular;
        if counts {
            regular = regular.saturating_add(nanos(probe.interval));
        }
        match ask(&probe, &mut question).await {
            None => tell(Probed::Due),
            Some(Ok(())) => {
                (told, well) = (None, true);
                tell(Probed::Answered { failure: None, counts });
            }
            Some(Err(why)) => {
                if counts || well || told.as_ref() != Some(&why) {
                    tell(Probed::Answered { failure: Some(why.clone()), counts });
                }
                (told, well) = (Some(why), false);
            }
        }
        let next = clock::monotonic_ns().saturating_add(nanos(pause)).min(regular);
        sleep_until(next).await;
        pause = (pause * 2).min(probe.interval);
    }
}

async fn steady(probe: Probe, phase: u64, not_before: Moment, tell: impl Fn(Probed)) {
    let interval = nanos(probe.interval);
    let mut question = Question::new(&probe);
    let mut from = not_before.0;
    let mut told_well = 0;
    loop {
        let at = next_on_grid(phase, interval, from.max(clock::monotonic_ns()));
        sleep_until(at).await;
        match ask(&probe, &mut question).await {
            None => tell(Probed::Due),
            Some(Ok(())) if told_well >= probe.successes => {}
            Some(Ok(())) => {
                told_well += 1;
                tell(Probed::Answered { failure: None, counts: true });
            }
            Some(Err(why)) => {
                told_well = 0;
                tell(Probed::Answered { failure: Some(why), counts: true });
            }
        }
        from = at.saturating_add(1);
    }
}

#[cfg(test)]
#[path = "prober_tests.rs"]
mod tests;
