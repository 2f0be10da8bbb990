//! No life begins unless each dependency is as it has to be at that very moment.

use std::collections::BTreeSet;

use relume_core::{
    Condition, Dependency, Fact, Intent, Record, RunId, RunKind, ServiceKind, StartPhase, State, What,
};

use super::View;
use crate::world::Main;

/// `adopted` runs were found and not started: of those nobody knows whether they had been ready.
pub(super) fn fact(view: &View<'_>, fact: &Fact, adopted: &BTreeSet<RunId>) -> Result<(), String> {
    let What::RunBegan { run, kind: RunKind::Service | RunKind::Job, .. } = fact.what else { return Ok(()) };
    let Some(spec) = view.spec(run.service) else {
        return Err(format!("{run} began, and nobody knows the service"));
    };
    for (name, how) in &spec.policy.dependencies {
        let need = view.memory.services.values().find(|record| &record.name == name);
        if !need.is_some_and(|need| is_met(view, need, *how, adopted)) {
            let state = need.map(|need| &need.state);
            return Err(format!("{} began while {name} was {state:?} ({how:?})", spec.name));
        }
    }
    Ok(())
}

fn is_met(view: &View<'_>, need: &Record, how: Dependency, adopted: &BTreeSet<RunId>) -> bool {
    let oneshot = view.specs.get(need.name.as_str()).is_some_and(|s| s.policy.kind == ServiceKind::Oneshot);
    let stays = need.intent != Intent::Down && !need.retired && need.replace.is_none();
    match (&need.state, how.condition) {
        (State::Running { run, .. }, Condition::Started | Condition::Ready) => {
            stays && was_ready(view, need, *run, adopted)
        }
        (State::Starting { run, phase: StartPhase::Alive | StartPhase::Forked, .. }, Condition::Started) => {
            stays && exists(view, *run)
        }
        (State::Completed, Condition::Ready) => oneshot,
        (State::Completed, Condition::Started | Condition::Completed) => true,
        _ => false,
    }
}

/// Ready in the kernel's eyes too: the process was there, and had said so where it has to.
fn was_ready(view: &View<'_>, need: &Record, run: RunId, adopted: &BTreeSet<RunId>) -> bool {
    let notify = view.specs.get(need.name.as_str()).is_some_and(|s| s.policy.kind == ServiceKind::Notify);
    let tree = view.kernel.tree_of(run).map(|(_, tree)| tree);
    tree.is_some_and(|tree| tree.main != Main::Unborn && (!notify || tree.ready || adopted.contains(&run)))
}

fn exists(view: &View<'_>, run: RunId) -> bool {
    view.kernel.tree_of(run).is_some_and(|(_, tree)| tree.main != Main::Unborn)
}
