//! Readiness: what a service says of itself, and what it is asked.
//!
//! # Theory of operation
//!
//! Three ways lead to [`Event::Ready`]: `READY=1` on the run's own notify socket, a newline on its notification descriptor, and a
//! probe that succeeds. Where a service has a probe beside one of the others, it is probed once it has said
//! so. Each way is taken once in a run: what comes after is news for people, or a new main process.
//!
//! Sockets and pipes are made by the spawn thread ([`Ears`]) and read here, on the supervise thread, never more than
//! [`MOST_DATAGRAMS`] at a time: epoll tells again of what is left. Probes run on the network thread ([`Prober`]), whether a process
//! belongs to a run is looked up on the trees thread; both come back as news.
//!
//! Nobody is believed beyond his own run. Whose word it is follows from the socket; the sender must be the
//! service's user or root; a main process must be one of the run's.

mod ears;
mod probe;
mod prober;
mod words;

use std::collections::HashMap;

use relume_config::Probe;
use relume_core::{Event, RunId};
use relume_os::epoll::Interest;
use relume_os::pidfd::{PidFd, ProcessId};

pub(crate) use ears::{Ears, KeptEars, Mouth};
pub(crate) use prober::{Probed, Prober};

use super::edge::Edge;
use super::publish::{Level, Note};
use super::runs::Stage;
use prober::Probing;
use words::Words;

/// Datagrams read from one socket before others have their turn: more than a queue holds by default
/// (`net.unix.max_dgram_qlen`), less than a millisecond of work.
const MOST_DATAGRAMS: usize = 64;

/// Longest datagram that is read whole: as much as systemd reads.
const DATAGRAM: usize = 4096;

/// All runs that can be heard, or are waited for.
pub(crate) struct Readying {
    prober: Prober,
    voices: HashMap<RunId, Voice>,
    /// Whose socket or pipe a token of the epoll set stands for.
    tokens: HashMap<u64, RunId>,
    next_probing: u64,
}

/// One run's.
struct Voice {
    ears: Ears,
    tokens: Vec<u64>,
    /// What it is asked before it counts as ready.
    probe: Option<Probe>,
    /// It has said that it is ready, or need not.
    said: bool,
    /// The core was told that it is ready.
    ready: bool,
    probing: Option<Probing>,
    claim: Option<Claim>,
    /// No process of this run can become its main process any more.
    settled: bool,
    /// What it does beside running, in its own words; then what it says of itself.
    phase: Option<&'static str>,
    status: String,
    /// A stranger has sent to its socket, and that was said.
    strangers: bool,
}

/// A process that says it is the main one; the trees thread is asked whether it is the run's.
struct Claim {
    pid: u32,
    /// A later claim, asked about when this one is answered.
    next: Option<u32>,
    /// The present main process has ended meanwhile.
    ended: bool,
}

impl Readying {
    pub(crate) fn new(prober: Prober) -> Self {
        Self { prober, voices: HashMap::new(), tokens: HashMap::new(), next_probing: 0 }
    }
}

impl Edge {
    /// Listens to a run from now on, and probes it where that is asked for: by the configuration that holds
    /// now, which may be later than the one it was started with.
    pub(crate) fn listen(&mut self, id: RunId, ears: Ears) {
        let probe = self.probe_of(id);
        let said = ears.socket.is_none() && ears.pipe.is_none();
        if said && probe.is_none() {
            return;
        }
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
        let voice = Voice {
            ears,
            tokens,
            probe,
            said,
            ready: false,
            probing: None,
            claim: None,
            settled: false,
            phase: None,
            status: String::new(),
            strangers: false,
        };
        self.ready_runs.voices.insert(id, voice);
        if said {
            self.go_on(id);
        }
    }

    /// Listens again to a run that was found; one that was ready need not become so again.
    pub(crate) fn listen_again(&mut self, id: RunId, ears: Ears, ready: bool) {
        if ready {
            let Ears { socket, .. } = ears;
            self.listen(id, Ears { socket, pipe: None, uid: ears.uid });
            if let Some(voice) = self.ready_runs.voices.get_mut(&id) {
                voice.ready = true;
            }
        } else {
            self.listen(id, ears);
        }
    }

    fn probe_of(&self, id: RunId) -> Option<Probe> {
        let started = &self.runs.get(&id)?.unit;
        let now = self.units.get(&started.config.spec.name).unwrap_or(started);
        now.config.readiness.probe.clone()
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
        let Some(socket) = &voice.ears.socket else { return };
        let mut buffer = [0u8; DATAGRAM];
        let (mut all, mut stranger) = (None::<Words>, None);
        for _ in 0..MOST_DATAGRAMS {
            // An error of this socket concerns this run alone; timeout_start ends the wait.
            let Ok(Some(datagram)) = socket.receive(&mut buffer) else { break };
            match datagram.sender {
                Some(who) if who.uid == voice.ears.uid || who.uid == 0 => {
                    let words = Words::read(&buffer[..datagram.len], datagram.cut);
                    all = Some(match all {
                        Some(before) => before.and(words),
                        None => words,
                    });
                }
                Some(who) => stranger = Some(who.uid),
                None => {}
            }
        }
        if let Some(uid) = stranger.filter(|_| !std::mem::replace(&mut voice.strangers, true)) {
            let text = format!("{}: a notification from user {uid} was ignored", self.name_of_run(id));
            self.say(Level::Warn, text);
        }
        if let Some(words) = all {
            self.take_words(id, words);
        }
    }

    fn take_words(&mut self, id: RunId, words: Words) {
        let Some(voice) = self.ready_runs.voices.get_mut(&id) else { return };
        let before = voice.shown();
        if words.ready {
            voice.phase = None;
        }
        if words.reloading {
            voice.phase = Some("reloading");
        }
        if words.stopping {
            voice.phase = Some("stopping by itself");
        }
        if let Some(status) = words.status {
            voice.status = status;
        }
        let after = voice.shown();
        if after != before {
            self.publisher.send(Note::Told { run: id, text: after });
        }
        if let Some(pid) = words.main_pid {
            self.claim(id, pid);
        }
        if words.ready {
            self.said_ready(id);
        }
    }

    /// A newline means ready. The end without one means that it will never be.
    fn hear_pipe(&mut self, id: RunId) {
        let Some(voice) = self.ready_runs.voices.get_mut(&id) else { return };
        let Some(pipe) = &voice.ears.pipe else { return };
        let mut buffer = [0u8; DATAGRAM];
        let said = match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => false,
            Ok(length) if buffer[..length].contains(&b'\n') => true,
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            Err(_) => false,
        };
        let _gone = self.epoll.delete(pipe);
        voice.ears.pipe = None;
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
            self.go_on(id);
        }
    }

    /// It has said all that it has to say: now it is probed, or ready.
    fn go_on(&mut self, id: RunId) {
        let Readying { prober, voices, next_probing, .. } = &mut self.ready_runs;
        let Some(voice) = voices.get_mut(&id).filter(|voice| voice.said && !voice.ready) else { return };
        match &voice.probe {
            Some(probe) => {
                *next_probing += 1;
                // The one before ends first.
                voice.probing = None;
                voice.probing = Some(prober.begin(id, probe.clone(), *next_probing));
            }
            None => {
                voice.ready = true;
                self.events.push_back(Event::Ready { run: id });
            }
        }
    }

    /// News of the probes of a run.
    pub(crate) fn probed(&mut self, id: RunId, number: u64, what: Probed) {
        let Some(voice) = self.ready_runs.voices.get_mut(&id) else { return };
        // Of probes that were ended meanwhile nothing is believed.
        if voice.probing.as_ref().is_none_or(|probing| probing.number != number) {
            return;
        }
        let text = match what {
            Probed::Badly(why) => Some(format!("not ready yet: {why}")),
            Probed::Well => {
                voice.probing = None;
                voice.ready = true;
                self.events.push_back(Event::Ready { run: id });
                voice.shown()
            }
        };
        self.publisher.send(Note::Told { run: id, text });
    }

    /// A run is asked to stop: whether it is ready concerns nobody any more.
    pub(crate) fn stop_probing(&mut self, id: RunId) {
        if let Some(voice) = self.ready_runs.voices.get_mut(&id) {
            voice.probing = None;
            voice.ready = true;
        }
    }

    /// Another configuration holds: runs that are waited for are asked what that says. To be told before the
    /// core hears of it, for which they are ready now if nothing is asked any more.
    pub(crate) fn probe_anew(&mut self) {
        let waiting = self.ready_runs.voices.iter().filter(|(_, voice)| !voice.ready);
        for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            let probe = self.probe_of(id);
            let Some(voice) = self.ready_runs.voices.get_mut(&id).filter(|voice| voice.probe != probe) else {
                continue;
            };
            voice.probe = probe;
            voice.probing = None;
            self.go_on(id);
        }
    }

    /// Nothing of the run is left.
    pub(crate) fn stop_listening(&mut self, id: RunId) {
        let Some(voice) = self.ready_runs.voices.remove(&id) else { return };
        for token in &voice.tokens {
            self.ready_runs.tokens.remove(token);
        }
        if let Some(pipe) = &voice.ears.pipe {
            let _gone = self.epoll.delete(pipe);
        }
        if let Some(socket) = &voice.ears.socket {
            let _gone = self.epoll.delete(socket);
        }
        if let Some(path) = voice.ears.path() {
            self.trees.forget(path);
        }
    }

    fn name_of_run(&self, id: RunId) -> String {
        self.runs.get(&id).map_or_else(|| format!("run {id}"), |run| run.unit.config.spec.name.clone())
    }
}

/// A new main process.
impl Edge {
    fn claim(&mut self, id: RunId, pid: u32) {
        let Some(run) = self.runs.get(&id) else { return };
        let Some((main, _)) = run.main() else { return };
        let Some(voice) = self.ready_runs.voices.get_mut(&id).filter(|voice| !voice.settled) else { return };
        match &mut voice.claim {
            Some(claim) => claim.next = Some(pid),
            None if main.pid == pid => {}
            None => {
                voice.claim = Some(Claim { pid, next: None, ended: false });
                self.trees.claim(id, &run.tree, pid);
            }
        }
    }

    /// Whether the end of a run's main process has to wait: its last words may have named another.
    pub(crate) fn holds_end(&mut self, id: RunId) -> bool {
        self.hear_socket(id);
        let held = self.ready_runs.voices.get_mut(&id).and_then(|voice| voice.claim.as_mut());
        let (Some(claim), Some(run)) = (held, self.runs.get(&id)) else { return false };
        claim.ended = true;
        if let Stage::Main { pidfd, .. } = &run.stage {
            // It stays ready for ever.
            let _gone = self.epoll.delete(pidfd);
        }
        true
    }

    /// Whether the process that was claimed is one of the run's: then it is the main one from now on.
    pub(crate) fn claimed(&mut self, id: RunId, found: Option<(ProcessId, PidFd)>) {
        let Some(voice) = self.ready_runs.voices.get_mut(&id) else { return };
        let Some(claim) = voice.claim.take() else { return };
        match found {
            Some((process, pidfd)) => self.change_main(id, process, pidfd),
            None => {
                let text = format!(
                    "{}: {} is no process of its own: MAINPID ignored",
                    self.name_of_run(id),
                    claim.pid
                );
                self.say(Level::Warn, text);
                if claim.ended {
                    // One that goes on claiming cannot put off the end for ever.
                    self.settle(id);
                    self.main_ended(id);
                    return;
                }
            }
        }
        if let Some(next) = claim.next {
            self.claim(id, next);
        }
    }

    fn settle(&mut self, id: RunId) {
        if let Some(voice) = self.ready_runs.voices.get_mut(&id) {
            voice.settled = true;
        }
    }

    fn change_main(&mut self, id: RunId, process: ProcessId, pidfd: PidFd) {
        let Some(Stage::Main { pidfd: old, .. }) = self.runs.get(&id).map(|run| &run.stage) else { return };
        let _gone = self.epoll.delete(old);
        self.watched.retain(|_, watched| *watched != (id, None));
        self.watch_process(id, None, &pidfd);
        if let Some(run) = self.runs.get_mut(&id) {
            run.stage = Stage::Main { process, pidfd };
        }
        self.note_main(id, process);
        // The old one is a child like any other now.
        self.expect_orphans();
    }
}

impl Voice {
    fn shown(&self) -> Option<String> {
        match (self.phase, self.status.as_str()) {
            (None, "") => None,
            (Some(phase), "") => Some(phase.into()),
            (None, status) => Some(status.into()),
            (Some(phase), status) => Some(format!("{phase}: {status}")),
        }
    }
}
