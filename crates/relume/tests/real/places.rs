//! Where everything is, is settled once: what happens to those places while relume runs moves none of them, because another place is
//! another journal, and every service would run twice.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::halves::{manager, pids, wait_for_manager};
use crate::harness::{Builder, Relume, Status, eventually, is_root, skip};

fn two() -> Value {
    json!({"services": {"a": {"command": ["sleep", "1000"]}, "b": {"command": ["sleep", "1000"]}}})
}

fn up(builder: Builder) -> (Relume, Status) {
    let relume = builder.up();
    let first = relume.wait_until("both run", |status| pids(status).len() == 2);
    (relume, first)
}

/// The manager is killed and comes back to the same services, of which there are still only two processes.
fn comes_back_to_the_same(relume: &Relume, first: &Status) {
    let old = manager(first);
    old.signal(Signal::KILL);
    let after = wait_for_manager(relume, &old);
    same(relume, first, &after);
}

fn same(relume: &Relume, first: &Status, after: &Status) {
    assert_eq!(pids(after), pids(first), "{after}\n{}", relume.told());
    assert_eq!((relume.processes_of("a").len(), relume.processes_of("b").len()), (1, 1), "{}", relume.told());
}

fn give_away(dir: &Path) {
    std::os::unix::fs::chown(dir, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// With `Settled::inherited` switched off, the default place moves to the home folder and both run twice, and the one that was
/// asked for by name keeps the manager from coming back.
#[test]
fn a_state_directory_that_cannot_be_written_any_more_is_where_relume_goes_on() {
    if !is_root() {
        return skip("only root can take a directory from an ordinary user");
    }
    for by_default in [true, false] {
        let builder = Builder::new();
        let home = builder.path("home");
        std::fs::create_dir(&home).unwrap();
        let builder = builder.config(&two()).env("HOME", home).by_ordinary_user();
        let (relume, first) = up(if by_default { builder.with_default_places() } else { builder });
        give_away(&relume.state(""));
        comes_back_to_the_same(&relume, &first);
        assert!(relume.said().contains("it is used all the same"), "{}", relume.told());
        let user = Some(crate::harness::ORDINARY);
        std::os::unix::fs::chown(relume.state(""), user, user).unwrap();
        crate::harness::halves::down(&relume);
    }
}

/// With `Settled::inherited` switched off, the state moves to the home folder and both run twice.
#[test]
fn a_state_directory_that_others_can_write_by_now_is_where_relume_goes_on() {
    let builder = Builder::new();
    let home = builder.path("home");
    let (relume, first) = up(builder.config(&two()).env("HOME", home).with_default_places());
    std::fs::set_permissions(relume.state(""), std::fs::Permissions::from_mode(0o775)).unwrap();
    relume.ok(&["respawn"]);
    let after = relume.status();
    assert_eq!(after.manager()["respawns"], 1, "{after}");
    same(&relume, &first, &after);
    comes_back_to_the_same(&relume, &after);
    crate::harness::halves::down(&relume);
}

/// With `Settled::inherited` switched off, nobody answers at the old place any more and both run twice.
#[test]
fn another_state_directory_in_the_config_waits_for_the_next_start() {
    let mut config = two();
    let builder = Builder::new();
    let places =
        |dir: &str| json!({"state_dir": builder.path(dir), "pid_dir": builder.path(&format!("{dir}.pids"))});
    let (before, other) = (places(".relume"), places("other"));
    config["manager"] = before;
    let (relume, first) = up(builder.config(&config).with_default_places());
    config["manager"] = other;
    std::fs::write(relume.path("relume.json"), config.to_string()).unwrap();
    let at = relume.state("").display().to_string();
    relume.ok(&["--state-dir", &at, "respawn"]);
    // A respawn goes on with the config in force for a while; a manager that the guardian starts reads the new one.
    manager(&first).signal(Signal::KILL);
    let after = eventually("another manager answers", || {
        let output = relume.run(&["--state-dir", &at, "status", "--json"]);
        let status = Status::new(serde_json::from_slice(&output.stdout).ok()?);
        (status.manager()["pid"] != first.manager()["pid"]).then_some(status)
    });
    assert_eq!(
        (&after.manager()["respawns"], &after.manager()["recoveries"]),
        (&json!(1), &json!(1)),
        "{after}"
    );
    same(&relume, &first, &after);
    assert!(!relume.path("other").exists() && !relume.path("other.pids").exists(), "nothing is made there");
    assert!(relume.said().contains("relume goes on with"), "{}", relume.told());
    let plan = String::from_utf8(relume.run(&["--state-dir", &at, "plan"]).stdout).unwrap();
    assert!(plan.contains("manager.state_dir: cannot change"), "{plan}");
    relume.ok(&["--state-dir", &at, "down"]);
    relume.wait_for_end();
}
