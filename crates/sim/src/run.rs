//! A seed, run twice, and what came of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use relume_core::Supervisor;

use crate::sim::Sim;

/// How a seed is run.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Writes a line for each event, fact and action.
    pub trace: bool,
    /// Leaves the checks out, where only the sum is of interest.
    pub unchecked: bool,
    /// Steps with faults, instead of the number that the seed draws.
    pub steps: Option<u64>,
    /// The bug that is planted into the core.
    #[cfg(feature = "planted")]
    pub planted: Option<relume_core::planted::Bug>,
}

/// What a seed has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Something happened that never may.
    Safety(String),
    /// Something did not happen that has to.
    Liveness(String),
    /// The same history in, and other bytes out.
    Nondeterminism,
}

/// What came of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Steps of the core in the first of both runs.
    pub steps: u64,
    /// The sum over all that the core said.
    pub sum: u64,
    /// The promise that was broken.
    pub failure: Option<Failure>,
}

/// Runs a seed twice.
#[must_use]
pub fn run_twice(seed: u64, settings: &Settings) -> Outcome {
    let mut first = run_once(seed, settings);
    if first.failure.is_none() {
        let second = run_once(seed, &Settings { trace: false, unchecked: true, ..settings.clone() });
        if second != first {
            first.failure = Some(Failure::Nondeterminism);
        }
    }
    first
}

/// A panic of the core is a broken promise like any other.
fn run_once(seed: u64, settings: &Settings) -> Outcome {
    let mut sim = Sim::new(seed, settings);
    let result = catch_unwind(AssertUnwindSafe(|| sim.run()));
    let (steps, sum) = sim.outcome();
    let failure = match result {
        Ok(result) => result.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Some(Failure::Safety(format!("panic: {}", text.unwrap_or_default())))
        }
    };
    Outcome { steps, sum, failure }
}

#[cfg(feature = "planted")]
pub(crate) fn plant(core: &mut Supervisor, settings: &Settings) {
    if let Some(bug) = settings.planted {
        core.plant(bug);
    }
}

#[cfg(not(feature = "planted"))]
pub(crate) fn plant(_: &mut Supervisor, _: &Settings) {}
