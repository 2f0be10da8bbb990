//! Starting a process.
//!
//! # Theory of operation
//!
//! What the child is to be is put together beforehand, as C strings and numbers, in a [`SpawnPlan`]; a
//! [`Spawner`] then only makes system calls. The child is made by clone3(2) with `CLONE_VM | CLONE_VFORK`: it borrows our memory
//! and the calling thread stands still until it has exec'ed or ended, so the cost does not grow with our heap. With
//! `CLONE_FILES` it borrows our descriptor table too and unshares just its first numbers (`close_range(CLOSE_RANGE_UNSHARE)`), so
//! the cost does not grow with the number of services either; for that, what the child needs sits in a few low numbers that each
//! spawner reserves for ever.
//!
//! Between clone and exec the child runs in memory that is not its own. It therefore makes bare system calls only: no libc
//! (whose `setuid` would signal our other threads), no allocation, no lock. All signals stay blocked until just before the exec, so no handler of
//! ours runs there. What failed it writes into memory that both see: no error pipe is needed.
//!
//! A spawn blocks until the program is loaded (milliseconds on a busy machine, for ever on a dead network mount): call it from a thread that
//! may wait, never from the one that supervises. That thread must not use `PR_SET_PDEATHSIG`.
//!
//! Where a seccomp filter refuses clone3, the same child is made by clone(2); where it refuses close_range, the child gets a copy of
//! the table and closes number by number. One code path in the child serves all of them.
//!
//! A child that changes its user leaves *our* memory marked as not dumpable (prctl(2), `PR_SET_DUMPABLE`): credentials changed on a shared address space.
//! That is left so on purpose. The mark is what keeps a process of the service's user from tracing the child while it still shares our
//! memory; it costs no more than our own core dumps.

mod child;
mod clone;
mod error;
mod plan;
mod reason;
mod spawner;
mod start_time;
mod sys;

pub use error::{SpawnError, SpawnStep};
pub use plan::{SpawnPlan, SpawnRequest};
pub use spawner::{CgroupEntry, SpawnFds, SpawnMethod, Spawned, Spawner};

pub(crate) use clone::{
    has_clone3, has_close_range, into_cgroup_survives, move_into_cgroup_works, status_outlives_reap,
};
