//! The disk of the state directory takes nothing for a while (scorecard R14): it is full, cannot be written, or answers with
//! errors. Services are restarted and obey as ever, and what could not be written is written soon after the disk is well again.
//! And the disk of the logs answers with errors: services wait, and no line is lost.
//!
//! A second each here; the figure: `RELUME_TROUBLE_S=60 cargo test --release -p relume --test real state_disk -- --nocapture`

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::halves::{manager, wait_for_manager};
use crate::harness::sick_disk::{Feels, MOUNT, SickDisk};
use crate::harness::{Builder, Process, Relume, Status, eventually, fixture, is_root, skip, text};

/// One second is what users are promised; the machine that runs the tests may be ten times as slow.
const SOON: Duration = Duration::from_secs(10);

fn trouble() -> Duration {
    let seconds = std::env::var("RELUME_TROUBLE_S").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

/// A relume whose state is on a small file system of its own.
fn relume_with_a_disk_of_its_own() -> Option<Relume> {
    relume_on(Builder::new(), "mount -t tmpfs -o size=8m,mode=0700 tmpfs")
}

/// One whose state and logs are on a disk that falls ill when told to.
fn relume_on_a_sick_disk() -> Option<(SickDisk, Relume)> {
    let Some(disk) = SickDisk::new() else {
        eprintln!("SKIPPED: there is no FUSE here, so no disk that answers with errors");
        return None;
    };
    let relume = relume_on(Builder::new().input(disk.mount_by()), MOUNT)?;
    Some((disk, relume))
}

/// A relume with a file system that only it can see: all of its state is there but the lock, and the link by which commands find
/// the manager.
fn relume_on(builder: Builder, mount: &str) -> Option<Relume> {
    let can = Command::new("unshare").args(["-m", "true"]).status();
    if !is_root() || !can.is_ok_and(|status| status.success()) {
        skip("a file system of one's own needs root and a mount namespace");
        return None;
    }
    std::fs::create_dir(builder.home().join("disk")).unwrap();
    let dies = json!({"command": ["/bin/sh", "-c", "sleep 0.05; exit 3"], "retry_delay": "50ms", "backoff": "off",
        "max_retries": "unlimited"});
    let config = json!({
        "manager": {"respawn_rate": "off", "self_respawn": "off", "state_file": builder.path("disk/state.db"),
            "status_file": builder.path("disk/status.json"), "pid_dir": builder.path("disk/pids"),
            "log_file": builder.path("disk/relume.log")},
        "services": {"dies0": dies, "dies1": dies, "asked": {"command": ["/bin/sleep", "1000"]},
            "prints": {"command": [fixture("prints-numbers"), "prints", "10"]},
            "on-disk": {"command": [fixture("prints-numbers"), "on-disk", "10"],
                "log": {"file": builder.path("disk/on-disk.log")}}},
    });
    let script = format!("{mount} disk && exec \"$@\" </dev/null");
    let relume = builder.config(&config).through(&["unshare", "-m", "/bin/sh", "-c", &script, "sh"]).up();
    relume.wait_until("it dies and comes back", |status| status.restarts("dies0") > 1);
    Some(relume)
}

/// The disk as relume sees it.
fn disk(relume: &Relume) -> PathBuf {
    let seen = relume.path("disk").display().to_string();
    format!("/proc/{}/root{seen}", relume.manager().pid).into()
}

fn in_its_place(relume: &Relume, script: &str) {
    let pid = relume.manager().pid.to_string();
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid, "-m", "/bin/sh", "-c", script, "sh"]).arg(relume.path("disk"));
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// Crashes and commands for as long as the trouble lasts.
fn goes_on(relume: &Relume, what: &str) {
    goes_on_for(relume, what, trouble());
}

fn goes_on_for(relume: &Relume, what: &str, length: Duration) {
    let before = relume.status();
    let (began, mut commands) = (Instant::now(), 0u32);
    while began.elapsed() < length {
        for verb in ["stop", "start"] {
            let asked = Instant::now();
            let done = relume.run(&[verb, "asked"]);
            assert!(done.status.success() && asked.elapsed() < SOON, "{what}: {}", text(&done));
            commands += 1;
        }
    }
    relume.ok(&["respawn"]);
    let after = relume.wait_until("they are restarted as ever", |now| {
        ["dies0", "dies1"].iter().all(|name| now.restarts(name) > before.restarts(name) + 2)
    });
    assert_eq!(manager(&after), manager(&before), "{what}: the same manager");
    assert_eq!((after.pid("prints"), after.restarts("prints")), (before.pid("prints"), 0), "{what}");
    let more = ["dies0", "dies1"].map(|name| after.restarts(name) - before.restarts(name));
    eprintln!("R14 {what}: {:?}, {commands} commands, restarts {more:?}", began.elapsed());
}

/// What is written is up to date again: the status file has what happens now, and the history is whole.
fn is_written_again(relume: &Relume, what: &str) {
    let healed = Instant::now();
    let file = disk(relume).join("status.json");
    relume.ok(&["restart", "asked"]);
    let pid = relume.wait_state("asked", "running").pid("asked");
    eventually("the status file is up to date", || {
        let shown: Value = serde_json::from_slice(&std::fs::read(&file).ok()?).ok()?;
        (shown["asked"]["pid"] == pid).then_some(())
    });
    eventually("the history is written", || {
        let saved = relume.run(&["stop", "asked"]);
        relume.ok(&["start", "asked"]);
        (saved.status.success() && !text(&saved).contains("could not be saved")).then_some(())
    });
    assert!(healed.elapsed() < SOON, "{what}: {:?}", healed.elapsed());
    eprintln!("R14 {what}: written again after {:?}", healed.elapsed());
}

/// Ends it, and expects the history to be there for the next one.
fn leaves_well(relume: &Relume) {
    let status: Status = relume.status();
    let printer = Process::of(status.pid("prints")).unwrap();
    relume.down();
    assert!(!printer.lives());
}

/// Shown to fail: with a database that is tried again every ten seconds.
#[test]
fn a_state_disk_that_is_full_changes_nothing_for_services_and_is_caught_up_with() {
    let Some(relume) = relume_with_a_disk_of_its_own() else { return };
    let filler = disk(&relume).join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    goes_on(&relume, "full");
    std::fs::remove_file(filler).unwrap();
    is_written_again(&relume, "full");
    leaves_well(&relume);
}

/// Another file system lies over it, which cannot be written: what is open stays open, and nothing can be opened.
/// Shown to fail: with a successor that takes what it finds for ended.
#[test]
fn a_state_disk_that_cannot_be_written_changes_nothing_for_services() {
    let Some(relume) = relume_with_a_disk_of_its_own() else { return };
    in_its_place(&relume, "mount -t tmpfs -o ro tmpfs \"$1\"");
    goes_on(&relume, "read-only");
    in_its_place(&relume, "umount \"$1\"");
    is_written_again(&relume, "read-only");
    leaves_well(&relume);
}

/// What a service has said goes to a disk that answers with errors, and no line of it is lost, repeated or torn.
fn no_line_is_lost(relume: &Relume) {
    let file = disk(relume).join("on-disk.log");
    let lines = || -> Vec<u64> {
        let text = std::fs::read_to_string(&file).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let number = |line: &str| line.strip_prefix("on-disk ").and_then(|number| number.parse().ok());
        whole.lines().map(|line| number(line).unwrap_or_else(|| panic!("a torn line: {line:?}"))).collect()
    };
    let before = lines().len();
    let all = eventually("its lines arrive again", || Some(lines()).filter(|all| all.len() > before + 10));
    assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>());
}

/// Shown to fail: with a database that is tried again every twelve seconds, and with a chunk that is thrown away when it could not be
/// written (a gap in the lines).
fn falls_ill(feels: Feels, what: &str) {
    let Some((sick, relume)) = relume_on_a_sick_disk() else { return };
    sick.feel(feels);
    goes_on(&relume, what);
    assert!(sick.refused() > 0, "relume has asked nothing of it");
    sick.feel(Feels::Well);
    is_written_again(&relume, what);
    no_line_is_lost(&relume);
    leaves_well(&relume);
}

/// Shown to fail: with a successor that takes what it finds for ended.
#[test]
fn a_disk_that_takes_no_writes_changes_nothing_for_services_and_is_caught_up_with() {
    falls_ill(Feels::NoWrites, "input/output error at each write");
}

/// Shown to fail: with a successor that takes what it finds for ended.
#[test]
fn a_disk_that_answers_nothing_but_errors_changes_nothing_for_services_and_is_caught_up_with() {
    falls_ill(Feels::Nothing, "input/output error at everything");
}

/// What the journal remembers needs no disk; and it keeps what nobody could write yet, however many managers die meanwhile.
/// Shown to fail: with a checkpoint by each manager as it comes up, of which the second writes over what was not written.
#[test]
fn managers_that_are_killed_while_their_disk_answers_with_errors_remember_and_lose_nothing_of_the_history() {
    const KILLS: usize = 5;
    let Some((sick, relume)) = relume_on_a_sick_disk() else { return };
    sick.feel(Feels::Nothing);
    relume.ok(&["stop", "asked"]);
    let first = relume.status();
    for _ in 0..KILLS {
        let old = relume.manager();
        old.signal(rustix::process::Signal::KILL);
        wait_for_manager(&relume, &old);
        let now = relume.status();
        assert_eq!((now.pid("prints"), now.pid("on-disk")), (first.pid("prints"), first.pid("on-disk")));
        assert_eq!(now.state("asked"), "stopped");
    }
    assert_eq!(relume.status().manager()["recoveries"], KILLS);
    // Of a minute of it there are more events than are kept in memory.
    goes_on_for(&relume, "input/output error, and killed managers", Duration::from_secs(1));
    sick.feel(Feels::Well);
    is_written_again(&relume, "input/output error, and killed managers");
    let history = relume.ok(&["events", "-n", "all", "--json"]);
    let events: Vec<Value> = history.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |so: &dyn Fn(&Value) -> bool| events.iter().filter(|event| so(event)).count();
    assert_eq!(count(&|event| event["event"] == "recovery" && event["service"].is_null()), KILLS);
    for name in ["dies0", "dies1"] {
        let number = |event: &Value| {
            (event["service"] == name && event["event"] == "exit").then(|| event["run"].as_u64().unwrap())
        };
        let runs: Vec<u64> = events.iter().filter_map(number).collect();
        assert_eq!(
            runs,
            (runs[0]..runs[0] + runs.len() as u64).collect::<Vec<_>>(),
            "each end of {name} once"
        );
    }
    no_line_is_lost(&relume);
    leaves_well(&relume);
}
