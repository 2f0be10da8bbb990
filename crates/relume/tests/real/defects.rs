//! What shell scripts that keep services alive get wrong, each as a test that relume passes.
//!
//! The list is that of the scripts whose knobs and files `examples/healing-bot` keeps.
//!
//! | what goes wrong there | shown right by |
//! |---|---|
//! | a. the end does not know who was restarted, and leaves them | [`those_that_were_restarted_are_ended_with_the_rest`] |
//! | b. one that cannot start takes all others down | [`whoever_cannot_start_takes_nobody_down`] |
//! | c. the container is started only where there is no engine | `containers::a_container_is_made_as_configured_and_gone_after_a_stop`, `containers::without_an_engine_the_service_says_why_and_the_others_run` |
//! | d. no answer counts as a good one | [`nobody_there_is_as_bad_as_a_bad_answer`], `health::a_service_that_stops_answering_is_restarted_in_time` |
//! | e. one bad answer restarts | [`bad_answers_count_only_in_a_row`] |
//! | f. the budget is no sliding window, and its end is final | [`retries_come_back_one_by_one_as_the_window_slides`], `lifecycle::with_retry_every_one_slow_attempt_follows_the_last_fast_one` |
//! | g. the variables of one service reach the next | `lifecycle::each_service_has_its_own_environment_and_its_names_in_it` |
//! | h. a pid is believed whoever has it | [`a_pid_file_with_the_pid_of_a_stranger_is_no_reason_to_touch_him`], `guardian_death::a_stranger_with_the_pid_of_a_service_is_neither_adopted_nor_signalled` |
//! | i. children of services are left | [`those_that_were_restarted_are_ended_with_the_rest`], `stop_tree` |
//! | j. one that hangs holds up the look at the others | [`six_that_hang_are_seen_in_the_time_of_one`], `hanging::five_hundred_probes_that_hang_change_nothing_for_others` |
//! | k. the order is anybody's guess | `dependencies::a_long_chain_starts_in_order` |
//! | l. the status file is seen half written | [`the_status_file_is_whole_whenever_it_is_read`] |
//! | m. logs grow for ever, and their names have spaces | [`a_log_whose_name_has_spaces_is_rotated_and_shown`] |
//! | n. what was good: services outlive their manager; what was not: how they are and how they end is lost | `guardian::when_both_halves_are_killed_the_next_up_adopts_everything`, `guardian::an_end_that_nobody_saw_is_learnt_with_its_code_and_acted_on`, `health::counts_and_watchdogs_go_on_after_the_managers_death` |

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Map, Value, json};

use crate::harness::answers::{Answers, REFUSED, SILENCE};
use crate::harness::{Builder, Process, Relume, eventually, fixture, read};

const SIX: [&str; 6] =
    ["model", "network-analyzer", "dashboard", "incident-bot", "monitoring-server", "healing-dashboard"];

/// Each of the six, made by name.
fn six(service: impl Fn(&str) -> Value) -> Value {
    let services: Map<String, Value> = SIX.iter().map(|&name| (name.to_owned(), service(name))).collect();
    json!({"manager": {"status_file": ".service_status.json", "pid_dir": ".pids"}, "services": services})
}

fn idle() -> Value {
    json!({"command": [fixture("never-ready")], "retry_delay": "0s", "backoff": {"jitter": 0}})
}

fn all_run(relume: &Relume) -> Vec<u32> {
    let status = relume.wait_until("all six run", |status| {
        SIX.iter().all(|name| status.state(name) == "running" && status.has_pid(name))
    });
    SIX.iter().map(|name| status.pid(name)).collect()
}

fn kill(pid: u32) {
    Process::of(pid).unwrap().signal(Signal::KILL);
}

/// a, i. Shown to fail: with the end of a main process taken for the end of its tree.
#[test]
fn those_that_were_restarted_are_ended_with_the_rest() {
    let config = six(
        |_| json!({"command": ["sh", "-c", "sleep 1000 & sleep 1001 & exec sleep 1002"], "retry_delay": "0s"}),
    );
    let relume = Relume::with(&config);
    let first = all_run(&relume);
    for pid in first {
        kill(pid);
        relume.wait_until("it runs again", |status| {
            SIX.iter().all(|name| status.state(name) == "running" && status.has_pid(name))
        });
    }
    relume.manager().signal(Signal::KILL);
    let pids = all_run(&relume);
    assert!(pids.iter().all(|pid| Process::of(*pid).is_some()));
    assert_eq!(relume.processes_of("model").len(), 3, "two children, and none of the life before");
    relume.signal(Signal::INT);
    assert_eq!(relume.wait_for_end().code(), Some(0), "{}", relume.told());
    assert_eq!(relume.processes(), [], "nobody is left");
}

/// b. Shown to fail: with `exit_when: any_failed` in the place of the default all end.
#[test]
fn whoever_cannot_start_takes_nobody_down() {
    let mut config = six(|_| idle());
    let bad = |command: Value| json!({"command": command, "retry_delay": "10ms", "max_retries": 2, "when_exhausted": "give_up"});
    config["services"]["incident-bot"] = bad(json!(["./no-such-program"]));
    config["services"]["ends"] = bad(json!([fixture("exits-at-once"), "1"]));
    config["services"]["nowhere"] = bad(json!(["true"]));
    config["services"]["nowhere"]["working_dir"] = json!("no/such/folder");
    let relume = Relume::with(&config);
    let bad = ["incident-bot", "ends", "nowhere"];
    let status = relume.wait_until("the bad ones are given up and the others run", |status| {
        bad.iter().all(|name| {
            status.state(name) == "max_restarts" && status.service(name)["next_start_in_s"].is_null()
        }) && SIX.iter().filter(|name| !bad.contains(name)).all(|name| status.state(name) == "running")
    });
    for name in SIX.iter().filter(|name| !bad.contains(name)) {
        assert_eq!((status.restarts(name), status.has_pid(name)), (0, true), "{status}");
    }
    assert!(status.reason("incident-bot").contains("no-such-program"), "{status}");
    assert!(status.reason("nowhere").contains("no/such/folder"), "{status}");
    assert!(relume.ended().is_none(), "relume stays");
}

fn probed(answers: &Answers, keys: &Value) -> Value {
    let mut probe = json!({"http": answers.url(), "interval": "100ms", "timeout": "10s", "retries": 3});
    probe.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let mut service = idle();
    service["health_check"] = probe;
    service
}

/// d. Shown to fail: with a refused connection taken for a good answer it goes on as it is.
#[test]
fn nobody_there_is_as_bad_as_a_bad_answer() {
    let answers = Answers::new(200);
    let relume = Relume::with(&json!({"services": {"web": probed(&answers, &json!({}))}}));
    let pid = relume.wait_state("web", "running").pid("web");
    answers.say(REFUSED);
    relume.wait_until("it is another one", |status| status.has_pid("web") && status.pid("web") != pid);
    let told = relume.ok(&["events", "web"]);
    assert!(told.contains("nobody listens there") && told.contains("unhealthy"), "{told}");
}

/// How many bad answers relume has counted.
fn bad_answers(relume: &Relume) -> usize {
    let events = relume.ok(&["events", "--json", "web"]);
    events.lines().filter(|line| line.contains("\"probe\"") && line.contains(" failed (")).count()
}

/// e. Shown to fail: with `retries: 2` it is restarted in the first round.
#[test]
fn bad_answers_count_only_in_a_row() {
    let answers = Answers::new(200);
    let relume = Relume::with(&json!({"services": {"web": probed(&answers, &json!({}))}}));
    let pid = relume.wait_state("web", "running").pid("web");
    for round in 1..=3 {
        // Exactly two, however busy whoever looks on is.
        answers.say_twice(500, 200);
        eventually("two bad answers", || (bad_answers(&relume) >= 2 * round).then_some(()));
        let asked = answers.asked();
        // The second one from now on is asked for when the first has been heard.
        eventually("a good answer", || (answers.asked() > asked + 1).then_some(()));
    }
    assert_eq!(bad_answers(&relume), 6);
    let status = relume.wait_until("it is well again", |status| status.service("web")["healthy"] == true);
    assert_eq!((status.pid("web"), status.restarts("web")), (pid, 0), "{status}");
}

/// f. Shown to fail: with a count that each restart begins anew `retries_left` stays 1.
#[test]
fn retries_come_back_one_by_one_as_the_window_slides() {
    let relume = Relume::with(&json!({"services": {"web": {
        "command": [fixture("never-ready")], "retry_delay": "0s", "backoff": "off", "max_retries": 2,
        "retry_window": "12s", "when_exhausted": {"retry_every": "5s"}}}}));
    let left = |status: &crate::harness::Status| status.service("web")["retries_left"].as_u64();
    let fails = || {
        let before = relume.wait_state("web", "running").pid("web");
        kill(before);
        relume.wait_until("its end is known", |status| !status.has_pid("web") || status.pid("web") != before)
    };
    let first = Instant::now();
    fails();
    relume.wait_until("one is left", |status| left(status) == Some(1));
    std::thread::sleep(Duration::from_secs(6));
    fails();
    relume.wait_until("none is left", |status| left(status) == Some(0));
    let status = relume.wait_until("the first has left the window", |status| left(status) != Some(0));
    assert!(first.elapsed() >= Duration::from_secs(12), "{:?}", first.elapsed());
    assert_eq!(left(&status), Some(1), "the second is still in it: {status}");
    fails();
    relume.wait_state("web", "running");
    fails();
    relume.wait_state("web", "max_restarts");
    // Not final: it is tried again by itself.
    relume.wait_state("web", "running");
}

/// h. These files are written and never read: there is no guard in relume that this could be shown to fail without.
#[test]
fn a_pid_file_with_the_pid_of_a_stranger_is_no_reason_to_touch_him() {
    let builder = Builder::new();
    let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
    fs::create_dir(builder.home().join(".pids")).unwrap();
    for name in SIX {
        fs::write(builder.home().join(format!(".pids/{name}.pid")), format!("{}\n", stranger.id())).unwrap();
    }
    let said = json!({"model": {"pid": stranger.id(), "status": "running"}});
    fs::write(builder.home().join(".service_status.json"), said.to_string()).unwrap();
    let relume = builder.config(&six(|_| idle())).up();
    let pids = all_run(&relume);
    assert!(!pids.contains(&stranger.id()));
    eventually("the pid files say who runs", || {
        let so = SIX
            .iter()
            .zip(&pids)
            .all(|(name, pid)| read(&relume.path(&format!(".pids/{name}.pid"))) == format!("{pid}\n"));
        so.then_some(())
    });
    relume.ok(&["restart", "model"]);
    relume.down();
    let untouched = stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(untouched, "the stranger was signalled");
}

/// j. Shown to fail: with probes that are asked one after the other, six times two answers of a second each take 12.2 s.
#[test]
fn six_that_hang_are_seen_in_the_time_of_one() {
    let answers = Answers::new(200);
    let keys = json!({"interval": "300ms", "timeout": "1s", "retries": 2});
    let mut config = six(|_| probed(&answers, &keys));
    config["manager"]["respawn_rate"] = json!("off");
    let relume = Relume::with(&config);
    all_run(&relume);
    answers.say(SILENCE);
    let began = Instant::now();
    relume.wait_until("each was found to hang", |status| SIX.iter().all(|name| status.restarts(name) >= 1));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
}

/// l. Shown to fail: written in place, it is empty or cut off sooner or later.
#[test]
fn the_status_file_is_whole_whenever_it_is_read() {
    let mut config = six(|name| {
        let mut service = idle();
        if name != "model" {
            // Ever new pids.
            service["command"] = json!(["sleep", "0.05"]);
        }
        service
    });
    config["manager"]["respawn_rate"] = json!("off");
    let relume = Relume::with(&config);
    relume.wait_state("model", "running");
    let file = relume.path(".service_status.json");
    eventually("it is there", || file.exists().then_some(()));
    let (mut looks, mut seen) = (0, std::collections::BTreeSet::new());
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end || seen.len() < 5 {
        let text = fs::read_to_string(&file).unwrap();
        let status: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        assert!(SIX.iter().all(|name| status[name]["status"].is_string()), "{text}");
        seen.insert(text);
        looks += 1;
        assert!(Instant::now() < end + Duration::from_secs(20), "{} contents in {looks} looks", seen.len());
    }
}

/// m. Shown to fail: without `rotate` the file grows beyond its size.
#[test]
fn a_log_whose_name_has_spaces_is_rotated_and_shown() {
    let relume = Relume::with(&json!({"services": {"dashboard": {
        "display_name": "ML Dashboard", "command": [fixture("floods"), "flood", "2000", "100", "--exit", "0"],
        "type": "oneshot", "log": {"rotate": {"size": "50kB", "keep": 2, "compress": "off"}}}}}));
    relume.wait_state("dashboard", "completed");
    eventually("the last line is in the log", || {
        relume.lines("ML Dashboard").last().is_some_and(|line| line.contains("2000")).then_some(())
    });
    let mut files: Vec<String> = fs::read_dir(relume.path("logs"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.metadata().unwrap().len() > 0)
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    files.sort();
    assert_eq!(files, ["ML Dashboard.log", "ML Dashboard.log.1", "ML Dashboard.log.2"]);
    for name in files {
        assert!(fs::metadata(relume.path("logs").join(&name)).unwrap().len() <= 50_000, "{name}");
    }
    assert!(relume.ok(&["logs", "-n", "1", "dashboard"]).contains("2000"));
}

/// `{"NAME": {"pid": 12345, "status": "running"}, …}` and `NAME.pid`, in the words of the scripts that read them.
#[test]
fn the_files_that_scripts_read_are_those_they_know() {
    let mut config = six(|_| idle());
    let ends = |code: &str, more: Value| {
        let mut service = json!({"command": [fixture("exits-at-once"), code]});
        service.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        service
    };
    config["services"]["crashed"] = ends("1", json!({"retry_delay": "1h", "backoff": "off"}));
    config["services"]["failed"] = ends("1", json!({"restart_policy": "never"}));
    config["services"]["max"] = ends("1", json!({"max_retries": 1, "retry_delay": "0s"}));
    let relume = Relume::with(&config);
    let pids = all_run(&relume);
    relume.ok(&["stop", "dashboard"]);
    let wanted = [
        ("crashed", "crashed"),
        ("failed", "failed"),
        ("max", "max_restarts"),
        ("dashboard", "stopped"),
        ("model", "running"),
    ];
    let file = relume.path(".service_status.json");
    let status = eventually("the file has the words", || {
        let status: Value = serde_json::from_str(&read(&file)).ok()?;
        wanted.iter().all(|(name, word)| status[name]["status"] == *word).then_some(status)
    });
    assert_eq!(status["model"]["pid"], pids[0], "a number: {status}");
    assert!(status["dashboard"]["pid"].is_null() && status["crashed"]["pid"].is_null(), "{status}");
    let alive = Command::new("sh")
        .args(["-c", "kill -0 \"$(cat .pids/model.pid)\" && test ! -e .pids/dashboard.pid && test ! -e .pids/crashed.pid"])
        .current_dir(relume.path(""))
        .status();
    assert!(alive.unwrap().success(), "as scripts ask");
    for path in [file, relume.path(".pids/model.pid")] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o644, "others may read them");
    }
    relume.down();
    assert_eq!(fs::read_dir(relume.path(".pids")).unwrap().count(), 0, "no pid file outlives its process");
}
