//! What is so, as the status shows it.

use relume_core::{Intent, Moment, Record, ServiceId, State, Word};
use relume_os::signals;
use relume_proto::{
    DiskReport, LastExit, ManagerReport, ManagerState, ServiceReport, State as Shown, StatusEntry,
    StatusFile, StatusReport,
};

use super::board::{Board, now, wall};
use super::words;
use crate::room::{Room, Shortage};

/// The whole status, or that of the named services.
pub(crate) fn status_report(board: &Board, names: &[String]) -> StatusReport {
    let wanted = |record: &Record| names.is_empty() || names.iter().any(|name| record.name == *name);
    let services = board.in_order().filter(|(_, record)| wanted(record));
    StatusReport {
        manager: manager(board),
        services: services.map(|(id, record)| service(board, id, record)).collect(),
    }
}

/// The status file.
pub(super) fn status_file(board: &Board) -> StatusFile {
    board.in_order().map(|(id, record)| (record.name.to_string(), entry(board, id, record))).collect()
}

fn entry(board: &Board, id: ServiceId, record: &Record) -> StatusEntry {
    let unit = board.unit(id);
    StatusEntry {
        pid: board.process_of(id).map(|process| process.pid),
        status: shown(board, id, record),
        log: unit.map(|unit| unit.out.path.display().to_string()),
        groups: unit.map(|unit| unit.config.shown.more.groups.clone()).unwrap_or_default(),
    }
}

/// Its state as status and files show it: a job that waits for its time is wanted, whatever its last run has come to.
fn shown(board: &Board, id: ServiceId, record: &Record) -> Shown {
    match words::due(board, record) {
        Some(_) => Shown::Pending,
        None => words::word(word(board, id, record)),
    }
}

pub(super) fn word(board: &Board, id: ServiceId, record: &Record) -> Word {
    let policy = board.unit(id).map(|unit| unit.config.spec.policy.restart.clone()).unwrap_or_default();
    Word::of(&record.state, &policy)
}

fn manager(board: &Board) -> ManagerReport {
    let pid = std::process::id();
    let own = board.readings.own();
    let state = match (board.memory.shutdown.is_some(), board.safe_mode) {
        (true, _) => ManagerState::Stopping,
        (false, true) => ManagerState::SafeMode,
        (false, false) => ManagerState::Running,
    };
    ManagerReport {
        pid,
        guardian_pid: board.guardian,
        version: env!("CARGO_PKG_VERSION").into(),
        state,
        uptime_s: now().since(board.began).as_secs_f64(),
        started_at: Some(wall(board.began)),
        respawns: board.respawns,
        recoveries: board.recoveries,
        config: board.units.sources.iter().map(|path| path.display().to_string()).collect(),
        state_dir: board.places.state_dir.display().to_string(),
        log: Some(board.places.log_file.display().to_string()),
        cpu_percent: own.map(|own| tenths(own.cpu_percent)),
        memory_bytes: own.map(|own| own.usage.memory),
        fds: own.map(|own| own.usage.fds),
        disks: board.rooms.latest().iter().map(disk).collect(),
    }
}

fn disk(room: &Room) -> DiskReport {
    DiskReport {
        what: room.what.to_owned(),
        path: room.dir.display().to_string(),
        free_bytes: room.free,
        total_bytes: room.total,
        short: room.shortage() != Shortage::None,
    }
}

/// A share as people read it: nobody measures hundredths of a percent.
fn tenths(percent: f64) -> f64 {
    (percent * 10.0).round() / 10.0
}

fn service(board: &Board, id: ServiceId, record: &Record) -> ServiceReport {
    let process = board.process_of(id);
    let since = process.map(|process| process.started);
    let reading = board.reading_of(id).filter(|_| process.is_some());
    let mut report = ServiceReport {
        name: record.name.to_string(),
        state: shown(board, id, record),
        reason: words::due(board, record).or_else(|| words::reason(board, record)),
        cause: words::cause_of(&record.state),
        pid: process.map(|process| process.pid),
        run: Some(record.generation).filter(|generation| *generation > 0),
        uptime_s: since.map(|at| now().since(at).as_secs_f64()),
        started_at: since.map(wall),
        ready: matches!(record.state, State::Running { .. } | State::Completed),
        healthy: None,
        restarts: record.restarts,
        retries_used: u32::try_from(record.history.retries.len()).unwrap_or(u32::MAX),
        last_exit: last_exit(board, record),
        next_start_in_s: next_start(board, record),
        cpu_percent: reading.map(|reading| tenths(reading.cpu_percent)),
        memory_bytes: reading.map(|reading| reading.usage.memory),
        processes: reading.map(|reading| reading.usage.processes),
        fds: reading.map(|reading| reading.usage.fds),
        ..ServiceReport::default()
    };
    configured(board, id, record, &mut report);
    report
}

/// What the configuration says about it.
fn configured(board: &Board, id: ServiceId, record: &Record, report: &mut ServiceReport) {
    report.display_name = record.name.to_string();
    let Some(unit) = board.unit(id) else { return };
    let (policy, shown) = (&unit.config.spec.policy, &unit.config.shown);
    report.ready &= record.health.is_usable(&policy.checks);
    report.healthy = record.health.judgement(&policy.checks).filter(|_| record.state.is_live());
    report.display_name = shown.display_name.to_string();
    report.description.clone_from(&shown.more.description);
    report.urls.clone_from(&shown.more.urls);
    report.groups.clone_from(&shown.more.groups);
    report.port = shown.more.port;
    report.log = Some(unit.out.path.display().to_string());
    report.depends_on = policy.dependencies.keys().cloned().collect();
    report.autostart = match record.intent {
        // With only some services named, the others are not meant to run.
        Intent::Auto => policy.autostart && board.memory.autostart,
        Intent::Up => true,
        Intent::Down => policy.autostart,
    };
    // It rests well until then.
    report.autostart &= words::due(board, record).is_none();
    // The window slides while nothing happens.
    let window = policy.restart.retry_window;
    let counted = record.history.retries.iter().filter(|at| now().since(**at) < window).count();
    report.retries_used = u32::try_from(counted).unwrap_or(u32::MAX);
    let exhausted = record.history.exhausted;
    report.retries_left = policy
        .restart
        .max_retries
        .map(|most| if exhausted { 0 } else { most.saturating_sub(report.retries_used) });
}

fn next_start(board: &Board, record: &Record) -> Option<f64> {
    let due = || board.times.of(&record.name).filter(|_| record.intent != Intent::Down);
    match record.state {
        State::Restarting { retry_at, .. } => Some(retry_at.since(now()).as_secs_f64()),
        State::Stopped | State::Completed | State::Failed { .. } => due().map(|(left, _)| left.as_secs_f64()),
        State::Pending { .. } | State::Starting { .. } | State::Running { .. } | State::Stopping { .. } => {
            None
        }
    }
}

fn last_exit(board: &Board, record: &Record) -> Option<LastExit> {
    let end = record.last_end.as_ref()?;
    let at = wall(Moment(end.at.0));
    let reason = words::ended(record)?;
    let (code, signal, unknown) = match end.exit? {
        relume_core::Exit::Code(code) => (Some(code), None, None),
        relume_core::Exit::Signal { number, .. } => (None, Some(signals::name(number)), None),
        relume_core::Exit::OutOfMemory { .. } => (None, Some("SIGKILL".to_owned()), None),
        relume_core::Exit::Unknown => (None, None, Some(true)),
    };
    let used = board.used_by(end.run);
    let cpu = used.map(|usage| (usage.user + usage.system).as_millis());
    let cpu_ms = cpu.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX));
    let max_memory_bytes = used.map(|usage| usage.max_rss_kib.saturating_mul(1024));
    Some(LastExit { code, signal, unknown, at, reason, cpu_ms, max_memory_bytes })
}
