//! The Linux edge: what the program learns from the kernel and what it asks of it.
//!
//! # Theory of operation
//!
//! Each module wraps one kernel mechanism and answers in plain data: numbers, paths, small enums.
//! Nothing here decides anything (no policy, no retry over time, no logging), keeps state in a
//! `static` (the pointer that the handler in [`fatal`] needs, and the count of [`tally`] in debug builds, apart), or knows another crate of this workspace. A caller gives a file descriptor or a number
//! and gets an answer or an [`OsError`] that a person can read.
//!
//! Three rules hold everywhere:
//!
//! * every descriptor is born `O_CLOEXEC`; only the spawned child decides what it keeps;
//! * a process is addressed by pidfd, or by pid *and* start time; pid 0 and -1 are never signalled;
//! * a link planted in a path is never followed where this crate creates, writes or removes.
//!
//! This is the only crate with `unsafe`. Each block says why it is sound.

pub mod cgroup;
pub mod channel;
pub mod clock;
pub mod epoll;
pub mod error;
pub mod exec;
pub mod exit;
pub mod fatal;
pub mod features;
pub mod files;
pub mod inherit;
pub mod limits;
pub mod listen;
pub mod mapping;
pub mod memory;
pub mod notify;
pub mod notify_client;
pub mod pidfd;
pub mod pipes;
pub mod prctl;
pub mod proc;
pub mod signals;
mod socket_place;
pub mod sockets;
pub mod spawn;
pub mod tally;
pub mod tree;
pub mod usage;
pub mod users;

pub use error::{Errno, OsError, Result};
