//! What many services have alike, they have once: most of a thousand services differ in their name, command and
//! log file alone, and each copy of the rest would be kept for as long as relume runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use relume_core::{Name, Policy, ServiceSpec};

use crate::alert::Alert;
use crate::model::{Environment, HookCommands, How, Launch, LogConfig, LogRules, More, ServiceConfig, Shown};
use crate::readiness::Readiness;
use crate::resources::{Resources, Socket};

/// Lets services hold the same value of what they have equal.
pub(super) fn alike(services: &mut [ServiceConfig]) {
    let mut shelves = Shelves::default();
    services.iter_mut().for_each(|service| shelves.share(service));
}

/// The same services in memory of their own. While a config is read, what stays of it comes to lie between what does not.
pub(crate) fn afresh(services: &[ServiceConfig]) -> Vec<ServiceConfig> {
    let mut shelves = Shelves::default();
    let anew = |service| {
        let mut copy = copy(service);
        // At once: what is given back here is what the next one takes.
        shelves.share(&mut copy);
        copy
    };
    services.iter().map(anew).collect()
}

/// A copy that shares nothing.
fn copy(service: &ServiceConfig) -> ServiceConfig {
    let name = Name::from(service.spec.name.as_str());
    let same = |other: &Name| if *other == name { name.clone() } else { Name::from(other.as_str()) };
    let (launch, log) = (&service.launch, &service.log);
    ServiceConfig {
        launch: Launch {
            argv: launch.argv.iter().map(|word| Arc::from(&**word)).collect(),
            environment: Environment(Arc::new((*launch.environment.0).clone())),
            how: Arc::new((*launch.how).clone()),
        },
        stand_in: service.stand_in.clone(),
        hooks: Arc::new((*service.hooks).clone()),
        pid_file: service.pid_file.clone(),
        readiness: Arc::new((*service.readiness).clone()),
        alerts: service.alerts.to_vec().into(),
        log: LogConfig { file: Arc::from(&*log.file), rules: Arc::new((*log.rules).clone()) },
        shown: Shown {
            display_name: same(&service.shown.display_name),
            more: Arc::new((*service.shown.more).clone()),
        },
        schedule: service.schedule.clone(),
        resources: Arc::new((*service.resources).clone()),
        sockets: service.sockets.to_vec().into(),
        base_name: same(&service.base_name),
        spec: ServiceSpec {
            policy: Arc::new((*service.spec.policy).clone()),
            launch: service.spec.launch,
            name,
        },
    }
}

/// A shelf for each thing that services may have equal.
#[derive(Default)]
pub(crate) struct Shelves {
    words: Shelf<str>,
    environments: Shelf<BTreeMap<String, String>>,
    how: Shelf<How>,
    policies: Shelf<Policy>,
    hooks: Shelf<HookCommands>,
    readiness: Shelf<Readiness>,
    alerts: Shelf<[Alert]>,
    rules: Shelf<LogRules>,
    more: Shelf<More>,
    resources: Shelf<Resources>,
    sockets: Shelf<[Socket]>,
}

impl Shelves {
    /// Has the service hold what was met before, where that is equal.
    pub(crate) fn share(&mut self, service: &mut ServiceConfig) {
        let name = &service.spec.name;
        for other in [&mut service.base_name, &mut service.shown.display_name] {
            if *other == *name {
                *other = name.clone();
            }
        }
        service.launch.argv.iter_mut().for_each(|word| self.words.share(word));
        self.environments.share(&mut service.launch.environment.0);
        self.how.share(&mut service.launch.how);
        self.policies.share(&mut service.spec.policy);
        self.hooks.share(&mut service.hooks);
        self.readiness.share(&mut service.readiness);
        self.alerts.share(&mut service.alerts);
        self.rules.share(&mut service.log.rules);
        self.more.share(&mut service.shown.more);
        self.resources.share(&mut service.resources);
        self.sockets.share(&mut service.sockets);
    }
}

/// How many different values are remembered. Services of one kind stand next to each other; comparing each with
/// all would take the square of their number where every one is different.
const REMEMBERED: usize = 16;

/// The values met lately.
struct Shelf<T: ?Sized> {
    met: Vec<Arc<T>>,
    /// The one that makes room for the next.
    oldest: usize,
}

impl<T: ?Sized> Default for Shelf<T> {
    fn default() -> Self {
        Self { met: Vec::new(), oldest: 0 }
    }
}

impl<T: PartialEq + ?Sized> Shelf<T> {
    fn share(&mut self, value: &mut Arc<T>) {
        if let Some(same) = self.met.iter().find(|met| ***met == **value) {
            *value = Arc::clone(same);
        } else if self.met.len() < REMEMBERED {
            self.met.push(Arc::clone(value));
        } else if let Some(place) = self.met.get_mut(self.oldest) {
            *place = Arc::clone(value);
            self.oldest = (self.oldest + 1) % REMEMBERED;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_become_one_and_the_shelf_stays_small() {
        let mut shelf = Shelf::default();
        let mut values: Vec<Arc<u32>> = (0..100).flat_map(|n| [Arc::new(n), Arc::new(n)]).collect();
        values.iter_mut().for_each(|value| shelf.share(value));
        assert!(values.chunks(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1])));
        assert_eq!(shelf.met.len(), REMEMBERED);
    }
}
