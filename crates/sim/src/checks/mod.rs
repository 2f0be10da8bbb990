//! The promises, one a file. Each is recomputed from facts, actions and the fake kernel alone: none asks the
//! core whether the core is right.

mod bounds;
mod dependencies;
mod folding;
mod one_life;
mod owner;
mod respawn_rate;
mod rest;
pub mod restarts;
mod run_ends;
mod stop_order;
mod tickets;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};

use relume_core::{Action, Config, Fact, RunId, ServiceId, ServiceSpec, Snapshot, Supervisor, What};

use crate::world::Kernel;

pub use folding::Journal;
pub use rest::{Expected, at_rest, nothing_left};
pub use tickets::Wish;

/// What a step was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Time, or news of processes.
    World,
    /// A command of the operator.
    Command,
    /// A new configuration.
    Config,
    /// A new manager came up.
    Recovery,
}

/// What a check may look at.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// What was remembered before the fact, or after the step for a check of a whole step.
    pub memory: &'a Snapshot,
    /// How each service was last configured, those that left included.
    pub specs: &'a BTreeMap<String, ServiceSpec>,
    /// The configuration that holds.
    pub config: &'a Config,
    /// What is true of processes.
    pub kernel: &'a Kernel,
    /// What the step is about.
    pub trigger: Trigger,
}

impl View<'_> {
    fn spec(&self, service: ServiceId) -> Option<&ServiceSpec> {
        self.specs.get(self.memory.services.get(&service)?.name.as_str())
    }

    fn name(&self, service: ServiceId) -> String {
        let known = self.memory.services.get(&service);
        known.map_or_else(|| format!("service {}", service.0), |record| record.name.to_string())
    }
}

/// All promises, with what they remember.
#[derive(Debug, Default)]
pub struct Checks {
    bounds: bounds::Bounds,
    /// Runs that were found and not started.
    adopted: BTreeSet<RunId>,
    respawn_rate: respawn_rate::RespawnRate,
    restarts: restarts::Restarts,
    run_ends: run_ends::RunEnds,
    /// The answers owed.
    pub tickets: tickets::Tickets,
}

impl Checks {
    /// Looks at one fact before it is folded.
    ///
    /// # Errors
    /// The promise that was broken.
    pub fn fact(&mut self, view: &View<'_>, fact: &Fact) -> Result<(), String> {
        if let What::Adopted { run, .. } = fact.what {
            self.adopted.insert(run);
        }
        stop_order::fact(view, fact)?;
        self.restarts.fact(view, fact)?;
        self.run_ends.fact(fact)?;
        if matches!(fact.what, What::RunBegan { run, .. } if self.adopted.contains(&run)) {
            // It began before anybody could record it.
            return Ok(());
        }
        dependencies::fact(view, fact, &self.adopted)?;
        wanted::fact(view, fact)?;
        self.respawn_rate.fact(view, fact)
    }

    /// Looks at one action before it is carried out; the memory is that after the step.
    ///
    /// # Errors
    /// The promise that was broken.
    pub fn action(&mut self, view: &View<'_>, action: &Action) -> Result<(), String> {
        one_life::action(view, action)?;
        wanted::action(view, action)?;
        self.tickets.action(view, action)
    }

    /// Looks at the whole after a step.
    ///
    /// # Errors
    /// The promise that was broken.
    pub fn step(&mut self, view: &View<'_>, core: &Supervisor, work: usize) -> Result<(), String> {
        // A debug build of the core does so by itself, at the end of each step.
        if !cfg!(debug_assertions) {
            relume_core::invariants::check(core)?;
        }
        owner::step(view)?;
        self.bounds.step(view, work)
    }

    /// The manager has died: nobody answers its clients any more.
    pub fn manager_died(&mut self) {
        self.tickets.manager_died();
    }

    /// A tick was due at the present moment.
    ///
    /// # Errors
    /// That the core spins.
    pub fn tick(&mut self, view: &View<'_>) -> Result<(), String> {
        self.bounds.tick(view)
    }

    /// Everything is over.
    ///
    /// # Errors
    /// The promise that was broken.
    pub fn end(&self, memory: &Snapshot) -> Result<(), String> {
        self.run_ends.end(memory)?;
        self.tickets.end()
    }
}
