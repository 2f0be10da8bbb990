//! relume replaces itself: the same pid, the same services, nothing lost, and whoever waits does not notice.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::halves::{down, guardian, kills, wait_for_guardian};
use crate::harness::{Relume, Status, eventually, fixture};

/// How often relume replaces itself in one test.
const RESPAWNS: usize = 20;

fn printers(count: usize) -> Value {
    let services: serde_json::Map<String, Value> = (0..count)
        .map(|n| {
            let name = format!("p{n}");
            (name.clone(), json!({"command": [fixture("prints-numbers"), name, "10"]}))
        })
        .collect();
    json!({ "services": services })
}

fn pids(status: &Status) -> Vec<u64> {
    status.services().iter().filter_map(|service| service["pid"].as_u64()).collect()
}

fn respawns(status: &Status) -> u64 {
    status.manager()["respawns"].as_u64().unwrap()
}

/// A service that takes a second to stop.
fn slow() -> Value {
    json!({"command": "trap 'sleep 1; exit 0' TERM; sleep 1000 & wait", "timeout_stop": "20s"})
}

fn begin(relume: &Relume, words: &[&str]) -> Child {
    relume.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Its standard output, when it has ended well.
fn end(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Shown to fail: with a successor that takes what it finds for ended.
#[test]
fn services_and_their_output_do_not_notice_a_respawn() {
    let relume = Relume::with(&printers(20));
    let first = relume.wait_until("all run", |status| pids(status).len() == 20);
    for n in 1..=kills(RESPAWNS) as u64 {
        relume.ok(&["respawn"]);
        let status = relume.status();
        assert_eq!((respawns(&status), &status.manager()["recoveries"]), (n, &json!(0)), "{status}");
        assert_eq!(pids(&status), pids(&first), "the same processes, none twice");
        assert_eq!(status.manager()["pid"], first.manager()["pid"], "the same process");
    }
    let events = relume.ok(&["events"]);
    assert!(events.contains("relume was respawned (asked)"), "{events}");
    relume.down();
    for n in 0..20 {
        let name = format!("p{n}");
        let lines = relume.lines(&name);
        let number = |line: &String| -> u64 { line.strip_prefix(&name).unwrap().trim().parse().unwrap() };
        let numbers: Vec<u64> = lines.iter().map(number).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "a line of {name} is lost or doubled");
    }
}

/// Shown to fail: with a schedule that is never due.
#[test]
fn relume_replaces_itself_on_schedule() {
    let mut config = printers(1);
    config["manager"] = json!({"self_respawn": "300ms"});
    let relume = Relume::with(&config);
    let status = relume.wait_until("three respawns", |status| respawns(status) >= 3);
    assert_eq!(status.restarts("p0"), 0, "{status}");
    assert!(relume.ok(&["events"]).contains("respawned (schedule)"));
    relume.down();
}

/// Shown to fail: with a client that does not ask again.
#[test]
fn what_a_client_waits_for_goes_on_over_respawns_and_kills_and_is_done_once() {
    let relume = Relume::with(&json!({"services": {"slow": slow(), "other": slow()}}));
    let before = relume.wait_state("slow", "running");
    let restart = begin(&relume, &["restart", "slow"]);
    relume.wait_state("slow", "stopping");
    relume.ok(&["respawn"]);
    relume.manager().signal(Signal::KILL);
    relume.ok(&["respawn"]);
    assert!(end(restart).contains("restarted"));
    let after = relume.status();
    assert_ne!(after.pid("slow"), before.pid("slow"));
    assert_eq!(after.service("slow")["run"], 2, "it was restarted once: {after}");
    let stop = begin(&relume, &["stop", "slow", "--json"]);
    let wait = begin(&relume, &["wait", "slow", "--for", "stopped"]);
    relume.wait_state("slow", "stopping");
    relume.manager().signal(Signal::KILL);
    let report: serde_json::Value = serde_json::from_str(&end(stop)).unwrap();
    let result = &report["results"][0];
    assert_eq!(result["state"], "stopped", "{report}");
    // As the user has seen it, not as the successor has.
    assert!(result["took_ms"].as_u64().unwrap() >= 1000, "{report}");
    end(wait);
    let down = begin(&relume, &["down"]);
    relume.wait_state("other", "stopping");
    relume.ok(&["respawn"]);
    assert!(end(down).contains("Stopped"));
    relume.wait_for_end();
}

/// Shown to fail: with a follower of events that ends with the manager.
#[test]
fn followers_of_events_and_status_see_what_happens_after_a_respawn() {
    let relume = Relume::with(&printers(2));
    relume.wait_state("p0", "running");
    let mut followers: Vec<Child> = [&["events", "-f"][..], &["logs", "-f", "p1"], &["status", "--watch"]]
        .map(|words| begin(&relume, words))
        .into();
    let mut outs: Vec<_> = followers.iter_mut().map(|follower| follower.stdout.take().unwrap()).collect();
    for out in &mut outs {
        assert!(out.read(&mut [0; 4096]).unwrap() > 0, "it follows the manager that there was");
    }
    relume.ok(&["respawn"]);
    relume.ok(&["stop", "p0"]);
    let wanted = ["p0#1  stopping → stopped", "p1 ", "stopped"];
    for ((follower, out), wanted) in followers.iter_mut().zip(&mut outs).zip(wanted) {
        let mut seen = String::new();
        eventually("it is told", || {
            let mut bytes = [0; 4096];
            let read = out.read(&mut bytes).unwrap();
            assert!(read > 0, "the follower has ended: {seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
            (seen.contains(wanted) || seen.contains(&wanted.replace('→', "->"))).then_some(())
        });
        follower.kill().unwrap();
        follower.wait().unwrap();
    }
    relume.down();
}

/// Shown to fail: with a manager that takes its own limits of files, after a crash, for those that relume was started with.
#[test]
fn a_service_that_starts_after_a_respawn_inherits_what_relume_was_started_with() {
    let relume = crate::harness::Builder::new()
        .config(&json!({"services": {"limit": {"command": "ulimit -Sn; sleep 1000"}}}))
        .through(&["prlimit", "--nofile=700:"])
        .up();
    eventually("it has said it", || (relume.lines("limit").len() == 1).then_some(()));
    relume.ok(&["respawn"]);
    relume.ok(&["restart", "limit"]);
    eventually("it has said it again", || (relume.lines("limit").len() == 2).then_some(()));
    relume.manager().signal(Signal::SEGV);
    relume.wait_until("it is back", |status| status.manager()["recoveries"] == 1);
    relume.ok(&["restart", "limit"]);
    eventually("it has said it once more", || (relume.lines("limit").len() == 3).then_some(()));
    // That one had raised its own limit when it took over from itself, and becomes the guardian now.
    let before = guardian(&relume.status());
    before.signal(Signal::KILL);
    wait_for_guardian(&relume, &before);
    relume.ok(&["restart", "limit"]);
    eventually("and after a guardian's death", || (relume.lines("limit").len() == 4).then_some(()));
    assert_eq!(relume.lines("limit"), ["700", "700", "700", "700"]);
    down(&relume);
}

/// Writes the config, as if that had been so long ago.
fn write_config(relume: &Relume, text: &str, age: Duration) {
    let path = relume.path("relume.json");
    std::fs::write(&path, text).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

const SETTLED: Duration = Duration::from_secs(31);

/// Shown to fail: with a successor that reads the files again.
#[test]
fn a_respawn_takes_up_a_changed_config_that_was_left_alone_and_goes_on_with_the_one_in_force_otherwise() {
    let relume = Relume::with(&printers(1));
    write_config(&relume, &printers(2).to_string(), Duration::ZERO);
    let said = relume.ok(&["respawn"]);
    assert!(said.contains("changed less than 30 s ago"), "{said}");
    assert!(!relume.status().services().iter().any(|service| service["name"] == "p1"), "not yet");
    write_config(&relume, &printers(2).to_string(), SETTLED);
    let said = relume.ok(&["respawn"]);
    assert!(said.contains("takes up the changed config"), "{said}");
    relume.wait_state("p1", "running");
    let events = relume.ok(&["events"]);
    assert!(events.contains("configuration applied: 1 new"), "{events}");

    write_config(&relume, "{\"services\": 7}", SETTLED);
    let said = relume.ok(&["respawn"]);
    assert!(said.contains("the config has errors"), "{said}");
    let status = relume.wait_state("p1", "running");
    assert_eq!((respawns(&status), &status.manager()["state"]), (3, &json!("running")), "{status}");

    let mut off = printers(2);
    off["manager"] = json!({"apply_on_respawn": false});
    write_config(&relume, &off.to_string(), SETTLED);
    relume.ok(&["apply"]);
    write_config(&relume, &printers(3).to_string(), SETTLED);
    let said = relume.ok(&["respawn"]);
    assert!(said.contains("apply_on_respawn is off"), "{said}");
    assert_eq!(pids(&relume.status()).len(), 2, "apply does it");
    relume.ok(&["apply"]);
    relume.wait_state("p2", "running");
    relume.down();
}

/// Managers are replaced, and killed, while signals are sent: a signal that was sent arrives once, and where that is not certain the
/// command says so.
/// Says so when it is dropped, also by a panic: whoever waits for it would wait for ever.
struct Done<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Shown to fail: with a client that takes a manager's refusal during a respawn for an answer.
#[test]
fn a_signal_arrives_once_or_the_command_says_that_it_may_not_have() {
    let count = "i=0; trap 'i=$((i+1)); echo $i' USR1; echo ready; while :; do sleep 0.01; done";
    let relume = Relume::with(&json!({"services": {"counts": {"command": ["/bin/sh", "-c", count]}}}));
    relume.wait_until("it counts", |_| relume.lines("counts").len() == 1);
    let (mut surely, mut perhaps) = (0, 0);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                n += 1;
                // Whether it works is not the question here.
                match n % 3 {
                    0 => relume.manager().signal(Signal::KILL),
                    _ => drop(relume.run(&["respawn"])),
                }
                relume.wait_until_it_answers();
            }
        });
        let _done = Done(&done);
        for _ in 0..100 {
            let before = relume.lines("counts").len();
            let sent = relume.run(&["signal", "USR1", "counts"]);
            let said = crate::harness::text(&sent);
            if sent.status.success() {
                surely += 1;
                // Two that wait at once are one.
                eventually("it has arrived", || (relume.lines("counts").len() > before).then_some(()));
            } else {
                assert!(said.contains("not known"), "{said}");
                perhaps += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    });
    let arrived = relume.lines("counts").len() - 1;
    assert!((surely..=surely + perhaps).contains(&arrived), "{arrived} of {surely} and perhaps {perhaps}");
    relume.down();
}

/// Able to fail: each trial that could not begin counted as a start that never ended, and no respawn came after it.
#[test]
fn a_respawn_for_which_there_was_no_thread_does_not_stand_in_the_way_of_the_next() {
    let builder = crate::harness::Builder::new().config(&printers(1));
    // Root is not held to this limit.
    let user = crate::harness::is_root().then_some(64_971);
    let relume = user.into_iter().fold(builder, |builder, user| builder.by_user(user)).up();
    relume.wait_state("p0", "running");
    let manager = relume.manager().pid.to_string();
    let prlimit = |words: &[&str]| {
        let mut command = std::process::Command::new("prlimit");
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let output = command.args(["--pid", &manager]).args(words).output().unwrap();
        assert!(output.status.success(), "{}", crate::harness::text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let limit = |most: &str| drop(prlimit(&[&format!("--nproc={most}:")]));
    let before = prlimit(&["--nproc", "--raw", "--noheadings", "--output=SOFT"]);
    limit("1");
    let refused = relume.run(&["respawn"]);
    let told = crate::harness::text(&refused);
    assert!(refused.status.code() == Some(1) && told.contains("cannot be tried"), "{told}");
    limit(before.trim());
    relume.ok(&["respawn"]);
    assert_eq!(respawns(&relume.status()), 1);
    relume.down();
}
