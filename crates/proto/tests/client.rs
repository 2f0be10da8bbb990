//! The client against a manager that is played by a few lines: what it sends, what it makes of answers, and
//! how it fails.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed, here and now")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use relume_proto::{
    Client, ErrorKind, EventRecord, OperationRequest, Outcome, State, StatusReport, Targets, Verb,
    VersionReport,
};

struct Request {
    line: String,
    body: String,
    stream: UnixStream,
}

/// A manager that hands each request to `answer`, one connection after the other.
struct Played {
    dir: tempfile::TempDir,
}

impl Played {
    fn new(mut answer: impl FnMut(Request) + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(request) = read_request(stream) else { continue };
                answer(request);
            }
        });
        Self { dir }
    }

    fn client(&self) -> Client {
        Client::new(self.dir.path().join("control.sock")).unwrap()
    }
}

fn read_request(stream: UnixStream) -> Option<Request> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { line: line.trim().to_owned(), body: String::from_utf8(body).ok()?, stream })
}

impl Request {
    fn answer(mut self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        // A client that has left early is part of some tests.
        let _ = self.stream.write_all(text.as_bytes());
    }

    fn json(self, status: &str, body: &str) {
        self.answer(status, "relume-api: 1\r\n", body);
    }
}

#[test]
fn a_status_is_asked_for_by_name_and_understood() {
    let (asked, lines) = mpsc::channel();
    let manager = Played::new(move |request| {
        asked.send(request.line.clone()).unwrap();
        request.json(
            "200 OK",
            r#"{"manager": {"pid": 7, "state": "hibernating", "new": {}}, "services": [{"name": "web", "state": "levitating", "pid": null}]}"#,
        );
    });
    let report = manager.client().status(&["web".into(), "a b".into()]).unwrap();
    assert_eq!(lines.recv().unwrap(), "GET /v1/status?names=web,a%20b HTTP/1.1");
    assert_eq!(report.manager.pid, 7);
    assert_eq!(report.services[0].state, State::Other("levitating".into()), "a newer word is kept");
    let again: StatusReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(again, report);
}

#[test]
fn an_operation_is_sent_as_documented_and_events_are_shown_meanwhile() {
    let (asked, bodies) = mpsc::channel();
    let (saw, seen_by_client) = mpsc::channel();
    let mut waiting: Option<UnixStream> = None;
    let manager = Played::new(move |mut request| {
        if request.line.starts_with("GET /v1/events ") {
            let head = "HTTP/1.1 200 OK\r\nrelume-api: 1\r\ntransfer-encoding: chunked\r\n\r\n";
            request.stream.write_all(head.as_bytes()).unwrap();
            waiting = Some(request.stream);
            return;
        }
        asked.send(request.body.clone()).unwrap();
        let event = "{\"seq\":1,\"service\":\"web\",\"event\":\"state\",\"to\":\"starting\"}\n";
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        waiting.as_mut().unwrap().write_all(chunk.as_bytes()).unwrap();
        // The answer comes when the event was seen: else it might overtake it.
        seen_by_client.recv_timeout(Duration::from_secs(10)).expect("the client shows events while it waits");
        request.json(
            "200 OK",
            r#"{"results": [{"service": "web", "outcome": "done", "state": "running", "pid": 9}]}"#,
        );
    });
    let mut seen = Vec::new();
    let request = OperationRequest {
        verb: Verb::Start,
        targets: Targets::Names(vec!["web".into()]),
        with_dependents: false,
        wait_ms: Some(500),
        key: Some(7),
    };
    let mut watcher = |event: EventRecord| {
        seen.push(event);
        saw.send(()).unwrap();
    };
    let report = manager.client().operate(&request, Some(&mut watcher)).unwrap();
    assert_eq!(
        bodies.recv().unwrap(),
        r#"{"verb":"start","targets":{"names":["web"]},"with_dependents":false,"wait_ms":500,"key":7}"#
    );
    assert_eq!((report.results[0].outcome.clone(), report.results[0].pid), (Outcome::Done, Some(9)));
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].to, Some(State::Starting));
}

#[test]
fn a_manager_without_events_still_carries_out_what_it_is_asked() {
    let manager = Played::new(|request| {
        if request.line.starts_with("GET /v1/events") {
            return request.json("404 Not Found", r#"{"error": "not_found", "detail": "no such path"}"#);
        }
        request.json("200 OK", r#"{"results": []}"#);
    });
    let request = OperationRequest {
        verb: Verb::Stop,
        targets: Targets::All,
        with_dependents: true,
        wait_ms: None,
        key: None,
    };
    assert!(manager.client().operate(&request, Some(&mut |_| {})).unwrap().results.is_empty());
}

#[test]
fn down_returns_when_the_manager_has_closed_its_stream() {
    let mut waiting: Option<UnixStream> = None;
    let mut gone = false;
    let manager = Played::new(move |mut request| {
        if gone {
            // Nobody answers whoever looks whether there is a successor.
            return;
        }
        if request.line.starts_with("GET /v1/events ") {
            let head = "HTTP/1.1 200 OK\r\nrelume-api: 1\r\ntransfer-encoding: chunked\r\n\r\n";
            request.stream.write_all(head.as_bytes()).unwrap();
            waiting = Some(request.stream);
            return;
        }
        assert_eq!((request.line.as_str(), request.body.as_str()), ("POST /v1/down HTTP/1.1", "{}"));
        request.json("202 Accepted", r#"{"pid": 7, "stopping": 2}"#);
        let mut events = waiting.take().unwrap();
        for service in ["a", "b"] {
            let event = format!("{{\"service\":\"{service}\",\"event\":\"state\",\"to\":\"stopped\"}}\n");
            // Cut in the middle: a line need not come in one piece.
            let (first, second) = event.split_at(10);
            for part in [first, second] {
                events.write_all(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes()).unwrap();
            }
        }
        // Closed without the last chunk, as by a manager that ends.
        gone = true;
    });
    let mut seen = Vec::new();
    let report = manager.client().down(&mut |event| seen.push(event.service.unwrap())).unwrap().unwrap();
    assert_eq!((report.pid, report.stopping), (7, 2));
    assert_eq!(seen, ["a", "b"]);
}

#[test]
fn a_refusal_says_what_the_manager_said() {
    let manager = Played::new(|request| {
        request.json(
            "404 Not Found",
            r#"{"error": "unknown_service", "detail": "there is no service `wbe`", "help": "Did you mean web?"}"#,
        );
    });
    let error = manager.client().status(&["wbe".into()]).unwrap_err();
    assert_eq!(error.to_string(), "there is no service `wbe`");
    assert_eq!(error.refusal().unwrap().help.as_deref(), Some("Did you mean web?"));
}

#[test]
fn nobody_listening_is_told_from_everything_else() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Client::new(dir.path().join("none.sock")).unwrap().version().unwrap_err();
    assert!(matches!(missing.kind, ErrorKind::NotRunning), "{missing}");
    // What a manager that was killed leaves behind.
    drop(UnixListener::bind(dir.path().join("dead.sock")).unwrap());
    let dead = Client::new(dir.path().join("dead.sock")).unwrap().version().unwrap_err();
    assert!(matches!(dead.kind, ErrorKind::NotRunning), "{dead}");
    let gone = Client::new("/nonexistent/file/x.sock").unwrap().version().unwrap_err();
    assert!(matches!(gone.kind, ErrorKind::NotRunning) && gone.to_string().contains("x.sock"), "{gone}");
}

#[test]
fn another_version_and_strangers_are_recognised() {
    let newer = Played::new(|request| request.answer("200 OK", "relume-api: 2\r\n", "{}"));
    let error = newer.client().version().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Version) && error.to_string().contains("version 2"), "{error}");
    let stranger = Played::new(|request| request.answer("200 OK", "", "{}"));
    let error = stranger.client().version().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Broken), "{error}");
    let broken = Played::new(|request| request.json("200 OK", "[1, 2"));
    let error = broken.client().version().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Broken), "{error}");
    let dead = Played::new(drop);
    let error = dead.client().version().unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Lost), "{error}");
}

#[test]
fn a_socket_path_too_long_for_the_kernel_is_reached_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let deep: PathBuf = dir.path().join("d".repeat(60)).join("e".repeat(60));
    std::fs::create_dir_all(&deep).unwrap();
    let socket = deep.join("control.sock");
    assert!(socket.as_os_str().len() > 108);
    // The server's way around the limit: bound where it is short, then moved.
    let short = dir.path().join("s");
    let listener = UnixListener::bind(&short).unwrap();
    std::fs::rename(&short, &socket).unwrap();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        read_request(stream)
            .unwrap()
            .json("200 OK", r#"{"version": "0.1.0", "api": 1, "pid": 3, "state_dir": "/s"}"#);
    });
    let expected =
        VersionReport { version: "0.1.0".into(), api: 1, pid: 3, guardian_pid: 0, state_dir: "/s".into() };
    assert_eq!(Client::new(socket).unwrap().version().unwrap(), expected);
}

#[test]
fn unknown_verbs_and_members_of_a_request_are_refused_by_the_types() {
    for wrong in [
        r#"{"verb": "explode", "targets": "all"}"#,
        r#"{"verb": "stop", "targets": "none"}"#,
        r#"{"verb": "stop", "targets": "all", "force": true}"#,
        r#"{"verb": "stop"}"#,
    ] {
        assert!(serde_json::from_str::<OperationRequest>(wrong).is_err(), "{wrong}");
    }
    let short: OperationRequest = serde_json::from_str(r#"{"verb": "stop", "targets": "all"}"#).unwrap();
    assert_eq!((short.wait_ms, short.with_dependents), (None, false));
}

#[test]
fn a_watch_looks_again_when_something_has_happened_and_ends_in_time() {
    let mut stream: Option<UnixStream> = None;
    let mut looks = 0;
    let manager = Played::new(move |mut request| {
        if request.line.starts_with("GET /v1/events ") {
            let head = "HTTP/1.1 200 OK\r\nrelume-api: 1\r\ntransfer-encoding: chunked\r\n\r\n";
            request.stream.write_all(head.as_bytes()).unwrap();
            stream = Some(request.stream);
            return;
        }
        looks += 1;
        let state = if looks == 1 { "starting" } else { "running" };
        request.json("200 OK", &format!(r#"{{"services": [{{"name": "web", "state": "{state}"}}]}}"#));
        if looks == 1 {
            let event = "{\"seq\":1,\"service\":\"web\",\"event\":\"state\",\"to\":\"running\"}\n";
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            stream.as_mut().unwrap().write_all(chunk.as_bytes()).unwrap();
        }
    });
    let client = manager.client();
    let mut seen = Vec::new();
    let found = client.watch(Some(Duration::from_secs(10)), |report, happened| {
        seen.push((report.services[0].state.clone(), happened.len()));
        if seen.len() == 2 { std::ops::ControlFlow::Break("so") } else { std::ops::ControlFlow::Continue(()) }
    });
    assert_eq!(found.unwrap(), Some("so"));
    assert_eq!(seen, [(State::Starting, 0), (State::Running, 1)]);
    let late =
        client.watch(Some(Duration::from_millis(50)), |_, _| std::ops::ControlFlow::<()>::Continue(()));
    assert_eq!(late.unwrap(), None);
}

#[test]
fn a_watch_tells_when_the_manager_goes() {
    let manager = Played::new(|mut request| {
        if request.line.starts_with("GET /v1/events ") {
            let head = "HTTP/1.1 200 OK\r\nrelume-api: 1\r\ncontent-length: 0\r\n\r\n";
            request.stream.write_all(head.as_bytes()).unwrap();
            return;
        }
        request.json("200 OK", r#"{"services": []}"#);
    });
    let watched = manager.client().watch(None, |_, _| std::ops::ControlFlow::<()>::Continue(()));
    assert!(matches!(watched.unwrap_err().kind, ErrorKind::Lost));
}
