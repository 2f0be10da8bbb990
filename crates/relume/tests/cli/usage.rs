//! Commands that need no manager, and wrong ones.

use serde_json::Value;

use crate::Home;

#[test]
fn without_a_config_relume_alone_is_a_short_help_and_bad_usage() {
    let home = Home::new();
    for args in [&[][..], &["up"], &["check"]] {
        let answer = home.run(args);
        assert_eq!((answer.code, answer.out.as_str()), (Some(2), ""), "{args:?}");
        assert!(answer.err.contains("there is no config in"), "{}", answer.err);
    }
    assert!(home.run(&[]).err.contains("Usage:"));
}

#[test]
fn help_and_version_are_no_errors() {
    let home = Home::new();
    for args in [&["--help"][..], &["-h"], &["-V"], &["up", "--help"], &["logs", "-h"]] {
        let answer = home.run(args);
        assert_eq!((answer.code, answer.err.as_str()), (Some(0), ""), "{args:?}");
    }
    assert!(home.run(&["up", "--help"]).out.contains("--self-respawn"));
}

#[test]
fn bad_usage_ends_with_2() {
    let home = Home::new();
    for args in
        [&["strat"][..], &["start"], &["stop", "--all", "web"], &["start", "web", "--timeout", "soon"]]
    {
        assert_eq!(home.run(args).code, Some(2), "{args:?}");
    }
}

#[test]
fn check_reports_every_error_with_its_place() {
    let home = Home::new();
    home.write(
        "relume.yaml",
        "services:\n  web:\n    comand: x\n  db:\n    command: [sleep, \"9\"]\n    port: banana\n",
    );
    let answer = home.run(&["check"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    for place in ["relume.yaml:3:5: ", "relume.yaml:6:11: "] {
        assert!(answer.out.lines().any(|line| line.starts_with(place)), "{place} in {}", answer.out);
    }
    let json: Value = serde_json::from_str(&home.run(&["check", "--json"]).out).unwrap();
    assert_eq!(json["ok"], false);
    assert!(json["diagnostics"].as_array().unwrap().len() >= 2, "{json}");
    // `up` refuses the same, and starts nothing.
    let up = home.run(&["up", "--trust"]);
    assert_eq!(up.code, Some(2));
    assert!(up.err.contains("relume.yaml:3:5"), "{}", up.err);
    assert!(!home.path(".relume").exists());
}

#[test]
fn a_good_config_is_said_to_be_good() {
    let home = Home::new();
    home.write("relume.toml", "[services.web]\ncommand = \"sleep 9\"\n");
    let answer = home.run(&["check"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.out.contains("relume.toml: 1 service"), "{}", answer.out);
    assert_eq!(home.run(&["check", "-c", "missing.yaml"]).code, Some(2));
}

#[test]
fn a_fifo_or_directory_as_config_is_an_error_and_never_hangs() {
    let home = Home::new();
    let fifo = home.path("relume.yaml");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let answer = home.run(&["check"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(answer.out.contains("not a regular file"), "{}", answer.out);
}

#[test]
fn the_schema_is_json_and_knows_the_keys() {
    let answer = Home::new().run(&["schema"]);
    assert_eq!(answer.code, Some(0));
    assert!(serde_json::from_str::<Value>(&answer.out).unwrap().is_object());
    assert!(answer.out.contains("restart_policy"));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let mut child = Home::new().relume(&["schema"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
