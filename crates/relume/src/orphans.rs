//! The last of what was handed to a process of ours as a subreaper.

use std::time::Duration;

use relume_os::pidfd::ProcessId;
use relume_os::{exit, proc, signals};

/// Rounds in which the children of ended children are ended too; a family is rarely deeper than three.
const ROUNDS: usize = 100;

/// How long one of them may take to die of SIGKILL. One that waits in the kernel is left to init.
const PATIENCE: Duration = Duration::from_secs(1);

/// Ends all children of this process, for the moment before it ends itself: without cgroups, a daemon that has
/// wiped its environment and made its own session is known only as somebody's orphan that was handed to us.
pub(crate) fn end_all() {
    let kill = signals::parse("KILL").unwrap_or(9);
    for _ in 0..ROUNDS {
        let children = proc::children().unwrap_or_default();
        if children.is_empty() {
            return;
        }
        for pid in children {
            if let Ok(Some(process)) = ProcessId::of(pid)
                && let Ok(Some(pidfd)) = process.open()
            {
                let _gone = pidfd.send_signal(kill);
                let _slow = pidfd.wait_ended(PATIENCE);
            }
            let _not_ours = exit::reap_orphan(pid);
        }
    }
}
