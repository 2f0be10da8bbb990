//! Starts that fail because the system lacks something just now: no retries are used, nobody gives up, and all is
//! well as soon as there is enough again (scorecard R21).

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Rlimit, Signal};
use serde_json::{Map, Value, json};

use crate::harness::{Builder, Process, Relume, Status, eventually, fixture, is_root, read};

const SERVICES: usize = 20;

/// One second is what users are promised; the machine that runs the tests may be ten times as slow.
const SOON: Duration = Duration::from_secs(10);

/// A user that nobody else is: RLIMIT_NPROC counts the threads of a user all over the machine.
const LONELY: u32 = 64_901;

fn config() -> Value {
    let service = json!({"command": [fixture("never-ready")], "retry_delay": "50ms", "backoff": "off", "max_retries": 3});
    let services: Map<String, Value> = (0..SERVICES).map(|n| (format!("s{n}"), service.clone())).collect();
    // All come back in one second, whatever the usual rate.
    json!({"manager": {"respawn_rate": "1000/1s"}, "services": services})
}

fn manager(status: &Status) -> Process {
    let pid = status.manager()["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    Process::of(pid.expect("a pid")).expect("the manager lives")
}

fn all_run(status: &Status) -> bool {
    status.services().iter().all(|service| service["state"] == "running")
}

/// The limit as proc(5) names it, soft and hard; none is no limit.
fn limit_of(process: &Process, name: &str) -> Rlimit {
    let limits = read(format!("/proc/{}/limits", process.pid).as_ref());
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let mut values = line.split_whitespace().map(|word| word.parse().ok());
    Rlimit { current: values.next().unwrap(), maximum: values.next().unwrap() }
}

/// By a process of the same user: for another's a capability is needed that not every root has.
fn set_limit(process: &Process, option: &str, limit: Rlimit) {
    let text = |value: Option<u64>| value.map_or("unlimited".to_owned(), |value| value.to_string());
    let owner = std::fs::metadata(format!("/proc/{}", process.pid)).unwrap();
    let mut command = Command::new("prlimit");
    command.arg("--pid").arg(process.pid.to_string());
    command.arg(format!("--{option}={}:{}", text(limit.current), text(limit.maximum)));
    if is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// What every shortage must look like from outside. `soft` is so low that nothing can be started.
fn comes_through(relume: &Relume, (option, name): (&str, &str), soft: u64, errno: &str) {
    let before = relume.wait_until("all run", all_run);
    let process = manager(&before);
    let usual = limit_of(&process, name);
    set_limit(&process, option, Rlimit { current: Some(soft), ..usual });
    for n in 0..SERVICES {
        Process::of(before.pid(&format!("s{n}"))).unwrap().signal(Signal::KILL);
    }
    eventually("starts fail", || relume.told().contains(errno).then_some(()));
    // Several times the delay of all retries there are.
    std::thread::sleep(Duration::from_secs(1));
    assert!(process.lives() && relume.ended().is_none(), "{}", relume.told());
    set_limit(&process, option, usual);
    let began = Instant::now();
    let after =
        relume.wait_until("all run again", |status| status.services().len() == SERVICES && all_run(status));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(manager(&after), process, "the same manager");
    for n in 0..SERVICES {
        let used = after.service(&format!("s{n}"))["retries_used"].as_u64().unwrap();
        assert_eq!(used, 1, "the kill counts, the failed starts do not: {after}");
        assert_eq!(after.restarts(&format!("s{n}")), 1, "attempts at one restart are one restart: {after}");
    }
}

/// Shown to fail: with EMFILE taken for a failure of the service all retries are used up and it stays down.
#[test]
fn without_descriptors_services_wait_and_come_back_when_there_are_some_again() {
    let relume = Builder::new().config(&config()).up();
    comes_through(&relume, ("nofile", "Max open files"), 8, "EMFILE");
}

/// Shown to fail: the same with EAGAIN.
#[test]
fn without_processes_services_wait_and_come_back_when_there_are_some_again() {
    let builder = Builder::new().config(&config());
    // Root has no limit of processes.
    let relume = if is_root() { builder.by_user(LONELY).up() } else { builder.up() };
    comes_through(&relume, ("nproc", "Max processes"), 1, "EAGAIN");
}

/// Shown to fail: with EMFILE taken for a failure of the service, retries are used.
#[test]
fn started_with_too_few_descriptors_it_starts_what_it_can_and_still_answers() {
    const MANY: usize = 100;
    let service = json!({"command": [fixture("never-ready")]});
    let services: Map<String, Value> = (0..MANY).map(|n| (format!("s{n}"), service.clone())).collect();
    let relume = Builder::new()
        .through(&["prlimit", "--nofile=128:128"])
        .config(&json!({ "services": services }))
        .up();
    let running =
        |status: &Status| status.services().iter().filter(|service| service["state"] == "running").count();
    let status = relume.wait_until("some run and others cannot", |status| {
        running(status) >= 20 && relume.told().contains("EMFILE")
    });
    for service in status.services() {
        let state = service["state"].as_str().unwrap();
        assert!(["running", "pending", "starting", "crashed", "restarting"].contains(&state), "{service}");
        assert_eq!(service["retries_used"], 0, "{service}");
    }
    assert!(running(&status) < MANY, "there is a shortage at all");
    let lives = |status: &Status| -> Vec<String> {
        let running = status.services().iter().filter(|service| service["state"] == "running");
        running.map(|service| service["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = lives(&status);
    let words: Vec<&str> = std::iter::once("stop").chain(first.iter().map(String::as_str)).collect();
    relume.ok(&words);
    let began = Instant::now();
    relume.wait_until("others run in their place", |status| {
        lives(status).iter().filter(|name| !first.contains(name)).count()
            >= first.len().min(MANY - first.len()) / 2
    });
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

/// More descriptors come back from the guardian than relume was started with the right to have open. Shown to fail: with the limit
/// raised after they have come.
#[test]
fn a_new_manager_has_room_for_all_that_the_guardian_keeps() {
    const MANY: usize = 60;
    let service = json!({"command": [fixture("never-ready")]});
    let services: Map<String, Value> = (0..MANY).map(|n| (format!("s{n}"), service.clone())).collect();
    let relume = Builder::new()
        .through(&["prlimit", "--nofile=100:2000"])
        .config(&json!({ "services": services }))
        .up();
    let before = relume.wait_until("all run", all_run);
    let old = manager(&before);
    old.signal(Signal::KILL);
    let after = crate::harness::halves::wait_for_manager(&relume, &old);
    assert_eq!(crate::harness::halves::pids(&after), crate::harness::halves::pids(&before));
    let told = relume.told();
    assert!(!told.contains("had no room here"), "{told}");
    relume.down();
}

/// A directory stands where the larger journal would be made. Shown to fail: with an attempt at each step, which says so each time.
#[test]
fn a_journal_that_cannot_grow_is_tried_now_and_then_and_said_once() {
    const MANY: usize = 1500;
    let service = json!({"command": ["sleep", "1000"], "autostart": false});
    // As long as a name may be.
    let name = |n: usize| format!("{n:x<60}");
    let config = |count: usize| {
        let services: Map<String, Value> = (0..count).map(|n| (name(n), service.clone())).collect();
        json!({ "services": services }).to_string()
    };
    let relume = Relume::with(&serde_json::from_str(&config(1)).unwrap());
    let in_the_way = relume.path("runtime").join("journal.new");
    std::fs::create_dir(&in_the_way).unwrap();
    std::fs::write(relume.path("relume.json"), config(MANY)).unwrap();
    relume.ok(&["apply"]);
    eventually("it is said", || relume.told().contains("the journal cannot grow").then_some(()));
    for n in 0..20 {
        relume.ok(&["start", &name(n)]);
    }
    let said = read(&relume.state("relume.log")).matches("the journal cannot grow").count();
    assert_eq!(said, 1, "{}", relume.told());
    std::fs::remove_dir(&in_the_way).unwrap();
    eventually("it is whole again", || relume.told().contains("the journal has room again").then_some(()));
    let before = relume.status();
    let old = manager(&before);
    old.signal(Signal::KILL);
    let after = crate::harness::halves::wait_for_manager(&relume, &old);
    let run = |status: &Status| status.service(&name(19))["run"].clone();
    assert_eq!(run(&after), run(&before), "all is in it");
    relume.down();
}
