//! What `up --follow` shows: the output of all services from now on, on a thread of its own.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use relume_os::epoll::EventFd;

use super::follow;
use super::newcomers::Newcomers;
use super::noted::{Earlier, Noted};
use super::printer::{Printer, Shape, Witness};
use super::source::Source;
use super::targets::{self, Target};
use crate::cli::Screen;

/// How often it is looked whether all has been shown.
const LOOK: Duration = Duration::from_millis(1);

/// How long the logs may take to be found: what is written into them before that is not shown. A disk that does not answer shall
/// keep nobody from being supervised.
const FOUND: Duration = Duration::from_secs(1);

/// How often it is said that it goes on.
const AGAIN: Duration = Duration::from_secs(1);

/// What is shown, and where that is noted.
pub(crate) struct Followed {
    /// The logs, by the names of their services.
    pub(crate) logs: Vec<(String, PathBuf)>,
    /// The status file: it names those that come later.
    pub(crate) status: PathBuf,
    /// How far each was shown stands here.
    pub(crate) runtime_dir: PathBuf,
    /// A manager before this one has shown some of it.
    pub(crate) again: bool,
}

/// The thread, and how to end it.
pub(crate) struct Stream {
    stop: Arc<EventFd>,
    /// Somebody else goes on.
    hands_on: Arc<AtomicBool>,
    /// What cannot be written is left to whoever goes on.
    halt: Arc<EventFd>,
    thread: JoinHandle<()>,
    written: Arc<AtomicU64>,
}

impl Stream {
    /// Shows what is written into these logs from now on, or from where the manager before this one has shown them to, each under its
    /// service's name; and into those of services that the status file names later.
    ///
    /// # Errors
    /// When the kernel has no descriptor or thread to give.
    pub(crate) fn start(followed: Followed, screen: &Screen) -> io::Result<Self> {
        let [stop, halt] = [EventFd::new()?, EventFd::new()?].map(Arc::new);
        let (written, hands_on) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (hands, halts) = (Arc::clone(&hands_on), Arc::clone(&halt));
        let witness = Witness { written: Arc::clone(&written), hands_on: hands, halt: halts };
        let (found, began) = channel();
        let (own, screen) = (Arc::clone(&stop), screen.clone());
        let thread = std::thread::Builder::new().name("follow".into()).spawn(move || {
            let shown = show(followed, (&screen, &own), witness, &found);
            if let Err(error) = shown {
                screen.note(&format!("cannot follow the logs: {error}\n"));
            }
        })?;
        let _late = began.recv_timeout(FOUND);
        Ok(Self { stop, hands_on, halt, thread, written })
    }

    /// Ends between two pieces: the next manager goes on with the rest. A write that hangs, as on a terminal that was stopped, is
    /// waited for no longer than `patience`.
    pub(crate) fn hand_on(self, patience: Duration) {
        self.hands_on.store(true, Ordering::Release);
        // Nobody to hear it: it has ended already, for nobody reads any more.
        let _ended = self.halt.signal();
        self.end();
        let until = Instant::now() + patience;
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
    }

    /// Shows what has been written until now, and ends: however long that takes, as long as somebody reads. `goes_on` is called each
    /// second of it.
    pub(crate) fn finish(self, patience: Duration, goes_on: impl Fn()) {
        self.end();
        let (mut written, mut moved, mut said) = (0, Instant::now(), Instant::now());
        while !self.thread.is_finished() && moved.elapsed() < patience {
            let now = self.written.load(Ordering::Relaxed);
            if now != written {
                (written, moved) = (now, Instant::now());
                if said.elapsed() >= AGAIN {
                    said = Instant::now();
                    goes_on();
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    fn end(&self) {
        // It has ended already: nobody reads any more.
        let _ended = self.stop.signal();
    }
}

/// The thread's whole life. `found`: nothing that is written from then on is missed.
fn show(
    followed: Followed,
    (screen, stop): (&Screen, &EventFd),
    witness: Witness,
    found: &Sender<()>,
) -> Result<(), String> {
    let Followed { logs, status, runtime_dir, again } = followed;
    let logs = logs.into_iter().map(|(name, path)| Target::new(name, Vec::new(), path)).collect();
    let targets = targets::with_stderr(targets::one_per_file(logs), true);
    let newcomers = Newcomers::start(status, None, &targets);
    let mut printer =
        Printer::new(screen, targets.iter().map(Target::name), &Shape::beside_the_manager(screen));
    printer.witnessed(witness);
    let earlier = if again { Earlier::of(&runtime_dir) } else { Earlier::default() };
    let sources: io::Result<Vec<Source>> =
        targets.iter().map(|target| earlier.source(target.lines())).collect();
    // Nobody waits any more.
    let _late = found.send(());
    let mut sources = sources.map_err(|error| error.to_string())?;
    printer.put(&earlier.left);
    let mut noted = Noted::begin(&runtime_dir, &sources);
    let mut shown = |sources: &[Source]| noted.shown(sources);
    let ended = follow::run(&mut sources, newcomers, (screen, stop.as_fd()), &mut printer, &mut shown);
    if printer.hands_on() {
        noted.leave(&sources, printer.left());
    } else {
        for (number, source) in sources.iter_mut().enumerate() {
            if let Some(item) = source.take_partial() {
                printer.print(number, &item);
            }
        }
        printer.end();
    }
    ended.map_err(|error| error.to_string())
}
