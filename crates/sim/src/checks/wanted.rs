//! What is wanted down is never started.

use relume_core::{
    Action, ExitWhen, Fact, Hook, Intent, RunKind, ServiceId, Snapshot, StartPhase, State, What,
};

use super::{Trigger, View};

/// Whether a service is meant to run, from what is remembered and configured.
pub(super) fn is_wanted(memory: &Snapshot, view: &View<'_>, service: ServiceId) -> bool {
    let Some(record) = memory.services.get(&service) else { return false };
    let Some(spec) = view.specs.get(record.name.as_str()) else { return false };
    memory.shutdown.is_none()
        && !record.retired
        && match record.intent {
            Intent::Up => true,
            Intent::Down => false,
            Intent::Auto => memory.autostart && spec.policy.autostart,
        }
}

pub(super) fn fact(view: &View<'_>, fact: &Fact) -> Result<(), String> {
    let starts = match &fact.what {
        What::RunBegan { run, kind: RunKind::Service | RunKind::Job, .. } => Some(run.service),
        What::Moved { service, from, to } if spawns(to) && !spawns(from) => Some(*service),
        _ => None,
    };
    match starts {
        Some(service) if !is_wanted(view.memory, view, service) => {
            Err(format!("{} is started, and nobody wants it", view.name(service)))
        }
        _ => Ok(()),
    }
}

fn spawns(state: &State) -> bool {
    matches!(state, State::Starting { phase: StartPhase::Spawning, .. })
}

/// A new manager asks again for the processes that the last one may have died over: of those the facts say
/// nothing new. (A shutdown that `exit_when` asks for may meet a start of the same step.)
pub(super) fn action(view: &View<'_>, action: &Action) -> Result<(), String> {
    match action {
        Action::Spawn {
            run,
            kind: RunKind::Service | RunKind::Job | RunKind::Hook(Hook::PreStart | Hook::Check),
        } if view.trigger == Trigger::Recovery
            && !is_wanted(view.memory, view, run.service)
            && view.config.manager.exit_when == ExitWhen::Never =>
        {
            Err(format!("{run} of {} is spawned, and nobody wants it", view.name(run.service)))
        }
        _ => Ok(()),
    }
}
