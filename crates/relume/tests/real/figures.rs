//! What relume promises in numbers, each a test that is short here and a command of its own in full:
//!
//! | figure | command |
//! |---|---|
//! | R01 the manager killed, 100 printers | `RELUME_KILLS=1000 cargo test --release -p relume --test real figures::killed -- --nocapture` |
//! | R02, R03 the guardian, and both halves, killed | `RELUME_KILLS=1000 ... --test real guardian_death` |
//! | R04 a half that hangs | `RELUME_KILLS=20 ... --test real hangs_is_replaced` |
//! | R05 fatal signals, panics, no memory | `RELUME_KILLS=100 ... --test real -- crash:: figures::without_memory` |
//! | R06 a config that keeps every manager from starting | `RELUME_KILLS=20 ... --test real a_spoilt_config` |
//! | R07 ends that nobody saw | `RELUME_KILLS=1000 ... --test real figures::unseen` |
//! | R08 a death at every act (debug builds) | `RELUME_SWEEP=full cargo test -p relume --test real sweep` |
//! | R09 respawns under load | `RELUME_KILLS=200 ... --test real do_not_notice_a_respawn` |
//! | R11 the soak | `FIXTURE_LIFETIME_S=9000 RELUME_SOAK=7200 ... --test real figures::soak -- --nocapture` |
//! | R12, R13 flipped bits, cuts | `RELUME_DAMAGE=10000 cargo test --release -p relume --bins -- flipped any_damage cut_off` |
//! | R14 a state disk that is full, read-only or answers with errors | `RELUME_TROUBLE_S=60 ... --test real state_disk` |
//! | the gap with 1,000 services, and no client refused | `RELUME_SERVICES=1000 RELUME_KILLS=20 ... --test real many::` |
//! | R24 process 1 | `... --test real pid1` |
//!
//! What takes longer than two minutes needs printers that live as long: `FIXTURE_LIFETIME_S=9000` in front of the command.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::halves::*;
use crate::harness::{Process, Relume, Status, eventually};

/// How many services print: all of them where somebody wants the figure.
pub(crate) fn many() -> usize {
    if std::env::var_os("RELUME_KILLS").is_some() || std::env::var_os("RELUME_SOAK").is_some() {
        100
    } else {
        10
    }
}

/// The times without supervision that relume has told of, in milliseconds, shortest first.
pub(crate) fn gaps(relume: &Relume, kind: &str) -> Vec<f64> {
    let events = relume.ok(&["events", "-n", "all", "--json"]);
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let details = events.filter(|event| event["event"] == kind && event["service"].is_null());
    let gap = |event: Value| {
        let detail = event["detail"].as_str()?.strip_suffix(" ms without supervision")?.to_owned();
        detail.rsplit_once(' ')?.1.parse().ok()
    };
    let mut all: Vec<f64> = details.filter_map(gap).collect();
    all.sort_by(f64::total_cmp);
    all
}

pub(crate) fn say(what: &str, gaps: &[f64]) {
    let at = |part: usize| {
        gaps.get((gaps.len() * part / 100).min(gaps.len().saturating_sub(1))).copied().unwrap_or(0.0)
    };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    eprintln!(
        "{what}: {} times, without supervision p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms; load {}",
        gaps.len(),
        at(50),
        at(99),
        at(100),
        load.trim()
    );
}

fn the_same(relume: &Relume, first: &Status) {
    let status = relume.status();
    assert_eq!(pids(&status), pids(first), "the same processes, none twice");
    for service in status.services() {
        let name = service["name"].as_str().unwrap();
        assert_eq!((status.state(name), status.restarts(name)), ("running", 0), "{service:#}");
        assert_eq!(relume.processes_of(name).len(), 1, "{name} runs once");
    }
}

/// R01. That a lost line is seen: `exactly_once`. Shown to fail: with a journal that notes no facts (recoveries are not told of).
#[test]
fn killed_managers_cost_no_service_and_no_line() {
    let count = many();
    let relume = Relume::with(&printers(count));
    let first = relume.wait_until("all run", |status| pids(status).len() == count);
    for _ in 0..kills(10) {
        std::thread::sleep(Duration::from_millis(random(40)));
        let old = manager(&relume.status());
        old.signal(Signal::KILL);
        wait_for_manager(&relume, &old);
    }
    the_same(&relume, &first);
    let gaps = gaps(&relume, "recovery");
    say("R01 manager killed", &gaps);
    assert!(gaps.len() >= kills(10).min(500), "each is told of: {gaps:?}");
    relume.down();
    (0..count).for_each(|n| assert!(whole(&relume, &format!("p{n}")) > 0));
}

/// R07: of each service that has ended while there was no manager the code is known, and its policy has been followed.
/// Shown to fail: with ends that are taken for unknown where neither half saw them.
#[test]
fn unseen_ends_are_all_learnt_with_their_codes_and_acted_on() {
    const COUNT: usize = 10;
    let services: serde_json::Map<String, Value> = (1..=COUNT)
        .map(|n| {
            let script = format!("echo began; read -r go < gate-{n}; exit {n}");
            (
                format!("w{n}"),
                json!({"command": ["/bin/sh", "-c", script], "max_retries": "unlimited",
                "retry_delay": "1ms", "backoff": "off"}),
            )
        })
        .collect();
    let manager_settings = json!({"respawn_rate": "off"});
    let builder = crate::harness::Builder::new();
    for n in 1..=COUNT {
        let fifo = builder.path(&format!("gate-{n}"));
        assert!(std::process::Command::new("mkfifo").arg(fifo).status().unwrap().success());
    }
    let relume = builder.config(&json!({"manager": manager_settings, "services": services})).up();
    for round in 1..=kills(20) / COUNT {
        let status = relume.wait_until("all run", |status| {
            status.services().iter().all(|one| one["state"] == "running" && one["run"] == round)
        });
        let before: Vec<Process> = pids(&status).into_iter().filter_map(Process::of).collect();
        let (manager, guardian) = (manager(&status), relume.main_process());
        // Stopped, the guardian cannot start a manager, so the ends fall into the time without one.
        guardian.signal(Signal::STOP);
        manager.signal(Signal::KILL);
        for n in 1..=COUNT {
            std::fs::write(relume.path(&format!("gate-{n}")), "go\n").unwrap();
        }
        eventually("all have ended", || before.iter().all(|one| !one.lives()).then_some(()));
        guardian.signal(Signal::CONT);
        let status = relume.wait_until("all are back", |status| {
            status.services().iter().all(|one| one["state"] == "running" && one["run"] == round + 1)
        });
        for n in 1..=COUNT {
            assert_eq!(status.last_exit(&format!("w{n}"))["code"], n, "round {round}: {status}");
        }
    }
    say("R07 ends that nobody saw", &gaps(&relume, "recovery"));
    relume.down();
}

/// R05, the part that no signal shows: the manager gets no more memory, whatever it does then. Services stay, and in the end somebody
/// supervises who has memory. Shown to fail: with a successor that takes what it finds for ended.
#[test]
fn without_memory_the_manager_is_replaced_or_goes_on_and_no_service_notices() {
    let relume = Relume::with(&printers(5));
    let first = relume.wait_until("all run", |status| pids(status).len() == 5);
    for _ in 0..kills(3) {
        let manager = relume.manager();
        let limit = std::process::Command::new("prlimit")
            .args(["--pid", &manager.pid.to_string(), "--as=1048576:"])
            .status();
        assert!(limit.unwrap().success());
        for words in [&["apply"][..], &["status"], &["respawn"], &["events"]] {
            // Whether it can is not the question.
            relume.run(words);
        }
        if relume.manager() == manager {
            manager.signal(Signal::KILL);
            wait_for_manager(&relume, &manager);
        }
        the_same(&relume, &first);
    }
    say("R05 no memory", &gaps(&relume, "recovery"));
    relume.down();
    (0..5).for_each(|n| assert!(whole(&relume, &format!("p{n}")) > 0));
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    resident_kib: u64,
    descriptors: usize,
    threads: usize,
}

fn held(process: &Process) -> Option<Held> {
    let folder = format!("/proc/{}", process.pid);
    let status = std::fs::read_to_string(format!("{folder}/status")).ok()?;
    let number = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Held {
        resident_kib: number("VmRSS:")?,
        descriptors: std::fs::read_dir(format!("{folder}/fd")).ok()?.count(),
        threads: usize::try_from(number("Threads:")?).ok()?,
    })
}

/// Children of both halves that have ended and are not reaped.
fn zombies(status: &Status) -> usize {
    let halves = [manager(status).pid, guardian(status).pid];
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_ours = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
        let mut words = rest.split(' ');
        let zombie = words.next() == Some("Z");
        zombie && words.next().and_then(|parent| parent.parse().ok()).is_some_and(|pid| halves.contains(&pid))
    };
    pids.filter(is_ours).count()
}

/// Printers, of which some end by themselves, and logs that are rotated.
fn restless(count: usize, greeting: usize) -> Value {
    let mut config = printers(count);
    for n in 0..count {
        let service = &mut config["services"][format!("p{n}")];
        service["log"] = json!({"rotate": {"size": "1MB", "keep": 1000, "compress": "off"}});
        service["max_retries"] = json!("unlimited");
        if n % 10 == 0 {
            service["environment"] = json!({"GREETING": greeting.to_string()});
        }
    }
    let dies = "sleep 0.$(( $$ % 10 ))5; exit $(( $$ % 2 ))";
    for n in 0..count / 10 {
        config["services"][format!("dies{n}")] = json!({"command": ["/bin/sh", "-c", dies],
            "max_retries": "unlimited", "retry_delay": "200ms", "backoff": "off"});
    }
    config
}

fn soak_time() -> Duration {
    let seconds = std::env::var("RELUME_SOAK").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(5))
}

/// R11: crashes, applies, rotations, clients, respawns and kills for hours: nothing grows, nothing is left, nothing is lost. Five
/// seconds here; `RELUME_SOAK` says how many. Shown to fail: with a successor that takes what it finds for ended.
#[test]
fn soak_nothing_grows_and_nothing_is_lost() {
    let count = many();
    let relume = Relume::with(&restless(count, 0));
    relume.wait_until("all run", |status| (0..count).all(|n| status.state(&format!("p{n}")) == "running"));
    let steady: Vec<u32> =
        (1..count).filter(|n| n % 10 != 0).map(|n| relume.status().pid(&format!("p{n}"))).collect();
    let (began, length) = (Instant::now(), soak_time());
    let (mut rounds, mut first): (usize, Option<[Held; 2]>) = (0, None);
    let mut last = first;
    while began.elapsed() < length {
        rounds += 1;
        match rounds % 6 {
            0 => {
                let config = serde_json::to_string(&restless(count, rounds)).unwrap();
                std::fs::write(relume.path("relume.json"), config).unwrap();
                relume.ok(&["apply"]);
            }
            2 => drop(relume.ok(&["respawn"])),
            4 => {
                let old = manager(&relume.status());
                old.signal(Signal::KILL);
                wait_for_manager(&relume, &old);
            }
            1 => drop(relume.ok(&["events"])),
            3 => drop(relume.ok(&["logs", "-n", "50", "p1"])),
            _ => drop(relume.ok(&["explain", "p1"])),
        }
        std::thread::sleep(Duration::from_millis(random(300)));
        let status = relume.status();
        let now = held(&manager(&status)).zip(held(&guardian(&status))).map(|(a, b)| [a, b]);
        // After the first tenth all caches are as warm as they get.
        if first.is_none() && began.elapsed() >= length / 10 {
            first = now;
        }
        last = now.or(last);
    }
    let status = relume.wait_until("what has been applied runs", |status| {
        (0..count).all(|n| status.state(&format!("p{n}")) == "running")
    });
    let now: Vec<u32> = (1..count).filter(|n| n % 10 != 0).map(|n| status.pid(&format!("p{n}"))).collect();
    assert_eq!(now, steady, "whom nothing concerned has run on");
    eventually("no zombies are left", || (zombies(&relume.status()) == 0).then_some(()));
    say("R11 recoveries", &gaps(&relume, "recovery"));
    say("R11 respawns", &gaps(&relume, "respawn"));
    eprintln!(
        "R11 {rounds} rounds in {:?}: manager and guardian held {first:?}, then {last:?}",
        began.elapsed()
    );
    let (first, last) = (first.unwrap(), last.unwrap());
    for (first, last) in first.iter().zip(last) {
        let hours = began.elapsed().as_secs_f64() / 3600.0;
        // A manager of any age holds as much as another; a megabyte an hour is allowed, and as much as one life differs from another.
        let allowed = 4096.0 + 1024.0 * hours;
        let grown = last.resident_kib.saturating_sub(first.resident_kib);
        assert!((grown as f64) < allowed, "{first:?} to {last:?}");
        assert!(last.descriptors <= first.descriptors + 40, "{first:?} to {last:?}");
        // Those that may wait for a disk come and go.
        assert!(last.threads <= first.threads + 10, "{first:?} to {last:?}");
    }
    relume.down();
    (1..count).filter(|n| n % 10 != 0).for_each(|n| whole_chain(&relume, &format!("p{n}")));
}

/// Each line of a log and of all that were rotated away, once and in order.
fn whole_chain(relume: &Relume, name: &str) {
    let rotated = |n: u32| std::fs::read(relume.path(&format!("logs/{name}.log.{n}"))).ok();
    let older: Vec<Vec<u8>> = (1..=1000).map_while(rotated).collect();
    let mut all: Vec<u8> = older.into_iter().rev().flatten().collect();
    all.extend(relume.log(name));
    let text = String::from_utf8(all).unwrap();
    let number = |line: &str| -> u64 { line.strip_prefix(name).unwrap().trim().parse().unwrap() };
    let numbers: Vec<u64> = text.lines().map(number).collect();
    assert_eq!(numbers.first(), Some(&1), "{name}");
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{name} has lost or repeated a line");
}
