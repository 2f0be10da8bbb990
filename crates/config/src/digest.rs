//! The digest of what a process was started with.
//!
//! It decides whether a changed config restarts a running service, so it must be the same in every process and
//! every version: FNV-1a (64 bits) over fields with tags and lengths, in a fixed order. A field that is added
//! later must feed nothing while it is at its default. Not a defence against anybody: who can choose the config
//! can choose the command.

use std::path::Path;

use crate::model::{Account, Launch, LogConfig, Stderr};
use crate::readiness::{Readiness, Said};
use crate::resources::{Limits, Socket};
use crate::stand_in::StandIn;

/// FNV-1a, 64 bits: offset basis and prime (draft-eastlake-fnv).
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

struct Digest(u64);

impl Digest {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }

    /// One field: its tag, its length, itself. So no two different sequences of fields feed the same bytes.
    fn field(&mut self, tag: &str, value: &[u8]) {
        for part in [tag.as_bytes(), value] {
            self.bytes(&(part.len() as u64).to_le_bytes());
            self.bytes(part);
        }
    }

    fn number(&mut self, tag: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.field(tag, &value.to_le_bytes());
        }
    }

    fn account(&mut self, tag: &str, account: Option<&Account>) {
        match account {
            Some(Account::Id(id)) => self.field(tag, &id.to_le_bytes()),
            Some(Account::Name(name)) => {
                self.field(tag, b"name");
                self.field(tag, name.as_bytes());
            }
            None => {}
        }
    }
}

/// What shapes a process at its start.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) launch: &'a Launch,
    pub(crate) stand_in: Option<&'a StandIn>,
    pub(crate) pid_file: Option<&'a Path>,
    pub(crate) readiness: &'a Readiness,
    pub(crate) log: &'a LogConfig,
    pub(crate) limits: Limits,
    pub(crate) sockets: &'a [Socket],
}

/// Digest of all that shapes a process at its start. Where its log is written is not among it: that can change
/// under a running service.
pub(crate) fn launch(parts: &Parts<'_>) -> u64 {
    let Parts { launch, stand_in, pid_file, readiness, log, limits, sockets } = *parts;
    let mut digest = Digest(BASIS);
    for argument in &*launch.argv {
        digest.field("argv", argument.as_bytes());
    }
    digest.field("working_dir", launch.how.working_dir.as_os_str().as_encoded_bytes());
    for (name, value) in launch.environment.0.iter() {
        digest.field("name", name.as_bytes());
        digest.field("value", value.as_bytes());
    }
    digest.account("user", launch.how.user.as_ref());
    digest.account("group", launch.how.group.as_ref());
    digest.number("umask", launch.how.umask.map(i64::from));
    digest.number("nice", launch.how.nice.map(i64::from));
    digest.number("oom_score_adj", launch.how.oom_score_adj.map(i64::from));
    for (limit, value) in &launch.how.rlimits {
        digest.field("rlimit", limit.name().as_bytes());
        for bound in [value.soft, value.hard] {
            digest.field("bound", &bound.unwrap_or(u64::MAX).to_le_bytes());
        }
    }
    if let Some(stand_in) = stand_in.and_then(|stand_in| serde_json::to_vec(stand_in).ok()) {
        digest.field("stand_in", &stand_in);
    }
    if let Some(path) = pid_file {
        digest.field("pid_file", path.as_os_str().as_encoded_bytes());
    }
    match log.rules.stderr {
        Stderr::Merge => {}
        Stderr::Separate => digest.field("stderr", b"separate"),
        Stderr::Discard => digest.field("stderr", b"discard"),
    }
    if log.rules.survive {
        digest.field("survive", b"");
    }
    // A probe is not among it: the process knows nothing of it.
    match readiness.said {
        // Only that there is a socket is told the process.
        None if readiness.notifies() => digest.field("notify", b"beside"),
        None => {}
        Some(Said::Notify) => digest.field("notify", b""),
        Some(Said::Fd(number)) => digest.number("notification_fd", Some(i64::from(number))),
    }
    if let Some(watchdog) = readiness.watchdog {
        digest.field("watchdog", &watchdog.as_micros().to_le_bytes());
    }
    for (tag, value) in
        [("limit_memory", limits.memory), ("limit_cpu", limits.cpu_milli), ("limit_pids", limits.pids)]
    {
        digest.number(tag, value.map(u64::cast_signed));
    }
    for socket in sockets {
        digest.field("socket", socket.identity().as_bytes());
        digest.field("socket_name", socket.name.as_bytes());
    }
    digest.0
}
