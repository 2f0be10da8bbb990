//! Whoever depends on a service ends before it: in a shutdown always, and when both are asked to stop.

use relume_core::{Cause, Fact, StartPhase, State, StopPhase, What};

use super::View;

pub(super) fn fact(view: &View<'_>, fact: &Fact) -> Result<(), String> {
    let What::Moved { service, from, to: State::Stopping { why, phase, .. } } = &fact.what else {
        return Ok(());
    };
    if matches!(phase, StopPhase::PostStop { .. }) {
        // Nothing is left that could be stopped.
        return Ok(());
    }
    let ends = match from {
        State::Running { .. } => true,
        State::Starting { phase, .. } => !matches!(phase, StartPhase::PreStart { .. }),
        _ => false,
    };
    let orderly = view.memory.shutdown.is_none_or(|shutdown| !shutdown.hurry)
        && matches!(why, Cause::Asked | Cause::Shutdown | Cause::Removed);
    if !ends || !orderly {
        return Ok(());
    }
    let name = view.name(*service);
    for record in view.memory.services.values() {
        let depends =
            view.specs.get(record.name.as_str()).is_some_and(|s| s.policy.dependencies.contains_key(&name));
        let leaves =
            view.memory.shutdown.is_some() || record.intent == relume_core::Intent::Down || record.retired;
        // A service that came back from an earlier configuration without its policy has no order to keep.
        if depends && leaves && !record.retired && record.state.is_live() {
            return Err(format!("{name} is stopped ({why:?}) before {}, which depends on it", record.name));
        }
    }
    Ok(())
}
