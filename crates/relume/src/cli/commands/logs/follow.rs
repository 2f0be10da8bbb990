//! Following logs while they are written, rotated, truncated and replaced.
//!
//! A file is read to its end through the descriptor that is open, whatever it is called by then, and only
//! then left for its successor: the one before it in the chain of rotated files. The directory is watched
//! rather than the file, so that a successor is seen at once (inotify(7)); nothing is polled.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use relume_os::epoll::{Epoll, Inotify, Interest, Watch, WatchId};
use relume_os::signals::{self, SignalFd};

use super::chain::{self, LogFile};
use super::tail::BLOCK;
use crate::cli::{Exit, Failure, Screen};

/// So often a chain is looked through again for a file that moves. Each look takes less time than a rotation.
const MOST_LOOKS: usize = 16;

/// Where one follower is.
#[derive(Debug)]
pub(super) struct Position {
    pub(super) log: LogFile,
    pub(super) offset: u64,
}

/// Reads one log as it grows.
#[derive(Debug)]
pub(super) struct Follower {
    path: PathBuf,
    at: Option<Position>,
}

impl Follower {
    /// Follows the log at this path, which need not exist yet; from its beginning unless told otherwise.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, at: None }
    }

    /// The log's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Continues here.
    pub(super) fn begin(&mut self, position: Position) {
        self.at = Some(position);
    }

    /// Reads everything that is there. False: nobody reads any more.
    pub(super) fn pull(&mut self, emit: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<bool> {
        loop {
            if let Some(at) = &mut self.at {
                let there = chain::identity_at(&self.path);
                if !drain(at, emit)? {
                    return Ok(false);
                }
                // Looked at before the last read: had it been replaced after that, the read saw less than
                // its end. The replacement will be told by another event.
                if there == Some(at.log.identity) {
                    return Ok(true);
                }
            }
            let Some(next) = self.successor()? else { return Ok(true) };
            self.at = Some(Position { log: next, offset: 0 });
        }
    }

    /// The file that continues the one that is open.
    fn successor(&self) -> io::Result<Option<LogFile>> {
        let Some(at) = &self.at else {
            // It appeared while being followed. What was rotated already is part of it.
            return Ok(chain::open_all(&self.path)?.pop());
        };
        for _ in 0..MOST_LOOKS {
            let mut chain = chain::open_all(&self.path)?;
            match chain.iter().position(|log| log.identity == at.log.identity) {
                Some(0) => return Ok(None),
                Some(number) => return Ok(Some(chain.swap_remove(number - 1))),
                // It has a name and was not seen: it moved while it was looked for.
                None if at.log.is_named()? => {}
                None => return later_than(at, chain),
            }
        }
        // It was moved out of the chain by hand.
        later_than(at, chain::open_all(&self.path)?)
    }
}

/// The oldest file of the chain that was written after the one that is open, which is no longer part of it:
/// removed, pushed off its end, or moved elsewhere.
fn later_than(at: &Position, chain: Vec<LogFile>) -> io::Result<Option<LogFile>> {
    let last = at.log.written()?;
    Ok(chain.into_iter().rev().find(|log| log.written().is_ok_and(|written| written >= last)))
}

/// Reads to the end. A file that has become shorter is read from its beginning again.
fn drain(at: &mut Position, emit: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<bool> {
    let mut block = vec![0; BLOCK];
    if at.log.length()? < at.offset {
        at.offset = 0;
    }
    loop {
        let read = at.log.file.read_at(&mut block, at.offset)?;
        if read == 0 {
            return Ok(true);
        }
        at.offset += read as u64;
        if !emit(&block[..read]) {
            return Ok(false);
        }
    }
}

const INOTIFY: u64 = 0;
const STOP: u64 = 1;
const OUTPUT: u64 = 2;

/// Follows until Ctrl+C, SIGTERM, or the end of whoever reads.
pub(super) fn until_interrupted(
    followers: &mut [Follower],
    screen: &Screen,
    emit: &mut dyn FnMut(usize, &[u8]) -> bool,
) -> Result<(), Failure> {
    let failed = |error: relume_os::OsError| Failure::new(Exit::NotWell, format!("cannot follow: {error}"));
    let stops: Vec<i32> = ["INT", "TERM"].into_iter().filter_map(signals::parse).collect();
    signals::block(&stops).map_err(failed)?;
    let interrupted = SignalFd::new(&stops).map_err(failed)?;
    run(followers, screen, interrupted.as_fd(), emit).map_err(failed)
}

/// Follows until `stop` can be read, and once more to the end then; or until nobody reads any more.
pub(super) fn run(
    followers: &mut [Follower],
    screen: &Screen,
    stop: BorrowedFd<'_>,
    emit: &mut dyn FnMut(usize, &[u8]) -> bool,
) -> relume_os::Result<()> {
    let changes = Inotify::new()?;
    let index = watch(&changes, followers, screen);
    let epoll = Epoll::new()?;
    epoll.add(&changes, INOTIFY, Interest::READ)?;
    epoll.add(stop, STOP, Interest::READ)?;
    // Only to hear that a pipe's reader has gone. A file cannot be waited for, and has no reader to lose.
    let _ = epoll.add(io::stdout(), OUTPUT, Interest::NONE);
    let mut ready = Vec::new();
    let mut due: BTreeSet<usize> = (0..followers.len()).collect();
    let mut ending = false;
    loop {
        for number in std::mem::take(&mut due) {
            match followers[number].pull(&mut |bytes| emit(number, bytes)) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => screen.note(&format!("{}: {error}\n", followers[number].path.display())),
            }
        }
        if ending {
            return Ok(());
        }
        epoll.wait(&mut ready, None)?;
        if ready.iter().any(|event| event.token == OUTPUT) {
            return Ok(());
        }
        if ready.iter().any(|event| event.token == STOP) {
            ending = true;
            due.extend(0..followers.len());
        }
        changes.drain(|change| match (change.watch, change.name) {
            (Some(watch), Some(name)) => due.extend(index.concerned(watch, name)),
            // The queue overflowed: anything may have changed.
            (None, _) => due.extend(0..followers.len()),
            (Some(_), None) => {}
        })?;
    }
}

/// Which follower a change concerns.
struct Index(HashMap<(i32, Vec<u8>), Vec<usize>>);

impl Index {
    fn concerned(&self, watch: WatchId, name: &OsStr) -> impl Iterator<Item = usize> {
        let log = log_name(name.as_bytes()).to_owned();
        self.0.get(&(watch.number(), log)).into_iter().flatten().copied()
    }
}

/// `web.log` for `web.log.3` too: a file goes on being written for a moment after it was renamed.
fn log_name(name: &[u8]) -> &[u8] {
    let mut parts = name.rsplitn(2, |&byte| byte == b'.');
    match (parts.next(), parts.next()) {
        (Some(number), Some(log)) if !number.is_empty() && number.iter().all(u8::is_ascii_digit) => log,
        _ => name,
    }
}

fn watch(changes: &Inotify, followers: &[Follower], screen: &Screen) -> Index {
    let interest = Watch::MODIFIED | Watch::CREATED | Watch::MOVED;
    let mut index: HashMap<(i32, Vec<u8>), Vec<usize>> = HashMap::new();
    let mut unwatched = BTreeSet::new();
    for (number, follower) in followers.iter().enumerate() {
        let (Some(dir), Some(name)) = (follower.path.parent(), follower.path.file_name()) else { continue };
        match changes.add_watch(dir, interest) {
            Ok(id) => {
                index.entry((id.number(), log_name(name.as_bytes()).to_owned())).or_default().push(number)
            }
            Err(error) if unwatched.insert(dir) => screen.note(&format!("not followed: {error}\n")),
            Err(_) => {}
        }
    }
    Index(index)
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
