//! Forwarding against receivers that behave and receivers that do not: each is a few lines here.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::net;

use super::*;
use crate::log_files::chain::path_of;

/// How long a test waits for what it expects.
const PATIENCE: Duration = Duration::from_secs(30);

/// A log with a forwarder.
struct Bench {
    dir: tempfile::TempDir,
    said: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, said: Arc::default() }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("web.log")
    }

    fn write(&self, text: &str) {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    /// As the manager rotates, with two old files kept.
    fn rotate(&self) {
        for number in (0..2).rev() {
            let _missing = fs::rename(path_of(&self.log(), number), path_of(&self.log(), number + 1));
        }
    }

    fn start(&self, target: &str) -> Forwarding {
        let config = format!(
            r#"{{"services":[{{"name":"web","command":"true","log":{{"file":"web.log","forward":"{target}"}}}}]}}"#
        );
        fs::write(self.dir.path().join("relume.json"), config).unwrap();
        let load = relume_config::Options {
            current_dir: self.dir.path().to_owned(),
            paths: vec!["relume.json".into()],
            environment: Default::default(),
            overrides: Vec::new(),
            manager_only: false,
            show_secrets: false,
        };
        let (config, _) = relume_config::load(&crate::config_files::Disk, &load).into_result().unwrap();
        let places = Places {
            id: "x".into(),
            state_dir: self.dir.path().join("state"),
            runtime_dir: self.dir.path().join("run"),
            log_dir: self.dir.path().to_owned(),
            log_file: self.dir.path().join("relume.log"),
            state_file: self.dir.path().join("state.db"),
            status_file: self.dir.path().join("status.json"),
            pid_dir: self.dir.path().join("pids"),
            moved: None,
        };
        let said = Arc::clone(&self.said);
        let say: Say = Arc::new(move |_, text| said.lock().unwrap().push(text));
        Forwarding::start_with(plan_of(&Units::new(config), &places.log_file), &places, say).unwrap()
    }

    fn until_said(&self, what: &str) -> String {
        eventually(what, || self.said.lock().unwrap().iter().find(|text| text.contains(what)).cloned())
    }
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The next connection; its reads do not wait for ever either.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let stream = eventually("a connection", || listener.accept().ok()).0;
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn numbers(from: usize, to: usize) -> String {
    (from..to).map(|number| format!("line {number}\n")).collect()
}

/// Reads messages with octet counting until the connection ends; gives up after `most`.
fn read_syslog(stream: TcpStream, most: usize, out: &Sender<String>) {
    let mut reader = BufReader::new(stream);
    for _ in 0..most {
        let mut length = Vec::new();
        if reader.read_until(b' ', &mut length).unwrap_or(0) == 0 {
            return;
        }
        let length: usize = String::from_utf8(length).unwrap().trim().parse().unwrap();
        let mut message = vec![0; length];
        if reader.read_exact(&mut message).is_err() {
            return;
        }
        let message = String::from_utf8(message).unwrap();
        let _gone = out.send(message.rsplit_once(" - ").unwrap().1.to_owned());
    }
}

/// Every number at least once, and each one's first time in order.
fn assert_complete(heard: &[String], to: usize) {
    let mut next = 0;
    for line in heard {
        let number: usize = line.strip_prefix("line ").unwrap().parse().unwrap();
        assert!(number <= next, "after {next} came {number}");
        next = next.max(number + 1);
    }
    assert_eq!(next, to);
}

/// Seen to fail when a batch counted as received once it was written: what stood in the socket was lost.
#[test]
fn a_receiver_that_dies_and_returns_gets_every_line() {
    let bench = Bench::new();
    bench.write("old\n");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let forwarding = bench.start(&format!("syslog+tcp://127.0.0.1:{port}"));
    let (out, heard) = channel();
    let receiver = std::thread::spawn(move || {
        // Three that die after a part of a batch, with the rest unread, then one that stays.
        for most in [10, 100, 700, usize::MAX] {
            let stream = accept(&listener);
            read_syslog(stream, most, &out);
        }
    });
    bench.write(&numbers(0, 1000));
    let mut all = Vec::new();
    while all.last().is_none_or(|line| line != "line 999") {
        all.push(heard.recv_timeout(PATIENCE).unwrap());
    }
    assert_complete(&all, 1000);
    forwarding.finish(PATIENCE);
    receiver.join().unwrap();
}

#[test]
fn what_was_written_while_nobody_forwarded_is_sent_by_the_next_one() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("syslog+tcp://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let (out, heard) = channel();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            read_syslog(stream, usize::MAX, &out);
        }
    });
    let first = bench.start(&target);
    bench.write(&numbers(0, 10));
    let mut all: Vec<String> = (0..10).map(|_| heard.recv_timeout(PATIENCE).unwrap()).collect();
    first.finish(PATIENCE);
    bench.write(&numbers(10, 20));
    bench.rotate();
    bench.write(&numbers(20, 30));
    let second = bench.start(&target);
    while all.last().is_none_or(|line| line != "line 29") {
        all.push(heard.recv_timeout(PATIENCE).unwrap());
    }
    assert_complete(&all, 30);
    assert!(all.len() < 45, "the cursor was kept: {}", all.len());
    second.finish(PATIENCE);
}

/// Seen to fail when the files were not looked at while the receiver was away: the gap was not told.
#[test]
fn what_rotation_removes_while_the_receiver_is_away_is_announced_with_its_size() {
    let bench = Bench::new();
    // Bound and not listened to: it refuses, and is nobody else's.
    let away = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None).unwrap();
    net::bind(&away, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = SocketAddrV4::try_from(net::getsockname(&away).unwrap()).unwrap().port();
    let forwarding = bench.start(&format!("syslog+tcp://127.0.0.1:{port}"));
    let mut written = 0;
    for round in 0..6 {
        let text = numbers(round * 10, round * 10 + 10);
        written += text.len();
        bench.write(&text);
        bench.until_said("does not take logs");
        // Longer than between two looks, so that each file was seen.
        std::thread::sleep(Duration::from_millis(2500));
        bench.rotate();
    }
    net::listen(&away, 10).unwrap();
    let listener = TcpListener::from(away);
    let (out, heard) = channel();
    std::thread::spawn(move || read_syslog(accept(&listener), usize::MAX, &out));
    // Every byte either arrives or is told to be missing. What was open when it was removed can still be read.
    let (mut came, mut missing) = (0, 0);
    loop {
        let line = heard.recv_timeout(PATIENCE).unwrap();
        match line
            .strip_prefix("relume: ")
            .and_then(|rest| rest.split_once(" bytes of the log of web were rotated"))
        {
            Some((bytes, _)) => missing += bytes.parse::<usize>().unwrap(),
            None => came += line.len() + 1,
        }
        if line == "line 59" {
            break;
        }
    }
    assert_eq!(came + missing, written, "{came} came, {missing} were told to be missing");
    assert!(missing > 0);
    bench.until_said("rotated away");
    forwarding.finish(PATIENCE);
}

#[test]
fn datagrams_carry_a_message_each() {
    let bench = Bench::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let forwarding = bench.start(&format!("syslog+udp://127.0.0.1:{port}?facility=local0"));
    bench.write("one\ntwo\n");
    let mut block = [0; 2048];
    for wanted in ["one", "two"] {
        let read = socket.recv(&mut block).unwrap();
        let text = std::str::from_utf8(&block[..read]).unwrap();
        assert!(
            text.starts_with("<134>1 20") && text.ends_with(&format!(" web - stdout - {wanted}")),
            "{text}"
        );
    }
    forwarding.finish(PATIENCE);
}

#[test]
fn a_local_socket_is_spoken_to_in_the_protocol_that_was_asked_for() {
    let bench = Bench::new();
    let path = bench.dir.path().join("socket");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut block = [0; 2048];
    let forwarding = bench.start(&format!("journald:{}", path.display()));
    bench.write("to the journal\n");
    let read = socket.recv(&mut block).unwrap();
    let text = std::str::from_utf8(&block[..read]).unwrap();
    assert!(text.contains("\nRELUME_SERVICE=web\n") && text.ends_with("MESSAGE=to the journal\n"), "{text}");
    forwarding.finish(PATIENCE);
    let forwarding = bench.start(&format!("syslog:{}", path.display()));
    bench.write("to syslog\n");
    let read = socket.recv(&mut block).unwrap();
    assert!(block[..read].starts_with(b"<30>") && block[..read].ends_with(b" web: to syslog"));
    forwarding.finish(PATIENCE);
}

/// Seen to fail when an acknowledgement was not waited for: the lines of the first connection were lost.
#[test]
fn a_forward_receiver_that_does_not_acknowledge_gets_the_lines_again() {
    #[derive(serde::Deserialize)]
    struct Options {
        chunk: String,
        size: usize,
    }
    type Message = (
        String,
        Vec<(serde::de::IgnoredAny, std::collections::BTreeMap<String, serde_json::Value>)>,
        Options,
    );
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let forwarding = bench.start(&format!("fluent://127.0.0.1:{port}"));
    bench.write("a\nb\n");
    let read = |stream: &TcpStream| rmp_serde::from_read::<_, Message>(stream).unwrap();
    let first = accept(&listener);
    let (tag, entries, options) = read(&first);
    assert_eq!((tag.as_str(), entries.len(), options.size), ("relume.web", 2, 2));
    drop(first);
    let mut second = accept(&listener);
    let (_, entries, options) = read(&second);
    let lines: Vec<&str> = entries.iter().map(|(_, fields)| fields["log"].as_str().unwrap()).collect();
    assert_eq!(lines, ["a", "b"]);
    let ack = std::collections::BTreeMap::from([("ack", options.chunk)]);
    second.write_all(&rmp_serde::to_vec(&ack).unwrap()).unwrap();
    // Acknowledged: what comes next is new.
    bench.write("c\n");
    let (_, entries, _) = read(&second);
    assert_eq!(entries[0].1["log"], "c");
    drop(second);
    forwarding.finish(Duration::from_millis(100));
}

/// One request; its body, after it was answered with this status.
fn answer(listener: &TcpListener, status: &str) -> serde_json::Value {
    let stream = accept(listener);
    let mut reader = BufReader::new(&stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (&stream).write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}").as_bytes()).unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn a_collector_that_is_overloaded_gets_the_lines_again_and_one_that_refuses_them_does_not() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let forwarding = bench.start(&format!("otlp+http://127.0.0.1:{port}"));
    let lines = |body: &serde_json::Value| -> Vec<String> {
        let records = body["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap().clone();
        records.iter().map(|record| record["body"]["stringValue"].as_str().unwrap().to_owned()).collect()
    };
    bench.write("a\n");
    let body = answer(&listener, "503 Busy");
    assert_eq!(body["resourceLogs"][0]["resource"]["attributes"][0]["value"]["stringValue"], "web");
    assert_eq!(lines(&body), ["a"]);
    assert_eq!(lines(&answer(&listener, "200 OK")), ["a"]);
    bench.until_said("takes logs again");
    bench.write("b\n");
    assert_eq!(lines(&answer(&listener, "400 Bad")), ["b"]);
    bench.until_said("refuses 1 lines for good: HTTP 400");
    bench.write("c\n");
    assert_eq!(lines(&answer(&listener, "200 OK")), ["c"]);
    forwarding.finish(PATIENCE);
}

/// A receiver that reads nothing costs nobody anything: the forwarder ends when it is asked to.
#[test]
fn a_receiver_that_takes_nothing_holds_nobody_up() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let forwarding = bench.start(&format!("syslog+tcp://127.0.0.1:{port}"));
    bench.write(&"x".repeat(1000).repeat(16_000));
    bench.write("\n");
    let _held = accept(&listener);
    let before = Instant::now();
    forwarding.finish(Duration::from_millis(300));
    assert!(before.elapsed() < Duration::from_secs(20));
}
