//! Signals for relume: told to the manager, and once more to the next one where it has died and had not said that they are dealt with.

use std::collections::VecDeque;

use relume_os::signals::Arrived;

/// So many are remembered: a manager of another version does not say what it has dealt with.
const MOST: usize = 16;

/// A signal that has arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub(super) arrived: Arrived,
    /// A manager was told, and has died. It is told once more and then never again: it may be what managers die of.
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
        let first = self.0.drain(..).filter(|heard| !heard.again);
        first.map(|heard| Heard { again: true, ..heard })
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
        for signal in [1, 15, 10] {
            told.add(heard(signal));
        }
        told.dealt_with(1);
        let again: Vec<Heard> = told.left().collect();
        assert_eq!(again.iter().map(|heard| heard.arrived.signal).collect::<Vec<_>>(), [15, 10]);
        again.into_iter().for_each(|heard| told.add(heard));
        told.add(heard(2));
        assert_eq!(left(&mut told), [2]);
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
