//! Which services there are, and where their logs lie: from the manager, or from the status file it left.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use relume_config::Files;
use relume_proto::StatusFile;

use super::{Named, client, find_manager};
use crate::cli::Failure;
use crate::cli::args::{Global, ManagerFlags};
use crate::cli::commands::{STATUS_LIMIT, configs, last_status, load_options, refused};
use crate::config_files::Disk;
use crate::log_files::{self, Lines};
use crate::output_index::Channel;
use crate::places::Found;

/// A service and its log, or that of its stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    name: String,
    groups: Vec<String>,
    pub(super) path: PathBuf,
    channel: Channel,
}

impl Target {
    /// A service's log.
    pub(super) fn new(name: String, groups: Vec<String>, path: PathBuf) -> Self {
        Self { name, groups, path, channel: Channel::Out }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Of a service whose stderr is kept apart, that.
    pub(super) fn is_stderr(&self) -> bool {
        self.channel == Channel::Err
    }

    /// Its lines.
    pub(super) fn lines(&self) -> Lines {
        Lines::new(self.path.clone(), self.channel)
    }
}

impl Named for Target {
    fn name(&self) -> &str {
        &self.name
    }
    fn groups(&self) -> &[String] {
        &self.groups
    }
}

/// Every service that has a log.
pub(super) fn find(global: &Global) -> Result<Vec<Target>, Failure> {
    let found = find_manager(global)?;
    match client(&found)?.status(&[]) {
        Ok(report) => Ok(report
            .services
            .into_iter()
            .filter_map(|service| {
                let path = PathBuf::from(service.log?);
                Some(Target::new(service.name, service.groups, path))
            })
            .collect()),
        // Whatever keeps the manager from answering: the files are there.
        Err(error) => from_file(&found).ok_or_else(|| refused(error, &found)),
    }
}

/// The status file, in the state directory unless the configuration says otherwise.
pub(super) const STATUS: &str = "status.json";

/// Every service that has a log, by the status file at this path.
pub(super) fn of_status_file(path: &Path) -> Option<Vec<Target>> {
    let text = Disk.read(path, STATUS_LIMIT).ok()?;
    serde_json::from_slice(&text).ok().map(of_status)
}

fn from_file(found: &Found) -> Option<Vec<Target>> {
    last_status(found).map(of_status)
}

fn of_status(services: StatusFile) -> Vec<Target> {
    let target = |(name, entry): (String, relume_proto::StatusEntry)| {
        Some(Target::new(name, entry.groups, PathBuf::from(entry.log?)))
    };
    services.into_iter().filter_map(target).collect()
}

/// Services that share a file are shown once, under the name of the first.
pub(super) fn one_per_file(targets: Vec<Target>) -> Vec<Target> {
    let mut seen = HashSet::new();
    targets.into_iter().filter(|target| seen.insert(target.path.clone())).collect()
}

/// Adds the logs of stderr where they are kept apart: `web.err.log` beside `web.log`, unless that is the log of
/// another service. One that is not there is wanted only where it may appear.
pub(super) fn with_stderr(targets: Vec<Target>, may_appear: bool) -> Vec<Target> {
    let taken: HashSet<PathBuf> = targets.iter().map(|target| target.path.clone()).collect();
    let mut all = Vec::with_capacity(targets.len());
    for target in targets {
        let path = log_files::of_stderr(&target.path);
        let apart = !taken.contains(&path) && (may_appear || path.exists());
        let err = apart.then(|| Target { path, channel: Channel::Err, ..target.clone() });
        all.push(target);
        all.extend(err);
    }
    all
}

/// The name under which relume's own log is shown.
pub(super) const OWN: &str = "relume";

/// relume's own log: from the manager, else from the config, else where it is by default.
pub(super) fn own(global: &Global) -> Result<Target, Failure> {
    let found = find_manager(global)?;
    let path = match client(&found)?.status(&[]) {
        Ok(report) => report.manager.log.map(PathBuf::from),
        Err(_) => None,
    };
    let configured = || {
        let mut options = load_options(global, &ManagerFlags::default(), configs(global));
        options.manager_only = true;
        relume_config::load(&Disk, &options).config.manager.log_file
    };
    let path = path.or_else(configured).unwrap_or_else(|| found.state_dir.join("relume.log"));
    Ok(Target::new(OWN.to_owned(), Vec::new(), path))
}
