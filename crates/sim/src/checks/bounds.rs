//! Work per step is bounded, every wait has a bound or somebody who ends it, and time passes: the core never
//! asks to be called again and again at one moment.

use relume_core::{Hook, Moment, Record, RunId, RunKind, StartPhase, State, StopPhase};

use super::View;

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    at: Moment,
    ticks: usize,
}

/// Facts and actions that one step may bring for each service: a whole life from beginning to end, with all
/// hooks, a second one begun, and the moves of waiting in between.
const WORK_PER_SERVICE: usize = 40;

impl Bounds {
    pub(super) fn tick(&mut self, view: &View<'_>) -> Result<(), String> {
        if view.kernel.now > self.at {
            (self.at, self.ticks) = (view.kernel.now, 0);
        }
        self.ticks += 1;
        // A zero time limit is due again at once: a few ticks at one moment for each service are in order.
        if self.ticks > 8 * (view.memory.services.len() + 1) {
            return Err(format!("the core wants {} ticks at the one moment {}", self.ticks, self.at));
        }
        Ok(())
    }

    pub(super) fn step(&mut self, view: &View<'_>, work: usize) -> Result<(), String> {
        let most = WORK_PER_SERVICE * (view.memory.services.len() + 1);
        if work > most {
            return Err(format!("one step brought {work} facts and actions; at most {most} are in order"));
        }
        for record in view.memory.services.values() {
            waits(view, record).map_err(|what| format!("{}: {what}", record.name))?;
        }
        Ok(())
    }
}

fn waits(view: &View<'_>, record: &Record) -> Result<(), String> {
    let policy = view.specs.get(record.name.as_str()).filter(|_| !record.retired).map(|spec| &spec.policy);
    let hook = match &record.state {
        State::Starting { phase: StartPhase::PreStart { hook }, .. } => Some((*hook, Hook::PreStart)),
        State::Stopping { phase: StopPhase::Cancel { hook }, .. } => Some((*hook, Hook::PreStart)),
        State::Stopping { phase: StopPhase::PreStop { hook }, .. } => Some((*hook, Hook::PreStop)),
        State::Stopping { phase: StopPhase::PostStop { hook }, .. } => Some((*hook, Hook::PostStop)),
        _ => None,
    };
    if let Some((run, hook)) = hook {
        return if is_side(record, run, hook) {
            Ok(())
        } else {
            Err(format!("waits for a {hook:?} that is over"))
        };
    }
    let unbounded = match &record.state {
        State::Starting { give_up_at: None, .. } => policy.is_some_and(|p| p.timeout_start.is_some()),
        State::Stopping {
            phase:
                StopPhase::AwaitSpawn { kill_at: None }
                | StopPhase::Asked { kill_at: None }
                | StopPhase::Rest { kill_at: None },
            ..
        } => policy.is_some_and(|p| p.timeout_stop.is_some()),
        _ => false,
    };
    // The operator of the simulation never switches a limit on that was off: that would hold from the next
    // wait on.
    if unbounded {
        return Err("waits without a bound".into());
    }
    Ok(())
}

fn is_side(record: &Record, run: RunId, hook: Hook) -> bool {
    record.sides.iter().any(|side| side.run == run && side.kind == RunKind::Hook(hook))
}
