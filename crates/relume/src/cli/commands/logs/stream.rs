//! What `up --follow` shows: the output of all services from now on, on a thread of its own.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use relume_os::epoll::EventFd;

use super::chain::LogFile;
use super::follow::{self, Follower, Position};
use super::printer::Printer;
use crate::cli::Screen;

/// The thread, and how to end it.
pub(crate) struct Stream {
    stop: Arc<EventFd>,
    thread: JoinHandle<()>,
}

impl Stream {
    /// Shows what is written into these logs from now on, each under its service's name.
    ///
    /// # Errors
    /// When the kernel has no descriptor or thread to give.
    pub(crate) fn start(logs: Vec<(String, PathBuf)>, screen: &Screen) -> io::Result<Self> {
        let stop = Arc::new(EventFd::new()?);
        let (own, screen) = (Arc::clone(&stop), screen.clone());
        let thread = std::thread::Builder::new().name("follow".into()).spawn(move || {
            let names: Vec<&str> = logs.iter().map(|(name, _)| name.as_str()).collect();
            let mut printer = Printer::new(&screen, &names, false);
            let mut followers: Vec<Follower> = logs.iter().map(|(_, path)| from_now(path.clone())).collect();
            let shown = follow::run(&mut followers, &screen, own.as_fd(), &mut |number, bytes| {
                printer.print(number, bytes)
            });
            if let Err(error) = shown {
                screen.note(&format!("cannot follow the logs: {error}\n"));
            }
            (0..names.len()).all(|number| printer.end(number));
        })?;
        Ok(Self { stop, thread })
    }

    /// Shows what has been written until now, and ends.
    pub(crate) fn finish(self) {
        // It has ended already: nobody reads any more.
        let _ended = self.stop.signal();
        let _panicked = self.thread.join();
    }
}

/// What stands in the file is old; a file that appears later is new from its beginning.
fn from_now(path: PathBuf) -> Follower {
    let mut follower = Follower::new(path.clone());
    if let Ok(log) = LogFile::open(&path)
        && let Ok(offset) = log.length()
    {
        follower.begin(Position { log, offset });
    }
    follower
}
