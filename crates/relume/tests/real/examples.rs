//! The examples that newcomers meet first run as they stand, as root and as an ordinary user, and so does the
//! oldest shape of a config: a bare JSON array.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{Builder, Process, Relume, eventually, free_ports, http, is_root, read, skip};

pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// Whether the programs are installed; says so, if not.
pub(crate) fn installed(programs: &[&str]) -> bool {
    let path = "PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin";
    for program in programs {
        let found =
            Command::new("sh").args(["-c", &format!("{path}; command -v {program} >/dev/null")]).status();
        if !found.unwrap().success() {
            skip(&format!("{program} is not installed (examples/quickstart/setup.sh installs it)"));
            return false;
        }
    }
    true
}

/// As whoever runs the test, and, if that is root, as an ordinary user too.
pub(crate) fn for_each_user(test: impl Fn(fn(Builder) -> Builder)) {
    test(|builder| builder);
    if is_root() {
        test(Builder::by_ordinary_user);
    }
}

#[test]
fn quickstart_counts_visits_and_heals() {
    if !installed(&["redis-server", "nginx", "python3"]) {
        return;
    }
    for_each_user(|as_user| {
        let [port, web, redis] = free_ports();
        let builder = Builder::new()
            .copy_of(&example("quickstart"), "relume.yaml")
            .env("QUICKSTART_PORT", port.to_string())
            .env("QUICKSTART_WEB_PORT", web.to_string())
            .env("QUICKSTART_REDIS_PORT", redis.to_string());
        quickstart(&as_user(builder).up(), port);
    });
}

/// The number of this visit.
fn visit(port: u16) -> u32 {
    eventually("the page is served", || {
        let (200, page) = http(port, "/")? else { return None };
        page.split("Visit number ").nth(1)?.split(',').next()?.parse().ok()
    })
}

fn quickstart(relume: &Relume, port: u16) {
    let before = relume.wait_until("three run and one has completed", |status| {
        status.state("prepare") == "completed"
            && ["redis", "web", "nginx"].iter().all(|name| status.state(name) == "running")
    });
    assert_eq!((visit(port), visit(port)), (1, 2));
    assert!(
        !relume.told().contains("not acted on"),
        "the first thing people see has no warnings: {}",
        relume.told()
    );

    http(port, "/crash");
    let after = relume.wait_until("web is back", |status| {
        status.state("web") == "running" && status.pid("web") != before.pid("web")
    });
    assert_eq!(visit(port), 3);
    for name in ["redis", "nginx"] {
        assert_eq!(after.pid(name), before.pid(name), "{name} has nothing to do with it");
    }

    // redis writes to its append-only file before it answers, unless a sync of that file is under way just then.
    Process::of(before.pid("redis")).unwrap().signal(Signal::KILL);
    relume.wait_until("redis is back", |status| {
        status.state("redis") == "running" && status.pid("redis") != before.pid("redis")
    });
    assert!(visit(port) >= 3, "the count goes on");
    eventually("nginx logs the visits", || {
        relume.lines("nginx").iter().any(|line| line.contains("GET / ")).then_some(())
    });
    relume.down();
    assert_eq!(relume.processes(), []);
}

#[test]
fn a_bare_json_array_runs_with_a_daemon_in_it() {
    if !installed(&["python3"]) {
        return;
    }
    for_each_user(|as_user| {
        let relume = as_user(Builder::new().copy_of(&example("json-array"), "services_config.json")).up();
        let status = relume.wait_until("both are running", |status| {
            ["my_service_1", "another_service"].iter().all(|name| status.state(name) == "running")
        });
        assert_eq!(read(&relume.path("another_app.pid")).trim(), status.pid("another_service").to_string());
        eventually("the first one prints", || {
            relume.lines("my_service_1").iter().any(|line| line == "still here 1").then_some(())
        });
        relume.down();
        assert!(!relume.path("another_app.pid").exists(), "the daemon was asked to end and has cleaned up");
    });
}

#[test]
fn a_daemon_that_is_not_said_to_be_one_gets_the_hint_what_to_write() {
    if !installed(&["python3"]) {
        return;
    }
    let relume = Builder::new().copy_of(&example("json-array"), "untyped.json").up();
    eventually("the hint is shown", || relume.told().contains("type: forking").then_some(()));
    relume.down();
    assert!(!relume.path("another_app.pid").exists(), "what it left in the background was ended as well");
}

#[test]
fn the_array_of_the_first_service_manager_script_is_read_as_it_stands() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/seed_services_config.json");
    let relume = Builder::new().copy_of(&data.with_file_name(""), "seed_services_config.json").up();
    // Its programs do not exist. That is said of each, and relume stays.
    let status = relume.wait_until("the second one cannot be started", |status| {
        status.reason("another_service").contains("ENOENT")
    });
    assert!(status.reason("another_service").contains("/usr/local/bin/another_app"), "{status}");
    relume.wait_until("the first one fails as well", |status| {
        matches!(status.state("my_service_1"), "crashed" | "starting" | "max_restarts")
            && (status.restarts("my_service_1") > 0 || !status.reason("my_service_1").is_empty())
    });
    assert_eq!(relume.run(&["check"]).status.code(), Some(0), "the config itself is fine");
    relume.down();
}
