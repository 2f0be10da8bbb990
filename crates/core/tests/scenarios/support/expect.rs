//! What a scenario looks at.

use std::time::Duration;

use relume_core::{Action, Outcome, Record, Signal, State, Ticket, WaitFor, What, Word};

use super::World;
use super::kinds::kind;

impl World {
    #[track_caller]
    pub(crate) fn record(&self, name: &str) -> &Record {
        self.core.record(self.id(name)).expect("a known service has a record")
    }

    #[track_caller]
    pub(crate) fn word(&self, name: &str) -> Word {
        let policy = &self.core.spec(self.id(name)).expect("a known service has a spec").policy;
        Word::of(&self.state(name), &policy.restart)
    }

    #[track_caller]
    pub(crate) fn expect_word(&self, name: &str, word: Word) {
        assert_eq!(self.word(name), word, "{name} is {:?}", self.state(name));
    }

    #[track_caller]
    pub(crate) fn expect_all(&self, names: &[&str], word: Word) {
        names.iter().for_each(|name| self.expect_word(name, word));
    }

    /// The state with its phase, as the table names it.
    #[track_caller]
    pub(crate) fn expect_kind(&self, name: &str, expected: &str) {
        assert_eq!(kind(&self.state(name)), expected, "{name} is {:?}", self.state(name));
    }

    /// All actions since the last look, answers apart, in order.
    #[track_caller]
    pub(crate) fn expect_actions<const N: usize>(&mut self, expected: [&str; N]) {
        let unread = std::mem::take(&mut self.unread);
        assert_eq!(unread, expected);
    }

    #[track_caller]
    pub(crate) fn expect_nothing(&mut self) {
        self.expect_actions([]);
    }

    /// What was done so far is not the point.
    pub(crate) fn skip(&mut self) {
        self.unread.clear();
    }

    #[track_caller]
    pub(crate) fn expect_answer(&self, ticket: Ticket, name: &str, outcome: &Outcome) {
        assert_eq!(self.answers.get(&(ticket, self.id(name))), Some(outcome), "about {name}");
    }

    #[track_caller]
    pub(crate) fn answer(&self, ticket: Ticket, name: &str) -> Option<&Outcome> {
        self.answer_about(ticket, self.id(name))
    }

    pub(crate) fn answer_about(&self, ticket: Ticket, service: relume_core::ServiceId) -> Option<&Outcome> {
        self.answers.get(&(ticket, service))
    }

    #[track_caller]
    pub(crate) fn expect_done(&self, ticket: Ticket, name: &str) {
        self.expect_answer(ticket, name, &Outcome::Done);
    }

    #[track_caller]
    pub(crate) fn expect_failed(&self, ticket: Ticket, name: &str) {
        let answer = self.answers.get(&(ticket, self.id(name)));
        assert!(matches!(answer, Some(Outcome::Failed(_))), "about {name}: {answer:?}");
    }

    #[track_caller]
    pub(crate) fn expect_no_answer(&self, ticket: Ticket, name: &str) {
        assert_eq!(self.answers.get(&(ticket, self.id(name))), None, "about {name}");
    }

    #[track_caller]
    pub(crate) fn expect_waits_for(&self, name: &str, dependency: &str) {
        let State::Pending { on: WaitFor::Dependency(on), .. } = self.state(name) else {
            panic!("{name} waits for no dependency: {:?}", self.state(name));
        };
        assert_eq!(self.name_of(on), dependency, "is what {name} waits for");
    }

    /// How long until the next start, in seconds; for services between two lives.
    #[track_caller]
    pub(crate) fn next_start_in(&self, name: &str) -> f64 {
        let State::Restarting { retry_at, .. } = self.state(name) else {
            panic!("{name} is not between two lives: {:?}", self.state(name));
        };
        retry_at.since(self.now).as_secs_f64()
    }

    #[track_caller]
    pub(crate) fn expect_next_start_in(&self, name: &str, seconds: f64) {
        let found = self.next_start_in(name);
        let close = Duration::from_secs_f64(found).abs_diff(Duration::from_secs_f64(seconds));
        assert!(close < Duration::from_micros(1), "{name} starts in {found} s, not in {seconds} s");
    }

    /// The signals sent to runs of that generation.
    pub(crate) fn acted_on(&self, generation: u64) -> Vec<&'static str> {
        let signals = self.acted.iter().filter_map(|action| {
            let Action::Signal { run, signal, .. } = action else { return None };
            let word = if *signal == Signal::Kill { "SIGKILL" } else { "stop" };
            (run.generation == generation).then_some(word)
        });
        signals.collect()
    }

    /// How many facts of some kind there were since the beginning.
    pub(crate) fn facts_that(&self, what: impl Fn(&What) -> bool) -> usize {
        self.facts.iter().filter(|fact| what(&fact.what)).count()
    }

    pub(crate) fn stale(&self) -> usize {
        self.facts_that(|what| matches!(what, What::Stale { .. }))
    }
}
