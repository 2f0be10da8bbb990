//! Commands that ask for less usual things, against a manager that is played.

use serde_json::{Value, json};

use crate::Home;
use crate::played::play;

#[test]
fn a_signal_is_sent_by_number_and_its_outcome_is_the_exit_code() {
    for (outcome, code) in [("done", 0), ("failed", 1)] {
        let home = Home::new();
        let result =
            json!({"service": "web", "outcome": outcome, "state": "running", "reason": "it is not running"});
        let asked = play(&home, &[("/v1/signal", 200, json!({"results": [result]}).to_string())]);
        let answer = home.run(&["signal", "sighup", "web", "group/x", "--tree"]);
        assert_eq!(answer.code, Some(code), "{answer:?}");
        let (_, body) = asked.lock().unwrap().last().cloned().unwrap();
        let expected = json!({"signal": "1", "targets": {"names": ["web", "group/x"]}, "tree": true});
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
    }
    assert_eq!(Home::new().run(&["signal", "NOPE", "web"]).code, Some(2));
    assert_eq!(Home::new().run(&["signal", "HUP"]).code, Some(2), "it has to be told to whom");
}

#[test]
fn a_config_that_cannot_be_used_is_shown_and_is_bad_config() {
    let home = Home::new();
    let report = json!({"ok": false, "rendered": "relume.yaml:3:5: error: unknown key `comand`\n"});
    play(&home, &[("/v1/plan", 200, report.to_string()), ("/v1/apply", 200, report.to_string())]);
    for verb in ["plan", "apply"] {
        let answer = home.run(&[verb]);
        assert_eq!((answer.code, answer.out.as_str()), (Some(2), ""), "{answer:?}");
        assert!(
            answer.err.contains("relume.yaml:3:5") && answer.err.contains("nothing has changed"),
            "{}",
            answer.err
        );
    }
}

#[test]
fn urls_are_listed_and_filtered() {
    let home = Home::new();
    let status = json!({"manager": {"pid": 1}, "services": [
        {"name": "web:1", "state": "running", "urls": ["http://localhost:80"], "groups": ["front"]},
        {"name": "db", "state": "stopped", "port": 5432}]});
    play(&home, &[("/v1/status", 200, status.to_string())]);
    assert_eq!(home.run(&["urls"]).out, "web:1  http://localhost:80\ndb     port 5432  (stopped)\n");
    assert_eq!(home.run(&["urls", "group/front"]).out, "web:1  http://localhost:80\n");
    let all: Value = serde_json::from_str(&home.run(&["urls", "web", "--json"]).out).unwrap();
    assert_eq!(all[0]["urls"][0], "http://localhost:80");
    assert_eq!(home.run(&["urls", "wbe"]).code, Some(2));
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let answer = home.run(&["completions", shell]);
        assert_eq!(answer.code, Some(0));
        assert!(answer.out.contains("doctor") && answer.out.contains("with-dependents"), "{shell}");
    }
    let page = home.run(&["man"]);
    assert!(page.out.contains(".TH") && page.out.contains("doctor"), "{}", page.out);
    assert!(home.run(&["man", "wait"]).out.contains("relume\\-wait"));
    let pages = home.run(&["man", "--dir", home.path("man").to_str().unwrap()]);
    assert_eq!(pages.code, Some(0), "{pages:?}");
    assert!(home.path("man/relume-wait.1").exists() && home.path("man/relume.1").exists());
    let wrong = home.run(&["man", "wiat"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("Did you mean wait?"), "{}", wrong.err);
}

#[test]
fn without_a_manager_these_too_end_with_3() {
    let home = Home::new();
    for command in [
        &["wait", "web"][..],
        &["events"],
        &["apply"],
        &["signal", "HUP", "web"],
        &["reload", "--all"],
        &["urls"],
        &["status", "--watch"],
    ] {
        let answer = home.run(command);
        assert_eq!((answer.code, answer.out.as_str()), (Some(3), ""), "{command:?}: {answer:?}");
    }
}

#[test]
fn every_command_that_is_new_to_somebody_has_examples() {
    let home = Home::new();
    for verb in ["wait", "events", "signal", "reload", "run", "urls", "completions", "man", "status"] {
        let help = home.run(&[verb, "--help"]);
        assert!(help.out.contains("Examples:"), "{verb}: {}", help.out);
    }
}

#[test]
fn the_relume_of_the_machine_is_where_machines_keep_theirs() {
    let home = Home::new();
    // Somebody may run one here: then this is only a look at it.
    let answer = home.run(&["status", "--system"]);
    let there = answer.code != Some(3);
    assert!(there || answer.err.contains("no manager is running for /var/lib/relume"), "{}", answer.err);
}

#[test]
fn a_folder_can_be_the_config() {
    let home = Home::new();
    home.write("conf/10-web.yaml", "services: {web: {command: x, instances: 2, groups: [front]}}\n");
    home.write("conf/20-db.toml", "[services.db]\ncommand = 'y'\n");
    home.write("conf/notes.txt", "not a config\n");
    let answer = home.run(&["check", "-c", "conf", "--json"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let report: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(report["services"], 3);
}
