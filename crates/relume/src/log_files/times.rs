//! What the index beside a log knows of its bytes, read as far as it has grown.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::chain::Identity;
use crate::output_index::{self, HEADER, Header, Index, Kind, RECORD, Record};

/// Old files among which the index of the open one is looked for: it is renamed together with its log.
const MOST_NUMBERS: u32 = 1_000;

/// Records read at once.
const BATCH: usize = 1024;

/// The index of one file of a log.
#[derive(Debug)]
pub(crate) struct Times {
    log: PathBuf,
    /// Of the file the records are of, and where they are read from.
    open: Option<(Identity, File)>,
    read_to: u64,
    /// Those that are still of use: the last that says whose the present byte is, and those after it.
    records: VecDeque<Record>,
    /// The last that said whose bytes are.
    last: Option<Record>,
}

impl Times {
    pub(crate) fn new(log: &Path) -> Self {
        Self { log: log.to_owned(), open: None, read_to: 0, records: VecDeque::new(), last: None }
    }

    /// Reads what has been added to the index of this file.
    pub(crate) fn refresh(&mut self, of: Identity) {
        if self.open.as_ref().is_none_or(|(identity, _)| *identity != of) {
            self.open = find(&self.log, of).map(|(_, file)| (of, file));
            self.read_to = HEADER as u64;
            self.records.clear();
            self.last = None;
        }
        let Some((_, file)) = &self.open else { return };
        let mut bytes = vec![0; BATCH * RECORD];
        loop {
            // An index that cannot be read is none.
            let read = file.read_at(&mut bytes, self.read_to).unwrap_or(0);
            let whole = read / RECORD * RECORD;
            for record in bytes[..whole].chunks_exact(RECORD).filter_map(Record::decode) {
                // The log was shortened: what stood beyond is gone.
                while self.records.back().is_some_and(|last| last.offset > record.offset) {
                    self.records.pop_back();
                }
                self.records.push_back(record);
            }
            self.read_to += whole as u64;
            if whole < bytes.len() {
                return;
            }
        }
    }

    /// Whose the byte at `offset` is and when it was written. Offsets only grow from one question to the next.
    pub(crate) fn at(&mut self, offset: u64) -> Option<Record> {
        while let Some(first) =
            self.records.front().filter(|record| record.is_output() && record.offset <= offset)
        {
            self.last = Some(*first);
            self.records.pop_front();
        }
        self.last
    }

    /// The next mark before `offset`, once.
    pub(crate) fn mark_before(&mut self, offset: u64) -> Option<Record> {
        self.next_mark(offset.checked_sub(1)?)
    }

    /// The next mark that stands at or before `offset`, once.
    pub(crate) fn next_mark(&mut self, offset: u64) -> Option<Record> {
        loop {
            let first = *self.records.front().filter(|record| record.offset <= offset)?;
            self.records.pop_front();
            match first.kind {
                Kind::Output(..) => self.last = Some(first),
                Kind::Started | Kind::Exited(_) | Kind::Killed(_) | Kind::Ended | Kind::Dropped(_) => {
                    return Some(first);
                }
            }
        }
    }

    /// Forgets the marks before `offset`: they belong to what is not shown.
    pub(crate) fn skip_to(&mut self, offset: u64) {
        while self.mark_before(offset).is_some() {}
    }
}

/// The whole index of this file.
pub(crate) fn index_of(log: &Path, of: Identity) -> Option<Index> {
    Index::read(&find(log, of)?.0).ok()?
}

/// The index that says it is of this file.
fn find(log: &Path, of: Identity) -> Option<(PathBuf, File)> {
    let mut missing = 0;
    for number in 0..MOST_NUMBERS {
        let path = output_index::path_of(log, number);
        let Some(file) = open(&path) else {
            missing += 1;
            if missing == 4 {
                return None;
            }
            continue;
        };
        missing = 0;
        let mut header = [0; HEADER];
        if file.read_exact_at(&mut header, 0).is_ok()
            && Header::decode(&header).is_some_and(|header| header.log == (of.0, of.1))
        {
            return Some((path, file));
        }
    }
    None
}

/// A regular file, no link.
fn open(path: &Path) -> Option<File> {
    super::LogFile::open(path).ok().map(|found| found.file)
}
