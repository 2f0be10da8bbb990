//! Services that are added while logs are followed: `apply`, `scale`, a manager that starts with another configuration.
//!
//! The status file says which there are. It is replaced at each change of a state, which is heard of (inotify(7)), and looked
//! at no more than once a second; so this too works without a manager, and costs nothing while nothing happens.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use relume_os::epoll::{Inotify, Watch};

use super::source::{Filter, Source};
use super::targets::{self, Target};
use crate::cli::args::LogsArgs;
use crate::cli::commands::Named;
use crate::log_files::{LogFile, times};

/// Between two looks into the status file.
const APART: Duration = Duration::from_secs(1);

/// See the module's description.
pub(super) struct Newcomers {
    status: PathBuf,
    /// As the user said them; none: all.
    names: Vec<String>,
    filter: Filter,
    /// What is written from then on is shown of a log that was not known.
    since: i64,
    known: HashSet<PathBuf>,
    changes: Inotify,
    /// The status file has changed, and is looked at then.
    due: Option<Instant>,
    looked: Option<Instant>,
}

impl Newcomers {
    /// None: there is no status file to be heard of.
    pub(super) fn start(status: PathBuf, args: Option<&LogsArgs>, present: &[Target]) -> Option<Self> {
        let changes = Inotify::new().ok()?;
        changes.add_watch(status.parent()?, Watch::MOVED).ok()?;
        let filter = args.map(|args| Filter { grep: args.grep(), until: args.until, ..Filter::default() });
        Some(Self {
            status,
            names: args.map(|args| args.names.clone()).unwrap_or_default(),
            filter: filter.unwrap_or_default(),
            since: i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX),
            known: present.iter().map(|target| target.path.clone()).collect(),
            changes,
            // Something may have come since the present ones were found.
            due: Some(Instant::now()),
            looked: None,
        })
    }

    /// How long until there is a look to be taken, if there is.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Notes what has changed. Those that are new, if it is time.
    pub(super) fn look(&mut self) -> Vec<(Target, Source)> {
        let (status, mut changed) = (self.status.file_name(), false);
        let heard = self.changes.drain(|change| changed |= change.name.is_none() || change.name == status);
        if changed || heard.is_err() {
            let earliest = self.looked.map_or_else(Instant::now, |looked| looked + APART);
            self.due.get_or_insert(earliest);
        }
        if self.due.is_none_or(|due| due > Instant::now()) {
            return Vec::new();
        }
        (self.due, self.looked) = (None, Some(Instant::now()));
        let Some(all) = targets::of_status_file(&self.status) else { return Vec::new() };
        let wanted =
            |target: &Target| self.names.is_empty() || self.names.iter().any(|word| target.is_meant_by(word));
        let all = targets::one_per_file(all.into_iter().filter(wanted).collect());
        let mut new = targets::with_stderr(all, true);
        new.retain(|target| self.known.insert(target.path.clone()));
        new.into_iter().filter_map(|target| Some((target.clone(), self.begin(&target)?))).collect()
    }

    fn begin(&self, target: &Target) -> Option<Source> {
        let mut lines = target.lines();
        // One that is not there yet is read from its beginning; of an old log of a service that comes back, what its
        // index says was written since.
        if let Ok(log) = LogFile::open(&target.path) {
            let index = times::index_of(&target.path, log.original());
            match index.and_then(|index| index.offset_at(self.since)) {
                Some(offset) => lines.begin(log, offset).ok()?,
                None => lines.begin_at_end().ok()?,
            }
        }
        let filter = Filter { apart: target.is_stderr(), ..self.filter.clone() };
        Some(Source::over(lines, filter))
    }
}

impl AsFd for Newcomers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.changes.as_fd()
    }
}
