//! What `up` shows while services start and stop: changes in, lines out.
//!
//! The manager hands in each change of a state as it happens; whoever calls prints the lines. It keeps only
//! what is needed for the last line: which services are up.

use std::collections::BTreeMap;
use std::time::Duration;

use relume_proto::State;

use super::text::{columns, count, harmless, padded, span};
use super::{BAD, DIM, Look, STRONG, state_style};

/// A longer name than this does not push every other line to the right.
const WIDEST_NAME: usize = 24;

/// Columns of `completed`, the longest state of a start that goes well.
const STATE_WIDTH: usize = 9;

/// A service went to another state.
#[derive(Debug, Clone)]
pub(crate) struct Change<'a> {
    /// Which service.
    pub(crate) service: &'a str,
    /// Its new state.
    pub(crate) state: &'a State,
    /// Why, for people.
    pub(crate) reason: Option<&'a str>,
    /// Its main process.
    pub(crate) pid: Option<u32>,
    /// How long the start took.
    pub(crate) took: Option<Duration>,
}

/// The lines of one start, from the first change to the last.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    look: Look,
    name_width: usize,
    /// The services that are meant to come up, each with its last state.
    states: BTreeMap<String, State>,
    /// How many of them are still on their way.
    under_way: usize,
    last_lines: BTreeMap<String, String>,
    /// What ends all of them again.
    end: &'static str,
}

impl Progress {
    /// For these services, the ones that are meant to come up.
    pub(crate) fn new<'a>(services: impl IntoIterator<Item = &'a str>, look: Look) -> Self {
        let states: BTreeMap<String, State> =
            services.into_iter().map(|name| (name.to_owned(), State::Pending)).collect();
        let widest = states.keys().map(|name| columns(&harmless(name))).max().unwrap_or(0);
        let under_way = states.len();
        let (name_width, last_lines) = (widest.min(WIDEST_NAME), BTreeMap::new());
        Self { look, name_width, states, under_way, last_lines, end: "Ctrl+C" }
    }

    /// No terminal ends these services.
    pub(crate) fn in_background(mut self) -> Self {
        self.end = "relume down";
        self
    }

    /// The line to print for a change, if it is worth one: a start that goes well has one line, when it is up.
    pub(crate) fn change(&mut self, change: &Change<'_>) -> Option<String> {
        if let Some(state) = self.states.get_mut(change.service) {
            let (before, now) = (is_settled(state), is_settled(change.state));
            self.under_way = self.under_way + usize::from(before) - usize::from(now);
            *state = change.state.clone();
        }
        let said = said(change)?;
        let state = harmless(change.state.as_str()).into_owned();
        let sign = self.look.paint(state_style(change.state), self.sign(change.state));
        let name = padded(&harmless(change.service), self.name_width);
        let line = format!("{sign} {name}  {}  {}", padded(&state, STATE_WIDTH), harmless(&said));
        let line = line.trim_end().to_owned();
        // A service that waits says so once, not with every step of what it waits for.
        if self.last_lines.get(change.service) == Some(&line) {
            return None;
        }
        if is_up(change.state) {
            self.last_lines.remove(change.service);
        } else {
            self.last_lines.insert(change.service.to_owned(), line.clone());
        }
        Some(line)
    }

    /// Whether every service is up, completed, or will not come up by waiting.
    pub(crate) fn is_settled(&self) -> bool {
        self.under_way == 0
    }

    /// The start is over: what was kept for its last line is not needed any more.
    pub(crate) fn forget(&mut self) {
        self.states = BTreeMap::new();
        self.under_way = 0;
    }

    /// The last line, once the start is settled.
    pub(crate) fn summary(&self, elapsed: Duration) -> String {
        let up = self.states.values().filter(|state| is_up(state)).count();
        let all = self.states.len();
        let dot = self.look.sign(" · ", " - ");
        let took = span_of_start(elapsed);
        let next = format!("relume status{dot}{} stops them", self.end);
        if up == all {
            let verb = if all == 1 { "is" } else { "are" };
            let line =
                self.look.paint(STRONG, &format!("{up} of {} {verb} up in {took}", count(all, "service")));
            return format!("{line}{dot}{}", self.look.paint(DIM, &next));
        }
        let down: Vec<String> = self
            .states
            .iter()
            .filter(|(_, state)| !is_up(state))
            .map(|(name, state)| format!("{} ({state})", harmless(name)))
            .collect();
        let line = self.look.paint(BAD, &format!("{up} of {} up after {took}", count(all, "service")));
        // A wall of names helps nobody; `status` has them all.
        let more = if down.len() > 3 { format!(" and {} more", down.len() - 3) } else { String::new() };
        let missing = down.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        format!("{line}{dot}missing: {missing}{more}{dot}{}", self.look.paint(DIM, &next))
    }

    fn sign(&self, state: &State) -> &'static str {
        match state {
            State::Running | State::Completed => self.look.sign("✓", "+"),
            State::Pending | State::Starting | State::Stopping | State::Restarting => {
                self.look.sign("…", "~")
            }
            State::Failed | State::MaxRestarts => self.look.sign("✗", "x"),
            State::Crashed | State::Unhealthy => "!",
            State::Stopped => "-",
            State::Other(_) => "?",
        }
    }
}

fn is_settled(state: &State) -> bool {
    is_up(state) || is_down(state)
}

fn is_up(state: &State) -> bool {
    [State::Running, State::Completed].contains(state)
}

fn is_down(state: &State) -> bool {
    [State::Failed, State::MaxRestarts, State::Stopped].contains(state)
}

fn said(change: &Change<'_>) -> Option<String> {
    let reason = change.reason.unwrap_or_default().to_owned();
    match change.state {
        State::Running | State::Completed => {
            let mut parts = Vec::new();
            parts.extend(change.took.map(span));
            parts.extend(change.pid.map(|pid| format!("pid {pid}")));
            parts.extend((!reason.is_empty()).then_some(reason));
            Some(parts.join("   "))
        }
        // Only what holds it up is news.
        State::Pending | State::Starting | State::Restarting => (!reason.is_empty()).then_some(reason),
        State::Unhealthy
        | State::Stopping
        | State::Crashed
        | State::Stopped
        | State::Failed
        | State::MaxRestarts
        | State::Other(_) => Some(reason),
    }
}

/// A start is judged in tenths of a second.
fn span_of_start(elapsed: Duration) -> String {
    if elapsed < Duration::from_secs(60) { format!("{:.1} s", elapsed.as_secs_f64()) } else { span(elapsed) }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn change<'a>(service: &'a str, state: &'a State, reason: Option<&'a str>) -> Change<'a> {
        Change { service, state, reason, pid: None, took: None }
    }

    fn story(look: Look) -> String {
        let mut progress = Progress::new(["db", "web", "worker"], look);
        let running = Change {
            pid: Some(4711),
            took: Some(Duration::from_millis(12)),
            ..change("db", &State::Running, None)
        };
        let why = "cannot execute /x/y: No such file (ENOENT)";
        let lines = [
            progress.change(&change("db", &State::Starting, None)),
            progress.change(&change("worker", &State::Pending, Some("waiting for db"))),
            progress.change(&change("worker", &State::Pending, Some("waiting for db"))),
            progress.change(&running),
            progress.change(&change("web", &State::Failed, Some(why))),
            progress.change(&change(
                "worker",
                &State::Crashed,
                Some("exited 1 after 3 s; next start in 1 s"),
            )),
            progress.change(&change("worker", &State::Completed, None)),
        ];
        assert!(progress.is_settled());
        let shown: Vec<String> = lines.into_iter().flatten().collect();
        format!("{}\n{}", shown.join("\n"), progress.summary(Duration::from_millis(412)))
    }

    #[test]
    fn a_start_is_told_in_few_lines() {
        assert_snapshot!(story(Look::PLAIN), @r#"
        … worker  pending    waiting for db
        ✓ db      running    12 ms   pid 4711
        ✗ web     failed     cannot execute /x/y: No such file (ENOENT)
        ! worker  crashed    exited 1 after 3 s; next start in 1 s
        ✓ worker  completed
        2 of 3 services up after 0.4 s · missing: web (failed) · relume status · Ctrl+C stops them
        "#);
    }

    #[test]
    fn without_utf8_the_story_is_ascii() {
        assert!(story(Look { unicode: false, ..Look::PLAIN }).is_ascii());
    }

    #[test]
    fn a_start_that_went_well_says_what_to_do_next() {
        let mut progress = Progress::new(["a", "b"], Look::PLAIN);
        assert!(!progress.is_settled());
        progress.change(&change("a", &State::Running, None));
        progress.change(&change("b", &State::Completed, None));
        assert_snapshot!(progress.summary(Duration::from_millis(412)), @r#"
        2 of 2 services are up in 0.4 s · relume status · Ctrl+C stops them
        "#);
    }

    #[test]
    fn a_service_nobody_waits_for_does_not_count() {
        let mut progress = Progress::new(["a"], Look::PLAIN);
        progress.change(&change("stranger", &State::Running, None));
        assert!(!progress.is_settled());
    }

    #[test]
    fn reasons_are_shown_harmless() {
        let mut progress = Progress::new(["a"], Look::PLAIN);
        let line = progress.change(&change("a", &State::Failed, Some("\u{1b}[2J"))).unwrap();
        assert!(line.contains("\\x1b[2J"), "{line:?}");
    }
}
