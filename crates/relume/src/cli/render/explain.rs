//! `relume explain`: a page about one service.

use jiff::tz::TimeZone;
use relume_proto::{ChainLink, ExplainReport, Retries, ServiceReport};

use super::text::{count, harmless, seconds};
use super::{BAD, BUSY, DIM, GOOD, Look, STRONG, event, state_style};
use crate::sizes;

/// Events shown on the page; `--json` has more.
const EVENTS: usize = 8;

/// The page.
pub(crate) fn render(report: &ExplainReport, zone: &TimeZone, look: Look) -> String {
    let service = &report.service;
    let mut out = String::new();
    if !report.live {
        out.push_str(&look.paint(BUSY, "No manager runs here: this is what was written last.\n"));
    }
    let title = look.paint(STRONG, &harmless(&service.name));
    let state = look.paint(state_style(&service.state), &harmless(service.state.as_str()));
    out.push_str(&format!("{title} is {state}{}\n", about(report)));
    for (depth, link) in report.chain.iter().enumerate() {
        out.push_str(&reason(depth, link, look));
    }
    out.push_str(&facts(report, look));
    if !report.needs.is_empty() {
        out.push_str(&format!("\n{}\n", look.paint(STRONG, "Depends on")));
        for need in &report.needs {
            let (style, sign) =
                if need.met { (GOOD, look.sign("✓", "ok")) } else { (BAD, look.sign("✗", "x")) };
            let name = harmless(&need.service);
            let (state, condition) = (harmless(need.state.as_str()), harmless(&need.condition));
            out.push_str(&format!("  {} {name}: {state} (wanted: {condition})\n", look.paint(style, sign)));
        }
    }
    if !report.history.is_empty() {
        out.push_str(&format!("\n{}\n", look.paint(STRONG, "What happened")));
        let latest = &report.history[report.history.len().saturating_sub(EVENTS)..];
        latest.iter().for_each(|one| out.push_str(&format!("  {}", event::render(one, zone, look))));
    }
    if !report.lines.is_empty() {
        let log = service.log.as_deref().map(harmless).unwrap_or_default();
        out.push_str(&format!("\n{} {}\n", look.paint(STRONG, "Its last lines"), look.paint(DIM, &log)));
        report.lines.iter().for_each(|line| out.push_str(&format!("  {}\n", harmless(line))));
    }
    out
}

/// `, pid 12, for 3 min`
fn about(report: &ExplainReport) -> String {
    let service = &report.service;
    let mut parts = String::new();
    if let Some(pid) = service.pid {
        parts.push_str(&format!(", pid {pid}"));
    }
    if let Some(up) = service.uptime_s {
        parts.push_str(&format!(", up {}", seconds(up)));
    }
    parts
}

/// Each reason further in than what it is the reason for.
fn reason(depth: usize, link: &ChainLink, look: Look) -> String {
    let indent = "  ".repeat(depth + 1);
    let why = link.because.as_deref().filter(|why| !why.is_empty()).map(harmless);
    match (depth, why) {
        (0, None) => String::new(),
        (0, Some(why)) => format!("{indent}{why}\n"),
        (_, why) => {
            let sign = look.sign("└", "-");
            let state = look.paint(state_style(&link.state), &harmless(link.state.as_str()));
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            format!("{indent}{sign} {} is {state}{why}\n", harmless(&link.service))
        }
    }
}

/// What ended it last, what counts against it, what comes next.
fn facts(report: &ExplainReport, look: Look) -> String {
    let service = &report.service;
    let mut rows: Vec<(&str, String)> = Vec::new();
    if let Some(exit) = &service.last_exit {
        rows.push(("last end", format!("{} ({})", exit.reason, exit.at)));
    }
    rows.extend(retries(&report.retries, service.restarts).map(|text| ("retries", text)));
    rows.extend(uses(service).map(|text| ("uses", text)));
    rows.extend(report.next.clone().map(|next| ("next", next)));
    rows.into_iter()
        .map(|(what, text)| format!("  {}  {}\n", look.paint(DIM, &format!("{what:<8}")), harmless(&text)))
        .collect()
}

/// `3.1 % of a processor, 34 MB, 3 processes, 40 descriptors`
fn uses(service: &ServiceReport) -> Option<String> {
    let memory = sizes::in_words(service.memory_bytes?);
    let mut text = format!("{:.1} % of a processor, {memory}", service.cpu_percent?);
    if let (Some(processes), Some(fds)) = (service.processes, service.fds) {
        let plural = if processes == 1 { "process" } else { "processes" };
        let fds = count(usize::try_from(fds).unwrap_or(usize::MAX), "descriptor");
        text.push_str(&format!(", {processes} {plural}, {fds}"));
    }
    Some(text)
}

fn retries(retries: &Retries, restarts: u64) -> Option<String> {
    if retries.used == 0 && retries.failures_in_row == 0 && restarts == 0 {
        return None;
    }
    let budget = match retries.most {
        Some(most) => format!("{} of {most} used in {}, ", retries.used, seconds(retries.window_s)),
        // What was written does not say what the config allows.
        None if retries.window_s == 0.0 => String::new(),
        None => "without limit, ".to_owned(),
    };
    let restarts = count(usize::try_from(restarts).unwrap_or(usize::MAX), "automatic restart");
    let mut text = format!("{budget}{restarts} in all");
    if retries.failures_in_row > 1 {
        text.push_str(&format!(", {} failures in a row", retries.failures_in_row));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use relume_proto::{EventKind, EventRecord, LastExit, Need, ServiceReport, State};

    use super::*;

    #[test]
    fn a_page_tells_the_chain_of_reasons_and_what_comes_next() {
        let link = |service: &str, state, because: &str| ChainLink {
            service: service.into(),
            state,
            because: Some(because.into()),
            since: None,
        };
        let report = ExplainReport {
            service: ServiceReport {
                name: "web".into(),
                state: State::Pending,
                restarts: 2,
                log: Some("logs/web.log".into()),
                last_exit: Some(LastExit {
                    code: Some(1),
                    at: "2026-01-01T00:00:00Z".into(),
                    reason: "exited 1 after 3 s".into(),
                    ..LastExit::default()
                }),
                ..ServiceReport::default()
            },
            live: true,
            chain: vec![
                link("web", State::Pending, "waiting for db to be ready; it is crashed"),
                link("db", State::Crashed, "exited 2"),
            ],
            needs: vec![Need {
                service: "db".into(),
                condition: "ready".into(),
                state: State::Crashed,
                met: false,
            }],
            retries: Retries {
                used: 2,
                most: Some(5),
                window_s: 300.0,
                failures_in_row: 2,
                exhausted: false,
            },
            next: Some("it starts by itself as soon as db is there".into()),
            lines: vec!["cannot connect\u{1b}[2J".into()],
            history: vec![EventRecord {
                seq: 1,
                at: "2026-01-01T00:00:00Z".into(),
                service: Some("web".into()),
                event: EventKind::Exit,
                detail: Some("exited 1".into()),
                ..EventRecord::default()
            }],
        };
        assert_snapshot!(render(&report, &TimeZone::UTC, Look::PLAIN), @r#"
        web is pending
          waiting for db to be ready; it is crashed
            └ db is crashed: exited 2
          last end  exited 1 after 3 s (2026-01-01T00:00:00Z)
          retries   2 of 5 used in 5 min, 2 automatic restarts in all, 2 failures in a row
          next      it starts by itself as soon as db is there

        Depends on
          ✗ db: crashed (wanted: ready)

        What happened
          2026-01-01 00:00:00.000  web  exit: exited 1

        Its last lines logs/web.log
          cannot connect\x1b[2J
        "#);
    }
}
