//! The keys as they are written: plain derives, one struct for each map. Their doc comments are what editors
//! show (through the JSON Schema) and what the reference page says, so they are written for users.
//!
//! Every field is optional: a field that was wrong is cut off and decoding goes on without it. `x-default` is
//! what counts when the key is absent.

mod forms;
mod later;
mod manager;
mod service;
mod sockets;
mod values;

pub(crate) use forms::*;
pub(crate) use later::*;
pub(crate) use manager::*;
pub(crate) use service::*;
pub(crate) use sockets::*;
pub(crate) use values::*;

/// Keys whose text is a command: `${VAR}` in them is replaced late, with the environment of their service.
pub(crate) const COMMAND_KEYS: [&str; 14] = [
    "command",
    "executable",
    "arguments",
    "pre_start",
    "post_start",
    "pre_stop",
    "post_stop",
    "on_failure",
    "start_command",
    "stop_command",
    "status_command",
    "reload_command",
    "unless",
    "exec",
];

/// Other names of keys: what stands in brackets in the reference, and the names of the probes of Kubernetes.
/// `(where, other name, name)`.
pub(crate) const ALIASES: &[(Scope, &str, &str)] = &[
    (Scope::Service, "directory", "working_dir"),
    (Scope::Service, "cwd", "working_dir"),
    (Scope::Service, "env", "environment"),
    (Scope::Service, "restart", "restart_policy"),
    (Scope::Service, "autorestart", "restart_policy"),
    (Scope::Service, "depends_on", "dependencies"),
    (Scope::Service, "stop_grace_period", "timeout_stop"),
    (Scope::Service, "startupProbe", "startup"),
    (Scope::Service, "readinessProbe", "readiness"),
    (Scope::Service, "readiness_probe", "readiness"),
    (Scope::Service, "livenessProbe", "liveness"),
    (Scope::Service, "liveness_probe", "liveness"),
    (Scope::Probe, "httpGet", "http"),
    (Scope::Probe, "http_get", "http"),
    (Scope::Probe, "tcpSocket", "tcp"),
    (Scope::Probe, "initialDelaySeconds", "start_period"),
    (Scope::Probe, "initial_delay_seconds", "start_period"),
    (Scope::Probe, "periodSeconds", "interval"),
    (Scope::Probe, "period_seconds", "interval"),
    (Scope::Probe, "timeoutSeconds", "timeout"),
    (Scope::Probe, "timeout_seconds", "timeout"),
    (Scope::Probe, "failureThreshold", "retries"),
    (Scope::Probe, "failure_threshold", "retries"),
    (Scope::Probe, "successThreshold", "successes"),
    (Scope::Probe, "success_threshold", "successes"),
    (Scope::Probe, "terminationGracePeriodSeconds", "grace_period"),
];

/// Which map a key stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Service,
    Probe,
}

/// The keys of a service that hold a probe.
pub(crate) const PROBE_KEYS: [&str; 4] = ["health_check", "startup", "readiness", "liveness"];
