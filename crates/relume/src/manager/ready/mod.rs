//! Readiness and health: what a service says of itself, and what it is asked.
//!
//! # Theory of operation
//!
//! Three ways lead to ready: `READY=1` on the run's own notify socket, a newline on its notification descriptor, and a
//! probe that succeeds. Where a service has a probe beside one of the others, it is probed once it has said
//! so. Each way is taken once in a run: what comes after is news for people, signs of life, or a new main process.
//!
//! What the answers to probes come to is decided in the core, which counts them. Which probes are asked, and how often, follows
//! from what the core has made of them ([`asking`]): so nothing about them has to be remembered here.
//!
//! Sockets and pipes are made by the spawn thread ([`Ears`]) and read here, on the supervise thread, never more than
//! [`MOST_DATAGRAMS`] at a time: epoll tells again of what is left. Probes run on the network thread ([`Prober`]), whether a process
//! belongs to a run is looked up on the trees thread; both come back as news.
//!
//! Nobody is believed beyond his own run. Whose word it is follows from the socket; the sender must be the
//! service's user or root; a main process must be one of the run's.

mod asking;
mod claims;
mod ears;
mod grpc;
pub(super) mod http;
pub(super) mod probe;
mod prober;
mod quiet;
mod sayings;
mod stored;
mod tls;
mod watchdog;
mod words;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use relume_core::{Event, Health, Moment, Rare, Record, RunId, State};
use relume_os::epoll::Interest;

pub(crate) use asking::awaited_line;
pub(crate) use ears::{Ears, KeptEars, Mouth};
pub(crate) use prober::{Probed, Prober};
pub(crate) use quiet::Quiet;
pub(crate) use stored::Stored;

use super::capture::Look;
use super::edge::Edge;
use super::inbox::{Inbox, News};
use super::publish::{Level, Note};
use super::units::Unit;
use prober::Asking;
use sayings::{Sayings, Unnoted};
use stored::Sent;
use watchdog::Dogs;
use words::Words;

/// Where notify sockets are bound, in the runtime directory.
pub(crate) const NOTIFY_DIR: &str = "notify";

/// Datagrams read from one socket before others have their turn: more than a queue holds by default
/// (`net.unix.max_dgram_qlen`), less than a millisecond of work.
const MOST_DATAGRAMS: usize = 64;

/// Longest datagram that is read whole: as much as systemd reads.
const DATAGRAM: usize = 4096;

/// How the trouble of a service that is being started begins, for people.
pub(crate) const NOT_READY: &str = "not ready yet: ";

/// All runs that can be heard, or are asked something; the others are [`Quiet`].
pub(crate) struct Readying {
    prober: Prober,
    /// In boxes: most tables are half empty.
    voices: HashMap<RunId, Box<Voice>>,
    /// Whose socket or pipe a token of the epoll set stands for.
    tokens: HashMap<u64, RunId>,
    /// Runs whose line was seen before they were heard of: capture is told at once, the start comes by way of its thread.
    lines: HashSet<RunId>,
    next_asking: u64,
    dogs: Dogs,
    unnoted: Unnoted,
    stored: Arc<Stored>,
}

/// One run's. There are as many as services, of which hardly one has more than its smallest parts.
#[derive(Default)]
struct Voice {
    /// None: it has nothing to speak into.
    heard: Option<Box<Heard>>,
    /// It has said that it is ready, or need not.
    said: bool,
    /// Something had to happen before it counts as ready, and the core was told that it has.
    awaited: bool,
    told_ready: bool,
    /// The line that makes it ready was in its output.
    line: bool,
    /// When it became ready, as the core has decided.
    running: Option<Moment>,
    /// It is being stopped: how it is concerns nobody any more.
    over: bool,
    /// What its answers have come to, as the core has decided.
    health: Rare<Health>,
    /// The probes under way.
    asking: Vec<Asking>,
    /// What is wrong with it, in the words of its probes.
    trouble: Option<Box<str>>,
    claim: Option<Box<Claim>>,
    /// No process of this run can become its main process any more.
    settled: bool,
    /// What it says of itself.
    sayings: Sayings,
    /// A stranger has sent to its socket, and that was said.
    strangers: bool,
}

/// What a run speaks into.
struct Heard {
    ears: Ears,
    /// Under which tokens of the epoll set.
    tokens: Vec<u64>,
    /// When the journal was told last what it says.
    noted: Option<Moment>,
}

/// A process that says it is the main one; the trees thread is asked whether it is the run's.
struct Claim {
    pid: u32,
    /// A later claim, asked about when this one is answered.
    next: Option<u32>,
    /// The present main process has ended meanwhile.
    ended: bool,
}

/// What looks for the line that a start of the run waits for, if it waits for one.
pub(crate) fn look_for_line(unit: &Unit, run: RunId, inbox: &Arc<Inbox>) -> Option<Look> {
    let text = awaited_line(unit)?;
    let inbox = Arc::clone(inbox);
    Some(Look::new(text, Box::new(move || inbox.send(News::LineSeen { run }))))
}

impl Readying {
    pub(crate) fn new(prober: Prober, stored: Arc<Stored>) -> Self {
        Self {
            prober,
            stored,
            voices: HashMap::new(),
            tokens: HashMap::new(),
            lines: HashSet::new(),
            next_asking: 0,
            dogs: Dogs::default(),
            unnoted: Unnoted::default(),
        }
    }

    /// So many runs are about to be heard again.
    pub(crate) fn expect(&mut self, runs: usize) {
        self.voices.reserve(runs);
    }

    /// No start is under way: whatever was seen early was of a run that has been told of by now, or is gone.
    pub(crate) fn forget_early_lines(&mut self) {
        self.lines.clear();
    }

    /// When the next service has been silent for too long.
    pub(crate) fn next_bite(&self) -> Option<Moment> {
        self.dogs.next()
    }
}

impl Edge {
    /// Listens to a service's run from now on, and asks it what its configuration says: the one that holds now, which
    /// may be later than the one it was started with.
    pub(crate) fn listen(&mut self, id: RunId, ears: Ears) {
        if self.is_quiet(id, &ears) {
            if let Some(run) = self.runs.get_mut(&id) {
                run.quiet = Some(Quiet::default());
            }
            return;
        }
        self.give_voice(id, ears);
    }

    fn give_voice(&mut self, id: RunId, ears: Ears) {
        let (socket, pipe) = (self.next_token, self.next_token + 1);
        self.next_token += 2;
        let mut tokens = Vec::new();
        let added = [
            ears.socket.as_ref().map(|fd| (socket, self.epoll.add(fd, socket, Interest::READ))),
            ears.pipe.as_ref().map(|fd| (pipe, self.epoll.add(fd, pipe, Interest::READ))),
        ];
        for (token, added) in added.into_iter().flatten() {
            match added {
                Ok(()) => tokens.push(token),
                // timeout_start ends the wait.
                Err(error) => self.say(Level::Error, format!("run {id} is not listened to: {error}")),
            }
        }
        self.ready_runs.tokens.extend(tokens.iter().map(|token| (*token, id)));
        let said = self.runs.get(&id).is_none_or(|run| run.unit.config.readiness.said.is_none());
        let has_ears = ears.socket.is_some() || ears.pipe.is_some();
        let voice = Voice {
            heard: has_ears.then(|| Box::new(Heard { ears, tokens, noted: None })),
            said,
            line: self.ready_runs.lines.remove(&id),
            ..Voice::default()
        };
        self.ready_runs.voices.insert(id, Box::new(voice));
        self.ask_on(id);
    }

    /// Listens again to a run that was found, and goes on asking it: `record` is what the core remembers.
    pub(crate) fn listen_again(&mut self, id: RunId, ears: Ears, record: Option<&Record>) {
        let record = record.filter(|record| record.state.run() == Some(id));
        let since = match record.map(|record| &record.state) {
            Some(State::Running { since, .. }) => Some(*since),
            _ => None,
        };
        let over = record.is_none_or(|record| matches!(record.state, State::Stopping { .. }));
        let healthy = record.is_none_or(|record| *record.health == Health::default());
        if healthy && self.is_quiet(id, &ears) {
            if let Some(run) = self.runs.get_mut(&id) {
                run.quiet = Some(Quiet { running: since, over });
            }
            return;
        }
        let (watchdog, said, mut ears) = (ears.watchdog, ears.said, ears);
        let sayings = ears.sayings.take();
        // Who is ready need not become so again.
        let ears = if since.is_some() { Ears { pipe: None, ..ears } } else { ears };
        self.give_voice(id, ears);
        self.recall_sayings(id, sayings);
        let Some(voice) = self.ready_runs.voices.get_mut(&id) else { return };
        voice.said |= said;
        voice.health = record.map(|record| record.health.clone()).unwrap_or_default();
        voice.over = over;
        match since {
            Some(since) => self.began_running(id, since, watchdog),
            None => self.ask_on(id),
        }
    }

    /// What is ready in the epoll set is somebody's voice; whether it was.
    pub(crate) fn heard(&mut self, token: u64) -> bool {
        let Some(id) = self.ready_runs.tokens.get(&token).copied() else { return false };
        self.hear_socket(id);
        self.hear_pipe(id);
        true
    }

    fn hear_socket(&mut self, id: RunId) {
        let Some(voice) = self.ready_runs.voices.get_mut(&id) else { return };
        let Some(ears) = voice.heard.as_ref().map(|heard| &heard.ears) else { return };
        let Some(socket) = &ears.socket else { return };
        let mut buffer = [0u8; DATAGRAM];
        let (mut all, mut stranger, mut fds) = (None::<Words>, None, Vec::new());
        // Whoever may store nothing cannot make us hold anything either, not even for a moment.
        let most = self.runs.get(&id).map_or(0, |run| run.unit.config.readiness.fd_store);
        for _ in 0..MOST_DATAGRAMS {
            let received = if most > 0 {
                socket.receive_all(&mut buffer)
            } else {
                socket.receive(&mut buffer).map(|datagram| datagram.map(|datagram| (datagram, Vec::new())))
            };
            // An error of this socket concerns this run alone; timeout_start ends the wait.
            let Ok(Some((datagram, sent))) = received else { break };
            match datagram.sender {
                Some(who) if who.uid == ears.uid || who.uid == 0 => {
                    let words = Words::read(&buffer[..datagram.len], datagram.cut);
                    if most > 0 && (words.store || words.unstore) {
                        fds.push(Sent { gone: words.unstore, name: words.fd_name.clone(), fds: sent });
                    }
                    all = Some(match all {
                        Some(before) => before.and(words),
                        None => words,
                    });
                }
                Some(who) => stranger = Some(who.uid),
                None => {}
            }
        }
        for sent in fds {
            self.store(id, sent, most);
        }
        let Some(voice) = self.ready_runs.voices.get_mut(&id) else { return };
        if let Some(uid) = stranger.filter(|_| !std::mem::replace(&mut voice.strangers, true)) {
            let text = format!("{}: a notification from user {uid} was ignored", self.name_of_run(id));
            self.say(Level::Warn, text);
        }
        if let Some(words) = all {
            self.take_words(id, words);
        }
    }

    fn store(&mut self, id: RunId, sent: Sent, most: u32) {
        let Some(run) = self.runs.get(&id) else { return };
        let service = run.unit.config.spec.name.to_string();
        if sent.gone {
            let name = sent.name.as_deref().unwrap_or_default();
            return self.ready_runs.stored.forget(&self.keeper, &service, Some(name));
        }
        let refused = self.ready_runs.stored.store(&self.keeper, &service, sent, most);
        if refused > 0 {
            let text = format!("{service}: {refused} descriptors were not stored: `fd_store` allows {most}");
            self.say(Level::Warn, text);
        }
    }

    fn take_words(&mut self, id: RunId, mut words: Words) {
        let Some(voice) = self.ready_runs.voices.get_mut(&id) else { return };
        let (shown, said) = (voice.shown(), voice.sayings.clone());
        voice.sayings.hear(&mut words);
        let (now_shown, says_more) = (voice.shown(), voice.sayings != said);
        if now_shown != shown {
            self.publisher.send(Note::Told { run: id, text: now_shown });
        }
        // Also what the trouble of a probe hides for now.
        if says_more {
            self.has_said(id);
        }
        if let Some(pid) = words.main_pid {
            self.claim(id, pid);
        }
        if let Some(by) = words.extend {
            self.events.push_back(Event::Extended { run: id, by });
        }
        if let Some(alive) = words.watchdog {
            self.sign_of_life(id, alive, words.watchdog_every);
        }
        if words.ready {
            self.said_ready(id);
        }
    }

    /// A newline means ready. The end without one means that it will never be.
    fn hear_pipe(&mut self, id: RunId) {
        let Some(voice) = self.ready_runs.voices.get_mut(&id) else { return };
        let Some(ears) = voice.heard.as_mut().map(|heard| &mut heard.ears) else { return };
        let Some(pipe) = &ears.pipe else { return };
        let mut buffer = [0u8; DATAGRAM];
        let said = match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => false,
            Ok(length) if buffer[..length].contains(&b'\n') => true,
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            Err(_) => false,
        };
        let _gone = self.epoll.delete(pipe);
        ears.pipe = None;
        if said {
            self.said_ready(id);
        } else {
            // No more than that: it is told of each process that ends before it was ready, too.
            let text = "closed its notification_fd without saying that it is ready".into();
            self.publisher.send(Note::Told { run: id, text: Some(text) });
        }
    }

    fn said_ready(&mut self, id: RunId) {
        let Some(voice) = self.ready_runs.voices.get_mut(&id) else { return };
        if !std::mem::replace(&mut voice.said, true) {
            self.note_said(id);
            self.ask_on(id);
        }
    }

    /// Its main process has ended: what it has said before that comes before its end.
    pub(crate) fn hear_last_words(&mut self, id: RunId) {
        self.hear_socket(id);
    }

    /// Nothing of the run is left.
    pub(crate) fn stop_listening(&mut self, id: RunId) {
        let Some(voice) = self.ready_runs.voices.remove(&id) else { return };
        self.ready_runs.dogs.leave(id);
        let Some(Heard { ears, tokens, .. }) = voice.heard.as_deref() else { return };
        for token in tokens {
            self.ready_runs.tokens.remove(token);
        }
        if let Some(pipe) = &ears.pipe {
            let _gone = self.epoll.delete(pipe);
        }
        if let Some(socket) = &ears.socket {
            let _gone = self.epoll.delete(socket);
        }
        if let Some(path) = ears.path() {
            self.trees.forget(path);
        }
    }

    pub(crate) fn name_of_run(&self, id: RunId) -> String {
        self.runs.get(&id).map_or_else(|| format!("run {id}"), |run| run.unit.config.spec.name.to_string())
    }
}

impl Voice {
    /// For people: what its probes say of it, else what it says itself.
    fn shown(&self) -> Option<String> {
        if let Some(trouble) = &self.trouble {
            let what = if self.running.is_some() { "probe failed: " } else { NOT_READY };
            return Some(format!("{what}{trouble}"));
        }
        self.sayings.shown()
    }
}
