//! The operator: asks for starts, stops and restarts, edits the configuration, makes mistakes in it, and at
//! last shuts down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use relume_core::{
    Backoff, Checks, Command, Condition, Config, Dependency, Event, ExitWhen, Hooks, ManagerPolicy, Policy,
    Reach, RespawnRate, RestartMode, RestartPolicy, Rule, ServiceId, ServiceKind, ServiceSpec, Ticket,
    WhenExhausted,
};

use crate::checks::Wish;
use crate::dice::Dice;
use crate::options::Options;
use crate::programs::Nuisance;

/// What an operator can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Start some services.
    Start,
    /// Stop some.
    Stop,
    /// Stop some and all that depend on them.
    StopWithDependents,
    /// Restart some.
    Restart,
    /// Change what one is started with.
    Relaunch,
    /// Change the rules of one.
    Repolicy,
    /// Configure one more.
    Add,
    /// Take one out of the configuration.
    Remove,
    /// Hand in a configuration that cannot be.
    Mistake,
    /// Change the rules over all.
    Rules,
    /// Stop everything and leave.
    Shutdown,
    /// The same, at once.
    Hurry,
}

impl Act {
    /// Which acts a run has, with their weights.
    pub fn draw(dice: &mut Dice) -> Vec<(Self, u64)> {
        let all = [
            (Self::Start, 10),
            (Self::Stop, 8),
            (Self::StopWithDependents, 4),
            (Self::Restart, 8),
            (Self::Relaunch, 4),
            (Self::Repolicy, 3),
            (Self::Add, 3),
            (Self::Remove, 3),
            (Self::Mistake, 1),
            (Self::Rules, 1),
        ];
        let mut some: Vec<_> = all.into_iter().filter(|_| dice.chance(600)).collect();
        if dice.chance(100) {
            some.push((Self::Shutdown, 1));
        }
        if dice.chance(50) {
            some.push((Self::Hurry, 1));
        }
        some
    }
}

/// Which programs stand behind a service.
#[derive(Debug, Clone, Copy)]
pub struct Programs {
    /// The service's own.
    pub main: Nuisance,
    /// That of its hooks.
    pub hooks: Nuisance,
}

/// The operator, with the files he edits.
#[derive(Debug)]
pub struct Operator {
    /// The configuration that holds.
    pub config: Config,
    /// Every service ever configured, as it was last.
    pub specs: BTreeMap<String, ServiceSpec>,
    /// The programs, by the name of the service.
    pub programs: BTreeMap<String, Programs>,
    options: Options,
    dice: Dice,
    tickets: u64,
}

/// What an act comes to.
#[derive(Debug)]
pub enum Deed {
    /// A command under a ticket, with what it wants and of whom.
    Command(Ticket, Command, Wish, Vec<ServiceId>),
    /// Something else that the manager hears.
    Event(Event),
    /// Nothing.
    Nothing,
}

impl Operator {
    /// One with a first configuration.
    #[must_use]
    pub fn new(options: &Options, seed: u64) -> Self {
        let dice = Dice::new(seed, 3);
        let manager = ManagerPolicy::default();
        let config = Config { manager, autostart: true, services: Vec::new() };
        let mut new = Self {
            config,
            specs: BTreeMap::new(),
            programs: BTreeMap::new(),
            options: options.clone(),
            dice,
            tickets: 0,
        };
        new.config.autostart = !new.dice.chance(50);
        new.config.manager = new.rules();
        for _ in 0..options.services {
            new.add();
        }
        new
    }

    /// The pause before his next act.
    pub fn pause(&mut self) -> Duration {
        let longest = self.options.pause;
        self.dice.millis(1, longest)
    }

    /// Does something; `known` are the services that can be named.
    pub fn act(&mut self, known: &[ServiceId]) -> Deed {
        let total: u64 = self.options.acts.iter().map(|(_, weight)| weight).sum();
        if total == 0 {
            return Deed::Nothing;
        }
        let mut at = self.dice.range(0, total - 1);
        let act = self.options.acts.iter().find(|(_, weight)| match at.checked_sub(*weight) {
            Some(left) => {
                at = left;
                false
            }
            None => true,
        });
        let Some((act, _)) = act.copied() else { return Deed::Nothing };
        self.carry_out(act, known)
    }

    fn carry_out(&mut self, act: Act, known: &[ServiceId]) -> Deed {
        match act {
            Act::Start => self.command(known, Wish::Up, Command::Start),
            Act::Restart => self.command(known, Wish::Up, Command::Restart),
            Act::Stop => {
                self.command(known, Wish::Down, |services| Command::Stop { services, with_dependents: false })
            }
            Act::StopWithDependents => {
                self.command(known, Wish::Down, |services| Command::Stop { services, with_dependents: true })
            }
            Act::Relaunch => self.relaunch(),
            Act::Repolicy => {
                let index = self.dice.index(self.config.services.len());
                self.redraw(index)
            }
            Act::Add => {
                self.add();
                self.configured()
            }
            Act::Remove => self.remove(),
            Act::Mistake => self.mistake(),
            Act::Rules => {
                self.config.manager = self.rules();
                self.configured()
            }
            Act::Shutdown => Deed::Event(Event::ShutdownAsked { hurry: false, forget: false }),
            Act::Hurry => Deed::Event(Event::ShutdownAsked { hurry: true, forget: true }),
        }
    }

    fn command(&mut self, known: &[ServiceId], wish: Wish, make: impl Fn(Vec<ServiceId>) -> Command) -> Deed {
        let mut services = Vec::new();
        for _ in 0..self.dice.range(1, 3) {
            if !known.is_empty() {
                services.push(known[self.dice.index(known.len())]);
            }
        }
        if self.dice.chance(30) {
            services.push(ServiceId(u32::MAX));
        }
        self.order(services, wish, make)
    }

    /// A command for these services.
    pub fn order(
        &mut self,
        services: Vec<ServiceId>,
        wish: Wish,
        make: impl Fn(Vec<ServiceId>) -> Command,
    ) -> Deed {
        self.tickets += 1;
        Deed::Command(Ticket(self.tickets), make(services.clone()), wish, services)
    }

    fn configured(&self) -> Deed {
        Deed::Event(Event::Configured(self.config.clone()))
    }

    fn relaunch(&mut self) -> Deed {
        let index = self.dice.index(self.config.services.len());
        let fresh = self.dice.any();
        let misbehaves = self.nuisance();
        let Some(spec) = self.config.services.get_mut(index) else { return Deed::Nothing };
        spec.launch = fresh;
        self.specs.insert(spec.name.to_string(), spec.clone());
        self.programs.entry(spec.name.to_string()).and_modify(|programs| programs.main = misbehaves);
        self.configured()
    }

    fn redraw(&mut self, index: usize) -> Deed {
        let Some(spec) = self.config.services.get(index) else { return Deed::Nothing };
        let name = spec.name.to_string();
        let before: Vec<(String, ServiceKind)> = self.before(index);
        let policy = self.policy(&name, &before);
        // The edge's digest of a launch has the type in it: a new manager knows of no other sign of a change.
        if self.config.services[index].policy.kind != policy.kind {
            self.config.services[index].launch = self.dice.any();
        }
        self.config.services[index].policy = policy.into();
        self.specs.insert(name, self.config.services[index].clone());
        self.configured()
    }

    fn before(&self, index: usize) -> Vec<(String, ServiceKind)> {
        self.config.services[..index].iter().map(|s| (s.name.to_string(), s.policy.kind)).collect()
    }

    fn add(&mut self) {
        let used: Vec<&str> = self.config.services.iter().map(|spec| spec.name.as_str()).collect();
        let gone: Vec<String> =
            self.specs.keys().filter(|name| !used.contains(&name.as_str())).cloned().collect();
        let name = if !gone.is_empty() && self.dice.chance(700) {
            gone[self.dice.index(gone.len())].clone()
        } else {
            format!("s{}", self.specs.len())
        };
        let before = self.before(self.config.services.len());
        let policy = self.policy(&name, &before);
        let programs = Programs { main: self.nuisance(), hooks: self.nuisance() };
        let launch = self.dice.any();
        let spec = ServiceSpec { name: name.as_str().into(), policy: policy.into(), launch };
        self.specs.insert(name.clone(), spec.clone());
        self.programs.insert(name, programs);
        self.config.services.push(spec);
    }

    fn remove(&mut self) -> Deed {
        if self.config.services.is_empty() {
            return Deed::Nothing;
        }
        let index = self.dice.index(self.config.services.len());
        let gone = self.config.services.remove(index);
        for spec in &mut self.config.services {
            Arc::make_mut(&mut spec.policy).dependencies.remove(gone.name.as_str());
            self.specs.insert(spec.name.to_string(), spec.clone());
        }
        self.configured()
    }

    /// A cycle, a name that nobody has, or a name twice: refused as a whole.
    fn mistake(&mut self) -> Deed {
        let mut wrong = self.config.clone();
        let how = Dependency { condition: Condition::Started, restart: false };
        let mistake = self.dice.range(0, 2);
        let Some(first) = wrong.services.first_mut() else { return Deed::Nothing };
        let name = first.name.to_string();
        match mistake {
            0 => {
                Arc::make_mut(&mut first.policy).dependencies.insert(name, how);
            }
            1 => {
                Arc::make_mut(&mut first.policy).dependencies.insert("nobody".into(), how);
            }
            _ => {
                let twice = first.clone();
                wrong.services.push(twice);
            }
        }
        Deed::Event(Event::Configured(wrong))
    }

    fn nuisance(&mut self) -> Nuisance {
        if self.options.nuisances.is_empty() || !self.dice.chance(self.options.misbehaves) {
            return Nuisance::Good;
        }
        self.dice.pick(&self.options.nuisances)
    }

    fn rules(&mut self) -> ManagerPolicy {
        let rate = RespawnRate {
            count: u32::try_from(self.dice.range(1, 4)).unwrap_or(1),
            window: self.dice.millis(500, 10_000),
        };
        ManagerPolicy {
            respawn_rate: self.dice.chance(400).then_some(rate),
            start_parallelism: self.dice.pick(&[1, 2, 64, 64]),
            exit_when: match self.dice.range(0, 49) {
                0 => ExitWhen::AllDone,
                1 => ExitWhen::AnyFailed,
                _ => ExitWhen::Never,
            },
        }
    }

    fn policy(&mut self, name: &str, before: &[(String, ServiceKind)]) -> Policy {
        let kind = self.dice.pick(&[
            ServiceKind::Simple,
            ServiceKind::Simple,
            ServiceKind::Simple,
            ServiceKind::Notify,
            ServiceKind::Notify,
            ServiceKind::Oneshot,
            ServiceKind::Forking,
        ]);
        let (timeout_start, timeout_stop) = (self.limit(), self.limit());
        let old = self.specs.get(name).map(|spec| &spec.policy);
        // A limit that was off stays off, so that every wait without a bound is one that was asked for.
        let timeout_start = timeout_start.filter(|_| old.is_none_or(|p| p.timeout_start.is_some()));
        let timeout_stop = timeout_stop.filter(|_| old.is_none_or(|p| p.timeout_stop.is_some()));
        Policy {
            kind,
            autostart: !self.dice.chance(150),
            dependencies: self.dependencies(before),
            restart: restart_policy(&mut self.dice, self.options.instant),
            timeout_start,
            timeout_stop,
            stop_signal: relume_core::SIGTERM,
            stop_to: if self.dice.chance(300) { Reach::Tree } else { Reach::Main },
            reload_signal: relume_core::SIGHUP,
            checks: self.checks(kind),
            hooks: self.hooks(timeout_stop.is_some()),
        }
    }

    fn limit(&mut self) -> Option<Duration> {
        if self.dice.chance(self.options.limitless) {
            return None;
        }
        if self.dice.chance(self.options.instant) {
            return Some(Duration::ZERO);
        }
        Some(self.dice.millis(4_000, 20_000))
    }

    /// Checks that end a life when they fail; none that a program would have to answer well first.
    fn checks(&mut self, kind: ServiceKind) -> Checks {
        let mut rule = || {
            self.dice.chance(400).then(|| Rule {
                failures: u32::try_from(self.dice.range(1, 3)).unwrap_or(1),
                successes: u32::try_from(self.dice.range(1, 2)).unwrap_or(1),
                command: self.dice.chance(500).then(|| self.dice.millis(100, 3_000)),
                grace: self.dice.chance(200).then(|| self.dice.millis(0, 3_000)),
            })
        };
        Checks {
            liveness: rule(),
            health: rule().filter(|_| kind == ServiceKind::Simple),
            ..Checks::default()
        }
    }

    /// A `stop_command` only asks: what it asks in vain, and without a limit, goes on for ever as it was told to.
    fn hooks(&mut self, stop_is_bounded: bool) -> Hooks {
        let mut hook = || {
            let has = self.dice.chance(self.options.hooked);
            has.then(|| self.dice.millis(4_000, 10_000))
        };
        Hooks {
            check: None,
            pre_start: hook(),
            post_start: hook(),
            pre_stop: hook(),
            post_stop: hook(),
            on_failure: hook(),
            stop: hook().filter(|_| stop_is_bounded),
            reload: hook(),
        }
    }

    fn dependencies(&mut self, before: &[(String, ServiceKind)]) -> BTreeMap<String, Dependency> {
        let mut all = BTreeMap::new();
        for (name, kind) in before {
            if !self.dice.chance(self.options.depends) {
                continue;
            }
            let ends = *kind == ServiceKind::Oneshot || self.dice.chance(30);
            let condition = match self.dice.range(0, 5) {
                0 if ends => Condition::Completed,
                1 | 2 => Condition::Started,
                _ => Condition::Ready,
            };
            all.insert(name.clone(), Dependency { condition, restart: self.dice.chance(300) });
        }
        all
    }
}

/// Rules of restart: everything short, so that much happens within the steps of a run.
pub fn restart_policy(dice: &mut Dice, instant: u32) -> RestartPolicy {
    let backoff = Backoff {
        factor: dice.pick(&[1.0, 1.5, 2.0, 10.0]),
        max: dice.millis(2_000, 30_000),
        jitter: dice.pick(&[0.0, 0.1, 0.5, 1.0]),
    };
    let modes = [RestartMode::Always, RestartMode::Always, RestartMode::OnFailure, RestartMode::Never];
    let zero = dice.chance(instant);
    RestartPolicy {
        mode: dice.pick(&modes),
        success_exit_codes: if dice.chance(150) { vec![0, 7] } else { vec![0] },
        // Without delay and without limit a failing service would never leave the machine alone.
        max_retries: dice.pick(&[None, Some(0), Some(1), Some(2), Some(3), Some(5)]).or(zero.then_some(5)),
        retry_window: dice.millis(2_000, 60_000),
        retry_delay: if zero { Duration::ZERO } else { dice.millis(100, 3_000) },
        backoff: dice.chance(800).then_some(backoff),
        stable_after: if zero { Duration::ZERO } else { dice.millis(1_000, 20_000) },
        when_exhausted: if dice.chance(300) {
            WhenExhausted::GiveUp
        } else {
            WhenExhausted::RetryEvery(dice.millis(5_000, 60_000))
        },
    }
}
