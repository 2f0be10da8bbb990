//! `up --follow` over respawns and deaths: what relume shows of its services has no hole, and after a respawn no seam either.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::process::ChildStdout;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use serde_json::json;

use crate::harness::halves::*;
use crate::harness::{Builder, Relume, fixture};
use crate::leaving::{FLOOD, unread};

/// The numbers that were shown of a printer, in this order; what is no whole line of it is left out.
fn shown<'a>(lines: impl Iterator<Item = &'a str>, name: &str) -> Vec<u64> {
    let number = |line: &str| line.strip_prefix(&format!("{name} | {name} "))?.parse().ok();
    lines.filter_map(number).collect()
}

fn all(relume: &Relume, name: &str) -> Vec<u64> {
    (1..=relume.lines(name).len() as u64).collect()
}

/// Shown to fail: with a successor that shows what comes from then on.
#[test]
fn over_respawns_each_line_is_shown_once() {
    // A line each millisecond.
    let printer = |name: &str| json!({"command": [fixture("prints-numbers"), name, "1"]});
    let services = json!({"p0": printer("p0"), "p1": printer("p1"), "p2": printer("p2")});
    let relume = Builder::new().config(&json!({"services": services})).arg("--follow").up();
    relume.wait_until("all run", |status| pids(status).len() == 3);
    for _ in 0..kills(5) {
        relume.ok(&["respawn"]);
        std::thread::sleep(Duration::from_millis(random(60)));
    }
    relume.down();
    let said = relume.said();
    for name in ["p0", "p1", "p2"] {
        assert_eq!(shown(said.lines(), name), all(&relume, name), "{name}");
    }
}

/// Reads until so many lines of the flood were seen.
fn read(out: &mut BufReader<ChildStdout>, seen: &mut Vec<String>, most: usize) {
    let mut line = Vec::new();
    while seen.len() < most {
        if out.buffer().is_empty() {
            let mut fds = [PollFd::new(out.get_ref(), PollFlags::IN)];
            let came = poll(&mut fds, Some(&Timespec { tv_sec: 60, tv_nsec: 0 })).unwrap();
            assert!(came > 0, "nothing more comes after {} lines", seen.len());
        }
        let buffer = out.fill_buf().unwrap();
        assert!(!buffer.is_empty(), "it has ended after {} lines", seen.len());
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let (bytes, taken) = end.map_or((buffer, buffer.len()), |end| (&buffer[..end], end + 1));
        line.extend_from_slice(bytes);
        out.consume(taken);
        if end.is_some() {
            let text = String::from_utf8(std::mem::take(&mut line)).unwrap();
            seen.extend(text.strip_prefix("flood | ").map(str::to_owned));
        }
    }
}

/// Shown to fail: with a stream that leaves nothing of what it could not write.
#[test]
fn a_reader_who_pauses_over_respawns_gets_every_byte_once() {
    let (relume, unread) = unread();
    let mut out = BufReader::new(unread);
    let mut seen = Vec::new();
    for respawn in 1..=3 {
        relume.ok(&["respawn"]);
        read(&mut out, &mut seen, 100 * respawn);
    }
    read(&mut out, &mut seen, FLOOD);
    let stored = relume.lines("flood");
    let first = seen.iter().zip(&stored).position(|(seen, stored)| seen != stored);
    let around = first.map(|at| (&stored[at], &seen[at.saturating_sub(1)..(at + 3).min(seen.len())]));
    assert!(first.is_none() && seen.len() == stored.len(), "lost, torn or shown twice: {around:#?}");
    drop(out);
    relume.down();
}

/// A manager that is killed between showing lines and noting that has them shown again: rather twice than never. Shown to fail: with a
/// successor that shows what comes from then on.
#[test]
fn a_reader_who_pauses_over_killed_managers_misses_no_line() {
    let (relume, unread) = unread();
    let mut out = BufReader::new(unread);
    let mut seen = Vec::new();
    for kill in 1..=3 {
        let old = manager(&relume.status());
        old.signal(Signal::KILL);
        wait_for_manager(&relume, &old);
        read(&mut out, &mut seen, 1000 * kill);
    }
    let stored = relume.lines("flood");
    let missing = |seen: &[String]| {
        let seen: HashSet<&String> = seen.iter().collect();
        stored.iter().filter(|line| !seen.contains(line)).count()
    };
    while missing(&seen) > 0 {
        let more = seen.len() + missing(&seen).min(100);
        assert!(more < 2 * FLOOD, "{} lines are missing", missing(&seen));
        read(&mut out, &mut seen, more);
    }
    drop(out);
    relume.down();
}
