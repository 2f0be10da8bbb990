//! A changed config: what it would do is said, and only what changed is restarted.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Relume, eventually, fixture, text};

fn idle() -> Value {
    json!({"command": [fixture("never-ready")]})
}

fn write(relume: &Relume, config: &Value) {
    // In one step, as editors do: a config that is half written is never read.
    fs::write(relume.path("new.json"), config.to_string()).unwrap();
    fs::rename(relume.path("new.json"), relume.path("relume.json")).unwrap();
}

fn fates(report: &str) -> Vec<(String, String)> {
    let report: Value = serde_json::from_str(report).unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let changes = report["changes"].as_array().unwrap();
    changes.iter().map(|change| (word(&change["service"]), word(&change["fate"]))).collect()
}

fn named(fates: &[(&str, &str)]) -> Vec<(String, String)> {
    fates.iter().map(|(service, fate)| ((*service).to_owned(), (*fate).to_owned())).collect()
}

fn changed() -> Value {
    json!({"services": {
        "same": idle(),
        "changed": {"command": [fixture("never-ready")], "environment": {"A": "b"}},
        "shown": {"command": [fixture("never-ready")], "description": "another"},
        "new": idle()}})
}

#[test]
fn a_plan_is_what_apply_does_and_only_what_changed_is_restarted() {
    let relume = Relume::with(
        &json!({"services": {"same": idle(), "changed": idle(), "shown": idle(), "gone": idle()}}),
    );
    let before = relume.wait_until("all run", |status| {
        ["same", "changed", "shown", "gone"].iter().all(|name| status.state(name) == "running")
    });
    write(&relume, &changed());
    let expected = named(&[
        ("same", "unchanged"),
        ("changed", "restarted"),
        ("shown", "rules"),
        ("new", "added"),
        ("gone", "removed"),
    ]);
    assert_eq!(fates(&relume.ok(&["plan", "--json"])), expected);
    assert_eq!(relume.status().pid("changed"), before.pid("changed"), "a plan changes nothing");
    let shown = relume.ok(&["plan"]);
    assert!(shown.contains("changed  will be restarted"), "{shown}");
    assert_eq!(fates(&relume.ok(&["apply", "--json"])), expected);
    let after = relume.wait_until("it is done", |status| {
        let names: Vec<&str> =
            status.services().iter().filter_map(|service| service["name"].as_str()).collect();
        names == ["same", "changed", "shown", "new"]
            && names.iter().all(|name| status.state(name) == "running")
            && status.pid("changed") != before.pid("changed")
    });
    assert_eq!(after.pid("same"), before.pid("same"));
    assert_eq!(after.pid("shown"), before.pid("shown"));
    assert_eq!(after.restarts("changed"), 0);
    let nothing = relume.ok(&["plan"]);
    assert!(nothing.contains("Nothing changes"), "{nothing}");
}

#[test]
fn a_config_with_errors_changes_nothing_and_is_bad_config() {
    let relume = Relume::with(&json!({"services": {"web": idle()}}));
    let before = relume.wait_state("web", "running");
    write(&relume, &json!({"services": {"web": {"comand": "x"}, "db": idle()}}));
    for verb in ["plan", "apply"] {
        let refused = relume.run(&[verb]);
        assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
        assert!(text(&refused).contains("relume.json:"), "{}", text(&refused));
        assert!(text(&refused).contains("comand"), "{}", text(&refused));
        let report = relume.run(&[verb, "--json"]);
        let report: Value = serde_json::from_slice(&report.stdout).unwrap();
        assert_eq!((&report["ok"], &report["applied"]), (&json!(false), &json!(false)));
    }
    let after = relume.status();
    assert_eq!(after.pid("web"), before.pid("web"));
    assert_eq!(after.services().len(), 1);
}

#[test]
fn settings_that_cannot_change_while_relume_runs_are_named_and_the_log_level_can() {
    let relume = Relume::with(&json!({"services": {"web": idle()}}));
    relume.wait_state("web", "running");
    write(
        &relume,
        &json!({"manager": {"log_level": "error", "pid_dir": "elsewhere"}, "services": {"web": idle()}}),
    );
    let plan: Value = serde_json::from_str(&relume.ok(&["plan", "--json"])).unwrap();
    let expected = json!([{"key": "log_level", "at_once": true}, {"key": "pid_dir", "at_once": false}]);
    assert_eq!(plan["settings"], expected);
    relume.ok(&["apply"]);
    let log = || fs::read_to_string(relume.state("relume.log")).unwrap_or_default();
    eventually("the new level holds", || {
        let before = log();
        relume.ok(&["restart", "web"]);
        (log() == before).then_some(())
    });
}

#[test]
fn a_hangup_of_relume_applies_the_config_too() {
    let relume = Relume::with(&json!({"services": {"same": idle(), "changed": idle(), "shown": idle()}}));
    let before = relume.wait_state("same", "running");
    write(&relume, &changed());
    relume.signal(Signal::HUP);
    let after = relume.wait_until("new runs", |status| {
        status.services().iter().any(|service| service["name"] == "new" && service["state"] == "running")
    });
    assert_eq!(after.pid("same"), before.pid("same"));
}
