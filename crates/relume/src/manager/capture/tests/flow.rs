//! Bytes through pipes: identical, in order, fair, and without a wake-up too many.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::super::Refused;
use super::*;

/// Binary garbage in writes of odd sizes arrives byte for byte.
#[test]
fn garbage_is_kept_byte_for_byte() {
    let rig = Rig::new();
    let bytes = noise(4_000_037, 7);
    let (id, writer) = rig.attach("noise.log");
    pour(writer, bytes.clone(), 7_919).join().unwrap();
    assert_eq!(rig.finish(id), bytes.len() as u64);
    assert!(rig.read("noise.log") == bytes, "the file differs from what was written");
}

/// Lines of a megabyte, empty lines, NULs, CR LF and escape sequences arrive byte for byte.
#[test]
fn strange_lines_are_kept_byte_for_byte() {
    let rig = Rig::new();
    let mut bytes = vec![b'x'; 1_000_000];
    bytes.extend_from_slice(b"\n\n\r\n\0\0\n\x1b[2J\xff\xfe\n");
    bytes.extend(vec![0; 1_000_000]);
    let (id, writer) = rig.attach("lines.log");
    pour(writer, bytes.clone(), 1_000_000).join().unwrap();
    rig.finish(id);
    assert!(rig.read("lines.log") == bytes, "the file differs from what was written");
}

/// One line a write: all there, and the wake-ups are as many as ticks, not as lines.
/// Seen to fail with TICK = 0: ten times as many.
#[test]
fn small_writes_run_together() {
    const LINES: u64 = 200_000;
    let rig = Rig::new();
    let (id, mut writer) = rig.attach("small.log");
    let mut wanted = Vec::new();
    let start = Instant::now();
    for number in 0..LINES {
        let line = format!("line {number}\n");
        writer.write_all(line.as_bytes()).unwrap();
        wanted.extend_from_slice(line.as_bytes());
    }
    rig.finish(id);
    let ticks = start.elapsed().as_millis() as u64;
    assert!(rig.read("small.log") == wanted);
    let passes = rig.capture.activity().passes;
    assert!(passes < 3 * ticks + 100, "{passes} wake-ups in {ticks} ms for {LINES} lines");
}

/// Whoever asks has all that was written before, also of a pipe that is left alone for a while, and of one that nobody writes to
/// any more; a file that cannot be written keeps nobody waiting.
/// Seen to fail without a turn for the pipes: the file is not there yet.
#[test]
fn what_stands_in_a_pipe_is_taken_in_for_whoever_asks() {
    let rig = Rig::new();
    let ask = |name: &str| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(rig.capture.take_in(&rig.path(name)));
    };
    let (id, mut writer) = rig.attach("web.log");
    let mut wanted = String::new();
    for number in 0..40 {
        let line = format!("line {number}\n");
        writer.write_all(line.as_bytes()).unwrap();
        wanted += &line;
        ask("web.log");
        assert_eq!(String::from_utf8(rig.read("web.log")).unwrap(), wanted);
    }
    rig.disk.leave_room(&rig.path("web.log"), 0);
    writer.write_all(b"more\n").unwrap();
    ask("web.log");
    rig.disk.free();
    rig.finish(id);
    ask("web.log");
    ask("nobody.log");
    assert_eq!(String::from_utf8(rig.read("web.log")).unwrap(), wanted + "more\n");
}

/// A flood next to a quiet service hardly delays its lines: the promise is 100 ms on a quiet machine, which this need not be.
/// Seen to fail with a turn that lasts as long as there is something: the line never came.
#[test]
fn a_flood_does_not_delay_a_quiet_service() {
    let rig = Rig::new();
    let over = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = (0..3)
        .map(|number| {
            let (id, mut writer) = rig.attach_to(rig.log(&format!("flood{number}.log"), Some((1 << 20, 1))));
            let over = Arc::clone(&over);
            let thread = std::thread::spawn(move || {
                let block = vec![b'y'; 65_536];
                while !over.load(Ordering::Relaxed) {
                    writer.write_all(&block).unwrap();
                }
            });
            (id, thread)
        })
        .collect();
    let (quiet, mut writer) = rig.attach("quiet.log");
    let mut worst = Duration::ZERO;
    for number in 1..=50 {
        let start = Instant::now();
        writer.write_all(b"hello\n").unwrap();
        rig.until_size("quiet.log", 6 * number);
        worst = worst.max(start.elapsed());
    }
    over.store(true, Ordering::Relaxed);
    for (id, thread) in floods {
        thread.join().unwrap();
        assert!(rig.finish(id) > 0);
    }
    rig.finish(quiet);
    assert!(worst < Duration::from_secs(10), "a line waited for {worst:?}");
}

/// Two streams into one file: every line that was one write is whole, and in the order of its stream.
#[test]
fn streams_share_a_file() {
    let rig = Rig::new();
    let (one, mut first) = rig.attach("both.log");
    let (two, mut second) = rig.attach("both.log");
    for number in 0..1_000 {
        first.write_all(format!("out {number}\n").as_bytes()).unwrap();
        second.write_all(format!("err {number}\n").as_bytes()).unwrap();
    }
    rig.finish(one);
    rig.finish(two);
    let text = String::from_utf8(rig.read("both.log")).unwrap();
    for kind in ["out", "err"] {
        let numbers: Vec<u32> =
            text.lines().filter_map(|line| line.strip_prefix(kind)?.trim().parse().ok()).collect();
        assert_eq!(numbers, (0..1_000).collect::<Vec<_>>(), "{kind}");
    }
}

/// A file that exists is continued at its end.
#[test]
fn an_old_file_is_continued() {
    let rig = Rig::new();
    fs::write(rig.path("old.log"), "before\n").unwrap();
    let (id, mut writer) = rig.attach("old.log");
    writer.write_all(b"after\n").unwrap();
    rig.finish(id);
    assert_eq!(rig.read("old.log"), b"before\nafter\n");
}

/// The last bytes of a run are kept and the pipe is closed, though a stranger still holds its write end.
/// Seen to fail with `last_bytes` not counted as the end in `turn`: `Finished` never came.
#[test]
fn finish_takes_the_last_bytes_and_drops_strangers() {
    let rig = Rig::new();
    let (id, mut writer) = rig.attach("last.log");
    let mut stranger = writer.try_clone().unwrap();
    writer.write_all(&[b'z'; 65_536]).unwrap();
    drop(writer);
    assert_eq!(rig.finish(id), 65_536);
    assert_eq!(rig.read("last.log").len(), 65_536);
    assert_eq!(stranger.write_all(b"more").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
}

/// What a stranger writes after the run is over is not the run's, and does not keep its stream alive.
/// Seen to fail without the bound of `last_bytes`: 15 bytes.
#[test]
fn finish_takes_only_what_was_there() {
    let rig = Rig::new();
    rig.disk.leave_room(&rig.path("own.log"), 0);
    let (id, writer) = rig.attach("own.log");
    let mut stranger = writer.try_clone().unwrap();
    (&writer).write_all(b"first").unwrap();
    rig.trouble();
    (&writer).write_all(b" last").unwrap();
    rig.capture.finish(id);
    rig.until_obeyed();
    stranger.write_all(b"alien").unwrap();
    rig.disk.free();
    assert_eq!(rig.finished(id), 10);
    assert_eq!(rig.read("own.log"), b"first last");
}

/// A service that closes its output while it lives costs one report and no wake-ups.
/// Seen to fail without `Turn::Over` for a pipe that hung up (`Closed` never came).
#[test]
fn a_closed_output_is_no_busy_loop() {
    let rig = Rig::new();
    let (closed, mut writer) = rig.attach("closed.log");
    writer.write_all(b"bye\n").unwrap();
    drop(writer);
    rig.wait(|report| matches!(report, Report::Closed { id } if id == closed).then_some(()));
    assert_eq!(rig.read("closed.log"), b"bye\n");
    assert_quiet(&rig);
    assert_eq!(rig.finish(closed), 4);
}

/// While nobody writes, nothing wakes up.
/// Seen to fail with a tick that goes on without anybody resting: 184 wake-ups in a fifth of a second.
#[test]
fn idle_means_no_wake_up() {
    let rig = Rig::new();
    let streams: Vec<_> = (0..20).map(|number| rig.attach(&format!("idle{number}.log"))).collect();
    for (number, (_, writer)) in streams.iter().enumerate() {
        let mut writer = writer;
        writer.write_all(b"once\n").unwrap();
        rig.until_size(&format!("idle{number}.log"), 5);
    }
    assert_quiet(&rig);
}

/// Absence takes time to see: a fifth of a second, of which the first wake-ups may still belong to the past.
fn assert_quiet(rig: &Rig) {
    let before = rig.capture.activity().passes;
    assert!(rig.reports.recv_timeout(Duration::from_millis(200)).is_err(), "a report out of nothing");
    let passes = rig.capture.activity().passes - before;
    assert!(passes <= 5, "{passes} wake-ups while nobody writes");
}

/// More files than may be open at once: each gets its own bytes, in order, and no more than allowed are open.
/// Seen to fail with the evicted file not closed: eight were open.
#[test]
fn many_files_few_descriptors() {
    let rig = Rig::with(2, Vec::new());
    let mut streams: Vec<_> = (0..8).map(|number| rig.attach(&format!("many{number}.log"))).collect();
    for round in 1..=20 {
        for (number, (_, writer)) in streams.iter_mut().enumerate() {
            writer.write_all(format!("{number} {round:02}\n").as_bytes()).unwrap();
            rig.until_size(&format!("many{number}.log"), 5 * round);
        }
    }
    let inside =
        |fd: &fs::DirEntry| fs::read_link(fd.path()).is_ok_and(|file| file.starts_with(rig.dir.path()));
    let open = fs::read_dir("/proc/self/fd").unwrap().filter(|fd| inside(fd.as_ref().unwrap())).count();
    assert!(open <= 2, "{open} files are open");
    for (number, (id, _writer)) in streams.iter().enumerate() {
        rig.finish(*id);
        let wanted: String = (1..=20).map(|round| format!("{number} {round:02}\n")).collect();
        assert_eq!(rig.read(&format!("many{number}.log")), wanted.as_bytes());
    }
}

/// After a change of the configuration the next byte goes to the new file.
#[test]
fn a_stream_moves_to_another_file() {
    let rig = Rig::new();
    let (id, mut writer) = rig.attach("from.log");
    writer.write_all(b"first\n").unwrap();
    rig.until_size("from.log", 6);
    rig.capture.retarget(id, rig.log("to.log", None));
    rig.until_obeyed();
    writer.write_all(b"second\n").unwrap();
    rig.finish(id);
    assert_eq!(rig.read("from.log"), b"first\n");
    assert_eq!(rig.read("to.log"), b"second\n");
}

/// An outside logrotate renames and asks to reopen: new bytes go to a new file at the old path.
#[test]
fn reopen_follows_the_path() {
    let rig = Rig::new();
    let (id, mut writer) = rig.attach("re.log");
    writer.write_all(b"first\n").unwrap();
    rig.until_size("re.log", 6);
    fs::rename(rig.path("re.log"), rig.path("re.old")).unwrap();
    rig.capture.reopen_all();
    rig.until_obeyed();
    writer.write_all(b"second\n").unwrap();
    rig.finish(id);
    assert_eq!(rig.read("re.old"), b"first\n");
    assert_eq!(rig.read("re.log"), b"second\n");
}

/// Stopping moves what all pipes hold and reports each stream.
#[test]
fn stop_brings_everything_home() {
    let rig = Rig::new();
    let mut streams: Vec<_> = (0..10).map(|number| rig.attach(&format!("stop{number}.log"))).collect();
    for (_, writer) in &mut streams {
        writer.write_all(&[b'e'; 60_000]).unwrap();
    }
    let Rig { capture, reports, dir, .. } = rig;
    assert!(capture.stop(PATIENCE));
    let finished =
        reports.iter().filter(|report| matches!(report, Report::Finished { bytes: 60_000, .. })).count();
    assert_eq!(finished, 10);
    for number in 0..10 {
        assert_eq!(fs::metadata(dir.path().join(format!("stop{number}.log"))).unwrap().len(), 60_000);
    }
}

/// A second stream of the same name is handed back.
#[test]
fn a_name_is_used_once() {
    let rig = Rig::new();
    let (id, _writer) = rig.attach("twice.log");
    let (pipe, _other) = std::io::pipe().unwrap();
    let (log, who, origin) = (rig.log("twice.log", None), "twice".into(), Origin { run: 1, is_error: false });
    let stream = Stream { id, log, pipe: pipe.into(), who, origin, begins: true };
    assert_eq!(rig.capture.attach(stream), Err(Refused::Duplicate));
}

/// New log files are readable for the group and closed to others.
#[test]
fn log_files_are_not_for_everybody() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::new();
    let (id, mut writer) = rig.attach("mode.log");
    writer.write_all(b"x").unwrap();
    rig.finish(id);
    assert_eq!(fs::metadata(rig.path("mode.log")).unwrap().permissions().mode() & 0o137, 0);
}
