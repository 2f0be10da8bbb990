//! The loop: wait, take orders, give every pipe that has something its turn.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use relume_os::OsError;
use relume_os::epoll::{self, Epoll, Interest, Ready};

use super::compress::Compressor;
use super::disk::Disk;
use super::dropping::DROP_TICK;
use super::file::{LogFile, Pass};
use super::inbox::{Hand, Inbox};
use super::lru::Lru;
use super::orders::{Closed, Order};
use super::pace::TICK;
use super::report::{Next, Report};
use super::slot::{SLOT_BYTES, Slot, Slots};
use super::stream::{FileKey, Flow, Pipe};
use super::widening::PipeRoom;
use super::{LogTarget, RETRY, StreamId, Tell, WhenFull};

/// The epoll token of the inbox. Streams have their id.
const BELL: u64 = u64::MAX;

/// Reads of all pipes together in one round, 16 MiB: about 20 ms of work, so that a line waits less than 100 ms.
const ROUND_READS: usize = 128;

/// Reads of one pipe in one round: half of the largest pipe.
pub(super) const TURN_READS: usize = 4;

/// What a turn ended with.
enum Turn {
    /// There may be more at once.
    Again,
    /// There was little: let it gather.
    Little,
    /// There was nothing.
    Empty,
    /// There will never be more.
    Over,
    /// Its file cannot be written.
    Held,
}

/// What one thread starts with.
pub(super) struct Equipment {
    pub(super) me: Hand,
    pub(super) disk: Box<dyn Disk>,
    pub(super) slots: Slots,
    pub(super) inherited: Vec<Slot>,
    pub(super) open_files: usize,
    pub(super) on_report: Tell,
    pub(super) room: Arc<PipeRoom>,
}

/// See the module's description.
pub(super) struct Worker {
    /// Its number.
    pub(super) me: Hand,
    pub(super) inbox: Arc<Inbox>,
    pub(super) epoll: Epoll,
    pub(super) disk: Box<dyn Disk>,
    pub(super) on_report: Tell,
    pub(super) slots: Slots,
    /// Chunks of a killed predecessor, until the thread runs.
    pub(super) inherited: Vec<Slot>,
    pub(super) pipes: HashMap<StreamId, Box<Pipe>>,
    pub(super) closed: HashMap<StreamId, Closed>,
    /// What was ordered of streams that another thread is handing over.
    pub(super) early: Vec<(StreamId, Order)>,
    pub(super) files: HashMap<FileKey, Box<LogFile>>,
    pub(super) paths: HashMap<Arc<Path>, FileKey>,
    pub(super) open: Lru<FileKey>,
    pub(super) next_file: FileKey,
    pub(super) queue: VecDeque<StreamId>,
    /// Pipes that are left alone, and until when.
    pub(super) resting: Vec<(Instant, StreamId)>,
    /// The end of the first of these rests.
    pub(super) rested_at: Option<Instant>,
    /// The end of the long rests, which end together: many quiet pipes are one wake-up.
    pub(super) tick_at: Instant,
    /// When to look at pipes whose output may be dropped.
    pub(super) drop_at: Option<Instant>,
    pub(super) room: Arc<PipeRoom>,
    /// When to look whether larger pipes are still needed.
    pub(super) look_at: Option<Instant>,
    pub(super) compressor: Compressor,
    pub(super) troubled: HashSet<FileKey>,
    pub(super) news: Vec<Report>,
    pub(super) now: Instant,
    pub(super) stopping: bool,
    pub(super) leaving: bool,
}

impl Worker {
    pub(super) fn new(equipment: Equipment, inbox: Arc<Inbox>) -> relume_os::Result<Self> {
        let Equipment { me, disk, slots, inherited, open_files, on_report, room } = equipment;
        let epoll = Epoll::new()?;
        epoll.add(inbox.bell(me), BELL, Interest::READ)?;
        Ok(Self {
            me,
            inbox,
            epoll,
            disk,
            on_report,
            slots,
            inherited,
            pipes: HashMap::new(),
            closed: HashMap::new(),
            early: Vec::new(),
            files: HashMap::new(),
            paths: HashMap::new(),
            open: Lru::new(open_files),
            next_file: 0,
            queue: VecDeque::new(),
            resting: Vec::new(),
            rested_at: None,
            tick_at: Instant::now(),
            drop_at: None,
            room,
            look_at: None,
            compressor: Compressor::default(),
            troubled: HashSet::new(),
            news: Vec::new(),
            now: Instant::now(),
            stopping: false,
            leaving: false,
        })
    }

    /// Until it is told to stop or to leave. What is left of it is only to be closed.
    pub(super) fn run(mut self) -> Self {
        let mut ready = Vec::new();
        let inherited = std::mem::take(&mut self.inherited);
        self.bring_home(inherited);
        epoll::wake_on_time();
        while !self.stopping {
            if self.wait(&mut ready).is_err() {
                // epoll_wait(2) fails only for a bad descriptor or buffer; a rest keeps that bug from burning a core.
                std::thread::sleep(TICK);
            }
            let inbox = Arc::clone(&self.inbox);
            let _pass = inbox.begin_pass(self.me);
            Inbox::count(&self.inbox.passes, 1);
            self.now = Instant::now();
            self.hear(&ready);
            if self.leaving || self.inbox.leaves() {
                // The only one that nobody keeps for the successor.
                self.finish(super::OWN);
                self.take_turn(super::OWN, usize::MAX);
                return self;
            }
            self.tick();
            self.retry();
            self.drop_output();
            self.narrow();
            self.round();
            self.tell();
        }
        self.end();
        self
    }

    fn wait(&mut self, ready: &mut Vec<Ready>) -> relume_os::Result<()> {
        let timeout = self.timeout();
        if timeout.is_none() {
            self.slots.rest();
        }
        match timeout {
            Some(short) if !short.is_zero() && short <= TICK => self.epoll.wait_finely(ready, short),
            long => self.epoll.wait(ready, long),
        }
    }

    /// How long nothing can happen unless epoll tells.
    fn timeout(&self) -> Option<Duration> {
        if !self.queue.is_empty() {
            return Some(Duration::ZERO);
        }
        let retry_at =
            self.troubled.iter().filter_map(|key| self.files.get(key)?.trouble).map(|t| t.retry_at).min();
        let next =
            self.rested_at.into_iter().chain(retry_at).chain(self.drop_at).chain(self.look_at).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn hear(&mut self, ready: &[Ready]) {
        for event in ready {
            if event.token == BELL {
                let _ = self.inbox.bell(self.me).drain(); // Level-triggered: what could not be drained comes again.
                let orders = self.inbox.take(self.me);
                self.obey(orders);
            } else if let Some(pipe) = self.pipes.get_mut(&StreamId(event.token)) {
                pipe.hung_up = event.hangup;
                if pipe.flow == Flow::Armed {
                    pipe.rested = true;
                    pipe.flow = Flow::Queued;
                    self.queue.push_back(pipe.id);
                }
            }
        }
    }

    fn rest(&mut self, id: StreamId, rest: Duration) {
        let mut until = Instant::now() + rest;
        if rest == TICK {
            if self.tick_at <= self.now {
                self.tick_at = until;
            }
            until = self.tick_at;
        }
        self.resting.push((until, id));
        self.rested_at = Some(self.rested_at.map_or(until, |first| first.min(until)));
    }

    /// Those that have rested are looked at again, without asking epoll: most have something.
    fn tick(&mut self) {
        if self.rested_at.is_none_or(|at| at > self.now) {
            return;
        }
        let resting = std::mem::take(&mut self.resting);
        let (over, resting): (Vec<_>, Vec<_>) =
            resting.into_iter().partition(|(until, _)| *until <= self.now);
        self.rested_at = resting.iter().map(|(until, _)| *until).min();
        self.resting = resting;
        for (_, id) in over {
            if let Some(pipe) = self.pipes.get_mut(&id).filter(|pipe| pipe.flow == Flow::Resting) {
                pipe.rested = true;
                self.enqueue(id);
            }
        }
    }

    /// One turn for each pipe in the queue.
    fn round(&mut self) {
        let turns = self.queue.len();
        let reads = (ROUND_READS / turns.max(1)).clamp(1, TURN_READS);
        for _ in 0..turns {
            if let Some(id) = self.queue.pop_front()
                && self.pipes.get(&id).is_some_and(|pipe| pipe.flow == Flow::Queued)
            {
                self.take_turn(id, reads);
            }
        }
    }

    pub(super) fn take_turn(&mut self, id: StreamId, reads: usize) {
        let turn = self.turn(id, reads);
        self.watch_width(self.pipes.get(&id).is_some_and(|pipe| pipe.is_watched()));
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        match turn {
            Turn::Again => self.enqueue(id),
            Turn::Little => {
                pipe.flow = Flow::Resting;
                let rest = pipe.pace.rest();
                self.rest(id, rest);
            }
            Turn::Empty => {
                pipe.flow = Flow::Armed;
                if let Err(fault) = self.epoll.modify(&*pipe, id.0, Interest::READ_ONCE) {
                    let service = pipe.who.clone();
                    self.news
                        .push(Report::Trouble { fault, next: Next::Dropped { service: service.into() } });
                    self.close(id);
                }
            }
            Turn::Held => pipe.flow = Flow::Held,
            Turn::Over => self.close(id),
        }
    }

    /// Moves what the pipe holds, in at most so many reads.
    fn turn(&mut self, id: StreamId, reads: usize) -> Turn {
        let mut busy = false;
        for _ in 0..reads {
            let Some(pipe) = self.pipes.get_mut(&id) else { return Turn::Over };
            if self.files.get(&pipe.file).is_some_and(|file| file.trouble.is_some()) {
                return Turn::Held;
            }
            let mut waiting = pipe.waiting();
            if let Some(last) = pipe.last_bytes {
                waiting = waiting.min(usize::try_from(last).unwrap_or(usize::MAX));
            }
            pipe.note(waiting);
            let over = pipe.hung_up || pipe.last_bytes.is_some();
            match waiting {
                0 if over => return Turn::Over,
                0 if busy => return Turn::Again,
                0 => return Turn::Empty,
                _ => {}
            }
            busy = over || pipe.is_busy_with(waiting);
            if !self.move_chunk(id, waiting.min(SLOT_BYTES)) {
                return Turn::Held;
            }
            if !busy && waiting <= SLOT_BYTES {
                return Turn::Little;
            }
        }
        Turn::Again
    }

    /// One chunk from the pipe to its file. False: the file cannot take it.
    pub(super) fn move_chunk(&mut self, id: StreamId, wanted: usize) -> bool {
        let Some(pipe) = self.pipes.get_mut(&id) else { return true };
        let key = pipe.file;
        let Some(file) = self.files.get_mut(&key) else { return true };
        let mut pass = Pass { disk: self.disk.as_ref(), now: self.now, news: std::mem::take(&mut self.news) };
        let mut slot = self.slots.take();
        let lead = std::mem::take(&mut pipe.lead);
        let written = file.end(&pass).and_then(|place| {
            let got = pipe.read(slot.begin(&file.target, pipe.origin, place, (&lead, wanted)));
            slot.filled(got);
            pipe.bytes += got as u64;
            // What a form puts around the bytes is not looked at, and what led was looked at before.
            pipe.looked_at(slot.unstaged().get(lead.len()..).unwrap_or_default());
            if let Some(last) = &mut pipe.last_bytes {
                // A pipe that gives less than it said has another reader; what it took is not ours to wait for.
                *last = if got == 0 { 0 } else { *last - (got as u64).min(*last) };
            }
            Inbox::count(&self.inbox.bytes, got as u64);
            if pipe.dropped.is_some() {
                slot.skip(Self::rest_of_dropped(&mut pipe.dropped, slot.unstaged()));
            }
            file.write(&mut pass, &mut slot, wanted == 0)
        });
        self.news = pass.news;
        let (dropped, is_written) = (pipe.dropped.is_some(), written.is_ok());
        match written {
            Ok(()) => {
                if !slot.is_done() {
                    pipe.lead = slot.take_rest();
                }
                self.slots.give(slot);
            }
            Err(fault) => {
                if slot.is_done() {
                    pipe.lead = lead;
                    self.slots.give(slot);
                } else {
                    file.keep(slot);
                }
                self.hold(key, fault);
            }
        }
        self.used(key);
        if dropped && is_written {
            self.tell_dropped(id, false);
        }
        is_written
    }

    /// From now on nothing is read for this file until it can be written.
    fn hold(&mut self, key: FileKey, fault: OsError) {
        let Some(file) = self.files.get_mut(&key) else { return };
        self.troubled.insert(key);
        if file.target.when_full == WhenFull::Drop {
            self.drop_at.get_or_insert(self.now + DROP_TICK);
        }
        if file.note_trouble(self.now) {
            let mut services: Vec<String> =
                file.streams.iter().filter_map(|id| Some(self.pipes.get(id)?.who.to_string())).collect();
            services.dedup();
            let drops = file.target.when_full == WhenFull::Drop;
            self.news.push(Report::Trouble { fault, next: Next::Held { services, every: RETRY, drops } });
        }
    }

    fn retry(&mut self) {
        let due = |key: &&FileKey| {
            self.files
                .get(key)
                .and_then(|file| file.trouble)
                .is_none_or(|trouble| trouble.retry_at <= self.now)
        };
        let due: Vec<FileKey> = self.troubled.iter().filter(due).copied().collect();
        for key in due {
            self.retry_file(key);
        }
    }

    pub(super) fn retry_file(&mut self, key: FileKey) {
        let Some(file) = self.files.get_mut(&key) else {
            self.troubled.remove(&key);
            return;
        };
        let mut pass = Pass { disk: self.disk.as_ref(), now: self.now, news: std::mem::take(&mut self.news) };
        let result = file.retry(&mut pass);
        self.news = pass.news;
        match result {
            Ok(slot) => {
                slot.into_iter().for_each(|slot| self.slots.give(slot));
                self.troubled.remove(&key);
                if let Some(trouble) = file.trouble.take() {
                    let after = self.now.saturating_duration_since(trouble.since);
                    let any = |id: &StreamId| self.pipes.get(id).is_some_and(|pipe| pipe.dropped.is_some());
                    // What was lost of relume's own words is counted elsewhere.
                    let dropped = (!file.streams.contains(&super::OWN)).then(|| file.streams.iter().any(any));
                    self.news.push(Report::Resumed { path: file.target.path.to_path_buf(), after, dropped });
                }
                // In the order of their coming: what an ended run left comes before the words of its successor.
                for id in file.streams.clone() {
                    if self.pipes.get(&id).is_some_and(|pipe| pipe.flow == Flow::Held) {
                        self.enqueue(id);
                    }
                }
                self.used(key);
                self.forget_if_unused(key);
            }
            Err(fault) => self.hold(key, fault),
        }
    }

    pub(super) fn enqueue(&mut self, id: StreamId) {
        if let Some(pipe) = self.pipes.get_mut(&id) {
            pipe.flow = Flow::Queued;
            self.queue.push_back(id);
        }
    }

    /// The pipe has given its last byte.
    fn close(&mut self, id: StreamId) {
        if self.pipes.get(&id).is_some_and(|pipe| !pipe.lead.is_empty()) {
            // What will never become a character is said as what it is.
            self.move_chunk(id, 0);
        }
        self.tell_dropped(id, true);
        let Some(pipe) = self.pipes.remove(&id) else { return };
        // Others may hold copies of the pipe, so that closing alone would leave it in the set. It fails only if it is not there.
        let _ = self.epoll.delete(&*pipe);
        let log = self.files.get(&pipe.file).map(|file| Arc::clone(&file.target));
        self.part(pipe.file, id);
        match log {
            Some(log) if pipe.last_bytes.is_none() => {
                self.closed.insert(id, Closed { bytes: pipe.bytes, log, origin: pipe.origin });
                self.news.push(Report::Closed { id });
            }
            Some(_) | None => {
                self.inbox.forget(id);
                self.news.push(Report::Finished { id, bytes: pipe.bytes });
            }
        }
    }

    /// The file at this path, if somebody writes there.
    pub(super) fn file_of(&self, path: &Path) -> Option<FileKey> {
        self.paths.get(path).copied()
    }

    /// The file of this target; the latest target decides about rotation.
    pub(super) fn file_for(&mut self, log: &Arc<LogTarget>) -> FileKey {
        if let Some(key) = self.paths.get(&log.path).copied()
            && let Some(file) = self.files.get_mut(&key)
        {
            file.target = Arc::clone(log);
            return key;
        }
        self.next_file += 1;
        self.paths.insert(Arc::clone(&log.path), self.next_file);
        self.files.insert(self.next_file, Box::new(LogFile::new(Arc::clone(log))));
        self.next_file
    }

    pub(super) fn forget_if_unused(&mut self, key: FileKey) {
        if self.files.get(&key).is_some_and(|file| file.is_unused())
            && let Some(file) = self.files.remove(&key)
        {
            self.paths.remove(&file.target.path);
            self.troubled.remove(&key);
            self.open.forget(key);
        }
    }

    /// The file was used: the one used longest ago may have to be closed.
    pub(super) fn used(&mut self, key: FileKey) {
        if self.files.get_mut(&key).is_some_and(|file| std::mem::take(&mut file.rotated)) {
            self.pack(key);
        }
        if self.files.get(&key).is_some_and(|file| file.is_open())
            && let Some(evicted) = self.open.touch(key)
            && let Some(file) = self.files.get_mut(&evicted)
        {
            file.close();
        }
    }

    pub(super) fn tell(&mut self) {
        if self.news.is_empty() {
            return;
        }
        let mut on_report = self.on_report.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut self.news).into_iter().for_each(&mut *on_report);
    }

    /// Everything that can be brought home is, then the thread ends.
    fn end(&mut self) {
        for stream in self.inbox.close(self.me).moved {
            self.adopt(stream);
        }
        for key in self.troubled.clone() {
            self.retry_file(key);
        }
        let mut streams: Vec<StreamId> = self.pipes.keys().chain(self.closed.keys()).copied().collect();
        streams.sort_unstable();
        for id in streams {
            self.finish(id);
            // Still here: held, or queued by the retry above.
            self.take_turn(id, usize::MAX);
        }
        let mut lost: HashMap<FileKey, u64> =
            self.files.iter().map(|(key, file)| (*key, file.stuck_bytes())).collect();
        for (id, pipe) in std::mem::take(&mut self.pipes) {
            *lost.entry(pipe.file).or_default() += pipe.last_bytes.unwrap_or(0);
            self.news.push(Report::Finished { id, bytes: pipe.bytes });
        }
        for (key, bytes) in lost {
            if let Some(file) = self.files.get(&key).filter(|_| bytes > 0) {
                self.news.push(Report::Lost { path: file.target.path.to_path_buf(), bytes });
            }
        }
        self.tell();
        for file in self.files.values() {
            if let Some(packing) = &file.packing {
                packing.cancel(self.disk.as_ref());
            }
        }
        let has_legacy = self.files.values().any(|file| file.has_legacy());
        self.slots.clear_up(has_legacy);
    }
}

impl Drop for Worker {
    /// Also when the thread panics: nobody shall give orders to nobody.
    fn drop(&mut self) {
        self.inbox.close(self.me);
    }
}
