//! `relume start`, `stop`, `restart`: one line for each service.

use std::time::Duration;

use relume_proto::{OperationReport, Outcome, ServiceResult, State, Verb};

use super::text::{columns, harmless, padded, span};
use super::{BAD, BUSY, DIM, GOOD, Look};

/// What came of an operation.
pub(crate) fn render(verb: Verb, report: &OperationReport, look: Look) -> String {
    render_each(report, look, |result| said(verb, result))
}

/// What came of sending a signal.
pub(crate) fn render_sent(signal: &str, report: &OperationReport, look: Look) -> String {
    render_each(report, look, |result| match (&result.outcome, result.pid) {
        (Outcome::Done, Some(pid)) => format!("{signal} sent, pid {pid}"),
        (Outcome::Done, None) => format!("{signal} sent"),
        _ => said(Verb::Reload, result),
    })
}

fn render_each(report: &OperationReport, look: Look, said: impl Fn(&ServiceResult) -> String) -> String {
    let name = report.results.iter().map(|result| columns(&harmless(&result.service))).max().unwrap_or(0);
    let mut out = String::new();
    for result in &report.results {
        let (style, sign) = match &result.outcome {
            Outcome::Done => (GOOD, look.sign("✓", "+")),
            Outcome::Already => (DIM, look.sign("✓", "+")),
            Outcome::Failed => (BAD, look.sign("✗", "x")),
            Outcome::TimedOut => (BUSY, look.sign("…", "~")),
            Outcome::Other(_) => (BUSY, "?"),
        };
        let service = padded(&harmless(&result.service), name);
        let said = harmless(&said(result)).into_owned();
        out.push_str(&format!("{} {service}  {said}\n", look.paint(style, sign)));
    }
    for hint in &report.hints {
        out.push_str(&look.paint(DIM, &harmless(hint)));
        out.push('\n');
    }
    if report.results.is_empty() {
        out.push_str("No services.\n");
    }
    out
}

fn said(verb: Verb, result: &ServiceResult) -> String {
    let because = |text: &str| match &result.reason {
        Some(reason) if !reason.is_empty() => format!("{text}: {reason}"),
        Some(_) | None => text.to_owned(),
    };
    match &result.outcome {
        Outcome::Done => {
            let mut parts = vec![past(verb, &result.state).to_owned()];
            parts.extend(result.pid.filter(|_| verb != Verb::Stop).map(|pid| format!("pid {pid}")));
            parts.extend(result.took_ms.map(|took| format!("in {}", span(Duration::from_millis(took)))));
            let line = parts.join(", ");
            result.reason.as_ref().map_or(line.clone(), |reason| format!("{line} ({reason})"))
        }
        Outcome::Already => because(&format!("already {}", result.state)),
        Outcome::Failed => because(if result.state == State::Failed { "failed" } else { "not done" }),
        Outcome::TimedOut => because(&format!("still {} when the wait was over; it goes on", result.state)),
        Outcome::Other(word) => because(word),
    }
}

fn past(verb: Verb, state: &State) -> &'static str {
    match verb {
        Verb::Start | Verb::Restart if *state == State::Completed => "completed",
        Verb::Start => "started",
        Verb::Stop => "stopped",
        Verb::Restart => "restarted",
        Verb::Reload => "reloaded",
    }
}

/// Whether something failed, and whether something was not finished in time.
pub(crate) fn judged(report: &OperationReport) -> (bool, bool) {
    let any = |outcome: &Outcome| report.results.iter().any(|result| result.outcome == *outcome);
    let strange = report.results.iter().any(|result| matches!(result.outcome, Outcome::Other(_)));
    (any(&Outcome::Failed) || strange, any(&Outcome::TimedOut))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn result(service: &str, outcome: Outcome, state: State, reason: Option<&str>) -> ServiceResult {
        let reason = reason.map(ToOwned::to_owned);
        ServiceResult { service: service.into(), outcome, state, reason, ..ServiceResult::default() }
    }

    fn mixed() -> OperationReport {
        let done = ServiceResult {
            pid: Some(4711),
            took_ms: Some(12),
            ..result("db", Outcome::Done, State::Running, None)
        };
        let results = vec![
            done,
            result("cache", Outcome::Already, State::Running, None),
            result("web", Outcome::Failed, State::Failed, Some("cannot execute /x/y: No such file (ENOENT)")),
            result("worker", Outcome::TimedOut, State::Starting, Some("not ready after 10 s")),
        ];
        OperationReport { results, hints: vec!["api depends on db and was left running".into()] }
    }

    #[test]
    fn each_service_has_its_line() {
        assert_snapshot!(render(Verb::Start, &mixed(), Look::PLAIN), @r#"
        ✓ db      started, pid 4711, in 12 ms
        ✓ cache   already running
        ✗ web     failed: cannot execute /x/y: No such file (ENOENT)
        … worker  still starting when the wait was over; it goes on: not ready after 10 s
        api depends on db and was left running
        "#);
        assert_eq!(judged(&mixed()), (true, true));
    }

    #[test]
    fn without_utf8_the_signs_are_ascii() {
        let look = Look { unicode: false, ..Look::PLAIN };
        assert!(render(Verb::Start, &mixed(), look).is_ascii());
    }

    #[test]
    fn a_stopped_service_has_no_pid_to_show() {
        let done = ServiceResult { pid: Some(1), ..result("db", Outcome::Done, State::Stopped, None) };
        let report = OperationReport { results: vec![done], hints: Vec::new() };
        assert_snapshot!(render(Verb::Stop, &report, Look::PLAIN), @r#"
        ✓ db  stopped
        "#);
        assert_eq!(judged(&report), (false, false));
    }
}
