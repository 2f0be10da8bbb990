//! Runs that have nothing to say and are asked nothing, as most are: of them is remembered what a voice would begin with,
//! should a later configuration ask them something.

use relume_core::{Moment, RunId};

use super::Voice;
use super::ears::Ears;
use crate::manager::edge::Edge;
use crate::manager::units::Unit;

/// One run's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quiet {
    /// When it became ready, as the core has decided.
    pub(super) running: Option<Moment>,
    /// It is being stopped.
    pub(super) over: bool,
}

impl Quiet {
    /// The voice that it would have had.
    fn voice(self) -> Voice {
        Voice { said: true, running: self.running, over: self.over, ..Voice::default() }
    }
}

impl Edge {
    /// Whether nothing can be heard of the run, and nothing is to be asked.
    pub(super) fn is_quiet(&self, id: RunId, ears: &Ears) -> bool {
        let deaf = ears.socket.is_none() && ears.pipe.is_none() && ears.watchdog.is_none();
        let started = self.runs.get(&id).is_some_and(|run| asks_nothing(&run.unit));
        deaf && started && self.unit_now(id).is_some_and(|unit| asks_nothing(&unit))
    }

    /// Changes what is remembered of a quiet run; nothing where it has a voice.
    pub(super) fn note_quiet(&mut self, id: RunId, change: impl FnOnce(&mut Quiet)) {
        if let Some(quiet) = self.runs.get_mut(&id).and_then(|run| run.quiet.as_mut()) {
            change(quiet);
        }
    }

    /// Another configuration holds: who is asked something from now on gets a voice.
    pub(super) fn give_voices(&mut self) {
        let quiet = self.runs.iter().filter(|(_, run)| run.quiet.is_some()).map(|(id, _)| *id);
        let woken: Vec<RunId> =
            quiet.filter(|id| self.unit_now(*id).is_some_and(|unit| !asks_nothing(&unit))).collect();
        for id in woken {
            if let Some(quiet) = self.runs.get_mut(&id).and_then(|run| run.quiet.take()) {
                self.ready_runs.voices.insert(id, Box::new(quiet.voice()));
            }
        }
    }
}

fn asks_nothing(unit: &Unit) -> bool {
    let readiness = &unit.config.readiness;
    readiness.said.is_none()
        && readiness.watchdog.is_none()
        && !readiness.is_awaited()
        && relume_core::Check::ALL.into_iter().all(|check| readiness.probes.get(check).is_none())
}
