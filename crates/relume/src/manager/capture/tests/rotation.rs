//! Rotation: every line once, in order, whole, and never more on disk than promised.

use super::super::rotate::{Cut, cut};
use super::*;

/// The old files and the current one, joined from the oldest on.
fn joined(path: &Path, keep: u32) -> Vec<u8> {
    let numbered = (1..=keep).rev().map(|place| super::super::rotate::numbered(path, place));
    numbered.chain([path.to_owned()]).filter_map(|path| fs::read(path).ok()).flatten().collect()
}

/// A flood through many rotations: each line once, in order, none torn, and at every sample at most limit × (keep + 1).
/// Seen to fail with `cut` ignoring line ends (torn lines), and with the chain moved from the young end (lines missing).
#[test]
fn a_flood_is_rotated_line_by_line() {
    const LINES: u64 = 120_000;
    const LIMIT: u64 = 100_000;
    const KEEP: u32 = 100;
    let rig = Rig::new();
    let path = rig.path("flood.log");
    let (id, writer) = rig.attach_to(rig.log("flood.log", Some((LIMIT, KEEP))));
    let text: String =
        (0..LINES).map(|n| format!("{n:>width$}\n", width = 10 + (n as usize * 7) % 90)).collect();
    pour(writer, text.clone().into_bytes(), 4_099).join().unwrap();
    rig.finish(id);
    assert!(joined(&path, KEEP) == text.as_bytes(), "lines are missing, repeated or out of order");
    for place in 0..=KEEP {
        let Ok(part) = fs::read(super::super::rotate::numbered(&path, place)) else { continue };
        assert!(part.len() as u64 <= LIMIT, "{} bytes in file {place}", part.len());
        assert_eq!(part.last(), Some(&b'\n'), "file {place} ends within a line");
    }
}

/// Few old files are kept under a flood: those that are there follow each other, and the disk never holds more than promised.
/// Seen to fail with the oldest removed after the renames instead of before: one limit too much while a line's part was copied.
#[test]
fn a_flood_stays_within_its_disk() {
    const LIMIT: u64 = 50_000;
    const KEEP: u32 = 2;
    let rig = Rig::new();
    let path = rig.path("tight.log");
    let (id, writer) = rig.attach_to(rig.log("tight.log", Some((LIMIT, KEEP))));
    rig.disk.measure(&path);
    // Two files that are exactly full, then one whose last 40,000 bytes are part of a line that has to move along.
    let lines = [(200, 500), (20, 500), (1, 45_000), (300, 777), (9, 23_456)];
    let text: String = lines
        .iter()
        .flat_map(|&(count, length)| (0..count).map(move |n| format!("{n:>0$}\n", length - 1)))
        .collect();
    let (first, rest) = text.as_bytes().split_at(149_000);
    pour(writer.try_clone().unwrap(), first.to_vec(), 10_000).join().unwrap();
    let start = std::time::Instant::now();
    while on_disk(&path) != first.len() as u64 {
        assert!(start.elapsed() < PATIENCE, "the first files were never written");
        std::thread::yield_now();
    }
    pour(writer, rest.to_vec(), 10_000).join().unwrap();
    rig.finish(id);
    let most = rig.disk.most();
    assert!(most > LIMIT * u64::from(KEEP), "nothing was measured");
    assert!(most <= LIMIT * u64::from(KEEP + 1), "{most} bytes on disk");
    let rest = joined(&path, KEEP);
    assert!(
        text.as_bytes().ends_with(&rest) && rest.len() >= 60_000,
        "the kept files are not the end of the stream"
    );
}

/// A line larger than the limit is torn, since it must be, and nothing of it is lost.
#[test]
fn only_a_line_larger_than_the_limit_is_torn() {
    let rig = Rig::new();
    let (id, writer) = rig.attach_to(rig.log("big.log", Some((10_000, 50))));
    let mut text = b"short\n".to_vec();
    text.extend(vec![b'b'; 95_000]);
    text.extend_from_slice(b"\nshort\n");
    pour(writer, text.clone(), 3_001).join().unwrap();
    rig.finish(id);
    assert!(joined(&rig.path("big.log"), 50) == text, "bytes are missing or repeated");
    assert!((0..=50).all(|n| {
        fs::metadata(super::super::rotate::numbered(&rig.path("big.log"), n)).map_or(0, |m| m.len()) <= 10_000
    }));
}

/// With no old files kept the file starts anew at its limit.
#[test]
fn keeping_none_is_possible() {
    let rig = Rig::new();
    let (id, writer) = rig.attach_to(rig.log("none.log", Some((1_000, 0))));
    pour(writer, b"0123456789abcde\n".repeat(1_000), 160).join().unwrap();
    rig.finish(id);
    assert!(rig.read("none.log").len() <= 1_000);
    assert!(!rig.path("none.log.1").exists());
}

/// When the old file cannot be moved the log grows, everything is kept, and it is told once.
/// Seen to fail with the pause left out: the rotation was tried for ever and no byte was written.
#[test]
fn a_rotation_that_fails_loses_nothing() {
    let rig = Rig::new();
    fs::create_dir_all(rig.path("stuck.log.1/occupied")).unwrap();
    let (id, writer) = rig.attach_to(rig.log("stuck.log", Some((1_000, 1))));
    let text = b"0123456789abcde\n".repeat(1_000);
    pour(writer, text.clone(), 160).join().unwrap();
    let told = rig.trouble();
    assert!(told.contains("stuck.log.1") && told.contains("grows beyond its limit"), "{told}");
    rig.capture.finish(id);
    rig.wait(|report| {
        assert!(!matches!(report, Report::Trouble { .. }), "told twice");
        matches!(report, Report::Finished { .. }).then_some(())
    });
    assert!(rig.read("stuck.log") == text);
}

/// Where a file is cut, case by case.
#[test]
fn a_cut_is_at_a_line_end() {
    let dir = tempfile::tempdir().unwrap();
    let at = |content: &str, bytes: &str, limit| {
        let path = dir.path().join("cut.log");
        fs::write(&path, content).unwrap();
        let file = RealDisk.open(&path, LOG_MODE).unwrap();
        cut(bytes.as_bytes(), content.len() as u64, limit, file.as_ref()).unwrap()
    };
    assert_eq!(at("", "ab\ncd\n", 6), Cut::Write(6), "it just fits");
    assert_eq!(at("ab\n", "cd\nef\n", 7), Cut::WriteAndRotate(3), "up to the last line end in reach");
    assert_eq!(at("ab\n", "cdefgh\n", 6), Cut::RotateAt(3), "the file ends at a line end");
    assert_eq!(at("ab\ncd", "efgh\n", 7), Cut::RotateAt(3), "the part of the line moves along");
    assert_eq!(at("abcd", "efgh\n", 7), Cut::WriteAndRotate(3), "the line is larger than the limit");
    assert_eq!(at("ab\ncd\n", "e", 3), Cut::RotateAt(6), "the limit was lowered");
}
