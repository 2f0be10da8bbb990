//! Where somebody is in a log, and how it goes on from there.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::chain::{self, Identity, LogFile, Reader};

/// So often a chain is looked through again for a file that moves. Each look takes less time than a rotation.
const MOST_LOOKS: usize = 16;

/// The first bytes by which a file is known again: two files of one log that agree in so many are one.
const KNOWN_BY: usize = 1024;

/// Fewer first bytes than this say nothing about which file it is.
const TELLING: u64 = 16;

/// A file as it is known again: by identity, or by its first bytes when compression has made another file of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    dev: u64,
    ino: u64,
    /// How many first bytes were there, and their FNV-1a hash.
    first: u64,
    hash: u64,
    /// Plain bytes, as far as was seen.
    size: u64,
}

impl Known {
    fn of(log: &LogFile) -> io::Result<Self> {
        let bytes = log.first_bytes(KNOWN_BY)?;
        let Identity(dev, ino) = log.original();
        // The plain size of a compressed file is in no place that can be trusted: it is what was seen before.
        let size = if log.packing.is_none() { log.length()? } else { 0 };
        Ok(Self { dev, ino, first: bytes.len() as u64, hash: hash(&bytes), size })
    }

    fn identity(&self) -> Identity {
        Identity(self.dev, self.ino)
    }

    /// Whether it is this file.
    fn is(&self, log: &LogFile) -> bool {
        let same_start = || {
            let most = usize::try_from(self.first).unwrap_or(KNOWN_BY).min(KNOWN_BY);
            log.first_bytes(most).is_ok_and(|bytes| bytes.len() == most && hash(&bytes) == self.hash)
        };
        if self.identity() == log.identity {
            // A number that is used again, or a file that was truncated: nothing that was read of it is there.
            return same_start();
        }
        log.packing.is_some() && self.first >= TELLING && same_start()
    }
}

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>).
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A place in a log that can be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    /// The file.
    file: Known,
    /// How far it was read.
    pub(crate) offset: u64,
    /// The files that were seen to follow it, oldest first.
    later: Vec<Known>,
}

impl Cursor {
    /// The same in short.
    pub(super) fn place(&self) -> Place {
        Place { file: self.file.identity(), offset: self.offset }
    }
}

/// A place in a log for as long as its file is not compressed and the machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: Identity,
    /// How far it was read.
    pub(crate) offset: u64,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The reader goes on in another file, or at the beginning of the same one.
    Next {
        /// Bytes that were there and cannot be read any more.
        lost: u64,
    },
    /// Nothing more for now.
    End,
}

/// Walks along one log.
#[derive(Debug)]
pub(crate) struct Follower {
    path: PathBuf,
    at: Option<(Reader, Known)>,
    later: Vec<Known>,
}

impl Follower {
    /// The log at this path, which need not exist yet; from its beginning unless told otherwise.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, at: None, later: Vec::new() }
    }

    /// The log's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Continues in this file of the log.
    pub(crate) fn begin(&mut self, log: LogFile, offset: u64) -> io::Result<()> {
        let known = Known::of(&log)?;
        self.at = Some((log.reader(offset)?, known));
        Ok(())
    }

    /// Continues where a cursor was taken. The bytes that stood between there and where it goes on.
    pub(crate) fn resume(&mut self, cursor: &Cursor) -> io::Result<u64> {
        let mut files = chain::open_all(&self.path)?;
        let known: Vec<Known> = std::iter::once(cursor.file).chain(cursor.later.iter().copied()).collect();
        let mut lost = 0;
        for (number, file) in known.iter().enumerate() {
            if let Some(found) = find(&files, file) {
                let offset = if number == 0 { cursor.offset } else { 0 };
                let known = *file;
                self.at = Some((files.swap_remove(found).reader(offset)?, known));
                return Ok(lost);
            }
            lost += file.size.saturating_sub(if number == 0 { cursor.offset } else { 0 });
        }
        // None of them is left: from the oldest file that is.
        if let Some(oldest) = files.pop() {
            self.begin(oldest, 0)?;
        }
        Ok(lost)
    }

    /// Where it is; `None`: there was no file yet.
    pub(crate) fn cursor(&self, offset: u64) -> Option<Cursor> {
        let (_, known) = self.at.as_ref()?;
        Some(Cursor { file: *known, offset, later: self.later.clone() })
    }

    /// The file that is being read, and the offset of its next byte.
    pub(crate) fn position(&self) -> Option<(Identity, u64)> {
        self.at.as_ref().map(|(reader, known)| (known.identity(), reader.offset))
    }

    /// Reads on in the open file. 0: its end.
    pub(crate) fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match &mut self.at {
            Some((reader, known)) => {
                let read = reader.read(bytes)?;
                known.size = known.size.max(reader.offset);
                if read > 0 && known.first < KNOWN_BY as u64 && reader.log.packing.is_none() {
                    *known = Known { size: known.size, ..Known::of(&reader.log)? };
                }
                Ok(read)
            }
            None => Ok(0),
        }
    }

    /// Looks which files there are, so that what goes missing can be told.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        let files = chain::open_all(&self.path)?;
        let Some((reader, known)) = &mut self.at else { return Ok(()) };
        if reader.log.packing.is_none() {
            known.size = reader.log.length()?.max(known.size);
        }
        let (mut later, newer) = match here(&files, reader, known) {
            Some(here) => (Vec::new(), here),
            // It has gone from the chain: what was seen after it, and what has come since.
            None => {
                let last = self.later.iter().rev().find_map(|known| find(&files, known));
                let written = reader.log.written()?;
                let since =
                    || files.iter().take_while(|log| log.written().is_ok_and(|at| at >= written)).count();
                (self.later.clone(), last.unwrap_or_else(since))
            }
        };
        for known in &mut later {
            if let Some(log) = find(&files, known).and_then(|number| files.get(number)) {
                grow(known, log)?;
            }
        }
        for log in files[..newer].iter().rev() {
            let before = self.later.iter().find(|known| known.is(log)).copied();
            let mut known = before.map_or_else(|| Known::of(log), Ok)?;
            grow(&mut known, log)?;
            later.push(known);
        }
        self.later = later;
        Ok(())
    }

    /// At the end of the open file: goes over to the one that continues it, if there is one.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let Some((reader, known)) = &mut self.at else {
            // It appeared while being followed. What was rotated already is part of it.
            return match chain::open_all(&self.path)?.pop() {
                Some(oldest) => self.begin(oldest, 0).map(|()| Step::Next { lost: 0 }),
                None => Ok(Step::End),
            };
        };
        if reader.is_truncated()? {
            reader.offset = 0;
            *known = Known::of(&reader.log)?;
            return Ok(Step::Next { lost: 0 });
        }
        if chain::identity_at(&self.path) == Some(reader.log.identity) {
            return Ok(Step::End);
        }
        let Some((next, lost)) = self.successor()? else { return Ok(Step::End) };
        // Between the end that was read and the rename that was seen, something may have been written.
        if self.has_more()? {
            return Ok(Step::Next { lost: 0 });
        }
        self.begin(next, 0)?;
        Ok(Step::Next { lost })
    }

    fn has_more(&self) -> io::Result<bool> {
        let Some((reader, _)) = &self.at else { return Ok(false) };
        Ok(reader.log.packing.is_none() && reader.log.length()? > reader.offset)
    }

    /// The file that continues the one that is open, and how much is missing between them.
    fn successor(&self) -> io::Result<Option<(LogFile, u64)>> {
        let Some((reader, known)) = &self.at else { return Ok(None) };
        for _ in 0..MOST_LOOKS {
            let mut files = chain::open_all(&self.path)?;
            match here(&files, reader, known) {
                Some(0) => return Ok(None),
                Some(number) => return Ok(Some((files.swap_remove(number - 1), 0))),
                // It has a name and was not seen: it moved while it was looked for.
                None if reader.log.is_named()? => {}
                None => return self.later_than(reader, files),
            }
        }
        // It was moved out of the chain by hand.
        self.later_than(reader, chain::open_all(&self.path)?)
    }

    /// Where it goes on when the open file is no longer part of the chain: removed, pushed off its end, or moved
    /// elsewhere. With the oldest file that was seen to follow it and is left; else with the oldest that was
    /// written after it.
    fn later_than(&self, reader: &Reader, mut files: Vec<LogFile>) -> io::Result<Option<(LogFile, u64)>> {
        let mut lost = 0;
        for known in &self.later {
            if let Some(found) = find(&files, known) {
                return Ok(Some((files.swap_remove(found), lost)));
            }
            lost += known.size;
        }
        let last = reader.log.written()?;
        let found = files.into_iter().rev().find(|log| log.written().is_ok_and(|written| written >= last));
        Ok(found.map(|log| (log, lost)))
    }
}

/// Notes how large it has become.
fn grow(known: &mut Known, log: &LogFile) -> io::Result<()> {
    if log.packing.is_none() {
        known.size = known.size.max(log.length()?);
    }
    Ok(())
}

/// Which of these is the open file, under whatever name and packing.
fn here(files: &[LogFile], reader: &Reader, known: &Known) -> Option<usize> {
    // While it is open its inode cannot be another file's.
    let same = files.iter().position(|log| log.identity == reader.log.identity);
    same.or_else(|| files.iter().rposition(|log| log.packing.is_some() && known.is(log)))
}

/// Which of these is a file that was known. Of several that begin alike, the oldest: rather twice than never.
fn find(files: &[LogFile], known: &Known) -> Option<usize> {
    let same = files.iter().position(|log| log.identity == known.identity() && known.is(log));
    same.or_else(|| files.iter().rposition(|log| known.is(log)))
}
