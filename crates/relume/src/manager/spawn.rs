//! The spawn threads: they start processes, so that nothing which a start can hang on holds up supervision.
//!
//! An order becomes a process in the same steps each time: pipes, their read ends to capture, the run's fresh
//! cgroup, the process itself. Whatever fails, what was made before it is taken back, and the supervise
//! thread hears of it. One thread is enough for what happens on a normal day; a second helps with a [`CROWD`], where one would leave
//! a processor idle; and another takes over the queue when all have been stuck for [`STUCK`], as they are when a program lies on a file system
//! that does not answer.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use relume_config::{Socket, Stderr};
use relume_core::{Hook, RunId, RunKind, SpawnError};
use relume_os::cgroup::{CgroupRoot, EntryWay, RunCgroup};
use relume_os::error::Errno;
use relume_os::pidfd::{PidFd, ProcessId};
use relume_os::pipes::{self, Pipe};
use relume_os::spawn::{CgroupEntry, SpawnFds, SpawnPlan, SpawnRequest, Spawner};
use relume_os::users::{self, Credentials};
use smallvec::SmallVec;

use super::accounts::{Accounts, Resolve};
use super::births;
use super::capture::{Capture, LogTarget, Origin, Stream, StreamId};
use super::inbox::{Inbox, News};
use super::job::{self, Judgement};
use super::keeper::{self, Keeper};
use super::launch::{self, Inheritance};
use super::limiting::Unlimited;
use super::listening::{self, Listening};
use super::ready::{Ears, Mouth, Stored, look_for_line};
use super::units::Unit;

/// A start that takes longer counts as stuck. A start takes well under a millisecond; five on a machine that
/// is saturated.
const STUCK: Duration = Duration::from_millis(500);

/// So many orders that wait at once are worth a second thread: half of the time of a start, the thread stands still until
/// the program is loaded. A third would find nothing left of two processors, and the kernel's lock on the tree of cgroups is one for all.
const CROWD: usize = 16;

/// Threads that share in a crowd.
const CROWD_THREADS: usize = 2;

/// Threads that may be stuck or at work at once. Behind more hung file systems than this, starts wait.
pub(crate) const MOST_THREADS: usize = 4;

/// How long a thread that was roused looks for its order before it sleeps again. From the end of a process to the order for its successor
/// it takes a tenth of a millisecond; to wake up takes half of that, and on an idle processor as long.
const ROUSED: Duration = Duration::from_micros(200);

/// How long the system may take to say who a user is. NSS may ask a directory server; one that is down must
/// not keep a start under way for ever.
pub(super) const LOOKUP_LIMIT: Duration = Duration::from_secs(5);

/// One process to start.
#[derive(Debug)]
pub(crate) struct Order {
    /// Its run.
    pub(crate) run: RunId,
    /// Which of the service's commands.
    pub(crate) kind: RunKind,
    /// The service.
    pub(crate) unit: Arc<Unit>,
    /// For a hook: the service's main process, if it has one.
    pub(crate) main_pid: Option<u32>,
    /// Variables that only this process gets.
    pub(crate) told: Vec<(String, String)>,
    /// As whom, once the system has said so; none: as relume.
    pub(crate) credentials: Option<Credentials>,
}

/// What there is of a process that was started.
#[derive(Debug)]
pub(crate) struct Started {
    /// The process.
    pub(crate) process: ProcessId,
    /// Its descriptor.
    pub(crate) pidfd: PidFd,
    /// Its run's cgroup, where there are cgroups.
    pub(crate) cgroup: Option<RunCgroup>,
    /// What recognises its processes where there are none: the value of `RELUME_RUN`.
    pub(crate) tag: String,
    /// Its output: stdout's, then stderr's if that is separate.
    pub(crate) streams: SmallVec<[StreamId; 2]>,
    /// Device and inode of the pipes of its output.
    pub(crate) pipes: SmallVec<[(u64, u64); 1]>,
    /// What it is for.
    pub(crate) kind: RunKind,
    /// The service as it was started.
    pub(crate) unit: Arc<Unit>,
    /// Where it is heard; none for what is no service's own process.
    pub(crate) ears: Option<Ears>,
}

/// The cgroups of this relume.
#[derive(Debug, Clone)]
pub(crate) struct Cgroups {
    /// Our place in the tree.
    pub(crate) root: CgroupRoot,
    /// How children get in.
    pub(crate) way: EntryWay,
}

/// What all starts have in common.
pub(crate) struct Ground {
    pub(crate) inherited: Inheritance,
    pub(crate) cgroups: Option<Cgroups>,
    pub(crate) capture: Arc<Capture>,
    pub(crate) inbox: Arc<Inbox>,
    /// Names this relume among all of the machine: the first part of `RELUME_RUN`.
    pub(crate) id: String,
    pub(crate) next_stream: AtomicU64,
    /// Where notify sockets are bound.
    pub(crate) notify_dir: PathBuf,
    /// On a tmpfs, for what a run leaves to its successor.
    pub(crate) runtime_dir: PathBuf,
    pub(crate) keeper: Arc<Keeper>,
    /// What services have stored for their next life.
    pub(crate) stored: Arc<Stored>,
    /// What is opened for services.
    pub(crate) listening: Arc<Listening>,
    /// Whose limits are not kept.
    pub(crate) unlimited: Unlimited,
    /// What the inputs of jobs were.
    pub(crate) archive: super::archive::Archive,
}

/// The queue of the spawn threads, and of those that wait to know as whom.
pub(crate) struct Spawning {
    shared: Arc<Shared>,
    /// From the first that has to wait.
    accounts: OnceLock<Accounts<Order>>,
}

struct Shared {
    ground: Ground,
    queue: Mutex<Queue>,
    /// There is something to do for a thread that is idle.
    changed: Condvar,
    /// There is more to do than idle threads.
    behind: Condvar,
    /// There is a crowd.
    crowd: Condvar,
    /// Orders in the queue, for those who look without the lock.
    waiting: AtomicUsize,
    /// Whether somebody who looks for an order keeps nobody from giving it.
    has_processors: bool,
}

#[derive(Default)]
struct Queue {
    orders: VecDeque<Order>,
    /// Counts the orders taken: a queue that does not move is behind a stuck thread.
    taken: u64,
    threads: usize,
    /// Those that wait for orders.
    idle: usize,
    /// An order is likely to come at once.
    roused: bool,
}

impl Queue {
    /// Whether it is worth a thread that shares in the work.
    fn is_crowd(&self) -> bool {
        self.orders.len() >= CROWD && self.threads < CROWD_THREADS
    }
}

impl Spawning {
    /// Starts the first thread, and the one that watches over it.
    pub(crate) fn start(ground: Ground) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            ground,
            queue: Mutex::default(),
            changed: Condvar::new(),
            behind: Condvar::new(),
            crowd: Condvar::new(),
            waiting: AtomicUsize::new(0),
            has_processors: std::thread::available_parallelism().is_ok_and(|all| all.get() > 1),
        });
        add_thread(&shared)?;
        let watched = Arc::clone(&shared);
        std::thread::Builder::new().name("spawn-watch".into()).spawn(move || watch(&watched))?;
        Ok(Self { shared, accounts: OnceLock::new() })
    }

    /// An order is likely to come at once: a thread wakes up meanwhile.
    pub(crate) fn rouse(&self) {
        let shared = &self.shared;
        let mut queue = shared.lock();
        if shared.has_processors && queue.idle > 0 && queue.orders.is_empty() && !queue.roused {
            queue.roused = true;
            drop(queue);
            shared.changed.notify_one();
        }
    }

    /// Never waits; the answer comes as news.
    pub(crate) fn order(&self, order: Order) {
        let Some(account) = launch::account(&order.unit) else { return self.shared.queue(order) };
        if self.accounts.get().is_none() {
            match accounts(&self.shared) {
                Ok(accounts) => drop(self.accounts.set(accounts)),
                Err(error) => {
                    let text = format!("cannot look up its user: {error}");
                    let error = SpawnError { text, shortage: true };
                    return self.shared.ground.inbox.send(News::SpawnFailed { run: order.run, error });
                }
            }
        }
        if let Some(accounts) = self.accounts.get() {
            accounts.ask(account, order);
        }
    }
}

/// Those who wait are queued when the system has said who they are.
fn accounts(shared: &Arc<Shared>) -> std::io::Result<Accounts<Order>> {
    let own = Arc::clone(shared);
    let resolve: Resolve = Arc::new(|(user, group)| {
        users::resolve(user.as_deref(), group.as_deref()).map_err(|error| error.to_string())
    });
    Accounts::start(resolve, LOOKUP_LIMIT, move |order: Order, found| match found {
        Ok(who) => own.queue(Order { credentials: Some(who), ..order }),
        Err(error) => own.ground.inbox.send(News::SpawnFailed { run: order.run, error }),
    })
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self, order: Order) {
        let mut queue = self.lock();
        queue.orders.push_back(order);
        self.waiting.store(queue.orders.len(), Ordering::Release);
        // The watching thread is left asleep where an idle one will take the order: it would only be in its way.
        let (behind, crowd) = (queue.orders.len() > queue.idle, queue.is_crowd());
        drop(queue);
        self.changed.notify_one();
        if behind {
            self.behind.notify_one();
        }
        if crowd {
            self.crowd.notify_one();
        }
    }

    /// Waits for an order.
    fn wait<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        queue.idle += 1;
        let mut queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut queue.roused) && queue.orders.is_empty() {
            drop(queue);
            let until = Instant::now() + ROUSED;
            while self.waiting.load(Ordering::Acquire) == 0 && Instant::now() < until {
                std::hint::spin_loop();
            }
            queue = self.lock();
        }
        queue.idle -= 1;
        queue
    }
}

/// Adds a thread for a crowd, and while the queue does not move. Asleep whenever no order waits for a busy thread.
fn watch(shared: &Arc<Shared>) {
    let mut queue = shared.lock();
    loop {
        while queue.orders.len() <= queue.idle {
            queue = shared.behind.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let before = queue.taken;
        let calm = |queue: &mut Queue| !queue.is_crowd();
        let (later, _) =
            shared.crowd.wait_timeout_while(queue, STUCK, calm).unwrap_or_else(PoisonError::into_inner);
        queue = later;
        let stands = !queue.orders.is_empty() && queue.taken == before;
        if queue.is_crowd() || (stands && queue.threads < MOST_THREADS) {
            drop(queue);
            if add_thread(shared).is_err() {
                // None to be had: it is tried again while the queue needs one.
                std::thread::sleep(STUCK);
            }
            queue = shared.lock();
        }
    }
}

fn add_thread(shared: &Arc<Shared>) -> std::io::Result<()> {
    let own = Arc::clone(shared);
    let index = shared.lock().threads;
    let mut cradle = Cradle {
        spawner: Spawner::new()?,
        // Without one a start works as well, and is only harder to find for a successor.
        slot: births::Slot::open(&shared.ground.runtime_dir, index, MOST_THREADS).ok(),
    };
    std::thread::Builder::new().name("spawn".into()).spawn(move || work(&own, &mut cradle))?;
    shared.lock().threads += 1;
    Ok(())
}

/// What a thread starts processes with.
struct Cradle {
    spawner: Spawner,
    slot: Option<births::Slot>,
}

fn work(shared: &Shared, cradle: &mut Cradle) {
    loop {
        let mut queue = shared.lock();
        let order = loop {
            match queue.orders.pop_front() {
                Some(order) => break order,
                None => queue = shared.wait(queue),
            }
        };
        queue.taken += 1;
        shared.waiting.store(queue.orders.len(), Ordering::Release);
        drop(queue);
        let run = order.run;
        let judgement = match order.kind {
            RunKind::Hook(Hook::Check) => job::judge(&order.unit, &shared.ground.archive),
            RunKind::Service | RunKind::Job | RunKind::Hook(_) | RunKind::Probe(_) | RunKind::Alert(_) => {
                Judgement::Ask { done: false }
            }
        };
        let done = match judgement {
            Judgement::Ask { done } => done,
            Judgement::Final { done } => {
                shared.ground.inbox.send(News::Judged { run, done });
                continue;
            }
        };
        let news = match shared.ground.start(cradle, &order, done) {
            Ok(started) => News::Spawned { run, started },
            Err(error) => News::SpawnFailed { run, error },
        };
        shared.ground.inbox.send(news);
    }
}

/// The write ends for one process, and the streams that capture reads.
#[derive(Default)]
struct Output {
    out: Option<OwnedFd>,
    err: Option<OwnedFd>,
    streams: SmallVec<[StreamId; 2]>,
    mouth: Mouth,
    stored: Vec<Arc<OwnedFd>>,
    pipes: SmallVec<[(u64, u64); 1]>,
}

impl Ground {
    /// What recognises a process of this run on this machine.
    pub(crate) fn tag(&self, name: &str, generation: u64) -> String {
        format!("{}/{name}/{generation}", self.id)
    }

    fn start(&self, cradle: &mut Cradle, order: &Order, done: bool) -> Result<Started, SpawnError> {
        let name = &order.unit.config.spec.name;
        let tag = self.tag(name, order.run.generation);
        let ground = (&self.inherited, self.runtime_dir.as_path());
        let who = order.credentials.clone();
        let mut request = launch::request(&order.unit, (order.kind, done), &tag, who, ground)?;
        if let Some(pid) = order.main_pid {
            request.environment.push(("RELUME_MAIN_PID".into(), pid.to_string().into()));
        }
        request.environment.extend(order.told.iter().map(|(name, value)| (name.into(), value.into())));
        let mut output = Output::default();
        let generation = order.run.generation;
        self.hand_down(order, &mut request, &mut output)?;
        let ears = self.ears(order, &mut request, &mut output)?;
        let made = SpawnPlan::prepare(&request).map_err(refused).and_then(|plan| {
            if !matches!(order.kind, RunKind::Probe(_)) {
                self.connect(&order.unit, generation, &request, &mut output)?;
                self.look_for_line(order, &output);
            }
            let cgroup = self.cgroup(name, order.run.generation)?;
            let place = (self.cgroups.as_ref(), cgroup.as_ref());
            self.unlimited.limit((&order.unit, order.run, order.kind), place, (&self.keeper, &self.inbox));
            let trace = cradle.slot.as_mut().map(|slot| slot.begin(name, generation));
            self.spawn((&mut cradle.spawner, trace), &plan, &output, cgroup)
        });
        if let Ok((_, pidfd, _)) = &made {
            self.keeper.keep(&keeper::process_name(name, generation), &[pidfd.as_fd()]);
        }
        if let Some(slot) = &cradle.slot {
            slot.end();
        }
        match made {
            Ok((process, pidfd, cgroup)) => {
                let (kind, unit) = (order.kind, Arc::clone(&order.unit));
                let Output { streams, pipes, .. } = output;
                Ok(Started { process, pidfd, cgroup, tag, streams, pipes, kind, unit, ears })
            }
            Err(error) => {
                self.keeper.forget(&keeper::output_name(name, generation));
                self.keeper.forget(&keeper::ears_name(name, generation));
                output.streams.iter().for_each(|id| self.capture.finish(*id));
                if let Some(path) = ears.and_then(|ears| ears.path()) {
                    let _litter = relume_os::files::remove(&path);
                }
                Err(error)
            }
        }
    }

    /// Listening sockets, and what an earlier life has stored.
    fn hand_down(
        &self,
        order: &Order,
        request: &mut SpawnRequest,
        output: &mut Output,
    ) -> Result<(), SpawnError> {
        if !matches!(order.kind, RunKind::Service | RunKind::Job) {
            return Ok(());
        }
        let owner_of = |socket: &Socket| listening::owner_of(socket, &order.unit, request);
        let mut named = self.listening.give(&self.keeper, &order.unit, order.run.generation, owner_of)?;
        if order.kind == RunKind::Service {
            named.extend(self.stored.give(&order.unit.config.spec.name));
        }
        let names: Vec<String> = named.iter().map(|(name, _)| name.clone()).collect();
        listening::tell(request, &names);
        output.stored = named.into_iter().map(|(_, fd)| fd).collect();
        Ok(())
    }

    /// What a service's own process can speak into; hooks and jobs are not listened to.
    fn ears(
        &self,
        order: &Order,
        request: &mut SpawnRequest,
        output: &mut Output,
    ) -> Result<Option<Ears>, SpawnError> {
        if order.kind != RunKind::Service {
            return Ok(None);
        }
        let readiness = &order.unit.config.readiness;
        let (ears, mouth) = Ears::open(readiness, &self.notify_dir, request).map_err(failed)?;
        output.mouth = mouth;
        let fds = ears.fds();
        if !fds.is_empty() {
            let name = &order.unit.config.spec.name;
            self.keeper.keep(&keeper::ears_name(name, order.run.generation), &fds);
        }
        Ok(Some(ears))
    }

    fn spawn(
        &self,
        (spawner, trace): (&mut Spawner, Option<&AtomicU64>),
        plan: &SpawnPlan,
        output: &Output,
        cgroup: Option<RunCgroup>,
    ) -> Result<(ProcessId, PidFd, Option<RunCgroup>), SpawnError> {
        let litter = |cgroup: &Option<RunCgroup>| {
            // Nothing was ever in it; one that stays behind is litter and no more.
            cgroup.as_ref().map(RunCgroup::remove).map(drop)
        };
        let dir = cgroup.as_ref().map(RunCgroup::open_dir).transpose().map_err(|error| {
            litter(&cgroup);
            failed(error)
        })?;
        let way = self.cgroups.as_ref().map(|cgroups| cgroups.way);
        let entry = dir.as_ref().zip(way).map(|(dir, way)| match way {
            EntryWay::Born => CgroupEntry::Born(dir.as_fd()),
            EntryWay::Move => CgroupEntry::Move(dir.as_fd()),
        });
        let stored = (3..).zip(output.stored.iter().map(|fd| fd.as_fd()));
        let extra: Vec<_> = stored.chain(output.mouth.extra()).collect();
        let fds = SpawnFds {
            stdin: None,
            stdout: output.out.as_ref().map(AsFd::as_fd),
            stderr: output.err.as_ref().map(AsFd::as_fd),
            extra: &extra,
            cgroup: entry,
        };
        match spawner.spawn_traced(plan, &fds, trace) {
            Ok(spawned) => Ok((spawned.id, spawned.pidfd, cgroup)),
            Err(error) => {
                litter(&cgroup);
                Err(refused(error))
            }
        }
    }

    fn cgroup(&self, name: &str, generation: u64) -> Result<Option<RunCgroup>, SpawnError> {
        let create = |cgroups: &Cgroups| cgroups.root.create_run(name, generation);
        self.cgroups.as_ref().map(create).transpose().map_err(failed)
    }

    /// Makes the pipes. Their read ends go to the guardian and to capture before there is anybody to write.
    fn connect(
        &self,
        unit: &Unit,
        generation: u64,
        request: &SpawnRequest,
        output: &mut Output,
    ) -> Result<(), SpawnError> {
        let owner = request.credentials.as_ref().map(|who| (who.uid, who.gid));
        let survive = unit.config.log.rules.survive;
        let out = pipe(owner)?;
        let err = unit.err.is_some().then(|| pipe(owner)).transpose()?;
        let ends: Vec<&Pipe> = [Some(&out), err.as_ref()].into_iter().flatten().collect();
        let reads: Vec<_> = ends.iter().map(|pipe| pipe.read.as_fd()).collect();
        self.keeper.keep(&keeper::output_name(&unit.config.spec.name, generation), &reads);
        for pipe in ends {
            output.pipes.push(identity(pipe)?);
        }
        let Pipe { read, write } = out;
        output.streams.push(self.capture(unit, &unit.out, read, Origin::of(generation, false))?);
        output.out = Some(write);
        if let (Some(Pipe { read, write }), Some(log)) = (err, &unit.err) {
            output.streams.push(self.capture(unit, log, read, Origin::of(generation, true))?);
            output.err = Some(if survive { reader_too(&write)? } else { write });
            if let (true, Some(out)) = (survive, &output.out) {
                output.out = Some(reader_too(out)?);
            }
        } else if let (Stderr::Merge, Some(out)) = (unit.config.log.rules.stderr, &output.out) {
            // Whoever writes to this end holds a reader too, so the service never dies of SIGPIPE.
            output.err = Some(reader_too(out)?);
        }
        Ok(())
    }

    /// The line that makes the service ready is looked for where its output passes.
    fn look_for_line(&self, order: &Order, output: &Output) {
        for id in output.streams.iter().filter(|_| order.kind == RunKind::Service) {
            if let Some(look) = look_for_line(&order.unit, order.run, &self.inbox) {
                self.capture.look_for(*id, look);
            }
        }
    }

    fn capture(
        &self,
        unit: &Unit,
        log: &Arc<LogTarget>,
        pipe: OwnedFd,
        origin: Origin,
    ) -> Result<StreamId, SpawnError> {
        let id = StreamId(self.next_stream.fetch_add(1, Ordering::Relaxed));
        let who = unit.config.spec.name.clone();
        let stream = Stream { id, log: Arc::clone(log), pipe, who, origin, begins: true };
        match self.capture.attach(stream) {
            Ok(()) => Ok(id),
            Err(why) => Err(SpawnError { text: format!("cannot capture its output: {why}"), shortage: true }),
        }
    }
}

/// A pipe that belongs to the service's user, who could not open /dev/stdout otherwise.
fn pipe(owner: Option<(u32, u32)>) -> Result<Pipe, SpawnError> {
    let pipe = Pipe::new().map_err(failed)?;
    if let Some((uid, gid)) = owner {
        pipes::give_to(&pipe.write, uid, gid).map_err(failed)?;
    }
    Ok(pipe)
}

fn identity(pipe: &Pipe) -> Result<(u64, u64), SpawnError> {
    let id = relume_os::files::identify(&pipe.read).map_err(failed)?;
    Ok((id.device, id.inode))
}

fn reader_too(write: &OwnedFd) -> Result<OwnedFd, SpawnError> {
    pipes::reopen_read_write(write).map_err(failed)
}

fn refused(error: relume_os::spawn::SpawnError) -> SpawnError {
    SpawnError { shortage: is_shortage(error.errno), text: error.to_string() }
}

fn failed(error: relume_os::OsError) -> SpawnError {
    SpawnError { shortage: is_shortage(error.errno), text: error.to_string() }
}

/// What the machine lacks just now and may have again in a moment.
fn is_shortage(errno: Errno) -> bool {
    [libc_errno::EAGAIN, libc_errno::ENOMEM, libc_errno::EMFILE, libc_errno::ENFILE, libc_errno::ENOSPC]
        .contains(&errno.raw())
}

/// Numbers of errno(3), the same on all architectures that relume runs on.
mod libc_errno {
    pub(super) const EAGAIN: i32 = 11;
    pub(super) const ENOMEM: i32 = 12;
    pub(super) const ENFILE: i32 = 23;
    pub(super) const EMFILE: i32 = 24;
    /// Too many cgroups (cgroup.max.descendants answers EAGAIN, a full kernfs ENOSPC).
    pub(super) const ENOSPC: i32 = 28;
}
