//! The state a service starts in: what is promised, and nothing that relume or whoever started it happened to
//! have (scorecard R29).

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Builder, ORDINARY, Relume, eventually, fixture, is_root, read, skip};

/// A state no service should see: ignored and blocked signals, an open file, a low limit.
const ODD: [&str; 4] = [
    "sh",
    "-c",
    "trap '' PIPE XFSZ USR2 HUP CHLD; ulimit -Sn 777; umask 027; exec \"$@\" 9</etc/passwd 7<&9",
    "sh",
];

/// What the fixture says about the state it was started in, from a relume that was itself started oddly.
fn state_of(mut service: Value) -> (Value, Relume) {
    let builder = Builder::new();
    let file = builder.path("state-of-service");
    service["command"] = json!([fixture("start-state"), file, "--stay"]);
    let relume = builder.through(&ODD).config(&json!({"services": {"web": service}})).up();
    let state = eventually("the service tells its state", || {
        let text = read(&relume.path("state-of-service"));
        text.ends_with('\n').then(|| serde_json::from_str(&text).unwrap())
    });
    (state, relume)
}

#[test]
fn only_three_descriptors_are_open_and_they_lead_where_they_should() {
    let (state, _relume) = state_of(json!({}));
    let fds = state["fds"].as_object().unwrap();
    assert_eq!(fds.keys().collect::<Vec<_>>(), ["0", "1", "2"], "{fds:#?}");
    assert_eq!(fds["0"], "/dev/null");
    assert!(fds["1"].as_str().unwrap().starts_with("pipe:["), "{fds:#?}");
    assert_eq!(fds["1"], fds["2"], "one pipe for both");
    assert_eq!(state["stdout_reopened"], "ok");
}

#[test]
fn stderr_has_a_pipe_of_its_own_if_asked_for() {
    let (state, _relume) = state_of(json!({"log": {"stderr": "separate"}}));
    assert_ne!(state["fds"]["1"], state["fds"]["2"], "{state:#}");
    assert!(state["fds"]["2"].as_str().unwrap().starts_with("pipe:["), "{state:#}");
}

#[test]
fn no_signal_is_blocked_and_none_is_ignored() {
    // Asked of `cat`: it changes nothing about its signals before it reads the file.
    let relume = Builder::new()
        .through(&ODD)
        .config(&json!({"services": {"web": {"command": "cat /proc/self/status", "type": "oneshot"}}}))
        .up();
    // All of it: this one stands behind the others.
    let lines = eventually("it has printed them", || {
        Some(relume.lines("web")).filter(|lines| lines.iter().any(|line| line.starts_with("SigCgt")))
    });
    for mask in ["SigBlk", "SigIgn", "SigPnd", "ShdPnd"] {
        let line = lines.iter().find(|line| line.starts_with(mask)).unwrap();
        let value = line.split_whitespace().nth(1).unwrap();
        assert_eq!(u64::from_str_radix(value, 16), Ok(0), "{line}");
    }
}

#[test]
fn it_leads_a_session_of_its_own_without_a_terminal() {
    let (state, relume) = state_of(json!({}));
    assert_eq!(state["session"], state["pid"]);
    assert_eq!(state["pgid"], state["pid"]);
    assert_eq!(state["tty"], 0);
    assert_eq!(state["pid"], relume.wait_state("web", "running").pid("web"));
}

#[test]
fn what_is_not_configured_is_what_relume_was_started_with() {
    let (state, relume) = state_of(json!({}));
    assert_eq!(state["umask"], "0027");
    assert_eq!(state["limits"]["nofile"][0], "777", "not the limit relume has given itself");
    assert_eq!(state["nice"], rustix::process::getpriority_process(None).unwrap());
    assert_eq!(state["cwd"], std::fs::canonicalize(relume.path(".")).unwrap().to_str().unwrap());
    let uid = u64::from(rustix::process::getuid().as_raw());
    assert_eq!(state["uid"], json!([uid, uid, uid, uid]));
}

#[test]
fn what_is_configured_holds() {
    let (state, relume) = state_of(json!({
        "umask": "0077", "nice": 5, "oom_score_adj": 300, "working_dir": "/usr",
        "rlimits": {"nofile": 333, "core": 0}, "environment": {"GREETING": "hello there"}}));
    assert_eq!(state["umask"], "0077");
    assert_eq!(state["nice"], 5);
    assert_eq!(state["oom_score_adj"], "300");
    assert_eq!(state["cwd"], "/usr");
    assert_eq!(state["limits"]["nofile"][0], "333");
    assert_eq!(state["limits"]["core"], json!(["0", "0"]));
    assert_eq!(state["env"]["GREETING"], "hello there");
    assert_eq!(state["env"]["RELUME_SERVICE"], "web");
    assert!(state["env"].get("NOTIFY_SOCKET").is_none());
    drop(relume);
}

#[test]
fn variables_of_whoever_supervises_relume_stay_with_it() {
    let builder = Builder::new();
    let file = builder.path("state-of-service");
    let relume = builder
        .env("WATCHDOG_USEC", "90000000")
        .env("LISTEN_FDNAMES", "a:b")
        .config(&json!({"services": {"web": {
            "command": [fixture("start-state"), file], "type": "oneshot"}}}))
        .up();
    relume.wait_state("web", "completed");
    let state: Value = serde_json::from_str(&read(&relume.path("state-of-service"))).unwrap();
    for name in ["WATCHDOG_USEC", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "RELUME_STATE_DIR", "RELUME_RUNTIME_DIR"]
    {
        assert!(state["env"].get(name).is_none(), "{name} leaked: {state:#}");
    }
}

#[test]
fn another_user_is_that_user_in_every_respect() {
    if !is_root() {
        return skip("another user needs root");
    }
    // Printed to its standard output: the folder of this test is not open to it.
    let relume = Relume::with(&json!({"services": {"web": {
        "command": [fixture("start-state")], "type": "oneshot", "user": "nobody", "working_dir": "/"}}}));
    let line = eventually("it tells its state", || relume.lines("web").into_iter().next());
    let state: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(state["uid"], json!([ORDINARY, ORDINARY, ORDINARY, ORDINARY]));
    let gid = &state["gid"][0];
    assert_ne!(gid, 0, "the user's own group");
    assert_eq!(state["gid"], json!([gid, gid, gid, gid]));
    let groups = state["groups"].as_array().unwrap();
    assert!(!groups.contains(&json!(0)), "none of root's groups: {groups:?}");
    assert_eq!(state["stdout_reopened"], "ok", "a service may open /dev/stdout");
}

#[test]
fn strange_users_are_refused_and_nothing_runs_as_somebody_else() {
    let unknown = "surely-no-such-user";
    for user in
        ["0day", "0x0", "", "-1", "4294967295", "4294967296", "+0", " root", "rööt", "root\n", unknown]
    {
        for key in ["user", "group"] {
            let builder = Builder::new();
            let announce = builder.announcements();
            let mut service = json!({
                "command": [fixture("never-ready"), "--announce", announce], "restart_policy": "never"});
            service[key] = json!(user);
            let relume = builder.config(&json!({"services": {"web": service}})).spawn();
            let why = refusal(&relume, &format!("{key} {user:?}"));
            assert!(why.contains(key), "{key} {user:?}: the refusal does not say what it is about: {why}");
            assert_eq!(relume.announcements(), [], "{key} {user:?} ran");
        }
    }
}

/// Why the only service does not run: a mistake in the config, or a start that was refused.
fn refusal(relume: &Relume, what: &str) -> String {
    eventually(&format!("{what} is refused"), || {
        if let Some(code) = relume.ended() {
            assert_eq!(code.code(), Some(2), "{}", relume.told());
            return Some(relume.said());
        }
        let status = relume.try_status()?;
        assert_ne!(status.state("web"), "running", "{what} is taken");
        (status.state("web") == "failed").then(|| status.reason("web").to_owned())
    })
}

#[test]
fn the_check_sees_the_odd_state_when_nobody_cleans_it_up() {
    let run = |words: &[&str]| {
        let output = Command::new(ODD[0]).args(&ODD[1..]).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let state: Value = serde_json::from_str(&run(&[&fixture("start-state")])).unwrap();
    assert!(state["fds"].get("9").is_some() && state["fds"].get("7").is_some(), "{state:#}");
    assert_eq!((&state["umask"], &state["limits"]["nofile"][0]), (&json!("0027"), &json!("777")));
    assert_ne!(state["session"], state["pid"]);
    let status = run(&["cat", "/proc/self/status"]);
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    assert_ne!(u64::from_str_radix(ignored.trim(), 16), Ok(0), "{status}");
}
