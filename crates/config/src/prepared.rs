//! A config that was read and judged, in a form that is had again in a fraction of the time: for a successor of the same program,
//! which would come to the same. What many services share is in it once, and is shared again.
//!
//! It is no format to be kept: another build may see something else in it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use relume_core::{Name, Policy, ServiceSpec};
use serde::{Deserialize, Serialize};

use crate::lower::share::Shelves;
use crate::model::{Config, Environment, HookCommands, ManagerConfig, ServiceConfig, Template};
use crate::readiness::Readiness;

/// The whole of a [`Config`], to be written down.
#[derive(Debug, Serialize, Deserialize)]
pub struct Prepared {
    manager: ManagerConfig,
    sources: Vec<PathBuf>,
    templates: Vec<Template>,
    policies: Vec<Policy>,
    environments: Vec<BTreeMap<String, String>>,
    hooks: Vec<HookCommands>,
    readiness: Vec<Readiness>,
    services: Vec<Entry>,
}

/// A service, and where the parts of it stand that others may share: policy, environment, hooks, readiness.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    name: Name,
    launch: u64,
    parts: [u32; 4],
    service: ServiceConfig,
}

/// In place of a spec that is written beside its service.
pub(crate) fn no_spec() -> ServiceSpec {
    ServiceSpec { name: Name::default(), policy: Arc::default(), launch: 0 }
}

/// Different values in the order of their coming.
struct Shelf<T> {
    known: HashMap<*const T, u32>,
    all: Vec<T>,
}

impl<T: Clone> Shelf<T> {
    fn new() -> Self {
        Self { known: HashMap::new(), all: Vec::new() }
    }

    fn place(&mut self, value: &Arc<T>) -> u32 {
        let next = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        *self.known.entry(Arc::as_ptr(value)).or_insert_with(|| {
            self.all.push(T::clone(value));
            next
        })
    }
}

impl From<&Config> for Prepared {
    fn from(config: &Config) -> Self {
        let (mut policies, mut environments) = (Shelf::new(), Shelf::new());
        let (mut hooks, mut readiness) = (Shelf::new(), Shelf::new());
        let entry = |service: &ServiceConfig| Entry {
            name: service.spec.name.clone(),
            launch: service.spec.launch,
            parts: [
                policies.place(&service.spec.policy),
                environments.place(&service.launch.environment.0),
                hooks.place(&service.hooks),
                readiness.place(&service.readiness),
            ],
            service: service.clone(),
        };
        let services = config.services.iter().map(entry).collect();
        Self {
            manager: config.manager.clone(),
            sources: config.sources.clone(),
            templates: config.templates.clone(),
            policies: policies.all,
            environments: environments.all,
            hooks: hooks.all,
            readiness: readiness.all,
            services,
        }
    }
}

impl Prepared {
    /// The config; none: a part of it is missing.
    #[must_use]
    pub fn config(self) -> Option<Config> {
        let Self { manager, sources, templates, policies, environments, hooks, readiness, services } = self;
        let (policies, environments) = (shared(policies), shared(environments));
        let (hooks, readiness) = (shared(hooks), shared(readiness));
        let mut shelves = Shelves::default();
        let whole = |entry: Entry| {
            let Entry { name, launch, parts: [policy, environment, hook, ready], mut service } = entry;
            service.spec = ServiceSpec { name, policy: part(&policies, policy)?, launch };
            service.launch.environment = Environment(part(&environments, environment)?);
            service.hooks = part(&hooks, hook)?;
            service.readiness = part(&readiness, ready)?;
            shelves.share(&mut service);
            Some(service)
        };
        let services = services.into_iter().map(whole).collect::<Option<_>>()?;
        Some(Config { manager, services, sources, templates })
    }
}

fn shared<T>(all: Vec<T>) -> Vec<Arc<T>> {
    all.into_iter().map(Arc::new).collect()
}

fn part<T>(all: &[Arc<T>], number: u32) -> Option<Arc<T>> {
    all.get(usize::try_from(number).ok()?).cloned()
}
