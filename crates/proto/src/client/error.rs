//! What can go wrong between a client and the manager, told so that a person knows what to do next.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{API_VERSION, ApiError};

/// Why a request got no answer of use.
#[derive(Debug)]
pub struct ClientError {
    /// What kind of failure it is, for programs.
    pub kind: ErrorKind,
    /// The socket that was tried.
    pub socket: PathBuf,
    detail: String,
}

/// What kind of failure it is.
#[derive(Debug)]
pub enum ErrorKind {
    /// Nobody listens: there is no socket, or only one that a dead manager left behind.
    NotRunning,
    /// This user may not open the socket.
    Forbidden,
    /// The socket belongs to another user: not answered, because whoever planted it would see the request.
    NotOurs,
    /// The manager did not answer in time. It may still be at it.
    TimedOut,
    /// The manager speaks another version of the API.
    Version,
    /// The manager refused, and says why.
    Refused(ApiError),
    /// The connection ended before the answer did.
    Lost,
    /// Whoever answered does not speak this API, or the machine refused a resource.
    Broken,
}

impl ClientError {
    pub(super) fn new(kind: ErrorKind, socket: &Path, detail: impl Into<String>) -> Self {
        Self { kind, socket: socket.to_owned(), detail: detail.into() }
    }

    /// From connect(2): which errors mean that there is no manager.
    pub(super) fn connecting(socket: &Path, error: &io::Error) -> Self {
        use io::ErrorKind as Io;
        // The kinds of std grow with its versions; only these say something about a manager.
        let kind = if [Io::NotFound, Io::ConnectionRefused, Io::NotADirectory].contains(&error.kind()) {
            ErrorKind::NotRunning
        } else if error.kind() == Io::PermissionDenied {
            ErrorKind::Forbidden
        } else {
            ErrorKind::Broken
        };
        Self::new(kind, socket, format!("cannot connect to {}: {error}", socket.display()))
    }

    pub(super) fn died_first(socket: &Path) -> Self {
        let detail = format!(
            "the manager died before it could replace itself, and another one supervises now ({}); ask again",
            socket.display()
        );
        Self::new(ErrorKind::Lost, socket, detail)
    }

    pub(super) fn too_slow(socket: &Path, what: &str, limit: Duration) -> Self {
        let detail =
            format!("the manager did not {what} within {} s ({})", limit.as_secs(), socket.display());
        Self::new(ErrorKind::TimedOut, socket, detail)
    }

    pub(super) fn other_version(socket: &Path, theirs: &str) -> Self {
        let detail = format!(
            "the manager on {} speaks version {theirs} of the control API, this program version {API_VERSION}; \
             use the program the manager was started with",
            socket.display()
        );
        Self::new(ErrorKind::Version, socket, detail)
    }

    pub(super) fn lost(socket: &Path, error: &dyn fmt::Display) -> Self {
        let detail =
            format!("the manager on {} ended the connection before it answered: {error}", socket.display());
        Self::new(ErrorKind::Lost, socket, detail)
    }

    pub(super) fn gone(socket: &Path) -> Self {
        let detail = format!("the manager on {} has gone meanwhile", socket.display());
        Self::new(ErrorKind::Lost, socket, detail)
    }

    pub(super) fn foreign(socket: &Path, what: &str) -> Self {
        Self::new(
            ErrorKind::Broken,
            socket,
            format!("what answers on {} is not relume: {what}", socket.display()),
        )
    }

    /// The same, with what follows from it.
    pub(super) fn and(mut self, consequence: &str) -> Self {
        self.detail = format!("{}; {consequence}", self.detail);
        self
    }

    /// What the manager said, when it refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&ApiError> {
        if let ErrorKind::Refused(error) = &self.kind { Some(error) } else { None }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for ClientError {}
