//! The processes of one run where there is no cgroup v2: found by descent, session, group and environment.
//!
//! # Theory of operation
//!
//! Every run begins with a leader that has a session and process group of its own and carries a tag in its environment. A process
//! belongs to the run if it is the leader, descends from a member, is in the leader's session or group, or carries the tag. A
//! grandchild that forked twice and made its own session has lost all of these but the tag; orphaned, it is handed to us as
//! subreaper.
//!
//! Ids are reused, so none is believed alone: a session or group counts only while nobody else has the leader's id, and, once the
//! leader is gone, only for processes that still descend from us. Signals go through pidfds opened on pid *and* start time.
//! Pid 0, pid 1 and ourselves are never members.
//!
//! A process that overwrites its environment, forks twice and makes a session *between* two looks is lost to this; only a cgroup holds it.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::error::{OsError, Result};
use crate::pidfd::{PidFd, ProcessId};
use crate::proc::{self, Stat};

/// Walks of a kill before it is given up: each stops or kills all that it finds, so only a fork bomb faster than that needs many.
const MOST_ROUNDS: usize = 200;

/// Walks in a row that must find nothing: one alone can miss a process born behind it.
const ENOUGH_EMPTY: usize = 3;

/// How long a kill waits for the ends of all that it has killed, together. They come within milliseconds; on a machine that is
/// saturated the rest goes on without being waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// How the processes of one run are recognised.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunMarks<'a> {
    /// The first process of the run, alive or not: leader of its session and group.
    pub leader: Option<ProcessId>,
    /// Variable and value every process of the run was started with; the value must be unique on the machine.
    pub tag: Option<(&'a str, &'a str)>,
    /// Processes that adopt orphans besides ourselves: the other half of the supervisor.
    pub adopters: &'a [u32],
}

/// Every living process of the run (no zombies), as far as it can be found.
pub fn members(marks: &RunMarks<'_>) -> Result<Vec<ProcessId>> {
    let table = proc::all()?;
    Ok(select(marks, &table, std::process::id(), &|pid| carries(marks, pid)))
}

/// Sends a signal to each process of the run; how many got it. One that forks meanwhile may leave a child without. One that may not
/// be signalled does not keep it from the others: it is told at the end.
pub fn signal_all(marks: &RunMarks<'_>, signal: i32) -> Result<usize> {
    let (mut reached, mut refused) = (0, None);
    for id in members(marks)? {
        match send(id, signal) {
            Ok(sent) => reached += usize::from(sent),
            Err(error) => drop(refused.get_or_insert(error)),
        }
    }
    refused.map_or(Ok(reached), Err)
}

fn send(id: ProcessId, signal: i32) -> Result<bool> {
    let Some(pidfd) = id.open()? else { return Ok(false) };
    pidfd.send_signal(signal).map_err(|error| of(id, &error))
}

/// The same fault, with the process it is about.
fn of(id: ProcessId, error: &OsError) -> OsError {
    OsError::new("signal a process of the run", error.errno)
        .because(format!("process {}: {}", id.pid, error.errno))
}

/// SIGKILL to every process of the run, with no way to fork past it; how many were killed. Stops what it finds and looks again until nothing
/// new appears (a stopped process forks no more, and an unkilled parent keeps its children recognisable), then kills all; whole groups in one act
/// where the kernel can (6.9), because a chain that forks and ends faster than a walk is never caught one by one. `EAGAIN` if
/// something still appears after many rounds; then everything found until then is killed.
///
/// What was killed and has not ended after half a second waits in the kernel, and ends when that lets it. What may not be
/// signalled is left as it is. Both hold up nobody else's end; the second is told as an error, after all others were killed.
pub fn kill_all(marks: &RunMarks<'_>) -> Result<usize> {
    let mut hunt = Hunt::new();
    let mut empty = 0;
    for _ in 0..MOST_ROUNDS {
        match hunt.freeze_new(marks) {
            Ok(true) => empty = 0,
            Ok(false) if hunt.stopped.is_empty() => {
                empty += 1;
                if empty == ENOUGH_EMPTY {
                    return hunt.refused.map_or(Ok(hunt.killed), Err);
                }
            }
            Ok(false) => hunt.kill_stopped(),
            Err(error) => {
                // Nothing stays stopped that was not killed.
                hunt.kill_stopped();
                return Err(error);
            }
        }
    }
    hunt.kill_stopped();
    let text =
        format!("processes of the run still appear after {MOST_ROUNDS} rounds, {} were killed", hunt.killed);
    Err(OsError::new("kill a process tree", crate::error::Errno::AGAIN).because(text))
}

/// What a kill has done so far.
struct Hunt {
    /// Stopped, to be killed.
    stopped: HashMap<ProcessId, PidFd>,
    /// Nothing more can be done about these: they were killed, or may not be signalled.
    settled: HashSet<ProcessId>,
    /// How many were killed.
    killed: usize,
    /// The first that may not be signalled.
    refused: Option<OsError>,
    /// Until when ends are waited for.
    deadline: Instant,
}

impl Hunt {
    fn new() -> Self {
        let (stopped, settled) = (HashMap::new(), HashSet::new());
        Self { stopped, settled, killed: 0, refused: None, deadline: Instant::now() + PATIENCE }
    }

    /// Stops what was not found before; whether there was any.
    fn freeze_new(&mut self, marks: &RunMarks<'_>) -> Result<bool> {
        let mut any = false;
        for id in members(marks)? {
            if self.stopped.contains_key(&id) || self.settled.contains(&id) {
                continue;
            }
            let Some(pidfd) = id.open()? else { continue };
            // Only the leader of a group has one to signal, and its group belongs to the run as it does. A group that may not be
            // signalled has members that are looked at one by one.
            let _refused = pidfd.send_signal_to_group(libc::SIGSTOP);
            match pidfd.send_signal(libc::SIGSTOP) {
                Ok(true) => {
                    any = true;
                    self.stopped.insert(id, pidfd);
                }
                Ok(false) => {}
                Err(error) => {
                    self.settled.insert(id);
                    self.refused.get_or_insert_with(|| of(id, &error));
                }
            }
        }
        Ok(any)
    }

    /// Kills what was stopped and waits for the ends of all: the next walk is to see only what escaped.
    fn kill_stopped(&mut self) {
        for (id, pidfd) in &self.stopped {
            let _refused = pidfd.send_signal_to_group(libc::SIGKILL);
            match pidfd.send_signal(libc::SIGKILL) {
                Ok(sent) => self.killed += usize::from(sent),
                // It could be stopped: it has become somebody else since.
                Err(error) => drop(self.refused.get_or_insert_with(|| of(*id, &error))),
            }
        }
        for (id, pidfd) in self.stopped.drain() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let _slow = pidfd.wait_ended(left);
            self.settled.insert(id);
        }
    }
}

fn carries(marks: &RunMarks<'_>, pid: u32) -> bool {
    marks.tag.is_some_and(|(key, value)| proc::environ(pid, key).is_some_and(|v| v == value.as_bytes()))
}

/// The rules above, on one picture of the process table.
fn select(marks: &RunMarks<'_>, table: &[Stat], me: u32, carries: &dyn Fn(u32) -> bool) -> Vec<ProcessId> {
    let by_pid: HashMap<u32, &Stat> = table.iter().map(|p| (p.pid, p)).collect();
    let never: HashSet<u32> = [0, 1, me].into_iter().chain(marks.adopters.iter().copied()).collect();
    let is_candidate = |p: &Stat| !never.contains(&p.pid);
    let leader = marks.leader.filter(|l| l.pid > 1);
    let holder = leader.and_then(|l| by_pid.get(&l.pid).map(|p| (l, p.start_time == l.start_time)));
    let mut inside: HashSet<u32> = HashSet::new();
    for p in table.iter().filter(|p| is_candidate(p)) {
        let in_group =
            leader.is_some_and(|l| (p.session == l.pid || p.pgrp == l.pid) && p.start_time >= l.start_time);
        let by_group = in_group
            && match holder {
                // A zombie leader still keeps its ids from being reused.
                Some((_, same)) => same,
                None => descends_from_us(p, &by_pid, &never),
            };
        let is_leader = leader.is_some_and(|l| p.pid == l.pid && p.start_time == l.start_time);
        if is_leader || by_group || carries(p.pid) {
            inside.insert(p.pid);
        }
    }
    add_descendants(table, &mut inside, &is_candidate);
    let living = table.iter().filter(|p| inside.contains(&p.pid) && !p.is_zombie());
    living.map(|p| ProcessId { pid: p.pid, start_time: p.start_time }).collect()
}

/// Whether one of its ancestors is one of those that adopt orphans (never init: everybody descends from it).
fn descends_from_us(p: &Stat, by_pid: &HashMap<u32, &Stat>, never: &HashSet<u32>) -> bool {
    let mut at = p.ppid;
    // The table is no snapshot, so it may show a loop.
    for _ in 0..by_pid.len() {
        if at <= 1 {
            return false;
        }
        if never.contains(&at) {
            return true;
        }
        let Some(parent) = by_pid.get(&at) else { return false };
        at = parent.ppid;
    }
    false
}

fn add_descendants(table: &[Stat], inside: &mut HashSet<u32>, is_candidate: &dyn Fn(&Stat) -> bool) {
    loop {
        let before = inside.len();
        for p in table.iter().filter(|p| is_candidate(p)) {
            if inside.contains(&p.ppid) {
                inside.insert(p.pid);
            }
        }
        if inside.len() == before {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(pid: u32, ppid: u32, session: u32, start_time: u64) -> Stat {
        let (comm, state) = ("x".into(), 'S');
        let (cpu_ticks, resident_pages, exit_code) = (0, 0, 0);
        Stat {
            pid,
            comm,
            state,
            ppid,
            pgrp: session,
            session,
            start_time,
            cpu_ticks,
            resident_pages,
            exit_code,
        }
    }

    fn pids(marks: &RunMarks<'_>, table: &[Stat], tagged: &[u32]) -> Vec<u32> {
        select(marks, table, 10, &|pid| tagged.contains(&pid)).into_iter().map(|id| id.pid).collect()
    }

    const LEADER: ProcessId = ProcessId { pid: 100, start_time: 50 };

    fn marks() -> RunMarks<'static> {
        RunMarks { leader: Some(LEADER), tag: Some(("T", "v")), adopters: &[11] }
    }

    #[test]
    fn session_descent_and_tag_make_members_and_strangers_are_none() {
        let table = [
            p(1, 0, 1, 0),
            p(10, 1, 10, 1),
            p(11, 1, 10, 1),
            p(100, 10, 100, 50),
            p(101, 100, 100, 51),
            p(102, 101, 102, 52),
            p(103, 10, 103, 53),
            p(200, 1, 200, 60),
        ];
        assert_eq!(pids(&marks(), &table, &[103]), [100, 101, 102, 103]);
    }

    #[test]
    fn a_stranger_with_the_leaders_old_id_is_left_alone_with_its_session() {
        let table = [p(10, 1, 10, 1), p(100, 1, 100, 90), p(101, 100, 100, 91)];
        assert_eq!(pids(&marks(), &table, &[]), [0u32; 0]);
    }

    #[test]
    fn without_the_leader_its_session_counts_only_for_our_own_descendants() {
        let table = [p(10, 1, 10, 1), p(101, 10, 100, 51), p(102, 1, 100, 52), p(103, 11, 100, 53)];
        assert_eq!(pids(&marks(), &table, &[]), [101, 103]);
    }

    #[test]
    fn init_ourselves_and_our_other_half_are_never_members() {
        let table = [p(1, 0, 100, 60), p(10, 1, 100, 60), p(11, 10, 100, 60), p(100, 10, 100, 50)];
        assert_eq!(pids(&marks(), &table, &[1, 10, 11]), [100]);
    }

    #[test]
    fn a_zombie_leader_is_no_member_but_its_session_is_still_its_own() {
        let mut leader = p(100, 10, 100, 50);
        leader.state = 'Z';
        assert_eq!(pids(&marks(), &[leader, p(101, 1, 100, 51)], &[]), [101]);
    }

    #[test]
    fn a_loop_in_a_torn_picture_ends() {
        let table = [p(101, 102, 100, 51), p(102, 101, 100, 52)];
        assert_eq!(pids(&marks(), &table, &[]), [0u32; 0]);
    }
}
