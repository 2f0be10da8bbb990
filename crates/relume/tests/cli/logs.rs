//! `relume logs` from the files alone: no manager runs here.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::Home;

fn home(logs: &[(&str, &str)]) -> Home {
    let home = Home::new();
    let mut services = serde_json::Map::new();
    for (name, text) in logs {
        home.write(&format!("logs/{name}.log"), text);
        let log = home.path(&format!("logs/{name}.log"));
        services.insert((*name).to_owned(), json!({"pid": null, "status": "stopped", "log": log}));
    }
    home.write(".relume/status.json", &Value::Object(services).to_string());
    home
}

fn append(home: &Home, text: &str) {
    let path = home.path("logs/web.log");
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// A follower whose lines are read as they come.
struct Following {
    child: Child,
    /// `None`: the reader has left.
    lines: Option<std::io::Lines<BufReader<ChildStdout>>>,
}

impl Following {
    fn start(home: &Home, args: &[&str]) -> Self {
        let mut child = home.relume(args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines: Some(lines) }
    }

    fn line(&mut self) -> String {
        self.lines.as_mut().unwrap().next().unwrap().unwrap()
    }
}

impl Drop for Following {
    /// A failed test leaves no process behind either.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_last_lines_of_one_service_are_its_own_bytes() {
    let home = home(&[("web", "1\n2\n\u{1b}[31m3\n"), ("db", "x\n")]);
    let answer = home.run(&["logs", "-n", "2", "web"]);
    assert_eq!((answer.code, answer.out.as_str()), (Some(0), "2\n\u{1b}[31m3\n"));
    assert_eq!(home.run(&["logs", "-n", "all", "web"]).out.lines().count(), 3);
}

#[test]
fn lines_of_several_services_carry_their_names() {
    let home = home(&[("web", "1\n2"), ("db", "x\n")]);
    assert_eq!(home.run(&["logs"]).out, "db  | x\nweb | 1\nweb | 2\n");
    assert_eq!(home.run(&["logs", "wbe"]).code, Some(2));
    // Nobody answers, but what was written last is known.
    assert!(home.run(&["status"]).err.contains("When one ran here last: 2 stopped."));
}

/// Seen to fail when a gap that a rename leaves for a moment was taken for the end of the chain: lines 10 to 129
/// were skipped.
#[test]
fn following_loses_nothing_over_rotation_and_ends_with_0_on_ctrl_c() {
    let home = home(&[("web", "a\nb\n")]);
    let mut following = Following::start(&home, &["logs", "-f", "-n", "1", "web"]);
    assert_eq!(following.line(), "b");
    for number in 0..200 {
        append(&home, &format!("line {number}\n"));
        if number % 10 == 9 {
            for old in (0..30).rev() {
                let name = |number: usize| match number {
                    0 => home.path("logs/web.log"),
                    _ => home.path(&format!("logs/web.log.{number}")),
                };
                let _ = std::fs::rename(name(old), name(old + 1));
            }
        }
    }
    for number in 0..200 {
        assert_eq!(following.line(), format!("line {number}"));
    }
    let pid = rustix::process::Pid::from_child(&following.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(following.child.wait().unwrap().code(), Some(0));
}

/// Beside a log, what is known of its bytes: offset, seconds since 1970, run, kind (1 stdout, 16 started, 17 exited).
fn index(home: &Home, name: &str, records: &[(u64, i64, u32, u32)]) {
    let log = std::fs::metadata(home.path(&format!("logs/{name}.log"))).unwrap();
    let mut bytes = b"relumeix".to_vec();
    bytes.extend([1u32, 24].map(u32::to_le_bytes).concat());
    bytes.extend([log.dev(), log.ino(), 0].map(u64::to_le_bytes).concat());
    for (offset, seconds, run, kind) in records {
        bytes.extend(offset.to_le_bytes());
        bytes.extend((seconds * 1_000_000_000).to_le_bytes());
        bytes.extend(run.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
    }
    std::fs::write(home.path(&format!("logs/.{name}.log.index")), bytes).unwrap();
}

/// Two services whose lines were written in turn, one of them over two runs.
fn in_turn() -> Home {
    let home = home(&[("web", "w1\nw2\nw3\n"), ("db", "d1\nd2\n")]);
    index(
        &home,
        "web",
        &[(0, 100, 1, 16), (0, 100, 1, 1), (3, 130, 1, 1), (6, 140, 1, 17 | 3 << 8), (6, 150, 2, 1)],
    );
    index(&home, "db", &[(0, 110, 5, 1), (3, 145, 5, 1)]);
    home
}

#[test]
fn lines_of_several_services_come_in_the_order_they_were_written() {
    let out = in_turn().run(&["logs", "web", "db"]).out;
    assert_eq!(out, "web | w1\ndb  | d1\nweb | w2\ndb  | d2\nweb | w3\n");
}

#[test]
fn lines_are_chosen_by_time_run_and_expression() {
    let home = in_turn();
    let shown = |args: &[&str]| home.run(&[&["logs", "-n", "all"], args].concat()).out;
    assert_eq!(shown(&["--since", "1970-01-01T00:02:10Z", "web"]), "w2\nw3\n");
    assert_eq!(shown(&["--until", "1970-01-01T00:02:10Z", "web"]), "w1\n");
    assert_eq!(shown(&["--run", "-1", "web"]), "w1\nw2\n");
    assert_eq!(shown(&["--run", "2", "web"]), "w3\n");
    assert_eq!(shown(&["--grep", "[23]$", "w*"]), "w2\nw3\n");
    assert_eq!(home.run(&["logs", "-n", "1", "--grep", "w", "web"]).out, "w3\n");
    assert_eq!(home.run(&["logs", "--since", "soon"]).code, Some(2));
    assert_eq!(home.run(&["logs", "--grep", "("]).code, Some(2));
}

#[test]
fn marks_and_times_are_shown_where_they_are_asked_for() {
    let home = in_turn();
    let with_marks = home.relume(&["logs", "--markers", "web"]).env("TZ", "UTC").output().unwrap();
    let text = String::from_utf8(with_marks.stdout).unwrap();
    let marks = ["── web: started, run 1, 00:01:40 ──", "── web: exited with code 3, run 1, 00:02:20 ──"];
    assert_eq!(text, format!("{}\nw1\nw2\n{}\nw3\n", marks[0], marks[1]));
    let stamped = home.relume(&["logs", "-t", "-n", "1", "web"]).env("TZ", "UTC").output().unwrap();
    assert_eq!(String::from_utf8(stamped.stdout).unwrap(), "1970-01-01T00:02:30.000+00:00 w3\n");
    let object: Value = serde_json::from_str(&home.run(&["logs", "--json", "-n", "1", "web"]).out).unwrap();
    let at = "1970-01-01T00:02:30.000Z";
    assert_eq!(object, json!({ "service": "web", "run": 2, "at": at, "stream": "stdout", "line": "w3" }));
}

#[test]
fn old_files_and_the_log_of_stderr_are_part_of_it() {
    let home = home(&[("web", "3\n")]);
    home.write("logs/web.log.1", "2\n");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"1\n").unwrap();
    std::fs::write(home.path("logs/web.log.2.gz"), packed.finish().unwrap()).unwrap();
    assert_eq!(home.run(&["logs", "-n", "all", "web"]).out, "1\n2\n3\n");
    home.write("logs/web.err.log", "oops\n");
    assert_eq!(home.run(&["logs", "web"]).out, "1\n2\n3\noops\n");
}

#[test]
fn relumes_own_log_is_a_log_too() {
    let home = home(&[("web", "x\n")]);
    home.write(".relume/relume.log", "2026-11-21T04:00:00Z INFO  web: running\n");
    for args in [&["logs", "--self"][..], &["logs", "relume"]] {
        assert_eq!(home.run(args).out, "2026-11-21T04:00:00Z INFO  web: running\n", "{args:?}");
    }
}

#[test]
fn a_service_that_has_not_written_yet_is_followed_from_its_first_line() {
    let home = home(&[("web", "")]);
    std::fs::remove_file(home.path("logs/web.log")).unwrap();
    home.write("logs/other.log", "");
    let mut following = Following::start(&home, &["logs", "-f"]);
    append(&home, "first\n");
    assert_eq!(following.line(), "first");
}

#[test]
fn a_reader_that_leaves_ends_the_following_even_when_nothing_is_written() {
    let home = home(&[("web", "a\n")]);
    let mut following = Following::start(&home, &["logs", "-f"]);
    assert_eq!(following.line(), "a");
    drop(following.lines.take());
    assert_eq!(following.child.wait().unwrap().code(), Some(0));
}
