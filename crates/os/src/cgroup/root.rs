//! The place in the cgroup v2 tree that is ours, and whether children can be born there.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::name::{escape, of_run, run_of};
use super::{Removal, RunCgroup, locate, remove_one};
use crate::error::{Errno, OsError, Result};
use crate::spawn::{into_cgroup_survives, move_into_cgroup_works};

/// Our own leaf, so that controllers can be enabled above the runs ("no internal processes", cgroups(7)).
pub(super) const SUPERVISOR: &str = "+supervisor";

/// `DelegateSubgroup=` of our systemd units (systemd 254): what is started there never stands in the way of controllers.
pub const SUBGROUP: &str = "relume-supervisor";

/// How children get into their cgroups here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryWay {
    /// `CLONE_INTO_CGROUP` works.
    Born,
    /// The child must write itself into `cgroup.procs`.
    Move,
}

/// The directory below which all runs lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupRoot {
    pub(super) path: PathBuf,
}

impl CgroupRoot {
    /// Finds our own cgroup and makes `NAME` below it (or below the one we were in before [`Self::enter_supervisor`], also after a restart).
    /// An error says why there is no writable cgroup v2. `name` must be the state directory's own: two supervisors may share the cgroup above.
    pub fn discover(name: &str) -> Result<Self> {
        let own = locate::own_directory()?;
        let name = escape(name);
        let path = match own.parent() {
            // systemd starts the main process in a leaf of its own, so that the unit's cgroup is free to hand controllers on.
            Some(unit) if own.ends_with(SUBGROUP) => unit.join(name),
            Some(root)
                if own.ends_with(SUPERVISOR) && root.file_name().is_some_and(|n| n == name.as_str()) =>
            {
                root.to_owned()
            }
            _ => own.join(name),
        };
        let root = Self { path };
        make(&root.path)?;
        root.check_writable()?;
        Ok(root)
    }

    /// A root known from before; an error if it is not there.
    pub fn open(path: &Path) -> Result<Self> {
        let root = Self { path: path.to_owned() };
        match root.path.join("cgroup.procs").exists() {
            true => Ok(root),
            false => Err(OsError::at("use as a cgroup", path, Errno::NOENT)),
        }
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves this whole process into the leaf `+supervisor`.
    pub fn enter_supervisor(&self) -> Result<()> {
        let leaf = self.make_leaf()?;
        let procs = leaf.join("cgroup.procs");
        fs::write(&procs, "0").map_err(|e| OsError::at("move ourselves by", procs, e))
    }

    pub(super) fn make_leaf(&self) -> Result<PathBuf> {
        let leaf = self.path.join(SUPERVISOR);
        make(&leaf)?;
        Ok(leaf)
    }

    /// Tries with real children, in a fresh directory, how they can enter it; an error if they cannot.
    pub fn probe(&self) -> Result<EntryWay> {
        let trial = RunCgroup { path: self.path.join(format!("+probe-{}", std::process::id())).into() };
        remove_one(&trial.path)?;
        fs::create_dir(&trial.path).map_err(|e| OsError::at("create cgroup", &trial.path, e))?;
        let way = Self::probe_in(&trial);
        // The trial's child is reaped, so nothing can be in it; a failure shows at the next probe.
        let _removed = remove_one(&trial.path);
        way
    }

    fn probe_in(trial: &RunCgroup) -> Result<EntryWay> {
        let dir = trial.open_dir()?;
        if into_cgroup_survives(dir.as_fd())? {
            return Ok(EntryWay::Born);
        }
        move_into_cgroup_works(&trial.path).map(|()| EntryWay::Move)
    }

    /// Whether `cgroup.kill` is there (Linux 5.14); without it the kill takes rounds.
    #[must_use]
    pub fn has_kill(&self) -> bool {
        self.path.join("cgroup.kill").exists()
    }

    /// Every run that has a directory: service and generation. Directories of another form are not ours and left out.
    pub fn runs(&self) -> Result<Vec<(String, u64)>> {
        let mut found: Vec<_> = names(&self.path)?.iter().filter_map(|component| run_of(component)).collect();
        found.sort();
        Ok(found)
    }

    /// The run's directory: as it was left by somebody, or as it would be. It need not exist.
    #[must_use]
    pub fn run(&self, service: &str, generation: u64) -> RunCgroup {
        RunCgroup { path: self.path.join(of_run(service, generation)).into() }
    }

    /// A fresh directory for one run; `EEXIST` if there is one, which must not be used again.
    pub fn create_run(&self, service: &str, generation: u64) -> Result<RunCgroup> {
        crate::tally::act();
        let run = self.run(service, generation);
        loop {
            match fs::create_dir(&run.path) {
                Ok(()) => return Ok(run),
                // Whoever tidies up empty cgroups may have taken our place away while nothing ran in it.
                Err(e) if e.kind() == ErrorKind::NotFound => make(&self.path)?,
                Err(e) => return Err(OsError::at("create cgroup", &run.path, e)),
            }
        }
    }

    /// Removes the root if no run is left in it (and we are not in its leaf).
    pub fn remove(&self) -> Result<Removal> {
        if remove_one(&self.path.join(SUPERVISOR))? == Removal::Busy {
            return Ok(Removal::Busy);
        }
        remove_one(&self.path)
    }

    /// An existing directory may belong to somebody else's root.
    fn check_writable(&self) -> Result<()> {
        let trial = self.path.join(format!("+probe-{}", std::process::id()));
        make(&trial)?;
        remove_one(&trial).map(|_| ())
    }
}

fn make(dir: &Path) -> Result<()> {
    match fs::create_dir(dir) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(OsError::at("create cgroup", dir, e)),
    }
}

fn names(dir: &Path) -> Result<Vec<String>> {
    match fs::read_dir(dir) {
        Ok(entries) => {
            let dirs = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
            Ok(dirs.filter_map(|e| e.file_name().into_string().ok()).collect())
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(OsError::at("list", dir, e)),
    }
}
