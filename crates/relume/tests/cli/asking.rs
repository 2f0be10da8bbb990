//! Commands that ask a manager.

use serde_json::{Value, json};

use crate::Home;
use crate::played::play;

fn status(web: &str) -> String {
    json!({
        "manager": {"pid": 4242, "guardian_pid": 4242, "version": "0.1.0", "state": "running", "uptime_s": 61.0},
        "services": [
            {"name": "db", "state": "running", "pid": 7, "uptime_s": 60.0, "autostart": true, "groups": ["data"]},
            {"name": "web", "state": web, "reason": "waiting for db", "autostart": true, "restarts": 2},
        ],
    })
    .to_string()
}

#[test]
fn status_shows_a_table_and_ends_with_1_while_a_service_is_not_well() {
    let home = Home::new();
    play(&home, &[("/v1/status", 200, status("pending"))]);
    let answer = home.run(&["status"]);
    assert_eq!((answer.code, answer.err.as_str()), (Some(1), ""), "{answer:?}");
    assert!(answer.out.starts_with("NAME  STATE"), "{}", answer.out);
    assert!(answer.out.contains("web   pending    -       -         2  waiting for db"), "{}", answer.out);
    assert!(!answer.out.contains('\u{1b}'), "no colours in a pipe");
    assert_eq!(home.run(&["status", "db"]).code, Some(0));
    assert_eq!(home.run(&["ps", "group/data"]).code, Some(0));
}

#[test]
fn status_as_json_is_the_report_and_nothing_else() {
    let home = Home::new();
    play(&home, &[("/v1/status", 200, status("stopped"))]);
    let answer = home.run(&["status", "--json", "web"]);
    assert_eq!((answer.code, answer.err.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(report["manager"]["pid"], 4242);
    assert_eq!(report["services"].as_array().unwrap().len(), 1);
    assert_eq!(report["services"][0]["pid"], Value::Null, "null when there is none");
}

#[test]
fn an_unknown_name_is_bad_usage_and_the_nearest_is_named() {
    let home = Home::new();
    play(&home, &[("/v1/status", 200, status("running"))]);
    let answer = home.run(&["status", "wbe"]);
    assert_eq!((answer.code, answer.out.as_str()), (Some(2), ""));
    assert!(answer.err.contains("there is no service `wbe`") && answer.err.contains("Did you mean web?"));
    let error: Value = serde_json::from_str(&home.run(&["status", "wbe", "--json"]).err).unwrap();
    assert_eq!(error["help"], "Did you mean web?");
}

#[test]
fn each_outcome_of_an_operation_has_its_exit_code() {
    for (outcomes, code) in [
        (&["done", "already"][..], 0),
        (&["done", "failed"], 1),
        (&["timed_out"], 4),
        (&["timed_out", "failed"], 1),
    ] {
        let home = Home::new();
        let results: Vec<Value> = outcomes
            .iter()
            .map(
                |outcome| json!({"service": "web", "outcome": outcome, "state": "starting", "reason": "why"}),
            )
            .collect();
        let asked = play(&home, &[("/v1/operations", 200, json!({"results": results}).to_string())]);
        let answer = home.run(&["restart", "web", "group/x", "--timeout", "1m30s", "--with-dependents"]);
        assert_eq!(answer.code, Some(code), "{outcomes:?}: {answer:?}");
        assert_eq!(answer.out.lines().count(), outcomes.len(), "one line for each service");
        let (line, body) = asked.lock().unwrap().last().cloned().unwrap();
        assert_eq!(line, "POST /v1/operations HTTP/1.1");
        let expected = json!({
            "verb": "restart", "targets": {"names": ["web", "group/x"]}, "with_dependents": true, "wait_ms": 90_000
        });
        let mut body: Value = serde_json::from_str(&body).unwrap();
        let key = body.as_object_mut().unwrap().remove("key");
        assert!(key.is_some_and(|key| key.is_u64()), "asked again, it is known to be the same");
        assert_eq!(body, expected);
    }
}

#[test]
fn a_refusal_of_the_manager_is_shown_with_its_help() {
    let home = Home::new();
    let unknown =
        json!({"error": "unknown_service", "detail": "there is no service `x`", "help": "Did you mean web?"});
    play(&home, &[("/v1/operations", 404, unknown.to_string())]);
    let answer = home.run(&["start", "x"]);
    assert_eq!(answer.code, Some(2));
    assert!(answer.err.contains("there is no service `x`") && answer.err.contains("Did you mean web?"));
}

#[test]
fn without_a_manager_every_question_ends_with_3_and_says_where_was_looked() {
    let home = Home::new();
    for command in [&["status"][..], &["down"], &["stop", "--all"], &["start", "web"], &["logs"]] {
        let answer = home.run(command);
        assert_eq!((answer.code, answer.out.as_str()), (Some(3), ""), "{command:?}: {answer:?}");
        let place = std::fs::canonicalize(home.path("")).unwrap().join(".relume");
        assert!(
            answer.err.contains(&format!("no manager is running for {}", place.display())),
            "{}",
            answer.err
        );
        assert!(answer.err.contains("relume up"), "{}", answer.err);
    }
}

#[test]
fn the_state_directory_is_found_by_flag_variable_and_config() {
    let home = Home::new();
    play(&home, &[("/v1/status", 200, status("running"))]);
    let elsewhere = Home::new();
    let dir = home.path(".relume");
    let flag = elsewhere.run(&["status", "--state-dir", dir.to_str().unwrap()]);
    assert_eq!(flag.code, Some(0), "{flag:?}");
    let variable = elsewhere.relume(&["status"]).env("RELUME_STATE_DIR", &dir).output().unwrap();
    assert_eq!(variable.status.code(), Some(0));
    // The rest of this config is broken, which is nothing to a client.
    elsewhere.write(
        "relume.yaml",
        &format!(
            "manager: {{state_dir: {}}}\nservices: {{web: {{comand: x, port: banana}}}}\n",
            dir.display()
        ),
    );
    let config = elsewhere.run(&["status"]);
    assert_eq!(config.code, Some(0), "{config:?}");
    let beside = elsewhere.run(&["status", "-c", home.path("app.yaml").to_str().unwrap()]);
    assert_eq!(beside.code, Some(0), "{beside:?}");
}

#[test]
fn a_second_up_says_where_the_first_one_runs() {
    let home = Home::new();
    home.write("relume.yaml", "manager: {runtime_dir: runtime}\nservices: []\n");
    let version = json!({"version": "0.1.0", "api": 1, "pid": 4242, "state_dir": "/s"});
    play(&home, &[("/v1/version", 200, version.to_string())]);
    let answer = home.run(&["up", "--trust"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.err.contains("relume already runs here: pid 4242, state directory"), "{}", answer.err);
}
