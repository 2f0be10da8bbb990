//! The life of a service as its user sees it: start, stop, crash, restart, end.

use std::fs;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Builder, PATIENCE, Process, Relume, Status, eventually, fixture, is_root, read, text};

/// A service that does nothing and does not end by itself.
fn idle() -> serde_json::Value {
    json!({"command": [fixture("never-ready")]})
}

#[test]
fn up_starts_a_service_and_tells_its_pid_everywhere_and_down_leaves_nothing() {
    let relume = Relume::with(&json!({"services": {"web": idle()}}));
    let status = relume.wait_state("web", "running");
    let pid = status.pid("web");
    let process = Process::of(pid).expect("the pid in status is a living process");
    eventually("the pid file says so", || {
        (read(&relume.state("pids/web.pid")).trim() == pid.to_string()).then_some(())
    });
    eventually("status.json says so too", || {
        let file: serde_json::Value = serde_json::from_str(&read(&relume.state("status.json"))).ok()?;
        (file["web"]["pid"] == pid && file["web"]["status"] == "running").then_some(())
    });
    relume.down();
    assert!(!process.lives());
    assert_eq!(relume.processes(), []);
    assert!(!relume.state("pids/web.pid").exists(), "the pid file is there while the service runs");
}

#[test]
fn plain_relume_finds_the_config_in_its_folder_and_puts_everything_beside_it() {
    let builder = Builder::new();
    fs::write(
        builder.home().join("services_config.json"),
        r#"[{"name": "web", "command": "echo up; sleep 1000"}]"#,
    )
    .unwrap();
    let home = builder.path("");
    let relume = builder.with_default_places().env("XDG_RUNTIME_DIR", home).up();
    relume.wait_state("web", "running");
    eventually("a pid file", || relume.path(".relume/pids/web.pid").exists().then_some(()));
    eventually("a log", || (relume.lines("web") == ["up"]).then_some(()));
    let runtime = fs::canonicalize(relume.path(".relume/run")).expect("a link to the runtime directory");
    assert!(runtime.join("control.sock").exists());
    relume.down();
    assert!(!runtime.join("control.sock").exists());
    // As root it is in /run, outside of this test's folder; it is empty but for what relume keeps there.
    if runtime.exists() {
        fs::remove_dir_all(&runtime).unwrap();
    }
}

#[test]
fn relume_works_for_an_ordinary_user() {
    if !is_root() {
        return; // all the other tests show it
    }
    let builder = Builder::new().config(&json!({"services": {"web": {"command": "sleep 1000"}}}));
    let relume = builder.by_ordinary_user().up();
    relume.wait_state("web", "running");
    relume.down();
}

#[test]
fn stop_start_and_restart_do_what_they_say_and_count_as_no_automatic_restart() {
    let relume = Relume::with(&json!({"services": {"web": idle()}}));
    let first = relume.wait_state("web", "running").pid("web");

    relume.ok(&["stop", "web"]);
    let status = relume.status();
    assert_eq!(status.state("web"), "stopped");
    assert!(!status.has_pid("web"), "{status}");
    assert!(Process::of(first).is_none(), "stop returns when the service has ended");

    relume.ok(&["start", "web"]);
    let second = relume.wait_state("web", "running").pid("web");
    assert_ne!(first, second);

    relume.ok(&["restart", "web"]);
    let status = relume.wait_state("web", "running");
    assert_ne!(second, status.pid("web"));
    assert_eq!(status.restarts("web"), 0);
}

#[test]
fn a_killed_service_comes_back_and_its_signal_is_remembered() {
    let relume = Relume::with(&json!({"services": {"web": idle()}, "defaults": {"retry_delay": "100ms"}}));
    let before = relume.wait_state("web", "running").pid("web");
    Process::of(before).unwrap().signal(Signal::KILL);
    let status = relume.wait_until("web has been restarted", |status| {
        status.restarts("web") == 1 && status.state("web") == "running"
    });
    assert_ne!(status.pid("web"), before);
    assert!(matches!(signal_of(&status, "web"), Some(9)), "{status}");
}

/// The number of the signal that a service ended by; the name is accepted as well.
fn signal_of(status: &Status, service: &str) -> Option<i64> {
    let signal = &status.last_exit(service)["signal"];
    signal.as_i64().or_else(|| match signal.as_str()?.trim_start_matches("SIG") {
        "KILL" => Some(9),
        "TERM" => Some(15),
        _ => None,
    })
}

#[test]
fn a_service_that_fails_again_and_again_ends_up_in_max_restarts_and_status_says_so() {
    let relume = Relume::with(&json!({"services": {"bad": {
        "command": [fixture("exits-at-once"), "3"],
        "max_retries": 2, "retry_delay": "20ms", "when_exhausted": "give_up"}}}));
    let status = relume.wait_state("bad", "max_restarts");
    assert_eq!(status.restarts("bad"), 2);
    assert_eq!(status.last_exit("bad")["code"], 3);
    assert_eq!(status.service("bad")["retries_left"], 0);
    assert_eq!(relume.run(&["status"]).status.code(), Some(1), "a wanted service is not well");
}

#[test]
fn with_retry_every_one_slow_attempt_follows_the_last_fast_one() {
    let relume = Relume::with(&json!({"services": {"bad": {
        "command": [fixture("exits-at-once"), "3"],
        "max_retries": 1, "retry_delay": "20ms", "when_exhausted": {"retry_every": "300ms"}}}}));
    let status = relume.wait_state("bad", "max_restarts");
    assert!(status.service("bad")["next_start_in_s"].is_number(), "{status}");
    relume.wait_until("it has been tried again, slowly", |status| status.restarts("bad") >= 3);
}

#[test]
fn a_clean_exit_completes_on_failure_and_is_restarted_always_without_using_up_retries() {
    let once = json!({"command": [fixture("exits-at-once"), "0"], "restart_policy": "on-failure"});
    let ever = json!({"command": [fixture("exits-at-once"), "0"], "restart_policy": "always",
        "retry_delay": "20ms", "max_retries": 1});
    let relume = Relume::with(&json!({"services": {"once": once, "ever": ever}}));
    relume.wait_state("once", "completed");
    let status = relume.wait_until("ever was restarted often", |status| status.restarts("ever") >= 4);
    assert_eq!(status.service("ever")["retries_used"], 0, "{status}");
    assert_eq!(status.restarts("once"), 0);
}

#[test]
fn an_exit_code_called_success_is_one() {
    let relume = Relume::with(&json!({"services": {"job": {
        "command": [fixture("exits-at-once"), "75"], "restart_policy": "on-failure",
        "success_exit_codes": [0, 75]}}}));
    assert_eq!(relume.wait_state("job", "completed").last_exit("job")["code"], 75);
}

#[test]
fn a_oneshot_completes_or_fails() {
    let relume = Relume::with(&json!({"services": {
        "good": {"command": [fixture("exits-at-once"), "0"], "type": "oneshot"},
        "bad": {"command": [fixture("exits-at-once"), "4"], "type": "oneshot", "restart_policy": "never"}}}));
    relume.wait_state("good", "completed");
    let status = relume.wait_state("bad", "failed");
    assert_eq!(status.last_exit("bad")["code"], 4);
    assert!(!status.has_pid("bad"));
}

#[test]
fn a_service_without_autostart_waits_until_it_is_asked_for() {
    let relume = Relume::with(&json!({"services": {
        "web": idle(), "tool": {"command": [fixture("never-ready")], "autostart": false}}}));
    relume.wait_state("web", "running");
    let status = relume.status();
    assert_eq!(status.state("tool"), "stopped");
    assert_eq!(relume.run(&["status"]).status.code(), Some(0), "what nobody wants to run is well");
    relume.ok(&["start", "tool"]);
    relume.wait_state("tool", "running");
}

#[test]
fn up_with_names_starts_these_and_what_they_depend_on() {
    let relume = Builder::new()
        .config(&json!({"services": {
            "db": idle(), "other": idle(),
            "web": {"command": [fixture("never-ready")], "dependencies": ["db"]}}}))
        .arg("web")
        .up();
    relume.wait_state("web", "running");
    let status = relume.wait_state("db", "running");
    assert_eq!(status.state("other"), "stopped");
}

#[test]
fn a_service_deaf_to_the_stop_signal_is_killed_when_its_time_is_over() {
    let builder = Builder::new();
    let announce = builder.announcements();
    let relume = builder
        .config(&json!({"services": {"deaf": {
            "command": [fixture("ignores-term"), "--announce", announce], "timeout_stop": "300ms"}}}))
        .up();
    relume.announced("ignorer", 1);
    relume.ok(&["stop", "deaf"]);
    let status = relume.status();
    assert_eq!(status.state("deaf"), "stopped");
    assert_eq!(signal_of(&status, "deaf"), Some(9), "{status}");
    eventually("it was asked first", || {
        relume.lines("deaf").iter().any(|line| line == "ignored SIGTERM").then_some(())
    });
}

#[test]
fn a_second_ctrl_c_does_not_wait_for_the_deaf() {
    let builder = Builder::new();
    let announce = builder.announcements();
    let relume = builder
        .config(&json!({"services": {"deaf": {
            "command": [fixture("ignores-term"), "--announce", announce], "timeout_stop": "10m"}}}))
        .up();
    relume.announced("ignorer", 1);
    relume.signal(Signal::INT);
    eventually("it is asked to stop", || {
        relume.lines("deaf").iter().any(|line| line == "ignored SIGTERM").then_some(())
    });
    relume.signal(Signal::INT);
    assert_eq!(relume.wait_for_end().code(), Some(0), "{}", relume.told());
    assert_eq!(relume.processes(), []);
}

#[test]
fn a_second_up_on_the_same_state_directory_says_who_runs_already() {
    let relume = Relume::with(&json!({"services": {"web": idle()}}));
    let pid = relume.wait_state("web", "running").pid("web");
    let second = relume.run(&["up"]);
    assert_eq!(second.status.code(), Some(1), "{}", text(&second));
    let manager = relume.status().manager()["pid"].to_string();
    assert!(text(&second).contains(&manager), "says which process: {}", text(&second));
    assert_eq!(relume.status().pid("web"), pid);
}

#[test]
fn stopped_and_started_again_a_service_runs_once() {
    let builder = Builder::new();
    let announce = builder.announcements();
    let relume = builder
        .config(&json!({"services": {"web": {"command": [fixture("never-ready"), "--announce", announce]}}}))
        .up();
    relume.announced("hanging", 1);
    relume.ok(&["stop", "web"]);
    relume.ok(&["start", "web"]);
    let pids = relume.announced("hanging", 2);
    let living = pids.iter().filter(|&&pid| Process::of(pid).is_some()).count();
    assert_eq!(living, 1);
}

#[test]
fn without_a_manager_clients_exit_with_3_and_a_wrong_name_with_2_and_the_nearest_one() {
    let relume = Relume::with(&json!({"services": {"webserver": idle()}}));
    let wrong = relume.run(&["stop", "webservr"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong));
    assert!(text(&wrong).contains("webserver"), "{}", text(&wrong));
    relume.down();
    let status = relume.run(&["status"]);
    assert_eq!(status.status.code(), Some(3), "{}", text(&status));
}

#[test]
fn a_config_with_errors_starts_nothing_and_names_file_line_and_column() {
    let builder = Builder::new();
    let path = builder.path("relume.json");
    fs::write(&path, "{\n  \"services\": {\n    \"web\": {\"comand\": \"sleep 1\"}\n  }\n}\n").unwrap();
    let relume = builder.spawn();
    assert_eq!(relume.wait_for_end().code(), Some(2));
    let said = relume.said();
    assert!(said.contains("relume.json:3:13"), "{said}");
    assert!(said.contains("command"), "names the nearest key: {said}");
}

#[test]
fn an_empty_list_of_services_is_valid_and_relume_stays_up() {
    let relume = Relume::with(&json!({"services": {}}));
    assert_eq!(relume.status().services(), &[] as &[serde_json::Value]);
    relume.down();
}

#[test]
fn a_daemon_of_the_old_school_is_followed_into_the_background_and_stopped_there() {
    let builder = Builder::new();
    let (announce, pid_file) = (builder.announcements(), builder.path("daemon.pid"));
    let relume = builder
        .config(&json!({"services": {"daemon": {
            "command": [fixture("double-forks"), "-d", "--pid-file", pid_file, "--announce", announce],
            "type": "forking", "pid_file": "daemon.pid"}}}))
        .up();
    let daemon = relume.announced("daemon", 1)[0];
    let status = relume.wait_state("daemon", "running");
    assert_eq!(status.pid("daemon"), daemon);

    Process::of(daemon).unwrap().signal(Signal::KILL);
    let status = relume.wait_until("it has been restarted", |status| {
        status.restarts("daemon") == 1 && status.state("daemon") == "running"
    });
    assert_ne!(status.pid("daemon"), daemon);

    relume.ok(&["stop", "daemon"]);
    assert_eq!(relume.living_fixtures(), []);
}

#[test]
fn a_daemon_without_pid_file_is_found_in_its_tree() {
    let builder = Builder::new();
    let announce = builder.announcements();
    let relume = builder
        .config(&json!({"services": {"daemon": {
            "command": [fixture("double-forks"), "-d", "--announce", announce], "type": "forking"}}}))
        .up();
    let daemon = relume.announced("daemon", 1)[0];
    assert_eq!(relume.wait_state("daemon", "running").pid("daemon"), daemon);
}

#[test]
fn a_forking_service_whose_parent_never_ends_has_failed_to_start() {
    let relume = Relume::with(&json!({"services": {"daemon": {
        "command": [fixture("never-ready")], "type": "forking", "timeout_start": "300ms",
        "timeout_stop": "1s", "restart_policy": "never"}}}));
    let status = relume.wait_state("daemon", "failed");
    assert!(!status.has_pid("daemon"), "{status}");
    assert_eq!(relume.processes_of("daemon"), []);
}

#[test]
fn each_service_has_its_own_environment_and_its_names_in_it() {
    let relume = Builder::new()
        .env("FROM_OUTSIDE", "yes")
        .config(&json!({"services": {
            "one": {"command": "env; echo that is all", "type": "oneshot", "environment": {"PORT": "1111"}},
            "two": {"command": "env; echo that is all", "type": "oneshot", "environment": ["OTHER=2222"]}}}))
        .up();
    let [one, two] = ["one", "two"].map(|name| {
        eventually("it has printed all of it", || {
            Some(relume.lines(name)).filter(|lines| lines.last().is_some_and(|line| line == "that is all"))
        })
    });
    let has = |lines: &[String], line: &str| lines.iter().any(|is| is == line);
    assert!(
        has(&one, "PORT=1111") && has(&one, "RELUME_SERVICE=one") && has(&one, "FROM_OUTSIDE=yes"),
        "{one:?}"
    );
    assert!(has(&two, "OTHER=2222") && has(&two, "RELUME_SERVICE=two"), "{two:?}");
    assert!(!two.iter().any(|line| line.starts_with("PORT=")), "nothing leaks between services: {two:?}");
    assert!(one.iter().any(|line| line.starts_with("RELUME_RUN=") && line.contains("one")), "{one:?}");
    for line in one.iter().chain(&two).filter(|line| line.starts_with("RELUME_")) {
        assert!(!line.starts_with("RELUME_STATE_DIR="), "relume's own variables stay with it: {line}");
        assert!(!line.starts_with("RELUME_CONFIG="), "relume's own variables stay with it: {line}");
    }
}

#[test]
fn instances_are_services_of_their_own_with_their_number() {
    let relume = Relume::with(&json!({"services": {"job": {
        "command": ["sh", "-c", "echo I am $RELUME_INSTANCE; exec sleep 1000"], "instances": 2}}}));
    let first = relume.wait_state("job:1", "running").pid("job:1");
    let second = relume.wait_state("job:2", "running").pid("job:2");
    assert_ne!(first, second);
    for number in ["1", "2"] {
        eventually("it has said its number", || {
            (relume.lines(&format!("job:{number}")) == [format!("I am {number}")]).then_some(())
        });
    }
    relume.ok(&["stop", "job:1"]);
    let status = relume.status();
    assert_eq!(status.state("job:1"), "stopped");
    assert_eq!(status.pid("job:2"), second);
}

#[test]
fn a_failing_pre_start_fails_the_start_and_hooks_run_in_their_order() {
    let relume = Relume::with(&json!({"services": {
        "kept_out": {"command": [fixture("never-ready")], "pre_start": "exit 9", "restart_policy": "never"},
        "let_in": {"command": ["sh", "-c", "echo main >> order; exec sleep 1000"],
            "pre_start": "echo pre_start >> order", "post_stop": "echo post_stop >> order",
            "pre_stop": "echo pre_stop >> order"}}}));
    let status = relume.wait_state("kept_out", "failed");
    assert!(status.reason("kept_out").contains("pre_start"), "{status}");
    assert_eq!(relume.processes_of("kept_out"), []);
    relume.wait_state("let_in", "running");
    eventually("main has written", || read(&relume.path("order")).contains("main").then_some(()));
    relume.ok(&["stop", "let_in"]);
    assert_eq!(read(&relume.path("order")), "pre_start\nmain\npre_stop\npost_stop\n");
}

#[test]
fn a_slow_stop_within_its_time_is_not_cut_short() {
    let builder = Builder::new();
    let announce = builder.announcements();
    let relume = builder
        .config(&json!({"services": {"slow": {
            "command": [fixture("slow-stop"), "300", "--announce", announce],
            "timeout_stop": PATIENCE.as_secs()}}}))
        .up();
    relume.announced("up", 1);
    relume.ok(&["stop", "slow"]);
    let roles: Vec<_> = relume.announcements().into_iter().map(|(role, _)| role).collect();
    assert_eq!(roles, ["up", "stopping", "stopped"]);
    assert_eq!(relume.status().last_exit("slow")["code"], 0);
}

#[test]
fn exit_when_all_done_ends_relume_by_itself_and_any_failed_with_the_services_code() {
    let done = Builder::new()
        .config(&json!({"manager": {"exit_when": "all_done"}, "services": {
            "job": {"command": [fixture("exits-at-once"), "0"], "type": "oneshot"}}}))
        .spawn();
    assert_eq!(done.wait_for_end().code(), Some(0), "{}", done.told());
    let failed = Builder::new()
        .config(&json!({"manager": {"exit_when": "any_failed"}, "services": {
            "web": idle(),
            "job": {"command": [fixture("exits-at-once"), "6"], "restart_policy": "never"}}}))
        .spawn();
    assert_eq!(failed.wait_for_end().code(), Some(6), "{}", failed.told());
    assert_eq!(failed.processes(), []);
}

#[test]
fn a_lost_terminal_is_no_reason_to_end_when_hangups_are_ignored() {
    let relume = Builder::new()
        .through(&["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"])
        .config(&json!({"services": {"web": idle()}}))
        .up();
    let pid = relume.wait_state("web", "running").pid("web");
    relume.signal(Signal::HUP);
    assert_eq!(relume.status().pid("web"), pid);
    // The hangup has been dealt with once something that came after it has been.
    relume.ok(&["restart", "web"]);
    relume.wait_state("web", "running");
}

#[test]
fn the_harness_sees_a_process_that_is_left_behind() {
    let relume = Relume::with(&json!({"services": {}}));
    let mut stray = std::process::Command::new(fixture("never-ready"));
    let tag = std::fs::read(format!("/proc/{}/environ", relume.main_process().pid)).unwrap();
    for entry in String::from_utf8(tag).unwrap().split('\0').filter_map(|entry| entry.split_once('=')) {
        stray.env(entry.0, entry.1);
    }
    let mut stray = stray.spawn().unwrap();
    relume.down();
    let left: Vec<_> = relume.processes().iter().map(|process| process.pid).collect();
    stray.kill().unwrap();
    stray.wait().unwrap();
    assert_eq!(left, [stray.id()]);
}
