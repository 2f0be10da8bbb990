//! What services print, under what disks and services do to it: full, replaced, rotated, strange, flooded.
//!
//! Small by default; the figures at full size are
//! `RELUME_FULL_SECONDS=60 RELUME_ROTATED_LINES=20000000 RELUME_LONG_LINE=1000000000 RELUME_QUIET=99 cargo test
//! --release -p relume --test real captured -- --nocapture`.

use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Builder, Process, Relume, eventually, fixture, is_root, skip};

fn figure(name: &str, small: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(small)
}

/// The numbers of whole lines `NAME SEQ …`; what is not one is a torn line.
fn numbers(text: &[u8], name: &str) -> Vec<u64> {
    let text = std::str::from_utf8(text).expect("only what was printed");
    assert!(text.is_empty() || text.ends_with('\n'), "{name} ends within a line");
    let number = |line: &str| {
        let word = line.strip_prefix(name).and_then(|rest| rest.split_whitespace().next());
        word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("a torn line of {name}: {line:?}"))
    };
    text.lines().map(number).collect()
}

/// Counts the lines that `relume.log` says were dropped of a service.
fn dropped(relume: &Relume, name: &str) -> u64 {
    let told = std::fs::read_to_string(relume.state("relume.log")).unwrap();
    let said = format!(" lines of {name} dropped");
    let count = |line: &str| line.split_once(&said)?.0.rsplit(' ').next()?.parse::<u64>().ok();
    told.lines().filter_map(count).sum()
}

/// The file system of the logs is full for a while. A service that may wait loses nothing; of one that may not, relume
/// says exactly how many lines went, and cuts none; relume itself hardly works meanwhile, and logging is back within a second.
#[test]
fn a_full_disk_loses_nothing_that_is_not_announced() {
    let can = std::process::Command::new("unshare").args(["-m", "true"]).status();
    if !is_root() || !can.is_ok_and(|status| status.success()) {
        return skip("a small file system needs root and a mount namespace");
    }
    let full = Duration::from_secs(figure("RELUME_FULL_SECONDS", 3));
    let builder = Builder::new();
    std::fs::create_dir(builder.home().join("small")).unwrap();
    let config = json!({
        "manager": {"log_dir": builder.path("small")},
        "defaults": {"log": {"rotate": "off"}},
        "services": {
            "waits": {"command": [fixture("prints-numbers"), "waits", "1"]},
            "drops": {"command": ["/bin/sh", "-c", "i=0; while :; do i=$((i+1)); echo drops $i; done"],
                "log": {"when_full": "drop"}},
        },
    });
    let script = "mount -t tmpfs -o size=400m tmpfs small && exec \"$@\"";
    let relume = builder.config(&config).through(&["unshare", "-m", "/bin/sh", "-c", script, "sh"]).up();
    let root = format!("/proc/{}/root", relume.status().pid("waits"));
    let inside = |name: &str| PathBuf::from(format!("{root}{}", relume.path("small").join(name).display()));
    let size = |name: &str| std::fs::metadata(inside(name)).map_or(0, |meta| meta.len());
    eventually("both print", || (size("waits.log") > 0 && size("drops.log") > 0).then_some(()));
    fill(&inside("filler"));
    eventually("it is noticed", || relume.told().contains("drops.log").then_some(()));
    let manager = relume.manager();
    let (before, began) = (manager.cpu_ticks(), Instant::now());
    std::thread::sleep(full);
    let busy = (manager.cpu_ticks() - before) as f64 / 100.0 / began.elapsed().as_secs_f64();
    // Reading what is to be dropped is work that the service makes; waiting is none. A short look sees little of it.
    let most = if full >= Duration::from_secs(30) { 0.05 } else { 0.25 };
    assert!(busy < most, "the manager used {:.1} % of a core while the disk was full", busy * 100.0);
    let stuck = size("waits.log");
    std::fs::remove_file(inside("filler")).unwrap();
    let freed = Instant::now();
    eventually("it goes on", || (size("waits.log") > stuck).then_some(()));
    let back = freed.elapsed();
    // A second is what is promised; the machine that runs all tests may be ten times as slow.
    let soon = Duration::from_secs(if full >= Duration::from_secs(30) { 1 } else { 10 });
    assert!(back < soon, "logging was back after {back:?}");
    eventually("what was dropped is told", || (dropped(&relume, "drops") > 0).then_some(()));
    eprintln!("full for {full:?}: CPU {:.2} %, back after {back:?}", busy * 100.0);
    // The sum holds when nothing is on its way: relume has ended, and all of it is in the log or told. Whoever has the folder
    // open keeps the file system.
    let small = std::fs::File::open(inside("")).unwrap();
    relume.ok(&["stop", "waits", "drops"]);
    relume.down();
    let whole = |name: &str| {
        let path = format!("/proc/self/fd/{}/{name}.log", small.as_raw_fd());
        numbers(&std::fs::read(path).unwrap(), name)
    };
    let waits = whole("waits");
    assert_eq!(waits, (1..=waits.len() as u64).collect::<Vec<_>>());
    let drops = whole("drops");
    assert!(drops.is_sorted_by(|a, b| a < b), "in order and once");
    let missing = drops.last().unwrap() - drops.len() as u64;
    assert_eq!(dropped(&relume, "drops"), missing, "announced and missing lines");
}

/// Takes all room that is left.
pub(crate) fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    for block in [1 << 20, 4096] {
        let block = vec![0; block];
        while file.write_all(&block).is_ok() {}
    }
}

/// Something else stands where a log was: the others do not notice, nobody is busy with it, relume says so, and the log is
/// back when the place is free.
#[test]
fn what_stands_in_the_place_of_a_log_disturbs_nobody() {
    let relume = Relume::with(&json!({"services": {
        "web": {"command": [fixture("prints-numbers"), "web", "5"]},
        "other": {"command": [fixture("prints-numbers"), "other", "5"]},
    }}));
    let log = relume.path("logs/web.log");
    let size = |name: &str| std::fs::metadata(relume.path(name)).map_or(0, |meta| meta.len());
    let grows = |name: &str, what: &str| {
        let before = size(name);
        eventually(what, || (size(name) != before).then_some(()));
    };
    grows("logs/web.log", "it prints");
    std::fs::remove_file(&log).unwrap();
    eventually("a removed log is made anew", || (size("logs/web.log") > 0).then_some(()));
    type Make = fn(&Path);
    // By a rename where there is one: relume makes a log that was only removed anew at once.
    let planted = relume.path("planted");
    let makes: [(&str, Make); 3] = [
        ("a directory", |path| std::fs::create_dir(path).unwrap()),
        ("a link", |path| std::os::unix::fs::symlink("/dev/null", path).unwrap()),
        ("a FIFO", |path| {
            let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
            assert!(made.success() && std::fs::metadata(path).unwrap().file_type().is_fifo());
        }),
    ];
    for (number, (what, make)) in makes.iter().enumerate() {
        make(&planted);
        eventually("it stands there", || {
            // No directory is renamed over a file.
            let _gone = planted.is_dir().then(|| std::fs::remove_file(&log));
            std::fs::rename(&planted, &log).ok()
        });
        let told = || relume.told().matches("the output of web waits in its pipe").count();
        eventually(what, || (told() > number).then_some(()));
        grows("logs/other.log", "the other one goes on");
        if std::fs::symlink_metadata(&log).unwrap().is_dir() {
            std::fs::remove_dir(&log).unwrap();
        } else {
            std::fs::remove_file(&log).unwrap();
        }
        eventually("it is back", || (size("logs/web.log") > 0).then_some(()));
    }
    // relume may make a file in it anew while it is being emptied.
    eventually("it is removed", || std::fs::remove_dir_all(relume.path("logs")).ok());
    eventually("a removed directory is made anew", || {
        (size("logs/web.log") > 0 && size("logs/other.log") > 0).then_some(())
    });
    assert!(relume.status().services().iter().all(|service| service["restarts"] == 0));
    relume.down();
}

/// A flood through rotations, with and without compression: what is kept is the end of it, in order and once, and all files
/// with their indexes never take more than was promised.
#[test]
fn a_flood_rotates_within_its_disk() {
    const LIMIT: u64 = 1_000_000;
    let lines = figure("RELUME_ROTATED_LINES", 600_000).to_string();
    let service = |name: &str, compress: &str| {
        let rotate = json!({"size": LIMIT, "keep": 3, "compress": compress});
        json!({"command": [fixture("floods"), name, lines, "100"], "log": {"rotate": rotate}})
    };
    let relume = Relume::with(&json!({"services": {
        "plain": service("plain", "off"), "packed": service("packed", "gzip"), "small": service("small", "zstd"),
    }}));
    let last = |name: &str| {
        let text = std::fs::read(relume.path(&format!("logs/{name}.log"))).unwrap_or_default();
        text.windows(lines.len()).rev().take(300).any(|part| part == lines.as_bytes())
    };
    let (mut most, mut samples) = (0, 0u64);
    loop {
        let over = ["plain", "packed", "small"].iter().all(|name| last(name));
        for name in ["plain", "packed", "small"] {
            let taken = on_disk(&relume.path("logs"), &format!("{name}.log"));
            assert!(taken <= 4 * LIMIT, "{name} took {taken} bytes");
            (most, samples) = (taken.max(most), samples + 1);
        }
        if over {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("{samples} samples, at most {most} of {} bytes", 4 * LIMIT);
    relume.down();
    for name in ["plain", "packed", "small"] {
        let kept: Vec<u8> = (0..=3).rev().flat_map(|number| old(&relume, name, number)).collect();
        let numbers = numbers(&kept, name);
        let last: u64 = lines.parse().unwrap();
        assert!(numbers.len() > 20_000, "{name}: only {} lines are left", numbers.len());
        assert_eq!(numbers, (last + 1 - numbers.len() as u64..=last).collect::<Vec<_>>(), "{name}");
    }
}

/// Bytes of all files of a log and of their indexes.
fn on_disk(dir: &Path, name: &str) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let mut seen = std::collections::HashMap::new();
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().trim_start_matches('.').starts_with(name)
            && let Ok(meta) = entry.metadata()
        {
            // One that is renamed during the look is seen under both names.
            seen.insert(std::os::unix::fs::MetadataExt::ino(&meta), meta.len());
        }
    }
    seen.values().sum()
}

fn old(relume: &Relume, name: &str, number: u32) -> Vec<u8> {
    let path = |ending: &str| {
        let number = if number == 0 { String::new() } else { format!(".{number}") };
        relume.path(&format!("logs/{name}.log{number}{ending}"))
    };
    let unpack = |program: &str, path: PathBuf| {
        let out = std::process::Command::new(program).arg("-dc").arg(path).output();
        out.ok().filter(|out| out.status.success()).map(|out| out.stdout)
    };
    std::fs::read(path(""))
        .ok()
        .or_else(|| path(".gz").exists().then(|| unpack("gzip", path(".gz")))?)
        .or_else(|| path(".zst").exists().then(|| unpack("zstd", path(".zst")))?)
        .unwrap_or_default()
}

/// Lines without an end, NULs, escapes and bytes that are no text are stored as they are, with little memory, and `logs --json`
/// makes valid JSON of them.
#[test]
fn strange_output_is_stored_byte_for_byte() {
    let long = figure("RELUME_LONG_LINE", 20_000_000);
    let script = "printf 'a\\000b\\377\\376\\r\\n\\n\\033[2J\\n'; head -c 1000000 /dev/zero | tr '\\0' m; echo; \
                  head -c $LONG /dev/zero | tr '\\0' y; exec sleep 1000";
    let relume = Relume::with(&json!({"services": {
        "odd": {"command": ["/bin/sh", "-c", script], "environment": {"LONG": long.to_string()}, "log": {"rotate": "off"}},
    }}));
    let head = b"a\0b\xff\xfe\r\n\n\x1b[2J\n";
    let whole = head.len() as u64 + 1_000_001 + long;
    let log = relume.path("logs/odd.log");
    eventually("all is there", || {
        std::fs::metadata(&log).is_ok_and(|meta| meta.len() == whole).then_some(())
    });
    let memory = anonymous_kib(&relume.manager());
    eprintln!("{memory} KiB of private memory after {long} bytes without a line end");
    assert!(memory < 64 * 1024, "{memory} KiB");
    let mut file = std::io::BufReader::with_capacity(1 << 20, std::fs::File::open(&log).unwrap());
    let mut at = 0u64;
    loop {
        let block = std::io::BufRead::fill_buf(&mut file).unwrap();
        let length = block.len();
        if length == 0 {
            break;
        }
        for (n, byte) in block.iter().enumerate() {
            let place = at + n as u64;
            let wanted = match usize::try_from(place).ok().and_then(|place| head.get(place)) {
                Some(byte) => *byte,
                None if place < head.len() as u64 + 1_000_000 => b'm',
                None if place == head.len() as u64 + 1_000_000 => b'\n',
                None => b'y',
            };
            assert!(*byte == wanted, "byte {place}");
        }
        at += length as u64;
        std::io::BufRead::consume(&mut file, length);
    }
    let shown = relume.run(&["logs", "odd", "--json", "-n", "4"]);
    let objects: Vec<Value> = String::from_utf8(shown.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(objects[0]["line"], "", "the second line is empty");
    assert_eq!(objects[1]["line"], "\u{1b}[2J");
    relume.down();
}

fn anonymous_kib(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// One service floods, many others print, readers stand still: what others print is in their logs soon, commands are
/// answered, and a reader takes little memory. The figures (scorecard R19) are of a hundred services and optimised code; a
/// debug build beside other tests is asked for less.
#[test]
fn a_flood_delays_nobody() {
    let quiet = figure("RELUME_QUIET", 12);
    let is_figure = quiet > 50;
    let mut services = serde_json::Map::new();
    let rotate = json!({"size": "20MB", "keep": 1, "compress": "off"});
    services.insert("flood".into(), json!({"command": ["/usr/bin/yes"], "log": {"rotate": rotate}}));
    for number in 0..quiet {
        let command = [fixture("prints-numbers"), "quiet".into(), "100".into(), "--clock".into()];
        let service = json!({"command": command, "log": {"format": "timestamp"}});
        services.insert(format!("quiet{number}"), service);
    }
    let relume = Relume::with(&json!({ "services": services }));
    relume.wait_until("all run", |status| {
        status.services().iter().all(|service| service["state"] == "running")
    });
    let before = anonymous_kib(&relume.manager());
    // Every other one reads the files, and every other one what relume sends.
    let readers: Vec<_> = (0..=quiet)
        .map(|number| {
            let words: &[&str] = if number % 2 == 0 { &["logs", "-f"] } else { &["events", "-f", "--json"] };
            let mut command = relume.command(words);
            let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
            Process::of(child.id()).inspect(|process| process.signal(Signal::STOP));
            child
        })
        .collect();
    let mut asked = Vec::new();
    let until = Instant::now() + Duration::from_secs(if is_figure { 20 } else { 3 });
    while Instant::now() < until {
        let start = Instant::now();
        relume.status();
        asked.push(start.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    let memory = anonymous_kib(&relume.manager()).saturating_sub(before);
    for mut child in readers {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    relume.down();
    let mut delays: Vec<f64> =
        (0..quiet).flat_map(|number| relume.lines(&format!("quiet{number}"))).map(delay).collect();
    delays.sort_by(f64::total_cmp);
    asked.sort();
    let p99 = delays[delays.len() * 99 / 100];
    let answered = asked[asked.len() * 99 / 100];
    eprintln!(
        "{} lines: p50 {:.4} s, p99 {p99:.4} s; `status` with its start: p50 {:?}, p99 {answered:?}; \
         {memory} KiB more for {} readers",
        delays.len(),
        delays[delays.len() / 2],
        asked[asked.len() / 2],
        quiet + 1
    );
    let (latest, slowest) = if is_figure { (0.1, 50) } else { (5.0, 10_000) };
    assert!(delays.len() as u64 > quiet * 10, "only {} lines", delays.len());
    assert!(p99 < latest && answered < Duration::from_millis(slowest), "p99 {p99} s, {answered:?}");
    assert!(memory < (quiet + 1) * 1024, "{memory} KiB for {} readers", quiet + 1);
}

/// Seconds from when the service asked for the time to when its line was taken.
fn delay(line: String) -> f64 {
    let (taken, said) = line.split_once(' ').unwrap();
    let taken: jiff::Timestamp = taken.parse().unwrap();
    taken.as_nanosecond() as f64 / 1e9 - said.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
}

/// Each life that ended is marked in the log's index, whatever the order in which relume hears of its end and of the end of
/// its output; also that of a life which ended while no manager was there.
#[test]
fn every_end_of_a_run_is_marked() {
    let relume = Relume::with(&json!({"services": {
        "crashes": {"command": ["/bin/sh", "-c", "echo life; exit 3"], "retry_delay": "10ms", "backoff": "off",
            "max_retries": 4, "when_exhausted": "give_up"},
        "falls": {"command": ["/bin/sh", "-c", "echo life; exec sleep 1000"], "retry_delay": "10ms"},
    }}));
    relume.wait_state("crashes", "max_restarts");
    let events = |name: &str, event: &str| {
        let shown = relume.ok(&["logs", "--json", "--markers", "-n", "1000", name]);
        let objects = shown.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        objects.filter(|object| object["event"] == event).count()
    };
    eventually("five beginnings and five ends", || {
        (events("crashes", "started") == 5 && events("crashes", "exited") == 5).then_some(())
    });
    let falls = Process::of(relume.wait_state("falls", "running").pid("falls")).unwrap();
    let manager = relume.manager();
    manager.signal(Signal::STOP);
    falls.signal(Signal::KILL);
    manager.signal(Signal::KILL);
    eventually("its end is marked by the next manager", || (events("falls", "killed") == 1).then_some(()));
    let again = relume.manager();
    again.signal(Signal::KILL);
    eventually("the next one answers", || {
        relume.try_status().filter(|status| status.manager()["pid"] != again.pid)
    });
    assert_eq!(events("crashes", "exited"), 5, "and once");
    relume.down();
}

/// A log that holds times or objects shows each line's own time once, and what the service wrote.
#[test]
fn lines_of_other_forms_are_shown_with_one_time() {
    let service = |format: &str| {
        json!({"command": ["/bin/sh", "-c", "echo \"say \\\"hi\\\"\"; exec sleep 1000"],
        "log": {"format": format}})
    };
    let relume =
        Relume::with(&json!({"services": {"stamped": service("timestamp"), "object": service("json")}}));
    for name in ["stamped", "object"] {
        eventually("it has printed", || (!relume.lines(name).is_empty()).then_some(()));
        let shown = relume.ok(&["logs", "--json", name]);
        let object: Value = serde_json::from_str(shown.trim()).unwrap();
        assert_eq!(object["line"], "say \"hi\"", "{name}");
        let stored = &relume.lines(name)[0];
        assert!(
            stored.contains(object["at"].as_str().unwrap()),
            "{name}: {stored} has the time {}",
            object["at"]
        );
        let stamped = relume.ok(&["logs", "-t", name]);
        assert!(stamped.trim_end().ends_with(" say \"hi\""), "{stamped}");
        assert_eq!(stamped.matches('T').count(), 1, "one time: {stamped}");
        assert_eq!(relume.ok(&["logs", name]).trim_end(), stored, "without -t, what the file holds");
    }
    relume.down();
}

/// Where stderr has a file of its own, beginnings and ends are shown once, and so many lines of a service are of both files.
/// Shown to fail with the marks of both files, and with each file counted for itself.
#[test]
fn output_and_errors_in_two_files_are_one_log() {
    let script = "for i in 1 2 3 4 5; do echo out $i; sleep 0.12; echo err $i >&2; sleep 0.12; done";
    let relume = Relume::with(&json!({"services": {"two": {"command": ["/bin/sh", "-c", script],
        "type": "oneshot", "log": {"stderr": "separate"}}}}));
    relume.wait_state("two", "completed");
    let shown = |words: &[&str]| {
        let shown = relume.ok(&[&["logs", "two"], words].concat());
        shown.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    eventually("all of it is there", || (shown(&["-n", "all"]).len() == 10).then_some(()));
    assert_eq!(shown(&["-n", "3"]), ["err 4", "out 5", "err 5"]);
    eventually("its end is marked", || {
        let marks = shown(&["--markers", "-n", "all"])
            .into_iter()
            .filter(|line| line.starts_with("── ") || line.starts_with("-- "));
        (marks.count() == 2).then_some(())
    });
    relume.down();
}

/// Whoever follows all logs sees services that are added meanwhile, and not what was in an old log of theirs; `up --follow`
/// too. Seen to fail with the old log of the new one read from its beginning.
#[test]
fn who_follows_sees_services_that_come_later() {
    let service =
        |name: &str| json!({"command": ["/bin/sh", "-c", format!("echo words of {name}; exec sleep 1000")]});
    let one = json!({"services": {"web": service("web")}});
    let two = json!({"services": {"web": service("web"), "late": service("late")}});
    let builder = Builder::new();
    std::fs::create_dir(builder.home().join("logs")).unwrap();
    std::fs::write(builder.home().join("logs/late.log"), "from another life\n").unwrap();
    let relume = builder.config(&one).arg("--follow").up();
    eventually("it has printed", || (!relume.lines("web").is_empty()).then_some(()));
    let shown = relume.path("followed");
    let mut command = relume.command(&["logs", "-f"]);
    let mut following = command.stdout(std::fs::File::create(&shown).unwrap()).spawn().unwrap();
    let sees =
        |path: &Path, words: &str| std::fs::read_to_string(path).is_ok_and(|text| text.contains(words));
    eventually("it follows", || sees(&shown, "words of web").then_some(()));
    std::fs::write(relume.path("relume.json"), two.to_string()).unwrap();
    relume.ok(&["apply"]);
    eventually("it sees the new one", || sees(&shown, "late | words of late").then_some(()));
    eventually("up --follow sees it too", || relume.said().contains("late | words of late").then_some(()));
    assert!(!sees(&shown, "another life"), "{}", std::fs::read_to_string(&shown).unwrap());
    following.kill().unwrap();
    following.wait().unwrap();
    relume.down();
}
