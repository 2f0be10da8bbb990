//! The limits of a run: set before anything runs in its cgroup, or said that they cannot be.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use relume_core::{RunId, RunKind};
use relume_os::cgroup::{self, RunCgroup};

use super::inbox::{Inbox, News};
use super::keeper::Keeper;
use super::spawn::Cgroups;
use super::units::Unit;
use crate::roles::IN_BACKGROUND;

/// The command that has put us in the background and waits there for our services: a process in our cgroup which is neither
/// manager nor guardian, and no stranger. A pid that means another process by now is that of no relume.
fn waiting() -> Option<u32> {
    let pid: u32 = std::env::var(IN_BACKGROUND).ok()?.parse().ok()?;
    let program = |of: &str| {
        let meta = std::fs::metadata(format!("/proc/{of}/exe")).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    (program(&pid.to_string())? == program("self")?).then_some(pid)
}

/// Services of which it was said that their limits are not kept: each is told once by a manager.
#[derive(Debug, Default)]
pub(crate) struct Unlimited(Mutex<BTreeSet<String>>);

impl Unlimited {
    /// Limits what runs in this cgroup, as the service is configured. A service whose limits cannot be kept here is started all the
    /// same: without them it would not run at all, and that is worse.
    pub(crate) fn limit(
        &self,
        (unit, run, kind): (&Unit, RunId, RunKind),
        (cgroups, cgroup): (Option<&Cgroups>, Option<&RunCgroup>),
        (keeper, inbox): (&Keeper, &Inbox),
    ) {
        let limits = unit.config.resources.limits;
        if !limits.is_some() || !matches!(kind, RunKind::Service | RunKind::Job) {
            return;
        }
        let name = &unit.config.spec.name;
        let done = match cgroups.zip(cgroup) {
            None => Err("there is no writable cgroup v2 here".to_owned()),
            Some((cgroups, cgroup)) => {
                let ours: Vec<u32> =
                    [std::process::id(), keeper.guardian()].into_iter().chain(waiting()).collect();
                let wanted =
                    cgroup::Limits { memory: limits.memory, cpu_milli: limits.cpu_milli, pids: limits.pids };
                let enabled = cgroups.root.enable(&limits.controllers(), &ours);
                enabled.and_then(|()| cgroup.limit(wanted)).map_err(|error| error.to_string())
            }
        };
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(why) = done
            && told.insert(name.to_string())
        {
            let text = format!("its limits are not kept here: {why}; see: relume doctor");
            inbox.send(News::Noticed { service: Some(run.service), text });
        }
    }
}
