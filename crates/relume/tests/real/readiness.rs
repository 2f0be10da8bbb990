//! Ready late, ready never, and said by whoever wants to do harm: what becomes of a service, and of the one that
//! waits for it.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::halves::{manager, wait_for_manager};
use crate::harness::{Builder, Nobody, Process, Relume, eventually, fixture, free_ports, is_root, skip};

/// What every one of these services begins with: `wait()` returns when the test has made the file `go`.
const BEGIN: &str = "
import os, socket, sys, time
def wait():
    while not os.path.exists('go'): time.sleep(0.01)
def tell(text):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect(os.environ['NOTIFY_SOCKET'])
    s.send(text.encode() if isinstance(text, str) else text)
def rest():
    while True: time.sleep(1000)
";

fn python(program: &str) -> Value {
    json!(["python3", "-c", format!("{BEGIN}{program}")])
}

/// A service that becomes ready as `keys` say, and one that waits for it.
fn late(program: &str, keys: &Value) -> Value {
    let mut web = json!({"command": python(program), "timeout_start": "20s", "retry_delay": "20s"});
    web.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    json!({"services": {
        "web": web, "worker": {"command": [fixture("never-ready")], "dependencies": ["web"]}}})
}

/// Until it is ready its dependent waits; then both run.
fn becomes_ready_when_it_says_so(config: &Value) {
    let relume = Relume::with(config);
    let status = relume.wait_until("it lives", |status| status.has_pid("web"));
    // Some time in which nothing may happen.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(status.state("web"), "starting", "{status}");
    let status = relume.status();
    assert_eq!((status.state("web"), status.state("worker")), ("starting", "pending"), "{status}");
    assert!(status.reason("worker").contains("web"), "{status}");
    assert!(!status.reason("web").is_empty(), "says what it waits for: {status}");
    let pid = status.pid("web");
    fs::write(relume.path("go"), "").unwrap();
    let status = relume.wait_state("worker", "running");
    assert_eq!((status.state("web"), status.pid("web")), ("running", pid), "{status}");
    assert_eq!(status.restarts("web"), 0);
}

#[test]
fn who_notifies_is_ready_when_it_says_so() {
    becomes_ready_when_it_says_so(&late("wait(); tell('READY=1'); rest()", &json!({"type": "notify"})));
}

#[test]
fn who_writes_a_newline_to_its_descriptor_is_ready() {
    let program = "os.write(5, b'not yet'); wait(); os.write(5, b'now\\n'); rest()";
    becomes_ready_when_it_says_so(&late(program, &json!({"notification_fd": 5})));
}

#[test]
fn who_accepts_connections_is_ready() {
    let [port] = free_ports();
    let program = format!("wait(); s = socket.socket(); s.bind(('127.0.0.1', {port})); s.listen(); rest()");
    becomes_ready_when_it_says_so(&late(&program, &json!({"readiness": {"tcp": port}})));
}

#[test]
fn who_answers_well_is_ready_and_a_bad_answer_is_none() {
    let [port] = free_ports();
    let program = format!(
        "
from http.server import HTTPServer, BaseHTTPRequestHandler
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if os.path.exists('go') else 503)
        self.end_headers()
HTTPServer(('127.0.0.1', {port}), Answer).serve_forever()"
    );
    let url = format!("http://localhost:{port}/health");
    becomes_ready_when_it_says_so(&late(&program, &json!({"health_check": url})));
}

#[test]
fn who_has_a_probe_too_is_probed_once_it_has_said_so() {
    let [port] = free_ports();
    let program = format!(
        "s = socket.socket(); s.bind(('127.0.0.1', {port})); s.listen(); wait(); tell('READY=1'); rest()"
    );
    becomes_ready_when_it_says_so(&late(&program, &json!({"type": "notify", "readiness": {"tcp": port}})));
}

#[test]
fn who_never_gets_ready_has_crashed_for_that_reason() {
    let nobody = Nobody::new();
    let port = nobody.port;
    let never = |keys: Value| {
        let mut service = json!({"command": python("rest()"), "timeout_start": "3s", "retry_delay": "60s"});
        service.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        service
    };
    let names = ["notify", "fd", "tcp", "http"];
    let relume = Relume::with(&json!({"services": {
        "notify": never(json!({"type": "notify"})),
        "fd": never(json!({"notification_fd": 3})),
        "tcp": never(json!({"readiness": {"tcp": port}})),
        "http": never(json!({"readiness": format!("http://127.0.0.1:{port}/")}))}}));
    let status = relume
        .wait_until("all have crashed", |status| names.iter().all(|name| status.state(name) == "crashed"));
    for name in names {
        assert!(status.reason(name).contains("not ready within timeout_start"), "{name}: {status}");
        let asked = ["tcp", "http"].contains(&name);
        assert_eq!(
            asked,
            status.reason(name).contains("nobody listens there"),
            "what its probe has found: {status}"
        );
        assert!(!status.has_pid(name));
    }
}

#[test]
fn a_descriptor_closed_without_a_word_never_makes_it_ready() {
    let relume = Relume::with(&late(
        "os.write(3, b'no newline'); os.close(3); rest()",
        &json!({"notification_fd": 3}),
    ));
    let status =
        relume.wait_until("it says so", |status| status.reason("web").contains("closed its notification_fd"));
    assert_eq!((status.state("web"), status.state("worker")), ("starting", "pending"), "{status}");
}

#[test]
fn what_a_service_says_of_itself_is_its_reason() {
    let program = "tell('STATUS=loading \\x1b[31m 1/2\\nX=1'); wait(); tell('READY=1\\nSTATUS=' + 'é' * 5000)
while not os.path.exists('end'): time.sleep(0.01)
tell('STOPPING=1\\nSTATUS='); rest()";
    let relume = Relume::with(&late(program, &json!({"type": "notify"})));
    let status = relume.wait_until("its status is shown", |status| status.reason("web").contains("loading"));
    assert_eq!((status.reason("web"), status.state("web")), ("loading  [31m 1/2", "starting"));
    fs::write(relume.path("go"), "").unwrap();
    relume.wait_state("web", "running");
    let status = relume.wait_until("the next one too", |status| status.reason("web").starts_with('é'));
    assert!(status.reason("web").len() <= 1024);
    fs::write(relume.path("end"), "").unwrap();
    relume.wait_until("that it stops", |status| status.reason("web") == "stopping by itself");
}

/// Shown to fail: without the note of it nothing is said after the first death, and without the one before a respawn the
/// second word instead of the third.
#[test]
fn what_a_service_has_said_of_itself_once_outlives_the_manager() {
    let program = "tell('STATUS=first'); wait(); tell('READY=1\\nSTATUS=second')
while not os.path.exists('more'): time.sleep(0.01)
tell('STATUS=third'); rest()";
    let relume = Relume::with(&late(program, &json!({"type": "notify"})));
    let says = |word: &str| {
        relume.wait_until(word, |status| status.reason("web") == word);
    };
    let killed = || {
        let old = manager(&relume.status());
        old.signal(Signal::KILL);
        wait_for_manager(&relume, &old);
    };
    says("first");
    killed();
    says("first");
    fs::write(relume.path("go"), "").unwrap();
    says("second");
    fs::write(relume.path("more"), "").unwrap();
    says("third");
    relume.ok(&["respawn"]);
    says("third");
    killed();
    says("third");
}

#[test]
fn the_main_process_is_the_one_that_a_service_names_if_it_is_its_own() {
    let program = "
tell('READY=1\\nMAINPID=%d' % os.getppid())
wait()
child = os.fork()
if child:
    open('first', 'w').write(str(os.getpid()))
    tell('MAINPID=%d' % child)
    os._exit(0)
open('second', 'w').write(str(os.getpid()))
rest()";
    let relume = Relume::with(&late(program, &json!({"type": "notify"})));
    eventually("relume itself, named first, is refused", || {
        relume.told().contains("is no process of its own").then_some(())
    });
    // What is said at once counts as one word, and of two names the last.
    fs::write(relume.path("go"), "").unwrap();
    let number =
        |file: &str| eventually(file, || fs::read_to_string(relume.path(file)).ok()?.parse::<u32>().ok());
    let (first, second) = (number("first"), number("second"));
    let status =
        relume.wait_until("the second is it", |status| status.has_pid("web") && status.pid("web") == second);
    assert_eq!((status.state("web"), status.restarts("web")), ("running", 0), "{status}");
    eventually("the first is reaped", || Process::of(first).is_none().then_some(()));
    // Its end is the service's end now.
    Process::of(second).unwrap().signal(rustix::process::Signal::KILL);
    let status = relume.wait_until("the end is seen", |status| status.state("web") == "crashed");
    assert_eq!(status.last_exit("web")["signal"], "SIGKILL", "{status}");
}

#[test]
fn hostile_notifications_harm_nobody() {
    let program = "
import array
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ['NOTIFY_SOCKET'])
s.setblocking(True)
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 21)
def send(*args):
    try: s.sendmsg(*args)
    except OSError as e: print(e, flush=True)
for size in (0, 1, 4095, 4096, 4097, 150000, 1000000): send([b'x' * size])
for text in (b'', b'\\n', b'=', b'READY=0', b'READY', b'\\xff\\xfe=\\xff', b'\\0READY=1', b'STATUS=\\x1b]0;owned\\x07\\xff\\n',
             b'MAINPID=1', b'MAINPID=0', b'MAINPID=-1', b'MAINPID=%d' % os.getppid(), b'MAINPID=99999999999999999999',
             b'FDSTORE=1', b'WATCHDOG=1', b'WATCHDOG=trigger', b'STATUS=' + b'y' * 100000): send([text])
r, w = os.pipe()
for n in range(50):
    send([(b'BARRIER=1', b'FDSTORE=1\\nFDNAME=x')[n % 2]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [w] * 200))])
os.close(w)
assert os.read(r, 1) == b'', 'all descriptors were closed at once'
for n in range(5000): send([b'STATUS=%d\\nMAINPID=%d' % (n, n)])
open('sent', 'w').close()
wait(); tell('READY=1'); rest()";
    let relume = Relume::with(&late(program, &json!({"type": "notify", "timeout_start": "60s"})));
    let before = descriptors(&relume);
    eventually("all is sent", || {
        assert_eq!(relume.status().restarts("web"), 0, "{}", String::from_utf8_lossy(&relume.log("web")));
        relume.path("sent").exists().then_some(())
    });
    let status = relume.wait_until("the last is read", |status| status.reason("web") == "4999");
    assert_eq!(status.state("web"), "starting", "{status}");
    // The service's own pidfd, pipe and socket, and a client's connection.
    assert!(descriptors(&relume) < before + 20, "{} before, {} now", before, descriptors(&relume));
    assert!(!relume.said().contains('\u{1b}') && !relume.told().contains("owned"), "{}", relume.told());
    // What was said is no part of what a successor believes.
    relume.ok(&["respawn"]);
    let status = relume.wait_until("it has replaced itself", |status| status.manager()["respawns"] == 1);
    assert_eq!((status.state("web"), status.state("worker")), ("starting", "pending"), "{status}");
    assert!(status.reason("web").len() < 1000, "{status}");
    assert!(descriptors(&relume) < before + 20, "{} before, {} now", before, descriptors(&relume));
    fs::write(relume.path("go"), "").unwrap();
    relume.wait_state("worker", "running");
}

fn descriptors(relume: &Relume) -> usize {
    let pid = relume.status().manager()["pid"].as_u64().unwrap();
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn sockets(relume: &Relume) -> Vec<PathBuf> {
    // A clean end takes the folder with it.
    let dir = fs::read_dir(relume.path("runtime/notify")).into_iter().flatten();
    dir.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn each_run_has_a_socket_of_its_own_and_none_is_left_behind() {
    let relume = Relume::with(&late(
        "print(os.environ['NOTIFY_SOCKET'], flush=True); tell('READY=1'); rest()",
        &json!({"type": "notify"}),
    ));
    relume.wait_state("worker", "running");
    relume.ok(&["restart", "web"]);
    let lines = eventually("two names", || Some(relume.lines("web")).filter(|lines| lines.len() == 2));
    assert_ne!(lines[0], lines[1]);
    let left = eventually("the first is gone", || Some(sockets(&relume)).filter(|left| left.len() == 1));
    assert_eq!(left[0].to_str().unwrap(), lines[1]);
    // The dependent has no business there.
    let worker = relume.status().pid("worker");
    let environment = fs::read(format!("/proc/{worker}/environ")).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("NOTIFY_SOCKET"));
    relume.down();
    assert_eq!(sockets(&relume), Vec::<PathBuf>::new());
}

#[test]
fn a_service_of_another_user_is_heard_and_a_stranger_is_not() {
    if !is_root() {
        return skip("only root has services of other users");
    }
    // The default places lie below /root or /tmp; what counts is that others can pass through.
    let builder = Builder::new();
    fs::set_permissions(builder.home(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = "
print(os.environ['NOTIFY_SOCKET'], flush=True)
os.close(os.open('/dev/stdout', os.O_WRONLY))
wait(); tell('READY=1'); rest()";
    let relume =
        builder.config(&late(program, &json!({"type": "notify", "user": "65534", "group": "65534"}))).up();
    let name = eventually("its socket", || relume.lines("web").first().cloned());
    let owner = |path: &str| std::os::unix::fs::MetadataExt::uid(&fs::metadata(path).unwrap());
    assert_eq!(owner(&name), 65534);
    // A stranger that got hold of the socket's name is not let in.
    let send = format!(
        "import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', '{name}')"
    );
    let output = std::os::unix::process::CommandExt::uid(&mut std::process::Command::new("python3"), 12345)
        .args(["-c", &send])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("PermissionError"), "{output:?}");
    // Root may, and is believed: it could do anything else as well.
    UnixDatagram::unbound().unwrap().send_to(b"STATUS=by root", &name).unwrap();
    relume.wait_until("root is heard", |status| status.reason("web") == "by root");
    assert_eq!(relume.status().state("web"), "starting");
    fs::write(relume.path("go"), "").unwrap();
    relume.wait_state("worker", "running");
}

#[test]
fn a_probe_that_is_configured_or_not_any_more_restarts_nothing() {
    let nobody = Nobody::new();
    let port = nobody.port;
    let config = |keys: Value| late("rest()", &keys);
    let relume = Relume::with(&config(json!({"readiness": {"tcp": port}})));
    let pid = relume.wait_until("it lives", |status| status.has_pid("web")).pid("web");
    assert_eq!(relume.wait_state("web", "starting").state("worker"), "pending");
    let write = |config: &Value| fs::write(relume.path("relume.json"), config.to_string()).unwrap();
    // Another probe, which succeeds.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let better = config(json!({"readiness": {"tcp": listener.local_addr().unwrap().port()}}));
    write(&better);
    relume.signal(rustix::process::Signal::HUP);
    relume.wait_state("worker", "running");
    // None at all, with a mark that shows when that holds.
    let mut none = config(json!({"description": "asked no more"}));
    none["services"]["extra"] = json!({"command": [fixture("never-ready")]});
    write(&none);
    relume.signal(rustix::process::Signal::HUP);
    let status = relume
        .wait_until("it holds", |status| status.services().len() == 3 && status.state("extra") == "running");
    assert_eq!((status.pid("web"), status.state("web")), (pid, "running"), "{status}");
}
