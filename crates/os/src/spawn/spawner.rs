//! One spawning thread's equipment, and the parent's half of a spawn.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

use rustix::fs::{Mode, OFlags};

use super::child::{self, Outcome, Placement, Work};
use super::clone::{self, CloneWay, Stack};
use super::error::{SpawnError, SpawnStep};
use super::plan::SpawnPlan;
use super::reason;
use super::start_time::{self, StartTimes};
use crate::error::{Errno, OsError, Result};
use crate::exit::{ExitStatus, Reaped};
use crate::pidfd::{PidFd, ProcessId};
use crate::signals;

/// Which system calls make the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpawnMethod {
    /// clone3(2) and close_range(2): the descriptor table is shared until the child cuts its own.
    Clone3,
    /// clone(2) with a copy of the descriptor table, closed number by number: for where seccomp refuses the better calls.
    Clone,
}

/// How the child enters its cgroup. The descriptor is the directory's.
#[derive(Debug, Clone, Copy)]
pub enum CgroupEntry<'a> {
    /// Born there (`CLONE_INTO_CGROUP`). Only where [`crate::cgroup::CgroupRoot::probe`] found it sound; the same as `Move` without clone3.
    Born(BorrowedFd<'a>),
    /// The child moves itself before it does anything else.
    Move(BorrowedFd<'a>),
}

/// Descriptors of one spawn; the child gets copies, ours stay as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpawnFds<'a> {
    /// `None`: `/dev/null`.
    pub stdin: Option<BorrowedFd<'a>>,
    /// `None`: `/dev/null`.
    pub stdout: Option<BorrowedFd<'a>>,
    /// `None`: `/dev/null`.
    pub stderr: Option<BorrowedFd<'a>>,
    /// Further ones at fixed numbers from 3 up, each number once.
    pub extra: &'a [(i32, BorrowedFd<'a>)],
    /// The cgroup to run in.
    pub cgroup: Option<CgroupEntry<'a>>,
}

/// A process that runs the asked program (or has run it: it may have ended).
#[derive(Debug)]
pub struct Spawned {
    /// Its id and start time.
    pub id: ProcessId,
    /// Its descriptor.
    pub pidfd: PidFd,
}

/// Highest number for an extra descriptor: the child walks the gaps below it one by one.
const HIGHEST_EXTRA: i32 = 1023;

/// Starts processes, one at a time; each spawning thread has its own.
#[derive(Debug)]
pub struct Spawner {
    method: SpawnMethod,
    stack: Stack,
    null: OwnedFd,
    /// Low numbers held for ever, `/dev/null` between spawns: the child's table need not be copied beyond them.
    slots: Vec<OwnedFd>,
    /// See [`signals::ignored`].
    ignored: u64,
    start_times: StartTimes,
}

impl Spawner {
    /// With the best method this kernel and its filters allow. Which signals this program ignores must be settled by now: no child
    /// inherits one that is ignored at this time.
    pub fn new() -> Result<Self> {
        let best = clone::has_clone3() && clone::has_close_range();
        Self::with_method(if best { SpawnMethod::Clone3 } else { SpawnMethod::Clone })
    }

    /// With a given method. Create it early: the lower the numbers it can reserve, the cheaper its spawns.
    pub fn with_method(method: SpawnMethod) -> Result<Self> {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| OsError::at("open", "/dev/null", e))?;
        let (ignored, start_times) = (signals::ignored(), StartTimes::Untried);
        let mut spawner =
            Self { method, stack: Stack::new()?, null, slots: Vec::new(), ignored, start_times };
        // Standard input, output, error and cgroup.procs.
        spawner.reserve(4)?;
        Ok(spawner)
    }

    /// The method in use.
    #[must_use]
    pub fn method(&self) -> SpawnMethod {
        self.method
    }

    /// Starts the program of `plan`. When this returns, the program runs (or has even ended), or an error says
    /// which step failed and nothing is left of the attempt.
    pub fn spawn(
        &mut self,
        plan: &SpawnPlan,
        fds: &SpawnFds<'_>,
    ) -> std::result::Result<Spawned, SpawnError> {
        self.spawn_traced(plan, fds, None)
    }

    /// As [`Spawner::spawn`]. The child's pid is in `trace`, which must be 0, before the child does anything: a trace in memory that
    /// outlives this process names the child also when this process dies in the middle.
    pub fn spawn_traced(
        &mut self,
        plan: &SpawnPlan,
        fds: &SpawnFds<'_>,
        trace: Option<&AtomicU64>,
    ) -> std::result::Result<Spawned, SpawnError> {
        crate::tally::act();
        let (placements, born, procs) = match self.place(fds) {
            Ok(placed) => placed,
            Err(e) => {
                self.clear_slots();
                return Err(at_step(SpawnStep::Descriptors, e));
            }
        };
        let clone3 = self.method == SpawnMethod::Clone3;
        let slots = self.slots.iter().map(AsRawFd::as_raw_fd);
        let mut own_pids = [
            plan.listen_pid.then(|| child::OwnPid::new(b"LISTEN_PID=")),
            plan.watchdog_pid.then(|| child::OwnPid::new(b"WATCHDOG_PID=")),
        ];
        let mut environment = pointers(&plan.environment);
        environment.splice(0..0, own_pids.iter_mut().flatten().map(|one| one.pointer()));
        let mut work = Work {
            plan,
            argv: pointers(&plan.argv),
            environment,
            own_pids,
            placements,
            cgroup_procs: procs,
            highest_needed: slots.max().unwrap_or(2).max(2),
            shared_files: clone3,
            highest_open: if clone3 { 0 } else { highest_open() },
            ignored: self.ignored,
            trace: trace.filter(|_| !clone3).map(AtomicU64::as_ptr),
            began: u64::MAX,
            outcome: Outcome::Begun,
        };
        let way = CloneWay { clone3, share_files: clone3, cgroup: born, trace };
        let argument = (&raw mut work).cast();
        let before = start_time::boottime();
        // SAFETY: `work` outlives the call and nobody else touches it; `child::run` keeps to bare system calls and execs or exits.
        let cloned = unsafe { clone::clone(&mut self.stack, way, child::run, argument) };
        self.clear_slots();
        let (pid, pidfd) =
            cloned.map_err(|errno| SpawnError { step: SpawnStep::Clone, path: None, errno, hint: None })?;
        // SAFETY: the child is out of our memory; volatile because it wrote from outside this program's view.
        let (began, outcome) = unsafe {
            (std::ptr::read_volatile(&raw const work.began), std::ptr::read_volatile(&raw const work.outcome))
        };
        match outcome {
            Outcome::Executing => identify(self.start_times.identify(pid, (before, began)), pid, pidfd),
            Outcome::Failed { step, index, errno } => {
                settle(&pidfd)?;
                Err(reason::explain(plan, step, index, Errno::from_raw(errno)))
            }
            Outcome::Begun => Err(killed(plan, settle(&pidfd)?)),
        }
    }

    /// Copies what the child needs into the slots: placements sorted by target, the cgroup to be born in, the slot of
    /// cgroup.procs or -1.
    fn place<'a>(&mut self, fds: &SpawnFds<'a>) -> Result<(Vec<Placement>, Option<BorrowedFd<'a>>, i32)> {
        let mut wanted: Vec<(i32, Option<BorrowedFd<'_>>)> =
            vec![(0, fds.stdin), (1, fds.stdout), (2, fds.stderr)];
        wanted.extend(fds.extra.iter().map(|&(number, fd)| (number, Some(fd))));
        wanted.sort_by_key(|&(number, _)| number);
        let bad =
            |w: &[(i32, Option<BorrowedFd<'_>>)]| w[0].0 == w[1].0 || w[0].0 < 0 || w[1].0 > HIGHEST_EXTRA;
        if wanted.windows(2).any(bad) {
            return Err(OsError::new("place descriptors", Errno::INVAL)
                .because("each number from 3 to 1023 can be given once"));
        }
        self.reserve(wanted.len() + 1)?;
        let mut placements = Vec::with_capacity(wanted.len());
        for (slot, &(target, source)) in self.slots.iter().zip(&wanted) {
            if let Some(source) = source {
                put(source, slot)?;
            }
            placements.push(Placement { source: slot.as_raw_fd(), target });
        }
        let (born, dir) = match fds.cgroup {
            Some(CgroupEntry::Born(dir)) if self.method == SpawnMethod::Clone3 => (Some(dir), None),
            Some(CgroupEntry::Born(dir) | CgroupEntry::Move(dir)) => (None, Some(dir)),
            None => (None, None),
        };
        let Some((dir, slot)) = dir.zip(self.slots.get(wanted.len())) else {
            return Ok((placements, born, -1));
        };
        let procs = rustix::fs::openat(dir, "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| OsError::at("open", "cgroup.procs", e))?;
        put(procs.as_fd(), slot)?;
        Ok((placements, born, slot.as_raw_fd()))
    }

    fn reserve(&mut self, count: usize) -> Result<()> {
        while self.slots.len() < count {
            let slot = rustix::io::fcntl_dupfd_cloexec(&self.null, 3)
                .map_err(|e| OsError::new("reserve a descriptor", e))?;
            self.slots.push(slot);
        }
        Ok(())
    }

    /// At once after the clone: a write end forgotten here would keep a pipe from ever ending.
    fn clear_slots(&mut self) {
        for slot in &self.slots {
            // Both are open and different, so this cannot fail; the slot would only keep its old content.
            let _done = put(self.null.as_fd(), slot);
        }
    }
}

/// Makes `slot` a copy of `source`, close-on-exec.
fn put(source: BorrowedFd<'_>, slot: &OwnedFd) -> Result<()> {
    // SAFETY: the slot is a descriptor of our own that is replaced in place: whoever owns it owns the copy afterwards.
    let rc = unsafe { libc::dup3(source.as_raw_fd(), slot.as_raw_fd(), libc::O_CLOEXEC) };
    if rc >= 0 { Ok(()) } else { Err(OsError::new("copy a descriptor", Errno::last())) }
}

fn pointers(strings: &[std::ffi::CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Only for closing one by one. What other threads open meanwhile is close-on-exec.
fn highest_open() -> i32 {
    let entries = std::fs::read_dir("/proc/self/fd").ok();
    let numbers =
        entries.into_iter().flatten().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    numbers.max().unwrap_or(HIGHEST_EXTRA)
}

/// It is our unreaped child, so its id cannot have become another's.
fn identify(
    found: Result<Option<ProcessId>>,
    pid: u32,
    pidfd: PidFd,
) -> std::result::Result<Spawned, SpawnError> {
    let problem = match found {
        Ok(Some(id)) => return Ok(Spawned { id, pidfd }),
        Ok(None) => OsError::at("read", format!("/proc/{pid}/stat"), Errno::NOENT),
        Err(e) => e,
    };
    // Without /proc nothing of it could be supervised. A failed kill leaves a process that has ended anyway.
    let _ended = pidfd.send_signal(libc::SIGKILL);
    settle(&pidfd)?;
    Err(at_step(SpawnStep::Identify, problem))
}

/// Removes what is left of a child that did not get to run its program.
fn settle(pidfd: &PidFd) -> std::result::Result<Reaped, SpawnError> {
    clone::reap_now(pidfd).map_err(|e| at_step(SpawnStep::Clone, e))
}

fn killed(plan: &SpawnPlan, end: Reaped) -> SpawnError {
    let by = match end {
        Reaped::Exited { status: status @ ExitStatus::Signal { .. }, .. } => status.to_string(),
        Reaped::Exited { .. } | Reaped::Alive | Reaped::NotOurs => "an unknown cause".to_owned(),
    };
    let hint = format!(
        "it was ended by {by} before it could run (a kernel does this to children born into a cgroup that was killed before)"
    );
    SpawnError {
        step: SpawnStep::Killed,
        path: Some(plan.program.clone()),
        errno: Errno::INTR,
        hint: Some(hint),
    }
}

fn at_step(step: SpawnStep, e: OsError) -> SpawnError {
    let path: Option<PathBuf> = e.path.clone();
    SpawnError { step, path, errno: e.errno, hint: Some(e.to_string()) }
}
