//! How a service becomes ready where its type alone does not say, and how it shows that it is well.

use std::path::PathBuf;
use std::time::Duration;

use relume_core::{Check, Checks, Rule};

use crate::model::Environment;

/// What is waited for before a service counts as ready, and what is asked of it afterwards. With both, the probes begin when
/// it has said so.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Readiness {
    /// It says so itself.
    pub said: Option<Said>,
    /// It is asked.
    pub probes: Probes,
    /// It has to show that it lives (`WATCHDOG=1`) at least so often; never zero.
    pub watchdog: Option<Duration>,
    /// Descriptors that are kept for its next life (`FDSTORE=1`), at most so many.
    pub fd_store: u32,
}

/// How a service says that it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Said {
    /// `READY=1` to `NOTIFY_SOCKET` (sd_notify(3)): `type: notify`.
    Notify,
    /// A newline to this descriptor, in the manner of s6: `notification_fd`. 3 to [`Said::HIGHEST_FD`].
    Fd(i32),
}

/// The questions to a service, each put again and again.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Probes {
    /// Whether it has started; the others wait for it.
    pub startup: Option<Probe>,
    /// Whether it can be used.
    pub readiness: Option<Probe>,
    /// Whether it still works.
    pub liveness: Option<Probe>,
    /// The latter two in one.
    pub health: Option<Probe>,
}

/// A question to a service.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Probe {
    /// What is asked.
    pub target: ProbeTarget,
    /// From one probe to the next; never zero.
    pub interval: Duration,
    /// How long one may take; never zero.
    pub timeout: Duration,
    /// Before the first.
    pub start_period: Duration,
    /// Failures in a row that count; at least 1.
    pub failures: u32,
    /// Successes in a row that count; at least 1.
    pub successes: u32,
    /// In place of `timeout_stop` when this probe ends a life.
    pub grace: Option<Duration>,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ProbeTarget {
    /// Whether an HTTP request is answered with a status that is good.
    Http(Box<HttpTarget>),
    /// Whether a connection is accepted.
    Tcp {
        /// A name or an address, IPv6 without brackets.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// Whether this command ends with 0. Its words may differ between the instances of a service.
    Exec(Vec<String>),
    /// Whether `grpc.health.v1.Health/Check` answers `SERVING`.
    Grpc(GrpcTarget),
    /// Whether a connection to this unix socket is accepted.
    Unix(PathBuf),
    /// Whether this file exists.
    File(PathBuf),
    /// Whether this text was in a line of the service's output.
    LogLine(String),
}

/// An HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HttpTarget {
    /// Whether by TLS, whatever the certificate says.
    pub tls: bool,
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
    /// A token of HTTP.
    pub method: String,
    /// With its query; visible ASCII that begins with `/`.
    pub path: String,
    /// Names and values, each fit for HTTP.
    pub headers: Environment,
    /// The one status that is good; `None`: 200 to 399.
    pub status: Option<u16>,
    /// A text that the beginning of the answer's body must contain.
    pub body: Option<String>,
}

/// A service with the health protocol of gRPC, without TLS.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GrpcTarget {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
    /// The name that is asked for; empty: the server as a whole.
    pub service: String,
}

impl Readiness {
    /// Whether there is anything to wait for before it is ready.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let Probes { startup, readiness, health, .. } = &self.probes;
        self.said.is_some() || startup.is_some() || readiness.is_some() || health.is_some()
    }

    /// Whether it gets a notify socket.
    #[must_use]
    pub fn notifies(&self) -> bool {
        self.said == Some(Said::Notify) || self.watchdog.is_some() || self.fd_store > 0
    }
}

impl Probes {
    /// The probe of a check.
    #[must_use]
    pub fn get(&self, check: Check) -> Option<&Probe> {
        match check {
            Check::Startup => self.startup.as_ref(),
            Check::Readiness => self.readiness.as_ref(),
            Check::Liveness => self.liveness.as_ref(),
            Check::Health => self.health.as_ref(),
        }
    }

    pub(crate) fn get_mut(&mut self, check: Check) -> &mut Option<Probe> {
        match check {
            Check::Startup => &mut self.startup,
            Check::Readiness => &mut self.readiness,
            Check::Liveness => &mut self.liveness,
            Check::Health => &mut self.health,
        }
    }

    /// The rules by which the core counts their answers.
    #[must_use]
    pub fn checks(&self) -> Checks {
        let rule = |probe: &Option<Probe>| probe.as_ref().map(Probe::rule);
        Checks {
            startup: rule(&self.startup),
            readiness: rule(&self.readiness),
            liveness: rule(&self.liveness),
            health: rule(&self.health),
        }
    }
}

impl Probe {
    fn rule(&self) -> Rule {
        let command = matches!(self.target, ProbeTarget::Exec(_)).then_some(self.timeout);
        Rule { failures: self.failures, successes: self.successes, command, grace: self.grace }
    }

    /// The longest that all failures in a row take until they count.
    #[must_use]
    pub fn patience(&self) -> Duration {
        let round = self.interval.max(self.timeout);
        self.start_period.saturating_add(round.saturating_mul(self.failures)).saturating_add(self.timeout)
    }
}

impl Said {
    /// Highest number for a notification descriptor: the child walks the gaps below it one by one.
    pub const HIGHEST_FD: i32 = 1023;
}
