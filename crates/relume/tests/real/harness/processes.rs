//! Processes as `/proc` shows them. A process is known by its pid and its start time together, so that a
//! reused pid is never taken for the process that had it before, and never signalled.

use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::fixtures;

/// The variable that all processes of one test's relume have inherited.
pub(super) const TAG: &str = "REAL_TEST";

/// One life of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    start_time: String,
    /// What it was started as, for messages.
    command: String,
}

impl Process {
    /// The living process with this pid; a zombie does not live.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let (state, start_time) = state_and_start(pid)?;
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        (!matches!(state.as_str(), "Z" | "X")).then_some(Self { pid, start_time, command })
    }

    /// Whether it still lives.
    pub(crate) fn lives(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now.start_time == self.start_time)
    }

    /// Sends a signal, unless it has ended meanwhile.
    pub(crate) fn signal(&self, signal: Signal) {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        // The pidfd holds this process or a later one with its pid; the look at /proc tells which.
        if self.lives() {
            // It may end in between: then there is nobody to signal, which is what was wanted.
            let _ = pidfd_send_signal(pidfd, signal);
        }
    }

    /// Whether `NAME=VALUE` stands in its environment.
    pub(crate) fn has_in_environment(&self, variable: &str) -> bool {
        environment(self.pid).iter().any(|entry| entry == variable)
    }

    /// The service that it is a life of, if it is still there to be asked.
    pub(crate) fn service(&self) -> Option<String> {
        let all = environment(self.pid);
        all.iter().find_map(|entry| entry.strip_prefix("RELUME_SERVICE=")).map(str::to_owned)
    }

    /// Whether it runs one of the fixtures.
    pub(super) fn is_fixture(&self) -> bool {
        let program = std::fs::read_link(format!("/proc/{}/exe", self.pid));
        program.is_ok_and(|program| program.parent() == Some(fixtures::folder()))
    }

    /// CPU time used so far, in clock ticks (100 a second), its ended children not counted.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = stat_fields(self.pid).expect("it lives");
        // utime and stime are fields 14 and 15 of proc(5); the list begins with field 3.
        stat[11].parse::<u64>().unwrap() + stat[12].parse::<u64>().unwrap()
    }
}

/// All living processes with this tag in their environment.
pub(super) fn tagged(tag: &str) -> Vec<Process> {
    let wanted = format!("{TAG}={tag}");
    let mut found = vec![];
    for entry in Path::new("/proc").read_dir().unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if environment(pid).contains(&wanted) {
            found.extend(Process::of(pid));
        }
    }
    found
}

/// Empty for processes of others, and for those that have ended.
fn environment(pid: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    bytes.split(|&byte| byte == 0).map(|entry| String::from_utf8_lossy(entry).into_owned()).collect()
}

/// proc(5) `stat` from field 3 on; the name before it may contain spaces and parentheses.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn state_and_start(pid: u32) -> Option<(String, String)> {
    let fields = stat_fields(pid)?;
    Some((fields.first()?.clone(), fields.get(19)?.clone()))
}
