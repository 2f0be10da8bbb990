//! How processes ended that were handed to the guardian: told to every manager until one has it in its journal.

use std::collections::VecDeque;

use relume_os::exit::{self, Reaped};
use relume_os::pidfd::ProcessId;
use relume_os::proc;

use super::link::Ended;

/// Ends kept for a manager that has not acknowledged them: as many as services can end while one is being
/// started. The oldest go first.
const KEPT: usize = 16_384;

/// The ends that no manager has acknowledged.
#[derive(Debug, Default)]
pub(super) struct Exits {
    ring: VecDeque<Ended>,
    last: u64,
}

impl Exits {
    /// Those of an earlier guardian in this process, who had counted up to `last`. All of them may be acknowledged, and a manager
    /// that lives on would take a number that comes again for one that it knows.
    pub(super) fn of(ring: VecDeque<Ended>, last: u64) -> Self {
        let last = ring.back().map_or(0, |ended| ended.number).max(last);
        Self { ring, last }
    }

    /// The number of the last end.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Reaps every child that has ended, except the manager, whose end is dealt with elsewhere; their ends.
    pub(super) fn reap(&mut self, manager: Option<u32>) -> Vec<Ended> {
        let mut ends = Vec::new();
        while let Some(first) = exit::first_ended_child().unwrap_or(None) {
            match Some(first).filter(|first| Some(*first) != manager).and_then(|pid| self.reap_one(pid)) {
                Some(ended) => ends.push(ended),
                // The manager, or one that does not go, stands before the others: each child is asked, which takes as long as
                // there are many, and services wait for it to be started again.
                None => {
                    let children = proc::children().unwrap_or_default();
                    let others = children.into_iter().filter(|pid| Some(*pid) != manager);
                    ends.extend(others.filter_map(|pid| self.reap_one(pid)));
                    break;
                }
            }
        }
        ends
    }

    fn reap_one(&mut self, pid: u32) -> Option<Ended> {
        if !exit::has_child_ended(pid).unwrap_or(false) {
            return None;
        }
        // Before the reap: then the number is free for others.
        let start_time = proc::stat(pid).ok().flatten().map_or(0, |stat| stat.start_time);
        let Ok(Reaped::Exited { pid, status, usage }) = exit::reap_orphan(pid) else { return None };
        self.last += 1;
        let ended = Ended { number: self.last, process: ProcessId { pid, start_time }, status, usage };
        if self.ring.len() == KEPT {
            self.ring.pop_front();
        }
        self.ring.push_back(ended);
        Some(ended)
    }

    /// A manager has these in its journal.
    pub(super) fn acknowledged(&mut self, upto: u64) {
        while self.ring.front().is_some_and(|ended| ended.number <= upto) {
            self.ring.pop_front();
        }
    }

    /// Those that a new manager has to be told, oldest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Ended> {
        self.ring.iter()
    }
}

#[cfg(test)]
mod tests {
    use relume_os::exit::{ExitStatus, Usage};

    use super::*;

    fn ended(number: u64) -> Ended {
        let process = ProcessId { pid: 7, start_time: number };
        Ended { number, process, status: ExitStatus::Code(0), usage: Usage::default() }
    }

    /// With the count begun anew, the manager that lives on acknowledges nothing any more, and everything is told again.
    #[test]
    fn the_count_goes_on_in_a_new_guardian_though_all_is_acknowledged() {
        let mut exits = Exits::of([ended(1), ended(2)].into(), 2);
        exits.acknowledged(2);
        assert_eq!((exits.all().count(), exits.last()), (0, 2));
        let next = Exits::of(exits.all().copied().collect(), exits.last());
        assert_eq!(next.last(), 2);
        // A table of an earlier version does not say it.
        assert_eq!(Exits::of([ended(5)].into(), 0).last(), 5);
    }
}
