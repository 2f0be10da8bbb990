//! What goes wrong, apart from the programs: refused spawns, news late, twice or nonsensical, clocks, and the
//! death of the manager at any point.

use std::time::Duration;

use relume_core::{
    Check, Event, Exit, Moment, Rest, RunId, ServiceId, Snapshot, SpawnError, State, Survivor,
};

use crate::dice::Dice;
use crate::options::FaultOptions;
use crate::world::{Kernel, Main};

/// The faults of one run.
#[derive(Debug)]
pub struct Faults {
    options: FaultOptions,
    dice: Dice,
}

/// How the manager dies in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// The facts of this step never reached the journal, though some of its actions were carried out.
    pub torn: bool,
    /// How many of the step's actions are still carried out; taken modulo their number and one.
    pub done: u64,
}

impl Faults {
    /// The faults of the run with this seed.
    #[must_use]
    pub fn new(options: &FaultOptions, seed: u64) -> Self {
        Self { options: options.clone(), dice: Dice::new(seed, 4) }
    }

    /// Nothing goes wrong any more.
    pub fn end(&mut self) {
        self.options = FaultOptions::default();
    }

    /// Whether chance meddles at all.
    #[must_use]
    pub fn meddle(&self) -> bool {
        self.options.spurious > 0 || self.options.unhealthy > 0
    }

    /// When it does so next.
    pub fn next_nonsense(&mut self, now: Moment) -> Moment {
        self.dice.soon(now, 50, 5_000)
    }

    /// Whether and how the manager dies in the coming step.
    pub fn death(&mut self) -> Option<Death> {
        if !self.dice.chance(self.options.dies) {
            return None;
        }
        Some(Death { torn: self.dice.chance(self.options.torn), done: self.dice.any() })
    }

    /// How long nobody supervises.
    pub fn interregnum(&mut self) -> Duration {
        match self.dice.range(0, 3) {
            0 => self.dice.millis(0, 8_000),
            1 => self.dice.millis(0, 100),
            _ => Duration::ZERO,
        }
    }

    /// A number for the seed of the next manager.
    pub fn any(&mut self) -> u64 {
        self.dice.any()
    }

    /// Whether a spawn is refused, and whether for a shortage.
    pub fn refusal(&mut self) -> Option<bool> {
        self.dice.chance(self.options.refused).then(|| self.dice.chance(self.options.shortage))
    }

    /// How long a spawn takes.
    pub fn spawn_delay(&mut self) -> Duration {
        if self.dice.chance(self.options.spawn_hangs) {
            return self.dice.millis(500, 30_000);
        }
        self.dice.millis(0, 3)
    }

    /// How long news may take, in milliseconds.
    pub fn latency(&mut self) -> u64 {
        if self.dice.chance(self.options.late) { self.dice.range(100, 8_000) } else { 2 }
    }

    /// Whether news comes again, and when.
    pub fn again(&mut self, now: Moment) -> Option<Moment> {
        self.dice.chance(self.options.doubled).then(|| self.dice.soon(now, 0, 10_000))
    }

    /// The present as the manager sees it.
    pub fn clock(&mut self, now: Moment) -> Moment {
        if self.dice.chance(self.options.clock_back) {
            return Moment(now.0.saturating_sub(self.dice.range(0, 5_000_000_000)));
        }
        now
    }

    /// Where the clock jumps to, if it does.
    pub fn jump(&mut self, now: Moment) -> Moment {
        if self.dice.chance(self.options.clock_jump) { self.dice.soon(now, 1_000, 600_000) } else { now }
    }

    /// News of a run that is over, was never begun, or of a service that nobody knows; or a judgement of
    /// liveness without cause.
    pub fn nonsense(&mut self, memory: &Snapshot) -> Option<Event> {
        let ids: Vec<ServiceId> = memory.services.keys().copied().collect();
        if ids.is_empty() {
            return None;
        }
        let id = ids[self.dice.index(ids.len())];
        let record = memory.services.get(&id)?;
        if self.dice.chance(self.options.unhealthy) {
            return record.state.run().map(|run| self.judgement(run));
        }
        if self.options.spurious == 0 {
            return None;
        }
        let run = match self.dice.range(0, 3) {
            0 => RunId { service: ServiceId(u32::MAX - 1), generation: 1 },
            1 => RunId { service: id, generation: record.generation + 1 + self.dice.range(0, 3) },
            _ => RunId { service: id, generation: self.dice.range(0, record.generation) },
        };
        let present = record.state.run() == Some(run) || record.sides.iter().any(|side| side.run == run);
        (!present).then(|| self.about(run))
    }

    /// What probes and watchdogs say; whether anybody asked is the core's to know.
    fn judgement(&mut self, run: RunId) -> Event {
        let check = self.dice.pick(&[Check::Liveness, Check::Health]);
        let failure = self.dice.chance(800).then(|| "no answer".into());
        match self.dice.range(0, 8) {
            0 => Event::Silent { run },
            6 => Event::AlertDue { service: run.service, which: 0 },
            7 => Event::TooMuchMemory { run, used: 2, limit: 1 },
            8 => Event::Noticed { service: Some(run.service), text: "odd".into() },
            1 => Event::Extended { run, by: self.dice.millis(0, 2_000) },
            2 => Event::ProbeDue { run, check },
            _ => Event::Probed { run, check, failure, counts: self.dice.chance(900) },
        }
    }

    fn about(&mut self, run: RunId) -> Event {
        let rest = if self.dice.chance(500) { Rest::Alive } else { Rest::Gone };
        let exit = self.dice.pick(&[Exit::Code(0), Exit::Code(1), Exit::Unknown]);
        match self.dice.range(0, 6) {
            0 => Event::Spawned { run },
            1 => Event::Ready { run },
            2 => Event::MainFound { run },
            3 => Event::Emptied { run },
            4 => self.judgement(run),
            5 => Event::SpawnFailed { run, error: SpawnError { text: "late".into(), shortage: false } },
            _ => Event::Exited { run, exit, rest },
        }
    }

    /// What a new manager is shown: every tree of which something lives, and the ends that the keeper kept,
    /// unless it died too.
    pub fn survivors(&mut self, kernel: &mut Kernel) -> Vec<Survivor> {
        let forgetful = self.dice.chance(self.options.keeper_dies);
        if forgetful {
            kernel.trees.retain(|_, tree| tree.is_alive());
        }
        let shown = kernel.trees.values().map(|tree| Survivor {
            name: tree.name.as_str().into(),
            generation: tree.run.generation,
            kind: tree.kind,
            exit: match tree.main {
                Main::Ended(_) if forgetful => Some(Exit::Unknown),
                Main::Ended(exit) => Some(exit),
                Main::Alive | Main::Unborn => None,
            },
            rest: if tree.children > 0 { Rest::Alive } else { Rest::Gone },
        });
        let mut shown: Vec<Survivor> = shown.collect();
        if self.dice.chance(500) {
            shown.reverse();
        }
        shown
    }
}

/// Whether doubling this news would make it a lie: a `forking` service has two main processes in turn, and
/// the end of the first, told again, would speak of the second.
#[must_use]
pub fn speaks_of_another(event: &Event, memory: &Snapshot) -> bool {
    let Event::Exited { run, .. } = event else { return false };
    let state = memory.services.get(&run.service).map(|record| &record.state);
    matches!(state, Some(State::Starting { .. }))
}
