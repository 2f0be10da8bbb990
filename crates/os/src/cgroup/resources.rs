//! What a run uses and may use, through the controllers of cgroup v2.
//!
//! # Theory of operation
//!
//! A controller reaches a directory when every one above it says so in its `cgroup.subtree_control`, from the top of the
//! hierarchy down. Which ones reach our own cgroup is the business of whoever made it (systemd's `Delegate=`, a container
//! runtime); from there on it is ours: our own cgroup and the root. A cgroup that hands controllers on may hold
//! no process itself (cgroups(7), "no internal processes"), so guardian and manager move into a leaf first. Processes of
//! others are never moved: where there are some, limits cannot be had, and that is said. Under systemd the unit's own cgroup must stay
//! free as well, since the next main process is born there: our units have a `DelegateSubgroup=` for that.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::root::SUPERVISOR;
use super::{CgroupRoot, RunCgroup, SUBGROUP, locate};
use crate::error::{Errno, OsError, Result};
use crate::usage::counter;

/// The span in which `cpu.max` counts, in microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// What a run may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_milli: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl RunCgroup {
    /// Processor time of all that is or was in it; needs no controller.
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        let text = fs::read_to_string(self.path.join("cpu.stat")).ok()?;
        counter(&text, "usage_usec").map(Duration::from_micros)
    }

    /// Memory of all that is in it, without the cache of files; none without the controller.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        let all: u64 = fs::read_to_string(self.path.join("memory.current")).ok()?.trim().parse().ok()?;
        let stat = fs::read_to_string(self.path.join("memory.stat")).unwrap_or_default();
        // Shared memory counts among the files, but cannot be given back.
        let cache = counter(&stat, "file").unwrap_or(0).saturating_sub(counter(&stat, "shmem").unwrap_or(0));
        Some(all.saturating_sub(cache))
    }

    /// How many of its processes the kernel has killed for want of memory; none without the controller.
    #[must_use]
    pub fn oom_kills(&self) -> Option<u64> {
        counter(&fs::read_to_string(self.path.join("memory.events")).ok()?, "oom_kill")
    }

    /// Sets its limits. To be called before anything runs in it, after [`CgroupRoot::enable`].
    ///
    /// # Errors
    /// When a limit cannot be set: the file and why.
    pub fn limit(&self, limits: Limits) -> Result<()> {
        if let Some(bytes) = limits.memory {
            // The service as a whole: half a service that goes on is no service.
            self.write("memory.oom.group", "1")
                .or_else(|e| if e.errno == Errno::NOENT { Ok(()) } else { Err(e) })?;
            self.write("memory.max", &bytes.to_string())?;
        }
        if let Some(milli) = limits.cpu_milli {
            let quota = milli.saturating_mul(CPU_PERIOD_US) / 1000;
            self.write("cpu.max", &format!("{quota} {CPU_PERIOD_US}"))?;
        }
        limits.pids.map_or(Ok(()), |most| self.write("pids.max", &most.to_string()))
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        write(&self.path.join(file), text)
    }
}

impl CgroupRoot {
    /// The controllers that could be had here.
    #[must_use]
    pub fn controllers(&self) -> Vec<String> {
        let above = self.path.parent().unwrap_or(&self.path);
        controllers_in(above)
    }

    /// Has these controllers reach the runs. `ours`: our own processes, which may be moved out of the way.
    ///
    /// # Errors
    /// When they are not there, or processes of others are in the way: which, for people.
    pub fn enable(&self, controllers: &[&str], ours: &[u32]) -> Result<()> {
        let above = self.path.parent().unwrap_or(&self.path).to_owned();
        let offered = self.controllers();
        let missing: Vec<&str> =
            controllers.iter().copied().filter(|name| !offered.iter().any(|offer| offer == name)).collect();
        if !missing.is_empty() {
            let why = format!("controllers that do not reach it: {}", missing.join(", "));
            return Err(OsError::at("use limits in", above, Errno::NOENT).because(why));
        }
        if !hands_on(&above, controllers) {
            self.clear(&above, ours)?;
            hand_on(&above, controllers)?;
        }
        match hands_on(&self.path, controllers) {
            true => Ok(()),
            false => hand_on(&self.path, controllers),
        }
    }

    /// Moves our own processes out of a cgroup that is to hand controllers on.
    fn clear(&self, above: &Path, ours: &[u32]) -> Result<()> {
        let inside = to_move(above, ours)?;
        if inside.is_empty() {
            return Ok(());
        }
        let leaf = self.make_leaf()?;
        inside.iter().try_for_each(|pid| write(&leaf.join("cgroup.procs"), pid))
    }
}

/// The cgroup that hands controllers on to the runs of a supervisor: the one that this process of it, or about to be it, was put
/// into by others.
///
/// # Errors
/// When there is no cgroup v2, or it cannot be seen from here.
pub fn handing_on(pid: u32) -> Result<PathBuf> {
    let own = locate::directory(&pid.to_string())?;
    let up = |times| own.ancestors().nth(times).map(Path::to_path_buf);
    let above = match own.file_name().and_then(|name| name.to_str()) {
        Some(SUPERVISOR) => up(2),
        Some(SUBGROUP) => up(1),
        Some(_) | None => None,
    };
    Ok(above.unwrap_or(own))
}

/// The controllers that could be handed on from there.
#[must_use]
pub fn controllers_in(above: &Path) -> Vec<String> {
    words(&above.join("cgroup.controllers"))
}

/// Whether these controllers are handed on from there, or could be once our own processes have left.
///
/// # Errors
/// When somebody is in the way: who, for people.
pub fn may_hand_on(above: &Path, controllers: &[&str], ours: &[u32]) -> Result<()> {
    if hands_on(above, controllers) { Ok(()) } else { to_move(above, ours).map(drop) }
}

/// Our own processes in a cgroup that is to hand controllers on; an error where it must not.
fn to_move(above: &Path, ours: &[u32]) -> Result<Vec<String>> {
    // The top of the hierarchy has no type, and the rule does not hold for it.
    if !above.join("cgroup.type").exists() {
        return Ok(Vec::new());
    }
    let inside = words(&above.join("cgroup.procs"));
    let mine = |pid: &&String| pid.parse::<u32>().is_ok_and(|pid| ours.contains(&pid));
    if let Some(stranger) = inside.iter().find(|pid| !mine(pid)) {
        let why = format!("processes of others are in it (pid {stranger})");
        return Err(OsError::at("use limits in", above, Errno::BUSY).because(why));
    }
    if !inside.is_empty() && above.extension().is_some_and(|kind| kind == "service") {
        // systemd would put the next main process into a cgroup that must hold none, and fail each time.
        let why = format!(
            "the unit needs DelegateSubgroup={SUBGROUP} (systemd 254), or relume could not be started again"
        );
        return Err(OsError::at("use limits in", above, Errno::BUSY).because(why));
    }
    Ok(inside)
}

/// Whether a directory hands all of these on to those below it.
fn hands_on(dir: &Path, controllers: &[&str]) -> bool {
    let now = words(&dir.join("cgroup.subtree_control"));
    controllers.iter().all(|name| now.iter().any(|known| known.trim_start_matches('+') == *name))
}

fn hand_on(dir: &Path, controllers: &[&str]) -> Result<()> {
    let text: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    write(&dir.join("cgroup.subtree_control"), &text.join(" "))
}

fn words(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|e| OsError::at("write", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files that are there and take everything stand in for a kernel that has controllers.
    fn fake() -> (tempfile::TempDir, CgroupRoot) {
        let home = tempfile::tempdir().unwrap();
        let root = CgroupRoot { path: home.path().join("relume-x") };
        fs::create_dir_all(&root.run("web", 1).path).unwrap();
        for (file, text) in [
            ("cgroup.controllers", "cpuset cpu memory pids\n"),
            ("cgroup.type", "domain\n"),
            ("cgroup.procs", "7\n8\n"),
        ] {
            fs::write(home.path().join(file), text).unwrap();
        }
        (home, root)
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn controllers_are_handed_on_from_our_cgroup_to_the_run_and_our_processes_leave_first() {
        let (home, root) = fake();
        root.enable(&["cpu", "memory"], &[7, 8, 9]).unwrap();
        for dir in [home.path(), root.path()] {
            assert_eq!(read(&dir.join("cgroup.subtree_control")), "+cpu +memory", "{}", dir.display());
        }
        assert_eq!(read(&root.path().join("+supervisor/cgroup.procs")), "8", "the last that was moved");
        fs::write(home.path().join("cgroup.procs"), "99\n").unwrap();
        root.enable(&["cpu"], &[7]).expect("nothing is left to do, so nobody is in the way");
    }

    #[test]
    fn processes_of_others_are_never_moved_and_a_missing_controller_is_named() {
        let (home, root) = fake();
        let error = root.enable(&["memory"], &[7]).unwrap_err().to_string();
        assert!(error.contains("pid 8"), "{error}");
        assert!(!home.path().join("cgroup.subtree_control").exists());
        let error = root.enable(&["memory", "hugetlb"], &[7, 8]).unwrap_err().to_string();
        assert!(error.contains("hugetlb") && !error.contains("memory,"), "{error}");
    }

    /// Looked at alone, nothing is moved and nothing written. Shown to fail: with whoever is inside taken for one of ours.
    #[test]
    fn who_is_in_the_way_is_told_without_touching_anything() {
        let (home, _root) = fake();
        may_hand_on(home.path(), &["memory"], &[7, 8]).unwrap();
        let error = may_hand_on(home.path(), &["memory"], &[7]).unwrap_err().to_string();
        assert!(error.contains("pid 8"), "{error}");
        assert!(!home.path().join("cgroup.subtree_control").exists());
        // What is handed on already is in nobody's way.
        fs::write(home.path().join("cgroup.subtree_control"), "memory").unwrap();
        may_hand_on(home.path(), &["memory"], &[]).unwrap();
        assert_eq!(controllers_in(home.path()), ["cpuset", "cpu", "memory", "pids"]);
    }

    #[test]
    fn a_unit_of_systemd_is_not_made_one_that_cannot_be_started_again() {
        let home = tempfile::tempdir().unwrap();
        let unit = home.path().join("app.service");
        let root = CgroupRoot { path: unit.join("relume-x") };
        fs::create_dir_all(root.path.join("web")).unwrap();
        for (file, text) in
            [("cgroup.controllers", "memory"), ("cgroup.type", "domain"), ("cgroup.procs", "7")]
        {
            fs::write(unit.join(file), text).unwrap();
        }
        let error = root.enable(&["memory"], &[7]).unwrap_err().to_string();
        assert!(error.contains("DelegateSubgroup=relume-supervisor"), "{error}");
        // In its subgroup the main process is in nobody's way.
        fs::write(unit.join("cgroup.procs"), "").unwrap();
        root.enable(&["memory"], &[7]).unwrap();
    }

    #[test]
    fn limits_are_written_in_the_words_of_the_kernel() {
        let (_home, root) = fake();
        let run = root.run("web", 1);
        run.limit(Limits { memory: Some(64 << 20), cpu_milli: Some(500), pids: Some(20) }).unwrap();
        let file = |name: &str| read(&run.path().join(name));
        assert_eq!((file("memory.max").as_str(), file("memory.oom.group").as_str()), ("67108864", "1"));
        assert_eq!((file("cpu.max").as_str(), file("pids.max").as_str()), ("50000 100000", "20"));
        let none = root.run("gone", 1).limit(Limits { pids: Some(1), ..Limits::default() });
        assert!(none.unwrap_err().to_string().contains("pids.max"));
    }

    #[test]
    fn memory_is_what_cannot_be_given_back() {
        let (_home, root) = fake();
        let run = root.run("web", 1);
        assert_eq!((run.memory(), run.oom_kills()), (None, None));
        fs::write(run.path().join("memory.current"), "1000\n").unwrap();
        fs::write(run.path().join("memory.stat"), "anon 500\nfile 400\nshmem 100\n").unwrap();
        fs::write(run.path().join("memory.events"), "low 0\noom 1\noom_kill 2\noom_group_kill 1\n").unwrap();
        assert_eq!((run.memory(), run.oom_kills()), (Some(700), Some(2)));
    }
}
