//! The manager's side of the channel to the guardian: what must not be lost is kept there under a name.
//!
//! Saying something never waits. What the channel has no room for is late: it is said as soon as there is room, in
//! order ([`Keeper::catch_up`]).
//!
//! Beside that it is written down here which descriptors are kept under which names, by number and identity: should
//! the guardian die, this process becomes the guardian and has them all ([`super::promotion`]).

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use relume_os::channel::{Channel, Received, Sending, is_gone};
use relume_os::inherit::Handle;
use relume_os::limits::{Limit, Resource};
use relume_os::pidfd::{PidFd, ProcessId};
use relume_os::signals::Arrived;
use relume_os::{Errno, OsError, sockets};
use smallvec::SmallVec;

use crate::guardian::link::{self, Ended, Why};
use crate::guardian::table::Table;
use crate::guardian::{CONFIG, GOOD_CONFIG};
use crate::roles::{CRASHED, GUARDIAN, RESPAWNED};

/// What the guardian says.
#[derive(Debug)]
pub(crate) enum Word {
    /// A signal meant for relume.
    Signal {
        /// Which.
        arrived: Arrived,
        /// This may have been said before.
        again: bool,
    },
    /// A process that was handed to the guardian has ended.
    Exited(Ended),
    /// The guardian has replaced itself; why, for people.
    Replaced(String),
    /// This process, which has come up beside the manager, is the manager from now on. Supervision ended then, in nanoseconds on
    /// CLOCK_MONOTONIC.
    Go {
        /// When.
        since: u64,
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
    pidfd: Option<PidFd>,
    state: Mutex<State>,
    told: Told,
    /// What relume was started with, before this process raised its own.
    limits: Vec<(Resource, Limit)>,
}

#[derive(Debug, Default)]
struct State {
    /// What the guardian said while it was waited for what it kept.
    early: VecDeque<String>,
    /// Messages that the channel had no room for, in order.
    late: VecDeque<(String, Vec<OwnedFd>)>,
    /// What is kept, by name.
    handles: BTreeMap<Box<str>, SmallVec<[Handle; 1]>>,
    /// What is kept and used by nobody here: it stays open for a guardian that this process may become.
    held: Vec<OwnedFd>,
    /// What somebody should hear of.
    trouble: Option<String>,
    /// How often something was kept or forgotten.
    changes: u64,
}

impl State {
    /// Without a guardian there is nobody to keep anything. What cannot be sent for another reason is missing there.
    fn unsent(&mut self, error: OsError) {
        if is_gone(&error) {
            self.late.clear();
        } else {
            self.trouble = Some(format!("the guardian does not keep what it should: {error}"));
        }
    }
}

/// This process was a manager before and has executed itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Anew {
    /// After a crash of its own, by this signal.
    pub(crate) crash: Option<i32>,
}

/// What the guardian had to say before this manager began.
#[derive(Debug, Default)]
struct Told {
    ended: Vec<Ended>,
    /// Words that are not about what it kept, in order.
    other: VecDeque<String>,
    why: Option<Why>,
    ignores_hangup: bool,
    /// The guardian can be told of a successor.
    hands_over: bool,
    /// All that is kept was named.
    whole: bool,
    /// Names of which the descriptors had no room here.
    lost: usize,
}

/// The channel that the guardian left, before all is taken from it that it keeps.
pub(crate) struct Greeted {
    channel: Channel,
    guardian: u32,
    pidfd: Option<PidFd>,
    patience: Patience,
}

impl Keeper {
    /// Takes over the channel that the guardian left. The guardian sends all that it kept before it does anything else, or, to a
    /// manager that has executed itself (`anew`), when it is asked, which is now. One that is silent for `watchdog` is killed, and
    /// its place taken as soon as this process supervises; what it kept is found again as after the death of both halves.
    pub(crate) fn greet(
        channel: Channel,
        anew: Option<Anew>,
        watchdog: Arc<OnceLock<Option<Duration>>>,
    ) -> relume_os::Result<Greeted> {
        let (guardian, pidfd) = guardian_of(&channel)?;
        let mut patience = Patience::new(watchdog);
        if let Some(Anew { crash }) = anew {
            let hello = link::hello(crash);
            let late = || matches!(channel.send(hello.as_bytes(), &[]), Ok(Sending::Full | Sending::Short));
            while late() && patience.wait(pidfd.as_ref()) {}
        }
        Ok(Greeted { channel, guardian, pidfd, patience })
    }

    /// The same in a process that comes up beside the manager, from which it has the channel, and which plays the guardian until it has
    /// sent all that is kept. For its silence nobody is killed.
    pub(crate) fn greet_predecessor(channel: Channel) -> relume_os::Result<Greeted> {
        let (guardian, pidfd) = guardian_of(&channel)?;
        let patience = Patience { kills: false, ..Patience::new(Arc::default()) };
        Ok(Greeted { channel, guardian, pidfd, patience })
    }

    /// One whose guardian has gone.
    #[cfg(test)]
    pub(crate) fn bereft() -> Self {
        let (channel, _gone) = Channel::pair().unwrap();
        let (state, told) = Default::default();
        Self { channel, guardian: std::process::id(), pidfd: None, state, told, limits: Vec::new() }
    }

    /// The guardian's pid.
    pub(crate) fn guardian(&self) -> u32 {
        self.guardian
    }

    /// Ends of processes that the guardian had reaped before this manager began.
    pub(crate) fn ended(&self) -> &[Ended] {
        &self.told.ended
    }

    /// Why the guardian has started this manager; none: it is the first, or the same.
    pub(crate) fn why(&self) -> Option<&Why> {
        self.told.why.as_ref()
    }

    /// Has descriptors kept under a name.
    pub(crate) fn keep(&self, name: &str, fds: &[BorrowedFd<'_>]) {
        let mut state = self.lock();
        state.changes += 1;
        state.handles.insert(name.into(), handles_of(fds.iter().copied()));
        self.say(&mut state, &link::keep(name), fds);
    }

    /// Has what is kept under a name closed.
    pub(crate) fn forget(&self, name: &str) {
        let mut state = self.lock();
        state.changes += 1;
        state.handles.remove(name);
        self.say(&mut state, &link::forget(name), &[]);
    }

    /// Supervision has begun.
    pub(crate) fn ready(&self) {
        self.say(&mut self.lock(), link::READY, &[]);
    }

    /// This manager lives, and may be silent for so long; none: it is not to be watched.
    pub(crate) fn alive(&self, period: Option<Duration>) {
        self.say(&mut self.lock(), &link::alive(period), &[]);
    }

    /// The ends up to this number are in the journal.
    pub(crate) fn acknowledge(&self, upto: u64) {
        self.say(&mut self.lock(), &link::ack(upto), &[]);
    }

    /// So many more of the signals that the guardian has told are dealt with.
    pub(crate) fn signals_heard(&self, signals: usize) {
        self.say(&mut self.lock(), &link::heard(signals), &[]);
    }

    /// This manager is about to end by itself.
    pub(crate) fn leave(&self, code: u8) {
        self.say(&mut self.lock(), &link::leave(code, false), &[]);
    }

    /// This manager is about to end by itself, and the services run on.
    pub(crate) fn detach(&self) {
        self.say(&mut self.lock(), &link::leave(0, true), &[]);
    }

    /// Whether the guardian has not yet read all that was said.
    pub(crate) fn is_unheard(&self) -> bool {
        self.channel.has_unread().unwrap_or(false)
    }

    /// Whether the guardian has all that was said: what is under way would die with this image.
    pub(crate) fn is_settled(&self) -> bool {
        self.lock().late.is_empty() && !self.is_unheard()
    }

    /// How often something was kept or forgotten: while it stays the same, who was given all of it has all of it.
    pub(crate) fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Names and numbers of all that is kept.
    pub(crate) fn handles(&self) -> Vec<(Box<str>, SmallVec<[Handle; 1]>)> {
        self.lock().handles.iter().map(|(name, handles)| (name.clone(), handles.clone())).collect()
    }

    /// What a successor is told after all that is kept.
    pub(crate) fn kept_all(&self) -> String {
        link::kept_all(None, self.told.ignores_hangup)
    }

    /// Whether the guardian can be told of a successor: one of an older version cannot.
    pub(crate) fn hands_over(&self) -> bool {
        self.told.hands_over
    }

    /// What relume was started with, before this process raised its own.
    pub(crate) fn limits(&self) -> &[(Resource, Limit)] {
        &self.limits
    }

    /// Says that a successor goes on: its pidfd, and the end of its channel that was ours. `since`: when supervision ended.
    ///
    /// # Errors
    /// It was not said, and this process is still the manager.
    pub(crate) fn hand_over(
        &self,
        (process, since): (ProcessId, u64),
        fds: [BorrowedFd<'_>; 2],
    ) -> relume_os::Result<bool> {
        let mut state = self.lock();
        if !self.flush(&mut state) {
            return Ok(false);
        }
        let sent = self.channel.send(link::successor(process, since).as_bytes(), &fds)?;
        Ok(sent == Sending::Sent)
    }

    /// Whether the guardian lives, as far as can be told.
    pub(crate) fn has_guardian(&self) -> bool {
        self.pidfd.as_ref().is_none_or(|pidfd| pidfd.has_ended().is_ok_and(|ended| !ended))
    }

    /// Whether the guardian has ended within this time.
    pub(crate) fn has_lost_guardian(&self, patience: Duration) -> bool {
        self.pidfd.as_ref().is_none_or(|pidfd| pidfd.wait_ended(patience).unwrap_or(true))
    }

    /// Kills a guardian that does not answer; its place is taken when its channel closes.
    pub(crate) fn kill_guardian(&self) -> relume_os::Result<()> {
        let kill = relume_os::signals::parse("KILL").unwrap_or(9);
        self.pidfd.as_ref().map_or(Ok(()), |pidfd| pidfd.send_signal(kill).map(drop))
    }

    /// Says what is late; whether all is said.
    pub(crate) fn catch_up(&self) -> bool {
        self.flush(&mut self.lock())
    }

    /// What this process has to hand over to be the guardian.
    pub(crate) fn table(&self, why: Why, period: Option<Duration>) -> Table {
        let state = self.lock();
        Table {
            limits: self.limits.clone(),
            ignores_hangup: self.told.ignores_hangup,
            period,
            why,
            kept: state.handles.iter().map(|(name, handles)| (name.to_string(), handles.to_vec())).collect(),
            manager: None,
            exits: Vec::new(),
            told: 0,
            // The dead guardian's children are init's by now.
            strangers: Vec::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, state: &mut State, text: &str, fds: &[BorrowedFd<'_>]) {
        if self.flush(state) {
            match self.channel.send(text.as_bytes(), fds) {
                Ok(Sending::Sent) => return,
                Ok(Sending::Full | Sending::Short) => {}
                Err(error) => return state.unsent(error),
            }
        }
        let copies = fds.iter().map(|fd| fd.try_clone_to_owned()).collect::<Result<Vec<_>, _>>();
        match copies {
            Ok(copies) => state.late.push_back((text.to_owned(), copies)),
            Err(error) => state.trouble = Some(format!("the guardian does not keep what it should: {error}")),
        }
    }

    /// Sends what is late, in order; whether all is sent.
    fn flush(&self, state: &mut State) -> bool {
        while let Some((text, fds)) = state.late.front() {
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            match self.channel.send(text.as_bytes(), &fds) {
                Ok(Sending::Full | Sending::Short) => return false,
                Ok(Sending::Sent) => drop(state.late.pop_front()),
                Err(error) => {
                    state.late.pop_front();
                    state.unsent(error);
                }
            }
        }
        true
    }

    /// What is to be said about it, once.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.lock().trouble.take()
    }

    /// What the guardian says next; none: nothing now.
    pub(crate) fn hear(&self) -> Option<Word> {
        loop {
            let early = self.lock().early.pop_front();
            let text = match early {
                Some(text) => text,
                None => match self.channel.receive() {
                    Ok(Received::Message(message)) => String::from_utf8_lossy(&message.bytes).into_owned(),
                    Ok(Received::Nothing) => return None,
                    Ok(Received::Closed) | Err(_) => return Some(Word::Gone),
                },
            };
            if let (Some(signal), Some(code)) = (link::number(&text, "SIGNAL"), link::number(&text, "CODE")) {
                let again = link::value(&text, "AGAIN") == Some("1");
                return Some(Word::Signal { arrived: Arrived { signal, code, pid: 0, uid: 0 }, again });
            }
            if let Some(ended) = link::ended(&text) {
                return Some(Word::Exited(ended));
            }
            if let Some(why) = link::value(&text, "REPLACED") {
                return Some(Word::Replaced(why.to_owned()));
            }
            if let Some(since) = link::number(&text, "GO") {
                return Some(Word::Go { since });
            }
        }
    }
}

impl AsFd for Keeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// The guardian's pid, where this process was told by the manager that it was, or before this one. Beside the words of such a manager
/// alone: what an older program has passed on says nothing.
pub(crate) fn said_guardian() -> Option<u32> {
    let told = [RESPAWNED, CRASHED].iter().any(|word| std::env::var_os(word).is_some());
    std::env::var(GUARDIAN).ok().filter(|_| told)?.parse().ok()
}

/// Whoever has made the channel, unless that was a manager, who has then said who it is.
fn guardian_of(channel: &Channel) -> relume_os::Result<(u32, Option<PidFd>)> {
    let pid = said_guardian().map_or_else(|| sockets::peer(channel).map(|peer| peer.pid), Ok)?;
    Ok((pid, ProcessId::of(pid)?.map(ProcessId::open).transpose()?.flatten()))
}

/// One that cannot be identified would not be handed on either.
fn handles_of<'a>(fds: impl Iterator<Item = BorrowedFd<'a>>) -> SmallVec<[Handle; 1]> {
    fds.filter_map(|fd| Handle::of(fd).ok()).collect()
}

impl Greeted {
    /// Waits for all that the guardian kept.
    pub(crate) fn take_over(self, limits: Vec<(Resource, Limit)>) -> relume_os::Result<(Arc<Keeper>, Kept)> {
        let Self { channel, guardian, pidfd, mut patience } = self;
        let (mut kept, mut told) = receive_all(&channel, &mut patience, pidfd.as_ref())?;
        if !patience.kills && (!told.whole || told.lost > 0) {
            // Who goes on with a part would have lost the rest; the manager that has it is there.
            return Err(OsError::new("take over all that is kept", Errno::PIPE));
        }
        let mut state = State { early: std::mem::take(&mut told.other), ..State::default() };
        let handles =
            kept.iter().map(|(name, fds)| (name.as_str().into(), handles_of(fds.iter().map(AsFd::as_fd))));
        state.handles = handles.collect();
        for name in [CONFIG, GOOD_CONFIG] {
            state.held.extend(kept.remove(name).into_iter().flatten());
        }
        if told.lost > 0 {
            let lost = told.lost;
            let text = "descriptors that the guardian keeps had no room here (too many open files): they are opened again";
            state.trouble = Some(format!("{lost} {text}"));
        }
        let state = Mutex::new(state);
        Ok((Arc::new(Keeper { channel, guardian, pidfd, state, told, limits }), kept))
    }
}

/// How long the guardian may be silent while it is waited for: where no period is configured there is still nobody who supervises.
const SILENCE: Duration = Duration::from_secs(10);

/// The shortest, whatever the period.
const SHORTEST_SILENCE: Duration = Duration::from_secs(1);

/// How long one that was killed may take to be gone.
const DYING: Duration = Duration::from_secs(1);

/// The guardian answers within a millisecond; only where it has not is it looked at less often.
const SOON: Duration = Duration::from_millis(20);

/// Most that counts of one pause: who is stopped himself blames nobody.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits for the guardian, within limits.
struct Patience {
    watchdog: Arc<OnceLock<Option<Duration>>>,
    /// For how long it has been silent.
    silent: Duration,
    /// One that is silent for too long is killed.
    kills: bool,
    killed: bool,
}

impl Patience {
    fn new(watchdog: Arc<OnceLock<Option<Duration>>>) -> Self {
        Self { watchdog, silent: Duration::ZERO, kills: true, killed: false }
    }

    /// It has said something.
    fn heard(&mut self) {
        self.silent = Duration::ZERO;
    }

    /// Waits a moment; false: long enough.
    fn wait(&mut self, guardian: Option<&PidFd>) -> bool {
        let soon = self.silent < SOON;
        let began = std::time::Instant::now();
        std::thread::sleep(if soon { Duration::from_micros(100) } else { Duration::from_millis(2) });
        self.silent += began.elapsed().min(PAUSE);
        if self.killed {
            return self.silent < DYING;
        }
        let told = self.watchdog.get().copied().flatten();
        if self.silent >= told.unwrap_or(SILENCE).max(SHORTEST_SILENCE) {
            let kill = relume_os::signals::parse("KILL").unwrap_or(9);
            let _gone = guardian.filter(|_| self.kills).map(|guardian| guardian.send_signal(kill));
            (self.killed, self.silent) = (true, Duration::ZERO);
        }
        true
    }
}

fn receive_all(
    channel: &Channel,
    patience: &mut Patience,
    guardian: Option<&PidFd>,
) -> relume_os::Result<(Kept, Told)> {
    let (mut all, mut told) = (Kept::new(), Told::default());
    loop {
        match channel.receive()? {
            Received::Message(message) => {
                patience.heard();
                let text = String::from_utf8_lossy(&message.bytes).into_owned();
                if link::is_kept_all(&text) {
                    told.why = link::value(&text, "WHY").map(Why::of);
                    told.ignores_hangup = link::value(&text, "IGNORES_HANGUP") == Some("1");
                    told.whole = true;
                    told.hands_over = link::value(&text, link::HANDS_OVER) == Some("1");
                    return Ok((all, told));
                }
                if let Some(names) = link::names_kept(&text) {
                    let mut fds = message.fds.into_iter();
                    for (name, count) in names {
                        let own: Vec<OwnedFd> = fds.by_ref().take(count).collect();
                        // Of those that had no room the last are missing; a part would stand for the whole.
                        match own.len() == count {
                            true => drop(all.insert(name.to_owned(), own)),
                            false => told.lost += 1,
                        }
                    }
                } else if let Some(ended) = link::ended(&text) {
                    told.ended.push(ended);
                } else {
                    told.other.push_back(text);
                }
            }
            // The guardian is sending: it does nothing else until it has sent all.
            Received::Nothing if patience.wait(guardian) => {}
            // It does not even die: what it keeps is not to be had.
            Received::Nothing => return Ok((all, told)),
            // Gone in the middle: this process takes its place as soon as it supervises.
            Received::Closed => return Ok((all, told)),
        }
    }
}

/// The name under which a run's pidfd is kept.
pub(crate) fn process_name(service: &str, generation: u64) -> String {
    format!("process/{service}/{generation}")
}

/// Service and generation of a run's pidfd.
pub(crate) fn process(kept: &str) -> Option<(&str, u64)> {
    let (service, generation) = kept.strip_prefix("process/")?.rsplit_once('/')?;
    Some((service, generation.parse().ok()?))
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

/// Whether this is one of the names above.
pub(crate) fn is_of_a_run(name: &str) -> bool {
    ["process/", "output/", "ears/"].iter().any(|kind| name.starts_with(kind))
}

/// The name under which the listening control socket is kept: no client is ever refused.
pub(crate) const CONTROL: &str = "control";
