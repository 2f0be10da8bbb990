//! An HTTP server in the test's own hands, which stands for what a service would answer.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// In the place of a status: the connection stays open and nothing comes.
pub(crate) const SILENCE: u32 = 0;

/// In the place of a status: a body that never ends, as fast as it is read.
pub(crate) const ENDLESS: u32 = 1;

/// In the place of a status: a head that never ends, a byte now and then.
pub(crate) const DRIP: u32 = 3;

/// In the place of a status: a body that never ends, a byte now and then.
pub(crate) const DRIP_BODY: u32 = 4;

/// In the place of a status: from the next connection on nobody listens any more.
pub(crate) const REFUSED: u32 = 2;

/// Answers everybody the same, until it is told to answer otherwise.
pub(crate) struct Answers {
    pub(crate) port: u16,
    status: Arc<AtomicU32>,
    /// How many of the next answers are another one, and which.
    first: Arc<Mutex<(u32, u32)>>,
    asked: Arc<AtomicU32>,
}

impl Answers {
    pub(crate) fn new(status: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (status, asked) = (Arc::new(AtomicU32::new(status)), Arc::new(AtomicU32::new(0)));
        let (now, times) = (Arc::clone(&status), Arc::clone(&asked));
        let first = Arc::<Mutex<(u32, u32)>>::default();
        let before = Arc::clone(&first);
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                times.fetch_add(1, Ordering::SeqCst);
                let mut before = before.lock().unwrap();
                let status = match &mut *before {
                    (0, _) => now.load(Ordering::SeqCst),
                    (left, other) => {
                        *left -= 1;
                        *other
                    }
                };
                drop(before);
                match status {
                    SILENCE => open.push(stream),
                    REFUSED => return,
                    ENDLESS => endless(stream, "HTTP/1.1 200 OK\r\n\r\n", 4096, Duration::ZERO),
                    DRIP => endless(stream, "HTTP/1.1 200 OK\r\nX-Slow: ", 1, Duration::from_millis(20)),
                    DRIP_BODY => endless(stream, "HTTP/1.1 200 OK\r\n\r\n", 1, Duration::from_millis(20)),
                    status => {
                        let _head = stream.read(&mut [0; 4096]);
                        let _gone = write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok");
                    }
                }
            }
        });
        Self { port, status, first, asked }
    }

    pub(crate) fn say(&self, status: u32) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// The next two answers are `first`, all later ones `then`.
    pub(crate) fn say_twice(&self, first: u32, then: u32) {
        let mut before = self.first.lock().unwrap();
        *before = (2, first);
        self.say(then);
    }

    /// How often somebody has connected so far.
    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/health", self.port)
    }
}

/// Begins like this and goes on for as long as somebody reads.
fn endless(mut stream: TcpStream, begin: &'static str, at_once: usize, pause: Duration) {
    std::thread::spawn(move || {
        let _head = stream.read(&mut [0; 4096]);
        let mut more = stream.write_all(begin.as_bytes());
        while more.is_ok() {
            std::thread::sleep(pause);
            more = stream.write_all(&vec![b'x'; at_once]);
        }
    });
}
