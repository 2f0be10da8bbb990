//! The second phase: no faults any more, programs good or hopeless for ever; everything comes to rest where
//! it belongs, and a shutdown ends with nothing left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use relume_core::{Command, Event, Policy, RestartMode, ServiceId, State};

use crate::checks::{self, Expected, Trigger, Wish};
use crate::programs::Nuisance;
use crate::run::Failure;
use crate::sim::Sim;

/// So many steps without faults are a core that does not come to rest.
const RESTLESS: u64 = 20_000;

/// Longer than any chain of waits that the options can draw.
const ENOUGH: Duration = Duration::from_secs(400);

/// Longer than a whole chain of the slowest stops.
const LONG_STOP: Duration = Duration::from_secs(2_000);

/// A start within which a good program is ready, hooks included.
const READY_WITHIN: Duration = Duration::from_secs(4);

impl Sim {
    pub(crate) fn without_faults(&mut self) -> Result<(), Failure> {
        self.faults.end();
        self.kernel.drop_meddling();
        if !self.left {
            let good = self.heal();
            self.trace.note(self.kernel.now, || format!("faults end; good from now on: {good:?}"));
            for _ in 0..2 {
                self.calm_for(Duration::from_secs(100))?;
                self.wake_the_resting().map_err(Failure::Safety)?;
            }
            self.calm_for(ENOUGH)?;
            let expected = Expected::new(&good);
            if !self.settings.unchecked {
                checks::at_rest(&self.checks, &self.view(), &expected).map_err(Failure::Liveness)?;
            }
            self.shut_down()?;
        }
        checks::nothing_left(&self.view()).map_err(Failure::Safety)?;
        if self.torn_off || self.settings.unchecked {
            return Ok(());
        }
        self.checks.end(&self.memory).map_err(Failure::Safety)?;
        self.journal.check(self.core.snapshot()).map_err(Failure::Safety)
    }

    /// Most programs become good, some stay as they are for ever; whatever else misbehaves is ended by hand.
    fn heal(&mut self) -> BTreeSet<String> {
        let mut good = BTreeSet::new();
        let mut spared = BTreeMap::new();
        for (name, programs) in &mut self.operator.programs {
            let policy = self.operator.specs.get(name).map(|spec| &*spec.policy);
            if policy.is_some_and(|policy| may_stay(programs.main, policy)) && self.dice.chance(250) {
                spared.insert(name.clone(), programs.main);
            } else {
                programs.main = Nuisance::Good;
                programs.hooks = Nuisance::Good;
                if policy.is_some_and(in_time) {
                    good.insert(name.clone());
                }
            }
        }
        // A tree may still run what its service was before the last edit.
        self.kernel.clear_out(|tree| spared.get(&tree.name) == Some(&tree.plan.nuisance));
        good
    }

    /// Starts again what ended badly for good, or well but is meant to stay.
    fn wake_the_resting(&mut self) -> Result<(), String> {
        let rests = |state: &State| matches!(state, State::Failed { .. } | State::Completed);
        let all = self.memory.services.iter();
        let resting: Vec<ServiceId> = all
            .filter(|(_, record)| rests(&record.state) && record.intent != relume_core::Intent::Down)
            .map(|(id, _)| *id)
            .collect();
        let deed = self.operator.order(resting, Wish::Up, Command::Start);
        self.do_deed(deed)
    }

    fn shut_down(&mut self) -> Result<(), Failure> {
        self.feed(Event::ShutdownAsked { hurry: false, forget: false }, Trigger::Command)
            .map_err(Failure::Safety)?;
        self.calm_for(LONG_STOP)?;
        if self.left {
            return Ok(());
        }
        let busy = self.memory.services.values().find(|record| record.is_busy());
        let what = busy.map_or_else(
            || "nothing runs".into(),
            |record| format!("{} is {:?} with {:?}", record.name, record.state, record.sides),
        );
        Err(Failure::Liveness(format!("it was told to shut down and does not leave: {what}")))
    }

    /// Runs until nothing happens any more, relume has left, or the time is over.
    fn calm_for(&mut self, span: Duration) -> Result<(), Failure> {
        let (until, most) = (self.kernel.now.after(span), self.steps + RESTLESS);
        while !self.left && self.kernel.now < until {
            if self.steps > most {
                return Err(Failure::Liveness(format!("{RESTLESS} steps without faults, and no rest")));
            }
            if !self.turn().map_err(Failure::Safety)? {
                break;
            }
        }
        Ok(())
    }
}

/// Whether a program may stay as it is without keeping the run busy for ever.
fn may_stay(program: Nuisance, policy: &Policy) -> bool {
    let ends_well = program == Nuisance::ExitsZero && policy.restart.mode == RestartMode::Always;
    // In the background of a service that is not of that type, a daemon is a clean end.
    let daemonizes = program == Nuisance::Daemonizes;
    // Where SIGKILL is switched off, what ignores the stop signal holds up all that it depends on.
    let deaf = matches!(
        program,
        Nuisance::Deaf
            | Nuisance::Hangs
            | Nuisance::LeavesDeafChildren
            | Nuisance::Uninterruptible
            | Nuisance::NeverReady
    );
    let unbounded = deaf && (policy.timeout_stop.is_none() || policy.timeout_start.is_none());
    program != Nuisance::Good
        && !unbounded
        && !ends_well
        && !daemonizes
        && policy.restart.max_retries.is_some()
}

/// Whether its limits leave a good program the time it takes.
fn in_time(policy: &Policy) -> bool {
    let enough = |limit: Option<Duration>| limit.is_none_or(|limit| limit >= READY_WITHIN);
    enough(policy.timeout_start) && enough(policy.hooks.pre_start)
}
