//! The reference pages say what the program says: they are made by it, and compared here.
//!
//! After a change that shows in them: `RELUME_BLESS=1 cargo test -p relume --test reference`.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed, here and now")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

const VERBS: [&str; 25] = [
    "up",
    "down",
    "status",
    "start",
    "stop",
    "restart",
    "reload",
    "signal",
    "wait",
    "logs",
    "events",
    "explain",
    "urls",
    "plan",
    "apply",
    "respawn",
    "run",
    "drill",
    "install",
    "uninstall",
    "doctor",
    "check",
    "schema",
    "completions",
    "man",
];

fn help(args: &[&str]) -> String {
    // Not on a terminal, so the width of the text does not depend on anybody's window.
    let output =
        Command::new(env!("CARGO_BIN_EXE_relume")).args(args).arg("--help").env_clear().output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[track_caller]
fn check(page: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/user/reference").join(page);
    if std::env::var_os("RELUME_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, made).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let different = written.lines().zip(made.lines()).position(|(a, b)| a != b);
    assert!(
        written == made,
        "{} differs from what the program says, first in line {}.\n\
         Make it anew: RELUME_BLESS=1 cargo test -p relume --test reference",
        path.display(),
        different.unwrap_or(written.lines().count().min(made.lines().count())) + 1
    );
}

#[test]
fn the_config_reference_is_what_the_config_reads() {
    check("config.md", &relume_config::reference_markdown());
}

#[test]
fn the_command_reference_is_what_help_says() {
    let mut page =
        String::from("# Command reference\n\nWhat `relume --help` and `relume COMMAND --help` print.\n");
    let mut part = |title: &str, args: &[&str]| {
        let _ = write!(page, "\n## {title}\n\n```text\n{}```\n", help(args));
    };
    part("relume", &[]);
    for verb in VERBS {
        part(&format!("relume {verb}"), &[verb]);
    }
    check("commands.md", &page);
}

#[test]
fn every_command_has_its_part_in_the_reference() {
    let all = help(&[]);
    let commands =
        all.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A description that goes on in the next line stands further in.
    let named: Vec<&str> = commands
        .filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(named, VERBS);
}
