//! The loop: wait, take orders, give every pipe that has something its turn.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use relume_os::OsError;
use relume_os::epoll::{Epoll, Interest, Ready};

use super::compress::Compressor;
use super::disk::Disk;
use super::dropping::DROP_TICK;
use super::file::{LogFile, Pass};
use super::inbox::{Inbox, Orders};
use super::lru::Lru;
use super::report::{Next, Report};
use super::slot::{SLOT_BYTES, Slot, Slots};
use super::stream::{FileKey, Flow, Pipe};
use super::{LogTarget, OnReport, RETRY, Start, Stream, StreamId, WhenFull};
use crate::output_index::Kind;

/// The epoll token of the inbox. Streams have their id.
const BELL: u64 = u64::MAX;

/// How long a pipe with little in it rests. Measured: 0.5 to 2 ms save 8 to 10 times the processor time of small writes,
/// for the service as well; a person reading along does not notice.
const TICK: Duration = Duration::from_millis(1);

/// Reads of all pipes together in one round, 16 MiB: about 30 ms of work, so that a line waits less than 100 ms.
const ROUND_READS: usize = 256;

/// Reads of one pipe in one round: a quarter of the largest pipe.
const TURN_READS: usize = 4;

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

/// See the module's description.
pub(super) struct Worker {
    pub(super) inbox: Arc<Inbox>,
    pub(super) epoll: Epoll,
    pub(super) disk: Box<dyn Disk>,
    pub(super) on_report: OnReport,
    pub(super) slots: Slots,
    /// Chunks of a killed predecessor, until the thread runs.
    pub(super) inherited: Vec<Slot>,
    pub(super) pipes: HashMap<StreamId, Box<Pipe>>,
    /// Streams whose pipe is closed and that await `finish`: the bytes they had.
    pub(super) closed: HashMap<StreamId, u64>,
    pub(super) files: HashMap<FileKey, Box<LogFile>>,
    pub(super) paths: HashMap<PathBuf, FileKey>,
    pub(super) open: Lru<FileKey>,
    pub(super) next_file: FileKey,
    pub(super) queue: VecDeque<StreamId>,
    pub(super) resting: Vec<StreamId>,
    pub(super) tick_at: Option<Instant>,
    /// When to look at pipes whose output may be dropped.
    pub(super) drop_at: Option<Instant>,
    pub(super) compressor: Compressor,
    pub(super) troubled: HashSet<FileKey>,
    pub(super) news: Vec<Report>,
    pub(super) now: Instant,
    pub(super) stopping: bool,
    pub(super) leaving: bool,
}

impl Worker {
    pub(super) fn new(start: Start, inbox: Arc<Inbox>) -> relume_os::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(&inbox.bell, BELL, Interest::READ)?;
        let Start { disk, slots, vault, open_files, on_report } = start;
        let (mut inherited, mut free) = (Vec::new(), Vec::new());
        for mut slot in slots {
            if slot.recover() { inherited.push(slot) } else { free.push(slot) }
        }
        Ok(Self {
            inbox,
            epoll,
            disk,
            on_report,
            slots: Slots::new(free, vault),
            inherited,
            pipes: HashMap::new(),
            closed: HashMap::new(),
            files: HashMap::new(),
            paths: HashMap::new(),
            open: Lru::new(open_files),
            next_file: 0,
            queue: VecDeque::new(),
            resting: Vec::new(),
            tick_at: None,
            drop_at: None,
            compressor: Compressor::default(),
            troubled: HashSet::new(),
            news: Vec::new(),
            now: Instant::now(),
            stopping: false,
            leaving: false,
        })
    }

    /// Until `stop` is ordered.
    pub(super) fn run(mut self) {
        let mut ready = Vec::new();
        let inherited = std::mem::take(&mut self.inherited);
        self.bring_home(inherited);
        while !self.stopping {
            if self.epoll.wait(&mut ready, self.timeout()).is_err() {
                // epoll_wait(2) fails only for a bad descriptor or buffer; a rest keeps that bug from burning a core.
                std::thread::sleep(TICK);
            }
            let inbox = Arc::clone(&self.inbox);
            let _pass = inbox.begin_pass();
            Inbox::count(&self.inbox.passes, 1);
            self.now = Instant::now();
            self.hear(&ready);
            if self.leaving {
                // The only one that nobody keeps for the successor.
                self.finish(super::OWN);
                return self.take_turn(super::OWN, usize::MAX);
            }
            self.tick();
            self.retry();
            self.drop_output();
            self.round();
            self.tell();
        }
        self.end();
    }

    /// How long nothing can happen unless epoll tells.
    fn timeout(&self) -> Option<Duration> {
        if !self.queue.is_empty() {
            return Some(Duration::ZERO);
        }
        let retry_at =
            self.troubled.iter().filter_map(|key| self.files.get(key)?.trouble).map(|t| t.retry_at).min();
        let next = self.tick_at.into_iter().chain(retry_at).chain(self.drop_at).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn hear(&mut self, ready: &[Ready]) {
        for event in ready {
            if event.token == BELL {
                let _ = self.inbox.bell.drain(); // Level-triggered: what could not be drained comes again.
                let orders = self.inbox.take();
                self.obey(orders);
            } else if let Some(pipe) = self.pipes.get_mut(&StreamId(event.token)) {
                pipe.hung_up = event.hangup;
                if pipe.flow == Flow::Armed {
                    pipe.flow = Flow::Queued;
                    self.queue.push_back(pipe.id);
                }
            }
        }
    }

    fn obey(&mut self, orders: Orders) {
        let Orders { attach, look, retarget, finish, reopen, stop, leave, compressed, marks } = orders;
        for stream in attach {
            self.attach(stream);
        }
        for (id, look) in look {
            if let Some(pipe) = self.pipes.get_mut(&id) {
                pipe.look = Some(look);
            }
        }
        for (id, log) in retarget {
            self.retarget(id, log);
        }
        if reopen {
            self.files.values_mut().for_each(|file| file.close());
            self.troubled.clone().into_iter().for_each(|key| self.retry_file(key));
        }
        compressed.iter().for_each(|done| self.packed(done));
        for (id, kind) in marks {
            self.mark(id, kind);
        }
        for id in finish {
            self.finish(id);
        }
        self.stopping |= stop;
        self.leaving |= leave;
    }

    fn attach(&mut self, stream: Stream) {
        let (id, who, begins) = (stream.id, stream.who.clone(), stream.begins);
        let key = self.file_for(&stream.log);
        let attached = Pipe::new(stream, key)
            .and_then(|pipe| self.epoll.add(&pipe, id.0, Interest::READ_ONCE).map(|()| pipe));
        match attached {
            Ok(pipe) => {
                self.pipes.insert(id, Box::new(pipe));
                self.join(key, id);
                if begins {
                    self.mark_now(id, Kind::Started);
                }
            }
            Err(fault) => {
                self.closed.insert(id, 0);
                self.forget_if_unused(key);
                self.news.push(Report::Trouble { fault, next: Next::Dropped { service: who } });
                self.news.push(Report::Closed { id });
            }
        }
    }

    fn join(&mut self, key: FileKey, id: StreamId) {
        if let Some(file) = self.files.get_mut(&key) {
            file.streams.push(id);
        }
    }

    fn retarget(&mut self, id: StreamId, log: Arc<LogTarget>) {
        let key = self.file_for(&log);
        let Some(pipe) = self.pipes.get_mut(&id) else { return self.forget_if_unused(key) };
        let before = std::mem::replace(&mut pipe.file, key);
        if before == key {
            return;
        }
        let held = pipe.flow == Flow::Held;
        if let Some(file) = self.files.get_mut(&before) {
            file.streams.retain(|other| *other != id);
        }
        self.join(key, id);
        self.forget_if_unused(before);
        if held {
            self.enqueue(id);
        }
    }

    /// Its run is gone: what is in the pipe now is the last of it, and goes first.
    fn finish(&mut self, id: StreamId) {
        if let Some(bytes) = self.closed.remove(&id) {
            self.inbox.forget(id);
            self.news.push(Report::Finished { id, bytes });
        } else if let Some(pipe) = self.pipes.get_mut(&id) {
            pipe.last_bytes = Some(pipe.waiting() as u64);
            if pipe.flow != Flow::Held {
                self.take_turn(id, usize::MAX);
            }
        }
    }

    /// Those that have rested are looked at again, without asking epoll: most have something.
    fn tick(&mut self) {
        if self.tick_at.is_some_and(|at| at <= self.now) {
            self.tick_at = None;
            for id in std::mem::take(&mut self.resting) {
                if self.pipes.get(&id).is_some_and(|pipe| pipe.flow == Flow::Resting) {
                    self.enqueue(id);
                }
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
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        match turn {
            Turn::Again => self.enqueue(id),
            Turn::Little => {
                pipe.flow = Flow::Resting;
                self.resting.push(id);
                self.tick_at.get_or_insert(self.now + TICK);
            }
            Turn::Empty => {
                pipe.flow = Flow::Armed;
                if let Err(fault) = self.epoll.modify(&*pipe, id.0, Interest::READ_ONCE) {
                    let service = pipe.who.clone();
                    self.news.push(Report::Trouble { fault, next: Next::Dropped { service } });
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
            let over = pipe.hung_up || pipe.last_bytes.is_some();
            match waiting {
                0 if over => return Turn::Over,
                0 if busy => return Turn::Again,
                0 => return Turn::Empty,
                _ => {}
            }
            pipe.note(waiting);
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
                file.streams.iter().filter_map(|id| Some(self.pipes.get(id)?.who.clone())).collect();
            services.dedup();
            self.news.push(Report::Trouble { fault, next: Next::Held { services, every: RETRY } });
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
                    self.news.push(Report::Resumed { path: file.target.path.clone(), after });
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

    fn enqueue(&mut self, id: StreamId) {
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
        let _ = self.epoll.delete(&pipe);
        if let Some(file) = self.files.get_mut(&pipe.file) {
            file.streams.retain(|other| *other != id);
        }
        self.forget_if_unused(pipe.file);
        if pipe.last_bytes.is_some() {
            self.inbox.forget(id);
            self.news.push(Report::Finished { id, bytes: pipe.bytes });
        } else {
            self.closed.insert(id, pipe.bytes);
            self.news.push(Report::Closed { id });
        }
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
        self.paths.insert(log.path.clone(), self.next_file);
        self.files.insert(self.next_file, Box::new(LogFile::new(Arc::clone(log))));
        self.next_file
    }

    fn forget_if_unused(&mut self, key: FileKey) {
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
        for report in std::mem::take(&mut self.news) {
            (self.on_report)(report);
        }
    }

    /// Everything that can be brought home is, then the thread ends.
    fn end(&mut self) {
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
                self.news.push(Report::Lost { path: file.target.path.clone(), bytes });
            }
        }
        self.tell();
        for file in self.files.values() {
            if let Some(packing) = &file.packing {
                packing.cancel(self.disk.as_ref());
            }
        }
        if !self.files.values().any(|file| file.has_legacy()) {
            std::mem::replace(&mut self.slots, Slots::new(Vec::new(), None)).clear_up();
        }
    }
}

impl Drop for Worker {
    /// Also when the thread panics: nobody shall give orders to nobody.
    fn drop(&mut self) {
        self.inbox.close();
    }
}
