//! The logs of one target, and how far each was sent.

use std::path::Path;
use std::time::{Duration, Instant};

use relume_config::Forward;
use relume_os::clock;

use super::Source;
use super::record::{Record, gap_text};
use super::store::{Entries, Entry, Store};
use crate::log_files::{Cursor, Item, Lines};

/// A batch holds at most so many lines, and about so many bytes: what is in memory while a receiver is slow, and what
/// comes twice when one dies.
const MOST_LINES: usize = 512;
const MOST_BYTES: usize = 256 << 10;

/// Cursors are written at most so often.
const WRITE_EVERY: Duration = Duration::from_millis(200);

/// One log.
struct Tail {
    source: Source,
    lines: Lines,
    /// Up to here the receiver has it.
    confirmed: Entry,
    /// Bytes that are gone and of which the next batch has to tell.
    to_tell: u64,
    /// And of which the batch under way tells.
    told: u64,
}

/// Where every log was behind a batch, and the gaps it told of.
#[derive(Debug, Clone)]
pub(super) struct Mark(Vec<(Option<Cursor>, u64)>);

/// See the module's description.
pub(super) struct Tails {
    tails: Vec<Tail>,
    store: Store,
    /// Of logs that are not forwarded any more; should they come back, they go on.
    others: Entries,
    written: Option<Instant>,
    unwritten: bool,
    /// Whose turn it is.
    next: usize,
}

impl Tails {
    /// Each log where its cursor says; one that is new, at its present end.
    pub(super) fn open(dir: &Path, target: &Forward, sources: &[Source]) -> Self {
        let store = Store::new(dir, target);
        let others = store.read();
        let mut all = Self { tails: Vec::new(), store, others, written: None, unwritten: true, next: 0 };
        all.set(sources);
        // So that a log which is not there yet is known to be new when it is.
        let _tried_again = all.write(true);
        all
    }

    /// Forwards these from now on.
    pub(super) fn set(&mut self, sources: &[Source]) {
        for gone in self.tails.extract_if(.., |tail| !sources.contains(&tail.source)) {
            self.others.insert(gone.source.path.clone(), gone.confirmed);
        }
        for source in sources {
            if self.tails.iter().all(|tail| tail.source != *source) {
                let entry = self.others.remove(&source.path);
                self.tails.push(Tail::open(source.clone(), entry));
            }
        }
        self.unwritten = true;
    }

    /// The next lines, of every log a fair part.
    pub(super) fn collect(&mut self) -> Vec<Record> {
        let now = i64::try_from(clock::realtime().as_nanos()).unwrap_or(i64::MAX);
        let (mut batch, mut bytes, mut idle) = (Vec::new(), 0, 0);
        let count = self.tails.len();
        let share = (MOST_LINES / count.max(1)).max(16);
        while idle < count && batch.len() < MOST_LINES && bytes < MOST_BYTES {
            self.next = (self.next + 1) % count;
            let before = batch.len();
            self.tails[self.next].collect(&mut batch, share, now);
            bytes += batch[before..].iter().map(|record| record.bytes.len()).sum::<usize>();
            idle = if batch.len() == before { idle + 1 } else { 0 };
        }
        batch
    }

    /// Where all logs are now.
    pub(super) fn mark(&mut self) -> Mark {
        let mark = |tail: &mut Tail| (tail.lines.cursor(), std::mem::take(&mut tail.told));
        Mark(self.tails.iter_mut().map(mark).collect())
    }

    /// The receiver has everything up to there. The gaps that it was told of.
    pub(super) fn confirm(&mut self, mark: Mark) -> Vec<String> {
        let mut gaps = Vec::new();
        for (tail, (cursor, told)) in self.tails.iter_mut().zip(mark.0) {
            if told > 0 {
                gaps.push(gap_text(&tail.source.name, told));
            }
            tail.confirmed = Entry { cursor, lost: tail.confirmed.lost.saturating_sub(told) };
        }
        self.unwritten = true;
        gaps
    }

    /// Back to what is confirmed.
    pub(super) fn rewind(&mut self) {
        self.tails.iter_mut().for_each(Tail::rewind);
        self.unwritten = true;
    }

    /// Looks which files there are, so that what goes missing can be told.
    pub(super) fn look(&mut self) {
        for tail in &mut self.tails {
            // What cannot be looked at now may be later; nothing is decided by it.
            let _later = tail.lines.look();
            if let (Some(cursor), Some(confirmed)) = (tail.lines.cursor(), &tail.confirmed.cursor)
                && cursor.offset == confirmed.offset
            {
                tail.confirmed.cursor = Some(cursor);
            }
        }
        self.unwritten = true;
    }

    /// Keeps the cursors, if they have changed and it is time; `now`: in any case.
    pub(super) fn write(&mut self, now: bool) -> Result<(), String> {
        let early = self.written.is_some_and(|at| at.elapsed() < WRITE_EVERY);
        if !self.unwritten || early && !now {
            return Ok(());
        }
        let mut entries = self.others.clone();
        for tail in &self.tails {
            entries.insert(tail.source.path.clone(), tail.confirmed.clone());
        }
        self.written = Some(Instant::now());
        self.store.write(&entries)?;
        self.unwritten = false;
        Ok(())
    }

    /// Whether something waits to be written.
    pub(super) fn is_unwritten(&self) -> bool {
        self.unwritten
    }
}

impl Tail {
    fn open(source: Source, entry: Option<Entry>) -> Self {
        let lines = Lines::new(source.path.clone(), source.channel);
        let mut tail = Self { source, lines, confirmed: Entry::default(), to_tell: 0, told: 0 };
        match entry {
            Some(entry) => {
                tail.confirmed = entry;
                tail.rewind();
            }
            None => {
                // A log that cannot be read now is sent from its beginning when it can.
                let _later = tail.lines.begin_at_end();
                tail.confirmed.cursor = tail.lines.cursor();
            }
        }
        tail
    }

    fn rewind(&mut self) {
        self.lines = Lines::new(self.source.path.clone(), self.source.channel);
        match &self.confirmed.cursor {
            Some(cursor) => {
                // One that cannot be read for the moment keeps its cursor.
                let lost = self.lines.resume(cursor).unwrap_or(0);
                if lost > 0 {
                    // It is gone for ever: what counts from here on is what is left.
                    self.confirmed = Entry { cursor: self.lines.cursor(), lost: self.confirmed.lost + lost };
                }
            }
            None => {
                // A cursor knows what may go missing; before there is a file there is nothing to know.
                let _later = self.lines.begin_at_start();
                self.confirmed.cursor = self.lines.cursor();
            }
        }
        (self.to_tell, self.told) = (self.confirmed.lost, 0);
    }

    fn collect(&mut self, batch: &mut Vec<Record>, most: usize, now: i64) {
        let lost = std::mem::take(&mut self.to_tell);
        if lost > 0 {
            self.tell(lost, batch, now);
        }
        for _ in 0..most {
            match self.lines.next() {
                Ok(Some(Item::Line(line))) => {
                    batch.push(Record::of(line, &self.source.name, self.source.own, now));
                }
                Ok(Some(Item::Gap(lost))) => self.tell(lost, batch, now),
                Ok(Some(Item::Mark(_))) => {}
                // One that cannot be read is tried again when something changes.
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn tell(&mut self, lost: u64, batch: &mut Vec<Record>, now: i64) {
        batch.push(Record::gap(&self.source.name, lost, now));
        self.told += lost;
    }
}
