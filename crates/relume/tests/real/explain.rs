//! `explain`: why a service is as it is, with the manager and without.

use serde_json::{Value, json};

use crate::harness::halves::kill_both;
use crate::harness::{Relume, eventually, fixture, text};

fn explained(relume: &Relume, name: &str) -> Value {
    serde_json::from_str(&relume.ok(&["explain", name, "--json"])).unwrap()
}

/// A database that cannot start, something on it, and something on that.
fn chain() -> Value {
    json!({"services": {
        "db": {"command": "echo cannot open the file; exit 3", "retry_delay": "10ms", "max_retries": 1},
        "api": {"command": [fixture("never-ready")], "dependencies": {"db": {"condition": "completed"}}},
        "web": {"command": [fixture("never-ready")], "dependencies": ["api"]}}})
}

#[test]
fn the_chain_of_reasons_leads_to_the_service_that_fails() {
    let relume = Relume::with(&chain());
    relume.wait_state("db", "max_restarts");
    let web = explained(&relume, "web");
    let links: Vec<(&str, &str)> = web["chain"]
        .as_array()
        .unwrap()
        .iter()
        .map(|link| (link["service"].as_str().unwrap(), link["state"].as_str().unwrap()))
        .collect();
    assert_eq!(links, [("web", "pending"), ("api", "pending"), ("db", "max_restarts")]);
    assert!(web["chain"][2]["because"].as_str().unwrap().contains("exited 3"), "{web}");
    let need = json!({"service": "api", "condition": "ready", "state": "pending", "met": false});
    assert_eq!(web["needs"], json!([need]));

    let db = explained(&relume, "db");
    assert_eq!(db["service"]["last_exit"]["code"], 3);
    assert_eq!((&db["retries"]["used"], &db["retries"]["most"]), (&json!(1), &json!(1)));
    assert_eq!(db["retries"]["exhausted"], true);
    assert!(db["next"].as_str().unwrap().contains("one attempt in"), "{db}");
    let said = |db: &Value| db["lines"].as_array().unwrap().contains(&json!("cannot open the file"));
    eventually("its last lines are told", || said(&explained(&relume, "db")).then_some(()));
    let exits = db["history"].as_array().unwrap().iter().filter(|event| event["event"] == "exit").count();
    assert_eq!(exits, 2, "{db}");
    let page = relume.ok(&["explain", "web"]);
    assert!(page.contains("db is max_restarts: exited 3"), "{page}");
}

#[test]
fn one_service_is_explained_at_a_time_and_an_unknown_one_is_named() {
    let relume =
        Relume::with(&json!({"services": {"web": {"command": [fixture("never-ready")], "instances": 2}}}));
    relume.wait_state("web:2", "running");
    let several = relume.run(&["explain", "web"]);
    assert!(!several.status.success() && text(&several).contains("web:1, web:2"), "{}", text(&several));
    let unknown = relume.run(&["explain", "wbe:1"]);
    assert!(!unknown.status.success() && text(&unknown).contains("web:1"), "{}", text(&unknown));
    assert_eq!(explained(&relume, "web:1")["service"]["state"], "running");
}

/// Shown to fail: without the look at the state file the command ends with 3 and tells nothing.
#[test]
fn what_is_known_is_told_when_both_halves_are_dead() {
    let relume = Relume::with(&chain());
    relume.wait_state("db", "max_restarts");
    // Written half a second later at most.
    eventually("the history is on the disk", || {
        let database = std::fs::read(relume.state("state.db-wal")).unwrap_or_default();
        let needle = b"max_restarts";
        database.windows(needle.len()).any(|bytes| bytes == needle).then_some(())
    });
    eventually("so are its lines", || (relume.lines("db").len() == 2).then_some(()));
    kill_both(&relume.status());
    relume.wait_for_end();
    let db = explained(&relume, "db");
    assert_eq!(db["live"], false);
    assert_eq!(db["service"]["state"], "max_restarts");
    assert_eq!(db["service"]["last_exit"]["code"], 3);
    assert!(db["lines"].as_array().unwrap().contains(&json!("cannot open the file")), "{db}");
    assert!(relume.ok(&["explain", "db"]).contains("No manager runs here"));
    assert_eq!(relume.run(&["explain", "nobody"]).status.code(), Some(2));
}
