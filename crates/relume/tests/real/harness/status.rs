//! `relume status --json`, read the way a stranger's program would: by its documented names.

use std::fmt;

use serde_json::Value;

/// One answer of `relume status --json`.
#[derive(Clone)]
pub(crate) struct Status(Value);

impl Status {
    pub(crate) fn new(value: Value) -> Self {
        Self(value)
    }

    /// The manager's part.
    pub(crate) fn manager(&self) -> &Value {
        &self.0["manager"]
    }

    /// All services.
    pub(crate) fn services(&self) -> &[Value] {
        self.0["services"].as_array().expect("services is a list")
    }

    /// One service, which must be there.
    pub(crate) fn service(&self, name: &str) -> &Value {
        let found = self.services().iter().find(|service| service["name"] == name);
        found.unwrap_or_else(|| panic!("no service {name:?} in {self}"))
    }

    /// Its state, in the words of users.
    pub(crate) fn state(&self, name: &str) -> &str {
        self.service(name)["state"].as_str().expect("state is a word")
    }

    /// Why it is in that state.
    pub(crate) fn reason(&self, name: &str) -> &str {
        self.service(name)["reason"].as_str().unwrap_or_default()
    }

    /// Its main process, which must be there.
    pub(crate) fn pid(&self, name: &str) -> u32 {
        let pid = self.service(name)["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        pid.unwrap_or_else(|| panic!("{name} has no pid: {self}"))
    }

    /// Whether it has a process.
    pub(crate) fn has_pid(&self, name: &str) -> bool {
        !self.service(name)["pid"].is_null()
    }

    /// Automatic restarts so far.
    pub(crate) fn restarts(&self, name: &str) -> u64 {
        self.service(name)["restarts"].as_u64().expect("restarts is a number")
    }

    /// How it ended last.
    pub(crate) fn last_exit(&self, name: &str) -> &Value {
        &self.service(name)["last_exit"]
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}
