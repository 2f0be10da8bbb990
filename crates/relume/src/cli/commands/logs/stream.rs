//! What `up --follow` shows: the output of all services from now on, on a thread of its own.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use relume_os::epoll::EventFd;

use super::follow;
use super::newcomers::Newcomers;
use super::printer::{Printer, Shape};
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

/// The thread, and how to end it.
pub(crate) struct Stream {
    stop: Arc<EventFd>,
    thread: JoinHandle<()>,
    written: Arc<AtomicU64>,
}

impl Stream {
    /// Shows what is written into these logs from now on, each under its service's name; and into those of services that
    /// the status file names later.
    ///
    /// # Errors
    /// When the kernel has no descriptor or thread to give.
    pub(crate) fn start(logs: Vec<(String, PathBuf)>, status: PathBuf, screen: &Screen) -> io::Result<Self> {
        let stop = Arc::new(EventFd::new()?);
        let (own, screen) = (Arc::clone(&stop), screen.clone());
        let (written, (found, began)) = (Arc::<AtomicU64>::default(), channel());
        let count = Arc::clone(&written);
        let logs = logs.into_iter().map(|(name, path)| Target::new(name, Vec::new(), path)).collect();
        let thread = std::thread::Builder::new().name("follow".into()).spawn(move || {
            let targets = targets::with_stderr(targets::one_per_file(logs), true);
            let newcomers = Newcomers::start(status, None, &targets);
            let names = targets.iter().map(Target::name);
            let mut printer = Printer::new(&screen, names, &Shape::beside_the_manager(&screen));
            printer.count(count);
            let sources: io::Result<Vec<Source>> =
                targets.iter().map(|target| Source::from_now(target.lines())).collect();
            // Nobody waits any more.
            let _late = found.send(());
            let shown = sources.map_err(|error| error.to_string()).and_then(|mut sources| {
                let shown = follow::run(&mut sources, newcomers, (&screen, own.as_fd()), &mut printer);
                for (number, source) in sources.iter_mut().enumerate() {
                    if let Some(item) = source.take_partial() {
                        printer.print(number, &item);
                    }
                }
                printer.end();
                shown.map_err(|error| error.to_string())
            });
            if let Err(error) = shown {
                screen.note(&format!("cannot follow the logs: {error}\n"));
            }
        })?;
        let _late = began.recv_timeout(FOUND);
        Ok(Self { stop, thread, written })
    }

    /// Shows what has been written until now, and ends. Where nobody reads what it shows it is left behind after `patience`: a
    /// terminal that was stopped, or a pager that waits, holds up nothing.
    pub(crate) fn finish(self, patience: Duration) {
        self.end();
        let until = Instant::now() + patience;
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
    }

    /// The same for the last time: what has been written is shown however long that takes, as long as somebody reads. `goes_on`
    /// is called each second of it.
    pub(crate) fn finish_all(self, patience: Duration, goes_on: impl Fn()) {
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
