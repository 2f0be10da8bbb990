//! relume as process 1 of a container: it reaps what is orphaned, hears what is sent to it, and ends with the code of
//! its services. And under others: nohup, supervisord.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Builder, Process, Relume, eventually, fixture, is_root, skip, text};

/// Orphans that end in the same moment. The figure to reach is 10,000 (`RELUME_ORPHANS=10000`); a fifth of them is made
/// in a second or two.
const ORPHANS: usize = 2000;

/// A namespace in which relume is process 1, with a /proc of its own; an ordinary user needs a user namespace for it.
fn container() -> &'static [&'static str] {
    const PLAIN: &[&str] = &["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if is_root() { PLAIN } else { ORDINARY }
}

/// The same for an ordinary user.
const ORDINARY: &[&str] =
    &["unshare", "--user", "--map-current-user", "--pid", "--fork", "--kill-child", "--mount-proc"];

fn can_be_pid_1() -> bool {
    let (program, words) = container().split_first().unwrap();
    let tried = std::process::Command::new(program).args(words).arg("true").output();
    let can = tried.as_ref().is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("SKIPPED: no pid namespace can be made here: {tried:?}");
    }
    can
}

/// Children of a process, as the kernel lists them for each of its threads.
fn children(pid: u32) -> Vec<u32> {
    let threads = Path::new(&format!("/proc/{pid}/task")).read_dir().into_iter().flatten().flatten();
    let lists =
        threads.map(|thread| std::fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>())
        .collect()
}

/// The guardian and the manager, by the pids that they have outside.
fn halves(relume: &Relume) -> (Process, u32) {
    let guardian = eventually("process 1", || children(relume.main_process().pid).first().copied());
    let manager = eventually("the manager", || children(guardian).first().copied());
    (Process::of(guardian).unwrap(), manager)
}

/// Able to fail: without `reap_orphans` in the main loop, all of them stayed zombies.
#[test]
fn a_flood_of_orphans_is_reaped_at_once_and_no_exit_code_is_mistaken() {
    if !can_be_pid_1() {
        return;
    }
    let count = std::env::var("RELUME_ORPHANS").map_or(ORPHANS, |count| count.parse().unwrap());
    let builder = Builder::new();
    let gate = builder.path("gate");
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
    // The inner shell ends, so its children are process 1's; the outer one, the service, lives on.
    let script = format!(
        "(n=0; while [ $n -lt {count} ]; do (read x < {gate}; exit 9) & n=$((n+1)); done; echo made); exec sleep 1000"
    );
    let mut services = json!({"flood": {"command": ["/bin/sh", "-c", script.replace('$', "$$")]}});
    for code in 1..=20 {
        services[format!("code-{code}")] = json!({"command": ["/bin/sh", "-c", format!("read x < {gate}; exit {code}")], "restart_policy": "never"});
    }
    let relume = builder.config(&json!({"services": services})).through(container()).up();
    eventually("all orphans are there", || relume.lines("flood").contains(&"made".to_owned()).then_some(()));
    let (_, manager) = halves(&relume);
    eventually("they are the manager's", || (children(manager).len() >= count).then_some(()));
    relume.wait_until("all services run", |status| {
        (1..=20).all(|n| status.state(&format!("code-{n}")) == "running")
    });
    let opened = Instant::now();
    // What is left is the one service that lives on. Who has not come to the gate yet finds it closed again, and is the next.
    eventually("all are reaped", || {
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
        let _nobody_there = rustix::fs::open(&gate, flags, rustix::fs::Mode::empty());
        (children(manager).len() <= 1).then_some(())
    });
    let took = opened.elapsed();
    eprintln!("{count} orphans were reaped in {took:?}");
    assert!(took < Duration::from_secs(20), "{count} orphans took {took:?}");
    for code in 1..=20 {
        let name = format!("code-{code}");
        let status = relume.wait_state(&name, "failed");
        assert_eq!(status.last_exit(&name)["code"], code, "{status}");
    }
    relume.down();
}

/// Shown to fail: with a manager that leaves with another code.
#[test]
fn a_container_ends_with_the_code_of_the_service_that_failed() {
    if !can_be_pid_1() {
        return;
    }
    let config = |code: u32| {
        json!({"manager": {"exit_when": "any_failed"}, "services": {
            "web": {"command": [fixture("prints-numbers"), "web", "20"]},
            "job": {"command": ["/bin/sh", "-c", format!("sleep 0.3; exit {code}")], "restart_policy": "never"},
        }})
    };
    let relume = Builder::new().config(&config(42)).through(container()).spawn();
    assert_eq!(relume.wait_for_end().code(), Some(42), "{}", relume.told());
    let mut all_done = config(0);
    all_done["manager"]["exit_when"] = json!("all_done");
    all_done["services"]["web"] = json!({"command": "true", "restart_policy": "never"});
    let relume = Builder::new().config(&all_done).through(container()).spawn();
    assert_eq!(relume.wait_for_end().code(), Some(0), "{}", relume.told());
}

/// Shown to fail: with a guardian that is deaf to SIGTERM and SIGINT.
#[test]
fn process_1_stops_its_services_in_order_when_it_is_told_to_from_outside_or_inside() {
    if !can_be_pid_1() {
        return;
    }
    let service = json!({"command": ["/bin/sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done"]});
    for signal in [Signal::TERM, Signal::INT] {
        let relume = Builder::new().config(&json!({"services": {"a": service}})).through(container()).up();
        eventually("it runs", || relume.lines("a").contains(&"up".to_owned()).then_some(()));
        halves(&relume).0.signal(signal);
        assert_eq!(relume.wait_for_end().code(), Some(0), "{}", relume.told());
        assert_eq!(relume.lines("a"), ["up", "bye"]);
    }
    // The kernel keeps from process 1 what comes from inside and is not waited for.
    let telling = "until [ -e up ]; do sleep 0.02; done; kill -TERM 1; sleep 1000";
    let noted = json!({"command": ["/bin/sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; touch up; while :; do sleep 0.02; done"]});
    let relume = Builder::new()
        .config(&json!({"services": {"a": noted, "b": {"command": ["/bin/sh", "-c", telling]}}}))
        .through(container())
        .spawn();
    assert_eq!(relume.wait_for_end().code(), Some(0), "{}", relume.told());
    assert_eq!(relume.lines("a"), ["up", "bye"]);
}

/// Able to fail where the signal comes before the guardian does: without `keep_early_signals`, SIGTERM was thrown away until the guardian had come so far as to block it.
#[test]
fn process_1_hears_what_is_sent_in_its_first_moments() {
    if !can_be_pid_1() {
        return;
    }
    for _ in 0..5 {
        let config = json!({"services": {"p": {"command": [fixture("prints-numbers"), "p", "20"]}}});
        let relume = Builder::new().config(&config).through(container()).spawn();
        let outer = relume.main_process().pid;
        let process = eventually("process 1", || children(outer).first().copied().and_then(Process::of));
        let end = Instant::now() + crate::harness::PATIENCE;
        // Without a pause: it is about the first milliseconds.
        while !keeps_term(process.pid) {
            assert!(Instant::now() < end, "it never keeps SIGTERM");
        }
        process.signal(Signal::TERM);
        assert_eq!(relume.wait_for_end().code(), Some(0), "{}", relume.told());
    }
}

/// Whether SIGTERM would wait for this process (proc_pid_status(5): a bit for each signal, the first for signal 1).
fn keeps_term(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let bits = blocked.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    status.starts_with("Name:\trelume\n") && bits & (1 << 14) != 0
}

/// Shown to fail: with a successor that takes what it finds for ended.
#[test]
fn as_process_1_a_killed_manager_is_replaced_and_its_services_run_on() {
    if !can_be_pid_1() {
        return;
    }
    let config = json!({"services": {"p": {"command": [fixture("prints-numbers"), "p", "20"]}}});
    let relume = Builder::new().config(&config).through(container()).up();
    let first = relume.wait_state("p", "running");
    assert_eq!(first.manager()["guardian_pid"], 1);
    let (_, manager) = halves(&relume);
    Process::of(manager).unwrap().signal(Signal::KILL);
    let after = eventually("another manager answers", || {
        relume.try_status().filter(|status| status.manager()["pid"] != first.manager()["pid"])
    });
    assert_eq!((after.pid("p"), after.restarts("p")), (first.pid("p"), 0));
    relume.down();
}

/// Shown to fail: with a manager that leaves with another code.
#[test]
fn an_ordinary_user_has_a_container_of_his_own_too() {
    if !is_root() || !can_be_pid_1() {
        return;
    }
    let config = json!({"manager": {"exit_when": "all_done"}, "services": {
        "who": {"command": ["/bin/sh", "-c", "echo $$$$; sleep 0.2"], "restart_policy": "never"},
    }});
    let relume = Builder::new().config(&config).through(ORDINARY).by_ordinary_user().spawn();
    let ended = relume.wait_for_end();
    if relume.said().contains("unshare") {
        return skip(&format!("an ordinary user may make no user namespace here: {}", relume.said()));
    }
    assert_eq!(ended.code(), Some(0), "{}", relume.told());
    assert!(relume.lines("who")[0].parse::<u32>().unwrap() < 100, "a pid of the namespace");
}

/// Shown to fail: with a guardian that obeys every hangup.
#[test]
fn under_nohup_a_hangup_changes_nothing() {
    let config = json!({"services": {"p": {"command": [fixture("prints-numbers"), "p", "20"]}}});
    let relume = Builder::new().config(&config).through(&["nohup"]).up();
    let first = relume.wait_state("p", "running");
    for _ in 0..5 {
        relume.signal(Signal::HUP);
    }
    let lines = relume.lines("p").len();
    eventually("it goes on", || (relume.lines("p").len() > lines + 5).then_some(()));
    let after = relume.status();
    assert_eq!((after.pid("p"), &after.manager()["pid"]), (first.pid("p"), &first.manager()["pid"]));
    let applied = relume.told().matches("configuration applied").count();
    assert_eq!(applied, 1, "a hangup was read as a wish to apply: {}", relume.told());
    relume.down();
}

/// R23. The bomb is a bounded one: 341 processes, each asleep.
/// Shown to fail: with a manager that takes the end of the main process for that of the tree.
#[test]
fn a_fork_bomb_keeps_nobody_from_asking_and_a_stop_leaves_none_of_it() {
    let builder = Builder::new();
    let announce = builder.announcements();
    let bomb = json!({"command": [fixture("fork-bomb-lite"), "4", "4", "--announce", announce], "timeout_stop": "2s"});
    let relume = builder.config(&json!({"services": {"bomb": bomb}})).spawn();
    let mut slowest = Duration::ZERO;
    eventually("it has gone off", || {
        let asked = Instant::now();
        let answered = relume.run(&["status", "--json"]).status.code().is_some_and(|code| code < 2);
        if answered {
            slowest = slowest.max(asked.elapsed());
        }
        (relume.announcements().len() >= 341).then_some(())
    });
    assert!(slowest < Duration::from_secs(20), "an answer took {slowest:?}");
    let began = Instant::now();
    let output = relume.run(&["stop", "bomb"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(relume.living_fixtures().len(), 0, "none of it is left");
    relume.down();
}

/// Needs the `supervisord` of PyPI's or Debian's `supervisor`, on the PATH or in `RELUME_SUPERVISORD`.
/// Shown to fail: with a guardian that is deaf to SIGTERM.
#[test]
fn supervisord_starts_it_stops_it_and_gets_its_services_stopped_too() {
    let program = std::env::var("RELUME_SUPERVISORD").unwrap_or_else(|_| "supervisord".into());
    if std::process::Command::new(&program).arg("--version").output().is_err() {
        // It is another supervisor, which nothing else here needs.
        return eprintln!("SKIPPED: supervisord is not installed");
    }
    let config = json!({"services": {"p": {"command": [fixture("prints-numbers"), "p", "20"]}}});
    let relume = Builder::new().config(&config).prepare();
    let ini = relume.path("supervisord.conf");
    let words = format!(
        "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={}\n\
         [program:relume]\ncommand={} up\nstopwaitsecs=20\n",
        relume.path("supervisord.pid").display(),
        env!("CARGO_BIN_EXE_relume")
    );
    std::fs::write(&ini, words).unwrap();
    // relume's own command line, with its places in the environment; only the program is another one.
    let own = relume.command(&[]);
    let mut command = std::process::Command::new(program);
    command.arg("-c").arg(&ini).current_dir(relume.path(""));
    for (key, value) in own.get_envs() {
        value.map(|value| command.env(key, value));
    }
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    relume.adopt(command.spawn().unwrap());
    relume.wait_until_it_answers();
    let first = relume.wait_state("p", "running");
    let guardian =
        Process::of(u32::try_from(first.manager()["guardian_pid"].as_u64().unwrap()).unwrap()).unwrap();
    relume.signal(Signal::TERM);
    relume.wait_for_end();
    assert!(!guardian.lives() && Process::of(first.pid("p")).is_none(), "{}", relume.told());
}
