//! `relume status`: a table, a line that sums it up, and what to do next.

use relume_proto::{ManagerReport, ServiceReport, State, StatusReport};

use super::text::{columns, count, harmless, padded, right, seconds, wrapped};
use crate::sizes;

use super::{BAD, DIM, Look, STRONG, state_style};

/// Columns that the last column gets at least before its lines are left to the terminal to break.
const NARROWEST: usize = 24;

/// Columns that the last column gets before there are others for what a service uses.
const COMFORTABLE: usize = 36;

/// The whole answer for people.
pub(crate) fn render(report: &StatusReport, look: Look) -> String {
    let mut out = String::new();
    if report.services.is_empty() {
        out.push_str("No services.\n");
    } else {
        table(&report.services, look, &mut out);
    }
    out.push('\n');
    out.push_str(&summary(report, look));
    for advice in advice(&report.services) {
        out.push_str(&look.paint(STRONG, &advice));
        out.push('\n');
    }
    out
}

/// Whether every service that starts by itself is `running`, `completed` or `stopped`.
pub(crate) fn is_well(services: &[ServiceReport]) -> bool {
    services.iter().filter(|service| service.autostart).all(|service| rests_well(&service.state))
}

fn rests_well(state: &State) -> bool {
    match state {
        State::Running | State::Completed | State::Stopped => true,
        State::Pending
        | State::Starting
        | State::Unhealthy
        | State::Stopping
        | State::Crashed
        | State::Restarting
        | State::Failed
        | State::MaxRestarts
        | State::Other(_) => false,
    }
}

struct Row {
    name: String,
    state: State,
    pid: String,
    uptime: String,
    restarts: String,
    cpu: String,
    memory: String,
    now: String,
}

impl Row {
    fn of(service: &ServiceReport) -> Self {
        let none = || "-".to_owned();
        Self {
            name: harmless(&service.name).into_owned(),
            state: State::from(harmless(service.state.as_str()).as_ref()),
            pid: service.pid.map_or_else(none, |pid| pid.to_string()),
            uptime: service.uptime_s.filter(|_| service.pid.is_some()).map_or_else(none, seconds),
            restarts: service.restarts.to_string(),
            cpu: service.cpu_percent.map_or_else(none, |percent| format!("{percent:.1}%")),
            memory: service.memory_bytes.map_or_else(none, sizes::in_words),
            now: harmless(&what_matters(service)).into_owned(),
        }
    }
}

fn table(services: &[ServiceReport], look: Look, out: &mut String) {
    let rows: Vec<Row> = services.iter().map(Row::of).collect();
    let widest = |title: &str, cell: fn(&Row) -> &str| {
        rows.iter().map(|row| columns(cell(row))).max().unwrap_or(0).max(columns(title))
    };
    let name = widest("NAME", |row| &row.name);
    let state = widest("STATE", |row| row.state.as_str());
    let pid = widest("PID", |row| &row.pid);
    let uptime = widest("UPTIME", |row| &row.uptime);
    let restarts = widest("RESTARTS", |row| &row.restarts);
    let left = name + state + pid + uptime + restarts + 2 * 5;
    let (cpu, memory) = (widest("CPU", |row| &row.cpu), widest("MEMORY", |row| &row.memory));
    let measured = services.iter().any(|service| service.memory_bytes.is_some());
    let fits = look.width.is_none_or(|width| width >= left + cpu + memory + 4 + COMFORTABLE);
    let uses = |row: (&str, &str)| match measured && fits {
        true => format!("  {}  {}", right(row.0, cpu), right(row.1, memory)),
        false => String::new(),
    };
    let left = left + columns(&uses(("", "")));
    let title = format!(
        "{}  {}  {}  {}  {}{}  NOW",
        padded("NAME", name),
        padded("STATE", state),
        right("PID", pid),
        right("UPTIME", uptime),
        right("RESTARTS", restarts),
        uses(("CPU", "MEMORY"))
    );
    out.push_str(&look.paint(DIM, &title));
    out.push('\n');
    for row in &rows {
        let shown = padded(row.state.as_str(), state);
        let line = format!(
            "{}  {}  {}  {}  {}{}",
            padded(&row.name, name),
            look.paint(state_style(&row.state), &shown),
            right(&row.pid, pid),
            right(&row.uptime, uptime),
            right(&row.restarts, restarts),
            uses((&row.cpu, &row.memory))
        );
        out.push_str(&line);
        last_column(&row.now, left, look, out);
    }
}

/// What is too long for the terminal goes on below, in its own column.
fn last_column(now: &str, left: usize, look: Look, out: &mut String) {
    let room = look.width.map(|width| width.saturating_sub(left)).filter(|&room| room >= NARROWEST);
    let lines = room.map_or_else(|| vec![now.to_owned()], |room| wrapped(now, room));
    for (number, line) in lines.iter().enumerate() {
        if !line.is_empty() {
            let indent = if number == 0 { 2 } else { left };
            out.push_str(&" ".repeat(indent));
            out.push_str(line);
        }
        out.push('\n');
    }
}

/// The one thing about a service that matters now.
fn what_matters(service: &ServiceReport) -> String {
    let mut parts: Vec<String> = Vec::new();
    let reason = service.reason.clone().filter(|reason| !reason.is_empty());
    let ended = service.last_exit.as_ref().map(|exit| exit.reason.clone()).filter(|end| !end.is_empty());
    match &service.state {
        State::Running => {
            parts.extend(reason);
            parts.extend(service.port.map(|port| format!("port {port}")));
            if service.port.is_none() {
                parts.extend(service.urls.first().cloned());
            }
            if service.restarts > 0 {
                parts.extend(ended.map(|end| format!("before: {end}")));
            }
        }
        State::Pending => parts.push(reason.unwrap_or_else(|| "waiting for its turn".to_owned())),
        State::Starting => parts.push(reason.unwrap_or_else(|| "not ready yet".to_owned())),
        State::Stopped => {
            parts.push(reason.unwrap_or_else(|| {
                let never = service.run.is_none() && !service.autostart;
                if never { "not started by itself (autostart: false)" } else { "" }.to_owned()
            }));
        }
        State::Stopping | State::Completed | State::Failed | State::Other(_) => {
            parts.extend(reason.or(ended))
        }
        State::Unhealthy | State::Crashed | State::Restarting | State::MaxRestarts => {
            parts.extend(reason.or(ended));
            parts.extend(what_comes(service));
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.join("; ")
}

/// When it is started again, and how often that will go on.
fn what_comes(service: &ServiceReport) -> Option<String> {
    let exhausted = service.state == State::MaxRestarts;
    match (service.next_start_in_s, service.retries_left) {
        (Some(wait), _) if exhausted => {
            Some(format!("{} used; next try in {}", count_retries(service.retries_used), seconds(wait)))
        }
        (None, _) if exhausted => Some(format!("gave up after {}", count_retries(service.retries_used))),
        (Some(wait), Some(left)) if service.is_failing() => {
            let all = service.retries_used.saturating_add(left);
            Some(format!("next start in {}, {left} of {} left", seconds(wait), count_retries(all)))
        }
        (Some(wait), _) => Some(format!("next start in {}", seconds(wait))),
        (None, _) => None,
    }
}

fn count_retries(number: u32) -> String {
    if number == 1 { "1 retry".to_owned() } else { format!("{number} retries") }
}

/// `6 services: 4 running, 1 pending, 1 crashed · relume 0.1.0, pid 4242, up 2 h 3 min`
fn summary(report: &StatusReport, look: Look) -> String {
    let mut line = count(report.services.len(), "service");
    let mut counts: Vec<(State, usize)> = Vec::new();
    for service in &report.services {
        match counts.iter_mut().find(|(state, _)| *state == service.state) {
            Some((_, number)) => *number += 1,
            None => counts.push((service.state.clone(), 1)),
        }
    }
    for (number, (state, services)) in counts.iter().enumerate() {
        line.push_str(if number == 0 { ": " } else { ", " });
        let shown = format!("{services} {}", harmless(state.as_str()));
        line.push_str(&look.paint(state_style(state), &shown));
    }
    line.push_str(look.sign(" · ", " - "));
    line.push_str(&manager(&report.manager, look));
    line.push('\n');
    line
}

fn manager(manager: &ManagerReport, look: Look) -> String {
    let who = format!("relume {}, pid {}", harmless(&manager.version), manager.pid);
    if manager.state == relume_proto::ManagerState::Stopping {
        return format!("{who}, {}", look.paint(BAD, "stopping everything"));
    }
    let mut line = format!("{who}, up {}", seconds(manager.uptime_s));
    if manager.state == relume_proto::ManagerState::SafeMode {
        line.push_str(", ");
        line.push_str(&look.paint(BAD, "safe mode: the last good config holds; see: relume check"));
    }
    if manager.recoveries > 0 {
        let times = count(usize::try_from(manager.recoveries).unwrap_or(usize::MAX), "time");
        line.push_str(&format!(", came back {times} after a death of its own"));
    }
    line
}

/// What to do about what is not well, the most urgent first; nothing when all is well.
pub(crate) fn advice(services: &[ServiceReport]) -> Vec<String> {
    let named = |states: &[State]| services.iter().find(|service| states.contains(&service.state));
    let mut advice = Vec::new();
    if let Some(service) = named(&[State::MaxRestarts, State::Failed]) {
        let name = shell_word(&service.name);
        advice.push(format!("See why: relume explain {name}   then: relume start {name}"));
    } else if let Some(service) = services.iter().find(|service| service.is_failing()) {
        advice.push(format!("See why: relume explain {}", shell_word(&service.name)));
    }
    if let Some((waiting, needed)) = services.iter().find_map(|service| held_up(service, services)) {
        let start = shell_word(&needed.name);
        advice.push(format!(
            "{} waits for {}: relume start {start}",
            harmless(&waiting.name),
            harmless(&needed.name)
        ));
    }
    advice
}

/// A service that waits for one that will not come by itself.
fn held_up<'a>(
    service: &'a ServiceReport,
    services: &'a [ServiceReport],
) -> Option<(&'a ServiceReport, &'a ServiceReport)> {
    if service.state != State::Pending {
        return None;
    }
    let needed = services
        .iter()
        .filter(|other| service.depends_on.contains(&other.name))
        .find(|other| other.state == State::Stopped)?;
    Some((service, needed))
}

/// The name as a shell takes it back. Valid names need no quotes; others come only from a broken answer.
fn shell_word(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_alphanumeric() || "_.-@:/".contains(c));
    if plain { name.to_owned() } else { format!("'{}'", harmless(name).replace('\'', "'\\''")) }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
