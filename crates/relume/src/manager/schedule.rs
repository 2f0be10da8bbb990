//! Jobs that are started by the clock.
//!
//! # Theory of operation
//!
//! One thread knows when each is due next and sleeps until the first of them. A cron expression is about the wall clock, so it
//! sleeps on that one, and the kernel wakes it when somebody sets it (TFD_TIMER_CANCEL_ON_SET, timerfd_create(2));
//! `@every` is about time that has passed, which no setting changes. A job that is due is told to the supervise
//! thread once, however often it would have been due meanwhile: a clock that jumps, or a machine that slept,
//! never causes more than one run, and what was missed by more than [`LATE`] is left out. What was run before a clock went
//! back by up to [`BACK`] is not run again.
//!
//! The core knows nothing of clocks: it sees a command.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use relume_config::{Overlap, Schedule, When};
use relume_core::{Command, Event, Intent, ServiceId, State, Supervisor, Ticket};
use relume_os::epoll::EventFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::edge::Edge;
use super::inbox::{Inbox, News};
use super::publish::{Level, Note};
use super::units::Units;

/// What is later than this was missed: the machine slept, or the clock was set.
const LATE: SignedDuration = SignedDuration::from_secs(60);

/// A clock that goes back by no more than this was put right: what has been run is not run again.
const BACK: SignedDuration = SignedDuration::from_hours(3);

/// Never longer asleep than this, in seconds: a time beyond what a clock can count is looked at again.
const LONGEST: i64 = 24 * 3600;

/// The jobs that are to be started by the clock, until the thread has taken them over.
type Wanted = Mutex<Option<Vec<(String, Schedule)>>>;

/// The handle of the thread.
#[derive(Debug)]
pub(crate) struct Clockwork {
    wanted: Arc<Wanted>,
    bell: Arc<EventFd>,
}

impl Clockwork {
    /// Starts the thread; it has nothing to do until it is told.
    pub(crate) fn start(inbox: Arc<Inbox>) -> relume_os::Result<Self> {
        let (wanted, bell) = (Arc::<Wanted>::default(), Arc::new(EventFd::new()?));
        let (asked, woken) = (Arc::clone(&wanted), Arc::clone(&bell));
        let run = move || {
            let mut thread = Thread { inbox, jobs: BTreeMap::new() };
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
        Ok(Self { wanted, bell })
    }

    /// These are the jobs from now on.
    pub(crate) fn set(&self, units: &Units) {
        let scheduled = units.order.iter().filter_map(|name| units.get(name));
        let jobs =
            scheduled.filter_map(|unit| Some((unit.config.spec.name.clone(), unit.config.schedule.clone()?)));
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(jobs.collect());
        // A bell that cannot be rung is ringing.
        let _ringing = self.bell.signal();
    }
}

/// One job on the thread.
struct Job {
    schedule: Schedule,
    next: Next,
    /// When it was due last, by the wall clock.
    last: Option<Timestamp>,
}

enum Next {
    At(Timestamp),
    In(Instant),
    Never,
}

struct Thread {
    inbox: Arc<Inbox>,
    jobs: BTreeMap<String, Job>,
}

impl Thread {
    fn run(&mut self, asked: &Wanted, bell: &EventFd) -> io::Result<()> {
        let wall = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        loop {
            if let Some(jobs) = asked.lock().unwrap_or_else(PoisonError::into_inner).take() {
                self.take_over(jobs);
            }
            self.fire();
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
                self.clock_was_set(Timestamp::now());
            }
        }
    }

    fn take_over(&mut self, wanted: Vec<(String, Schedule)>) {
        let mut before = std::mem::take(&mut self.jobs);
        for (name, schedule) in wanted {
            let known = before.remove(&name).filter(|job| job.schedule == schedule);
            let job = known.unwrap_or_else(|| {
                let next = first(&schedule);
                Job { schedule, next, last: None }
            });
            self.jobs.insert(name, job);
        }
    }

    /// Tells of all that are due, each once.
    fn fire(&mut self) {
        let (now, here) = (Timestamp::now(), Instant::now());
        for (name, job) in &mut self.jobs {
            let due = match job.next {
                Next::At(at) if at <= now => {
                    job.next = after(&job.schedule, now);
                    job.last = Some(at);
                    now.duration_since(at) <= LATE
                }
                Next::In(at) if at <= here => {
                    let When::Every(every) = job.schedule.when else { continue };
                    // From now on, not from when it was due: what was missed does not add up.
                    job.next = Next::In(if here < at + every { at + every } else { here + every });
                    true
                }
                Next::At(_) | Next::In(_) | Next::Never => false,
            };
            if due {
                self.inbox.send(News::Due { name: name.clone(), overlap: job.schedule.overlap });
            }
        }
    }

    /// Somebody has set the clock, to this.
    fn clock_was_set(&mut self, now: Timestamp) {
        for job in self.jobs.values_mut() {
            let Next::At(_) = job.next else { continue };
            let from = match job.last {
                Some(last) if last > now && last.duration_since(now) <= BACK => last,
                Some(_) | None => now,
            };
            job.next = after(&job.schedule, from);
        }
    }

    /// Sets the timer of the wall clock to the first time; how long it is to the first that needs none.
    fn arm(&self, wall: &OwnedFd) -> io::Result<Option<Duration>> {
        let now = Timestamp::now().as_second();
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

fn first(schedule: &Schedule) -> Next {
    match schedule.when {
        When::Every(every) => Next::In(Instant::now() + every),
        When::Cron(_) => after(schedule, Timestamp::now()),
    }
}

/// The first time after that one, by the clock of its zone.
fn after(schedule: &Schedule, time: Timestamp) -> Next {
    let When::Cron(text) = &schedule.when else { return Next::Never };
    let zone = match &schedule.timezone {
        None => TimeZone::system(),
        Some(name) => TimeZone::get(name).unwrap_or_else(|_| TimeZone::system()),
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
mod tests {
    use super::*;

    fn cron(text: &str, zone: &str) -> Schedule {
        let when = When::Cron(text.into());
        Schedule { when, timezone: Some(zone.into()), overlap: Overlap::Skip }
    }

    fn times(schedule: &Schedule, from: &str, count: usize) -> Vec<String> {
        let mut at: Timestamp = from.parse().unwrap();
        let mut all = Vec::new();
        for _ in 0..count {
            let Next::At(next) = after(schedule, at) else { break };
            all.push(next.to_string());
            at = next;
        }
        all
    }

    fn thread(schedule: Schedule, next: Next, last: Option<Timestamp>) -> Thread {
        let inbox = Arc::new(Inbox::new().unwrap());
        Thread { inbox, jobs: BTreeMap::from([("job".to_owned(), Job { schedule, next, last })]) }
    }

    fn due(thread: &Thread) -> usize {
        let mut news = Default::default();
        thread.inbox.take(&mut news);
        news.len()
    }

    #[test]
    fn a_day_has_one_run_of_a_daily_job_whatever_the_summer_time_does() {
        let daily = cron("30 2 * * *", "Europe/Berlin");
        // In the night of March 29 there is no 02:30, in that of October 25 there are two.
        let spring = times(&daily, "2026-03-28T00:00:00Z", 3);
        assert_eq!(spring.len(), 3);
        assert_eq!(spring[0], "2026-03-28T01:30:00Z");
        assert!(spring[1].starts_with("2026-03-29T0"), "{spring:?}");
        assert_eq!(spring[2], "2026-03-30T00:30:00Z");
        let autumn = times(&daily, "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    }

    #[test]
    fn what_is_due_is_told_once_and_what_was_missed_by_far_is_left_out() {
        let now = Timestamp::now();
        let seconds = |n| SignedDuration::from_secs(n);
        let mut late = thread(cron("* * * * *", "UTC"), Next::At(now - seconds(5)), None);
        late.fire();
        late.fire();
        assert_eq!(due(&late), 1);
        let mut missed = thread(cron("* * * * *", "UTC"), Next::At(now - seconds(36_000)), None);
        missed.fire();
        assert_eq!(due(&missed), 0);
        let every = Schedule { when: When::Every(Duration::from_secs(1)), ..cron("* * * * *", "UTC") };
        let mut slept = thread(every, Next::In(Instant::now()), None);
        std::thread::sleep(Duration::from_millis(1));
        slept.fire();
        slept.fire();
        assert_eq!(due(&slept), 1);
    }

    #[test]
    fn a_clock_that_is_put_back_a_little_repeats_nothing() {
        let now: Timestamp = "2026-06-01T10:30:00Z".parse().unwrap();
        let last: Timestamp = "2026-06-01T11:00:00Z".parse().unwrap();
        let next = |last: Timestamp, now: Timestamp| {
            let mut one = thread(cron("0 * * * *", "UTC"), Next::At(last), Some(last));
            one.clock_was_set(now);
            match one.jobs["job"].next {
                Next::At(at) => at.to_string(),
                Next::In(_) | Next::Never => "none".into(),
            }
        };
        assert_eq!(next(last, now), "2026-06-01T12:00:00Z");
        let far: Timestamp = "2036-06-01T11:00:00Z".parse().unwrap();
        assert_eq!(next(far, now), "2026-06-01T11:00:00Z", "a clock that was years ahead stops nothing");
    }
}
