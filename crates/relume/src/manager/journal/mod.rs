//! The journal: what a successor must know, in memory that outlives the manager.
//!
//! A file on a tmpfs, mapped, allocated in full beforehand, so appending is a copy and cannot fail, wait or
//! wake anybody. It has two halves. The active one holds a checkpoint and what has been noted since; a note is
//! copied first and counted after, so one that was torn by a death does not exist. When the half is full, a
//! checkpoint is written into the other one, and a single store makes that the active one.
//!
//! Only the supervise thread writes. It belongs to one boot of the machine: a journal of another is forgotten.

mod entry;
mod layout;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use relume_core::{Fact, Outcome, RunId, ServiceId, Snapshot, Ticket};
use relume_os::clock;
use relume_os::mapping::Mapping;

use super::operations::Operation;
use entry::{Checkpoint, Entry};
pub(crate) use entry::{Home, Kept};
use layout::{HEADER, Layout, notes};

/// What an earlier manager of this boot has left.
#[derive(Debug)]
pub(crate) struct Remains {
    /// All that its core remembered.
    pub(crate) snapshot: Snapshot,
    /// The runs that had a process when it died.
    pub(crate) runs: BTreeMap<RunId, Box<Kept>>,
    /// What clients waited for.
    pub(crate) operations: BTreeMap<Ticket, Operation>,
    /// When supervision began, in nanoseconds on CLOCK_MONOTONIC.
    pub(crate) began: u64,
    /// How often a manager has come back before.
    pub(crate) recoveries: u64,
    /// How often one has replaced itself on purpose.
    pub(crate) respawns: u64,
    /// Notes that could not be read: written by another version.
    pub(crate) unread: usize,
    /// When a manager supervised last; none: it has not said.
    pub(crate) alive: Option<u64>,
    /// When relume was told to leave its services running; none: it has died.
    pub(crate) left: Option<u64>,
    /// The notes it was read from.
    pub(crate) past: Past,
}

/// What has been noted of late, for whoever was not told of it.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// Before the last checkpoint.
    earlier: Vec<u8>,
    /// From it on.
    active: Vec<u8>,
}

impl Past {
    /// Memories, each with the facts that came after it, oldest first.
    pub(crate) fn read(&self) -> Vec<(Snapshot, Vec<Fact>)> {
        let mut parts = Vec::new();
        let active = chapter(&self.active, u64::MAX);
        let end = active.as_ref().map_or(0, |(memory, _)| memory.seq);
        // One that was written over by a checkpoint that was not finished begins later than it may end.
        parts.extend(chapter(&self.earlier, end).filter(|(memory, _)| memory.seq <= end));
        parts.extend(active);
        parts
    }
}

/// The checkpoint of a half and the facts after it, up to number `last`.
fn chapter(half: &[u8], last: u64) -> Option<(Snapshot, Vec<Fact>)> {
    let mut entries = notes(half).map(decode);
    let Some(Ok(Entry::Checkpoint(first))) = entries.next() else { return None };
    let mut at = first.snapshot.seq;
    let mut facts = Vec::new();
    for entry in entries {
        match entry {
            Ok(Entry::Fact(fact)) if fact.seq > last => break,
            Ok(Entry::Fact(fact)) if fact.seq > at => {
                at = fact.seq;
                facts.push(fact.into_owned());
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Some((first.snapshot.into_owned(), facts))
}

/// The journal, open for writing.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    map: Mapping,
    layout: Layout,
    scratch: Vec<u8>,
    /// A note has found no room since the last checkpoint.
    has_hole: bool,
    /// How often something was written by this process.
    written: u64,
    /// Another process writes it: this one notes nothing, and has to if this says more than 0.
    held_back: Option<u64>,
}

/// Room in each half beside that of the services.
const BASE: usize = 128 * 1024;

/// So much more than twice a checkpoint is much: it takes a fraction of a millisecond to read.
const LONG: usize = 32 * 1024;

/// Room in each half for a service: its record, its process, and the notes of some lives.
const EACH: usize = 3 * 1024;

impl Journal {
    /// The journal at `path` with what it holds of this boot; none: there is nothing of this boot. Changes nothing.
    pub(crate) fn found(path: &Path) -> relume_os::Result<Option<(Self, Remains)>> {
        let Ok(known) = std::fs::metadata(path) else { return Ok(None) };
        let length = usize::try_from(known.len()).unwrap_or(0).max(HEADER);
        let map = Mapping::open(path, length)?;
        refuse_other_version(path, &map)?;
        let Some(layout) = Layout::read(&map, &clock::boot_id()?) else { return Ok(None) };
        let mut journal = Self::over(path, map, layout);
        let remains = journal.read();
        journal.map.unmap();
        Ok(remains.map(|remains| (journal, remains)))
    }

    /// An empty journal at `path`, for so many services.
    pub(crate) fn fresh(path: &Path, services: usize) -> relume_os::Result<Self> {
        let known = std::fs::metadata(path).map_or(0, |meta| meta.len());
        let wanted = HEADER + 2 * half_for(services);
        let mut map = Mapping::open(path, wanted.max(usize::try_from(known).unwrap_or(0)))?;
        let layout = Layout::fresh(&mut map, &clock::boot_id()?);
        Ok(Self::over(path, map, layout))
    }

    fn over(path: &Path, map: Mapping, layout: Layout) -> Self {
        let (path, scratch) = (path.to_owned(), Vec::new());
        Self { path, map, layout, scratch, has_hole: false, written: 0, held_back: None }
    }

    /// What was found, else an empty one.
    #[cfg(test)]
    pub(crate) fn open(path: &Path, services: usize) -> relume_os::Result<(Self, Option<Remains>)> {
        Ok(match Self::found(path)? {
            Some((journal, remains)) => (journal, Some(remains)),
            None => (Self::fresh(path, services)?, None),
        })
    }

    /// How many descriptors the services may have of which the journal at `path` tells, by its length: two for each, and for each
    /// again that is being started.
    pub(crate) fn descriptors(path: &Path) -> u64 {
        let known = std::fs::metadata(path).map_or(0, |meta| meta.len());
        4 * (known / 2).saturating_sub(BASE as u64) / EACH as u64
    }

    /// Whether this program could go on from the journal at `path`. Changes nothing.
    pub(crate) fn look(path: &Path) -> relume_os::Result<()> {
        let Ok(known) = std::fs::metadata(path) else { return Ok(()) };
        let length = usize::try_from(known.len()).unwrap_or(0).max(HEADER);
        let map = Mapping::open(path, length)?;
        refuse_other_version(path, &map)?;
        let Some(layout) = Layout::read(&map, &clock::boot_id()?) else { return Ok(()) };
        let journal = Self::over(path, map, layout);
        match journal.read() {
            Some(Remains { unread: 0, .. }) => Ok(()),
            Some(Remains { unread, .. }) => {
                let why = format!("{unread} notes in it are of a kind that this version does not know");
                Err(relume_os::OsError::at("read", path, relume_os::Errno::INVAL).because(why))
            }
            None => {
                let why = "its checkpoint is of a kind that this version does not know";
                Err(relume_os::OsError::at("read", path, relume_os::Errno::INVAL).because(why))
            }
        }
    }

    /// Notes a fact.
    pub(crate) fn fact(&mut self, fact: &Fact) -> Room {
        self.append(&Entry::Fact(Cow::Borrowed(fact)))
    }

    /// Notes that a run has a process.
    pub(crate) fn began(&mut self, run: RunId, kept: &Kept) -> Room {
        self.append(&Entry::Began(run, Cow::Borrowed(kept)))
    }

    /// Notes that somebody waits for this.
    pub(crate) fn asked(&mut self, operation: &Operation) -> Room {
        self.append(&Entry::Asked(Cow::Borrowed(operation)))
    }

    /// Notes what came of it for one service.
    pub(crate) fn answered(&mut self, ticket: Ticket, service: ServiceId, outcome: &Outcome) -> Room {
        self.append(&Entry::Answered(ticket, service, Cow::Borrowed(outcome)))
    }

    /// Notes that nothing is left of a run.
    pub(crate) fn gone(&mut self, run: RunId) -> Room {
        self.append(&Entry::Gone(run))
    }

    /// Begins the other half with all there is to know. What has been noted until now is part of it.
    pub(crate) fn checkpoint(
        &mut self,
        snapshot: &Snapshot,
        runs: &BTreeMap<RunId, Box<Kept>>,
        operations: &BTreeMap<Ticket, Operation>,
    ) -> relume_os::Result<()> {
        if let Some(held_back) = &mut self.held_back {
            *held_back += 1;
            return Ok(());
        }
        let Layout { began, recoveries, respawns, .. } = self.layout;
        let (snapshot, runs) = (Cow::Borrowed(snapshot), Cow::Borrowed(runs));
        let operations = operations.values().cloned().collect();
        let whole = Checkpoint { snapshot, runs, began, recoveries, respawns, operations };
        let bytes = encode(&Entry::Checkpoint(Box::new(whole)));
        let half = self.layout.half();
        // As much again for what is noted after it, or the next one would follow at once.
        let grown = if bytes.len() * 2 > half {
            self.grow(bytes.len() * 4, &bytes).map(|()| true)
        } else {
            Ok(false)
        };
        match grown {
            Ok(true) => {}
            // A quarter as much will do where there is no more to be had.
            Err(error) if bytes.len() / 4 * 5 > half => return Err(error),
            Ok(false) | Err(_) => self.layout.begin_other_half(&mut self.map, &bytes)?,
        }
        self.has_hole = false;
        self.written += 1;
        Ok(())
    }

    /// Another process is the manager: until [`Self::take_up`] nothing is written.
    pub(crate) fn hold_back(&mut self) {
        self.held_back = Some(0);
    }

    /// How much was to be written and was not.
    pub(crate) fn held_back(&self) -> u64 {
        self.held_back.unwrap_or(0)
    }

    /// This process is the manager, and the journal is as it was read.
    pub(crate) fn take_up(&mut self) {
        self.held_back = None;
    }

    /// How often this process has written: while it stays the same, who has read the journal knows all.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Whether there is much more in it than a checkpoint would be: the next manager would read all of that while nobody supervises.
    pub(crate) fn is_long(&self) -> bool {
        let active = self.layout.active(&self.map);
        let checkpoint = notes(active).next().map_or(0, <[u8]>::len);
        active.len() > 2 * checkpoint + LONG
    }

    /// A manager supervises at this moment. One store: for every turn of the loop.
    pub(crate) fn alive(&self, now: u64) {
        Layout::alive(&self.map, now);
    }

    /// relume leaves, and its services running; a successor has not come back from a death.
    pub(crate) fn left(&self, now: u64) {
        Layout::left(&self.map, now);
    }

    /// This manager supervises: what [`Self::set_beginnings`] has counted is so, whether a checkpoint follows or not.
    pub(crate) fn came_up(&self) {
        self.layout.came_up(&self.map);
    }

    /// Supervision began then, and a manager has come back, and replaced itself, so often.
    pub(crate) fn set_beginnings(&mut self, began: u64, recoveries: u64, respawns: u64) {
        self.layout.began = began;
        self.layout.recoveries = recoveries;
        self.layout.respawns = respawns;
    }

    /// After a note that was too long for the room that is left a shorter one would still fit, and tell what came of something
    /// that is not told: the journal stays as it was then until a checkpoint says all.
    fn append(&mut self, entry: &Entry) -> Room {
        if let Some(held_back) = &mut self.held_back {
            *held_back += 1;
            return Room::Left;
        }
        if self.has_hole {
            return Room::None;
        }
        self.written += 1;
        self.scratch.clear();
        encode_into(&mut self.scratch, entry);
        self.has_hole = !self.layout.append(&mut self.map, &self.scratch);
        if self.has_hole { Room::None } else { Room::Left }
    }

    /// A longer file, with `checkpoint` in it before it takes the place of the old one: at any moment one of the two says all.
    fn grow(&mut self, half: usize, checkpoint: &[u8]) -> relume_os::Result<()> {
        let aside = self.path.with_extension("new");
        let _stale = relume_os::files::remove(&aside)?;
        let grown = self.larger(&aside, half, checkpoint);
        let (map, layout) = grown
            .and_then(|grown| {
                relume_os::files::rename(&aside, &self.path)?;
                Ok(grown)
            })
            .inspect_err(|_| {
                // It may hold the room that others wait for.
                let _litter = relume_os::files::remove(&aside);
            })?;
        (self.map, self.layout) = (map, layout);
        Ok(())
    }

    fn larger(&self, path: &Path, half: usize, checkpoint: &[u8]) -> relume_os::Result<(Mapping, Layout)> {
        let mut map = Mapping::open(path, HEADER + 2 * half)?;
        let Layout { began, recoveries, respawns, .. } = self.layout;
        let mut layout = Layout::fresh(&mut map, &clock::boot_id()?);
        (layout.began, layout.recoveries, layout.respawns) = (began, recoveries, respawns);
        layout.begin_other_half(&mut map, checkpoint)?;
        Ok((map, layout))
    }

    fn read(&self) -> Option<Remains> {
        let mut entries = notes(self.layout.active(&self.map));
        let Some(Ok(Entry::Checkpoint(first))) = entries.next().map(decode) else { return None };
        let Checkpoint { snapshot, runs, began, recoveries, respawns, operations } = *first;
        let (mut snapshot, mut runs) = (snapshot.into_owned(), runs.into_owned());
        let mut operations: BTreeMap<Ticket, Operation> =
            operations.into_iter().map(|one| (one.ticket, one)).collect();
        let mut unread = 0;
        for entry in entries.map(decode) {
            match entry {
                Ok(Entry::Fact(fact)) => snapshot.fold(&fact),
                Ok(Entry::Began(run, kept)) => drop(runs.insert(run, Box::new(kept.into_owned()))),
                Ok(Entry::Gone(run)) => drop(runs.remove(&run)),
                Ok(Entry::Asked(one)) => drop(operations.insert(one.ticket, one.into_owned())),
                Ok(Entry::Answered(ticket, service, outcome)) => {
                    if let Some(one) = operations.get_mut(&ticket) {
                        one.answered.push((service, outcome.into_owned()));
                    }
                }
                Ok(Entry::Checkpoint(_)) | Err(_) => unread += 1,
            }
        }
        // Copied, because the next checkpoint writes over it; read where nobody waits.
        let past = Past {
            earlier: self.layout.earlier(&self.map).to_vec(),
            active: self.layout.active(&self.map).to_vec(),
        };
        let counts = Layout::counts(&self.map);
        let (recoveries, respawns) = (recoveries.max(counts.0), respawns.max(counts.1));
        let (alive, left) = Layout::last_seen(&self.map);
        let [alive, left] = [alive, left].map(|at| Some(at).filter(|at| *at > 0));
        Some(Remains { snapshot, runs, operations, began, recoveries, respawns, unread, alive, left, past })
    }
}

/// A journal of this boot in another layout holds what services run: to write over it would lose them.
fn refuse_other_version(path: &Path, map: &Mapping) -> relume_os::Result<()> {
    match layout::other_version(map, &clock::boot_id()?) {
        None => Ok(()),
        Some(version) => {
            let why = format!("it has version {version}; this program reads version {}", layout::VERSION);
            Err(relume_os::OsError::at("read", path, relume_os::Errno::INVAL).because(why))
        }
    }
}

/// Whether there was room for a note. If not, a checkpoint has to follow, which holds what the note says.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// It is in the journal.
    Left,
    /// It is not.
    None,
}

fn half_for(services: usize) -> usize {
    // Word-aligned, as the layout wants it.
    (BASE + services * EACH).next_multiple_of(4096)
}

fn encode(entry: &Entry<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_into(&mut bytes, entry);
    bytes
}

fn encode_into(bytes: &mut Vec<u8>, entry: &Entry<'_>) {
    if rmp_serde::encode::write_named(bytes, entry).is_err() {
        // Plain data without maps of odd keys: this cannot fail; an empty note would be skipped by a reader.
        bytes.clear();
    }
}

fn decode(bytes: &[u8]) -> Result<Entry<'static>, rmp_serde::decode::Error> {
    rmp_serde::from_slice(bytes)
}

#[cfg(test)]
mod tests;
