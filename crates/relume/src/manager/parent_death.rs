//! Programs that end with their parent: they have asked the kernel for a signal then (`PR_SET_PDEATHSIG`, prctl(2)).
//!
//! What the kernel takes for the parent is the thread that has started them, and threads end with each death of a manager and with
//! each exec. It shows of no process whether it has asked, so all there is to go by is that one was ended at that moment. To start
//! all services from the one thread that an exec leaves was not chosen: they would be started one after the other.

use std::collections::HashSet;
use std::time::Duration;

use relume_core::{Event, Exit, Moment, Name, Record, Snapshot, State, Supervisor};
use relume_os::signals;

use super::edge::Edge;
use super::recovery::Found;
use super::translate::number;

/// How long after a manager has come back an end by a signal may be of that kind: the signal is sent before, and some programs
/// take a moment to die of it.
const AFTER: Duration = Duration::from_secs(1);

/// A manager has come back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Returned {
    pub(super) at: Moment,
    /// It has replaced itself on purpose.
    pub(super) planned: bool,
}

impl Returned {
    /// Whether such an end is worth a word. Who has killed the manager may have killed others as well.
    fn is_telling(self, exit: Exit) -> Option<i32> {
        match exit {
            Exit::Signal { number: number::KILL, .. } if !self.planned => None,
            Exit::Signal { number, .. } => Some(number),
            Exit::Code(_) | Exit::Unknown | Exit::OutOfMemory { .. } => None,
        }
    }
}

impl Edge {
    /// What the core is about to be told of may be such an end: then people are told what it looks like.
    pub(super) fn look_for_parent_death(&mut self, core: &Supervisor, event: &Event) {
        let Some(returned) = self.returned else { return };
        if Self::now().since(returned.at) > AFTER {
            self.returned = None;
            return;
        }
        let Event::Exited { run, exit, .. } = event else { return };
        let state = core.record(run.service).map(|record| &record.state);
        let ran = matches!(state, Some(State::Running { run: present, since }) if present == run && *since < returned.at);
        if let Some(signal) = returned.is_telling(*exit).filter(|_| ran) {
            self.events
                .push_back(Event::Noticed { service: Some(run.service), text: words(signal, returned) });
        }
    }

    /// The same of those that were found to have ended.
    pub(super) fn tell_parent_deaths(&mut self, core: &Supervisor, struck: Vec<(Name, String)>) {
        for (name, text) in struck {
            self.events.extend(core.find(&name).map(|id| Event::Noticed { service: Some(id), text }));
        }
    }
}

/// Those that were running when the last manager ended, and were found to have ended in such a way.
pub(super) fn struck(memory: &Snapshot, found: &[Found], returned: Option<Returned>) -> Vec<(Name, String)> {
    let Some(returned) = returned else { return Vec::new() };
    let telling = |found: &Found| found.survivor.exit.and_then(|exit| returned.is_telling(exit));
    if !found.iter().any(|found| telling(found).is_some()) {
        return Vec::new();
    }
    let run_of = |record: &Record| {
        let State::Running { run, .. } = &record.state else { return None };
        Some((record.name.clone(), run.generation))
    };
    // Nobody supervises meanwhile, and it may be thousands.
    let ran: HashSet<(Name, u64)> = memory.services.values().filter_map(run_of).collect();
    let of_one = |found: &Found| {
        let signal = telling(found)?;
        let survivor = &found.survivor;
        let it_ran = ran.contains(&(survivor.name.clone(), survivor.generation));
        it_ran.then(|| (survivor.name.clone(), words(signal, returned)))
    };
    found.iter().filter_map(of_one).collect()
}

fn words(signal: i32, returned: Returned) -> String {
    let signal = signals::name(signal);
    let when = if returned.planned { "as relume replaced itself" } else { "as relume ended" };
    format!(
        "{signal} came {when}: the program may have asked the kernel for it, to end with its parent \
         (PR_SET_PDEATHSIG; setpriv --pdeathsig, bwrap --die-with-parent, tini -p). Without that it lives on"
    )
}
