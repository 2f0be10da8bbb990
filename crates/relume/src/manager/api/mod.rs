//! The control API: HTTP on a unix socket that only its owner can open.
//!
//! One thread with one tokio runtime. It reads the board, sends commands to the supervise thread and waits at
//! the desk for what comes of them. It owns no descriptor of a service, starts no process, and when it
//! panics, supervision goes on.

mod change;
mod down;
mod events;
mod explain;
mod operations;
mod respawn;
mod server;
mod signal;
mod status;
mod targets;
mod version;

use std::os::fd::OwnedFd;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use relume_proto::{ApiError, ErrorCode};

use tokio::sync::watch;

use super::archive::Archive;
use super::capture::Capture;
use super::inbox::Inbox;
use super::publish::{Board, Desk};
use super::reload::Source;
use super::sampling::Sampler;

pub(crate) use server::start;

/// What every handler works with.
#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) board: Arc<Mutex<Board>>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) inbox: Arc<Inbox>,
    /// How the configuration is read again.
    pub(crate) source: Arc<Source>,
    pub(crate) archive: Archive,
    pub(crate) capture: Arc<Capture>,
    /// Measures what services use while somebody asks.
    pub(crate) sampler: Sampler,
    /// True: this manager is about to be replaced; whoever waits comes again.
    pub(crate) closing: watch::Receiver<bool>,
}

impl Office {
    fn board(&self) -> std::sync::MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The listening socket, bound and private before the thread exists.
pub(crate) struct Door {
    pub(crate) socket: OwnedFd,
    /// Whose connections are accepted, beside root's.
    pub(crate) owner: u32,
    /// Heard when there is something to be told; clients wait in the backlog until then.
    pub(crate) open: Receiver<()>,
}

/// A refusal, as every handler gives it.
struct Refusal(StatusCode, ApiError);

impl Refusal {
    fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self(status, ApiError { error: ErrorCode::from(code), detail: detail.into(), help: None })
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.1.help = Some(help.into());
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}
