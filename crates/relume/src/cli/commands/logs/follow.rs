//! Following logs while they are written, rotated, truncated and replaced.
//!
//! The directories are watched rather than the files, so that a successor is seen at once (inotify(7)); nothing is
//! polled, except for a directory that is not there.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use relume_os::epoll::{Epoll, Inotify, Interest, Watch};
use relume_os::signals::{self, SignalFd};

use super::newcomers::Newcomers;
use super::printer::Printer;
use super::source::{Source, merge};
use crate::cli::render::text::harmless;
use crate::cli::{Exit, Failure, Screen};
use crate::log_files;

const INOTIFY: u64 = 0;
const STOP: u64 = 1;
const OUTPUT: u64 = 2;
const NEWCOMERS: u64 = 3;

/// So many items are shown before it is looked again who has something: one service that floods delays no other, and whoever notes
/// what was shown has few to note at once.
const ROUND: usize = 512;

/// Between two looks for a directory that is not there.
const AGAIN: Duration = Duration::from_millis(500);

/// Follows until Ctrl+C, SIGTERM, or the end of whoever reads.
pub(super) fn until_interrupted(
    sources: &mut Vec<Source>,
    newcomers: Option<Newcomers>,
    screen: &Screen,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    let failed = |error: relume_os::OsError| Failure::new(Exit::NotWell, format!("cannot follow: {error}"));
    let stops: Vec<i32> = ["INT", "TERM"].into_iter().filter_map(signals::parse).collect();
    signals::block(&stops).map_err(failed)?;
    let interrupted = SignalFd::new(&stops).map_err(failed)?;
    run(sources, newcomers, (screen, interrupted.as_fd()), printer, &mut |_| {}).map_err(failed)
}

/// Follows until `stop` can be read, and once more to the end then; or until nobody reads any more. `shown` is told whenever all that
/// the sources have given is written.
pub(super) fn run(
    sources: &mut Vec<Source>,
    mut newcomers: Option<Newcomers>,
    (screen, stop): (&Screen, BorrowedFd<'_>),
    printer: &mut Printer<'_>,
    shown: &mut dyn FnMut(&[Source]),
) -> relume_os::Result<()> {
    let changes = Inotify::new()?;
    let mut index = Index::default();
    index.watch(&changes, sources);
    index.complain(screen);
    let epoll = Epoll::new()?;
    epoll.add(&changes, INOTIFY, Interest::READ)?;
    epoll.add(stop, STOP, Interest::READ)?;
    if let Some(newcomers) = &newcomers {
        epoll.add(newcomers, NEWCOMERS, Interest::READ)?;
    }
    // Only to hear that a pipe's reader has gone. A file cannot be waited for, and has no reader to lose.
    let _ = epoll.add(io::stdout(), OUTPUT, Interest::NONE);
    let mut ready = Vec::new();
    let mut due: BTreeSet<usize> = (0..sources.len()).collect();
    let mut ending = false;
    loop {
        if !show(sources, &mut due, screen, printer) {
            return Ok(());
        }
        shown(sources);
        if ending && due.is_empty() {
            return Ok(());
        }
        let wait = match (due.is_empty(), index.missing.is_empty()) {
            (false, _) => Some(Duration::ZERO),
            (true, false) => Some(AGAIN),
            (true, true) => None,
        };
        let look = newcomers.as_ref().and_then(Newcomers::wait);
        epoll.wait(&mut ready, wait.into_iter().chain(look).min())?;
        if ready.iter().any(|event| event.token == OUTPUT) {
            return Ok(());
        }
        if ready.iter().any(|event| event.token == STOP) && !ending {
            if printer.hands_on() {
                return Ok(());
            }
            ending = true;
            due.extend(0..sources.len());
        }
        for (target, source) in newcomers.as_mut().map(Newcomers::look).unwrap_or_default() {
            printer.add(target.name());
            sources.push(source);
            due.insert(sources.len() - 1);
            due.extend(index.watch(&changes, sources));
        }
        let mut gone = Vec::new();
        changes.drain(|change| match (change.watch, change.name) {
            (Some(watch), Some(name)) => due.extend(index.concerned(watch.number(), name)),
            // The queue overflowed: anything may have changed.
            (None, _) => due.extend(0..sources.len()),
            // The directory itself has gone.
            (Some(watch), None) => gone.push(watch.number()),
        })?;
        for watch in gone {
            index.forget(watch);
        }
        if !index.missing.is_empty() {
            due.extend(index.watch(&changes, sources));
        }
    }
}

/// Shows what there is. False: nobody reads any more.
fn show(
    sources: &mut [Source],
    due: &mut BTreeSet<usize>,
    screen: &Screen,
    printer: &mut Printer<'_>,
) -> bool {
    let paths: Vec<PathBuf> = sources.iter().map(|source| source.lines.path().to_owned()).collect();
    let mut failed = |number: usize, error: io::Error| {
        screen.note(&format!("{}: {error}\n", harmless(&paths[number].display().to_string())));
    };
    if !merge(sources, due, ROUND, &mut |number, item| printer.print(number, &item), &mut failed) {
        return false;
    }
    if printer.wants_partial() && due.is_empty() {
        for (number, source) in sources.iter_mut().enumerate() {
            if let Some(item) = source.take_partial() {
                printer.print(number, &item);
            }
        }
    }
    printer.flush()
}

/// Which source a change concerns.
#[derive(Default)]
struct Index {
    sources: HashMap<(i32, Vec<u8>), Vec<usize>>,
    directories: HashMap<i32, PathBuf>,
    /// Directories that cannot be watched, and why.
    missing: HashMap<PathBuf, String>,
}

impl Index {
    fn concerned(&self, watch: i32, name: &OsStr) -> impl Iterator<Item = usize> {
        let log = log_files::log_of(name.as_bytes()).to_owned();
        self.sources.get(&(watch, log)).into_iter().flatten().copied()
    }

    /// Watches each directory that is not watched yet. The sources in those that are now.
    fn watch(&mut self, changes: &Inotify, sources: &[Source]) -> Vec<usize> {
        let interest = Watch::MODIFIED | Watch::CREATED | Watch::MOVED | Watch::ITSELF_GONE;
        let mut found = Vec::new();
        let before: HashMap<PathBuf, i32> =
            self.directories.iter().map(|(id, dir)| (dir.clone(), *id)).collect();
        for (number, source) in sources.iter().enumerate() {
            let (Some(dir), Some(name)) = (source.lines.path().parent(), source.lines.path().file_name())
            else {
                continue;
            };
            let log = log_files::log_of(name.as_bytes()).to_owned();
            if let Some(watch) = before.get(dir) {
                let known = self.sources.entry((*watch, log)).or_default();
                if !known.contains(&number) {
                    known.push(number);
                }
                continue;
            }
            match changes.add_watch(dir, interest) {
                Ok(id) => {
                    self.missing.remove(dir);
                    self.directories.insert(id.number(), dir.to_owned());
                    self.sources.entry((id.number(), log)).or_default().push(number);
                    found.push(number);
                }
                Err(error) => {
                    self.missing.insert(dir.to_owned(), error.to_string());
                }
            }
        }
        found
    }

    fn complain(&self, screen: &Screen) {
        for error in self.missing.values() {
            screen.note(&format!("not there yet, looked for again: {}\n", harmless(error)));
        }
    }

    fn forget(&mut self, watch: i32) {
        if let Some(dir) = self.directories.remove(&watch) {
            self.sources.retain(|(known, _), _| *known != watch);
            self.missing.insert(dir, String::new());
        }
    }
}
