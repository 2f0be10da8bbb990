//! A full disk, and services that shall not wait for it (scorecard R15).

use super::super::WhenFull;
use super::*;

fn dropping(rig: &Rig, name: &str) -> Arc<LogTarget> {
    let target =
        LogTarget { when_full: WhenFull::Drop, indexed: true, ..LogTarget::plain(rig.path(name), None) };
    Arc::new(target)
}

/// Lines go whole, and as many as are told: what stands in the file and what is told make up all that was written, in order.
/// Seen to fail with the chunk that is stuck left untrimmed (a cut line), and with the rest of a dropped line written.
#[test]
fn what_is_dropped_is_whole_lines_and_counted() {
    const LINES: u64 = 60_000;
    let rig = Rig::new();
    let path = rig.path("web.log");
    rig.disk.leave_room(&path, 1_000_003);
    let (id, mut writer) = rig.attach_to(dropping(&rig, "web.log"));
    let marker = "the last line\n";
    // Pieces of an odd length: what is read at once ends within a line.
    let text: Vec<u8> = (0..LINES).flat_map(|n| format!("{n:0>49}\n").into_bytes()).collect();
    for (n, piece) in text.chunks(777).enumerate() {
        writer.write_all(piece).unwrap();
        if n == 2_000 {
            rig.trouble();
        }
    }
    // The disk gets room within a line of which the beginning was dropped.
    writer.write_all(&[b'y'; 600_000]).unwrap();
    let start = std::time::Instant::now();
    // Less than half of the widest pipe stays and waits; by then the beginning of this line is gone.
    while relume_os::pipes::bytes_waiting(&writer).unwrap() > 1 << 19 {
        assert!(start.elapsed() < PATIENCE, "nothing is dropped");
        std::thread::yield_now();
    }
    rig.disk.free();
    rig.resumed();
    writer.write_all(b"rest of it\n").unwrap();
    writer.write_all(marker.as_bytes()).unwrap();
    let (lines, bytes) = rig.wait(|report| {
        let Report::Dropped { lines, bytes, .. } = report else { return None };
        Some((lines, bytes))
    });
    rig.finish(id);
    let text = String::from_utf8(rig.read("web.log")).unwrap();
    let kept: Vec<&str> = text.lines().collect();
    assert_eq!(kept.last(), Some(&marker.trim_end()));
    let numbers: Vec<u64> = kept[..kept.len() - 1]
        .iter()
        .map(|line| {
            assert_eq!(line.len(), 49, "a cut line: {line:?}");
            line.parse().unwrap()
        })
        .collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "repeated or out of order");
    assert_eq!(numbers.len() as u64 + lines, LINES + 1, "the count is exact");
    assert_eq!(bytes, (lines - 1) * 50 + 600_011);
    assert!(lines > 1_000 && numbers[..20_000].iter().copied().eq(0..20_000), "dropped before it had to");
}

/// Little output is not dropped: it waits in the pipe until the disk has room.
#[test]
fn what_fits_into_the_pipe_is_not_dropped() {
    let rig = Rig::new();
    rig.disk.leave_room(&rig.path("web.log"), 3);
    let (id, mut writer) = rig.attach_to(dropping(&rig, "web.log"));
    writer.write_all(b"one\n").unwrap();
    rig.trouble();
    writer.write_all(b"two\n").unwrap();
    std::thread::sleep(super::super::dropping::DROP_TICK * 3);
    rig.disk.free();
    rig.resumed();
    rig.finish(id);
    assert_eq!(rig.read("web.log"), b"one\ntwo\n");
}
