//! How a service becomes ready where its type alone does not say.

use std::time::Duration;

use crate::model::Environment;

/// What is waited for before a service counts as ready. With both, the probe begins when it has said so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// It says so itself.
    pub said: Option<Said>,
    /// It is asked.
    pub probe: Option<Probe>,
}

/// How a service says that it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// `READY=1` to `NOTIFY_SOCKET` (sd_notify(3)): `type: notify`.
    Notify,
    /// A newline to this descriptor, in the manner of s6: `notification_fd`. 3 to [`Said::HIGHEST_FD`].
    Fd(i32),
}

/// A question to a service, put again and again until it is answered well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub target: ProbeTarget,
    /// From one probe to the next; never zero.
    pub interval: Duration,
    /// How long one may take; never zero.
    pub timeout: Duration,
    /// Before the first.
    pub start_period: Duration,
    /// Successes in a row that count; at least 1.
    pub successes: u32,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeTarget {
    /// Whether an HTTP request is answered with a status that is good.
    Http(HttpTarget),
    /// Whether a connection is accepted.
    Tcp {
        /// A name or an address, IPv6 without brackets.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
}

/// An HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTarget {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
    /// With its query; visible ASCII that begins with `/`.
    pub path: String,
    /// Names and values, each fit for HTTP.
    pub headers: Environment,
    /// The one status that is good; `None`: 200 to 399.
    pub status: Option<u16>,
}

impl Readiness {
    /// Whether there is anything to wait for.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.said.is_some() || self.probe.is_some()
    }
}

impl Said {
    /// Highest number for a notification descriptor: the child walks the gaps below it one by one.
    pub const HIGHEST_FD: i32 = 1023;
}
