//! The one way to come up: what was recorded, joined with what the kernel says is alive.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::action::{Action, Outbox};
use crate::cause::Exit;
use crate::event::{Config, Event, Rest};
use crate::fact::What;
use crate::id::{RunId, RunKind, ServiceId};
use crate::moment::Moment;
use crate::name::Name;
use crate::policy::{Policy, ServiceSpec};
use crate::record::{Side, SidePhase, Snapshot};
use crate::state::{StartPhase, State, StopPhase};
use crate::supervisor::{Step, Supervisor};

/// What is left of one run, as the kernel and the keeper of exits tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    /// Whose run.
    pub name: Name,
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
        let specs = by_name(&config);
        let known = core.memory.services.iter();
        let known = known.map(|(id, record)| (*id, spec_of(&specs, record.name.clone()))).collect();
        core.adopt_specs(known);
        let retired = core.memory.services.iter().filter(|(_, record)| record.retired);
        core.retired = retired.map(|(id, _)| *id).collect();
        core.link();
        core.index_all();
        let mut step = Step { core: &mut core, out };
        // First, so that nobody is judged by rules that are not there any more.
        let gone = step.retire_unnamed(&config);
        let expected = step.core.recorded_runs();
        let mut found: Vec<(RunId, &Survivor)> =
            survivors.iter().map(|survivor| (step.identify(survivor, &specs), survivor)).collect();
        found.sort_by_key(|(run, _)| *run);
        let (known, strange): (Vec<_>, Vec<_>) =
            found.iter().copied().partition(|(run, _)| step.core.remembers(*run));
        for (run, _) in &strange {
            // Before anything follows from the others: a new run must not be given the name of a living one.
            step.note(What::Adopted { run: *run });
        }
        for (run, survivor) in &known {
            step.join(*run, survivor);
        }
        let in_flight = step.miss_the_others(&expected, &found);
        for (run, survivor) in &strange {
            step.receive(*run, survivor, &config);
        }
        step.configure(config, Some(gone));
        in_flight.into_iter().for_each(|run| step.spawn_again(run));
        step.settle();
        step.forget();
        step.leave();
        core
    }
}

type Specs<'a> = BTreeMap<&'a str, &'a ServiceSpec>;

fn by_name(config: &Config) -> Specs<'_> {
    config.services.iter().map(|spec| (spec.name.as_str(), spec)).collect()
}

/// The spec of a recorded service; one that is no longer configured is stopped by the defaults.
fn spec_of(specs: &Specs<'_>, name: Name) -> ServiceSpec {
    let found = specs.get(name.as_str()).map(|spec| (*spec).clone());
    found.unwrap_or_else(|| ServiceSpec { name, policy: Policy::default().into(), launch: 0 })
}

impl Step<'_> {
    /// The id of a survivor's run; a service that nobody remembers becomes known and, unless it is
    /// configured, retired.
    fn identify(&mut self, survivor: &Survivor, specs: &Specs<'_>) -> RunId {
        let service = match self.core.find(&survivor.name) {
            Some(id) => id,
            None => self.add(spec_of(specs, survivor.name.clone())),
        };
        RunId { service, generation: survivor.generation }
    }

    /// A recorded run, and what became of it.
    fn join(&mut self, run: RunId, survivor: &Survivor) {
        let state = self.core.record(run.service).map(|record| record.state.clone());
        if let Some(State::Starting {
            run: main,
            phase: StartPhase::PreStart { .. },
            since,
            slot_until,
            ..
        }) = state.filter(|state| state.run() == Some(run))
        {
            // Its process exists, so its hook has ended well, and the record of that was lost.
            let limit = self.core.look(run.service).and_then(|(_, policy, _)| policy.timeout_start);
            let give_up_at = limit.map(|span| self.core.now.after(span));
            let phase = StartPhase::Spawning;
            let to = State::Starting { run: main, phase, since, give_up_at, slot_until };
            self.move_to(run.service, to);
        }
        self.hear(run, survivor);
    }

    /// A run that nobody recorded: taken for the service's own life where it can be, and ended otherwise.
    fn receive(&mut self, run: RunId, survivor: &Survivor, config: &Config) {
        let free = self.core.record(run.service).is_some_and(|record| !record.state.is_live());
        if survivor.is_main() && free && survivor.exit.is_none() {
            self.adopt(run, survivor.kind, config);
        } else {
            self.end_stray(run, survivor);
        }
        self.hear(run, survivor);
    }

    fn hear(&mut self, run: RunId, survivor: &Survivor) {
        let is_news = survivor.rest == Rest::Gone || !self.core.knows_exit(run);
        match survivor.exit.filter(|_| is_news) {
            Some(exit) => self.absorb(Event::Exited { run, exit, rest: survivor.rest }),
            None => self.resume(run),
        }
    }

    /// Takes an unrecorded life for the service's own. It is held to be what is configured now: its
    /// beginning was the last thing that happened before the memory was lost, and a service must not be
    /// restarted for that.
    fn adopt(&mut self, run: RunId, kind: RunKind, config: &Config) {
        let name = self.core.record(run.service).map_or("", |record| &record.name);
        let launch = config.services.iter().find(|spec| spec.name == name).map_or(0, |spec| spec.launch);
        self.note(What::RunBegan { run, kind, launch, automatic: false });
        let since = self.core.now;
        self.move_to(run.service, State::Running { run, since });
    }

    /// Asks again for what may have been lost with the manager, and would be waited for without end.
    fn resume(&mut self, run: RunId) {
        let state = self.core.record(run.service).map(|record| &record.state);
        match state.filter(|state| state.run() == Some(run)) {
            // The spawn that was under way has succeeded: the process is there.
            Some(
                State::Starting { phase: StartPhase::Spawning, .. }
                | State::Stopping { phase: StopPhase::AwaitSpawn { .. }, .. },
            ) => self.absorb(Event::Spawned { run }),
            Some(State::Starting { phase: StartPhase::Forked, .. }) => self.act(Action::FindMain { run }),
            Some(State::Starting { phase: StartPhase::Alive, .. }) => self.wait_no_longer(run),
            // A signal told twice can make a service hurry, so only where no SIGKILL would follow.
            Some(State::Stopping { phase: StopPhase::Asked { kill_at: None }, .. })
                if !self.core.is_asking(run) =>
            {
                self.ask_by_signal(run);
            }
            Some(State::Stopping { phase: StopPhase::Rest { kill_at: None }, .. }) => self.ask_rest(run),
            _ => {}
        }
    }

    /// A life that cannot be the service's own is ended: never two at once.
    fn end_stray(&mut self, run: RunId, survivor: &Survivor) {
        let give_up_at = self.core.now;
        let phase = SidePhase::Active { give_up_at };
        self.note(What::SideMoved { run, kind: survivor.kind, phase });
        if survivor.exit.is_none() || survivor.rest == Rest::Alive {
            self.kill_side(run);
        }
    }

    /// Recorded runs that nobody found: they have ended unseen, or the spawn never happened; those are
    /// returned. Only runs that were `expected` before the survivors joined: one that began with that was
    /// asked for already.
    fn miss_the_others(&mut self, expected: &BTreeSet<RunId>, found: &[(RunId, &Survivor)]) -> Vec<RunId> {
        let seen: BTreeSet<RunId> = found.iter().map(|(run, _)| *run).collect();
        let replaced = |run: RunId| {
            let later = |other: RunId| other.service == run.service && other.generation > run.generation;
            found.iter().any(|(other, survivor)| later(*other) && survivor.is_main())
        };
        let mut in_flight = Vec::new();
        let ids: Vec<ServiceId> = self.core.services.keys().copied().collect();
        for id in ids {
            let Some(record) = self.core.record(id) else { continue };
            let missing = |run: &RunId| expected.contains(run) && !seen.contains(run);
            let sides: Vec<Side> = record.sides.iter().filter(|side| missing(&side.run)).copied().collect();
            let state = record.state.clone();
            for side in sides {
                self.absorb(Event::Exited { run: side.run, exit: Exit::Unknown, rest: Rest::Gone });
            }
            let Some(run) = state.run().filter(missing) else { continue };
            // A later life shows that this one is over, though the record of that was lost.
            if matches!(state, State::Starting { phase: StartPhase::Spawning, .. }) && !replaced(run) {
                in_flight.push(run);
            } else {
                self.absorb(Event::Exited { run, exit: Exit::Unknown, rest: Rest::Gone });
            }
        }
        in_flight
    }

    /// A spawn that never happened is asked for again under its name, if it is still to be.
    fn spawn_again(&mut self, run: RunId) {
        let Some(record) = self.core.record(run.service) else { return };
        let (replace, retired) = (record.replace.clone(), record.retired);
        match replace {
            None if self.core.is_wanted(run.service) => {
                let kind = self.core.kind_of_run(run.service);
                self.act(Action::Spawn { run, kind });
            }
            why => {
                let cause = why.map_or_else(|| self.core.why_down(retired), |why| *why);
                self.over(run, cause, None);
            }
        }
    }
}

impl Survivor {
    /// Whether it is a life of the service itself and not a hook.
    fn is_main(&self) -> bool {
        matches!(self.kind, RunKind::Service | RunKind::Job)
    }
}

impl Supervisor {
    fn remembers(&self, run: RunId) -> bool {
        let recorded = |record: &crate::record::Record| record.state.run() == Some(run);
        self.record(run.service).is_some_and(recorded) || self.side(run).is_some()
    }

    /// Whether an earlier life of the service is still being ended: no other may begin beside it.
    pub(crate) fn has_stray(&self, service: ServiceId) -> bool {
        let stray = |side: &Side| matches!(side.kind, RunKind::Service | RunKind::Job);
        self.record(service).is_some_and(|record| record.sides.iter().any(stray))
    }

    /// The runs that may have a process.
    fn recorded_runs(&self) -> BTreeSet<RunId> {
        let records = self.memory.services.values();
        let run = |state: &State| state.run().filter(|_| state.may_have_process());
        records.flat_map(|r| run(&r.state).into_iter().chain(r.sides.iter().map(|side| side.run))).collect()
    }

    /// Whether the end of the run's main process is recorded, or that of a launcher.
    fn knows_exit(&self, run: RunId) -> bool {
        let side = self.side(run).is_some_and(|side| {
            matches!(side.phase, SidePhase::Rest { .. } | SidePhase::Killed { exit: Some(_), .. })
        });
        let state = self.record(run.service).map(|record| &record.state);
        side || matches!(
            state.filter(|state| state.run() == Some(run)),
            Some(State::Stopping { exit: Some(_), .. } | State::Starting { phase: StartPhase::Forked, .. })
        )
    }

    fn kind_of_run(&self, id: ServiceId) -> RunKind {
        self.look(id).map_or(RunKind::Service, |(_, policy, _)| policy.run_kind())
    }
}
