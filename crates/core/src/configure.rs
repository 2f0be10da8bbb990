//! A new configuration: who is new, who is gone, and who has to be restarted. Nobody else is touched.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;

use crate::cause::Cause;
use crate::event::Config;
use crate::fact::What;
use crate::graph::{self, GraphProblem};
use crate::id::ServiceId;
use crate::plan::is_other_life;
use crate::policy::ServiceSpec;
use crate::state::State;
use crate::supervisor::{Service, Step, Supervisor};

impl Step<'_> {
    /// `recovery`: nobody has asked for it; relume is back, and has retired so many services with it. Then it is told only where it
    /// differs from what held before.
    pub(crate) fn configure(&mut self, config: Config, recovery: Option<usize>) {
        if let Some(problem) = graph::problems(&config.services).first() {
            return self.note(What::ConfigRefused { problem: in_words(problem) });
        }
        let removed = count(self.retire_unnamed(&config) + recovery.unwrap_or(0));
        let (mut added, mut changed) = (0, 0);
        for spec in config.services {
            match self.core.find(&spec.name) {
                Some(id) => changed += u32::from(self.reconfigure(id, spec)),
                None => {
                    self.add(spec);
                    added += 1;
                }
            }
        }
        self.core.manager = config.manager;
        self.core.link();
        match recovery {
            None => self.core.compact(),
            // The tables were made in one go a moment ago; the memory was read entry by entry.
            Some(_) => self.core.memory.compact(),
        }
        let autostart = config.autostart;
        let differs = added + changed + removed > 0 || autostart != self.core.memory.autostart;
        if recovery.is_none() || differs {
            self.note(What::ConfigApplied { added, changed, removed, autostart });
        }
        self.core.dirty.extend(self.core.services.keys().copied());
    }

    /// Retires whom the configuration does not name; how many.
    pub(crate) fn retire_unnamed(&mut self, config: &Config) -> usize {
        let named: BTreeSet<&str> = config.services.iter().map(|spec| spec.name.as_str()).collect();
        let gone: Vec<ServiceId> = self.core.services_not_in(&named);
        for id in &gone {
            self.note(What::Retired { service: *id, retired: true });
            self.core.retired.insert(*id);
        }
        gone.len()
    }

    pub(crate) fn add(&mut self, spec: ServiceSpec) -> ServiceId {
        let service = ServiceId(self.core.memory.next_id);
        self.note(What::Added { service, name: spec.name.clone() });
        self.core.adopt_spec(service, spec);
        service
    }

    /// Gives a known service its new spec; whether what it is started with has changed.
    fn reconfigure(&mut self, id: ServiceId, spec: ServiceSpec) -> bool {
        if self.core.retired.remove(&id) {
            self.note(What::Retired { service: id, retired: false });
        }
        let Some(service) = self.core.services.get_mut(&id) else { return false };
        let old = core::mem::replace(&mut service.spec, spec);
        let (Some(record), Some(new)) = (self.core.record(id), self.core.spec(id)) else { return false };
        let changed = is_other_life(record, &old, new);
        if changed {
            match record.state {
                State::Starting { .. } | State::Running { .. } => {
                    let cause = Some(Cause::ConfigChanged);
                    self.note(What::ReplaceSet { service: id, cause });
                }
                // It failed, or was done, as something else: what it is now has not been tried.
                State::Restarting { .. } | State::Failed { .. } | State::Completed => self.kick(id),
                State::Stopped | State::Pending { .. } | State::Stopping { .. } => {}
            }
        } else if let State::Starting { run, .. } = record.state {
            self.wait_no_longer(run);
        }
        changed
    }
}

impl Supervisor {
    fn services_not_in(&self, named: &BTreeSet<&str>) -> Vec<ServiceId> {
        let known = self.services.iter();
        known
            .filter(|(id, service)| !named.contains(service.spec.name.as_str()) && !self.retired.contains(id))
            .map(|(id, _)| *id)
            .collect()
    }

    pub(crate) fn adopt_spec(&mut self, id: ServiceId, spec: ServiceSpec) {
        self.names.insert(spec.name.clone(), id);
        self.services.insert(id, unlinked(spec));
    }

    /// The specs of all that are recorded, into empty tables.
    pub(crate) fn adopt_specs(&mut self, all: Vec<(ServiceId, ServiceSpec)>) {
        self.names = all.iter().map(|(id, spec)| (spec.name.clone(), *id)).collect();
        self.services = all.into_iter().map(|(id, spec)| (id, unlinked(spec))).collect();
    }

    /// Lays the edges anew, in both directions. A retired service keeps its own: the order in which it is
    /// stopped follows from them.
    pub(crate) fn link(&mut self) {
        let mut dependents: BTreeMap<ServiceId, Vec<ServiceId>> = BTreeMap::new();
        let mut followers: BTreeMap<ServiceId, Vec<ServiceId>> = BTreeMap::new();
        for (id, service) in &mut self.services {
            let needs = service.spec.policy.dependencies.iter();
            service.needs =
                needs.filter_map(|(name, how)| Some((*self.names.get(name.as_str())?, *how))).collect();
            service.unmet_at.set(0);
            service.blocked_at.set(0);
            service.needs_wanted.set(false);
            for (need, how) in &*service.needs {
                dependents.entry(*need).or_default().push(*id);
                if how.restart {
                    followers.entry(*need).or_default().push(*id);
                }
            }
        }
        for (id, service) in &mut self.services {
            service.dependents = dependents.remove(id).unwrap_or_default().into();
            service.followers = followers.remove(id).unwrap_or_default().into();
        }
    }
}

impl Supervisor {
    /// Builds the tables anew: one that was filled in the order of its keys is half empty, for as long as
    /// it lives.
    fn compact(&mut self) {
        self.services = core::mem::take(&mut self.services).into_iter().collect();
        self.names = core::mem::take(&mut self.names).into_iter().collect();
        self.memory.compact();
    }
}

/// A service of which nobody knows yet who it needs, and who needs it.
fn unlinked(spec: ServiceSpec) -> Service {
    Service {
        spec,
        needs: Box::default(),
        dependents: Box::default(),
        followers: Box::default(),
        unmet_at: Cell::new(0),
        blocked_at: Cell::new(0),
        needs_wanted: Cell::new(false),
        orders: Vec::new(),
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

pub(crate) fn in_words(problem: &GraphProblem) -> String {
    match problem {
        GraphProblem::Unknown { service, dependency } => {
            format!("{service} depends on {dependency}, which does not exist")
        }
        GraphProblem::Cycle(names) => format!("dependency cycle: {}", names.join(" → ")),
        GraphProblem::Duplicate(name) => format!("two services are named {name}"),
    }
}
