//! Coming up and leaving, in the order in which each step rests on the one before.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use relume_core::{
    Command, Event, Intent, Moment, Outbox, Remembered, ServiceId, Snapshot, State, Supervisor, Survivor,
    Ticket,
};
use relume_os::cgroup::CgroupRoot;
use relume_os::epoll::{Epoll, Inotify, Timer};
use relume_os::files::{self, Lock, LockError};
use relume_os::signals::{self, SignalFd};
use relume_os::{clock, limits, notify, prctl, sockets, users};

use super::Options;
use super::api::{self, Door, Office};
use super::archive::{Archive, Copy};
use super::capture::{Capture, LOG_MODE, LogTarget, Rotate, Stream, StreamId};
use super::edge::{Edge, FIRST_PROCESS};
use super::inbox::Inbox;
use super::journal::{Journal, Remains};
use super::keeper::{self, Keeper};
use super::launch::Inheritance;
use super::leaving::Leaving;
use super::main_loop;
use super::publish::{
    self, Beginnings, Board, Desk, Level, Note, Outlets, OwnLog, Publisher, Publishing, Store, Terminal,
};
use super::ready::{Prober, Readying};
use super::recovery::{self, Found};
use super::reload::Source;
use super::spawn::{Cgroups, Ground, Spawning};
use super::translate::number;
use super::trees::Trees;
use super::units::Units;
use crate::cli::{LogStream, Screen};
use crate::places::Places;
use crate::roles::{AGAIN, LOCK_FD};

/// Signals that are read as data by the supervise thread. SIGTSTP is among them because a stopped supervisor
/// supervises nothing: Ctrl+Z does not stop relume.
const HEARD: [i32; 7] =
    [number::TERM, number::INT, number::HUP, number::QUIT, number::USR1, number::CHLD, SIGTSTP];
const SIGTSTP: i32 = 20;
const SIGXFSZ: i32 = 25;

/// How large relume's own log grows before it is rotated, and how many old ones are kept: some days of a
/// busy machine.
const OWN_LOG: Rotate = Rotate { size: 10_000_000, keep: 5 };

/// Descriptors that relume needs beside those of the services.
const OWN_DESCRIPTORS: u64 = 64 + 512;

/// Why relume could not come up.
pub(crate) struct Trouble {
    pub(crate) text: String,
    pub(crate) help: Option<String>,
}

impl<E: std::error::Error> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self { text: format!("relume could not start: {error}"), help: None }
    }
}

/// A manager that is up.
pub(crate) struct Manager {
    edge: Edge,
    core: Supervisor,
    /// What the core has said while it came up.
    out: Outbox,
    leaving: Leaving,
    /// Held until the process ends.
    _lock: Lock,
}

/// The user's own process: takes the lock and becomes the guardian, which starts the manager.
pub(crate) fn begin(options: &Options) -> Trouble {
    match lock(&options.places) {
        Ok(lock) => Trouble::from(crate::guardian::become_guardian(&lock)),
        Err(trouble) => trouble,
    }
}

/// Brings the manager up: fresh, or where an earlier one of this boot has left off.
pub(crate) fn start(options: Options) -> Result<Manager, Trouble> {
    let (keeper, mut fds) = Keeper::take_over()?;
    let lock = Lock::from_owned(relume_os::exec::take_inherited(LOCK_FD)?);
    signals::block(&HEARD)?;
    // Inherited as ignored, it would make the kernel reap children before anybody knows how they ended.
    signals::set_default(number::CHLD)?;
    // A log file that reaches RLIMIT_FSIZE is an error of write(2) and not the end of the manager.
    signals::ignore(SIGXFSZ)?;
    let inherited = Inheritance::of_this_process()?;
    options.places.link_runtime_dir()?;
    let descriptors = limits::raise_nofile()?;
    prctl::set_child_subreaper()?;
    let inbox = Arc::new(Inbox::new()?);
    let Options { config, load, trust, places, names, follow, screen } = options;
    let source = Arc::new(Source { load, trust });
    let templates = config.templates.clone();
    let units = Arc::new(Units::new(config));
    let (mut journal, mut remains) = Journal::open(&places.runtime_dir.join("journal"), units.order.len())?;
    let again = std::env::var_os(AGAIN).is_some();
    let archive = Archive::start(places.state_file.clone(), clock::boot_id()?)?;
    let past = Past { remains: remains.as_mut(), again };
    let beginnings = beginnings(&mut journal, past, &archive, (&units, keeper.guardian()));
    let memory = beginnings.memory.clone();
    if let Some(remains) = &mut remains {
        tell_again(&archive, &units, &places, remains);
    }

    let shown = Shown { units: &units, places: &places, screen: &screen, names: &names, settled: again };
    let shown = show(&shown, beginnings, &archive)?;
    let streaming = follow.then(|| stream(&units, &screen)).transpose()?;
    say_beginnings(&shown.publisher, &places, &units, descriptors);
    create_templates(&shown.publisher, &templates);
    let capture = Arc::new(start_capture(&shown.publisher, &places, shown.own_log)?);
    let cgroups = cgroups(&shown.publisher, &places);
    let ground = Ground {
        inherited,
        cgroups: cgroups.clone(),
        capture: Arc::clone(&capture),
        inbox: Arc::clone(&inbox),
        id: places.id.clone(),
        // 0 is relume's own log.
        next_stream: AtomicU64::new(1),
        keeper: Arc::clone(&keeper),
        notify_dir: notify_dir(&places)?,
    };
    let found = recovery::find(&ground, &units, remains.as_ref(), &mut fds);
    let (open, opened) = channel();
    let door = door(&keeper, &places, &mut fds, opened)?;
    let (board, desk, inbox_) = (shown.board, shown.desk, Arc::clone(&inbox));
    let net = api::start(door, Office { board, desk, inbox: inbox_, source: Arc::clone(&source), archive })?;

    let publisher = shown.publisher;
    let mut edge = edge(Parts {
        inbox,
        capture: Arc::clone(&capture),
        publisher,
        units,
        source,
        net,
        ground,
        keeper,
        journal,
    })?;
    edge.autostart = names.is_empty();
    edge.watch_sources()?;
    let (core, out) = come_up(&mut edge, (memory, remains), found, if again { &[] } else { &names });
    edge.open = Some(open);
    let leaving = Leaving { publishing: Some(shown.thread), capture, streaming, places, cgroups };
    Ok(Manager { edge, core, out, leaving, _lock: lock })
}

/// What is shown where, before anything else happens.
struct Shown<'a> {
    units: &'a Arc<Units>,
    places: &'a Places,
    screen: &'a Screen,
    names: &'a [String],
    settled: bool,
}

/// The publisher and what belongs to it.
struct Showing {
    publisher: Publisher,
    thread: JoinHandle<()>,
    board: Arc<Mutex<Board>>,
    desk: Arc<Desk>,
    own_log: std::os::fd::OwnedFd,
}

fn show(shown: &Shown<'_>, beginnings: Beginnings, archive: &Archive) -> Result<Showing, Trouble> {
    let Shown { units, places, screen, names, settled } = shown;
    let (log, own_log) = OwnLog::new(units.manager.log_level, units.manager.log_format)?;
    let told = Arc::new(Mutex::new(None));
    let store = Store::start(places.status_file.clone(), Arc::clone(&told))?;
    let meant = meant(units, names);
    let terminal = Terminal::start(screen, meant.iter().map(String::as_str), *settled)?;
    let outlets = Outlets::new(log, terminal, store, places.pid_dir.clone());
    let board = Board::new(Arc::clone(units), (*places).clone(), beginnings);
    let board = Arc::new(Mutex::new(board));
    let desk = Arc::new(Desk::new());
    let archive = archive.clone();
    let publishing = Publishing { board: Arc::clone(&board), desk: Arc::clone(&desk), outlets, archive };
    let voiced = publishing.archive.clone();
    let (publisher, thread) = publish::start(publishing)?;
    voiced.speak_to(publisher.clone());
    *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(publisher.clone());
    Ok(Showing { publisher, thread, board, desk, own_log })
}

/// What there is of an earlier manager of this boot.
struct Past<'a> {
    remains: Option<&'a mut Remains>,
    /// The guardian has started this manager, and no user.
    again: bool,
}

/// What the board and the core start with: what the journal says, else what the archive has of an earlier boot.
/// A shutdown that was under way when both halves died is not taken up by a user who starts relume again.
fn beginnings(
    journal: &mut Journal,
    past: Past<'_>,
    archive: &Archive,
    (units, guardian): (&Units, u32),
) -> Beginnings {
    let (memory, began, recoveries) = match past.remains {
        Some(remains) => {
            if !past.again {
                remains.snapshot.shutdown = None;
            }
            (remains.snapshot.clone(), remains.began, remains.recoveries + 1)
        }
        None => (cold(archive.copy(), units), Edge::now().0, 0),
    };
    archive.reached(memory.seq);
    journal.set_beginnings(began, recoveries);
    Beginnings { memory, began: Moment(began), recoveries, guardian }
}

/// What the archive knows of the services that are configured, in their order.
fn cold(copy: Copy, units: &Units) -> Snapshot {
    let mut known: HashMap<String, Remembered> =
        copy.services.into_iter().map(|service| (service.name.clone(), service)).collect();
    Snapshot::cold(copy.seq, units.order.iter().filter_map(|name| known.remove(&**name)))
}

/// What the manager before this one has shown may be in nobody's archive yet.
fn tell_again(archive: &Archive, units: &Arc<Units>, places: &Places, remains: &mut Remains) {
    let past = std::mem::take(&mut remains.past);
    let (units, places) = (Arc::clone(units), places.clone());
    archive.replay(move || publish::events_of(&units, &places, past.read()));
    for record in remains.snapshot.services.values() {
        archive.remember(Remembered::of(record), record.intent == Intent::Down);
    }
}

/// The control socket: the one that the guardian keeps, so that no client is refused meanwhile; else a new one.
fn door(
    keeper: &Keeper,
    places: &Places,
    fds: &mut keeper::Kept,
    open: Receiver<()>,
) -> Result<Door, Trouble> {
    let held = fds.remove(keeper::CONTROL).and_then(|fds| fds.into_iter().next());
    let socket = match held {
        Some(socket) => socket,
        None => {
            let socket = sockets::listen_private(&places.socket())?;
            keeper.keep(keeper::CONTROL, &[socket.as_fd()]);
            socket
        }
    };
    Ok(Door { socket, owner: users::effective_uid(), open })
}

/// What the edge is made of.
struct Parts {
    inbox: Arc<Inbox>,
    capture: Arc<Capture>,
    publisher: Publisher,
    units: Arc<Units>,
    source: Arc<Source>,
    net: tokio::runtime::Handle,
    ground: Ground,
    keeper: Arc<Keeper>,
    journal: Journal,
}

fn edge(parts: Parts) -> Result<Edge, Trouble> {
    Ok(Edge {
        epoll: Epoll::new()?,
        signals: SignalFd::new(&HEARD)?,
        timer: Timer::new()?,
        armed: None,
        cgroup_events: Inotify::new()?,
        trees: Trees::start(Arc::clone(&parts.inbox))?,
        spawning: Spawning::start(parts.ground)?,
        ready_runs: Readying::new(Prober::new(parts.net, Arc::clone(&parts.inbox))),
        inbox: parts.inbox,
        news: VecDeque::new(),
        ready: Vec::new(),
        runs: HashMap::new(),
        watched: HashMap::new(),
        next_token: FIRST_PROCESS,
        emptying: HashMap::new(),
        orphans_at: None,
        spawns_under_way: 0,
        reaped: VecDeque::new(),
        keeper: parts.keeper,
        to_forget: Vec::new(),
        journal: parts.journal,
        kept: BTreeMap::new(),
        checkpoint_due: true,
        leave_running: false,
        open: None,
        capture: parts.capture,
        publisher: parts.publisher,
        autostart: true,
        units: parts.units,
        end_asked: 0,
        source: parts.source,
        to_weigh: Vec::new(),
        reading: super::reload::Reading::default(),
        events: VecDeque::new(),
    })
}

/// The core, fresh or recovered, and what it says on coming up.
fn come_up(
    edge: &mut Edge,
    (memory, remains): (Snapshot, Option<Remains>),
    found: Vec<Found>,
    names: &[String],
) -> (Supervisor, Outbox) {
    let mut out = Outbox::default();
    // Only the order of retries depends on it: any number that differs between machines and starts will do.
    let seed = clock::monotonic_ns() ^ (u64::from(std::process::id()) << 32);
    let config = edge.units.for_core(edge.autostart);
    let is_recovery = remains.is_some();
    if memory == Snapshot::default() && found.is_empty() {
        edge.events.push_back(Event::Configured(config));
        edge.start_named(names);
        return (Supervisor::new(seed, Edge::now()), out);
    }
    let survivors: Vec<Survivor> = found.iter().map(|found| found.survivor.clone()).collect();
    let unread = remains.as_ref().map_or(0, |remains| remains.unread);
    let core = Supervisor::recover(config, memory, &survivors, (seed, Edge::now()), &mut out);
    let alive = found.iter().filter(|found| found.survivor.exit.is_none()).count();
    for found in found {
        if let Some(service) = core.find(&found.survivor.name) {
            let state = core.record(service).map(|record| &record.state);
            let ready = matches!(state, Some(State::Running { .. }));
            edge.adopt(recovery::run_id(service, &found.survivor), found, ready);
        }
    }
    if is_recovery || alive > 0 {
        let what = if is_recovery { "recovered" } else { "found services of an earlier relume" };
        edge.say(Level::Info, format!("{what}: {alive} running processes adopted"));
    }
    if unread > 0 {
        edge.say(Level::Warn, format!("{unread} notes of the journal could not be read"));
    }
    edge.start_named_of(&core, names);
    (core, out)
}

impl Manager {
    /// Supervises until all is down; the exit code.
    pub(crate) fn run(self) -> i32 {
        let Self { mut edge, mut core, out, leaving, _lock } = self;
        // Timers of a supervisor are worth being on time.
        let _coarser = prctl::set_finest_timer_slack();
        let code = main_loop::run(&mut edge, &mut core, out);
        if edge.leave_running {
            leaving.leave_running(edge);
        } else {
            leaving.leave(edge, code);
        }
        code
    }
}

impl Edge {
    /// The services that were named on the command line are commands like any other; nobody waits for them.
    fn start_named(&mut self, names: &[String]) {
        // Ids are given out in the order of the configuration.
        let ids = names.iter().filter_map(|name| self.units.order.iter().position(|known| **known == **name));
        let ids = ids.filter_map(|n| u32::try_from(n).ok()).map(ServiceId).collect();
        self.start_services(ids);
    }

    /// The same, where ids are known.
    fn start_named_of(&mut self, core: &Supervisor, names: &[String]) {
        self.start_services(names.iter().filter_map(|name| core.find(name)).collect());
    }

    fn start_services(&mut self, ids: Vec<ServiceId>) {
        if !ids.is_empty() {
            let event = Event::Commanded { ticket: Ticket(0), command: Command::Start(ids) };
            self.events.push_back(event);
        }
    }
}

/// One relume per state directory.
fn lock(places: &Places) -> Result<Lock, Trouble> {
    let text = format!("pid {}", std::process::id());
    files::lock(&places.lock_file(), &text).map_err(|error| match error {
        LockError::Held { by } => Trouble {
            text: format!("relume already runs here: {by}, state directory {}", places.state_dir.display()),
            help: Some(
                "See it with: relume status\nStart a service with: relume start NAME\nEnd it with: relume down".into(),
            ),
        },
        LockError::Failed(error) => Trouble::from(error),
    })
}

/// Where notify sockets go. Services of other users pass through it, and cannot list it.
fn notify_dir(places: &Places) -> Result<PathBuf, Trouble> {
    let dir = places.runtime_dir.join("notify");
    files::create_dir(&dir, 0o711)?;
    // Of a life that ended without clearing up.
    notify::remove_stale(&dir)?;
    Ok(dir)
}

/// The services that are meant to come up: the named ones, or those that start by themselves.
fn meant(units: &Units, names: &[String]) -> Vec<String> {
    let wanted = |name: &&Arc<str>| match units.get(name) {
        Some(unit) if names.is_empty() => unit.config.spec.policy.autostart,
        Some(_) => names.iter().any(|named| **named == ***name),
        None => false,
    };
    units.order.iter().filter(wanted).map(|name| name.to_string()).collect()
}

fn say_beginnings(publisher: &Publisher, places: &Places, units: &Units, descriptors: u64) {
    let say = |level, text| publisher.send(Note::Say { level, text });
    let services = units.order.len();
    let plural = if services == 1 { "" } else { "s" };
    say(
        Level::Debug,
        format!(
            "relume {} with {services} service{plural}, pid {}, state in {}, sockets in {}",
            env!("CARGO_PKG_VERSION"),
            std::process::id(),
            places.state_dir.display(),
            places.runtime_dir.display()
        ),
    );
    if let Some(moved) = &places.moved {
        say(Level::Warn, moved.clone());
    }
    // A pidfd and the read end of a pipe for each.
    let room = descriptors.saturating_sub(OWN_DESCRIPTORS) / 2;
    if services as u64 > room {
        say(
            Level::Warn,
            format!(
                "this system allows {descriptors} open files, enough for about {room} of {services} services at \
                 once; raise the hard limit with LimitNOFILE= or in /etc/security/limits.conf"
            ),
        );
    }
}

/// `env_file` templates: a file that is not there yet is made from its template once, for its owner alone.
fn create_templates(publisher: &Publisher, templates: &[relume_config::Template]) {
    for template in templates {
        let path = template.path.as_path();
        if path.exists() {
            continue;
        }
        let made = std::fs::read(&template.template)
            .map_err(|error| format!("cannot read {}: {error}", template.template.display()))
            .and_then(|bytes| write_private(path, &bytes));
        let (level, text) = match made {
            Ok(()) => (
                Level::Info,
                format!(
                    "made {} from {}; put your own values in",
                    path.display(),
                    template.template.display()
                ),
            ),
            Err(error) => (Level::Warn, error),
        };
        publisher.send(Note::Say { level, text });
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), String> {
    files::write_atomic(path, bytes, 0o600, files::Durability::Disk).map_err(|error| error.to_string())
}

fn start_capture(
    publisher: &Publisher,
    places: &Places,
    own_log: std::os::fd::OwnedFd,
) -> Result<Capture, Trouble> {
    let reports = publisher.clone();
    let capture = Capture::start(Box::new(move |report| reports.send(Note::Capture(report))))?;
    let log = Arc::new(LogTarget { path: places.log_file.clone(), rotate: Some(OWN_LOG), mode: LOG_MODE });
    let stream = Stream { id: StreamId(0), log, pipe: own_log, who: "relume".into() };
    capture.attach(stream).map_err(|why| Trouble { text: format!("relume's own log: {why}"), help: None })?;
    Ok(capture)
}

/// Our place in the cgroup v2 tree, where one can be had; `RELUME_CGROUP=off` does without.
fn cgroups(publisher: &Publisher, places: &Places) -> Option<Cgroups> {
    let found = match std::env::var_os("RELUME_CGROUP") {
        Some(word) if word == "off" => Err("switched off by RELUME_CGROUP".to_owned()),
        _ => CgroupRoot::discover(&format!("relume-{}", places.id))
            .and_then(|root| Ok(Cgroups { way: root.probe()?, root }))
            .map_err(|error| error.to_string()),
    };
    match found {
        Ok(cgroups) => Some(cgroups),
        Err(why) => {
            let text =
                format!("no writable cgroup v2 ({why}); process trees are found by session and descent");
            publisher.send(Note::Say { level: Level::Debug, text });
            None
        }
    }
}

/// The output of all services, for `up --follow`.
fn stream(units: &Units, screen: &Screen) -> std::io::Result<LogStream> {
    let logs = units.order.iter().filter_map(|name| units.get(name));
    let log = |unit: &Arc<super::units::Unit>| (unit.config.spec.name.clone(), unit.out.path.clone());
    LogStream::start(logs.map(log).collect(), screen)
}
