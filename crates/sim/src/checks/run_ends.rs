//! The end of each run is told exactly once, and no name of a run is used twice.

use std::collections::{BTreeMap, BTreeSet};

use relume_core::{Fact, RunId, RunKind, Snapshot, What};

/// Which main runs began, and whether their end was told.
#[derive(Debug, Default)]
pub(super) struct RunEnds {
    told: BTreeMap<RunId, bool>,
    hooks: BTreeMap<RunId, bool>,
    adopted: BTreeSet<RunId>,
}

impl RunEnds {
    pub(super) fn fact(&mut self, fact: &Fact) -> Result<(), String> {
        match &fact.what {
            // What was found begins for the record only then.
            What::RunBegan { run, .. } if self.adopted.contains(run) => Ok(()),
            What::RunBegan { run, kind: RunKind::Service | RunKind::Job, .. } => begin(&mut self.told, *run),
            What::RunBegan { run, .. } => begin(&mut self.hooks, *run),
            What::Adopted { run, .. } => {
                self.adopted.insert(*run);
                begin(&mut self.told, *run)
            }
            What::RunEnded { run, .. } => end(&mut self.told, *run),
            // A stray life is ended as a run beside the main one; an adopted hook is no main run.
            What::SideEnded { run, .. } if self.told.contains_key(run) => end(&mut self.told, *run),
            What::SideEnded { run, .. } => end(&mut self.hooks, *run),
            _ => Ok(()),
        }
    }

    pub(super) fn end(&self, memory: &Snapshot) -> Result<(), String> {
        let open = self.told.iter().chain(&self.hooks).find(|(_, told)| !**told);
        match open {
            Some((run, _)) => {
                let name = memory.services.get(&run.service).map_or("a forgotten service", |r| &r.name);
                Err(format!("the end of {run} ({name}) was never told"))
            }
            None => Ok(()),
        }
    }
}

fn begin(told: &mut BTreeMap<RunId, bool>, run: RunId) -> Result<(), String> {
    match told.insert(run, false) {
        None => Ok(()),
        Some(_) => Err(format!("the name {run} was given twice")),
    }
}

fn end(told: &mut BTreeMap<RunId, bool>, run: RunId) -> Result<(), String> {
    match told.insert(run, true) {
        Some(false) => Ok(()),
        Some(true) => Err(format!("the end of {run} was told twice")),
        None => Err(format!("the end of {run} was told, and nobody heard of its beginning")),
    }
}
