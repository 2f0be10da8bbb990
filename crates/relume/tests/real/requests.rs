//! What is asked of services that run: signals, reloads, waits; what has happened; one command alone.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{Builder, PATIENCE, Process, Relume, eventually, fixture, text};

/// A shell service that notes the signals it gets and ends on none but TERM.
fn notes_signals(notes: &str) -> Value {
    let script = format!(
        "trap 'echo hup >> {notes}' HUP; trap 'echo usr1 >> {notes}' USR1; trap 'echo term >> {notes}; exit 0' TERM
         echo ready >> {notes}; while :; do sleep 0.05; done"
    );
    json!(["/bin/sh", "-c", script.replace('$', "$$")])
}

fn wait_for_note(relume: &Relume, note: &str) {
    eventually(&format!("the service notes {note}"), || {
        let notes = fs::read_to_string(relume.path("notes")).unwrap_or_default();
        notes.lines().any(|line| line == note).then_some(())
    });
}

fn noting(more: Value) -> Relume {
    let builder = Builder::new();
    let mut service = json!({"command": notes_signals(&builder.path("notes"))});
    service.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let relume = builder
        .config(&json!({"services": {"web": service, "idle": {
        "command": [fixture("never-ready")], "autostart": false, "groups": ["spare"]}}}))
        .up();
    wait_for_note(&relume, "ready");
    // It can note that before relume has heard that it was started, and until then it is not running.
    relume.wait_state("web", "running");
    relume
}

#[test]
fn a_signal_reaches_the_service_and_one_that_does_not_run_cannot_be_sent_any() {
    let relume = noting(json!({}));
    let before = relume.wait_state("web", "running").pid("web");
    relume.ok(&["signal", "SIGUSR1", "web"]);
    wait_for_note(&relume, "usr1");
    relume.ok(&["signal", "10", "web", "--tree"]);
    assert_eq!(relume.status().pid("web"), before);
    let idle = relume.run(&["signal", "USR1", "group/spare"]);
    assert_eq!(idle.status.code(), Some(1), "{}", text(&idle));
    assert!(text(&idle).contains("not running"), "{}", text(&idle));
    assert_eq!(relume.run(&["signal", "NOSUCH", "web"]).status.code(), Some(2));
    assert_eq!(relume.run(&["signal", "USR1", "nobody"]).status.code(), Some(2));
}

#[test]
fn reload_sends_hangup_or_what_is_configured_and_the_service_goes_on() {
    let relume = noting(json!({}));
    let before = relume.wait_state("web", "running").pid("web");
    let answer: Value = serde_json::from_str(&relume.ok(&["reload", "web", "--json"])).unwrap();
    assert_eq!(answer["results"][0]["outcome"], "done");
    wait_for_note(&relume, "hup");
    assert_eq!(relume.status().pid("web"), before);
    let other = noting(json!({"reload_signal": "USR1"}));
    other.ok(&["reload", "web"]);
    wait_for_note(&other, "usr1");
}

#[test]
fn a_reload_command_runs_in_place_of_the_signal_and_its_failure_is_told() {
    let relume = noting(json!({"reload_command": "echo reloaded >> notes; test ! -e broken"}));
    relume.ok(&["reload", "web"]);
    wait_for_note(&relume, "reloaded");
    fs::write(relume.path("broken"), "").unwrap();
    let failed = relume.run(&["reload", "web"]);
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed));
    assert!(text(&failed).contains("reload_command exited 1"), "{}", text(&failed));
    assert_eq!(relume.status().state("web"), "running");
}

#[test]
fn a_stop_command_stops_the_service_and_the_signal_follows_only_when_it_fails() {
    let relume = noting(json!({"stop_command": "echo stop >> notes; kill -s KILL $RELUME_MAIN_PID"}));
    relume.ok(&["stop", "web"]);
    let notes = fs::read_to_string(relume.path("notes")).unwrap();
    assert_eq!(notes, "ready\nstop\n");
    let failing = noting(json!({"stop_command": "false"}));
    failing.ok(&["stop", "web"]);
    wait_for_note(&failing, "term");
}

#[test]
fn wait_ends_when_it_is_so_when_it_cannot_be_and_when_time_is_over() {
    let relume = Relume::with(&json!({"services": {
        "web": {"command": [fixture("never-ready")]},
        "job": {"command": "sleep 0.3", "type": "oneshot"},
        "bad": {"command": "false", "restart_policy": "never"}}}));
    relume.ok(&["wait", "web"]);
    relume.ok(&["wait", "job", "--for", "completed", "--timeout", "20s"]);
    relume.ok(&["wait", "bad", "--for", "failed"]);
    let never = relume.run(&["wait", "web", "bad", "--timeout", "1h"]);
    assert_eq!(never.status.code(), Some(1), "{}", text(&never));
    assert!(text(&never).contains("bad is failed"), "{}", text(&never));
    let late = relume.run(&["wait", "web", "--for", "stopped", "--timeout", "100ms", "--json"]);
    assert_eq!(late.status.code(), Some(4), "{}", text(&late));
    let answer: Value = serde_json::from_slice(&late.stdout).unwrap();
    assert_eq!((&answer["result"], &answer["services"][0]["met"]), (&json!("timed_out"), &json!(false)));
    assert_eq!(relume.run(&["wait", "wbe"]).status.code(), Some(2));
    assert_eq!(relume.run(&["wait", "web", "--for", "happy"]).status.code(), Some(2));
}

#[test]
fn wait_sees_a_state_that_lasts_for_a_moment() {
    let relume = Relume::with(&json!({"services": {
        "web": {"command": [fixture("never-ready")], "retry_delay": "10ms", "backoff": "off", "max_retries": "unlimited"}}}));
    let pid = relume.wait_state("web", "running").pid("web");
    let words = ["wait", "web", "--for", "crashed", "--timeout", "25s"];
    let mut waiting = relume.command(&words).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    // Until the wait has begun nothing can be seen by it, so the service dies more than once.
    let mut last = pid;
    let ended = eventually("the wait is over", || {
        if let Some(process) = Process::of(last) {
            process.signal(rustix::process::Signal::KILL);
        }
        last =
            relume.try_status().filter(|status| status.has_pid("web")).map_or(0, |status| status.pid("web"));
        waiting.try_wait().unwrap()
    });
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn events_tell_what_has_happened_in_order() {
    let relume = Relume::with(&json!({"services": {
        "web": {"command": [fixture("never-ready")]}, "job": {"command": "true", "type": "oneshot"}}}));
    relume.wait_state("web", "running");
    relume.wait_state("job", "completed");
    relume.ok(&["stop", "web"]);
    let all = relume.ok(&["events", "--json", "-n", "all"]);
    let records: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers: Vec<u64> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let web = relume.ok(&["events", "--json", "web"]);
    let states: Vec<String> = web
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .inspect(|record| assert_eq!(record["service"], "web"))
        .filter(|record| record["event"] == "state")
        .map(|record| record["to"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(states, ["starting", "running", "stopping", "stopped"]);
    let last = numbers.last().unwrap().to_string();
    assert_eq!(relume.ok(&["events", "--json", "--after", &last]), "");
    assert_eq!(relume.ok(&["events", "-n", "1", "web"]).lines().count(), 1);
    assert_eq!(relume.run(&["events", "wbe"]).status.code(), Some(2));
}

#[test]
fn run_is_one_command_under_supervision_and_ends_with_its_code() {
    // It has a manager of its own, so this one is only the place to run it from.
    let relume = Relume::with(&json!({"services": {"web": {
        "command": [fixture("never-ready")], "environment": {"COLOUR": "r$$ed"}}}}));
    relume.wait_state("web", "running");
    let ran = relume.run(&["run", "--", "sh", "-c", "echo \"[$0]\" '$HOME'; exit 7", "a b"]);
    assert_eq!(ran.status.code(), Some(7), "{}", text(&ran));
    assert!(text(&ran).contains("[a b] $HOME"), "{}", text(&ran));
    let like = relume.run(&["run", "--service", "web", "--", "sh", "-c", "echo colour=$COLOUR"]);
    assert_eq!(like.status.code(), Some(0), "{}", text(&like));
    assert!(text(&like).contains("colour=r$ed"), "{}", text(&like));
    let count = relume.path("count").display().to_string();
    let again = ["run", "--restart", "on-failure:1", "--", "sh", "-c", &format!("echo x >> {count}; exit 3")];
    let again = relume.run(&again);
    assert_eq!(again.status.code(), Some(3), "{}", text(&again));
    assert_eq!(fs::read_to_string(&count).unwrap(), "x\nx\n");
    assert_eq!(relume.status().state("web"), "running", "whatever runs already is not touched");
}

/// Shown to fail: where a second is all that the rest may take, most of it is missing.
#[test]
fn all_output_of_run_is_shown_to_a_reader_who_takes_his_time() {
    use std::io::Read;
    const BYTES: usize = 1_500_000;
    let relume = Builder::new().prepare();
    let program = format!("head -c {BYTES} /dev/zero | tr '\\0' x");
    let mut running =
        relume.command(&["run", "--", "sh", "-c", &program]).stdout(Stdio::piped()).spawn().unwrap();
    let (mut output, mut bytes, mut all) = (running.stdout.take().unwrap(), vec![0; 64 << 10], 0);
    loop {
        let read = output.read(&mut bytes).unwrap();
        if read == 0 {
            break;
        }
        all += bytes[..read].iter().filter(|byte| **byte == b'x').count();
        // Slower than a second for all of it, and never still for as long.
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!((running.wait().unwrap().code(), all), (Some(0), BYTES));
}

/// Shown to fail: where the manager makes a folder of its own, there is a warning about two of each place, and one folder stays.
#[test]
fn run_says_nothing_of_its_places_and_leaves_none() {
    let relume = Builder::new().prepare();
    let temporary = relume.path("temporary");
    fs::create_dir(&temporary).unwrap();
    let mut command = relume.command(&["run", "--", "echo", "hello"]);
    let ran = command.env("TMPDIR", &temporary).output().unwrap();
    assert_eq!((ran.status.code(), ran.stdout.as_slice()), (Some(0), &b"hello\n"[..]), "{}", text(&ran));
    assert!(!text(&ran).contains("warning") && !text(&ran).contains("not there yet"), "{}", text(&ran));
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "{}", text(&ran));
}

/// Shown to fail, each by its own assertion: with programs, folders, users or ports that are not looked at.
#[test]
fn doctor_finds_what_will_not_work_and_says_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let builder = Builder::new().config(&json!({"services": {
        "web": {"command": [fixture("never-ready")], "autostart": false, "port": port},
        "lost": {"command": [fixture("never-ready")], "autostart": false, "user": "no-such-user"},
        "gone": {"command": "/no/such/program", "autostart": false, "working_dir": "/no/such/folder"}}}));
    let relume = builder.up();
    let output = relume.run(&["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let find = |what: &str| {
        let checks = report["checks"].as_array().unwrap();
        checks
            .iter()
            .find(|check| check["check"] == what)
            .unwrap_or_else(|| panic!("no {what} in {report:#}"))
    };
    assert_eq!(find("kernel")["verdict"], "ok");
    assert_eq!(find("gone.command")["verdict"], "bad");
    assert_eq!(find("gone.working_dir")["verdict"], "bad");
    assert_eq!(find("lost.user")["verdict"], "bad");
    let held = find(&format!("port {port}"));
    assert_eq!(held["verdict"], "bad");
    assert!(held["detail"].as_str().unwrap().contains(&std::process::id().to_string()), "{held}");
    assert!(held["advice"].is_string());
}

#[test]
fn status_watch_shows_every_change_as_a_line_of_json_to_a_program() {
    use std::io::{BufRead, BufReader};
    let relume = Relume::with(&json!({"services": {"web": {"command": [fixture("never-ready")]}}}));
    relume.wait_state("web", "running");
    let mut watching = relume
        .command(&["status", "--watch", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let output = BufReader::new(watching.stdout.take().unwrap());
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
    let state = |line: String| {
        let report: Value = serde_json::from_str(&line).unwrap();
        report["services"][0]["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state(told.recv_timeout(PATIENCE).unwrap()), "running");
    relume.ok(&["stop", "web"]);
    while state(told.recv_timeout(PATIENCE).unwrap()) != "stopped" {}
    watching.kill().unwrap();
    watching.wait().unwrap();
}
