//! Signals for relume: told to the manager, and again to the next one where it has died and had not said that they are dealt with.

use std::collections::VecDeque;

use relume_os::signals::Arrived;

/// So many are remembered: a manager of another version does not say what it has dealt with.
const MOST: usize = 16;

/// A signal that has arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub(super) arrived: Arrived,
    /// A manager was told, and has died. It is told once more and then never again, for it may be what managers die of; only an order
    /// to end is told until it is dealt with, because who has given it waits for that.
    pub(super) again: bool,
}

/// What a manager was told and has not dealt with.
#[derive(Debug, Default)]
pub(super) struct Told(VecDeque<Heard>);

impl Told {
    /// It was told of this one.
    pub(super) fn add(&mut self, heard: Heard) {
        self.0.push_back(heard);
        if self.0.len() > MOST {
            self.0.pop_front();
        }
    }

    /// It has dealt with so many more.
    pub(super) fn dealt_with(&mut self, count: usize) {
        self.0.drain(..count.min(self.0.len()));
    }

    /// What its successor is to be told, oldest first.
    pub(super) fn left(&mut self) -> impl Iterator<Item = Heard> {
        let ends = |heard: &Heard| matches!(heard.arrived.signal, super::TERM | super::INT);
        let open = self.0.drain(..).filter(move |heard| !heard.again || ends(heard));
        open.map(|heard| Heard { again: true, ..heard })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(signal: i32) -> Heard {
        Heard { arrived: Arrived { signal, code: 0, pid: 0, uid: 0 }, again: false }
    }

    fn left(told: &mut Told) -> Vec<i32> {
        told.left().map(|heard| heard.arrived.signal).collect()
    }

    #[test]
    fn a_signal_that_was_not_dealt_with_is_told_once_more() {
        let mut told = Told::default();
        for signal in [1, 12, 10] {
            told.add(heard(signal));
        }
        told.dealt_with(1);
        let again: Vec<Heard> = told.left().collect();
        assert_eq!(again.iter().map(|heard| heard.arrived.signal).collect::<Vec<_>>(), [12, 10]);
        again.into_iter().for_each(|heard| told.add(heard));
        told.add(heard(1));
        assert_eq!(left(&mut told), [1]);
    }

    /// Shown to fail: with an end that is told as often as others.
    #[test]
    fn an_order_to_end_is_told_until_it_is_dealt_with() {
        let mut told = Told::default();
        told.add(heard(15));
        for _ in 0..3 {
            let again: Vec<Heard> = told.left().collect();
            assert!(matches!(again[..], [Heard { again: true, .. }]));
            told.add(again[0]);
        }
        told.dealt_with(1);
        assert_eq!(left(&mut told), [0; 0]);
    }

    #[test]
    fn one_that_is_told_again_counts_among_those_that_are_dealt_with() {
        let mut told = Told::default();
        told.add(Heard { again: true, ..heard(15) });
        told.add(heard(1));
        told.dealt_with(1);
        assert_eq!(left(&mut told), [1]);
        told.dealt_with(7);
    }

    #[test]
    fn not_more_are_remembered_than_anybody_sends() {
        let mut told = Told::default();
        (0..100).for_each(|signal| told.add(heard(signal)));
        assert_eq!(told.left().count(), MOST);
    }
}
