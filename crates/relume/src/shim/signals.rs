//! What a shim is asked by signals.

use relume_os::epoll::{Epoll, Interest};
use relume_os::signals::{self, SignalFd};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const HUP: i32 = 1;
const INT: i32 = 2;
const QUIT: i32 = 3;
const USR1: i32 = 10;
const USR2: i32 = 12;
const TERM: i32 = 15;

/// What asks for the end, and what is passed on.
const HEARD: [i32; 6] = [TERM, INT, QUIT, HUP, USR1, USR2];

/// The signals that are heard. A thread waits for them: the runtime's own way to watch a descriptor has no safe form.
pub(super) struct Signals(UnboundedReceiver<i32>);

impl Signals {
    /// Hears from now on; before, a signal had its default effect.
    pub(super) fn new() -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("signals cannot be heard: {error}");
        let (tell, heard) = unbounded_channel();
        let epoll = Epoll::new().map_err(|error| failed(&error))?;
        let signals =
            signals::block(&HEARD).and_then(|()| SignalFd::new(&HEARD)).map_err(|error| failed(&error))?;
        epoll.add(&signals, 0, Interest::READ).map_err(|error| failed(&error))?;
        let listen = move || listen(&epoll, &signals, &tell);
        std::thread::Builder::new().name("signals".into()).spawn(listen).map_err(|error| failed(&error))?;
        Ok(Self(heard))
    }

    /// The next signal: none asks for the end, a name is to be passed on.
    pub(super) async fn next(&mut self) -> Option<&'static str> {
        match self.0.recv().await {
            Some(HUP) => Some("HUP"),
            Some(USR1) => Some("USR1"),
            Some(USR2) => Some("USR2"),
            Some(_) | None => None,
        }
    }

    /// Waits until the end is asked for.
    pub(super) async fn end_asked(&mut self) {
        while self.next().await.is_some() {}
    }
}

fn listen(epoll: &Epoll, signals: &SignalFd, tell: &UnboundedSender<i32>) {
    let mut ready = Vec::new();
    // When nothing can be heard any more the receiver learns it as the wish to end.
    while epoll.wait(&mut ready, None).is_ok() {
        while let Ok(Some(arrived)) = signals.read() {
            if tell.send(arrived.signal).is_err() {
                return;
            }
        }
    }
}
