//! The loop: wait, take orders, give every pipe that has something its turn.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use relume_os::OsError;
use relume_os::epoll::{Epoll, Interest, Ready};

use super::disk::Disk;
use super::file::{LogFile, Pass};
use super::inbox::{Inbox, Orders};
use super::lru::Lru;
use super::report::{Next, Report};
use super::slot::{SLOT_BYTES, Slot, Slots};
use super::stream::{FileKey, Flow, Pipe};
use super::{LogTarget, OnReport, RETRY, Start, Stream, StreamId};

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
    inbox: Arc<Inbox>,
    epoll: Epoll,
    disk: Box<dyn Disk>,
    on_report: OnReport,
    slots: Slots,
    /// Chunks of a killed predecessor, until their stream is attached.
    inherited: Vec<Slot>,
    pipes: HashMap<StreamId, Box<Pipe>>,
    /// Streams whose pipe is closed and that await `finish`: the bytes they had.
    closed: HashMap<StreamId, u64>,
    files: HashMap<FileKey, Box<LogFile>>,
    paths: HashMap<PathBuf, FileKey>,
    open: Lru<FileKey>,
    next_file: FileKey,
    queue: VecDeque<StreamId>,
    resting: Vec<StreamId>,
    tick_at: Option<Instant>,
    troubled: HashSet<FileKey>,
    news: Vec<Report>,
    now: Instant,
    stopping: bool,
}

impl Worker {
    pub(super) fn new(start: Start, inbox: Arc<Inbox>) -> relume_os::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(&inbox.bell, BELL, Interest::READ)?;
        let Start { disk, slots, open_files, on_report } = start;
        let (mut inherited, mut free) = (Vec::new(), Vec::new());
        for mut slot in slots {
            if slot.recover() { inherited.push(slot) } else { free.push(slot) }
        }
        Ok(Self {
            inbox,
            epoll,
            disk,
            on_report,
            slots: Slots::new(free),
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
            troubled: HashSet::new(),
            news: Vec::new(),
            now: Instant::now(),
            stopping: false,
        })
    }

    /// Until `stop` is ordered.
    pub(super) fn run(mut self) {
        let mut ready = Vec::new();
        while !self.stopping {
            if self.epoll.wait(&mut ready, self.timeout()).is_err() {
                // epoll_wait(2) fails only for a bad descriptor or buffer; a rest keeps that bug from burning a core.
                std::thread::sleep(TICK);
            }
            Inbox::count(&self.inbox.passes, 1);
            self.now = Instant::now();
            self.hear(&ready);
            self.tick();
            self.retry();
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
        let next = self.tick_at.into_iter().chain(retry_at).min()?;
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
        let Orders { attach, retarget, finish, reopen, stop } = orders;
        for stream in attach {
            self.attach(stream);
        }
        for (id, log) in retarget {
            self.retarget(id, log);
        }
        if reopen {
            self.files.values_mut().for_each(|file| file.close());
            self.troubled.clone().into_iter().for_each(|key| self.retry_file(key));
        }
        for id in finish {
            self.finish(id);
        }
        self.stopping |= stop;
    }

    fn attach(&mut self, stream: Stream) {
        let Stream { id, log, pipe, who } = stream;
        let key = self.file_for(&log);
        let attached = Pipe::new(id, who.clone(), pipe, key)
            .and_then(|pipe| self.epoll.add(&pipe, id.0, Interest::READ_ONCE).map(|()| pipe));
        match attached {
            Ok(pipe) => {
                self.pipes.insert(id, Box::new(pipe));
                self.join(key, id);
                if let Some(at) = self.inherited.iter().position(|slot| slot.stream() == id) {
                    let slot = self.inherited.swap_remove(at);
                    self.bring_home(key, slot);
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

    /// A chunk of the predecessor's is written as one that was stuck, at once if the file allows.
    fn bring_home(&mut self, key: FileKey, slot: Slot) {
        if let Some(file) = self.files.get_mut(&key) {
            file.keep(slot);
            self.retry_file(key);
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

    fn take_turn(&mut self, id: StreamId, reads: usize) {
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
    fn move_chunk(&mut self, id: StreamId, wanted: usize) -> bool {
        let Some(pipe) = self.pipes.get_mut(&id) else { return true };
        let key = pipe.file;
        let Some(file) = self.files.get_mut(&key) else { return true };
        let mut pass = Pass { disk: self.disk.as_ref(), now: self.now, news: std::mem::take(&mut self.news) };
        let mut slot = self.slots.take();
        let written = file.end(&pass).and_then(|place| {
            let got = pipe.read(slot.begin(id, place, wanted));
            slot.filled(got);
            pipe.bytes += got as u64;
            if let Some(last) = &mut pipe.last_bytes {
                // A pipe that gives less than it said has another reader; what it took is not ours to wait for.
                *last = if got == 0 { 0 } else { *last - (got as u64).min(*last) };
            }
            Inbox::count(&self.inbox.bytes, got as u64);
            file.write(&mut pass, &mut slot)
        });
        self.news = pass.news;
        self.used(key);
        match written {
            Ok(()) => {
                self.slots.give(slot);
                true
            }
            Err(fault) => {
                match self.files.get_mut(&key) {
                    Some(file) if !slot.pending().is_empty() => file.keep(slot),
                    Some(_) | None => self.slots.give(slot),
                }
                self.hold(key, fault);
                false
            }
        }
    }

    /// From now on nothing is read for this file until it can be written.
    fn hold(&mut self, key: FileKey, fault: OsError) {
        let Some(file) = self.files.get_mut(&key) else { return };
        self.troubled.insert(key);
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

    fn retry_file(&mut self, key: FileKey) {
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
    fn file_for(&mut self, log: &Arc<LogTarget>) -> FileKey {
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
    fn used(&mut self, key: FileKey) {
        if self.files.get(&key).is_some_and(|file| file.is_open())
            && let Some(evicted) = self.open.touch(key)
            && let Some(file) = self.files.get_mut(&evicted)
        {
            file.close();
        }
    }

    fn tell(&mut self) {
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
    }
}

impl Drop for Worker {
    /// Also when the thread panics: nobody shall give orders to nobody.
    fn drop(&mut self) {
        self.inbox.close();
    }
}
