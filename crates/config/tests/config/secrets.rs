//! What nobody but the owner of a config should see (scorecard R47): no finding shows the value of a variable or a
//! password, in whatever format and however broken the text is.

use std::path::PathBuf;

use relume_config::{Options, load};

use crate::common::Memory;

/// What must not be shown.
const VALUE: &str = "hunter2";

fn shown(name: &str, text: &str, show_secrets: bool) -> String {
    let files = Memory::with(&[(name, text), ("a.env", "A=hunter2\nhunter2 B\nC='hunter2\n")]);
    let options = Options {
        current_dir: "/w".into(),
        paths: vec![PathBuf::from(name)],
        show_secrets,
        ..Options::default()
    };
    let found = load(&files, &options).diagnostics;
    assert!(!found.0.is_empty(), "nothing is wrong with {text}");
    let json = serde_json::to_string(&found).expect("plain data");
    format!("{json}\n{}{}", found.render(false), found.render(true))
}

/// Mistakes beside a password, by format.
const WRONG: &[(&str, &str)] = &[
    ("c.yaml", "services: {a: {command: x, environment: {PW: hunter2}, prot: 1}}"),
    ("c.yaml", "services:\n  a:\n    command: x\n    environment: {A: [x], PW: hunter2}\n"),
    ("c.yaml", "services:\n  a:\n    command: x\n    environment: [PW=hunter2, {x: 1}]\n"),
    ("c.yaml", "services:\n  a:\n    command: x\n    environment: [PW=hunter2, PW=hunter2]\n"),
    ("c.yaml", "services:\n  a:\n    command: x\n    environment:\n      PW: pre${hunter2\n"),
    ("c.yaml", "services:\n  a:\n    command: x\n    environment:\n      PW: 'hunter2\n"),
    ("c.yaml", "services:\n  a:\n    command: x\n    environment:\n      PW: \"hunter2\" x\n"),
    ("c.yaml", "services:\n  a:\n    command: x\n    env:\n\t  PW: hunter2\n"),
    ("c.yaml", "services:\n  a:\n    command: x\n    environment: {\"P W\": hunter2}\n"),
    ("c.yaml", "x-y: {db_password: hunter2, db_password: hunter2}\nservices: []\n"),
    ("c.yaml", "services: {a: {command: x, alerts: {webhook: 'https://x/hunter2', on: 5}}}"),
    ("c.json", r#"[{"name": "a", "command": 5, "environment": {"PW": "hunter2"}, "port": "x"}]"#),
    ("c.json", r#"[{"name": "a", "environment": {"PW": "hunter2" "B": 1}, "command": "x"}]"#),
    ("c.json", r#"[{"name": "a", "environment": ["PW=hunter2"}, "command": "x"}]"#),
    ("c.toml", "[services.a]\ncommand = 'x'\nenvironment = { PW = 'hunter2', B = [1] }\n"),
    ("c.toml", "[services.a]\ncommand = 'x'\nenvironment.PW = 'hunter2' x\n"),
    ("c.toml", "[services.a.environment]\nPW = hunter2\n"),
    ("c.ini", "[service a]\ncommand = x\nenvironment = PW=hunter2,PW=hunter2\n"),
    ("c.ini", "[service a]\ncommand = x\nenvironment.PW = hunter2\nenvironment.PW = hunter2\n"),
    ("c.ini", "[service a]\ncommand = x\nenvironment.P W = hunter2\n"),
    ("c.yaml", "services: {a: {command: x, env_file: a.env}}"),
];

/// Shown to fail: without the stretches that are hidden, twenty of these lines stand in an excerpt as they are.
#[test]
fn no_finding_shows_the_value_of_a_variable() {
    for (name, text) in WRONG {
        let told = shown(name, text, false);
        assert!(!told.contains(VALUE), "{name}: {text}\n{told}");
    }
}

#[test]
fn the_owner_can_see_the_lines_as_they_are() {
    let (name, text) = WRONG[0];
    assert!(shown(name, text, true).contains("PW: hunter2"));
    assert!(shown(name, text, false).contains("environment: {PW: ***}, prot: 1"));
}

#[test]
fn a_line_that_cannot_be_parsed_still_shows_where_it_is_wrong() {
    let told = shown("c.yaml", "services:\n  web:\n    command: x\n   port: 8080\n", false);
    assert!(told.contains("port: 8080"), "{told}");
}
