//! The one way to come up: what was recorded, joined with what the kernel says is alive.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use crate::action::{Action, Outbox};
use crate::cause::Exit;
use crate::event::{Config, Event, Rest};
use crate::fact::What;
use crate::id::{RunId, RunKind, ServiceId};
use crate::moment::Moment;
use crate::policy::{Policy, ServiceSpec};
use crate::record::{Side, SidePhase, Snapshot};
use crate::state::{StartPhase, State};
use crate::supervisor::{Step, Supervisor};

/// What is left of one run, as the kernel and the keeper of exits tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    /// Whose run.
    pub name: String,
    /// Which.
    pub generation: u64,
    /// What for.
    pub kind: RunKind,
    /// How its main process ended; none: it lives.
    pub exit: Option<Exit>,
    /// Whether anything of its tree lives beside the main process.
    pub rest: Rest,
}

impl Supervisor {
    /// Comes up again with all deadlines, retries and waits as they were.
    ///
    /// Whatever `snapshot` says is alive and no survivor shows has ended meanwhile; whatever a survivor shows
    /// and `snapshot` does not know is adopted where it can be the service's one life, and ended otherwise.
    /// `snapshot` must be of this boot: its moments are (see `Moment`).
    #[must_use]
    pub fn recover(
        config: Config,
        snapshot: Snapshot,
        survivors: &[Survivor],
        seed_and_now: (u64, Moment),
        out: &mut Outbox,
    ) -> Self {
        let (seed, now) = seed_and_now;
        let mut core = Self::new(seed, now);
        core.memory = snapshot;
        let known: Vec<(ServiceId, String, bool)> =
            core.memory.services.iter().map(|(id, r)| (*id, r.name.clone(), r.retired)).collect();
        for (id, name, retired) in known {
            core.adopt_spec(id, spec_of(&config, name));
            if retired {
                core.retired.insert(id);
            }
        }
        core.link();
        core.index_all();
        let mut step = Step { core: &mut core, out };
        let mut seen = BTreeSet::new();
        for survivor in survivors {
            let run = step.identify(survivor);
            seen.insert(run);
            step.join(run, survivor);
        }
        step.miss_the_others(&seen);
        step.configure(config);
        step.settle();
        step.forget();
        step.leave();
        core
    }
}

/// The spec of a recorded service; one that is no longer configured is stopped by the defaults.
fn spec_of(config: &Config, name: String) -> ServiceSpec {
    let found = config.services.iter().find(|spec| spec.name == name).cloned();
    found.unwrap_or_else(|| ServiceSpec { name, policy: Policy::default(), launch: 0 })
}

impl Step<'_> {
    /// The id of a survivor's run; a service that nobody remembers becomes known and, unless it is
    /// configured, retired.
    fn identify(&mut self, survivor: &Survivor) -> RunId {
        let service = match self.core.find(&survivor.name) {
            Some(id) => id,
            None => {
                let name = survivor.name.clone();
                self.add(ServiceSpec { name, policy: Policy::default(), launch: 0 })
            }
        };
        RunId { service, generation: survivor.generation }
    }

    fn join(&mut self, run: RunId, survivor: &Survivor) {
        let Some(record) = self.core.record(run.service) else { return };
        let recorded = record.state.run() == Some(run) || self.core.side(run).is_some();
        let free = !record.state.is_live();
        let main = matches!(survivor.kind, RunKind::Service | RunKind::Job);
        if !recorded {
            self.note(What::Adopted { run });
            if main && free && survivor.exit.is_none() {
                let since = self.core.now;
                self.move_to(run.service, State::Running { run, since });
            } else {
                self.end_stray(run, survivor.kind);
            }
        }
        match survivor.exit {
            Some(exit) => self.absorb(Event::Exited { run, exit, rest: survivor.rest }),
            None => self.finish_spawn(run),
        }
    }

    /// A spawn that was under way has succeeded: the process is there.
    fn finish_spawn(&mut self, run: RunId) {
        let state = self.core.record(run.service).map(|record| record.state.clone());
        let waits = match state {
            Some(State::Starting { run: main, phase, .. }) => main == run && phase == StartPhase::Spawning,
            Some(State::Stopping {
                run: main, phase: crate::state::StopPhase::AwaitSpawn { .. }, ..
            }) => main == run,
            _ => false,
        };
        if waits {
            self.absorb(Event::Spawned { run });
        }
    }

    /// A life that cannot be the service's own is ended: never two at once.
    fn end_stray(&mut self, run: RunId, kind: RunKind) {
        let give_up_at = self.core.now;
        self.note(What::SideMoved { run, kind, phase: SidePhase::Active { give_up_at } });
        self.kill_side(run);
    }

    /// Recorded runs that nobody found: the spawn never happened, or they have ended unseen.
    fn miss_the_others(&mut self, seen: &BTreeSet<RunId>) {
        let ids: Vec<ServiceId> = self.core.services.keys().copied().collect();
        for id in ids {
            let Some(record) = self.core.record(id) else { continue };
            let sides: Vec<Side> =
                record.sides.iter().filter(|side| !seen.contains(&side.run)).copied().collect();
            let state = record.state.clone();
            for side in sides {
                self.absorb(Event::Exited { run: side.run, exit: Exit::Unknown, rest: Rest::Gone });
            }
            let Some(run) = state.run().filter(|run| state.may_have_process() && !seen.contains(run)) else {
                continue;
            };
            if let State::Starting { phase: StartPhase::Spawning, .. } = state {
                let kind = self.core.kind_of_run(id);
                self.act(Action::Spawn { run, kind });
            } else {
                self.absorb(Event::Exited { run, exit: Exit::Unknown, rest: Rest::Gone });
            }
        }
    }
}

impl Supervisor {
    fn kind_of_run(&self, id: ServiceId) -> RunKind {
        self.look(id).map_or(RunKind::Service, |(_, policy, _)| policy.run_kind())
    }
}
