//! Who waits for whom: names to instances, then the judgement of the core with places put to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use relume_core::ServiceSpec;
use relume_core::graph::{GraphProblem, problems};

use super::service::Lowered;
use crate::nearest::nearest;
use crate::source::{Finding, Sink, Sources, Span};

/// Turns a dependency on a service into one on all its instances, and says what is wrong with the whole.
pub(super) fn connect(lowered: &mut [Lowered], sink: &mut Sink, sources: &Sources) {
    let instances: HashMap<String, Vec<String>> = lowered
        .iter()
        .map(|service| {
            (service.name.clone(), service.instances.iter().map(|i| i.spec.name.to_string()).collect())
        })
        .collect();
    for service in lowered.iter_mut() {
        for instance in &mut service.instances {
            let policy = Arc::make_mut(&mut instance.spec.policy);
            let written = std::mem::take(&mut policy.dependencies);
            for (name, dependency) in written {
                match instances.get(&name) {
                    Some(names) => {
                        let each = names.iter().map(|name| (name.clone(), dependency));
                        // What is said of one instance by name stands above what is said of all.
                        each.for_each(|(name, dependency)| {
                            policy.dependencies.entry(name).or_insert(dependency);
                        });
                    }
                    None => {
                        policy.dependencies.insert(name, dependency);
                    }
                }
            }
        }
    }
    let specs: Vec<ServiceSpec> =
        lowered.iter().flat_map(|service| &service.instances).map(|instance| instance.spec.clone()).collect();
    let judge = Judge::new(lowered);
    for problem in problems(&specs).into_iter().chain(problems(&collapsed(lowered))) {
        match problem {
            GraphProblem::Unknown { service, dependency } => judge.unknown(&service, &dependency, sink),
            GraphProblem::Cycle(names) => judge.cycle(&names, sink, sources),
            // Names are compared where they are written, before any of this.
            GraphProblem::Duplicate(_) => {}
        }
    }
}

/// Each service once, waiting for services as a whole. All instances of a service wait for the same, so a
/// circle of instances is one of services, and is named as such once, and not once for each way through it.
fn collapsed(lowered: &[Lowered]) -> Vec<ServiceSpec> {
    let known: BTreeSet<&str> = lowered.iter().map(|service| service.name.as_str()).collect();
    let one = |service: &Lowered| {
        let mut spec = service.instances.first()?.spec.clone();
        spec.name = service.name.as_str().into();
        let policy = Arc::make_mut(&mut spec.policy);
        let dependencies = std::mem::take(&mut policy.dependencies);
        let whole = dependencies
            .into_iter()
            .map(|(name, dependency)| (name.split(':').next().unwrap_or_default().to_owned(), dependency));
        policy.dependencies = whole.filter(|(name, _)| known.contains(name.as_str())).collect();
        Some(spec)
    };
    lowered.iter().filter_map(one).collect()
}

struct Judge<'a> {
    /// By the name of every instance.
    services: BTreeMap<&'a str, &'a Lowered>,
}

impl<'a> Judge<'a> {
    fn new(lowered: &'a [Lowered]) -> Self {
        let services = lowered
            .iter()
            .flat_map(|service| service.instances.iter().map(move |i| (i.spec.name.as_str(), service)))
            .collect();
        Self { services }
    }

    /// Where a service says that it waits for another.
    fn edge(&self, service: &Lowered, dependency: &str) -> Span {
        let base = dependency.split(':').next().unwrap_or(dependency);
        let Some(node) = service.node.get("dependencies") else { return service.name_span };
        let named = |text: &str| text == dependency || text == base;
        if let Some(pair) = node.pairs().iter().find(|pair| named(&pair.key)) {
            return pair.key_span;
        }
        let element = node.elements().iter().find(|element| element.text().is_some_and(named));
        element.map_or(node.span, |element| element.span)
    }

    fn unknown(&self, service: &str, dependency: &str, sink: &mut Sink) {
        let Some(owner) = self.services.get(service) else { return };
        let known = self.services.values().map(|service| service.name.as_str());
        let base = dependency.split(':').next().unwrap_or(dependency);
        let hint = match self.services.values().find(|service| service.name == base) {
            Some(found) if found.instances.len() > 1 => {
                format!("; `{base}` has {} instances", found.instances.len())
            }
            Some(_) => format!("; `{base}` has one instance, called `{base}`"),
            None => nearest(dependency, known)
                .map(|meant| format!("; did you mean `{meant}`?"))
                .unwrap_or_default(),
        };
        let message = format!("`{}` depends on `{dependency}`, which does not exist{hint}", owner.name);
        let key = format!("services.{}.dependencies", owner.name);
        sink.add(Finding::error(self.edge(owner, dependency), message).key(key));
    }

    fn cycle(&self, names: &[String], sink: &mut Sink, sources: &Sources) {
        let places: Vec<(Span, String)> = names
            .windows(2)
            .filter_map(|pair| {
                let service = self.services.values().find(|service| service.name == pair[0])?;
                let span = self.edge(service, &pair[1]);
                Some((span, format!("{} → {} at {}", pair[0], pair[1], sources.place(span))))
            })
            .collect();
        let Some((first, _)) = places.first() else { return };
        let message = format!("dependencies go in a circle: {}", names.join(" → "));
        let all = places.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(", ");
        let key = format!("services.{}.dependencies", names[0]);
        sink.add(Finding::error(*first, message).key(key).help(all));
    }
}
