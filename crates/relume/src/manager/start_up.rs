//! Coming up and leaving, in the order in which each step rests on the one before.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use relume_core::{Command, Event, Supervisor, Ticket};
use relume_os::cgroup::CgroupRoot;
use relume_os::epoll::{Epoll, Inotify, Timer};
use relume_os::files::{self, Lock, LockError};
use relume_os::signals::{self, SignalFd};
use relume_os::{clock, limits, notify, prctl, sockets, users};

use super::Options;
use super::api::{self, Door, Office};
use super::capture::{Capture, LOG_MODE, LogTarget, Rotate, Stream, StreamId};
use super::edge::{Edge, FIRST_PROCESS};
use super::inbox::Inbox;
use super::launch::Inheritance;
use super::main_loop;
use super::publish::{self, Board, Desk, Level, Note, Outlets, OwnLog, Publisher, Publishing, Store, Terminal};
use super::reload::Source;
use super::ready::{Prober, Readying};
use super::spawn::{Cgroups, Ground, Spawning};
use super::translate::number;
use super::trees::Trees;
use super::units::Units;
use crate::cli::{LogStream, Screen};
use crate::places::Places;

/// Signals that are read as data by the supervise thread. SIGTSTP is among them because a stopped supervisor
/// supervises nothing: Ctrl+Z does not stop relume.
const HEARD: [i32; 7] =
    [number::TERM, number::INT, number::HUP, number::QUIT, number::USR1, number::CHLD, SIGTSTP];
const SIGTSTP: i32 = 20;
const SIGXFSZ: i32 = 25;

/// How large relume's own log grows before it is rotated, and how many old ones are kept: some days of a
/// busy machine.
const OWN_LOG: Rotate = Rotate { size: 10_000_000, keep: 5 };

/// How long the last output may take to reach its files when relume leaves. A disk that has not answered by
/// then is not waited for any longer.
const LAST_OUTPUT: Duration = Duration::from_secs(5);

/// How long the removal of the last cgroups may take.
const LAST_ERRANDS: Duration = Duration::from_secs(1);

/// Rounds in which the children of ended children are ended too; a family is rarely deeper than three.
const ROUNDS: usize = 100;

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
    first: Event,
    names: Vec<String>,
    leaving: Leaving,
    /// Held until the process ends.
    _lock: Lock,
}

/// Brings everything up, and nothing of it twice: the lock comes first.
pub(crate) fn start(options: Options) -> Result<Manager, Trouble> {
    let ignores_hangup = signals::is_ignored(number::HUP)?;
    signals::block(&HEARD)?;
    // Inherited as ignored, it would make the kernel reap children before anybody knows how they ended.
    signals::set_default(number::CHLD)?;
    // A log file that reaches RLIMIT_FSIZE is an error of write(2) and not the end of the manager.
    signals::ignore(SIGXFSZ)?;
    let inherited = Inheritance::of_this_process()?;
    let lock = lock(&options.places)?;
    options.places.link_runtime_dir()?;
    let descriptors = limits::raise_nofile()?;
    prctl::set_child_subreaper()?;
    let inbox = Arc::new(Inbox::new()?);
    let Options { config, load, trust, places, names, follow, screen } = options;
    let source = Arc::new(Source { load, trust });
    let templates = config.templates.clone();
    let units = Arc::new(Units::new(config));

    let (own_log, own_log_pipe) = OwnLog::new(units.manager.log_level, units.manager.log_format)?;
    let told = Arc::new(Mutex::new(None));
    let store = Store::start(places.status_file.clone(), Arc::clone(&told))?;
    let meant = meant(&units, &names);
    let terminal = Terminal::start(&screen, meant.iter().map(String::as_str))?;
    let outlets = Outlets::new(own_log, terminal, store, places.pid_dir.clone());
    let board = Arc::new(Mutex::new(Board::new(Arc::clone(&units), places.clone())));
    let desk = Arc::new(Desk::new());
    let publishing = Publishing { board: Arc::clone(&board), desk: Arc::clone(&desk), outlets };
    let (publisher, publishing) = publish::start(publishing)?;
    *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(publisher.clone());

    let streaming = follow.then(|| stream(&units, &screen)).transpose()?;
    say_beginnings(&publisher, &places, &units, descriptors);
    create_templates(&publisher, &templates);
    let capture = Arc::new(start_capture(&publisher, &places, own_log_pipe)?);
    let cgroups = cgroups(&publisher, &places);
    end_leftovers(&publisher, &places, cgroups.as_ref());

    let socket = sockets::listen_private(&places.socket())?;
    let door = Door { socket, owner: users::effective_uid() };
    let net = api::start(door, Office { board, desk, inbox: Arc::clone(&inbox), source: Arc::clone(&source) })?;

    let ground = Ground {
        inherited,
        cgroups: cgroups.clone(),
        capture: Arc::clone(&capture),
        inbox: Arc::clone(&inbox),
        id: places.id.clone(),
        // 0 is relume's own log.
        next_stream: AtomicU64::new(1),
        notify_dir: notify_dir(&places)?,
    };
    let edge = Edge {
        epoll: Epoll::new()?,
        signals: SignalFd::new(&HEARD)?,
        timer: Timer::new()?,
        armed: None,
        cgroup_events: Inotify::new()?,
        trees: Trees::start(Arc::clone(&inbox))?,
        spawning: Spawning::start(ground)?,
        ready_runs: Readying::new(Prober::new(net, Arc::clone(&inbox))),
        inbox,
        news: VecDeque::new(),
        ready: Vec::new(),
        runs: HashMap::new(),
        watched: HashMap::new(),
        next_token: FIRST_PROCESS,
        emptying: HashMap::new(),
        orphans_at: None,
        spawns_under_way: 0,
        capture: Arc::clone(&capture),
        publisher,
        autostart: names.is_empty(),
        units,
        end_asked: 0,
        ignores_hangup,
        source,
        to_weigh: Vec::new(),
        events: VecDeque::new(),
    };
    edge.watch_sources()?;
    // Only the order of retries depends on it: any number that differs between machines and starts will do.
    let seed = clock::monotonic_ns() ^ (u64::from(std::process::id()) << 32);
    let core = Supervisor::new(seed, Edge::now());
    let first = Event::Configured(edge.units.for_core(edge.autostart));
    let leaving = Leaving { publishing, capture, streaming, places, cgroups };
    Ok(Manager { edge, core, first, names, leaving, _lock: lock })
}

impl Manager {
    /// Supervises until all is down; the exit code.
    pub(crate) fn run(self) -> i32 {
        let Self { mut edge, mut core, first, names, leaving, _lock } = self;
        // Timers of a supervisor are worth being on time.
        let _coarser = prctl::set_finest_timer_slack();
        edge.events.push_back(first);
        edge.start_named(&names);
        let code = main_loop::run(&mut edge, &mut core);
        leaving.leave(edge);
        code
    }
}

impl Edge {
    /// The services that were named on the command line are commands like any other; nobody waits for them.
    fn start_named(&mut self, names: &[String]) {
        // Ids are given out in the order of the configuration.
        let ids = names.iter().filter_map(|name| self.units.order.iter().position(|known| **known == **name));
        let ids: Vec<_> = ids.filter_map(|n| u32::try_from(n).ok()).map(relume_core::ServiceId).collect();
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
                format!("made {} from {}; put your own values in", path.display(), template.template.display()),
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
            let text = format!("no writable cgroup v2 ({why}); process trees are found by session and descent");
            publisher.send(Note::Say { level: Level::Debug, text });
            None
        }
    }
}

/// Processes that an earlier relume of this state directory left behind, by its sudden death: started again
/// beside them, each service would run twice.
fn end_leftovers(publisher: &Publisher, places: &Places, cgroups: Option<&Cgroups>) {
    let mut ended = 0;
    if let Some(cgroups) = cgroups {
        for (service, generation) in cgroups.root.runs().unwrap_or_default() {
            let run = cgroups.root.run(&service, generation);
            ended += run.procs().map_or(0, |pids| pids.len());
            let _empty = run.kill();
            wait_until_empty(&run);
            let _litter = run.remove();
        }
    }
    let own = format!("{}/", places.id);
    for stat in relume_os::proc::all().unwrap_or_default() {
        let tag = relume_os::proc::environ(stat.pid, "RELUME_RUN").unwrap_or_default();
        if tag.starts_with(own.as_bytes())
            && let Ok(Some(process)) = relume_os::pidfd::ProcessId::of(stat.pid)
            && let Ok(Some(pidfd)) = process.open()
            && matches!(pidfd.send_signal(number::KILL), Ok(true))
        {
            ended += 1;
            let _slow = pidfd.wait_ended(Duration::from_secs(1));
        }
    }
    if ended > 0 {
        let text = format!("ended {ended} processes that an earlier relume of this place had left running");
        publisher.send(Note::Say { level: Level::Warn, text });
    }
}

fn wait_until_empty(run: &relume_os::cgroup::RunCgroup) {
    for _ in 0..1000 {
        if !run.populated().unwrap_or(false) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What is needed to leave.
struct Leaving {
    publishing: JoinHandle<()>,
    capture: Arc<Capture>,
    streaming: Option<LogStream>,
    places: Places,
    cgroups: Option<Cgroups>,
}

impl Leaving {
    /// Brings out what is left and takes away what only a running manager has.
    fn leave(self, edge: Edge) {
        let _gone = files::remove(&self.places.socket());
        edge.say(Level::Info, "all services are down; relume leaves".into());
        edge.publisher.send(Note::Leave);
        // It has panicked: what it had to show is lost, the services are down all the same.
        let _panicked = self.publishing.join();
        end_children();
        edge.trees.finish(LAST_ERRANDS);
        drop(edge);
        let _hung = self.capture.stop(LAST_OUTPUT);
        if let Some(streaming) = self.streaming {
            streaming.finish();
        }
        if let Some(cgroups) = self.cgroups {
            let _litter = cgroups.root.remove();
        }
        // Whoever comes next makes both anew.
        let _kept = std::fs::remove_dir(&self.places.runtime_dir);
        let _kept = std::fs::remove_file(self.places.state_dir.join("run"));
    }
}

/// Children that belong to no run any more: without cgroups, a daemon that has wiped its environment and made
/// its own session is known only as somebody's orphan that was handed to us. They do not outlive us.
fn end_children() {
    for _ in 0..ROUNDS {
        let children = relume_os::proc::children().unwrap_or_default();
        if children.is_empty() {
            return;
        }
        for pid in children {
            if let Ok(Some(process)) = relume_os::pidfd::ProcessId::of(pid)
                && let Ok(Some(pidfd)) = process.open()
            {
                let _gone = pidfd.send_signal(number::KILL);
                let _slow = pidfd.wait_ended(Duration::from_secs(1));
            }
            let _not_ours = relume_os::exit::reap_orphan(pid);
        }
    }
}

/// The output of all services, for `up --follow`.
fn stream(units: &Units, screen: &Screen) -> std::io::Result<LogStream> {
    let logs = units.order.iter().filter_map(|name| units.get(name));
    let log = |unit: &Arc<super::units::Unit>| (unit.config.spec.name.clone(), unit.out.path.clone());
    LogStream::start(logs.map(log).collect(), screen)
}
