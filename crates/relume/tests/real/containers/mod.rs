//! Services that are containers, with an engine of the tests' own.

pub(crate) mod engine;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Builder, Process, Relume, eventually, text};
use engine::Engine;

fn web(more: Value) -> Value {
    let mut container = json!({"image": "here:1", "name": "the-web", "engine": "docker"});
    container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"services": {"web": {"container": container, "retry_delay": "50ms"}}})
}

fn prepared(config: &Value) -> (Engine, Builder) {
    let builder = Builder::new();
    let engine = Engine::start(builder.home());
    let host = format!("unix://{}", engine.socket.display());
    (engine, builder.env("DOCKER_HOST", host).config(config))
}

/// The numbers that the container has printed, as they stand in the service's log.
fn numbers(relume: &Relume) -> Vec<u32> {
    let lines = relume.lines("web");
    lines.iter().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect()
}

fn wait_for_line(relume: &Relume, number: u32) {
    eventually(&format!("line {number} is in the log"), || numbers(relume).contains(&number).then_some(()));
}

/// Shown to fail: without the network that is made first.
#[test]
fn a_container_is_made_as_configured_and_gone_after_a_stop() {
    let (engine, builder) = prepared(&web(json!({
        "image": "elsewhere", "network": "healing-network", "args": ["-v"], "env": {"A": "b"},
        "ports": ["127.0.0.1:8080:80"], "volumes": ["./conf:/etc/app:ro"],
    })));
    let conf = builder.path("conf");
    let relume = builder.up();
    relume.wait_state("web", "running");
    wait_for_line(&relume, 3);
    let body = engine.with(|held| {
        assert_eq!(held.networks, ["healing-network"]);
        assert!(held.images.contains(&"elsewhere:latest".to_owned()), "{:?}", held.images);
        held.containers["the-web"].body.clone()
    });
    assert_eq!(body["Cmd"], json!(["-v"]));
    let env = body["Env"].as_array().unwrap();
    assert!(env.contains(&json!("A=b")), "{env:?}");
    assert_eq!(
        body["HostConfig"]["PortBindings"]["80/tcp"],
        json!([{"HostIp": "127.0.0.1", "HostPort": "8080"}])
    );
    assert_eq!(body["HostConfig"]["Binds"], json!([format!("{conf}:/etc/app:ro")]));
    relume.ok(&["reload", "web"]);
    relume.ok(&["stop", "web"]);
    engine.with(|held| {
        assert_eq!(held.asked, ["the-web HUP", "the-web stop"]);
        assert!(held.containers.is_empty());
    });
}

/// The engine is told the signal once, when the container is made. Shown to fail: with SIGKILL sent to the shim, which dies and
/// leaves the container running.
#[test]
fn a_container_with_a_stop_signal_of_its_own_is_stopped_by_its_engine() {
    let mut config = web(json!({}));
    config["services"]["web"]["stop_signal"] = json!("KILL");
    let (engine, builder) = prepared(&config);
    let relume = builder.up();
    relume.wait_state("web", "running");
    assert_eq!(engine.with(|held| held.containers["the-web"].body["StopSignal"].clone()), json!("9"));
    relume.ok(&["stop", "web"]);
    engine.with(|held| {
        assert_eq!(held.asked, ["the-web stop"]);
        assert!(held.containers.is_empty());
    });
}

/// Shown to fail: with any end taken for a good one.
#[test]
fn the_exit_code_of_a_container_is_the_services_and_policy_restarts_it() {
    let (engine, builder) = prepared(&web(json!({})));
    let relume = builder.up();
    relume.wait_state("web", "running");
    engine.end("the-web", 3);
    let status = relume.wait_until("a second life", |status| status.service("web")["restarts"] == 1);
    assert_eq!(status.service("web")["last_exit"]["code"], 3);
    eventually("the engine has started it twice", || {
        engine.with(|held| (held.starts.len() == 2).then_some(()))
    });
}

/// Shown to fail: with a shim that makes its container anew each time (`take_up` answering none), the starts
/// are two; with `Output::fresh` in the place of `Output::again`, lines repeat.
#[test]
fn a_container_whose_shim_was_killed_is_taken_up_and_no_line_is_lost_or_repeated() {
    let (engine, builder) = prepared(&web(json!({})));
    let relume = builder.up();
    relume.wait_state("web", "running");
    for round in 1..=3 {
        let so_far = numbers(&relume).len();
        eventually("it prints", || (numbers(&relume).len() > so_far + 5).then_some(()));
        Process::of(relume.status().pid("web")).unwrap().signal(Signal::KILL);
        relume.wait_until("another shim", |status| {
            status.service("web")["restarts"] == round && status.state("web") == "running"
        });
    }
    let last = numbers(&relume).len() as u32 + 5;
    wait_for_line(&relume, last);
    let seen = numbers(&relume);
    let expected: Vec<u32> = (0..u32::try_from(seen.len()).unwrap()).collect();
    assert_eq!(seen, expected);
    engine.with(|held| assert_eq!(held.starts, ["the-web"]));
}

/// Shown to fail: with labels that are not looked at it is removed.
#[test]
fn a_container_of_somebody_else_is_not_touched() {
    let (engine, builder) = prepared(&web(json!({})));
    engine.with(|held| held.foreign("the-web"));
    let relume = builder.up();
    let line = eventually("the reason is in the log", || {
        relume.lines("web").into_iter().find(|line| line.contains("was not made by relume"))
    });
    assert!(line.contains("the-web"), "{line}");
    relume.down();
    engine.with(|held| assert!(held.containers.contains_key("the-web") && held.asked.is_empty()));
}

/// Shown to fail: by its exit code alone the service has no reason that says anything.
#[test]
fn without_an_engine_the_service_says_why_and_the_others_run() {
    let mut config = web(json!({}));
    config["services"]["other"] = json!({"command": ["sleep", "1000"]});
    let builder = Builder::new();
    let nowhere = builder.path("no-such.sock");
    let relume = builder.env("DOCKER_HOST", format!("unix://{nowhere}")).config(&config).up();
    relume.wait_state("other", "running");
    let line = eventually("the reason is in the log", || {
        relume.lines("web").into_iter().find(|line| line.contains("no container engine answers"))
    });
    assert!(line.contains(&nowhere) && line.contains("No such file"), "{line}");
    let status = relume.wait_until("it is its reason too", |status| {
        status.state("web") != "starting" && status.reason("web").contains("no container engine answers")
    });
    assert_eq!(status.last_exit("web")["code"], 69, "{status}");
    let doctor = relume.run(&["doctor"]);
    assert!(!text(&doctor).contains("web.command"), "the image is no program: {}", text(&doctor));
    assert!(text(&doctor).contains("no container engine: docker at"), "{}", text(&doctor));
}

/// Shown to fail: with the steps of a pull not looked at, the reason is another one.
#[test]
fn an_image_that_nobody_has_is_named() {
    let (_engine, builder) = prepared(&web(json!({"image": "nowhere/thing:2"})));
    let relume = builder.up();
    let line = eventually("the reason is in the log", || {
        relume.lines("web").into_iter().find(|line| line.contains("cannot be pulled"))
    });
    assert!(line.contains("nowhere/thing:2") && line.contains("nobody has it"), "{line}");
}
