//! The manager's side of the channel to the guardian: what must not be lost is kept there under a name.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use relume_os::channel::{Channel, Received};
use relume_os::exec;
use relume_os::exit::ExitStatus;
use relume_os::signals::Arrived;
use relume_os::sockets;

use crate::guardian::link;
use crate::roles::CHANNEL_FD;

/// What the guardian says.
#[derive(Debug)]
pub(crate) enum Word {
    /// A signal meant for relume.
    Signal(Arrived),
    /// A process that was handed to the guardian has ended.
    Exited {
        /// Its former pid.
        pid: u32,
        /// How.
        status: ExitStatus,
    },
    /// The guardian is gone.
    Gone,
}

/// Descriptors that the guardian kept, by name.
pub(crate) type Kept = BTreeMap<String, Vec<OwnedFd>>;

/// The channel, shared by the threads that have something to be kept.
#[derive(Debug)]
pub(crate) struct Keeper {
    channel: Channel,
    guardian: u32,
    /// Messages that the channel had no room for, in order.
    late: Mutex<VecDeque<(String, Vec<OwnedFd>)>>,
}

/// How long a descriptor may wait for room in the channel. A guardian that does not read for so long is
/// hung; the service starts all the same.
const ROOM: Duration = Duration::from_millis(200);

impl Keeper {
    /// Takes over the channel that the guardian left, and waits for all that it kept: the guardian sends it
    /// before it does anything else.
    pub(crate) fn take_over() -> relume_os::Result<(Arc<Self>, Kept)> {
        let channel = Channel::from_owned(exec::take_inherited(CHANNEL_FD)?);
        let guardian = sockets::peer(&channel)?.pid;
        let kept = receive_all(&channel)?;
        Ok((Arc::new(Self { channel, guardian, late: Mutex::default() }), kept))
    }

    /// The guardian's pid.
    pub(crate) fn guardian(&self) -> u32 {
        self.guardian
    }

    /// Has descriptors kept under a name.
    pub(crate) fn keep(&self, name: &str, fds: &[BorrowedFd<'_>]) {
        self.say(&link::keep(name), fds);
    }

    /// Has what is kept under a name closed.
    pub(crate) fn forget(&self, name: &str) {
        self.say(&link::forget(name), &[]);
    }

    /// Supervision has begun.
    pub(crate) fn ready(&self) {
        self.say(link::READY, &[]);
    }

    /// This manager is about to end by itself.
    pub(crate) fn leave(&self, code: u8) {
        self.say(&link::leave(code, false), &[]);
    }

    /// This manager is about to end by itself, and the services run on.
    pub(crate) fn detach(&self) {
        self.say(&link::leave(0, true), &[]);
    }

    fn say(&self, text: &str, fds: &[BorrowedFd<'_>]) {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let began = std::time::Instant::now();
        loop {
            if self.flush(&mut late) {
                match self.channel.send(text.as_bytes(), fds) {
                    // Without a guardian there is nobody to keep anything.
                    Ok(true) | Err(_) => return,
                    Ok(false) => {}
                }
            }
            if began.elapsed() >= ROOM {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let copies = fds.iter().filter_map(|fd| fd.try_clone_to_owned().ok()).collect();
        late.push_back((text.to_owned(), copies));
    }

    /// Sends what is late, in order; whether all is sent.
    fn flush(&self, late: &mut VecDeque<(String, Vec<OwnedFd>)>) -> bool {
        while let Some((text, fds)) = late.front() {
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            match self.channel.send(text.as_bytes(), &fds) {
                Ok(true) => drop(late.pop_front()),
                Ok(false) => return false,
                Err(_) => {
                    late.clear();
                    return true;
                }
            }
        }
        true
    }

    /// What the guardian says next; none: nothing now.
    pub(crate) fn hear(&self) -> Option<Word> {
        loop {
            let message = match self.channel.receive() {
                Ok(Received::Message(message)) => message,
                Ok(Received::Nothing) => return None,
                Ok(Received::Closed) | Err(_) => return Some(Word::Gone),
            };
            let text = String::from_utf8_lossy(&message.bytes);
            if let (Some(signal), Some(code)) = (link::number(&text, "SIGNAL"), link::number(&text, "CODE")) {
                return Some(Word::Signal(Arrived { signal, code, pid: 0, uid: 0 }));
            }
            if let Some(pid) = link::number(&text, "EXITED") {
                return Some(Word::Exited { pid, status: link::status_of(&text) });
            }
        }
    }
}

impl AsFd for Keeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

fn receive_all(channel: &Channel) -> relume_os::Result<Kept> {
    let mut all = Kept::new();
    loop {
        match channel.receive()? {
            Received::Message(message) => {
                let text = String::from_utf8_lossy(&message.bytes).into_owned();
                if text == link::KEPT_ALL {
                    return Ok(all);
                }
                if let Some(name) = link::value(&text, "KEPT") {
                    all.insert(name.to_owned(), message.fds);
                }
            }
            // The guardian is sending: it does nothing else until it has sent all.
            Received::Nothing => std::thread::sleep(Duration::from_micros(100)),
            Received::Closed => return Ok(all),
        }
    }
}

/// The name under which a run's pidfd is kept.
pub(crate) fn process_name(service: &str, generation: u64) -> String {
    format!("process/{service}/{generation}")
}

/// The name under which the read ends of a run's output are kept.
pub(crate) fn output_name(service: &str, generation: u64) -> String {
    format!("output/{service}/{generation}")
}

/// The name under which a run's notify socket and the end of its notification fd are kept.
pub(crate) fn ears_name(service: &str, generation: u64) -> String {
    format!("ears/{service}/{generation}")
}

/// What the names begin with under which descriptors are kept that a service has stored.
pub(crate) const STORED: &str = "stored/";

/// The name under which one descriptor is kept that a service has stored under `name`.
pub(crate) fn stored_name(service: &str, number: u64, name: &str) -> String {
    format!("{STORED}{service}/{number}/{name}")
}

/// Service, number and name of a stored descriptor.
pub(crate) fn stored(kept: &str) -> Option<(&str, u64, &str)> {
    let (service, rest) = kept.strip_prefix(STORED)?.split_once('/')?;
    let (number, name) = rest.split_once('/')?;
    Some((service, number.parse().ok()?, name))
}

/// The name under which the listening control socket is kept: no client is ever refused.
pub(crate) const CONTROL: &str = "control";
