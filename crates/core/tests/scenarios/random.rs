//! Any sequence of events, sensible or not: never a panic, the invariants hold after each step (the world checks
//! them), and the same sequence leads to the same facts and actions.

use proptest::prelude::*;

use crate::support::*;
use crate::walk::{RUN_EVENTS, run_event};

/// One thing that happens, as plain numbers that any world can make something of.
#[derive(Debug, Clone, Copy)]
struct Step {
    what: u8,
    service: u32,
    which: u64,
    wait_ms: u64,
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// A configuration chosen by a number: services with random rules; dependencies point to earlier names, but for one
/// in sixteen, which may be refused.
fn config(seed: u64) -> Config {
    let mut rng = relume_core::Rng::new(seed);
    let mut one_in = |n: u64| rng.below(n) == 0;
    let mut services = Vec::new();
    for (index, name) in NAMES.iter().enumerate() {
        if one_in(6) {
            continue;
        }
        let mut service = svc(name).launch(1 + u64::from(one_in(4)));
        let kinds = [ServiceKind::Notify, ServiceKind::Oneshot, ServiceKind::Forking];
        let kind = kinds.into_iter().find(|_| one_in(4)).unwrap_or(ServiceKind::Simple);
        let modes = [RestartMode::OnFailure, RestartMode::Never];
        let mode = modes.into_iter().find(|_| one_in(4)).unwrap_or(RestartMode::Always);
        service = service.kind(kind).mode(mode);
        let hooks: [fn(Svc) -> Svc; 5] =
            [Svc::pre_start, Svc::post_start, Svc::pre_stop, Svc::post_stop, Svc::on_failure];
        service =
            hooks.into_iter().fold(service, |service, hook| if one_in(6) { hook(service) } else { service });
        let edges: [fn(Svc, &str) -> Svc; 4] =
            [Svc::needs, Svc::needs_started, Svc::needs_completed, Svc::follows];
        let targets = if one_in(16) { &NAMES[..] } else { &NAMES[..index] };
        for target in targets {
            service =
                edges.into_iter().find(|_| one_in(6)).map_or(service.clone(), |edge| edge(service, target));
        }
        let (asleep, impatient, give_up) = (one_in(4), one_in(4), one_in(3));
        services.push(service.with(|policy| {
            policy.autostart = !asleep;
            policy.timeout_stop = policy.timeout_stop.filter(|_| !impatient);
            policy.restart.max_retries = Some(2);
            if give_up {
                policy.restart.when_exhausted = WhenExhausted::GiveUp;
            }
        }));
    }
    let rate = one_in(3).then(|| RespawnRate { count: 1, window: secs(3.0) });
    let exit_when = if one_in(12) { ExitWhen::AnyFailed } else { ExitWhen::Never };
    let start_parallelism = if one_in(3) { 1 } else { 64 };
    let known: Vec<String> = services.iter().map(|service| service.0.name.to_string()).collect();
    let services = services.into_iter().map(|mut service| {
        std::sync::Arc::make_mut(&mut service.0.policy).dependencies.retain(|name, _| known.contains(name));
        service.0
    });
    Config {
        manager: ManagerPolicy { respawn_rate: rate, start_parallelism, exit_when },
        autostart: true,
        services: services.collect(),
    }
}

/// A run that the step may mean: the present one, one beside it, the latest, or any.
fn a_run(w: &World, step: Step) -> RunId {
    let service = ServiceId(step.service);
    let record = w.core.record(service);
    let present = record.and_then(|record| record.state.run());
    let beside = record.and_then(|record| record.sides.first()).map(|side| side.run);
    let any = RunId { service, generation: step.which % 7 };
    match step.which % 8 {
        0..=3 => present.or(beside),
        4..=6 => beside.or(present),
        _ => None,
    }
    .unwrap_or(any)
}

fn survivors(w: &World, which: u64) -> Vec<Survivor> {
    let mut rng = relume_core::Rng::new(which);
    let mut all = Vec::new();
    for id in w.core.ids() {
        let Some(record) = w.core.record(id) else { continue };
        let main = record.state.run().filter(|_| record.state.may_have_process());
        let runs = main.map(|run| (run, RunKind::Service)).into_iter();
        for (run, kind) in runs.chain(record.sides.iter().map(|side| (side.run, side.kind))) {
            let exit = (rng.below(4) == 0).then_some(Exit::Code(i32::from(rng.below(2) == 0)));
            let rest = if rng.below(3) == 0 { Rest::Alive } else { Rest::Gone };
            if rng.below(4) > 0 {
                all.push(Survivor {
                    name: record.name.clone(),
                    generation: run.generation,
                    kind,
                    exit,
                    rest,
                });
            }
        }
        if rng.below(12) == 0 {
            let generation = record.generation + 1 + rng.below(3);
            let stray = Survivor {
                name: record.name.clone(),
                generation,
                kind: RunKind::Service,
                exit: None,
                rest: Rest::Gone,
            };
            if !all.iter().any(|known| known.name == stray.name && known.generation == generation) {
                all.push(stray);
            }
        }
    }
    all
}

fn play(seed: u64, steps: &[Step]) -> (Vec<Fact>, Vec<Action>) {
    let mut w = World::new();
    w.configure(config(seed));
    for step in steps {
        w.now = w.now.after(std::time::Duration::from_millis(step.wait_ms));
        let services = vec![ServiceId(step.service), ServiceId(u32::try_from(step.which % 6).unwrap_or(0))];
        match step.what {
            0..=20 => {
                let kind = RUN_EVENTS[usize::from(step.what) % RUN_EVENTS.len()];
                w.tell(run_event(kind, a_run(&w, *step)));
            }
            21..=22 => _ = w.command(Command::Start(services)),
            23 => _ = w.command(Command::Restart(services)),
            24..=25 => {
                let with_dependents = step.which.is_multiple_of(2);
                _ = w.command(Command::Stop { services, with_dependents });
            }
            26..=27 => w.configure(config(step.which)),
            28 => {
                let survivors = survivors(&w, step.which);
                w.recover(&survivors);
            }
            29 if step.which.is_multiple_of(16) => w.shutdown(),
            30 if step.which.is_multiple_of(64) => w.hurry(),
            _ => w.tell(Event::Tick),
        }
    }
    (w.facts, w.acted)
}

fn any_step() -> impl Strategy<Value = Step> {
    let wait = prop_oneof![Just(0), 0..3000_u64, 0..20_000_u64];
    (0..32_u8, 0..6_u32, any::<u64>(), wait).prop_map(|(what, service, which, wait_ms)| Step {
        what,
        service,
        which,
        wait_ms,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_the_invariants_and_is_the_same_when_told_again(
        seed in any::<u64>(),
        steps in proptest::collection::vec(any_step(), 1..120),
    ) {
        let first = play(seed, &steps);
        prop_assert_eq!(first, play(seed, &steps));
    }
}
