//! What the manager answers when it does not do what it was asked.

use serde::{Deserialize, Serialize};

words! {
    /// What went wrong, for programs.
    ErrorCode {
        /// The request cannot be understood. HTTP 400.
        BadRequest = "bad_request",
        /// A service or group of that name does not exist. HTTP 404.
        UnknownService = "unknown_service",
        /// There is no such path. HTTP 404.
        NotFound = "not_found",
        /// The path exists, but not for this method. HTTP 405.
        MethodNotAllowed = "method_not_allowed",
        /// The caller is not the owner. HTTP 403.
        Forbidden = "forbidden",
        /// The body is larger than any sensible request. HTTP 413.
        TooLarge = "too_large",
        /// relume is leaving; nothing can be started any more. HTTP 503.
        Stopping = "stopping",
        /// The manager is being replaced; whoever comes back is answered by its successor. HTTP 503.
        Respawning = "respawning",
        /// The manager is too busy to take another request. HTTP 503.
        Busy = "busy",
        /// A fault in relume itself. HTTP 500.
        Internal = "internal",
    }
}

impl ErrorCode {
    /// The HTTP status that goes with it (RFC 9110 §15).
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Forbidden => 403,
            Self::UnknownService | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::TooLarge => 413,
            Self::Stopping | Self::Busy | Self::Respawning => 503,
            Self::Internal | Self::Other(_) => 500,
        }
    }
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ApiError {
    /// What went wrong, for programs.
    pub error: ErrorCode,
    /// What failed on what, a sentence for people.
    pub detail: String,
    /// What to do about it, if that is known.
    pub help: Option<String>,
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.detail.is_empty() { write!(f, "{}", self.error) } else { f.write_str(&self.detail) }
    }
}

impl std::error::Error for ApiError {}
