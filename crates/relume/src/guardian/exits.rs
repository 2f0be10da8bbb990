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
    /// Those of an earlier guardian in this process.
    pub(super) fn of(ring: VecDeque<Ended>) -> Self {
        let last = ring.back().map_or(0, |ended| ended.number);
        Self { ring, last }
    }

    /// Reaps every child that has ended, except the manager, whose end is dealt with elsewhere; their ends.
    pub(super) fn reap(&mut self, manager: Option<u32>) -> Vec<Ended> {
        let children = proc::children().unwrap_or_default();
        let others = children.into_iter().filter(|pid| Some(*pid) != manager);
        others.filter_map(|pid| self.reap_one(pid)).collect()
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
