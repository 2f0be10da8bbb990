//! Capture: what services write goes into their log files, byte for byte.
//!
//! # Theory of operation
//!
//! A few threads, each with its own epoll, move bytes from pipes to files; a file is one thread's. Supervision gives them orders
//! through an [`inbox`] that never waits and hears back through a callback. A chunk on its way exists in a [`slot`] which says what it is
//! and where it belongs, so that a successor can finish the write: nothing is lost or repeated. A pipe is asked how
//! much it holds before it is read; we are its only reader, so `read` returns exactly that.
//!
//! *Small writes* are let run together: a pipe that was found less than half full is left alone for a while ([`pace`]),
//! which saves the service and us most of the wake-ups. Who fills the pipe within that gets a larger one, while there is room ([`widening`]).
//! *Fairness*: in each round every pipe that has something gets the same few reads, the fewer the more pipes there are.
//! *Trouble* with a file (full disk, something else at its path) leaves its pipes unread: the service blocks when its
//! pipe is full, nothing is lost, and the file is tried again four times a second. It is told once, and once when it is over.
//! *Rotation* cuts at line ends and finishes by itself what a crash interrupted ([`rotate`]); old files are compressed elsewhere
//! ([`compress`], [`packing`]).
//! *A disk that is full* may also make output go away, where the configuration says so: whole lines, counted ([`dropping`]).
//! *Times and ends of runs* are noted beside the log ([`ledger`]); other forms than the service's own are made in [`mod@format`].
//! *A run that has ended*: what stood in the pipe when its tree was gone is moved at once, then the pipe is closed,
//! whoever else may still hold it.
//!
//! Log files are 0640 unless said otherwise: the group of relume may read them (log shippers), others may not.
//!
//! It must never: keep supervision waiting; write a byte into a raw log that the service did not write; follow a
//! link; read a pipe whose bytes it cannot write; wake up while nobody writes; know what a service is.
//!
//! A write that *hangs* (a dead network file system) holds up all output, and nothing but output.

mod compress;
mod disk;
mod dropping;
mod file;
mod format;
mod inbox;
mod ledger;
mod look;
mod lru;
mod marks;
mod orders;
mod pace;
mod packing;
mod report;
mod rotate;
mod slot;
mod stream;
mod thread;
mod vault;
mod widening;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
#[cfg(test)]
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use relume_core::Name;
use relume_os::epoll::EventFd;
use relume_os::limits::{self, Resource};
use tokio::sync::oneshot;

pub(crate) use self::format::Origin;
pub(crate) use self::look::Look;
pub(crate) use self::report::Report;

use relume_config::{Compression as Compress, LineFormat as Format};

pub(crate) use relume_config::WhenFull;

use self::disk::{Disk, RealDisk};
pub(crate) use self::inbox::Halt;
use self::inbox::Inbox;
use self::orders::Awaited;
use self::report::Next;
use self::slot::Slot;
use self::vault::Vault;
use self::widening::PipeRoom;
use crate::output_index::Kind;

/// Mode of a new log file: the owner writes, the group may read.
pub(crate) const LOG_MODE: u32 = 0o640;

/// Most log files open at once, each with its index: far above what writes at the same time.
const OPEN_FILES: usize = 256;

/// Of as many descriptors as this one log file may be open, so that they take no more than an eighth: services need theirs all the
/// time, and a log is opened again in microseconds.
const FOR_EACH_FILE: u64 = 16;

/// How many log files may be open under this process's limit.
fn open_files() -> usize {
    let limit = limits::get(Resource::NOFILE).ok().and_then(|limit| limit.soft);
    let few = limit.and_then(|limit| usize::try_from(limit / FOR_EACH_FILE).ok()).unwrap_or(OPEN_FILES);
    few.clamp(1, OPEN_FILES)
}

/// As many threads as there are processors to run them.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MOST_THREADS)
}

/// Most streams at once: more than a process may have descriptors in practice.
const MAX_STREAMS: usize = 65_536;

/// Most threads. Each is as fast as a `cat` that has a core to itself; output of more than four of those is no service's.
const MOST_THREADS: usize = 4;

/// Time between two attempts on a file that cannot be written: logging must be back within a second.
const RETRY: Duration = Duration::from_millis(250);

/// Names one output of one run, once and for ever. Any number but `u64::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(pub(crate) u64);

/// relume's own log.
pub(crate) const OWN: StreamId = StreamId(0);

/// Who writes it, in messages. No service has this name, because `relume logs relume` means that log.
pub(crate) const OWN_NAME: &str = "relume";

/// Where output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogTarget {
    /// The file, by an absolute path. Streams with the same path share the file; a line that one of them writes in
    /// several pieces may then be cut by a line of the other.
    pub(crate) path: Arc<Path>,
    /// `None`: it grows for ever.
    pub(crate) rotate: Option<Rotate>,
    /// Mode of the file when it is created, whatever the umask.
    pub(crate) mode: u32,
    /// How lines are stored.
    pub(crate) format: Format,
    /// What happens to output while the file cannot be written.
    pub(crate) when_full: WhenFull,
    /// Whether an index of times is kept beside it.
    pub(crate) indexed: bool,
}

impl LogTarget {
    /// The bytes as they come, nothing beside them, nothing dropped.
    pub(crate) fn plain(path: impl Into<Arc<Path>>, rotate: Option<Rotate>) -> Self {
        let (format, when_full) = (Format::Raw, WhenFull::Block);
        let path = path.into();
        Self { path, rotate, mode: LOG_MODE, format, when_full, indexed: false }
    }
}

/// When a file is put aside, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rotate {
    /// The most bytes of one file.
    pub(crate) size: u64,
    /// Old files kept, beside the current one.
    pub(crate) keep: u32,
    /// The longest that one file is written to; it is put aside by the first write after that.
    pub(crate) age: Option<Duration>,
    /// How old files are made small.
    pub(crate) compress: Compress,
}

impl Rotate {
    /// By size alone, nothing compressed.
    pub(crate) const fn by_size(size: u64, keep: u32) -> Self {
        Self { size, keep, age: None, compress: Compress::Off }
    }
}

/// One pipe to be emptied into a log file.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Its name in orders and reports.
    pub(crate) id: StreamId,
    /// Where it goes.
    pub(crate) log: Arc<LogTarget>,
    /// The read end. Nobody else may read from the pipe. It becomes non-blocking.
    pub(crate) pipe: OwnedFd,
    /// The service, for messages to people.
    pub(crate) who: Name,
    /// Whose bytes they are.
    pub(crate) origin: Origin,
    /// The run is about to begin; false: it was found.
    pub(crate) begins: bool,
}

/// Why a stream was not taken; its pipe is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// So many streams are being served that this one would be too much.
    Full,
    /// There is a stream of this name.
    Duplicate,
    /// The thread has ended.
    Ended,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "too many outputs are being captured already",
            Self::Duplicate => "it is being captured already",
            Self::Ended => "the capture thread has ended",
        })
    }
}

/// What capture has done so far.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Activity {
    /// Times the thread woke up.
    pub(crate) passes: u64,
    /// Bytes taken from pipes.
    pub(crate) bytes: u64,
}

/// Called on a capture thread for each report, by one of them at a time. It must not wait: output waits with it.
pub(crate) type OnReport = Box<dyn FnMut(Report) + Send>;

/// The same, shared by the threads.
type Tell = Arc<Mutex<OnReport>>;

/// The capture threads, to be shared by whoever gives them orders. Dropping it asks them to end, as `stop` does, but
/// does not wait.
pub(crate) struct Capture {
    inbox: Arc<Inbox>,
    /// What the threads are to start with; none: they have.
    at_rest: Mutex<Option<(PathBuf, OnReport)>>,
    /// For the one who waits for the end: each thread says a word when it has done its work, and says none if it panics.
    threads: Mutex<Vec<Receiver<()>>>,
}

/// What the threads start with; tests put other things in.
struct Start {
    /// For each thread.
    disks: Vec<Box<dyn Disk>>,
    slots: Vec<Slot>,
    vault: Option<Vault>,
    open_files: usize,
    on_report: OnReport,
    /// Bytes that all pipes of this user may hold.
    pipe_bytes: usize,
}

impl Capture {
    /// Starts the threads, which first bring home what a killed predecessor had on its way. `vault` is the directory of
    /// what is on its way, in memory that outlives the process. Fails when the kernel has no descriptor or thread to give.
    pub(crate) fn start(vault: &Path, on_report: OnReport) -> io::Result<Self> {
        let capture = Self::with_hands(threads())?;
        capture.wake(vault, on_report)?;
        Ok(capture)
    }

    /// The same without any thread: another process has what is on its way until [`Capture::begin`].
    pub(crate) fn at_rest(vault: PathBuf, on_report: OnReport) -> io::Result<Self> {
        let capture = Self::with_hands(threads())?;
        *capture.lock_rest() = Some((vault, on_report));
        Ok(capture)
    }

    fn with_hands(hands: usize) -> io::Result<Self> {
        let bells = (0..hands).map(|_| EventFd::new()).collect::<relume_os::Result<Vec<_>>>()?;
        let inbox = Arc::new(Inbox::new(bells, MAX_STREAMS));
        Ok(Self { inbox, at_rest: Mutex::default(), threads: Mutex::default() })
    }

    fn lock_rest(&self) -> MutexGuard<'_, Option<(PathBuf, OnReport)>> {
        self.at_rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, vault: &Path, mut on_report: OnReport) -> io::Result<()> {
        let threads = self.inbox.hands();
        let (vault, slots) = match Vault::open(vault, threads) {
            Ok((vault, slots)) => (Some(vault), slots),
            Err(fault) => {
                on_report(Report::Trouble { fault, next: Next::NotKept });
                (None, Vec::new())
            }
        };
        let disks = (0..threads).map(|_| Box::new(RealDisk) as Box<dyn Disk>).collect();
        let pipe_bytes = relume_os::pipes::user_bytes();
        self.wake_with(Start { disks, slots, vault, open_files: open_files(), on_report, pipe_bytes })
    }

    #[cfg(test)]
    fn start_with(start: Start) -> io::Result<Self> {
        let capture = Self::with_hands(start.disks.len())?;
        capture.wake_with(start)?;
        Ok(capture)
    }

    fn wake_with(&self, start: Start) -> io::Result<()> {
        let Start { disks, slots, vault, open_files, on_report, pipe_bytes } = start;
        let (room, inbox) = (PipeRoom::new(pipe_bytes), &self.inbox);
        let mut shares: Vec<(Vec<Slot>, Vec<Slot>)> = disks.iter().map(|_| Default::default()).collect();
        for (number, mut slot) in slots.into_iter().enumerate() {
            if slot.recover() {
                shares[inbox.hand_for(&slot.target().path)].0.push(slot);
            } else {
                shares[number % disks.len()].1.push(slot);
            }
        }
        let vault = vault.map(|vault| Arc::new(Mutex::new(vault)));
        let on_report = Arc::new(Mutex::new(on_report));
        let open_files = open_files.div_ceil(disks.len());
        let mut threads = Vec::new();
        for (me, (disk, (inherited, free))) in disks.into_iter().zip(shares).enumerate() {
            let slots = slot::Slots::new(free, vault.clone());
            let on_report = Arc::clone(&on_report);
            let room = Arc::clone(&room);
            let equipment = thread::Equipment { me, disk, slots, inherited, open_files, on_report, room };
            threads.push(Self::start_one(equipment, inbox)?);
        }
        *self.threads.lock().unwrap_or_else(PoisonError::into_inner) = threads;
        Ok(())
    }

    fn start_one(equipment: thread::Equipment, inbox: &Arc<Inbox>) -> io::Result<Receiver<()>> {
        let name = if equipment.me == 0 { "capture".into() } else { format!("capture-{}", equipment.me + 1) };
        let worker = thread::Worker::new(equipment, Arc::clone(inbox))?;
        let (end, ended) = channel();
        std::thread::Builder::new().name(name).spawn(move || {
            let worker = worker.run();
            let _nobody_waits = end.send(());
            drop(worker);
        })?;
        Ok(ended)
    }

    /// From now on the pipe's bytes go to the file. Answered by `Report::Finished` after [`Capture::finish`].
    pub(crate) fn attach(&self, stream: Stream) -> Result<(), Refused> {
        self.inbox.attach(stream, None)
    }

    /// The same, with a text that is looked for from the first byte on.
    pub(crate) fn attach_looking(&self, stream: Stream, look: Option<Look>) -> Result<(), Refused> {
        self.inbox.attach(stream, look)
    }

    /// Streams that are attached from now on are begun with by [`Capture::begin`], all at once: a thousand wake-ups less for whoever
    /// has a thousand of them.
    pub(crate) fn gather(&self) {
        self.inbox.gather();
    }

    /// Ends [`Capture::gather`], and a rest.
    ///
    /// # Errors
    /// After a rest: the kernel has no descriptor or thread to give.
    pub(crate) fn begin(&self) -> io::Result<()> {
        let rest = self.lock_rest().take();
        if let Some((vault, on_report)) = rest {
            self.wake(&vault, on_report)?;
        }
        self.inbox.begin();
        Ok(())
    }

    /// Tells once when a text passes in the stream; to be said before there is anybody to write.
    pub(crate) fn look_for(&self, id: StreamId, look: Look) {
        self.inbox.look_for(id, look);
    }

    /// The run's tree is gone: move what its pipe holds, close it, report `Finished`.
    pub(crate) fn finish(&self, id: StreamId) {
        self.inbox.finish(id);
    }

    /// As [`Capture::finish`], when [`Capture::ring`] is called or the thread looks by itself.
    pub(crate) fn finish_soon(&self, id: StreamId) {
        self.inbox.finish_soon(id);
    }

    /// Has the threads look at what is to be done soon.
    pub(crate) fn ring(&self) {
        self.inbox.ring_for_orders();
    }

    /// Something happened to the stream's run, after all that its pipe holds now: the index of its log will say so.
    pub(crate) fn mark(&self, id: StreamId, kind: Kind) {
        self.inbox.mark(id, kind);
    }

    /// Ends when what the pipes of this file held at the call is in the file, or never will be: for whoever reads it to say why
    /// a service ended. A disk that hangs keeps it waiting.
    pub(crate) async fn take_in(&self, path: &Path) {
        let (done, ended) = oneshot::channel();
        self.inbox.take_in(Awaited { path: path.to_owned(), done });
        let _always_dropped = ended.await;
    }

    /// The configuration changed: what is read from the stream from now on goes here.
    pub(crate) fn retarget(&self, id: StreamId, log: Arc<LogTarget>) {
        self.inbox.retarget(id, log);
    }

    /// An outside logrotate has renamed files: open each path anew.
    pub(crate) fn reopen_all(&self) {
        self.inbox.reopen();
    }

    /// What it has done so far.
    #[cfg(test)]
    pub(crate) fn activity(&self) -> Activity {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Activity { passes: read(&self.inbox.passes), bytes: read(&self.inbox.bytes) }
    }

    /// Ends the thread between two chunks, for a successor that has copies of the pipes: what they hold stays in them,
    /// but for relume's own log. False: it has not ended in time (a hung disk), or has ended before.
    pub(crate) fn leave(&self, patience: Duration) -> bool {
        self.inbox.leave();
        self.ended(patience)
    }

    /// The same without waiting for anybody, or waking anybody up: said while it is halted, nothing more is taken from a pipe.
    pub(crate) fn say_leave(&self) {
        self.inbox.say_leave();
    }

    /// Keeps the thread from beginning another pass for as long as what is returned lives, so that no byte is between
    /// pipe and file. None: it was still at work after `patience`.
    pub(crate) fn halt(&self, patience: Duration) -> Option<Halt<'_>> {
        self.inbox.halt(patience)
    }

    /// Moves what all pipes hold, reports each stream as finished, and ends the thread. What cannot be written is
    /// reported as lost. False: it has not ended in time (a hung disk), it has panicked, or somebody else has stopped it.
    pub(crate) fn stop(&self, patience: Duration) -> bool {
        self.inbox.stop();
        self.ended(patience)
    }

    /// Waits until each thread has done its work: whether all have, in time. That they close what they had open nobody waits for.
    fn ended(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let mut all = !threads.is_empty();
        for ended in threads {
            let left = until.saturating_duration_since(Instant::now());
            // One that has panicked has not said it.
            all &= ended.recv_timeout(left).is_ok();
        }
        all
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").finish_non_exhaustive()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.inbox.stop();
    }
}
