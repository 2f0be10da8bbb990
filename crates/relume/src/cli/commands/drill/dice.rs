//! Chance that can be repeated: the same seed makes the same drill.

/// splitmix64, as published by Sebastiano Vigna (<https://prng.di.unimi.it/splitmix64.c>).
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `below`, which itself does not occur; 0 where there is nothing below.
    pub(super) fn number(&mut self, below: u64) -> u64 {
        self.next().checked_rem(below).unwrap_or(0)
    }

    /// One of them.
    pub(super) fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(usize::try_from(self.number(all.len() as u64)).unwrap_or(0))
    }

    /// The parts in an order of chance, each as often as any other, until there are `count`.
    pub(super) fn deal<T: Copy>(&mut self, parts: &[T], count: usize) -> Vec<T> {
        let mut all = Vec::with_capacity(count);
        while all.len() < count && !parts.is_empty() {
            let mut hand = parts.to_vec();
            while !hand.is_empty() {
                let at = usize::try_from(self.number(hand.len() as u64)).unwrap_or(0);
                all.push(hand.swap_remove(at));
            }
        }
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_deals_the_same_and_every_part_as_often() {
        let deal = |seed| Dice::new(seed).deal(&['m', 'g', 'b'], 30);
        assert_eq!(deal(7), deal(7));
        assert_ne!(deal(7), deal(8));
        for part in ['m', 'g', 'b'] {
            assert_eq!(deal(7).iter().filter(|dealt| **dealt == part).count(), 10);
        }
        assert!(Dice::new(1).deal::<char>(&[], 3).is_empty());
    }
}
