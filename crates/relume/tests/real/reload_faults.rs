//! Configs that must not be put in force (scorecard R33): whatever is wrong with the new one, the old one holds, whole,
//! and the command that runs goes on.

use std::fs;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Builder, Relume, Status, eventually, fixture, read, text};

const GOOD: &str =
    "services:\n  web: {command: [PROGRAM], environment: {A: '1'}}\n  db: {command: [PROGRAM]}\n";

fn write(relume: &Relume, text: &str) {
    let text = text.replace("PROGRAM", &fixture("never-ready"));
    fs::write(relume.path("new.yaml"), text).unwrap();
    fs::rename(relume.path("new.yaml"), relume.path("relume.yaml")).unwrap();
}

fn up() -> (Relume, Status) {
    let builder = Builder::new();
    let text = GOOD.replace("PROGRAM", &fixture("never-ready"));
    fs::write(builder.home().join("relume.yaml"), text).unwrap();
    let relume = builder.arg("-c").arg("relume.yaml").up();
    relume.wait_state("web", "running");
    let status = relume.wait_state("db", "running");
    (relume, status)
}

fn same(before: &Status, after: &Status) {
    for name in ["web", "db"] {
        assert_eq!(
            (before.pid(name), before.restarts(name)),
            (after.pid(name), after.restarts(name)),
            "{name}"
        );
    }
    assert_eq!(after.services().len(), 2);
}

/// Shown to fail: with a refused config taken over all the same, the first fault removes both services.
#[test]
fn whatever_is_wrong_with_a_new_config_the_old_one_holds_whole() {
    let (relume, before) = up();
    // Half of a longer one, cut in a list and in a word.
    let half = &GOOD[..GOOD.find("PROGRAM").unwrap() + 3];
    for (fault, config, place) in [
        ("a parse error", "services:\n  web: {command: [x\n  db: 5]\n", "relume.yaml:"),
        ("half a file", half, "relume.yaml:2:"),
        ("an empty service", "services:\n  web:\n  db: {command: x}\n", "relume.yaml:2:"),
        (
            "a cycle",
            "services:\n  web: {command: x, dependencies: [db]}\n  db: {command: x, dependencies: [web]}\n",
            "relume.yaml:2:",
        ),
        ("a missing include", "include: [nothing.yaml]\nservices: {web: {command: x}}\n", "relume.yaml:1:"),
    ] {
        write(&relume, config);
        for verb in ["plan", "apply"] {
            let refused = relume.run(&[verb]);
            assert_eq!(refused.status.code(), Some(2), "{fault}: {}", text(&refused));
            assert!(text(&refused).contains(place), "{fault}: {}", text(&refused));
        }
        let refusals = || read(&relume.state("relume.log")).matches("the one before stays in force").count();
        let so_far = refusals();
        relume.signal(Signal::HUP);
        // Or it would be read later, when something else stands there.
        eventually("the hangup is heard", || (refusals() > so_far).then_some(()));
        same(&before, &relume.status());
    }
    fs::remove_file(relume.path("relume.yaml")).unwrap();
    let gone = relume.run(&["apply"]);
    assert_eq!(gone.status.code(), Some(2), "{}", text(&gone));
    same(&before, &relume.status());

    // A good one holds after all that, and only what changed is restarted.
    write(&relume, &GOOD.replace("'1'", "'2'"));
    let applied = relume.ok(&["apply"]);
    assert!(applied.contains("web  is restarted"), "{applied}");
    let after = relume.status();
    assert_ne!(after.pid("web"), before.pid("web"), "apply returns when the new life is up");
    assert_eq!(after.pid("db"), before.pid("db"));
}

#[test]
fn apply_tells_what_did_not_come_up_and_does_not_wait_where_that_is_not_wanted() {
    let (relume, _) = up();
    write(
        &relume,
        &GOOD.replace("{command: [PROGRAM]}", "{type: notify, command: 'exit 4;', retry_delay: 1h}"),
    );
    let refused = relume.run(&["apply"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(
        text(&refused).contains("db is crashed") && text(&refused).contains("exited 4"),
        "{}",
        text(&refused)
    );
    write(&relume, &GOOD.replace("{command: [PROGRAM]}", "{command: 'exit 5;', retry_delay: 1h}"));
    assert_eq!(relume.run(&["apply", "--no-wait"]).status.code(), Some(0));
    eventually("it holds", || relume.status().reason("db").contains("exited 5").then_some(()));
}

#[test]
fn up_in_the_background_shows_what_a_changed_config_would_do_and_leaves_it() {
    let (relume, before) = up();
    write(&relume, &GOOD.replace("'1'", "'2'"));
    let output = relume.run(&["-c", "relume.yaml", "up", "-d"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("web  will be restarted"), "{}", text(&output));
    same(&before, &relume.status());
    relume.run(&["stop", "db"]);
    relume.signal(Signal::TERM);
    relume.wait_for_end();
    let output = relume.run(&["-c", "relume.yaml", "plan", "--json"]);
    let plan: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    let expected = json!([{"service": "web", "fate": "added"}, {"service": "db", "fate": "added_stopped"}]);
    assert_eq!(plan["changes"], expected);
}
