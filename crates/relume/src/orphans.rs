//! The last of what was handed to a process of ours as a subreaper.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use relume_os::pidfd::ProcessId;
use relume_os::{exit, proc, signals};

/// Rounds in which the children of ended children are ended too; a family is rarely deeper than three.
const ROUNDS: usize = 100;

/// How long all of them together may take to die of SIGKILL. What waits in the kernel, or may not be killed, is left to init.
const PATIENCE: Duration = Duration::from_secs(2);

/// Ends all children of this process, for the moment before it ends itself: without cgroups, a daemon that has
/// wiped its environment and made its own session is known only as somebody's orphan that was handed to us.
///
/// Not ours are `spared`, and what is in this process's own session: every service begins with a session of its own.
pub(crate) fn end_all(spared: &[ProcessId]) {
    let kill = signals::parse("KILL").unwrap_or(9);
    let until = Instant::now() + PATIENCE;
    let mut spared: HashSet<ProcessId> = spared.iter().copied().collect();
    for _ in 0..ROUNDS {
        let children: Vec<ProcessId> = proc::children()
            .unwrap_or_default()
            .into_iter()
            .filter_map(|pid| ProcessId::of(pid).ok()?)
            .filter(|child| !spared.contains(child) && !is_in_our_session(*child))
            .collect();
        if children.is_empty() {
            return;
        }
        let killed: Vec<_> = children
            .iter()
            .map(|child| child.open().ok().flatten().filter(|pidfd| pidfd.send_signal(kill).is_ok()))
            .collect();
        for (child, pidfd) in children.into_iter().zip(killed) {
            let left = until.saturating_duration_since(Instant::now());
            let ended = pidfd.is_none_or(|pidfd| pidfd.wait_ended(left).unwrap_or(false));
            if !ended || !matches!(exit::reap_orphan(child.pid), Ok(exit::Reaped::Exited { .. })) {
                // Asked once more it would not answer either.
                spared.insert(child);
            }
        }
    }
}

/// Children of this process that it has not started and was not handed: who was there before it became what it is. All that
/// descends from them is theirs.
pub(crate) fn before_us() -> Vec<ProcessId> {
    let children = proc::children().unwrap_or_default();
    if children.is_empty() {
        return Vec::new();
    }
    let mut families: HashSet<u32> = children.into_iter().collect();
    let all = proc::all().unwrap_or_default();
    loop {
        let before = families.len();
        families.extend(all.iter().filter(|p| families.contains(&p.ppid)).map(|p| p.pid).collect::<Vec<_>>());
        if families.len() == before {
            break;
        }
    }
    let known = |pid: u32| all.iter().find(|p| p.pid == pid);
    let id = |pid| known(pid).map(|p| ProcessId { pid: p.pid, start_time: p.start_time });
    families.into_iter().filter_map(id).collect()
}

/// Whether a process is in this process's own session.
fn is_in_our_session(process: ProcessId) -> bool {
    let session = |pid| proc::stat(pid).ok().flatten().map(|stat| stat.session);
    session(process.pid).is_some_and(|its| Some(its) == session(std::process::id()))
}
