//! At most one life of a service at a time: nothing is spawned while anything of an earlier main run lives
//! or may still come to live, not even a stray one that is being killed after a torn journal.

use relume_core::{Action, RunKind};

use super::View;

pub(super) fn action(view: &View<'_>, action: &Action) -> Result<(), String> {
    let Action::Spawn { run, kind } = action else { return Ok(()) };
    if view.kernel.tree_of(*run).is_some() {
        return Err(format!("{run} is spawned a second time"));
    }
    if matches!(kind, RunKind::Hook(_) | RunKind::Probe(_) | RunKind::Alert(_)) {
        return Ok(());
    }
    let other = view
        .kernel
        .trees
        .values()
        .find(|tree| tree.run.service == run.service && tree.is_main() && tree.may_live());
    match other {
        Some(other) => {
            let dying = if other.killed { "which is being killed" } else { "which lives" };
            Err(format!("{run} of {} is spawned beside {}, {dying}", other.name, other.run))
        }
        None => Ok(()),
    }
}
