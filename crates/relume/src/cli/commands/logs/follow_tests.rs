//! Following a log through everything that happens to log files.

use std::fs::{self, OpenOptions};
use std::io::Write;

use super::*;

struct Log {
    dir: tempfile::TempDir,
    follower: Follower,
    shown: Vec<u8>,
}

impl Log {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let follower = Follower::new(dir.path().join("web.log"));
        Self { dir, follower, shown: Vec::new() }
    }

    fn path(&self, number: usize) -> PathBuf {
        chain::path_of(&self.dir.path().join("web.log"), number)
    }

    fn write(&self, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(0)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// As the manager rotates: the oldest beyond `keep` goes, every other moves up.
    fn rotate(&self, keep: usize) {
        for number in (0..keep).rev() {
            if self.path(number).exists() {
                fs::rename(self.path(number), self.path(number + 1)).unwrap();
            }
        }
    }

    fn pull(&mut self) -> String {
        let shown = &mut self.shown;
        let mut emit = |bytes: &[u8]| {
            shown.extend_from_slice(bytes);
            true
        };
        assert!(self.follower.pull(&mut emit).unwrap());
        String::from_utf8(std::mem::take(&mut self.shown)).unwrap()
    }
}

#[test]
fn what_is_written_is_shown_once() {
    let mut log = Log::new();
    assert_eq!(log.pull(), "");
    log.write("a\n");
    assert_eq!(log.pull(), "a\n");
    log.write("b\nc");
    assert_eq!(log.pull(), "b\nc");
    assert_eq!(log.pull(), "");
}

#[test]
fn rotation_between_two_looks_loses_nothing() {
    let mut log = Log::new();
    log.write("a\n");
    assert_eq!(log.pull(), "a\n");
    log.write("b\n");
    log.rotate(5);
    log.write("c\n");
    assert_eq!(log.pull(), "b\nc\n");
}

/// Seen to fail when only the newest file was taken for the successor: "c" and "d" were missing.
#[test]
fn several_rotations_between_two_looks_lose_nothing() {
    let mut log = Log::new();
    log.write("a\n");
    assert_eq!(log.pull(), "a\n");
    for text in ["b\n", "c\n", "d\n"] {
        log.write(text);
        log.rotate(5);
    }
    log.write("e\n");
    assert_eq!(log.pull(), "b\nc\nd\ne\n");
}

#[test]
fn what_remains_of_a_chain_that_was_turned_over_is_shown() {
    let mut log = Log::new();
    log.write("a\n");
    assert_eq!(log.pull(), "a\n");
    for text in ["b\n", "c\n", "d\n", "e\n"] {
        log.write(text);
        log.rotate(2);
    }
    // Two are kept: "b" was read through the descriptor that is still open, "c" is lost for everybody.
    assert_eq!(log.pull(), "b\nd\ne\n");
}

#[test]
fn while_the_log_is_missing_between_two_renames_the_old_one_is_read_on() {
    let mut log = Log::new();
    log.write("a\n");
    assert_eq!(log.pull(), "a\n");
    log.rotate(5);
    OpenOptions::new().append(true).open(log.path(1)).unwrap().write_all(b"late\n").unwrap();
    assert_eq!(log.pull(), "late\n");
    log.write("b\n");
    assert_eq!(log.pull(), "b\n");
}

#[test]
fn a_truncated_log_is_read_from_its_beginning() {
    let mut log = Log::new();
    log.write("long line\n");
    assert_eq!(log.pull(), "long line\n");
    fs::write(log.path(0), "").unwrap();
    assert_eq!(log.pull(), "");
    log.write("new\n");
    assert_eq!(log.pull(), "new\n");
}

#[test]
fn a_log_that_was_removed_and_made_again_is_followed() {
    let mut log = Log::new();
    log.write("a\n");
    assert_eq!(log.pull(), "a\n");
    fs::remove_file(log.path(0)).unwrap();
    assert_eq!(log.pull(), "");
    log.write("b\n");
    assert_eq!(log.pull(), "b\n");
}

#[test]
fn a_link_or_a_fifo_in_place_of_the_log_is_refused() {
    let mut log = Log::new();
    let secret = log.dir.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    std::os::unix::fs::symlink(&secret, log.path(0)).unwrap();
    let error = log.follower.pull(&mut |_| panic!("read")).unwrap_err();
    assert_ne!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn changes_of_rotated_files_concern_their_log() {
    assert_eq!(log_name(b"web.log"), b"web.log");
    assert_eq!(log_name(b"web.log.12"), b"web.log");
    assert_eq!(log_name(b"web.log."), b"web.log.");
    assert_eq!(log_name(b"12"), b"12");
}
