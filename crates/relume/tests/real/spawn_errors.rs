//! A service that cannot be started says which step failed, on what, and why (scorecard R20).

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::{Builder, Relume, fixture};

/// Starts `service` (never restarted) and expects it to be `failed` for a reason with all of these words, and
/// nothing of it to be left.
fn fails(builder: Builder, mut service: Value, words: &[&str]) -> Relume {
    service["restart_policy"] = json!("never");
    let relume = builder.config(&json!({"services": {"bad": service}})).up();
    let status = relume.wait_state("bad", "failed");
    let reason = status.reason("bad");
    for word in words {
        assert!(reason.contains(word), "{word:?} is missing in the reason: {reason:?}");
    }
    assert!(!status.has_pid("bad"), "{status}");
    assert_eq!(relume.processes_of("bad"), [], "no half-started child is left");
    assert_eq!(relume.run(&["status"]).status.code(), Some(1));
    relume
}

/// A file with this content and mode.
fn file(builder: &Builder, name: &str, content: &str, mode: u32) -> String {
    let path = builder.path(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn a_program_that_is_not_there() {
    fails(Builder::new(), json!({"command": ["/no/such/program", "-d"]}), &["/no/such/program", "ENOENT"]);
}

#[test]
fn a_program_that_is_nowhere_in_the_path() {
    fails(
        Builder::new(),
        json!({"command": "surely-no-such-program --flag"}),
        &["surely-no-such-program", "ENOENT"],
    );
}

#[test]
fn a_program_that_may_not_be_executed() {
    let builder = Builder::new();
    let path = file(&builder, "plain.txt", "#!/bin/sh\n", 0o644);
    fails(builder, json!({"command": [path]}), &[&path, "EACCES"]);
}

#[test]
fn a_folder_instead_of_a_program() {
    let builder = Builder::new();
    let path = builder.path("folder");
    fs::create_dir(&path).unwrap();
    fails(builder, json!({"command": [path]}), &[&path, "EACCES"]);
}

#[test]
fn a_program_in_no_known_format_is_not_guessed_to_be_a_script() {
    let builder = Builder::new();
    let path = file(&builder, "no-format", "echo this would be guessing\n", 0o755);
    let relume = fails(builder, json!({"command": [path]}), &[&path, "ENOEXEC"]);
    assert_eq!(relume.log("bad"), b"");
}

#[test]
fn a_script_whose_interpreter_is_missing_names_the_interpreter() {
    let builder = Builder::new();
    let path = file(&builder, "script", "#!/no/such/interpreter -x\n", 0o755);
    fails(builder, json!({"command": [path]}), &[&path, "/no/such/interpreter", "ENOENT"]);
}

#[test]
fn a_program_that_somebody_is_writing() {
    let builder = Builder::new();
    let path = builder.path("being-written");
    fs::copy(fixture("never-ready"), &path).unwrap();
    let writer = OpenOptions::new().append(true).open(&path).unwrap();
    fails(builder, json!({"command": [path]}), &[&path, "ETXTBSY"]);
    drop(writer);
}

#[test]
fn an_argument_that_is_too_long() {
    // Linux takes 128 KiB in one string (MAX_ARG_STRLEN, execve(2)).
    let long = "x".repeat(200 * 1024);
    fails(Builder::new(), json!({"command": [fixture("never-ready"), long]}), &["E2BIG"]);
}

#[test]
fn a_working_directory_that_is_not_there() {
    let service = json!({"command": [fixture("never-ready")], "working_dir": "/no/such/folder"});
    fails(Builder::new(), service, &["/no/such/folder", "ENOENT"]);
}

#[test]
fn a_working_directory_that_is_a_file() {
    let builder = Builder::new();
    let path = file(&builder, "file", "", 0o644);
    fails(builder, json!({"command": [fixture("never-ready")], "working_dir": path}), &[&path, "ENOTDIR"]);
}

#[test]
fn a_failed_start_is_tried_again_by_the_rules_and_works_once_the_cause_is_gone() {
    let builder = Builder::new();
    let path = builder.path("late");
    let relume = builder
        .config(&json!({"services": {"late": {
            "command": [path], "retry_delay": "50ms", "max_retries": "unlimited", "backoff": "off"}}}))
        .up();
    relume.wait_until("it was tried twice", |status| status.restarts("late") >= 2);
    std::os::unix::fs::symlink(fixture("never-ready"), &path).unwrap();
    relume.wait_state("late", "running");
}

#[test]
fn one_that_cannot_be_started_keeps_nobody_else_from_running() {
    let relume = Relume::with(&json!({"services": {
        "bad": {"command": ["/no/such/program"]},
        "good": {"command": [fixture("never-ready")]}}}));
    relume.wait_state("good", "running");
}
