//! The control API of relume: what travels over the socket, and a client for it.
//!
//! The API is HTTP/1.1 with JSON bodies on a unix socket that only its owner can open. The command line
//! and the dashboard speak nothing else, so whatever they can do a stranger's program can do too:
//!
//! ```sh
//! curl --unix-socket .relume/run/control.sock http://relume/v1/status
//! ```
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /v1/version` | | [`VersionReport`] |
//! | `GET /v1/status?names=a,b` | | [`StatusReport`] |
//! | `GET /v1/explain?names=a&lines=20` | | [`ExplainReport`] of the one service |
//! | `POST /v1/operations` | [`OperationRequest`] | [`OperationReport`], when the services got there, failed, or the wait is over |
//! | `POST /v1/down` | [`DownRequest`] | [`DownReport`], when it is noted: a manager that dies then is followed by one that goes on with it. The manager is gone when its socket is |
//! | `POST /v1/respawn` | [`RespawnRequest`] | [`RespawnReport`], when the program that is to take over has proved itself; refused with `not_respawned` otherwise |
//! | `POST /v1/signal` | [`SignalRequest`] | [`OperationReport`], at once |
//! | `POST /v1/plan` | [`ChangeRequest`] | [`ChangeReport`]: what the config as it is now would change |
//! | `POST /v1/apply` | [`ChangeRequest`] | [`ChangeReport`], when it holds; services follow |
//! | `GET /v1/events?after=SEQ&follow=false` | | [`EventRecord`]s, one JSON object a line: those after SEQ, then what happens until the client leaves; without `after` only that, with `follow=false` without it |
//!
//! Anything but a 2xx answer carries an [`ApiError`]. Every answer names the version of the API in the
//! header [`VERSION_HEADER`].
//!
//! The types are plain data and grow by addition: a reader ignores members it does not know, takes a
//! default for those that are missing, and keeps words it does not know as `Other`. So an older client
//! reads a newer manager.
//!
//! This crate must never decide anything about services, and knows no other crate of relume: neither how
//! the core names its states nor where files lie.

#[macro_use]
mod words;

mod change;
mod client;
mod error;
mod event;
mod explain;
mod operation;
mod path;
mod status;

pub use change::{ChangeReport, ChangeRequest, Fate, ServiceChange, SettingChange, SignalRequest};
pub use client::{Client, ClientError, ErrorKind, Watcher};
pub use error::{ApiError, ErrorCode};
pub use event::{Cause, EventKind, EventRecord};
pub use explain::{ChainLink, ExplainReport, Need, Retries};
pub use operation::{
    DownReport, DownRequest, OperationReport, OperationRequest, Outcome, RespawnReport, RespawnRequest,
    ServiceResult, Targets, Verb,
};
pub use path::{names_from_query, names_to_query};
pub use status::{
    DiskReport, LastExit, ManagerReport, ManagerState, ServiceReport, State, StatusEntry, StatusFile,
    StatusReport, VersionReport,
};

/// The version of the API that this crate speaks; the first part of every path.
///
/// It changes only when a client written against the old one would misunderstand an answer. Additions do
/// not change it.
pub const API_VERSION: u32 = 1;

/// The header of every answer that says which version of the API it speaks.
pub const VERSION_HEADER: &str = "relume-api";

/// Paths of the API.
pub mod paths {
    /// [`VersionReport`](crate::VersionReport): who answers here.
    pub const VERSION: &str = "/v1/version";
    /// [`StatusReport`](crate::StatusReport); `?names=a,b` keeps only these.
    pub const STATUS: &str = "/v1/status";
    /// [`ExplainReport`](crate::ExplainReport); `?names=a`, and `lines=N` of its log.
    pub const EXPLAIN: &str = "/v1/explain";
    /// [`OperationRequest`](crate::OperationRequest): start, stop or restart services.
    pub const OPERATIONS: &str = "/v1/operations";
    /// [`DownRequest`](crate::DownRequest): stop everything and leave.
    pub const DOWN: &str = "/v1/down";
    /// [`RespawnRequest`](crate::RespawnRequest): replace the manager, services untouched.
    pub const RESPAWN: &str = "/v1/respawn";
    /// [`SignalRequest`](crate::SignalRequest): send services a signal.
    pub const SIGNAL: &str = "/v1/signal";
    /// [`ChangeRequest`](crate::ChangeRequest): what the config as it is now would change.
    pub const PLAN: &str = "/v1/plan";
    /// [`ChangeRequest`](crate::ChangeRequest): read the config again and put it in force.
    pub const APPLY: &str = "/v1/apply";
    /// [`EventRecord`](crate::EventRecord)s, one JSON object a line; `?after=SEQ` continues behind one,
    /// `follow=false` ends with the last one that is kept.
    pub const EVENTS: &str = "/v1/events";
}

/// The media type of the event stream (<https://github.com/ndjson/ndjson-spec>).
pub const NDJSON: &str = "application/x-ndjson";
