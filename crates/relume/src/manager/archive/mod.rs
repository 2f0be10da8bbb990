//! The archive: the cold copy of what a relume after the next reboot must know, and the history of events.
//!
//! # Theory of operation
//!
//! The journal serves the same boot; this is what is left without it. One thread owns one SQLite database and
//! takes all that is to be kept from [`Queue`]: of each service only the latest, of events as many as fit. What
//! somebody asked is committed to the disk before the answer leaves ([`Archive::saved`]); all else is written
//! together, a moment later. A database that cannot be used is moved aside or left alone, said once, and tried
//! again where that can help: meanwhile the queue is the memory, and it is bounded.
//!
//! # What it must never do
//!
//! Hold up supervision or publishing; touch a file that is not its own; be opened by anybody else of the manager
//! (closing any descriptor of a file drops the locks that SQLite has on it, fcntl(2)).

mod database;
mod file;
mod queue;
mod thread;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use relume_core::{Intent, Remembered};
use relume_proto::EventRecord;
use tokio::sync::oneshot;

use super::gate::Gate;
use super::publish::{Level, Note, Publisher};
use queue::{Queue, Replay};
use thread::Thread;

/// How long a start waits for the database. A disk that has not answered by then does not keep services down.
const OPENING: Duration = Duration::from_secs(10);

/// How long relume waits for the last commit when it leaves.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// Before the name of a scheduled job among the notes on jobs: no service has a name with `/`.
const DUE: &str = "due/";

/// How many events one question to the history brings.
pub(crate) const PAGE: usize = 500;

/// What an earlier relume has left.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    /// The services that it knew.
    pub(crate) services: Vec<Remembered>,
    /// The number from which facts are counted on.
    pub(crate) seq: u64,
    /// Of each job, what its inputs were when it was done last.
    pub(crate) inputs: BTreeMap<String, String>,
}

/// What became of something that was to be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Saved {
    /// It is on the disk.
    Yes,
    /// It is not, and why.
    No(String),
}

/// The handle. Nothing here waits for a disk but what says so.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    queue: Arc<Queue>,
    voice: Arc<Voice>,
    opened: Arc<Mutex<Option<Receiver<Copy>>>>,
    ended: Arc<Mutex<Option<Receiver<()>>>>,
    inputs: Arc<Mutex<Inputs>>,
    /// Open when it is known what the inputs of jobs were.
    learned: Gate,
}

/// What the inputs of jobs were: digests by the name of the service.
#[derive(Debug, Default)]
struct Inputs {
    /// When each was done last.
    done: BTreeMap<String, String>,
    /// When the run that is under way began.
    begun: BTreeMap<String, String>,
}

impl Archive {
    /// Starts the thread, which opens the database at once.
    pub(crate) fn start(path: PathBuf, boot: String) -> std::io::Result<Self> {
        let open = Gate::default();
        open.open();
        Self::start_behind(path, boot, open)
    }

    /// Starts the thread, which opens the database as soon as the gate is open: until then another process has it.
    pub(crate) fn start_behind(path: PathBuf, boot: String, gate: Gate) -> std::io::Result<Self> {
        let (queue, voice) = (Arc::new(Queue::new()), Arc::new(Voice::default()));
        let (tell_opened, opened) = channel();
        let (tell_ended, ended) = channel();
        let inputs = Arc::<Mutex<Inputs>>::default();
        let (known, learned) = (Arc::clone(&inputs), Gate::default());
        let tell_learned = learned.clone();
        let learn = move |done: &BTreeMap<String, String>| {
            for (name, digest) in done {
                // What was done meanwhile is newer.
                lock(&known).done.entry(name.clone()).or_insert_with(|| digest.clone());
            }
            tell_learned.open();
        };
        let thread = Thread::new(path, boot, Arc::clone(&queue), Arc::clone(&voice));
        std::thread::Builder::new().name("archive".into()).spawn(move || {
            gate.pass();
            thread.run(&tell_opened, &learn);
            // Nobody waits any more.
            let _gone = tell_ended.send(());
        })?;
        let (opened, ended) = (Arc::new(Mutex::new(Some(opened))), Arc::new(Mutex::new(Some(ended))));
        Ok(Self { queue, voice, opened, ended, inputs, learned })
    }

    /// What an earlier relume has left, as soon as it is known. Once, when relume comes up.
    pub(crate) fn copy(&self) -> Copy {
        let Some(opened) = lock(&self.opened).take() else { return Copy::default() };
        opened.recv_timeout(OPENING).unwrap_or_else(|_| {
            let text = format!(
                "the state file has not answered within {} s: starting without it, so services that were \
                 stopped on request are started",
                OPENING.as_secs()
            );
            self.voice.say(Level::Error, text);
            Copy::default()
        })
    }

    /// Whether a job was done last with these inputs. If not, they are what it begins with now. Waits until that is known, for a
    /// while: a job that is done once more than needed does less harm than one that is not done.
    pub(crate) fn are_inputs_done(&self, name: &str, digest: &str) -> bool {
        self.learned.pass_within(OPENING);
        let mut inputs = lock(&self.inputs);
        let same = inputs.done.get(name).is_some_and(|done| done == digest);
        if !same {
            inputs.begun.insert(name.to_owned(), digest.to_owned());
        }
        same
    }

    /// A job was done with the inputs that it began with.
    pub(crate) fn job_done(&self, name: &str) {
        let mut inputs = lock(&self.inputs);
        if let Some(digest) = inputs.begun.remove(name) {
            inputs.done.insert(name.to_owned(), digest.clone());
            drop(inputs);
            self.queue.inputs(name, digest);
        }
    }

    /// What was noted of a scheduled job last, by [`Self::note_due`].
    pub(crate) fn due_before(&self, name: &str) -> Option<String> {
        lock(&self.inputs).done.get(&format!("{DUE}{name}")).cloned()
    }

    /// When a scheduled job was due, in the words of the schedule.
    pub(crate) fn note_due(&self, name: &str, text: String) {
        let key = format!("{DUE}{name}");
        lock(&self.inputs).done.insert(key.clone(), text.clone());
        self.queue.inputs(&key, text);
    }

    /// From now on there is somebody to say trouble to.
    pub(crate) fn speak_to(&self, publisher: Publisher) {
        self.voice.speak_to(publisher);
    }

    /// What is to be remembered of a service; `asked`: somebody waits for that.
    pub(crate) fn remember(&self, service: Remembered, asked: bool) {
        self.queue.remember(service, asked);
    }

    /// An event, once by its number.
    pub(crate) fn event(&self, record: EventRecord) {
        self.queue.event(record);
    }

    /// What an earlier manager may have shown and not written; it is made where nobody waits for it, and kept
    /// before any question is answered.
    pub(crate) fn replay(&self, make: impl FnOnce() -> Vec<EventRecord> + Send + 'static) {
        self.queue.replay(Replay(Box::new(make)));
    }

    /// Whether what [`Self::replay`] has brought is not on its way to the disk yet: the journal has to keep it.
    pub(crate) fn is_behind(&self) -> bool {
        self.queue.is_behind()
    }

    /// Facts up to this number have happened.
    pub(crate) fn reached(&self, seq: u64) {
        self.queue.reached(seq);
    }

    /// Resolves when all that was asked until now is on the disk, or is known not to be.
    pub(crate) fn saved(&self) -> oneshot::Receiver<Saved> {
        self.queue.saved()
    }

    /// Up to [`PAGE`] events with a number above `after` and below `before`, oldest first.
    pub(crate) fn history(&self, after: u64, before: u64) -> oneshot::Receiver<Vec<EventRecord>> {
        self.queue.history(after, before)
    }

    /// Writes what is left and ends the thread; `in_order`: everything is down.
    pub(crate) fn finish(&self, in_order: bool) {
        self.queue.close(in_order);
        if let Some(ended) = lock(&self.ended).take() {
            // A disk that does not answer must not keep relume from leaving: the thread is left behind.
            let _hung = ended.recv_timeout(LAST_COMMIT);
        }
    }
}

/// Where trouble is said; what is said before there is anybody to hear it waits.
#[derive(Debug, Default)]
struct Voice(Mutex<(Option<Publisher>, Vec<Note>)>);

impl Voice {
    fn say(&self, level: Level, text: String) {
        self.send(Note::Say { level, text });
    }

    fn send(&self, note: Note) {
        let mut inner = lock(&self.0);
        match &inner.0 {
            Some(publisher) => publisher.send(note),
            None => inner.1.push(note),
        }
    }

    fn speak_to(&self, publisher: Publisher) {
        let mut inner = lock(&self.0);
        inner.1.drain(..).for_each(|note| publisher.send(note));
        inner.0 = Some(publisher);
    }
}

/// What stands in a database that no manager has open: the services, and the latest events, oldest first.
pub(crate) fn peek(path: &std::path::Path) -> Option<(Vec<Remembered>, Vec<EventRecord>)> {
    database::peek(path)
}

/// Whether this is something that somebody has asked for.
pub(crate) fn is_asked(intent: Intent) -> bool {
    match intent {
        Intent::Up | Intent::Down => true,
        Intent::Auto => false,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
