//! Facts and states in sentences for people, and as records of the event stream.

use std::time::Duration;

use relume_config::Said;
use relume_core::{
    Away, Cause, Check, Condition, Count, Exit, Fact, Hook, Intent, Moment, Pace, Record, RunId, RunKind,
    StartPhase, State, StopPhase, WaitFor, What, Word,
};
use relume_os::exit::Usage;
use relume_os::signals;
use relume_proto::{self as wire, EventKind, EventRecord};

use super::super::ready::NOT_READY;
use super::board::{Board, now, wall};
use crate::sizes;

/// A fact as a record of the event stream; none for what only the core cares about.
pub(super) fn event(board: &Board, fact: &Fact) -> Option<EventRecord> {
    let (kind, detail) = match &fact.what {
        What::Moved { service, from, to } => return moved(board, fact, *service, from, to),
        What::RunEnded { run, exit: Some(_), .. } => {
            let record = board.memory.services.get(&run.service)?;
            let used = board.used_by(*run).map(|usage| format!("; {}", used(usage))).unwrap_or_default();
            (EventKind::Exit, format!("{}{used}", ended(record)?))
        }
        What::Probed { run, check, failure, health } => {
            let before = board.memory.services.get(&run.service)?.health.count(*check);
            let counts = (before, health.count(*check));
            (EventKind::Probe, probed(board, *run, *check, failure.as_deref(), counts)?)
        }
        What::SideEnded { kind: RunKind::Hook(hook), exit, error, .. } => match (exit, error) {
            (Some(Exit::Code(0)), _) => return None,
            // What it has found is told by what follows.
            (Some(Exit::Code(_)), _) if *hook == Hook::Check => return None,
            (Some(exit), _) => (EventKind::Warning, format!("its {} {}", hook.key(), in_words(*exit))),
            (None, Some(error)) => {
                (EventKind::Warning, format!("its {} could not be started: {}", hook.key(), error.text))
            }
            (None, None) => (
                EventKind::Warning,
                format!("its {} was ended: it took too long or was not needed any more", hook.key()),
            ),
        },
        What::SideEnded { kind: RunKind::Alert(_), exit, error, .. } => match (exit, error) {
            (Some(Exit::Code(0)), _) => return None,
            (Some(exit), _) => (EventKind::Warning, format!("the command of its alert {}", in_words(*exit))),
            (None, Some(error)) => {
                (EventKind::Warning, format!("the command of its alert could not be started: {}", error.text))
            }
            (None, None) => (EventKind::Warning, "the command of its alert took too long".into()),
        },
        What::ConfigApplied { added, changed, removed, .. } => (
            EventKind::Config,
            format!("configuration applied: {added} new, {changed} changed, {removed} removed"),
        ),
        What::ConfigRefused { problem } => {
            (EventKind::Config, format!("configuration refused, the one before stays: {problem}"))
        }
        What::Returned { why, detail, took_us } => {
            return Some(returned(board, fact, *why, detail, *took_us));
        }
        What::StillAlive { .. } => (
            EventKind::Warning,
            "SIGKILL has not ended it: a process waits in the kernel (state D); trying again".into(),
        ),
        What::LooksForking { .. } => (
            EventKind::Warning,
            "its process ended well and left others running: it put itself in the background. \
             Use its foreground option, or set type: forking"
                .into(),
        ),
        What::Noticed { text, .. } => (EventKind::Warning, text.clone()),
        What::Adopted { .. } => (EventKind::Recovery, "found running".into()),
        What::Removed { .. } => (EventKind::Config, "removed".into()),
        What::RunEnded { .. }
        | What::SideEnded { .. }
        | What::Added { .. }
        | What::Retired { .. }
        | What::IntentSet { .. }
        | What::ReplaceSet { .. }
        | What::RunBegan { .. }
        | What::HistorySet { .. }
        | What::SideMoved { .. }
        | What::ShutdownBegan { .. }
        | What::Stale { .. } => return None,
    };
    Some(EventRecord { event: kind, detail: Some(detail), ..blank(board, fact) })
}

fn blank(board: &Board, fact: &Fact) -> EventRecord {
    let service = fact.what.service();
    let run = service.and_then(|id| board.memory.services.get(&id)).map(|record| record.generation);
    EventRecord {
        seq: fact.seq,
        at: wall(fact.at),
        service: service.map(|id| board.name(id).to_owned()),
        run: run.filter(|generation| *generation > 0),
        ..EventRecord::default()
    }
}

fn moved(
    board: &Board,
    fact: &Fact,
    service: relume_core::ServiceId,
    from: &State,
    to: &State,
) -> Option<EventRecord> {
    let record = board.memory.services.get(&service)?;
    let policy = board.unit(service).map(|unit| unit.config.spec.policy.restart.clone()).unwrap_or_default();
    let words = (Word::of(from, &policy), Word::of(to, &policy));
    // A change within a state that people do not see, unless what it waits for has changed.
    let waits = matches!(to, State::Pending { on: WaitFor::Dependency(_), .. });
    let passes = matches!(to, State::Pending { on: WaitFor::Nothing, .. });
    if passes || (words.0 == words.1 && !waits) {
        return None;
    }
    Some(EventRecord {
        event: EventKind::State,
        from: Some(word(words.0)),
        to: Some(word(words.1)),
        cause: cause_of(to),
        detail: reason(board, record),
        ..blank(board, fact)
    })
}

/// What a probe has changed, for people; a first success is seen by its being ready.
fn probed(
    board: &Board,
    run: RunId,
    check: Check,
    failure: Option<&str>,
    (before, after): (Count, Count),
) -> Option<String> {
    let key = check.key();
    let Some(failure) = failure else {
        let again = before.failures > 0 || before.well == Some(false);
        return (again && after.well != Some(false)).then(|| format!("its {key} succeeds again"));
    };
    let most = board.unit(run.service).and_then(|unit| unit.config.spec.policy.checks.rule(check))?.failures;
    Some(format!("its {key} failed ({} of {most}): {failure}", after.failures))
}

/// The core's word on the wire.
pub(super) fn word(word: Word) -> wire::State {
    wire::State::from(word.as_str())
}

/// Why a service is in a state that has a cause.
pub(super) fn cause_of(state: &State) -> Option<wire::Cause> {
    match state {
        State::Stopping { why: cause, .. }
        | State::Restarting { cause, .. }
        | State::Failed { cause, .. } => Some(on_the_wire(cause)),
        State::Stopped
        | State::Pending { .. }
        | State::Starting { .. }
        | State::Running { .. }
        | State::Completed => None,
    }
}

fn on_the_wire(cause: &Cause) -> wire::Cause {
    match cause {
        Cause::Asked | Cause::Shutdown => wire::Cause::Asked,
        Cause::Exited(Exit::Code(_)) | Cause::LeftNothing | Cause::AlreadyDone | Cause::HookFailed { .. } => {
            wire::Cause::Exit
        }
        Cause::Exited(Exit::Signal { .. }) => wire::Cause::Signal,
        Cause::Exited(Exit::OutOfMemory { .. }) => wire::Cause::Oom,
        Cause::Memory { .. } => wire::Cause::Memory,
        Cause::Exited(Exit::Unknown) => wire::Cause::Unknown,
        Cause::SpawnFailed(_) => wire::Cause::SpawnFailed,
        Cause::StartTimeout => wire::Cause::StartTimeout,
        Cause::Unhealthy(_) => wire::Cause::Unhealthy,
        Cause::Watchdog => wire::Cause::Watchdog,
        Cause::Dependency(_) => wire::Cause::Dependency,
        Cause::ConfigChanged | Cause::Removed => wire::Cause::Config,
    }
}

/// Why a service is in its state, for people; none where the state says it all.
pub(super) fn reason(board: &Board, record: &Record) -> Option<String> {
    match &record.state {
        State::Running { .. } => told(board, record),
        State::Stopped => ended(record),
        State::Pending { on, .. } => Some(waiting(board, record, *on)),
        State::Starting { phase, .. } => match phase {
            StartPhase::PreStart { hook } => Some(format!("running its {}", hook_of(record, *hook))),
            StartPhase::Spawning => None,
            StartPhase::Alive => told(board, record).or_else(|| awaited(board, record)),
            StartPhase::Forked => Some("looking for the process it left in the background".into()),
        },
        State::Stopping { why: why @ Cause::Unhealthy(_), phase, .. } => {
            Some(format!("{}; {}", ill(board, record, why), stopping(*phase)))
        }
        State::Stopping { why: Cause::StartTimeout, phase, .. } => {
            Some(format!("{}; {}", late(board, record), stopping(*phase)))
        }
        State::Stopping { why, phase, .. } => Some(format!("{}; {}", because(board, why), stopping(*phase))),
        State::Restarting { cause, pace, .. } => Some(match pace {
            Pace::Shortage => format!("{}; not its fault, so tried again soon", because(board, cause)),
            Pace::Slow => format!("{}; retries used up", because_ended(board, record, cause)),
            Pace::Prompt | Pace::Backoff => because_ended(board, record, cause),
        }),
        State::Completed => match record.last_end.as_ref().map(|end| &end.cause) {
            Some(cause @ Cause::AlreadyDone) => Some(because(board, cause)),
            Some(_) | None => ended(record),
        },
        State::Failed { cause, exhausted } => Some(if *exhausted {
            format!(
                "{}; retries used up, start it when its cause is gone",
                because_ended(board, record, cause)
            )
        } else {
            because_ended(board, record, cause)
        }),
    }
}

/// When a job that rests is due next, by its schedule; none for all others, and for one that somebody has stopped.
pub(super) fn due(board: &Board, record: &Record) -> Option<String> {
    let rests = matches!(record.state, State::Stopped | State::Completed);
    if !rests || record.intent == Intent::Down || record.retired {
        return None;
    }
    let (left, at) = board.times.of(&record.name)?;
    let zone = &board.units.get(&record.name)?.config.schedule.as_ref()?.timezone;
    let when = match (at, zone) {
        (None, _) => format!("next run in {}", span(left)),
        (Some(at), zone) => {
            let system = jiff::tz::TimeZone::system();
            let own = zone.as_ref().and_then(|name| jiff::tz::TimeZone::get(name).ok());
            let local = at.to_zoned(own.unwrap_or(system)).strftime("%Y-%m-%d %H:%M:%S").to_string();
            let name = zone.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
            format!("next run {local}{name}, in {}", span(left))
        }
    };
    Some(match ended(record) {
        Some(last) => format!("{when}; last: {last}"),
        None => when,
    })
}

/// The key of a hook that is under way.
fn hook_of(record: &Record, run: relume_core::RunId) -> &'static str {
    let side = record.sides.iter().find(|side| side.run == run);
    match side.map(|side| side.kind) {
        Some(RunKind::Hook(Hook::Check)) => "check whether there is something to do",
        Some(RunKind::Hook(hook)) => hook.key(),
        Some(RunKind::Service | RunKind::Job | RunKind::Probe(_) | RunKind::Alert(_)) | None => "pre_start",
    }
}

/// What the service says of itself, or its probes of it.
fn told(board: &Board, record: &Record) -> Option<String> {
    board.told_of(*board.ids.get(record.name.as_str())?).map(str::to_owned)
}

/// By what it is to become ready.
fn awaited(board: &Board, record: &Record) -> Option<String> {
    let readiness = &board.units.get(&record.name)?.config.readiness;
    Some(match (readiness.said, super::super::ready::awaited_line(board.units.get(&record.name)?)) {
        (Some(Said::Notify), _) => "waiting for its READY=1".into(),
        (Some(Said::Fd(number)), _) => format!("waiting for a newline on its descriptor {number}"),
        (None, Some(text)) => format!("waiting for a line with `{text}`"),
        (None, None) if readiness.is_awaited() => "waiting for its probe to succeed".into(),
        (None, None) => return None,
    })
}

fn waiting(board: &Board, record: &Record, on: WaitFor) -> String {
    let WaitFor::Dependency(need) = on else {
        return match on {
            WaitFor::RespawnRate => "waiting for its turn: too many restarts at once (respawn_rate)".into(),
            WaitFor::Predecessor => "waiting for the end of an earlier life of its own".into(),
            WaitFor::Nothing | WaitFor::Slot | WaitFor::Dependency(_) => {
                "waiting for its turn: many services are being started (start_parallelism)".into()
            }
        };
    };
    let name = board.name(need);
    let condition = board
        .units
        .get(&record.name)
        .and_then(|unit| unit.config.spec.policy.dependencies.get(name))
        .map_or("be ready", |how| match how.condition {
            Condition::Started => "be started",
            Condition::Ready => "be ready",
            Condition::Completed => "complete",
        });
    let state = board.memory.services.get(&need).map(|known| {
        let policy = board.unit(need).map(|unit| unit.config.spec.policy.restart.clone()).unwrap_or_default();
        Word::of(&known.state, &policy)
    });
    match state {
        Some(state) => format!("waiting for {name} to {condition}; it is {state}"),
        None => format!("waiting for {name} to {condition}"),
    }
}

fn stopping(phase: StopPhase) -> String {
    let until = |at: Option<Moment>| match at {
        Some(at) => format!("SIGKILL in {}", span(at.since(now()))),
        None => "waiting without limit".into(),
    };
    match phase {
        StopPhase::Cancel { .. } => "ending its pre_start".into(),
        StopPhase::AwaitSpawn { .. } => "waiting for its process to exist".into(),
        StopPhase::PreStop { .. } => "running its pre_stop".into(),
        StopPhase::Asked { kill_at } => until(kill_at),
        StopPhase::Rest { kill_at } => format!("processes it left behind; {}", until(kill_at)),
        StopPhase::Killed { .. } => "SIGKILL sent".into(),
        StopPhase::PostStop { .. } => "running its post_stop".into(),
    }
}

/// The end of the last run where that is the cause, with how long it was up; else the cause alone.
fn because_ended(board: &Board, record: &Record, cause: &Cause) -> String {
    match cause {
        Cause::Exited(_) if board.forked(record) => {
            format!("{} and left processes in the background; is it type: forking?", because(board, cause))
        }
        Cause::Exited(exit) => {
            stand_in(board, record, *exit).or_else(|| ended(record)).unwrap_or_else(|| because(board, cause))
        }
        Cause::Unhealthy(_) => ill(board, record, cause),
        Cause::StartTimeout => late(board, record),
        Cause::Asked
        | Cause::LeftNothing
        | Cause::AlreadyDone
        | Cause::SpawnFailed(_)
        | Cause::HookFailed { .. }
        | Cause::Watchdog
        | Cause::Memory { .. }
        | Cause::Dependency(_)
        | Cause::ConfigChanged
        | Cause::Removed
        | Cause::Shutdown => because(board, cause),
    }
}

/// What a shim could not do: in its own words, which its exit code has none for.
fn stand_in(board: &Board, record: &Record, exit: Exit) -> Option<String> {
    let unit = board.units.get(&record.name)?;
    (unit.config.stand_in.is_some() && exit == Exit::Code(crate::shim::UNAVAILABLE.into()))
        .then(|| told(board, record))?
}

/// What kept it from being ready, where something has said that.
fn late(board: &Board, record: &Record) -> String {
    let because = because(board, &Cause::StartTimeout);
    match told(board, record) {
        Some(told) => format!("{because}: {}", told.strip_prefix(NOT_READY).unwrap_or(&told)),
        None => because,
    }
}

/// What its probes have said last.
fn ill(board: &Board, record: &Record, cause: &Cause) -> String {
    let id = board.ids.get(record.name.as_str());
    match id.and_then(|id| board.last_failure(*id)) {
        Some(failure) => format!("{}: {failure}", because(board, cause)),
        None => because(board, cause),
    }
}

/// A cause in a few words.
pub(super) fn because(board: &Board, cause: &Cause) -> String {
    match cause {
        Cause::Asked => "asked".into(),
        Cause::Exited(exit) => in_words(*exit),
        Cause::AlreadyDone => "it had been done already".into(),
        Cause::HookFailed { hook: Hook::Check, exit: Some(Exit::Code(relume_core::MISSING)) } => {
            "something that it requires is missing; its log says what".into()
        }
        Cause::LeftNothing => "its first process ended and left nothing in the background".into(),
        Cause::SpawnFailed(error) => error.text.clone(),
        Cause::StartTimeout => "not ready within timeout_start".into(),
        Cause::HookFailed { hook, exit: Some(exit) } => format!("its {} {}", hook.key(), in_words(*exit)),
        Cause::HookFailed { hook, exit: None } => {
            format!("its {} took too long or could not be started", hook.key())
        }
        Cause::Unhealthy(check) => format!("its {} failed too often in a row", check.key()),
        Cause::Memory { used, limit } => {
            format!(
                "it used {} of memory, and max_memory is {}",
                sizes::in_words(*used),
                sizes::in_words(*limit)
            )
        }
        Cause::Watchdog => "no sign of life within its watchdog time".into(),
        Cause::Dependency(need) => format!("{} went down", board.name(*need)),
        Cause::ConfigChanged => "its configuration changed".into(),
        Cause::Removed => "removed from the configuration".into(),
        Cause::Shutdown => "relume is stopping".into(),
    }
}

/// How the last run ended, and how long it had been up.
pub(super) fn ended(record: &Record) -> Option<String> {
    let end = record.last_end.as_ref()?;
    let mut how = in_words(end.exit?);
    if let Cause::Memory { .. } = end.cause {
        how.push_str(", over its max_memory,");
    }
    Some(match end.ready_ns {
        0 => how,
        ready => format!("{how} after {}", span(Duration::from_nanos(ready))),
    })
}

/// What a process has used: `used 1.2 s of CPU and at most 34.1 MB of memory`.
fn used(usage: Usage) -> String {
    let tenths = usage.max_rss_kib.saturating_mul(1024) / 100_000;
    let (mb, tenth) = (tenths / 10, tenths % 10);
    format!("used {} of CPU and at most {mb}.{tenth} MB of memory", span(usage.user + usage.system))
}

/// An end in a few words.
fn in_words(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited {code}"),
        Exit::Signal { number, core_dumped: false } => format!("ended by {}", signals::name(number)),
        Exit::Signal { number, core_dumped: true } => {
            format!("ended by {}, core dumped", signals::name(number))
        }
        Exit::OutOfMemory { certain: true } => "ended by SIGKILL: out of memory".into(),
        Exit::OutOfMemory { certain: false } => {
            "ended by SIGKILL, perhaps out of memory: the kernel killed for want of it at that time".into()
        }
        Exit::Unknown => "ended while nobody could see how".into(),
    }
}

/// A span as people say it: `340 ms`, `4.2 s`, `3 min`, `2 h 5 min`.
pub(super) fn span(span: Duration) -> String {
    let ms = span.as_millis();
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        10_000..60_000 => format!("{} s", ms / 1_000),
        60_000..3_600_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// relume itself is back.
fn returned(board: &Board, fact: &Fact, why: Away, detail: &str, took_us: Option<u64>) -> EventRecord {
    let gap = took_us.map(|us| format!(", {}.{:03} ms without supervision", us / 1000, us % 1000));
    let gap = gap.unwrap_or_default();
    let (event, text) = if why.is_respawn() {
        (EventKind::Respawn, format!("relume was respawned ({detail}){gap}"))
    } else {
        (EventKind::Recovery, format!("relume came back after {detail}{gap}"))
    };
    let cause = match why {
        Away::Asked | Away::Left => wire::Cause::Asked,
        Away::Schedule => wire::Cause::Schedule,
        Away::Exit => wire::Cause::Exit,
        Away::Signal => wire::Cause::Signal,
        Away::Silence => wire::Cause::Watchdog,
        Away::Unknown => wire::Cause::Unknown,
    };
    EventRecord { event, cause: Some(cause), detail: Some(text), ..blank(board, fact) }
}
