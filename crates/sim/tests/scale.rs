//! Ten thousand services in one chain, and ten thousand around one hub: they start in order and end in the
//! reverse order, without a stack that overflows and without work that grows with the square.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed, here and now")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use relume_core::{
    Action, Condition, Config, Dependency, Event, Exit, ManagerPolicy, Moment, Outbox, Policy, Rest, RunId,
    ServiceSpec, Signal, State, Supervisor,
};

/// How many services.
const MANY: usize = 10_000;

/// Ten times what a debug build takes, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);

fn spec(name: &str, needs: &[&str]) -> ServiceSpec {
    let ready = Dependency { condition: Condition::Ready, restart: false };
    let dependencies = needs.iter().map(|need| ((*need).to_string(), ready)).collect();
    ServiceSpec { name: name.into(), policy: Policy { dependencies, ..Policy::default() }.into(), launch: 1 }
}

/// An edge where every process starts at once and heeds the stop signal at once.
struct World {
    core: Supervisor,
    /// Runs in the order in which they were started, and in which they were asked to stop.
    started: Vec<RunId>,
    stopped: Vec<RunId>,
    left: u32,
    most_work: usize,
}

impl World {
    fn new() -> Self {
        let core = Supervisor::new(1, Moment(1));
        Self { core, started: Vec::new(), stopped: Vec::new(), left: 0, most_work: 0 }
    }

    /// Feeds an event, and then what follows from it until nothing does.
    fn feed(&mut self, event: Event) {
        let (mut events, mut out) = (std::collections::VecDeque::from([event]), Outbox::default());
        while let Some(event) = events.pop_front() {
            self.core.step(Moment(1), event, &mut out);
            self.most_work = self.most_work.max(out.actions.len() + out.facts.len());
            out.facts.clear();
            for action in out.actions.drain(..) {
                match action {
                    Action::Spawn { run, .. } => {
                        self.started.push(run);
                        events.push_back(Event::Spawned { run });
                    }
                    Action::Signal { run, signal: Signal::Stop(_), .. } => {
                        self.stopped.push(run);
                        let exit = Exit::Code(0);
                        events.push_back(Event::Exited { run, exit, rest: Rest::Gone });
                    }
                    Action::Leave { .. } => self.left += 1,
                    Action::Signal { .. } | Action::FindMain { .. } | Action::Reply { .. } => {}
                }
            }
        }
    }

    fn configure(&mut self, services: Vec<ServiceSpec>) {
        let manager = ManagerPolicy::default();
        self.feed(Event::Configured(Config { manager, autostart: true, services }));
    }

    fn running(&self) -> usize {
        let all = self.core.snapshot().services.values();
        all.filter(|record| matches!(record.state, State::Running { .. })).count()
    }

    /// Starts came after those of all dependencies, and stops before theirs.
    fn check_order(&self) {
        let places = |runs: &[RunId]| -> BTreeMap<_, _> {
            runs.iter().enumerate().map(|(place, run)| (run.service, place)).collect()
        };
        let (started, stopped) = (places(&self.started), places(&self.stopped));
        for id in self.core.ids() {
            for dependent in self.core.dependents(id) {
                assert!(started[dependent] > started[&id], "{dependent:?} started before {id:?}");
                assert!(stopped[dependent] < stopped[&id], "{dependent:?} stopped after {id:?}");
            }
        }
    }
}

fn start_and_stop(services: Vec<ServiceSpec>) -> World {
    let (count, began) = (services.len(), Instant::now());
    let mut world = World::new();
    world.configure(services);
    assert_eq!(world.running(), count);
    world.feed(Event::ShutdownAsked { hurry: false, forget: false });
    assert_eq!((world.running(), world.left), (0, 1));
    assert_eq!((world.started.len(), world.stopped.len()), (count, count));
    relume_core::invariants::check(&world.core).unwrap();
    assert!(began.elapsed() < PATIENCE, "it took {:?}", began.elapsed());
    world.check_order();
    world
}

#[test]
fn a_chain_of_ten_thousand_starts_forwards_and_stops_backwards() {
    let name = |i: usize| format!("s{i}");
    let mut services = vec![spec(&name(0), &[])];
    services.extend((1..MANY).map(|i| spec(&name(i), &[name(i - 1).as_str()])));
    let world = start_and_stop(services);
    assert!(world.started.is_sorted(), "a chain has one order only");
}

#[test]
fn a_chain_configured_from_its_end_starts_forwards_too() {
    let name = |i: usize| format!("s{i}");
    let mut services: Vec<_> = (1..MANY).rev().map(|i| spec(&name(i), &[name(i - 1).as_str()])).collect();
    services.push(spec(&name(0), &[]));
    start_and_stop(services);
}

#[test]
fn ten_thousand_around_one_hub_start_after_it_and_end_before_it() {
    let mut services = vec![spec("hub", &[])];
    services.extend((1..MANY).map(|i| spec(&format!("s{i}"), &["hub"])));
    let world = start_and_stop(services);
    assert!(world.most_work < 20 * MANY, "one step brought {} facts and actions", world.most_work);
}

#[test]
fn one_that_needs_ten_thousand_starts_last_and_ends_first() {
    let names: Vec<String> = (1..MANY).map(|i| format!("s{i}")).collect();
    let mut services = vec![spec("top", &names.iter().map(String::as_str).collect::<Vec<_>>())];
    services.extend(names.iter().map(|name| spec(name, &[])));
    start_and_stop(services);
}
