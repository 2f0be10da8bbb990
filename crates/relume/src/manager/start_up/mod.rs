//! Coming up, in the order in which each step rests on the one before.

mod arrival;
mod beginnings;
mod ground;
mod parts;
mod shown;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use relume_config::Config;
use relume_core::{Outbox, Supervisor};
use relume_os::files::Lock;
use relume_os::limits::Limit;
use relume_os::{clock, prctl};

use super::alerts::{Alerts, UnderWay};
use super::api::{self, Office};
use super::archive::Archive;
use super::births;
use super::capture::Capture;
use super::disks;
use super::edge::Edge;
use super::gate::Gate;
use super::inbox::Inbox;
use super::journal::{Journal, Remains};
use super::keeper::{self, Keeper};
use super::launch::Inheritance;
use super::leaving::Leaving;
use super::limiting::Unlimited;
use super::listening::Listening;
use super::main_loop::{self, End};
use super::publish::{Board, Desk, Level, Note, Publisher};
use super::ready::Stored;
use super::recovery;
use super::reload::Source;
use super::respawn::{self, Back, Respawning, Standby};
use super::sampling::Sampler;
use super::schedule::Times;
use super::spawn::{self, Cgroups, Ground};
use super::units::Units;
use super::{Options, Read};
use tokio::sync::watch;

use crate::places::Places;
use crate::prepared::Written;
use crate::roles::AGAIN;

use arrival::Finding;
pub(crate) use arrival::{Arrival, Handed};
pub(crate) use beginnings::Later;
use beginnings::{Past, beginnings, come_up};
use ground::{cgroups, create_templates, door, lock, notify_dir};
use parts::{Parts, edge};
use shown::{Shown, say_beginnings, show, start_capture, stream};

const SIGXFSZ: i32 = 25;

/// Its name in the runtime directory.
const JOURNAL: &str = "journal";

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
    later: Later,
    /// Held until the process ends.
    _lock: Lock,
    /// Another process is the manager until this one is told to go on; and the limit of open files that relume was started with.
    standby: Option<(Standby, Limit)>,
}

/// The user's own process: takes the lock and becomes the guardian, which starts the manager.
pub(crate) fn begin(options: Options) -> Trouble {
    let Options { settled, read: Read { recording, prepared, .. }, .. } = options;
    match lock(&settled.places) {
        Ok(lock) => {
            let config = Written::of(&recording, prepared);
            Trouble::from(crate::guardian::become_guardian(&lock, &settled, config.as_ref()))
        }
        Err(trouble) => trouble,
    }
}

/// The config by itself. Reading, or taking over, has left it between what was needed for that alone, and pages of which a tenth
/// is used are used; a thread has a heap of its own, in which it lies close together.
fn afresh(config: Config) -> Config {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("afresh".into());
        let copied = thread.spawn_scoped(scope, || config.afresh()).map(|copying| copying.join());
        match copied {
            Ok(Ok(copy)) => Some(copy),
            Ok(Err(_)) | Err(_) => None,
        }
    })
    .unwrap_or(config)
}

/// `again`: this manager is a successor, and waited for.
fn units(read: Read, again: bool) -> Units {
    let Read { config, recording, prepared, anew: _ } = read;
    let config = if again { config } else { afresh(config) };
    Units::new(config).written(&recording, prepared)
}

/// What all starts have in common.
fn ground(
    (inherited, cgroups): (Inheritance, Option<Cgroups>),
    (capture, inbox, keeper, archive): (Arc<Capture>, Arc<Inbox>, Arc<Keeper>, Archive),
    places: &Places,
    (units, fds): (&Units, &mut keeper::Kept),
) -> Result<Ground, Trouble> {
    Ok(Ground {
        inherited,
        cgroups,
        capture,
        inbox,
        id: places.id.clone(),
        // 0 is relume's own log.
        next_stream: AtomicU64::new(1),
        archive,
        runtime_dir: places.runtime_dir.clone(),
        notify_dir: notify_dir(places)?,
        stored: Arc::new(Stored::again(fds)),
        listening: Arc::new(Listening::again(fds, units, &keeper)),
        unlimited: Unlimited::default(),
        keeper,
    })
}

/// Starts what looks at services and disks, and says where the board keeps the times of jobs.
fn measure(board: &Arc<Mutex<Board>>, inbox: &Arc<Inbox>) -> std::io::Result<(Sampler, Times)> {
    let sampler = Sampler::start(Arc::clone(board), Arc::clone(inbox))?;
    disks::watch(Arc::clone(board), Arc::clone(inbox))?;
    let times = board.lock().unwrap_or_else(PoisonError::into_inner).times.clone();
    Ok((sampler, times))
}

/// What an earlier manager has left, in the hands of this one.
struct Taken {
    keeper: Arc<Keeper>,
    fds: keeper::Kept,
    journal: Journal,
    remains: Option<Remains>,
}

fn take(thread: Finding, places: &Places, (services, stands_by): (usize, bool)) -> Result<Taken, Trouble> {
    let arrival::Found { keeper, fds, journal } = Arrival::join(thread)?;
    let (journal, remains) = match journal {
        Some((mut journal, remains)) => {
            if stands_by {
                journal.hold_back();
            }
            (journal, Some(remains))
        }
        None if stands_by => return Err(no_manager()),
        None => (Journal::fresh(&places.runtime_dir.join(JOURNAL), services)?, None),
    };
    if !stands_by {
        // Known by now; the next end is another one.
        journal.left(0);
    }
    Ok(Taken { keeper, fds, journal, remains })
}

/// Where another process has it, it waits.
fn archive(places: &Places, gate: Option<&Gate>) -> Result<Archive, Trouble> {
    let (path, boot) = (places.state_file.clone(), clock::boot_id()?);
    Ok(match gate {
        Some(gate) => Archive::start_behind(path, boot, gate.clone()),
        None => Archive::start(path, boot),
    }?)
}

/// Starts what answers clients, and what tells others of changes.
fn answer(
    door: api::Door,
    office: Office,
    (publisher, inbox): (&Publisher, &Arc<Inbox>),
    (runtime_dir, units, gate): (&Path, &Arc<Units>, &Gate),
) -> Result<(tokio::runtime::Handle, UnderWay), Trouble> {
    let capture = Arc::clone(&office.capture);
    let net = api::start(door, office)?;
    let alerts = Alerts::new(net.clone(), (Arc::clone(inbox), capture), runtime_dir);
    alerts.go_on(Arc::clone(units), gate.clone());
    let alerting = alerts.under_way();
    publisher.send(Note::Alerts(Box::new(alerts)));
    Ok((net, alerting))
}

fn no_manager() -> Trouble {
    Trouble { text: "relume could not start: this process is no manager".into(), help: None }
}

/// The lock for a successor beside this manager. What `--follow` has shown cannot be handed on to a process that is there already; and
/// without cgroups what is left of a run is best found by its parent.
fn spare(lock: &Lock, (follow, cgroups): (bool, bool)) -> Option<OwnedFd> {
    let possible = cgroups || respawn::is_always_wished();
    if follow || !possible { None } else { lock.as_fd().try_clone_to_owned().ok() }
}

/// What answers clients, and measures for them.
struct Front {
    /// For the door.
    open: Sender<()>,
    close: watch::Sender<bool>,
    net: tokio::runtime::Handle,
    alerting: UnderWay,
    sampler: Sampler,
    times: Times,
}

fn front(
    (keeper, places, fds): (&Keeper, &Places, &mut keeper::Kept),
    (board, desk): (Arc<Mutex<Board>>, Arc<Desk>),
    (inbox, source, archive, capture): (Arc<Inbox>, Arc<Source>, Archive, Arc<Capture>),
    (publisher, units, gate): (&Publisher, &Arc<Units>, &Gate),
) -> Result<Front, Trouble> {
    let (open, opened) = channel();
    let door = door(keeper, places, fds, opened)?;
    let (close, closing) = watch::channel(false);
    let (sampler, times) = measure(&board, &inbox)?;
    let (news, measured) = (Arc::clone(&inbox), sampler.clone());
    let office = Office { board, desk, inbox, source, archive, capture, sampler, closing };
    let (net, alerting) = answer(door, office, (publisher, &news), (&places.runtime_dir, units, gate))?;
    Ok(Front { open, close, net, alerting, sampler: measured, times })
}

/// What an earlier manager has left is in the journal by now, and in the hands of this one.
fn settle(edge: &mut Edge, (archive, places): (&Archive, &Places), stands_by: bool) {
    if stands_by {
        // It has no start under way, and what it has shown comes later.
        edge.untold = Some(archive.clone());
    } else {
        // A birth that stays is taken for what it is: a process that has ended.
        let _stale = births::forget(&places.runtime_dir, spawn::MOST_THREADS);
    }
}

/// Brings the manager up: fresh, or where an earlier one of this boot has left off.
pub(crate) fn start(options: Options) -> Result<Manager, Trouble> {
    let Options { read, load, trust, names, follow, screen, settled, arrival } = options;
    let arrival = arrival.ok_or_else(no_manager)?;
    arrival.expect(read.config.manager.watchdog);
    let Arrival { back, inherited, nofile, descriptors, lock, standby, thread, .. } = arrival;
    let stands_by = standby.is_some();
    if !stands_by {
        respawn::prepare_for_crashes(back.as_ref(), nofile)?;
    }
    let mut places = settled.places;
    ground::link_runtime_dir(&mut places)?;
    let (inbox, gate) = (Arc::new(Inbox::new()?), Gate::default());
    let source = Arc::new(Source { load, trust });
    let templates = read.config.templates.clone();
    let (again, anew) = (std::env::var_os(AGAIN).is_some(), read.anew);
    let units = Arc::new(units(read, again));
    let archive = archive(&places, stands_by.then_some(&gate))?;
    let Taken { keeper, mut fds, mut journal, mut remains } =
        take(thread, &places, (units.order.len(), stands_by))?;
    let back = back.or_else(|| Back::told(&keeper, remains.as_ref()));
    let noted = again && remains.as_ref().is_some_and(|remains| remains.unread == 0);
    let past = Past { remains: remains.as_mut(), again, back: back.as_ref() };
    let beginnings = beginnings(&mut journal, past, &archive, (&units, keeper.guardian()));
    let memory = beginnings.memory.clone();
    let shown = Shown { units: &units, places: &places, screen: &screen, names: &names, again, stands_by };
    let shown = show(&shown, beginnings, (&archive, &gate))?;
    let streaming = follow.then(|| stream(&units, &places, (&screen, again))).transpose()?;
    say_beginnings(&shown.publisher, (&places, descriptors), (&units, anew));
    create_templates(&shown.publisher, &templates);
    let capture = Arc::new(start_capture(&shown.publisher, &places, (shown.own_log, stands_by))?);
    let (cgroups, limits) = (cgroups(&shown.publisher, &places), inherited.limits().to_vec());
    let shared = (Arc::clone(&capture), Arc::clone(&inbox), Arc::clone(&keeper), archive.clone());
    let ground = ground((inherited, cgroups.clone()), shared, &places, (&units, &mut fds))?;
    let found = recovery::find(&ground, &units, (remains.as_ref(), back.as_ref()), &mut fds);
    let office = (Arc::clone(&inbox), Arc::clone(&source), archive.clone(), Arc::clone(&capture));
    let shows = (&shown.publisher, &units, &gate);
    let front = front((&keeper, &places, &mut fds), (shown.board, shown.desk), office, shows)?;
    let every = units.manager.self_respawn;
    let mut edge = edge(Parts {
        inbox,
        capture: Arc::clone(&capture),
        publisher: shown.publisher,
        respawn: Respawning::new(
            every,
            (front.close, front.alerting),
            spare(&lock, (follow, cgroups.is_some())),
        ),
        units,
        source,
        net: front.net,
        ground,
        keeper,
        journal,
        back,
        noted,
        sampler: front.sampler,
        times: front.times,
        gate: gate.clone(),
    })?;
    edge.autostart = names.is_empty();
    edge.watch_sources()?;
    let named = if again { &[][..] } else { &names };
    let (core, out) = come_up(&mut edge, (memory, remains.as_mut()), found, (named, stands_by));
    settle(&mut edge, (&archive, &places), stands_by);
    edge.open = Some(front.open);
    let waiting = stands_by.then(|| Arc::clone(&shown.forwarding));
    let later = Later { gate, archive, remains, places: places.clone(), forwarding: waiting };
    let (publishing, forwarding) = (Some(shown.thread), shown.forwarding);
    let leaving = Leaving { publishing, capture, streaming, forwarding, places, cgroups, limits };
    let standby = standby.map(|standby| (standby, nofile));
    Ok(Manager { edge, core, out, leaving, later, _lock: lock, standby })
}

impl Manager {
    /// Supervises until all is down; the exit code.
    pub(crate) fn run(self) -> i32 {
        let Self { mut edge, mut core, out, leaving, later, _lock, standby } = self;
        if let Some((standby, nofile)) = standby {
            let Some(since) = standby.wait(&edge) else {
                // As if it had never been: what is dropped would be cleared up.
                std::process::exit(1)
            };
            edge.take_over_from(standby, since);
            // Until here a crash was the end of this process alone.
            if let Err(error) = respawn::prepare_for_crashes(None, nofile) {
                edge.say(Level::Error, format!("a crash would be the end of this manager: {error}"));
            }
        }
        edge.respawn.begins_with(prctl::timer_slack().ok());
        // Timers of a supervisor are worth being on time.
        let _coarser = prctl::set_finest_timer_slack();
        match main_loop::run(&mut edge, &mut core, out, later) {
            End::Down(code) => {
                leaving.leave(edge, code);
                code
            }
            End::Detached => {
                leaving.leave_running(edge);
                0
            }
            End::Respawn(leap) => {
                respawn::execute(edge, leaving, leap);
                // A successor goes on; or no program can be executed, ours neither, and the guardian starts another process.
                std::process::exit(1)
            }
        }
    }
}
