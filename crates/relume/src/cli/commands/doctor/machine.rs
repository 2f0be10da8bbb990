//! The machine: kernel, cgroups, descriptors, folders.

use std::path::{Path, PathBuf};

use relume_config::{Config, ManagerConfig};
use relume_os::cgroup::{CgroupRoot, EntryWay};
use relume_os::features::{self, Features};
use relume_os::limits::{self, Resource};
use rustix::fs::Access;

use crate::cli::render::doctor::Check;
use crate::trust;

/// Descriptors that relume needs beside the two of each service: its own, and open logs.
const OWN_DESCRIPTORS: u64 = 64 + 512;

/// What the kernel can do.
pub(super) fn kernel() -> Vec<Check> {
    // A name that no manager has, so that none is disturbed.
    let root = CgroupRoot::discover(&format!("relume-doctor-{}", std::process::id()));
    let found = features::probe(root.as_ref().map_err(ToString::to_string));
    if let Ok(root) = root {
        // A folder without processes that stays behind is litter and no more.
        let _litter = root.remove();
    }
    judged(&found)
}

fn judged(found: &Features) -> Vec<Check> {
    let mut missing = Vec::new();
    let mut checks = Vec::new();
    for (there, name, since) in
        [(found.pidfd, "pidfd_open", "5.3"), (found.close_range, "close_range", "5.9")]
    {
        if !there {
            missing.push(format!("{name} (Linux {since})"));
        }
    }
    checks.push(if missing.is_empty() {
        Check::ok("kernel", format!("Linux {}", found.kernel))
    } else {
        Check::bad("kernel", format!("Linux {} lacks {}", found.kernel, missing.join(", "))).advice(
            "relume needs Linux 5.9 or newer; a container's seccomp profile may also refuse these calls",
        )
    });
    if !found.clone3 {
        checks.push(
            Check::warn("clone3", "refused: services are started in the slower way")
                .advice("a container's seccomp profile refuses clone3; newer ones allow it"),
        );
    }
    checks.push(match &found.cgroup {
        Ok(EntryWay::Born) => Check::ok("cgroup v2", "writable: each run has a cgroup of its own"),
        Ok(EntryWay::Move) => Check::ok("cgroup v2", "writable: processes are moved into their cgroup"),
        Err(why) => Check::warn(
            "cgroup v2",
            format!("not used: {why}; trees are found by session and descent"),
        )
        .advice("resource limits and the surest way to end a tree need one: systemd's Delegate=yes, or root"),
    });
    if found.cgroup.is_ok() && !found.cgroup_kill {
        checks.push(
            Check::warn("cgroup.kill", "missing: trees are killed process by process")
                .advice("it comes with Linux 5.14"),
        );
    }
    if !found.pidfd_info_exit {
        checks.push(
            Check::warn("exit codes", "of services that outlive relume cannot be known after its death")
                .advice("Linux 6.15 remembers them; until then such an end counts as unknown"),
        );
    }
    if !found.proc_children {
        checks.push(Check::warn("/proc children", "missing: children are found by a scan of all processes"));
    }
    checks
}

/// Whether root would obey it.
pub(super) fn trusted(config: &Config, trust: bool) -> Option<Check> {
    let distrust = trust::check(config).err()?;
    Some(if trust {
        Check::warn("trust", distrust.message)
    } else {
        Check::bad("trust", distrust.message).advice(distrust.help.replace('\n', " "))
    })
}

/// Whether there are enough descriptors for so many services: a pidfd and a pipe each.
pub(super) fn descriptors(services: usize) -> Option<Check> {
    let limit = limits::get(Resource::by_name("nofile")?).ok()?;
    let Some(hard) = limit.hard else { return Some(Check::ok("open files", "no limit")) };
    let room = hard.saturating_sub(OWN_DESCRIPTORS) / 2;
    let said = format!("{hard} allowed: room for about {room} services, here are {services}");
    Some(if services as u64 > room {
        Check::bad("open files", said)
            .advice("raise the hard limit: LimitNOFILE= or /etc/security/limits.conf")
    } else {
        Check::ok("open files", said)
    })
}

/// Whether so many services may have processes at once.
pub(super) fn processes(services: usize) -> Option<Check> {
    let limit = limits::get(Resource::by_name("nproc")?).ok()?;
    let machine = std::fs::read_to_string("/proc/sys/kernel/pid_max").ok()?.trim().parse::<u64>().ok()?;
    let limit = limit.soft.map_or(machine, |own| own.min(machine));
    // Some of them have children of their own; threads count as well.
    let said = format!("{limit} allowed for this user, here are {services} services");
    Some(if limit < 2 * services as u64 + 100 {
        Check::warn("processes", said)
            .advice("raise it: LimitNPROC=, /etc/security/limits.conf or kernel.pid_max")
    } else {
        Check::ok("processes", said)
    })
}

/// Whether relume can write where it has to.
pub(super) fn places(manager: &ManagerConfig) -> Vec<Check> {
    let state = manager.state_dir.clone().unwrap_or_else(|| manager.config_dir.join(".relume"));
    let mut places = vec![("state_dir", state), ("log_dir", manager.log_dir.clone())];
    places.extend(manager.runtime_dir.clone().map(|dir| ("runtime_dir", dir)));
    places.extend(manager.pid_dir.clone().map(|dir| ("pid_dir", dir)));
    let files = [("log_file", &manager.log_file), ("status_file", &manager.status_file)];
    let folder = |path: &PathBuf| path.parent().map(Path::to_path_buf);
    places.extend(files.into_iter().filter_map(|(key, path)| Some((key, folder(path.as_ref()?)?))));
    places.into_iter().map(|(key, dir)| writable(key, &dir)).collect()
}

/// A folder that can be written, or can be made.
fn writable(key: &str, dir: &Path) -> Check {
    let Some(there) = dir.ancestors().find(|ancestor| ancestor.exists()) else {
        return Check::bad(key, format!("{} cannot be made", dir.display()));
    };
    let shown = dir.display();
    if !there.is_dir() {
        return Check::bad(key, format!("{}: {} is not a folder", shown, there.display()))
            .advice("choose another place, or move that file away");
    }
    match rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if there == dir => Check::ok(key, format!("{shown} can be written")),
        Ok(()) => Check::ok(key, format!("{shown} can be made")),
        Err(error) => {
            let error = std::io::Error::from(error);
            let check = Check::bad(key, format!("{} cannot be written: {error}", there.display()));
            check.advice("give this user the right, or choose another place")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::doctor::Verdict;

    fn all() -> Features {
        Features {
            kernel: "6.15".into(),
            pidfd: true,
            clone3: true,
            close_range: true,
            pidfd_info_exit: true,
            openat2: true,
            proc_children: true,
            cgroup: Ok(EntryWay::Born),
            cgroup_kill: true,
        }
    }

    /// Shown to fail: with a call that is missing taken for one that is there.
    #[test]
    fn a_good_kernel_is_all_right_and_an_old_one_is_not() {
        assert!(judged(&all()).iter().all(|check| check.verdict == Verdict::Ok));
        let old = judged(&Features { close_range: false, ..all() });
        assert_eq!(old.iter().map(|check| check.verdict).max(), Some(Verdict::Bad));
        let confined = judged(&Features { cgroup: Err("read-only".into()), clone3: false, ..all() });
        assert_eq!(confined.iter().map(|check| check.verdict).max(), Some(Verdict::Warn));
    }

    /// Shown to fail: by its mode alone, a file that can be written and executed is a good folder.
    #[test]
    fn a_place_that_is_a_file_is_bad_and_one_that_can_be_made_is_fine() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        assert_eq!(writable("x", &home.path().join("a/b")).verdict, Verdict::Ok);
        assert_eq!(writable("x", &file.join("b")).verdict, Verdict::Bad);
        assert_eq!(writable("x", &file).verdict, Verdict::Bad);
    }
}
