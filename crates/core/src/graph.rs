//! Who needs whom: what is wrong with a set of dependencies, and both directions of what is right.
//!
//! Nothing here recurses: a chain of ten thousand services must not overflow a stack.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::policy::ServiceSpec;

/// A set of services that cannot be supervised, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GraphProblem {
    /// `service` depends on a name that nobody has.
    Unknown {
        /// Who depends.
        service: String,
        /// The name that is missing.
        dependency: String,
    },
    /// The services of one cycle in order, the first again at the end.
    Cycle(Vec<String>),
    /// Two services of one name.
    Duplicate(String),
}

/// Everything that is wrong with the dependencies of `specs`; empty when they can be supervised.
///
/// Each cycle is named whole. Cycles that share services are named one at a time: cutting the named one
/// brings up the next.
#[must_use]
pub fn problems(specs: &[ServiceSpec]) -> Vec<GraphProblem> {
    let mut found = Vec::new();
    let mut by_name = BTreeMap::new();
    for spec in specs {
        if by_name.insert(spec.name.as_str(), spec).is_some() {
            found.push(GraphProblem::Duplicate(String::from(&spec.name)));
        }
    }
    for spec in specs {
        for name in spec.policy.dependencies.keys().filter(|name| !by_name.contains_key(name.as_str())) {
            found.push(GraphProblem::Unknown { service: String::from(&spec.name), dependency: name.clone() });
        }
    }
    found.extend(cycles(&by_name));
    found
}

/// Depth-first search with its own stack; a name met again on the current path closes a cycle.
fn cycles(by_name: &BTreeMap<&str, &ServiceSpec>) -> Vec<GraphProblem> {
    let mut found = Vec::new();
    let mut finished = BTreeSet::new();
    // Who needs nobody is on no cycle: with most services of most configurations that is the whole search.
    for root in by_name.iter().filter(|(_, spec)| !spec.policy.dependencies.is_empty()).map(|(name, _)| *name)
    {
        let mut path: Vec<(&str, Vec<&str>)> = Vec::new();
        let mut on_path = BTreeSet::new();
        let mut next = Some(root);
        loop {
            if let Some(name) = next.take()
                && !finished.contains(name)
            {
                if on_path.contains(name) {
                    found.push(close(&path, name));
                } else if let Some(spec) = by_name.get(name) {
                    on_path.insert(name);
                    path.push((name, spec.policy.dependencies.keys().map(String::as_str).rev().collect()));
                }
            }
            let Some((name, left)) = path.last_mut() else { break };
            next = left.pop();
            if next.is_none() {
                finished.insert(*name);
                on_path.remove(name);
                path.pop();
            }
        }
    }
    found
}

/// The part of `path` from `name` on, closed with `name` again.
fn close(path: &[(&str, Vec<&str>)], name: &str) -> GraphProblem {
    let start = path.iter().position(|(at, _)| *at == name).unwrap_or(0);
    let mut cycle: Vec<String> = path[start..].iter().map(|(at, _)| String::from(*at)).collect();
    cycle.push(String::from(name));
    GraphProblem::Cycle(cycle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Condition, Dependency, Policy};

    fn spec(name: &str, needs: &[&str]) -> ServiceSpec {
        let ready = Dependency { condition: Condition::Ready, restart: false };
        let dependencies = needs.iter().map(|n| (String::from(*n), ready)).collect();
        ServiceSpec {
            name: name.into(),
            policy: Policy { dependencies, ..Policy::default() }.into(),
            launch: 0,
        }
    }

    #[test]
    fn a_graph_without_cycles_has_no_problems() {
        assert_eq!(problems(&[spec("a", &["b", "c"]), spec("b", &["c"]), spec("c", &[])]), []);
    }

    #[test]
    fn a_cycle_is_named_whole_and_once() {
        let specs = [spec("a", &["b"]), spec("b", &["c"]), spec("c", &["a"]), spec("d", &["a"])];
        let names = ["a", "b", "c", "a"].map(String::from).to_vec();
        assert_eq!(problems(&specs), [GraphProblem::Cycle(names)]);
    }

    #[test]
    fn a_service_that_needs_itself_is_a_cycle() {
        let names = ["a", "a"].map(String::from).to_vec();
        assert_eq!(problems(&[spec("a", &["a"])]), [GraphProblem::Cycle(names)]);
    }

    #[test]
    fn unknown_and_duplicate_names_are_told_apart() {
        let specs = [spec("a", &["x"]), spec("a", &[])];
        let unknown = GraphProblem::Unknown { service: "a".into(), dependency: "x".into() };
        assert_eq!(problems(&[spec("a", &["x"])]), [unknown]);
        assert!(problems(&specs).contains(&GraphProblem::Duplicate("a".into())));
    }

    #[test]
    fn a_chain_of_ten_thousand_does_not_overflow_the_stack() {
        let name = |i: usize| alloc::format!("s{i}");
        let mut specs: Vec<_> = (0..10_000).map(|i| spec(&name(i), &[name(i + 1).as_str()])).collect();
        specs.push(spec(&name(10_000), &[]));
        assert_eq!(problems(&specs), []);
        specs[9_999] = spec(&name(9_999), &["s0"]);
        let found = problems(&specs);
        assert!(matches!(&found[..], [GraphProblem::Cycle(names)] if names.len() == 10_001));
    }
}
