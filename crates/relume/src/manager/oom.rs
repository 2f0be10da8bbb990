//! Ends for want of memory.
//!
//! The kernel ends a process with SIGKILL, like anybody else. Where the memory controller counts for the run's own cgroup, that is proof.
//! Elsewhere there is one witness: the machine's count of such kills (`/proc/vmstat`), which says that it happened and not
//! to whom. It is believed only for a SIGKILL that relume did not send, shortly after, and each kill once.

use relume_core::{Exit, RunId};
use relume_os::usage;

use super::edge::Edge;
use super::translate::number;
use super::trees::Tree;

/// The machine's count of kills for want of memory, as it was seen.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// At the first look, and how many there have been.
    first: Option<u64>,
    looks: u32,
    /// At the look before the last one: a kill takes a moment to show as an end.
    older: Option<u64>,
    /// At the last look.
    newer: Option<u64>,
    /// Of those, the ones that explain an end already.
    explained: u64,
}

impl Witness {
    /// A regular look: what was counted two looks ago is history.
    pub(crate) fn look(&mut self, count: Option<u64>) {
        self.first = self.first.or(count);
        self.looks = self.looks.saturating_add(1);
        self.older = std::mem::replace(&mut self.newer, count);
        self.explained = 0;
    }

    /// Whether nobody at all has been killed since the first look, which was long enough ago: then no end is one of these, and
    /// no cgroup has to be asked. That is every SIGKILL of an ordinary day, and each restart waits for the answer.
    fn has_seen_none(&self, count: Option<u64>) -> bool {
        self.looks > 2 && count.is_some() && count == self.first
    }

    /// Whether the count now explains one more end.
    fn explains(&mut self, count: Option<u64>) -> bool {
        let Some((count, before)) = count.zip(self.older.or(self.newer)) else { return false };
        if count.saturating_sub(before) > self.explained {
            self.explained += 1;
            return true;
        }
        false
    }
}

impl Edge {
    /// Looks at the witness, as often as relume says that it lives: twice that is how long ago a kill may be.
    pub(super) fn look_for_kills(&mut self) {
        self.witness.look(usage::oom_kills());
    }

    /// An end as it was, if it was for want of memory.
    pub(super) fn for_want_of_memory(&mut self, id: RunId, exit: Exit) -> Exit {
        let Exit::Signal { number: number::KILL, .. } = exit else { return exit };
        let Some(run) = self.runs.get(&id).filter(|run| !run.killed) else { return exit };
        let of_all = usage::oom_kills();
        if self.witness.has_seen_none(of_all) {
            return exit;
        }
        let counted = match &run.tree {
            Tree::Cgroup(cgroup) => cgroup.oom_kills(),
            Tree::Marked { .. } => None,
        };
        match counted {
            Some(0) => exit,
            Some(_) => Exit::OutOfMemory { certain: true },
            None if self.witness.explains(of_all) => Exit::OutOfMemory { certain: false },
            None => exit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kill_explains_one_end_and_only_shortly_after() {
        let mut witness = Witness::default();
        assert!(!witness.explains(Some(7)), "what was before the first look is not known");
        witness.look(Some(7));
        assert!(!witness.explains(Some(7)));
        assert!(witness.explains(Some(8)));
        assert!(!witness.explains(Some(8)), "somebody else has sent the second SIGKILL");
        assert!(witness.explains(Some(9)));
    }

    #[test]
    fn a_machine_without_kills_is_told_by_one_look_and_not_before_the_first_is_old() {
        let mut witness = Witness::default();
        for _ in 0..2 {
            witness.look(Some(7));
            assert!(!witness.has_seen_none(Some(7)), "the first look may have been between kill and end");
        }
        witness.look(Some(7));
        assert!(witness.has_seen_none(Some(7)) && !witness.has_seen_none(Some(8)));
        witness.look(Some(8));
        assert!(!witness.has_seen_none(Some(8)), "the one that was killed may take its time to end");
        assert!(!witness.has_seen_none(None));
    }

    #[test]
    fn a_look_between_kill_and_end_does_not_hide_it_and_a_second_one_does() {
        let mut witness = Witness::default();
        witness.look(Some(7));
        witness.look(Some(8));
        assert!(witness.explains(Some(8)));
        let mut witness = Witness::default();
        witness.look(Some(7));
        witness.look(Some(8));
        witness.look(Some(8));
        assert!(!witness.explains(Some(8)));
        assert!(!witness.explains(None), "an old kernel counts nothing");
    }
}
