//! Which services there are, and where their logs lie: from the manager, or from the status file it left.

use std::collections::HashSet;
use std::path::PathBuf;

use super::{Named, client, find_manager};
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::commands::{last_status, refused};
use crate::places::Found;

/// A service and its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    name: String,
    groups: Vec<String>,
    pub(super) path: PathBuf,
}

impl Target {
    pub(super) fn name(&self) -> &str {
        &self.name
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
                Some(Target { name: service.name, groups: service.groups, path })
            })
            .collect()),
        // Whatever keeps the manager from answering: the files are there.
        Err(error) => from_file(&found).ok_or_else(|| refused(error, &found)),
    }
}

fn from_file(found: &Found) -> Option<Vec<Target>> {
    let services = last_status(found)?;
    let target = |(name, entry): (String, relume_proto::StatusEntry)| {
        Some(Target { path: PathBuf::from(entry.log?), groups: entry.groups, name })
    };
    Some(services.into_iter().filter_map(target).collect())
}

/// Services that share a file are shown once, under the name of the first.
pub(super) fn one_per_file(targets: Vec<Target>) -> Vec<Target> {
    let mut seen = HashSet::new();
    targets.into_iter().filter(|target| seen.insert(target.path.clone())).collect()
}
