//! Daemons that are not where relume has put them.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Process, Relume, eventually};

/// The directory of a process's cgroup (version 2).
fn cgroup_of(process: &str) -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    // proc(5): the mount point is field 5, the type follows the lone dash.
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
    let groups = std::fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap();
    Some(Path::new(mount).join(groups.lines().find_map(|line| line.strip_prefix("0::/"))?))
}

/// Able to fail: with the look at the pidfd in `main_ended` switched off, the daemon had "ended" and there were two.
#[test]
fn a_daemon_that_is_moved_out_of_its_cgroup_is_still_the_one_life_of_its_service() {
    let relume = Relume::with(&json!({"services": {
        "daemon": {"command": "sleep 1000 & exit 0", "type": "forking", "retry_delay": "20ms"},
        "other": {"command": "sleep 1000"}}}));
    let status = relume.wait_state("daemon", "running");
    let pid = status.pid("daemon");
    let (Some(dir), Some(ours)) = (cgroup_of(&pid.to_string()), cgroup_of("self")) else {
        return eprintln!("SKIPPED: there is no cgroup v2 here");
    };
    if dir == ours || std::fs::write(ours.join("cgroup.procs"), pid.to_string()).is_err() {
        return eprintln!("SKIPPED: no cgroups are made here");
    }
    let events = || std::fs::read_to_string(dir.join("cgroup.events")).unwrap();
    eventually("its cgroup is empty", || events().contains("populated 0").then_some(()));
    // Has gone through the supervise thread, behind the news that the cgroup is empty.
    relume.ok(&["restart", "other"]);
    // What cannot be known of an end is waited for, half a second long: so this has to be looked at for longer.
    let status = relume.wait_until("a second has passed", |status| {
        status.service("other")["uptime_s"].as_f64().is_some_and(|uptime| uptime > 1.0)
    });
    assert_eq!((status.pid("daemon"), status.restarts("daemon")), (pid, 0), "{status}");
    let daemon = Process::of(pid).unwrap();
    daemon.signal(Signal::KILL);
    let status = relume.wait_until("its end is noticed", |status| status.restarts("daemon") == 1);
    assert_eq!(status.last_exit("daemon")["signal"], "SIGKILL", "{status}");
    relume.wait_state("daemon", "running");
    relume.down();
}
