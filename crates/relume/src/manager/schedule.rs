//! Jobs that are started by the clock.
//!
//! # Theory of operation
//!
//! One thread knows when each is due next and sleeps until the first of them. A cron expression is about the wall clock, so it
//! sleeps on that one, and the kernel wakes it when somebody sets it (TFD_TIMER_CANCEL_ON_SET, timerfd_create(2));
//! `@every` is about time that has passed, which no setting changes. A job that is due is told to the supervise
//! thread once, however often it would have been due meanwhile: a clock that jumps, a machine that slept, or a relume that was
//! down, never causes more than one run, and none for what was missed by more than [`LATE`], unless the job is to `catch_up`. What was run
//! before a clock went back by up to [`BACK`] is not run again.
//!
//! When a job was due last is kept by the wall clock and by the one of this boot: in a file of the runtime directory before anybody is told,
//! and in the archive a moment later, for the next boot. So a manager that replaces itself every few minutes goes on waiting for
//! `@every 1h`, what was due while it did so is not lost, and nothing is run twice.
//!
//! The core knows nothing of clocks: it sees a command.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use relume_config::{Overlap, Schedule, When};
use relume_core::{Command, Event, Intent, ServiceId, State, Supervisor, Ticket};
use relume_os::epoll::EventFd;
use relume_os::files::Durability;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::archive::Archive;
use super::edge::Edge;
use super::gate::Gate;
use super::inbox::{Inbox, News};
use super::publish::{Level, Note};
use super::units::Units;

/// What is later than this was missed: the machine slept, or the clock was set.
const LATE: SignedDuration = SignedDuration::from_secs(60);

/// A clock that goes back by no more than this was put right: what has been run is not run again.
const BACK: SignedDuration = SignedDuration::from_hours(3);

/// Never longer asleep than this, in seconds: a time beyond what a clock can count is looked at again.
const LONGEST: i64 = 24 * 3600;

/// Notes of what was due, in the runtime directory.
pub(crate) const SCHEDULE_FILE: &str = "schedule";

/// The jobs that are to be started by the clock, until the thread has taken them over.
type Wanted = Mutex<Option<Vec<(String, Schedule)>>>;

/// When jobs are due next, for the board.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times(Arc<Mutex<BTreeMap<String, Next>>>);

impl Times {
    /// How long it is until a job is due, and when that is by the wall clock where it goes by that.
    pub(crate) fn of(&self, name: &str) -> Option<(Duration, Option<Timestamp>)> {
        let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()?;
        match next {
            Next::At(at) => {
                let left = at.duration_since(wall_now());
                Some((Duration::try_from(left).unwrap_or_default(), Some(at)))
            }
            Next::In(at) => Some((at.saturating_duration_since(Instant::now()), None)),
            Next::Never => None,
        }
    }
}

/// The handle of the thread.
#[derive(Debug)]
pub(crate) struct Clockwork {
    wanted: Arc<Wanted>,
    bell: Arc<EventFd>,
    /// Locked while the thread notes what is due and tells of it; true: it does neither any more.
    held: Arc<Mutex<bool>>,
}

impl Clockwork {
    /// Starts the thread; it has nothing to do until it is told.
    ///
    /// Nothing is due before the gate is open.
    pub(crate) fn start(
        inbox: Arc<Inbox>,
        (archive, file): (Archive, PathBuf),
        (times, gate): (Times, Gate),
    ) -> relume_os::Result<Self> {
        let (wanted, bell) = (Arc::<Wanted>::default(), Arc::new(EventFd::new()?));
        let (asked, woken) = (Arc::clone(&wanted), Arc::clone(&bell));
        let boot = relume_os::clock::boot_id()?;
        let held = Arc::<Mutex<bool>>::default();
        let own = Arc::clone(&held);
        let run = move || {
            gate.pass();
            let notes = Notes::again(archive, file, boot);
            let mut thread = Thread { inbox, notes, times, held: own, jobs: BTreeMap::new() };
            // Without a timer nothing can be started by the clock; all else goes on.
            if let Err(error) = thread.run(&asked, &woken) {
                thread.inbox.send(News::Say(format!("no job is started by the clock any more: {error}")));
            }
        };
        let started = std::thread::Builder::new().name("schedule".into()).spawn(run);
        started.map_err(|error| {
            relume_os::OsError::new(
                "start a thread",
                relume_os::Errno::from_raw(error.raw_os_error().unwrap_or(11)),
            )
        })?;
        Ok(Self { wanted, bell, held })
    }

    /// Nothing is due any more, or again: what is told of from here on would be told to a manager that leaves. Waits for nothing but a
    /// note on a tmpfs.
    pub(crate) fn hold(&self, held: bool) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        if !held {
            let _ringing = self.bell.signal();
        }
    }

    /// These are the jobs from now on.
    pub(crate) fn set(&self, units: &Units) {
        let scheduled = units.order.iter().filter_map(|name| units.get(name));
        let jobs = scheduled.filter_map(|unit| {
            Some((unit.config.spec.name.to_string(), unit.config.schedule.as_deref()?.clone()))
        });
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(jobs.collect());
        // A bell that cannot be rung is ringing.
        let _ringing = self.bell.signal();
    }
}

/// The wall clock.
fn wall_now() -> Timestamp {
    let since = i64::try_from(relume_os::clock::realtime().as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(since).unwrap_or(Timestamp::MAX)
}

/// One look at both clocks.
#[derive(Debug, Clone, Copy)]
struct Now {
    wall: Timestamp,
    here: Instant,
    /// The same as `here`, comparable between processes of one boot.
    boot_ns: u64,
}

impl Now {
    fn read() -> Self {
        let boot_ns = relume_os::clock::monotonic_ns();
        Self { wall: wall_now(), here: Instant::now(), boot_ns }
    }
}

/// When a job was due last, or was first heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Last {
    wall: Timestamp,
    boot_ns: u64,
    boot: String,
}

impl Last {
    fn text(&self) -> String {
        format!("{} {} {}", self.wall.as_millisecond(), self.boot_ns, self.boot)
    }

    fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let wall = Timestamp::from_millisecond(words.next()?.parse().ok()?).ok()?;
        Some(Self { wall, boot_ns: words.next()?.parse().ok()?, boot: words.next()?.to_owned() })
    }

    /// How long ago that was; a clock that has been put back since has seen nothing of it.
    fn age(&self, now: Now, boot: &str) -> Duration {
        match self.boot == boot {
            true => Duration::from_nanos(now.boot_ns.saturating_sub(self.boot_ns)),
            false => Duration::try_from(now.wall.duration_since(self.wall)).unwrap_or_default(),
        }
    }
}

/// What is kept of the jobs beyond this manager.
struct Notes {
    archive: Option<Archive>,
    /// On a tmpfs; none in tests.
    file: Option<PathBuf>,
    boot: String,
    jobs: BTreeMap<String, Last>,
}

impl Notes {
    /// What an earlier manager of this boot has left.
    fn again(archive: Archive, file: PathBuf, boot: String) -> Self {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let note = |line: &str| {
            let (name, last) = line.split_once(' ')?;
            Some((name.to_owned(), Last::read(last).filter(|last| last.boot == boot)?))
        };
        let jobs = text.lines().filter_map(note).collect();
        Self { archive: Some(archive), file: Some(file), boot, jobs }
    }

    /// Writes all that is known where a successor finds it. Nothing here waits for a disk.
    fn save(&self) -> relume_os::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let lines = self.jobs.iter().map(|(name, last)| format!("{name} {}\n", last.text()));
        let text: String = lines.collect();
        relume_os::files::write_atomic(file, text.as_bytes(), 0o600, Durability::Process)
    }

    fn of(&mut self, name: &str) -> Option<Last> {
        let kept = || Last::read(&self.archive.as_ref()?.due_before(name)?);
        self.jobs.get(name).cloned().or_else(kept)
    }

    fn note(&mut self, name: &str, wall: Timestamp, now: Now) {
        let last = Last { wall, boot_ns: now.boot_ns, boot: self.boot.clone() };
        if let Some(archive) = &self.archive {
            archive.note_due(name, last.text());
        }
        self.jobs.insert(name.to_owned(), last);
    }
}

/// One job on the thread.
struct Job {
    schedule: Schedule,
    next: Next,
}

/// When a job is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    At(Timestamp),
    In(Instant),
    Never,
}

struct Thread {
    inbox: Arc<Inbox>,
    notes: Notes,
    times: Times,
    held: Arc<Mutex<bool>>,
    jobs: BTreeMap<String, Job>,
}

impl Thread {
    fn run(&mut self, asked: &Wanted, bell: &EventFd) -> io::Result<()> {
        let wall = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        loop {
            if let Some(jobs) = asked.lock().unwrap_or_else(PoisonError::into_inner).take() {
                self.take_over(jobs, Now::read());
            }
            self.fire(Now::read());
            self.show();
            let soonest = self.arm(&wall)?;
            let timeout = soonest.map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(LONGEST),
                tv_nsec: left.subsec_nanos().into(),
            });
            let mut fds = [PollFd::new(&wall, PollFlags::IN), PollFd::new(bell, PollFlags::IN)];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let _count = bell.drain();
            let mut count = [0; 8];
            if rustix::io::read(&wall, &mut count) == Err(rustix::io::Errno::CANCELED) {
                self.clock_was_set(Now::read());
            }
        }
    }

    fn show(&self) {
        let next = self.jobs.iter().map(|(name, job)| (name.clone(), job.next)).collect();
        *self.times.0.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }

    fn take_over(&mut self, wanted: Vec<(String, Schedule)>, now: Now) {
        let mut before = std::mem::take(&mut self.jobs);
        for (name, schedule) in wanted {
            let known = before.remove(&name).filter(|job| job.schedule == schedule);
            let job = known.unwrap_or_else(|| {
                let last = self.notes.of(&name);
                if last.is_none() {
                    // Waiting begins now, whoever may go on with it.
                    self.notes.note(&name, now.wall, now);
                }
                let next = first(&schedule, last.as_ref(), now, &self.notes.boot);
                Job { schedule, next }
            });
            self.jobs.insert(name, job);
        }
        let jobs = &self.jobs;
        self.notes.jobs.retain(|name, _| jobs.contains_key(name));
        self.save();
    }

    /// Tells of all that are due, each once.
    fn fire(&mut self, now: Now) {
        let held = Arc::clone(&self.held);
        let held = held.lock().unwrap_or_else(PoisonError::into_inner);
        if *held {
            return;
        }
        let (mut all, mut noted) = (Vec::new(), false);
        for (name, job) in &mut self.jobs {
            let due = match job.next {
                Next::At(at) if at <= now.wall => {
                    // Of several that have passed, the latest may still be in time.
                    let at = match after(&job.schedule, at.max(now.wall - LATE)) {
                        Next::At(latest) if latest <= now.wall => latest,
                        Next::At(_) | Next::In(_) | Next::Never => at,
                    };
                    job.next = after(&job.schedule, now.wall);
                    noted = true;
                    let in_time = now.wall.duration_since(at) <= LATE;
                    // What was missed is settled by this, whether it is made up for or not.
                    self.notes.note(name, if in_time { at } else { now.wall }, now);
                    in_time || job.schedule.catch_up
                }
                Next::In(at) if at <= now.here => {
                    let When::Every(every) = job.schedule.when else { continue };
                    noted = true;
                    // From now on, not from when it was due: what was missed does not add up.
                    job.next = Next::In(if now.here < at + every { at + every } else { now.here + every });
                    self.notes.note(name, now.wall, now);
                    true
                }
                Next::At(_) | Next::In(_) | Next::Never => false,
            };
            if due {
                all.push(News::Due { name: name.clone(), overlap: job.schedule.overlap });
            }
        }
        if noted {
            self.save();
        }
        all.into_iter().for_each(|due| self.inbox.send(due));
    }

    /// Before anybody is told: a manager that dies in between has lost a run, and none is run twice.
    fn save(&self) {
        if let Err(error) = self.notes.save() {
            self.inbox.send(News::Say(format!("{error}: a job may run twice should relume die now")));
        }
    }

    /// Somebody has set the clock.
    fn clock_was_set(&mut self, now: Now) {
        for (name, job) in &mut self.jobs {
            if matches!(job.next, Next::At(_)) {
                let last = self.notes.of(name);
                job.next = first(&job.schedule, last.as_ref(), now, &self.notes.boot);
            }
        }
    }

    /// Sets the timer of the wall clock to the first time; how long it is to the first that needs none.
    fn arm(&self, wall: &OwnedFd) -> io::Result<Option<Duration>> {
        let now = wall_now().as_second();
        let times = self.jobs.values().filter_map(|job| match job.next {
            Next::At(at) => Some(at),
            Next::In(_) | Next::Never => None,
        });
        let first = times.min();
        let value = first.map_or(Timespec { tv_sec: now + LONGEST, tv_nsec: 0 }, |at| Timespec {
            tv_sec: at.as_second().clamp(1, now + LONGEST),
            tv_nsec: at.subsec_nanosecond().into(),
        });
        let interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(wall, flags, &Itimerspec { it_interval: interval, it_value: value })?;
        let here = Instant::now();
        let spans = self.jobs.values().filter_map(|job| match job.next {
            Next::In(at) => Some(at.saturating_duration_since(here)),
            Next::At(_) | Next::Never => None,
        });
        Ok(spans.min())
    }
}

/// When a job is due that was so last at that time. It may lie in the past: then it was missed, by little or by much.
fn first(schedule: &Schedule, last: Option<&Last>, now: Now, boot: &str) -> Next {
    let When::Every(every) = schedule.when else {
        return after(schedule, origin(last.map(|last| last.wall), now.wall, schedule.catch_up));
    };
    let known = last.filter(|last| schedule.catch_up || last.boot == boot);
    let age = known.map_or(Duration::ZERO, |last| last.age(now, boot));
    let late = Duration::try_from(LATE).unwrap_or_default();
    let left = match every.checked_sub(age) {
        Some(left) => left,
        None if schedule.catch_up || age - every <= late => Duration::ZERO,
        None => every,
    };
    Next::In(now.here + left)
}

/// The time after which a job is due next that was so last at `last`.
fn origin(last: Option<Timestamp>, now: Timestamp, catch_up: bool) -> Timestamp {
    match last {
        // The clock was put back.
        Some(last) if last > now && last.duration_since(now) <= BACK => last,
        Some(last) if last > now => now,
        Some(last) if catch_up => last,
        Some(last) => last.max(now - LATE),
        None => now,
    }
}

/// The first time after that one, by the clock of its zone.
fn after(schedule: &Schedule, time: Timestamp) -> Next {
    let When::Cron(text) = &schedule.when else { return Next::Never };
    let zone = match &schedule.timezone {
        None => TimeZone::system(),
        // The config has checked the name against the zones that this program carries.
        Some(name) => TimeZone::get(name).unwrap_or(TimeZone::UTC),
    };
    let next = Cron::from_str(text).ok().and_then(|cron| {
        cron.find_next_occurrence(&time.to_zoned(zone), false).ok().map(|at| at.timestamp())
    });
    next.map_or(Next::Never, Next::At)
}

/// A job that is due.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) name: String,
    pub(crate) overlap: Overlap,
}

impl Edge {
    /// Starts what is due, as far as that is wanted now.
    pub(crate) fn start_due(&mut self, core: &Supervisor) {
        let waiting = std::mem::take(&mut self.queued);
        let queued = waiting.into_iter().map(|name| Due { name, overlap: Overlap::Queue });
        let due: Vec<Due> = queued.chain(std::mem::take(&mut self.due)).collect();
        let mut seen = BTreeSet::new();
        for Due { name, overlap } in due {
            if !seen.insert(name.clone()) {
                continue;
            }
            let Some(id) = core.find(&name) else { continue };
            match verdict(core, id, overlap) {
                Verdict::Leave => {}
                Verdict::Wait => {
                    self.queued.insert(name);
                }
                Verdict::Start => self.order_due(Command::Start(vec![id])),
                Verdict::Restart => self.order_due(Command::Restart(vec![id])),
                Verdict::Skip => {
                    self.publisher.send(Note::Say {
                        level: Level::Warn,
                        text: format!(
                            "{name}: due, and left out: the last run still goes on (overlap: skip)"
                        ),
                    });
                }
            }
        }
    }

    fn order_due(&mut self, command: Command) {
        self.events.push_back(Event::Commanded { ticket: Ticket(0), command });
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Somebody has stopped it, or relume is leaving.
    Leave,
    Skip,
    Wait,
    Start,
    Restart,
}

fn verdict(core: &Supervisor, id: ServiceId, overlap: Overlap) -> Verdict {
    let Some(record) = core.record(id) else { return Verdict::Leave };
    if core.snapshot().shutdown.is_some() || record.retired || record.intent == Intent::Down {
        return Verdict::Leave;
    }
    let busy = record.state.is_live() || matches!(record.state, State::Pending { .. });
    match (busy, overlap) {
        (false, _) => Verdict::Start,
        (true, Overlap::Skip) => Verdict::Skip,
        (true, Overlap::Queue) => Verdict::Wait,
        (true, Overlap::Kill) => Verdict::Restart,
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
