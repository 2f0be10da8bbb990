//! A manager that is killed while services print: each line is in the log once, whole and in order.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Process, Relume, eventually, fixture};

/// How often the manager is killed; `RELUME_KILLS=1000 cargo test -p relume --test real exactly_once` for the full figure.
fn kills() -> u64 {
    std::env::var("RELUME_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(20)
}

/// Pseudo-random waits between kills: the same in each run, at a different point of the work each.
fn waits() -> impl Iterator<Item = Duration> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Duration::from_micros(state % 60_000)
    })
}

fn kill_manager(relume: &Relume) {
    let status = relume.status();
    let before = status.manager()["recoveries"].as_u64().unwrap();
    let pid = u32::try_from(status.manager()["pid"].as_u64().unwrap()).unwrap();
    Process::of(pid).expect("the manager lives").signal(Signal::KILL);
    eventually("the next manager answers", || {
        relume.try_status().filter(|status| status.manager()["recoveries"].as_u64() > Some(before))
    });
}

/// The numbers of all lines of all files of a log, oldest first.
fn numbers(relume: &Relume, name: &str, text: impl Fn(&str) -> String) -> Vec<u64> {
    let path = |n: u32| {
        relume.path(&if n == 0 { format!("logs/{name}.log") } else { format!("logs/{name}.log.{n}") })
    };
    let files = (0..=1000).rev().filter_map(|n| std::fs::read(path(n)).ok());
    let all = String::from_utf8(files.flatten().collect()).expect("only what was printed");
    // The signal that ends a flood finds it within a line.
    let whole = all.rfind('\n').map_or(0, |end| end + 1);
    all[..whole]
        .lines()
        .map(|line| {
            let line = text(line);
            let number = line.strip_prefix(name).and_then(|rest| rest.split_whitespace().next());
            number.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("a torn line in {name}: {line:?}"))
        })
        .collect()
}

fn each_once(numbers: &[u64], what: &str) {
    for (n, pair) in numbers.windows(2).enumerate() {
        assert_eq!(pair[0] + 1, pair[1], "{what}: after line {} of the log", n + 1);
    }
    assert_eq!(numbers.first(), Some(&1), "{what}: the first line");
}

/// Light and heavy printers, with and without rotation, in every form. Seen to fail with slots in ordinary memory: lines of the
/// heavy ones were lost within thirty kills.
#[test]
fn a_killed_manager_loses_and_repeats_no_line() {
    let heavy =
        |name: &str, log: Value| json!({"command": [fixture("floods"), name, "1500000", "40"], "log": log});
    let keep_all = json!({"rotate": {"size": "1MB", "keep": 1000, "compress": "off"}});
    let relume = Relume::with(&json!({"services": {
        "light": {"command": [fixture("prints-numbers"), "light", "3"]},
        "turning": heavy("turning", keep_all),
        "growing": heavy("growing", json!({"rotate": "off"})),
        "stamped": heavy("stamped", json!({"rotate": "off", "format": "timestamp"})),
        "json": heavy("json", json!({"rotate": "off", "format": "json"})),
    }}));
    relume.wait_until("all run", |status| {
        status.services().iter().all(|service| service["state"] == "running")
    });
    for wait in waits().take(usize::try_from(kills()).unwrap()) {
        // The moment of the kill is what varies; nothing is waited for.
        let until = Instant::now() + wait;
        while Instant::now() < until {
            std::thread::yield_now();
        }
        kill_manager(&relume);
    }
    let status = relume.status();
    assert!(status.services().iter().all(|service| service["restarts"] == 0), "{status}");
    relume.down();
    let plain = |line: &str| line.to_owned();
    for name in ["light", "turning", "growing"] {
        each_once(&numbers(&relume, name, plain), name);
    }
    let stamped = |line: &str| line.split_once("Z ").expect(line).1.to_owned();
    let stamped = numbers(&relume, "stamped", stamped);
    each_once(&stamped, "stamped");
    let object = |line: &str| {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        object["line"].as_str().unwrap().to_owned()
    };
    each_once(&numbers(&relume, "json", object), "json");
    assert!(stamped.len() > 1_000, "the heavy ones did print");
}
