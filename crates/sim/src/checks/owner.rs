//! Every process has an owner: a run that the manager remembers.

use super::View;

pub(super) fn step(view: &View<'_>) -> Result<(), String> {
    for tree in view.kernel.trees.values().filter(|tree| tree.may_live()) {
        let record = view.memory.services.get(&tree.run.service);
        let owned = record.is_some_and(|record| {
            record.state.run() == Some(tree.run) || record.sides.iter().any(|side| side.run == tree.run)
        });
        if !owned {
            return Err(format!("{} of {} lives and nobody owns it", tree.run, tree.name));
        }
    }
    Ok(())
}
