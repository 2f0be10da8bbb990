//! Which of the open files was used longest ago.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Remembers at most `limit` keys, in order of their last use.
pub(super) struct Lru<K> {
    limit: usize,
    clock: u64,
    stamps: HashMap<K, u64>,
    order: BTreeMap<u64, K>,
}

impl<K: Hash + Eq + Copy> Lru<K> {
    /// `limit` is at least one.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), clock: 0, stamps: HashMap::new(), order: BTreeMap::new() }
    }

    /// `key` is used now. Returns the key that has to go to make room for it.
    pub(super) fn touch(&mut self, key: K) -> Option<K> {
        self.forget(key);
        let evicted = (self.stamps.len() >= self.limit).then(|| self.order.pop_first()).flatten();
        if let Some((_, old)) = evicted {
            self.stamps.remove(&old);
        }
        self.clock += 1;
        self.stamps.insert(key, self.clock);
        self.order.insert(self.clock, key);
        evicted.map(|(_, old)| old)
    }

    /// `key` is not open any more.
    pub(super) fn forget(&mut self, key: K) {
        if let Some(stamp) = self.stamps.remove(&key) {
            self.order.remove(&stamp);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lru;

    /// The key used longest ago goes first, and a touch renews.
    #[test]
    fn oldest_use_goes_first() {
        let mut lru = Lru::new(2);
        assert_eq!(lru.touch('a'), None);
        assert_eq!(lru.touch('b'), None);
        assert_eq!(lru.touch('a'), None);
        assert_eq!(lru.touch('c'), Some('b'));
        lru.forget('a');
        assert_eq!(lru.touch('d'), None);
        assert_eq!(lru.touch('e'), Some('c'));
    }
}
