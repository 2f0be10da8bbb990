//! Probes that hang, in every way in which something can hang: each is over at its timeout, with all that it has started, and
//! nobody else notices. How many hang at once, and how exact the time is, is measured by `bench/probes.py`.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::{Map, Value, json};

use crate::harness::answers::{Answers, DRIP, DRIP_BODY, ENDLESS, SILENCE};
use crate::harness::{Process, Relume, eventually, fixture};
use crate::health::{events, quiet};

/// Shown to fail: with a time limit of days in the core it never comes to be ill.
#[test]
fn the_whole_tree_of_a_command_that_hangs_is_killed_at_its_timeout() {
    let relume = Relume::with(&json!({"services": {"web": quiet(&json!({"liveness": {
        "exec": format!("{0} & {0} & echo x >> probed; wait", fixture("ignores-term")),
        "interval": "300ms", "timeout": "200ms", "retries": 3}}))}}));
    relume.wait_state("web", "running");
    let status = relume.wait_until("it is ill", |status| status.state("web") == "restarting");
    assert!(status.reason("web").contains("has not ended within 200ms"), "{status}");
    eventually("nothing of the probes is left", || relume.processes_of("web").is_empty().then_some(()));
    let probed = fs::read_to_string(relume.path("probed")).unwrap();
    assert_eq!(probed.lines().count(), 3, "one for each failure, never two at once");
}

/// A port that swallows connections: its queue is full, so the kernel drops every further attempt.
struct Hole {
    port: u16,
    _kept: (TcpListener, Vec<TcpStream>),
}

impl Hole {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut kept = vec![];
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            kept.push(stream);
        }
        Self { port: address.port(), _kept: (listener, kept) }
    }
}

/// Shown to fail: with a time limit of an hour around each question nothing but the endless answer is told.
#[test]
fn whatever_hangs_is_over_at_its_timeout() {
    let hole = Hole::new();
    let [silent, drip, drip_body, endless] = [SILENCE, DRIP, DRIP_BODY, ENDLESS].map(Answers::new);
    let times = json!({"interval": "500ms", "timeout": "300ms", "retries": 1000});
    let probe = |target: Value| {
        let mut probe = times.clone();
        probe.as_object_mut().unwrap().extend(target.as_object().unwrap().clone());
        quiet(&json!({ "liveness": probe }))
    };
    let body = |answers: &Answers| probe(json!({"http": {"url": answers.url(), "body": "never there"}}));
    let relume = Relume::with(&json!({"services": {
        "hole": probe(json!({"tcp": hole.port})),
        "silent": probe(json!({"http": silent.url()})),
        "drip": probe(json!({"http": drip.url()})),
        "drip-body": body(&drip_body),
        "exec": probe(json!({"exec": "date +%s%N >> probed; sleep 1000 | sleep 1001"})),
        // It is told apart by what it says, so it needs the time to say it.
        "endless": quiet(&json!({"liveness": {"http": {"url": endless.url(), "body": "never there"},
            "interval": "500ms", "timeout": "20s", "retries": 1000}}))}}));
    let late = "no answer within 300ms";
    let wanted = [
        ("hole", late),
        ("silent", late),
        ("drip", late),
        ("drip-body", late),
        ("exec", "has not ended within 300ms"),
        ("endless", "does not contain"),
    ];
    for (name, reason) in wanted {
        eventually(&format!("{name} has failed three times"), || {
            let told: Vec<Value> =
                events(&relume, name).into_iter().filter(|event| event["event"] == "probe").collect();
            let right =
                |event: &Value| event["detail"].as_str().is_some_and(|detail| detail.contains(reason));
            assert!(told.iter().all(right), "{name}: {told:?}");
            (told.len() >= 3).then_some(())
        });
    }
    let status = relume.status();
    assert!(
        wanted.iter().all(|(name, _)| status.state(name) == "running" && status.restarts(name) == 0),
        "{status}"
    );
    relume.down();
}

/// So many in `cargo test`; `RELUME_HUNG=2000` for more.
fn hung() -> u32 {
    std::env::var("RELUME_HUNG").map_or(500, |number| number.parse().unwrap())
}

/// R30: nine in ten are connections that nobody answers, the others commands that do not end. Nobody is restarted for it, there
/// are never two at once, and the end of another service is seen as if there were none: with a release build within 50 ms
/// (p99, printed with `--nocapture`), asserted with much more for a busy machine.
/// Shown to fail: with a second task that asks the same, there are two at once.
#[test]
fn five_hundred_probes_that_hang_change_nothing_for_others() {
    let (hole, count) = (Answers::new(SILENCE), hung());
    let times = json!({"interval": "300ms", "timeout": "60s", "retries": 1000});
    let mut services: Map<String, Value> = (0..count)
        .map(|n| {
            let mut probe = times.clone();
            if n % 10 == 0 {
                probe["exec"] = json!("sleep 1000");
            } else {
                probe["http"] = json!(hole.url());
            }
            (format!("hung{n}"), quiet(&json!({ "liveness": probe })))
        })
        .collect();
    services.insert(
        "control".into(),
        json!({"command": "date +%s%N >> lives; exec sleep 1000", "retry_delay": "0s", "backoff": "off",
            "max_retries": "unlimited"}),
    );
    let relume = Relume::with(&json!({ "services": services }));
    let connections = count - count.div_ceil(10);
    eventually("all hang", || (hole.asked() >= connections).then_some(()));
    let lives = || -> Vec<u128> {
        let text = fs::read_to_string(relume.path("lives")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    let mut took: Vec<Duration> = (1..=40)
        .map(|life| {
            let pid = eventually("it lives", || {
                let known = fs::read_to_string(relume.state("pids/control.pid")).ok();
                (lives().len() == life).then_some(known?.trim().parse().ok()?).and_then(Process::of)
            });
            let killed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
            pid.signal(Signal::KILL);
            let next = eventually("it lives again", || lives().get(life).copied());
            Duration::from_nanos(u64::try_from(next.saturating_sub(killed)).unwrap())
        })
        .collect();
    took.sort();
    eprintln!(
        "from the end of a life to the next beside {count} hung probes: p50 {:?}, p99 {:?}",
        took[20], took[39]
    );
    assert!(took[39] < Duration::from_secs(15), "{took:?}");
    let status = relume.status();
    assert!((0..count).all(|n| status.restarts(&format!("hung{n}")) == 0), "{status}");
    assert_eq!(hole.asked(), connections, "never two at once");
    let began = Instant::now();
    relume.down();
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "what hangs does not hold up the end: {:?}",
        began.elapsed()
    );
}
