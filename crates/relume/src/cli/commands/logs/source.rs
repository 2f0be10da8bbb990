//! One log as it is to be shown: filtered, and one item ahead so that several can be merged in order of time.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::io;
use std::path::Path;

use regex::bytes::Regex;

use super::start;
use super::targets::Target;
use crate::cli::args::LogsArgs;
use crate::log_files::{Item, Lines, Place};
use crate::output_index::Kind;

/// What is wanted of a log.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    pub(super) since: Option<i64>,
    pub(super) until: Option<i64>,
    pub(super) run: Option<u32>,
    pub(super) grep: Option<Regex>,
    /// It is the log of stderr beside that of stdout, where the beginnings and ends of runs stand as well.
    pub(super) apart: bool,
}

impl Filter {
    /// What the index does not know the time of is shown whatever time is wanted; its run is nobody's.
    fn wants(&self, item: &Item) -> bool {
        let (at, run) = match item {
            Item::Line(line) => (line.at, line.run),
            Item::Mark(mark) => (Some(mark.at), Some(mark.run)),
            Item::Gap(_) => return true,
        };
        let late = self.since.is_none_or(|since| at.is_none_or(|at| at >= since));
        let early = self.until.is_none_or(|until| at.is_none_or(|at| at < until));
        let matches = match (&self.grep, item) {
            (Some(grep), Item::Line(line)) => grep.is_match(&line.bytes),
            // A mark between lines that are not there would say nothing.
            (Some(_), Item::Mark(_) | Item::Gap(_)) => false,
            (None, Item::Mark(mark)) => !self.apart || matches!(mark.kind, Kind::Dropped(_)),
            (None, _) => true,
        };
        late && early && matches && (self.run.is_none() || self.run == run)
    }
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) lines: Lines,
    filter: Filter,
    /// Found in advance: the last lines that match.
    found: VecDeque<Item>,
    ahead: Option<Item>,
    /// Where that begins.
    before: Option<Place>,
    /// When the last item was written whose time is known: one that has none came with it.
    at: i64,
}

impl Source {
    /// Shows what comes from now on.
    pub(super) fn from_now(mut lines: Lines) -> io::Result<Self> {
        lines.begin_at_end()?;
        Ok(Self::over(lines, Filter::default()))
    }

    /// Goes on at a place; none: there was no log yet.
    pub(super) fn from_place(mut lines: Lines, place: Option<Place>) -> io::Result<Self> {
        lines.begin_at(place)?;
        Ok(Self::over(lines, Filter::default()))
    }

    /// The log's path.
    pub(super) fn path(&self) -> &Path {
        self.lines.path()
    }

    /// The place behind what was given; none: there is no log yet.
    pub(super) fn place(&self) -> Option<Place> {
        if self.ahead.is_some() { self.before } else { self.lines.place() }
    }

    /// Shows what is asked for of what is there.
    pub(super) fn begin(target: &Target, args: &LogsArgs) -> io::Result<Self> {
        let mut lines = target.lines();
        let run = match args.run {
            None => None,
            Some(wanted) => Some(number_of(wanted, start::last_run(&target.path)?)),
        };
        let (grep, apart) = (args.grep(), target.is_stderr());
        let filter = Filter { since: args.since, until: args.until, run, grep, apart };
        let most = args.most();
        let filtered =
            filter.run.is_some() || filter.grep.is_some() || filter.until.is_some() || filter.since.is_some();
        match filter.since {
            Some(since) => start::at_time(&mut lines, since)?,
            None if filtered => start::at_last(&mut lines, u64::MAX)?,
            None => start::at_last(&mut lines, most)?,
        }
        let mut source = Self::over(lines, filter);
        if filtered && most < u64::MAX {
            source.keep_last(most)?;
        }
        Ok(source)
    }

    pub(super) fn over(lines: Lines, filter: Filter) -> Self {
        Self { lines, filter, found: VecDeque::new(), ahead: None, before: None, at: i64::MIN }
    }

    /// Of the output and the errors of one service, the last `most` lines of both together.
    pub(super) fn keep_last_of_both(&mut self, errors: &mut Self, most: u64) -> io::Result<()> {
        for source in [&mut *self, &mut *errors] {
            source.keep_last(most)?;
        }
        let count =
            |source: &Self| source.found.iter().filter(|item| matches!(item, Item::Line(_))).count() as u64;
        for _ in most..count(self) + count(errors) {
            let (mine, other) = (self.first_line_at(), errors.first_line_at());
            let older = if mine <= other { &mut *self } else { &mut *errors };
            while !matches!(older.found.pop_front(), None | Some(Item::Line(_))) {}
        }
        Ok(())
    }

    /// When the first of the lines found in advance was written; after all others if there is none.
    fn first_line_at(&self) -> i64 {
        let line = self.found.iter().find_map(|item| match item {
            Item::Line(line) => Some(line.at.unwrap_or(i64::MIN)),
            Item::Mark(_) | Item::Gap(_) => None,
        });
        line.unwrap_or(i64::MAX)
    }

    /// Reads to the end and keeps the last `most` lines that match, with the marks between them.
    fn keep_last(&mut self, most: u64) -> io::Result<()> {
        let mut found = VecDeque::new();
        let mut lines = 0;
        while let Some(item) = self.next()? {
            lines += u64::from(matches!(item, Item::Line(_)));
            found.push_back(item);
            while lines > most {
                lines -= u64::from(matches!(found.pop_front(), Some(Item::Line(_))));
            }
        }
        self.found = found;
        Ok(())
    }

    fn next(&mut self) -> io::Result<Option<Item>> {
        if let Some(item) = self.found.pop_front() {
            return Ok(Some(item));
        }
        while let Some(item) = self.lines.next()? {
            if self.filter.wants(&item) {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    /// The time of the next item; `None`: there is none for now.
    fn look_ahead(&mut self) -> io::Result<Option<i64>> {
        if self.ahead.is_none() {
            self.before = self.lines.place();
            self.ahead = self.next()?;
            match &self.ahead {
                Some(Item::Line(line)) => self.at = line.at.unwrap_or(self.at),
                Some(Item::Mark(mark)) => self.at = mark.at,
                Some(Item::Gap(_)) => {}
                None => return Ok(None),
            }
        }
        Ok(Some(self.at))
    }

    /// A last line without an end, if it is wanted.
    pub(super) fn take_partial(&mut self) -> Option<Item> {
        self.lines.take_partial().filter(|item| self.filter.wants(item))
    }
}

/// `-1` is the run before the last one, `0` the last one.
fn number_of(wanted: i64, last: Option<u32>) -> u32 {
    let counted = if wanted > 0 { wanted } else { i64::from(last.unwrap_or(0)) + wanted };
    // A run that never was: nothing is shown.
    u32::try_from(counted).unwrap_or(u32::MAX)
}

/// Gives what these sources have, in order of time, `most` items at the most; of one time, in the order of the
/// sources. Those that have more for now stay in `due`. False: nobody reads any more.
pub(super) fn merge(
    sources: &mut [Source],
    due: &mut BTreeSet<usize>,
    most: usize,
    emit: &mut dyn FnMut(usize, Item) -> bool,
    failed: &mut dyn FnMut(usize, io::Error),
) -> bool {
    let mut order = BinaryHeap::new();
    let mut look =
        |sources: &mut [Source], number: usize, order: &mut BinaryHeap<Reverse<(i64, usize)>>| match sources
            [number]
            .look_ahead()
        {
            Ok(Some(at)) => {
                order.push(Reverse((at, number)));
                true
            }
            Ok(None) => false,
            Err(error) => {
                failed(number, error);
                false
            }
        };
    due.retain(|&number| look(sources, number, &mut order));
    for _ in 0..most {
        let Some(Reverse((_, number))) = order.pop() else { break };
        let Some(item) = sources[number].ahead.take() else { continue };
        if !emit(number, item) {
            return false;
        }
        if !look(sources, number, &mut order) {
            due.remove(&number);
        }
    }
    true
}
