//! What many services have alike, they have once: most of a thousand services differ in their name, command and
//! log file alone, and each copy of the rest would be kept for as long as relume runs.

use std::sync::Arc;

use crate::model::ServiceConfig;

/// Lets services with equal policies, environments, hooks and readiness hold the same ones.
pub(super) fn alike(services: &mut [ServiceConfig]) {
    let (mut policies, mut environments) = (Shelf::new(), Shelf::new());
    let (mut hooks, mut readiness) = (Shelf::new(), Shelf::new());
    for service in services {
        policies.share(&mut service.spec.policy);
        environments.share(&mut service.launch.environment.0);
        hooks.share(&mut service.hooks);
        readiness.share(&mut service.readiness);
    }
}

/// How many different values are remembered. Services of one kind stand next to each other; comparing each with
/// all would take the square of their number where every one is different.
const REMEMBERED: usize = 16;

/// The values met lately.
struct Shelf<T> {
    met: Vec<Arc<T>>,
    /// The one that makes room for the next.
    oldest: usize,
}

impl<T: PartialEq> Shelf<T> {
    fn new() -> Self {
        Self { met: Vec::new(), oldest: 0 }
    }

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
        let mut shelf = Shelf::new();
        let mut values: Vec<Arc<u32>> = (0..100).flat_map(|n| [Arc::new(n), Arc::new(n)]).collect();
        values.iter_mut().for_each(|value| shelf.share(value));
        assert!(values.chunks(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1])));
        assert_eq!(shelf.met.len(), REMEMBERED);
    }
}
