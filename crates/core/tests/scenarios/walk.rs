//! The walk: a supervisor is put into each kind of state, and fed each kind of event.

use crate::support::*;

/// The kinds of events that speak of a run.
pub(crate) const RUN_EVENTS: [&str; 16] = [
    "spawned",
    "spawn failed",
    "spawn failed for a shortage",
    "ready",
    "main found",
    "exited well, tree gone",
    "exited well, tree alive",
    "exited badly, tree gone",
    "exited badly, tree alive",
    "emptied",
    "probe succeeded",
    "probe failed",
    "probe due",
    "silent",
    "too much memory",
    "asks for more time",
];

/// An event of that kind about a run.
pub(crate) fn run_event(kind: &str, run: RunId) -> Event {
    let failed = |shortage| Event::SpawnFailed { run, error: SpawnError { text: "no".into(), shortage } };
    let exited = |code, rest| Event::Exited { run, exit: Exit::Code(code), rest };
    let probed = |failure| Event::Probed { run, check: Check::Liveness, failure, counts: true };
    match kind {
        "spawned" => Event::Spawned { run },
        "spawn failed" => failed(false),
        "spawn failed for a shortage" => failed(true),
        "ready" => Event::Ready { run },
        "main found" => Event::MainFound { run },
        "exited well, tree gone" => exited(0, Rest::Gone),
        "exited well, tree alive" => exited(0, Rest::Alive),
        "exited badly, tree gone" => exited(1, Rest::Gone),
        "exited badly, tree alive" => exited(1, Rest::Alive),
        "emptied" => Event::Emptied { run },
        "probe succeeded" => probed(None),
        "probe failed" => probed(Some("no answer".into())),
        "probe due" => Event::ProbeDue { run, check: Check::Liveness },
        "silent" => Event::Silent { run },
        "too much memory" => Event::TooMuchMemory { run, used: 2, limit: 1 },
        "asks for more time" => Event::Extended { run, by: secs(1_000.0) },
        other => panic!("no such event: {other}"),
    }
}

/// Puts a service `s` into that kind of state.
pub(crate) fn arrange(w: &mut World, state: &str) {
    match state {
        "stopped" => w.config([svc("s").asleep()]),
        "pending: dependency" => w.config([svc("s").needs("d"), svc("d").notify()]),
        "pending: slot" => {
            w.rules(|rules| rules.start_parallelism = 1);
            w.config([svc("a").notify(), svc("s")]);
        }
        "pending: turn" => {
            w.rules(|rules| rules.respawn_rate = Some(RespawnRate { count: 1, window: secs(10.0) }));
            w.config([svc("a"), svc("s")]);
            w.all_up(&["a", "s"]);
            w.exited("a", 1);
            w.exited("s", 1);
            w.wait(1.0);
        }
        "restarting: prompt" | "restarting: backoff" => {
            w.config([svc("s")]);
            w.up("s");
            w.exited("s", i32::from(state == "restarting: backoff"));
        }
        "restarting: shortage" => {
            w.config([svc("s")]);
            w.spawn_starved("s");
        }
        "restarting: slow" | "failed: given up" => {
            let give_up = state == "failed: given up";
            let rule = if give_up { WhenExhausted::GiveUp } else { WhenExhausted::RetryEvery(secs(300.0)) };
            w.config([svc("s").retries(Some(1)).with(|p| p.restart.when_exhausted = rule)]);
            w.exited("s", 1);
            w.wait(1.0);
            w.exited("s", 1);
        }
        "completed" => {
            w.config([svc("s").oneshot()]);
            w.spawned("s");
            w.exited("s", 0);
        }
        "failed" => {
            w.config([svc("s").mode(RestartMode::Never)]);
            w.spawn_failed("s");
        }
        live => arrange_live(w, live),
    }
    w.expect_kind("s", state);
}

fn arrange_live(w: &mut World, state: &str) {
    let service = match state {
        "starting: pre_start" | "stopping: cancel" => svc("s").pre_start(),
        "starting: alive" => svc("s").notify(),
        "starting: forked" => svc("s").forking(),
        "stopping: pre_stop" => svc("s").pre_stop(),
        "stopping: post_stop" => svc("s").post_stop(),
        _ => svc("s"),
    };
    w.config([service.liveness(1)]);
    match state {
        "starting: pre_start" | "starting: spawning" => {}
        "starting: alive" | "running" => w.spawned("s"),
        "starting: forked" => {
            w.spawned("s");
            w.exited_leaving("s", 0);
        }
        "stopping: rest" => {
            w.up("s");
            w.exited_leaving("s", 1);
        }
        "stopping: post_stop" => {
            w.up("s");
            w.exited("s", 1);
        }
        "stopping: cancel" | "stopping: await spawn" => {
            w.stop("s");
        }
        "stopping: pre_stop" | "stopping: asked" | "stopping: killed" => {
            w.up("s");
            w.stop("s");
            w.wait(if state == "stopping: killed" { 10.0 } else { 0.0 });
        }
        other => panic!("no such state: {other}"),
    }
}

/// The kinds of events that every state is fed, or that can come in this one.
pub(crate) fn events_for(state: &str) -> Vec<String> {
    let mut w = World::new();
    arrange(&mut w, state);
    let now = w.state("s");
    let mut events: Vec<String> = Vec::new();
    if now.is_live() {
        events.extend(RUN_EVENTS.map(String::from));
    }
    if waited_hook(&now).is_some() {
        events.extend(RUN_EVENTS.iter().map(|event| format!("its hook: {event}")));
        events.push("its hook: time limit".into());
    }
    if now.deadline().is_some() {
        events.push("its deadline".into());
    }
    events.extend(EVERYWHERE.map(String::from));
    events
}

const EVERYWHERE: [&str; 11] = [
    "start asked",
    "stop asked",
    "reload asked",
    "signal asked",
    "restart asked",
    "configured, its launch the same",
    "configured with another launch",
    "left out of the configuration",
    "shutdown asked",
    "hurry asked",
    "news of an earlier run",
];

/// Puts `s` into the state, feeds it the event, and tells what came of it.
pub(crate) fn feed(state: &str, event: &str) -> Vec<Reached> {
    let mut w = World::new();
    arrange(&mut w, state);
    let steps = w.steps();
    let run = RunId { service: w.id("s"), generation: 0 };
    match event {
        "its deadline" => {
            let at = w.state("s").deadline().expect("only states with a deadline are fed it");
            w.wait(at.since(w.now).as_secs_f64());
        }
        "its hook: time limit" => {
            let at = w.record("s").deadline().expect("each hook has a time limit");
            w.wait(at.since(w.now).as_secs_f64());
        }
        "start asked" => _ = w.start("s"),
        "stop asked" => _ = w.stop("s"),
        "reload asked" => _ = w.reload("s"),
        "signal asked" => _ = w.signal("s", 12, Reach::Tree),
        "restart asked" => _ = w.restart("s"),
        "configured, its launch the same" => w.tell(Event::Configured(w.config.clone())),
        "configured with another launch" => {
            let mut config = w.config.clone();
            config.services.iter_mut().filter(|spec| spec.name == "s").for_each(|spec| spec.launch = 2);
            w.tell(Event::Configured(config));
        }
        "left out of the configuration" => {
            let mut config = w.config.clone();
            config.services.retain(|spec| spec.name != "s");
            w.tell(Event::Configured(config));
        }
        "shutdown asked" => w.shutdown(),
        "hurry asked" => w.hurry(),
        "news of an earlier run" => {
            let before = (w.state("s"), w.acted.len());
            for kind in RUN_EVENTS {
                w.tell(run_event(kind, run));
            }
            assert_eq!(
                (w.state("s"), w.acted.len()),
                before,
                "an earlier run changed a service that is {state}"
            );
        }
        other => match other.strip_prefix("its hook: ") {
            Some(kind) => {
                let hook = waited_hook(&w.state("s")).expect("only states that wait for a hook are fed it");
                w.tell(run_event(kind, hook));
            }
            None => w.tell(run_event(other, w.run("s"))),
        },
    }
    w.finish().split_off(steps)
}
