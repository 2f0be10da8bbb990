//! Another program at relume's path: it takes over when it can, and otherwise nothing happens but a message.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use crate::harness::{Builder, Relume, fixture, text};

fn printer() -> Relume {
    let config = json!({"services": {"web": {"command": [fixture("prints-numbers"), "web", "10"]}}});
    let relume = Builder::new().config(&config).by_link().up();
    relume.wait_state("web", "running");
    relume
}

/// Puts something in the program's place; what was there is called `name` from now on.
fn put(relume: &Relume, bytes: Option<&[u8]>, mode: u32) {
    let path = relume.program();
    std::fs::rename(path, relume.path("before")).unwrap();
    if let Some(bytes) = bytes {
        std::fs::write(path, bytes).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn put_back(relume: &Relume) {
    let _nothing_there = std::fs::remove_file(relume.program());
    std::fs::rename(relume.path("before"), relume.program()).unwrap();
}

/// An upgrade as people make it: the new file is renamed over the old one.
/// Shown to fail: with a respawn that executes the running image.
#[test]
fn a_program_that_was_replaced_takes_over() {
    let relume = printer();
    let before = relume.status();
    let aside = relume.path("new");
    std::fs::copy(Path::new(env!("CARGO_BIN_EXE_relume")), &aside).unwrap();
    std::fs::rename(&aside, relume.program()).unwrap();
    relume.ok(&["respawn"]);
    let after = relume.status();
    assert_eq!((after.pid("web"), after.restarts("web")), (before.pid("web"), 0));
    let image = std::fs::read_link(format!("/proc/{}/exe", relume.manager().pid)).unwrap();
    assert_eq!(image, relume.program(), "the new file is what runs");
    assert!(relume.ok(&["events"]).contains("respawned (asked, upgrade)"));
    relume.down();
}

/// Able to fail: what relume starts of itself was looked for at the path of a file that is gone.
#[test]
fn what_stands_in_for_others_starts_also_after_the_program_was_replaced() {
    let builder = Builder::new().with_own_program();
    let (note, up) = (builder.path("notes"), builder.path("up"));
    let relume = builder
        .config(&json!({"services": {
            "thing": {"type": "external", "autostart": false, "start_command": format!("touch {up}"),
                "stop_command": format!("rm {up}"), "status_command": ["test", "-e", up]},
            "job": {"type": "oneshot", "autostart": false, "unless": "false",
                "command": format!("echo done >> {note}")}}}))
        .up();
    let aside = relume.path("new");
    std::fs::copy(relume.program(), &aside).unwrap();
    std::fs::rename(&aside, relume.program()).unwrap();
    relume.ok(&["start", "thing", "job"]);
    relume.wait_state("thing", "running");
    relume.wait_state("job", "completed");
    assert_eq!(std::fs::read_to_string(note).unwrap(), "done\n");
    relume.down();
}

/// Shown to fail: with a trial that asks only whether the program ends.
#[test]
fn a_program_that_cannot_take_over_leaves_the_old_manager_at_work() {
    let relume = printer();
    let before = relume.status();
    let good = std::fs::read(env!("CARGO_BIN_EXE_relume")).unwrap();
    let mut foreign = good[..64 * 1024].to_vec();
    // e_machine: of no machine.
    foreign[18..20].copy_from_slice(&[0xfe, 0xfe]);
    let cases: [(&str, Option<&[u8]>, u32); 8] = [
        ("missing", None, 0),
        ("not executable", Some(&good[..4096]), 0o644),
        ("truncated", Some(&good[..1 << 20]), 0o755),
        ("of another machine", Some(&foreign), 0o755),
        ("empty", Some(b""), 0o755),
        ("ending at once", Some(b"#!/bin/sh\nexit 0\n"), 0o755),
        ("killing itself", Some(b"#!/bin/sh\nkill -SEGV $$\n"), 0o755),
        ("something else", Some(b"#!/bin/sh\necho hello\n"), 0o755),
    ];
    for (what, bytes, mode) in cases {
        put(&relume, bytes, mode);
        let built = env!("CARGO_BIN_EXE_relume");
        let mut command = relume.command(&["respawn"]);
        // The command line is a relume that works.
        let mut asked = std::process::Command::new(built);
        asked.arg("respawn").current_dir(command.get_current_dir().unwrap());
        asked.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let answer = asked.output().unwrap();
        command.stdin(std::process::Stdio::null());
        assert_eq!(answer.status.code(), Some(1), "{what}: {}", text(&answer));
        assert!(text(&answer).contains("relume-link"), "{what}: it names the program: {}", text(&answer));
        put_back(&relume);
        let now = relume.status();
        assert_eq!(now.manager()["pid"], before.manager()["pid"], "{what}: the same manager goes on");
        assert_eq!(
            (now.manager()["respawns"].as_u64(), now.pid("web")),
            (Some(0), before.pid("web")),
            "{what}"
        );
    }
    relume.ok(&["respawn"]);
    relume.down();
}

/// The journal that a newer version writes is not touched by this one. Shown to fail: with a journal that is read whatever its version.
#[test]
fn a_program_that_is_older_than_the_journal_does_not_take_over() {
    let relume = printer();
    let journal = relume.path("runtime").join("journal");
    let version = |number: u8| {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::options().write(true).open(&journal).unwrap();
        file.write_all_at(&[number], 8).unwrap();
    };
    version(9);
    let answer = relume.run(&["respawn"]);
    assert_eq!(answer.status.code(), Some(1), "{}", text(&answer));
    assert!(text(&answer).contains("it has version 9"), "{}", text(&answer));
    assert_eq!(std::fs::read(&journal).unwrap()[8], 9, "it was left alone");
    version(1);
    relume.ok(&["respawn"]);
    relume.down();
}
