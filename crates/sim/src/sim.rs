//! One run: the core, what is around it, and the loop that lets one thing happen after the other.

use std::fmt::Write;
use std::time::Duration;

use relume_core::{Action, Event, Moment, Outbox, RunKind, ServiceId, Snapshot, Supervisor};

use crate::checks::{Checks, Journal, Trigger, View};
use crate::dice::Dice;
use crate::faults::{Death, Faults, speaks_of_another};
use crate::hash::Fnv;
use crate::operator::{Deed, Operator};
use crate::options::Options;
use crate::programs::{Nuisance, Plan, Role};
use crate::run::{Failure, Settings};
use crate::trace::Trace;
use crate::world::{Happening, Kernel, News};

/// The whole of a run.
#[derive(Debug)]
pub struct Sim {
    pub(crate) options: Options,
    pub(crate) settings: Settings,
    pub(crate) kernel: Kernel,
    pub(crate) core: Supervisor,
    pub(crate) out: Outbox,
    /// The memory of the core, folded from its facts.
    pub(crate) memory: Snapshot,
    pub(crate) journal: Journal,
    pub(crate) operator: Operator,
    pub(crate) faults: Faults,
    pub(crate) checks: Checks,
    pub(crate) trace: Trace,
    pub(crate) hash: Fnv,
    /// Draws what belongs to no room.
    pub(crate) dice: Dice,
    pub(crate) steps: u64,
    /// Facts and actions of the present step, answers to clients apart.
    work: usize,
    pub(crate) left: bool,
    /// It left in a step whose facts were lost: nobody can read how it ended.
    pub(crate) torn_off: bool,
}

/// Up for an hour: room for a clock that goes back.
const BOOT: Moment = Moment(3_600_000_000_000);

impl Sim {
    /// The run of this seed.
    #[must_use]
    pub fn new(seed: u64, settings: &Settings) -> Self {
        let options = Options::draw(seed);
        let mut dice = Dice::new(seed, 5);
        let mut core = Supervisor::new(dice.any(), BOOT);
        crate::run::plant(&mut core, settings);
        Self {
            kernel: Kernel::new(seed, BOOT),
            core,
            out: Outbox::default(),
            memory: Snapshot::default(),
            journal: Journal::default(),
            operator: Operator::new(&options, seed),
            faults: Faults::new(&options.faults, seed),
            checks: Checks::default(),
            trace: Trace::new(settings.trace),
            hash: Fnv::new(),
            dice,
            steps: 0,
            work: 0,
            left: false,
            torn_off: false,
            settings: settings.clone(),
            options,
        }
    }

    /// Steps so far, and the sum over all that the core said.
    #[must_use]
    pub fn outcome(&self) -> (u64, u64) {
        (self.steps, self.hash.sum())
    }

    /// Runs both phases.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn run(&mut self) -> Result<(), Failure> {
        self.trace.note(BOOT, || format!("{:#?}", self.options));
        let result = self.with_faults().map_err(Failure::Safety).and_then(|()| self.without_faults());
        for record in self.memory.services.values() {
            self.trace.note(self.kernel.now, || format!("in the end {record:?}"));
        }
        result
    }

    pub(crate) fn view(&self) -> View<'_> {
        view(&self.memory, &self.operator, &self.kernel, Trigger::World)
    }

    fn with_faults(&mut self) -> Result<(), String> {
        self.feed(Event::Configured(self.operator.config.clone()), Trigger::Config)?;
        let at = self.kernel.now.after(self.operator.pause());
        self.kernel.plan(at, Happening::Operator);
        if self.faults.meddle() {
            let at = self.faults.next_nonsense(self.kernel.now);
            self.kernel.plan(at, Happening::Nonsense);
        }
        let steps = self.settings.steps.unwrap_or(self.options.steps);
        // Where nobody is left to be told anything, turns pass without steps.
        let mut turns = 0;
        while self.steps < steps && turns < 4 * steps && !self.left && self.turn()? {
            turns += 1;
        }
        Ok(())
    }

    /// Lets the next thing happen; whether there was any.
    pub(crate) fn turn(&mut self) -> Result<bool, String> {
        let due = self.core.next_deadline().map(|deadline| deadline.at.max(self.kernel.now));
        let next = self.kernel.next_at();
        let tick = match (due, next) {
            (None, None) => return Ok(false),
            (Some(due), Some(next)) if due == next => self.dice.chance(500),
            (Some(due), Some(next)) => due < next,
            (due, _) => due.is_some(),
        };
        if tick {
            self.kernel.now = self.faults.jump(due.unwrap_or(self.kernel.now));
            self.checks.tick(&view(&self.memory, &self.operator, &self.kernel, Trigger::World))?;
            self.feed(Event::Tick, Trigger::World)?;
            return Ok(true);
        }
        self.kernel.latency = self.faults.latency();
        match self.kernel.pop() {
            Some(Happening::Operator) => self.operate()?,
            Some(Happening::Nonsense) => self.meddle()?,
            Some(what) => self.happen(what)?,
            None => {}
        }
        Ok(true)
    }

    fn happen(&mut self, what: Happening) -> Result<(), String> {
        let again = matches!(what, Happening::News(News::Again(_)));
        let Some(event) = self.kernel.happen(what) else { return Ok(()) };
        if !again
            && !speaks_of_another(&event, &self.memory)
            && let Some(at) = self.faults.again(self.kernel.now)
        {
            self.kernel.plan(at, Happening::News(News::Again(event.clone())));
        }
        self.feed(event, Trigger::World)
    }

    fn operate(&mut self) -> Result<(), String> {
        let at = self.kernel.now.after(self.operator.pause());
        self.kernel.plan(at, Happening::Operator);
        let known: Vec<ServiceId> = self.memory.services.keys().copied().collect();
        let deed = self.operator.act(&known);
        self.do_deed(deed)
    }

    pub(crate) fn do_deed(&mut self, deed: Deed) -> Result<(), String> {
        match deed {
            Deed::Command(ticket, command, wish, services) => {
                self.checks.tickets.issue(ticket, wish, &services);
                self.feed(Event::Commanded { ticket, command }, Trigger::Command)
            }
            Deed::Event(event @ Event::Configured(_)) => self.feed(event, Trigger::Config),
            Deed::Event(event) => self.feed(event, Trigger::Command),
            Deed::Nothing => Ok(()),
        }
    }

    fn meddle(&mut self) -> Result<(), String> {
        let at = self.faults.next_nonsense(self.kernel.now);
        self.kernel.plan(at, Happening::Nonsense);
        match self.faults.nonsense(&self.memory) {
            Some(event) => self.feed(event, Trigger::World),
            None => Ok(()),
        }
    }

    /// One step of the core, and everything that follows from it.
    pub(crate) fn feed(&mut self, event: Event, trigger: Trigger) -> Result<(), String> {
        self.steps += 1;
        let death = self.faults.death();
        let clock = self.faults.clock(self.kernel.now);
        self.trace.event(self.kernel.now, clock, &event, &self.memory);
        self.core.step(clock, event, &mut self.out);
        let replies = self.out.actions.iter().filter(|action| matches!(action, Action::Reply { .. }));
        self.work = self.out.facts.len() + self.out.actions.len() - replies.count();
        match death {
            None => {
                self.commit(trigger)?;
                self.perform(u64::MAX, trigger)?;
                self.look(trigger)
            }
            Some(death) => self.die(death, trigger),
        }
    }

    /// The facts of the step are recorded.
    fn commit(&mut self, trigger: Trigger) -> Result<(), String> {
        for fact in std::mem::take(&mut self.out.facts) {
            // An error of the formatter cannot happen: the sum takes everything.
            let _ = write!(self.hash, "{fact:?}");
            self.trace.fact(&fact);
            if !self.settings.unchecked {
                self.checks.fact(&view(&self.memory, &self.operator, &self.kernel, trigger), &fact)?;
            }
            self.memory.fold(&fact);
            self.journal.append(fact);
        }
        Ok(())
    }

    /// The first `most` actions of the step are carried out, the others are lost.
    fn perform(&mut self, most: u64, trigger: Trigger) -> Result<(), String> {
        let actions = std::mem::take(&mut self.out.actions);
        for action in actions.into_iter().take(usize::try_from(most).unwrap_or(usize::MAX)) {
            let _ = write!(self.hash, "{action:?}");
            self.trace.action(self.kernel.now, &action);
            if !self.settings.unchecked {
                self.checks.action(&view(&self.memory, &self.operator, &self.kernel, trigger), &action)?;
            }
            match action {
                Action::Spawn { run, kind } => self.spawn(run, kind),
                Action::Signal { run, signal, to } => self.kernel.signal(run, signal, to),
                Action::FindMain { run } => self.kernel.find_main(run),
                Action::Reply { .. } => {}
                Action::Leave { .. } if self.left => return Err("it leaves twice".into()),
                Action::Leave { .. } => self.left = true,
            }
        }
        Ok(())
    }

    fn spawn(&mut self, run: relume_core::RunId, kind: RunKind) {
        let Some(spec) = self.core.spec(run.service) else { return };
        let name = spec.name.to_string();
        let programs = self.operator.programs.get(&name).copied();
        let (role, nuisance) = match kind {
            RunKind::Hook(_) | RunKind::Probe(_) | RunKind::Alert(_) => {
                (Role::Hook, programs.map(|programs| programs.hooks))
            }
            RunKind::Service | RunKind::Job => {
                (Role::Service(spec.policy.kind), programs.map(|programs| programs.main))
            }
        };
        let nuisance = nuisance.unwrap_or(Nuisance::Absent);
        let plan = Plan::draw(nuisance, role, &mut self.kernel.dice);
        if nuisance == Nuisance::Absent {
            self.kernel.refuse(run, false);
        } else if let Some(shortage) = self.faults.refusal() {
            self.kernel.refuse(run, shortage);
        } else {
            let delay = self.faults.spawn_delay();
            self.kernel.begin((run, kind), name, plan, delay);
        }
    }

    /// The checks after a step.
    fn look(&mut self, trigger: Trigger) -> Result<(), String> {
        self.kernel.bury();
        if self.settings.unchecked {
            return Ok(());
        }
        if self.steps.is_multiple_of(16) {
            self.journal.check(self.core.snapshot())?;
        }
        let view = view(&self.memory, &self.operator, &self.kernel, trigger);
        self.checks.step(&view, &self.core, self.work)
    }

    /// The manager dies within the step, and a new one comes.
    fn die(&mut self, death: Death, trigger: Trigger) -> Result<(), String> {
        self.trace.note(self.kernel.now, || format!("the manager dies: {death:?}"));
        let most = death.done % (self.out.actions.len() as u64 + 1);
        if death.torn {
            self.out.facts.clear();
            self.perform_torn(most);
            self.torn_off = self.left;
        } else {
            self.commit(trigger)?;
            self.journal.check(self.core.snapshot())?;
            self.kernel.bury();
            self.perform(most, trigger)?;
        }
        self.out.facts.clear();
        self.out.actions.clear();
        if self.left {
            return Ok(());
        }
        self.recover()
    }

    /// Actions of a step whose facts were lost: the kernel sees them, the checks learn of them only by what
    /// they left behind.
    fn perform_torn(&mut self, most: u64) {
        let actions = std::mem::take(&mut self.out.actions);
        for action in actions.into_iter().take(usize::try_from(most).unwrap_or(usize::MAX)) {
            self.trace.action(self.kernel.now, &action);
            match action {
                Action::Spawn { run, kind } => self.spawn(run, kind),
                Action::Signal { run, signal, to } => self.kernel.signal(run, signal, to),
                Action::Leave { .. } => self.left = true,
                Action::FindMain { .. } | Action::Reply { .. } => {}
            }
        }
    }

    fn recover(&mut self) -> Result<(), String> {
        self.checks.manager_died();
        self.kernel.manager_dies();
        self.wait_without_manager();
        let snapshot = self.journal.read();
        self.journal.check(&self.memory)?;
        let survivors = self.faults.survivors(&mut self.kernel);
        self.trace.note(self.kernel.now, || format!("a new manager finds {survivors:?}"));
        let config = self.operator.config.clone();
        let seed_and_now = (self.faults.any(), self.kernel.now);
        self.core = Supervisor::recover(config, snapshot, &survivors, seed_and_now, &mut self.out);
        crate::run::plant(&mut self.core, &self.settings);
        for tree in self.kernel.trees.values_mut() {
            // A service whose first facts were torn off may come up under another id.
            if let Some(id) = self.core.find(&tree.name) {
                tree.run.service = id;
            }
        }
        self.kernel.manager_came();
        if let Some(death) = self.faults.death().filter(|death| !death.torn) {
            return self.die(death, Trigger::Recovery);
        }
        self.commit(Trigger::Recovery)?;
        self.perform(u64::MAX, Trigger::Recovery)?;
        self.look(Trigger::Recovery)
    }

    fn wait_without_manager(&mut self) {
        let until = self.kernel.now.after(self.faults.interregnum());
        while self.kernel.next_at().is_some_and(|at| at <= until) {
            match self.kernel.pop() {
                Some(meddling @ (Happening::Operator | Happening::Nonsense)) => {
                    self.kernel.plan(until.after(Duration::from_millis(1)), meddling);
                }
                Some(what) => {
                    self.kernel.happen(what);
                }
                None => break,
            }
        }
        self.kernel.now = until.max(self.kernel.now);
        self.kernel.manager_dies();
    }
}

fn view<'a>(memory: &'a Snapshot, operator: &'a Operator, kernel: &'a Kernel, trigger: Trigger) -> View<'a> {
    View { memory, specs: &operator.specs, config: &operator.config, kernel, trigger }
}
