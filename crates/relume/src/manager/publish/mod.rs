//! *Shown* here: every fact becomes a state in the status, a line in the log and on the terminal, a record in
//! the event stream, an answer to whoever waits.
//!
//! One thread takes notes from the others in order. It folds facts into the [`Board`], which clients read, and
//! hands lines and files to threads that may block on a disk or a terminal; it does not wait for those. An
//! answer to a client is a note too, so it leaves after the facts it rests on are on the board.
//!
//! It must never compute a state of its own or decide anything: it renders what was decided.

mod board;
mod desk;
mod explain;
mod outlets;
mod own_log;
mod report;
mod store;
mod tape;
mod words;

use std::collections::{BTreeSet, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use relume_core::{
    Cause, Fact, Moment, Outcome, Remembered, RunId, ServiceId, Snapshot, State, Ticket, What,
};
use relume_os::cgroup::RunCgroup;
use relume_os::exit::Usage;
use relume_os::memory;
use relume_proto::EventRecord;

pub(crate) use board::{Beginnings, Board};
pub(crate) use desk::{Desk, so_far};
pub(crate) use explain::explain;
pub(crate) use outlets::{Outlets, Terminal};
pub(crate) use own_log::OwnLog;
pub(crate) use report::status_report;
pub(crate) use store::Store;
pub(crate) use tape::Follower;

use super::alerts::Alerts;
use super::archive::{self, Archive};
use super::capture::Report;
use super::gate::Gate;
use super::lull::Lull;
use super::units::Units;
use crate::places::Places;
use crate::systemd::Teller;

/// How far the status file may be behind. The promise is 200 ms; what is left of it is the disk's.
const STATUS_DELAY: Duration = Duration::from_millis(100);

/// What is to be shown.
#[derive(Debug)]
pub(crate) enum Note {
    /// What the core has decided.
    Facts {
        /// In order.
        facts: Vec<Fact>,
        /// The run whose main process had ended when they were decided.
        ended: Option<RunId>,
    },
    /// The configuration that holds from now on.
    Units(Arc<Units>),
    /// The main process of a run is this one.
    Process {
        /// The run.
        run: RunId,
        /// Its process.
        pid: u32,
        /// When it was started.
        began: Moment,
        /// The cgroup that all of the run is in; none: it is in none of its own.
        cgroup: Option<RunCgroup>,
    },
    /// What a run says of itself, or its probes of it, is this from now on.
    Told {
        /// The run.
        run: RunId,
        /// For people; none: nothing any more.
        text: Option<String>,
    },
    /// What the main process of a run has used, told before its end is.
    Used {
        /// The run.
        run: RunId,
        /// What.
        usage: Usage,
    },
    /// All that was to be known at the beginning has been told: clients may be served.
    Open(Sender<()>),
    /// There is no guardian any more.
    GuardianGone,
    /// The last good configuration holds instead of the configured one, until another is taken over.
    SafeMode,
    /// What came of a command for one service.
    Reply {
        /// The command.
        ticket: Ticket,
        /// The service.
        service: ServiceId,
        /// What came of it.
        outcome: Outcome,
    },
    /// What a client of an earlier manager waits for.
    TakenUp {
        /// The command.
        ticket: Ticket,
        /// Who has not been answered for.
        left: BTreeSet<ServiceId>,
        /// What came of it until now.
        answered: Vec<(ServiceId, Outcome)>,
    },
    /// Something people should know that is no fact of the core's.
    Say {
        /// How bad it is.
        level: Level,
        /// A sentence.
        text: String,
    },
    /// News of the log files.
    Capture(Report),
    /// Who wants to know of changes of state can be told from now on.
    Alerts(Box<Alerts>),
    /// The archive has lost what it knew of the services.
    RememberAll,
    /// Answered when all before it has been shown.
    Settle(Sender<()>),
    /// The manager leaves: everything is to be brought out.
    Leave,
}

/// How bad something is, by what follows from it for whoever reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// relume itself cannot do what it should.
    Error,
    /// Somebody should look.
    Warn,
    /// What happened.
    Info,
    /// Why relume did what it did.
    Debug,
}

/// The sending side. Sending never waits.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    notes: Sender<Note>,
}

impl Publisher {
    pub(crate) fn send(&self, note: Note) {
        // The thread ends only when the manager leaves; then nobody is left to be told.
        let _ended = self.notes.send(note);
    }
}

/// What the thread works with.
pub(crate) struct Publishing {
    pub(crate) board: Arc<Mutex<Board>>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) outlets: Outlets,
    pub(crate) archive: Archive,
    pub(crate) systemd: Teller,
    /// Until when nothing is shown.
    pub(crate) gate: Gate,
}

/// Starts the thread.
pub(crate) fn start(publishing: Publishing) -> std::io::Result<(Publisher, JoinHandle<()>)> {
    let (notes, queue) = channel();
    let thread = std::thread::Builder::new().name("publish".into()).spawn(move || {
        Thread { publishing, alerts: None, stale_since: None, litter: LITTER, again: false }.run(&queue)
    })?;
    Ok((Publisher { notes }, thread))
}

struct Thread {
    publishing: Publishing,
    /// There are none before there is a network thread.
    alerts: Option<Box<Alerts>>,
    /// Since when the status file has been behind.
    stale_since: Option<Instant>,
    /// Notes shown since memory was last given back.
    litter: usize,
    /// It is given back once more.
    again: bool,
}

/// After so many notes, and at the beginning, the next quiet moment is used to give memory back: what a start, or many
/// at once, needed for a while would otherwise stay.
const LITTER: usize = 1000;

/// Between two looks whether there is room for what log or terminal still has to say: with the wait for a disk (250 ms)
/// it is said within a second.
const OWING: Duration = Duration::from_millis(250);

/// What counts as quiet. By then what a start has written is in the archive too.
const QUIET: Duration = Duration::from_secs(2);

/// When what was given back is given back again: threads that come to rest later have mapped code for the last time.
const LATER: Duration = Duration::from_secs(8);

impl Thread {
    fn run(mut self, queue: &Receiver<Note>) {
        let mut lull = Lull::default();
        self.publishing.gate.pass();
        loop {
            match self.next(queue, &mut lull) {
                Ok(Note::Leave) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(note) => {
                    self.litter += 1;
                    self.show(note);
                }
                Err(RecvTimeoutError::Timeout) if self.publishing.outlets.owe() => {
                    self.publishing.outlets.catch_up();
                }
                Err(RecvTimeoutError::Timeout) if self.stale_since.is_none() => self.tidy_up(),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.stale_since.is_some_and(|since| since.elapsed() >= STATUS_DELAY) {
                self.write_status();
            }
        }
        self.write_status();
        let Publishing { board, outlets, archive, .. } = self.publishing;
        // Services that run on are no end in order: what was asked of them holds until there is one.
        let in_order = board.lock().unwrap_or_else(PoisonError::into_inner).memory.shutdown.is_some();
        archive.finish(in_order);
        outlets.finish();
    }

    fn next(&self, queue: &Receiver<Note>, lull: &mut Lull) -> Result<Note, RecvTimeoutError> {
        match queue.try_recv() {
            Ok(note) => return Ok(note),
            Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) => lull.rest(),
        }
        let patience = match self.stale_since {
            None if self.publishing.outlets.owe() => Some(OWING),
            None if self.litter >= LITTER => Some(QUIET),
            None if self.again => Some(LATER),
            None => None,
            Some(since) => Some(STATUS_DELAY.saturating_sub(since.elapsed())),
        };
        match patience {
            Some(patience) => queue.recv_timeout(patience),
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn tidy_up(&mut self) {
        self.again = std::mem::take(&mut self.litter) >= LITTER;
        memory::give_back_heap();
        // What is not given back stays mapped.
        let _mapped = memory::give_back_code();
    }

    fn show(&mut self, note: Note) {
        let Publishing { board, desk, outlets, archive, systemd, .. } = &mut self.publishing;
        let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
        match note {
            Note::Facts { facts, ended } => {
                if let Some(name) = ended.and_then(|run| board.process_ended(run)) {
                    outlets.pid(&name, None);
                }
                for fact in facts {
                    if let What::ShutdownBegan { .. } = fact.what {
                        systemd.stopping();
                    }
                    let record = board.learn(&fact);
                    outlets.fact(&board, &fact, record.as_ref());
                    archive.reached(fact.seq);
                    remember(archive, &board, &fact);
                    if let Some(name) = job_done(&board, &fact) {
                        archive.job_done(name);
                    }
                    if let Some(record) = record {
                        let unit = fact.what.service().and_then(|id| Some((id, board.unit(id)?)));
                        if let (Some(alerts), Some((service, unit))) = (&mut self.alerts, unit) {
                            alerts.tell(service, unit, &record);
                        }
                        archive.event(record.clone());
                        desk.tell(record);
                    }
                }
                self.stale_since.get_or_insert_with(Instant::now);
            }
            Note::Units(units) => {
                outlets.reconfigure(&units);
                board.safe_mode = false;
                board.reconfigure(units);
            }
            Note::Told { run, text } => board.told(run, text),
            Note::Used { run, usage } => board.used(run, usage),
            Note::Open(door) => {
                // The API has not come up: then there is nobody to serve.
                let _closed = door.send(());
                // At once, and again with the next status if there was no room.
                let _later = systemd.ready(|| report::status_file(&board));
                self.stale_since.get_or_insert_with(Instant::now);
            }
            Note::SafeMode => board.safe_mode = true,
            Note::GuardianGone => board.guardian = std::process::id(),
            Note::Process { run, pid, began, cgroup } => {
                let process = board::Process { pid, started: began, cgroup };
                if let Some(name) = board.process_began(run, process) {
                    outlets.pid(&name, Some(pid));
                }
                self.stale_since.get_or_insert_with(Instant::now);
            }
            Note::Reply { ticket, service, outcome } => desk.reply(&board, ticket, service, &outcome),
            Note::TakenUp { ticket, left, answered } => desk.take_up(&board, ticket, left, &answered),
            Note::Say { level, text } => outlets.say(level, &text),
            Note::Capture(report) => outlets.capture(&report),
            Note::RememberAll => {
                for record in board.memory.services.values() {
                    archive.remember(Remembered::of(record), archive::is_asked(record.intent));
                }
            }
            Note::Settle(done) => {
                // Whoever asked has waited long enough.
                let _gone = done.send(());
            }
            Note::Alerts(alerts) => self.alerts = Some(alerts),
            Note::Leave => {}
        }
    }

    fn write_status(&mut self) {
        self.stale_since = None;
        let board = self.publishing.board.lock().unwrap_or_else(PoisonError::into_inner);
        let file = report::status_file(&board);
        drop(board);
        if !self.publishing.systemd.tell(&file) {
            self.stale_since = Some(Instant::now());
        }
        self.publishing.outlets.status(&file);
    }
}

/// Keeps what a fact has changed of what a later boot has to know.
fn remember(archive: &Archive, board: &Board, fact: &Fact) {
    let asked = match &fact.what {
        What::IntentSet { .. } => true,
        What::RunBegan { .. } | What::RunEnded { .. } | What::HistorySet { .. } | What::Adopted { .. } => {
            false
        }
        // A service that has left the configuration keeps its row: should it come back, its numbers go on.
        What::Added { .. }
        | What::Removed { .. }
        | What::Retired { .. }
        | What::ReplaceSet { .. }
        | What::Moved { .. }
        | What::SideMoved { .. }
        | What::SideEnded { .. }
        | What::Probed { .. }
        | What::ConfigApplied { .. }
        | What::ConfigRefused { .. }
        | What::ShutdownBegan { .. }
        | What::StillAlive { .. }
        | What::Returned { .. }
        | What::Noticed { .. }
        | What::LooksForking { .. }
        | What::Stale { .. } => return,
    };
    if let Some(record) = fact.what.service().and_then(|id| board.memory.services.get(&id)) {
        archive.remember(Remembered::of(record), asked);
    }
}

/// The job that has been done with this fact.
fn job_done<'a>(board: &'a Board, fact: &Fact) -> Option<&'a str> {
    let What::Moved { service, to: State::Completed, .. } = &fact.what else { return None };
    let record = board.memory.services.get(service)?;
    matches!(record.last_end.as_ref()?.cause, Cause::Exited(_)).then_some(&record.name)
}

/// The events that these facts were shown as, the latest [`TOLD_AGAIN`] of them.
pub(crate) fn events_of(
    units: &Arc<Units>,
    places: &Places,
    chapters: Vec<(Snapshot, Vec<Fact>)>,
) -> Vec<EventRecord> {
    let mut events = VecDeque::new();
    for (memory, facts) in chapters {
        let beginnings = Beginnings { memory, began: Moment(0), recoveries: 0, respawns: 0, guardian: 0 };
        let mut board = Board::new(Arc::clone(units), places.clone(), beginnings);
        for fact in &facts {
            events.extend(board.learn(fact));
            if events.len() > TOLD_AGAIN {
                events.pop_front();
            }
        }
    }
    events.into()
}

/// More than can have been waiting to be written when a manager died.
const TOLD_AGAIN: usize = 4096;
