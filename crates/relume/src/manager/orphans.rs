//! Children that are nobody's main process: they were handed to us when their parents died, and are reaped when they have ended.
//!
//! It must never reap the process of a run, whose end is learned in [`translate`](super::translate), nor one that a spawn is about to tell.

use std::collections::HashSet;
use std::time::Duration;

use relume_core::Moment;
use relume_os::exit::{self, Reaped};
use relume_os::proc;

use super::edge::Edge;

/// How long after the end of a child orphans are looked for. Zombies cost a process id each and nothing
/// else, so a second would do; a fifth of it leaves room for a machine that is slow.
const WAIT: Duration = Duration::from_millis(200);

/// Where a look finds so many, more are on their way, and they hold the ids that services need.
const FLOOD: usize = 16;

/// The next look then comes after so many times what this one has taken: a look asks each child, and those that end need the
/// processors as well. To ask the kernel for the first that has ended was not chosen: it goes through all that live to find it, and
/// holds up those that end.
const SHARE: u32 = 4;

/// How much longer they wait while a spawn is under way: it takes milliseconds, unless it hangs.
const AT_LAST: Duration = Duration::from_secs(2);

/// When to look for them.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    at: Option<Moment>,
    /// The last look has found many, and so long is to pass until the next.
    flood: Option<Duration>,
}

impl Edge {
    /// A child has ended. Orphans are looked for a little later, and not with each one.
    pub(super) fn expect_orphans(&mut self) {
        let wait = self.orphans.flood.unwrap_or(WAIT);
        self.orphans.at.get_or_insert_with(|| Self::now().after(wait));
    }

    /// When orphans are to be looked for.
    pub(super) fn orphans_due(&self) -> Option<Moment> {
        let patience = if self.spawns_under_way > 0 { AT_LAST } else { Duration::ZERO };
        self.orphans.at.map(|at| at.after(patience))
    }

    /// Reaps them when it is time. While a spawn is under way, what looks like an orphan could be the process of a run that is
    /// only about to be told: then they wait, and are reaped when all spawns under way are seen to hang before their exec.
    pub(crate) fn reap_orphans(&mut self) {
        let now = Self::now();
        if self.orphans_due().is_none_or(|at| at > now) {
            return;
        }
        let own: HashSet<u32> = self.runs.values().filter_map(|run| run.own_child()).collect();
        self.orphans = Orphans::default();
        if self.spawns_under_way > 0 {
            self.beside_spawns(&own).into_iter().for_each(|pid| _ = reap(pid));
            // Others end meanwhile.
            self.orphans.at = Some(now);
            return;
        }
        // One that lives stays. To look into /proc first would cost ten times as much for each.
        let reaped = beside(&own).filter(|pid| reap(*pid)).count();
        if reaped >= FLOOD {
            self.orphans.flood = Some(WAIT.min(Self::now().since(now) * SHARE));
        }
    }

    /// Those of our children that have ended and are no spawn's, as far as that can be told: where each spawn under way has a child
    /// that lives and still runs our program, as one does whose exec waits for a dead mount.
    fn beside_spawns(&self, own: &HashSet<u32>) -> Vec<u32> {
        let ended = |pid: &u32| matches!(proc::stat(*pid), Ok(Some(stat)) if stat.is_zombie());
        let (ended, living): (Vec<u32>, Vec<u32>) = beside(own).partition(ended);
        // The name alone: to look at the file itself could wait for its disk.
        let program = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
        let ours = program("self");
        let before_exec =
            living.iter().filter(|pid| ours.is_some() && program(&pid.to_string()) == ours).count();
        if u32::try_from(before_exec) == Ok(self.spawns_under_way) { ended } else { Vec::new() }
    }
}

/// Our children, without those of runs.
fn beside(own: &HashSet<u32>) -> impl Iterator<Item = u32> {
    proc::children().unwrap_or_default().into_iter().filter(|pid| !own.contains(pid))
}

fn reap(pid: u32) -> bool {
    matches!(exit::reap_orphan(pid), Ok(Reaped::Exited { .. }))
}
