//! What a service says of itself outlives the manager: a program that has told its `STATUS` once does not tell it again because
//! relume has replaced itself.
//!
//! It goes into the journal, and not with each word: a program that counts up its progress would fill that with nothing else. After
//! a planned respawn it is what was said last; after a death it may be [`PAUSE`] old.

use std::collections::BTreeSet;
use std::time::Duration;

use relume_core::{Moment, RunId};
use serde::{Deserialize, Serialize};

use super::words::Words;
use crate::manager::edge::Edge;
use crate::manager::publish::Note;

/// Between two notes of what one run says.
const PAUSE: Duration = Duration::from_secs(5);

/// What a service says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sayings {
    /// What it does beside running.
    phase: Option<Phase>,
    /// Its `STATUS`, or what it says is wrong; empty: nothing.
    status: Box<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Reloading,
    Stopping,
}

impl Phase {
    fn shown(self) -> &'static str {
        match self {
            Self::Reloading => "reloading",
            Self::Stopping => "stopping by itself",
        }
    }
}

impl Sayings {
    pub(super) fn hear(&mut self, words: &mut Words) {
        if words.ready {
            self.phase = None;
        }
        if words.reloading {
            self.phase = Some(Phase::Reloading);
        }
        if words.stopping {
            self.phase = Some(Phase::Stopping);
        }
        if let Some(said) = words.status.take().or(words.trouble.take()) {
            self.status = said.into();
        }
    }

    /// For people.
    pub(super) fn shown(&self) -> Option<String> {
        match (self.phase, &*self.status) {
            (None, "") => None,
            (Some(phase), "") => Some(phase.shown().into()),
            (None, status) => Some(status.into()),
            (Some(phase), status) => Some(format!("{}: {status}", phase.shown())),
        }
    }
}

/// Whose words the journal does not have yet.
#[derive(Debug, Default)]
pub(super) struct Unnoted {
    runs: BTreeSet<RunId>,
    /// When they are noted.
    due: Option<Moment>,
}

impl Edge {
    /// A run has said something else than before.
    pub(super) fn has_said(&mut self, id: RunId) {
        let now = Self::now();
        let Some(heard) = self.ready_runs.voices.get_mut(&id).and_then(|voice| voice.heard.as_mut()) else {
            return;
        };
        let due = heard.noted.map_or(now, |noted| noted.after(PAUSE));
        if due <= now {
            return self.note_sayings_of(id, now);
        }
        let unnoted = &mut self.ready_runs.unnoted;
        unnoted.runs.insert(id);
        unnoted.due = Some(unnoted.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// Notes what was said, if that is due by now; when it is due again.
    pub(crate) fn note_sayings(&mut self, now: Moment) -> Option<Moment> {
        if self.ready_runs.unnoted.due.is_some_and(|due| due <= now) {
            self.note_all_sayings();
        }
        self.ready_runs.unnoted.due
    }

    /// Before somebody else goes on.
    pub(crate) fn note_all_sayings(&mut self) {
        let (all, now) = (std::mem::take(&mut self.ready_runs.unnoted), Self::now());
        all.runs.into_iter().for_each(|id| self.note_sayings_of(id, now));
    }

    fn note_sayings_of(&mut self, id: RunId, now: Moment) {
        let Some(voice) = self.ready_runs.voices.get_mut(&id) else { return };
        let Some(heard) = &mut voice.heard else { return };
        heard.noted = Some(now);
        let Some(mut kept) = self.kept.get(&id).cloned() else { return };
        if let Some(ears) = &mut kept.ears {
            ears.sayings = Some(Box::new(voice.sayings.clone()));
            self.note_began(id, kept);
        }
    }

    /// What a run had said to an earlier manager is shown again.
    pub(super) fn recall_sayings(&mut self, id: RunId, sayings: Option<Box<Sayings>>) {
        let Some((voice, sayings)) = self.ready_runs.voices.get_mut(&id).zip(sayings) else { return };
        voice.sayings = *sayings;
        self.publisher.send(Note::Told { run: id, text: voice.shown() });
    }
}
