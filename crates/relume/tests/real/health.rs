//! Alive is not well: services that run and do not answer, probes that hang, watchdogs that hear nothing.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::answers::Answers;
use crate::harness::halves::kill_both;
use crate::harness::{Nobody, Process, Relume, Status, eventually, fixture, free_ports, skip};

/// A service that never says anything of itself, with these keys.
pub(crate) fn quiet(keys: &Value) -> Value {
    let mut service = json!({"command": [fixture("never-ready")], "retry_delay": "20s"});
    service.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    service
}

fn python(program: &str) -> Value {
    let begin = "
import os, signal, socket, sys, time
def tell(text):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect(os.environ['NOTIFY_SOCKET'])
    s.send(text.encode())
def rest():
    while True: time.sleep(1000)
";
    json!(["python3", "-c", format!("{begin}{program}")])
}

pub(crate) fn events(relume: &Relume, name: &str) -> Vec<Value> {
    let text = relume.ok(&["events", "--json", name]);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Of a service that is asked nothing hardly anything is remembered; also after a respawn it is enough to begin with.
/// Shown to fail: without the voice that a later configuration gives it, nobody asks.
#[test]
fn a_service_that_was_asked_nothing_is_asked_when_a_later_config_says_so() {
    let service = |keys: Value| json!({"services": {"web": quiet(&keys)}});
    let relume = Relume::with(&service(json!({})));
    let pid = relume.wait_state("web", "running").pid("web");
    let ask = |keys: Value| {
        fs::write(relume.path("relume.json"), service(keys).to_string()).unwrap();
        relume.signal(Signal::HUP);
    };
    let nobody = Nobody::new();
    let port = nobody.port;
    relume.ok(&["respawn"]);
    relume.wait_until("it has replaced itself", |status| status.manager()["respawns"] == 1);
    ask(json!({"readiness": {"tcp": port, "interval": "100ms", "retries": 1}}));
    relume.wait_until("it is asked", |status| status.reason("web").contains("probe failed"));
    ask(json!({}));
    let status = relume.wait_until("it is asked no more", |status| status.reason("web").is_empty());
    assert_eq!((status.pid("web"), status.restarts("web")), (pid, 0), "{status}");
}

/// Shown to fail: without SIGCONT after the stop signal it takes `timeout_stop` longer.
#[test]
fn a_service_that_stops_answering_is_restarted_in_time() {
    let [port] = free_ports();
    let program = format!(
        "
from http.server import HTTPServer, BaseHTTPRequestHandler
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args): pass
class Server(HTTPServer): allow_reuse_address = True
Server(('127.0.0.1', {port}), Answer).serve_forever()"
    );
    let check = json!({"http": format!("http://127.0.0.1:{port}/"), "interval": "200ms", "timeout": "1500ms", "retries": 3});
    let relume =
        Relume::with(&json!({"services": {"web": {"command": python(&program), "health_check": check,
        "timeout_stop": "60s", "retry_delay": "0s", "backoff": {"jitter": 0}}}}));
    let status = relume.wait_state("web", "running");
    assert_eq!(status.service("web")["healthy"], true, "{status}");
    let (pid, began) = (status.pid("web"), Instant::now());
    Process::of(pid).unwrap().signal(Signal::STOP);
    eventually("it is a new one", || {
        let now = relume.status();
        (now.has_pid("web") && now.pid("web") != pid).then_some(())
    });
    let took = began.elapsed();
    // (interval + timeout) × retries + 200 ms on an idle machine; the rest is for one that is not.
    assert!(took < Duration::from_millis(200 * 3 + 1500 * 3 + 200 + 20_000), "{took:?}");
    let status = relume.wait_state("web", "running");
    assert_eq!(status.restarts("web"), 1, "{status}");
    let told = events(&relume, "web");
    let unhealthy: Vec<&Value> = told.iter().filter(|event| event["to"] == "unhealthy").collect();
    assert_eq!((unhealthy.len(), &unhealthy[0]["cause"]), (1, &json!("unhealthy")), "{told:?}");
    assert_eq!(told.iter().filter(|event| event["event"] == "probe").count(), 3, "{told:?}");
}

#[test]
fn failing_readiness_shows_and_restarts_nobody() {
    let answers = Answers::new(200);
    let probe = json!({"http": answers.url(), "interval": "50ms", "retries": 2});
    let relume = Relume::with(&json!({"services": {
        "web": quiet(&json!({"readiness": probe})),
        "app": quiet(&json!({"dependencies": {"web": {"condition": "ready", "restart": true}}}))}}));
    let pids = |status: &Status| (status.pid("web"), status.pid("app"));
    let before = pids(&relume.wait_state("app", "running"));
    answers.say(503);
    let ready = |so: bool| move |status: &Status| status.service("web")["ready"] == so;
    let status = relume.wait_until("it is not ready", ready(false));
    assert_eq!(status.service("web")["healthy"], false, "{status}");
    assert!(status.reason("web").contains("503"), "{status}");
    answers.say(200);
    let status = relume.wait_until("it is ready again", ready(true));
    assert_eq!((status.state("web"), status.state("app")), ("running", "running"), "{status}");
    assert_eq!((pids(&status), status.restarts("app")), (before, 0), "{status}");
}

#[test]
fn liveness_waits_for_startup_and_a_startup_that_never_comes_ends_the_start() {
    let (started, alive) = (Answers::new(503), Answers::new(503));
    let probe = |answers: &Answers, retries: u32| json!({"http": answers.url(), "interval": "100ms", "retries": retries});
    let never = Answers::new(503);
    let relume = Relume::with(&json!({"services": {
        "web": quiet(&json!({"startup": probe(&started, 1000), "liveness": probe(&alive, 2)})),
        "never": quiet(&json!({"startup": probe(&never, 2)}))}}));
    let status = relume.wait_state("never", "restarting");
    assert!(status.reason("never").contains("its startup failed"), "{status}");
    assert_eq!(status.state("web"), "starting", "{status}");
    assert_eq!(alive.asked(), 0, "liveness has to wait");
    started.say(200);
    relume.wait_until("it has started", |status| status.state("web") != "starting");
    let status = relume.wait_state("web", "restarting");
    assert!(status.reason("web").contains("its liveness failed"), "{status}");
}

#[test]
fn under_never_a_service_that_is_ill_is_stopped_and_failed() {
    let answers = Answers::new(200);
    let probe = json!({"http": answers.url(), "interval": "50ms", "retries": 2});
    let relume = Relume::with(
        &json!({"services": {"web": quiet(&json!({"health_check": probe, "restart_policy": "never"}))}}),
    );
    relume.wait_state("web", "running");
    answers.say(500);
    let status = relume.wait_state("web", "failed");
    assert!(status.reason("web").contains("500") && !status.has_pid("web"), "{status}");
}

/// Shown to fail: with a command that is taken for well without being run, and with a file or socket that is not looked for.
#[test]
fn commands_files_sockets_and_lines_make_ready() {
    let relume = Relume::with(&json!({"services": {
        "exec": quiet(&json!({"readiness": {"exec": "test -e go"}})),
        "file": quiet(&json!({"readiness": {"file": "go"}})),
        "unix": {"command": python("
s = socket.socket(socket.AF_UNIX)
while not os.path.exists('go'): time.sleep(0.01)
s.bind('listens'); s.listen(); rest()"), "readiness": {"unix": "listens"}},
        "line": {"command": python("
sys.stdout.write('it lis'); sys.stdout.flush()
while not os.path.exists('go'): time.sleep(0.01)
sys.stdout.write('tens now\\n'); sys.stdout.flush(); rest()"), "readiness": {"log_line": "listens now"}}}}));
    let names = ["exec", "file", "unix", "line"];
    relume.wait_until("all live", |status| names.iter().all(|name| status.has_pid(name)));
    std::thread::sleep(Duration::from_millis(400));
    let status = relume.status();
    assert!(names.iter().all(|name| status.state(name) == "starting"), "{status}");
    fs::write(relume.path("go"), "").unwrap();
    let status =
        relume.wait_until("all are ready", |status| names.iter().all(|name| status.state(name) == "running"));
    assert!(names.iter().all(|name| status.restarts(name) == 0), "{status}");
}

#[test]
fn https_is_asked_whatever_its_certificate_says() {
    let made = std::process::Command::new("openssl").arg("version").output().is_ok();
    if !made {
        return skip("openssl makes the certificate");
    }
    let [port] = free_ports();
    let program = format!(
        "
import ssl, subprocess
from http.server import HTTPServer, SimpleHTTPRequestHandler
subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'key', '-out', 'cert',
    '-days', '1', '-subj', '/CN=somebody.else'], check=True, stderr=subprocess.DEVNULL)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('cert', 'key')
server = HTTPServer(('127.0.0.1', {port}), SimpleHTTPRequestHandler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()"
    );
    let url = format!("https://127.0.0.1:{port}/");
    let relume =
        Relume::with(&json!({"services": {"web": {"command": python(&program), "health_check": url}}}));
    relume.wait_state("web", "running");
}

#[test]
fn a_service_with_a_watchdog_is_restarted_when_it_falls_silent() {
    let program = "
assert 2000000 == int(os.environ['WATCHDOG_USEC'])
assert os.getpid() == int(os.environ['WATCHDOG_PID'])
tell('READY=1')
while not os.path.exists('silent'): tell('WATCHDOG=1'); time.sleep(0.1)
rest()";
    let relume = Relume::with(&json!({"services": {"web": {
        "command": python(program), "type": "notify", "watchdog": "2s", "retry_delay": "20s"}}}));
    let pid = relume.wait_state("web", "running").pid("web");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(relume.status().pid("web"), pid, "it shows that it lives");
    fs::write(relume.path("silent"), "").unwrap();
    let status = relume.wait_state("web", "restarting");
    assert!(status.reason("web").contains("no sign of life"), "{status}");
    let causes = events(&relume, "web");
    assert!(causes.iter().any(|event| event["cause"] == "watchdog"), "{causes:?}");
}

#[test]
fn a_start_that_asks_for_more_time_gets_it() {
    let program = "
for n in range(12):
    tell('EXTEND_TIMEOUT_USEC=8000000')
    time.sleep(0.5)
tell('READY=1'); rest()";
    let relume = Relume::with(&json!({"services": {"web": {
        "command": python(program), "type": "notify", "timeout_start": "5s", "retry_delay": "20s"}}}));
    let status = relume.wait_state("web", "running");
    assert_eq!(status.restarts("web"), 0, "{status}");
}

fn kill_manager(relume: &Relume) {
    let before = relume.status();
    let number = |status: &Status, key: &str| status.manager()[key].as_u64().unwrap();
    let pid = u32::try_from(number(&before, "pid")).unwrap();
    Process::of(pid).unwrap().signal(Signal::KILL);
    eventually("the next manager answers", || {
        relume.try_status().filter(|now| number(now, "recoveries") > number(&before, "recoveries"))
    });
}

/// Shown to fail: with counts that a recovery forgets it takes seven failures and not four.
#[test]
fn counts_and_watchdogs_go_on_after_the_managers_death() {
    let answers = Answers::new(200);
    let probe = json!({"http": answers.url(), "interval": "1s", "timeout": "10s", "retries": 4});
    let relume = Relume::with(&json!({"services": {
        "web": quiet(&json!({"health_check": probe})),
        "dog": {"command": python("tell('READY=1'); rest()"), "type": "notify", "watchdog": "3s", "retry_delay": "20s"}}}));
    let pid = relume.wait_state("web", "running").pid("web");
    relume.wait_until("the other too", |status| status.state("dog") != "starting");
    answers.say(500);
    let failures =
        |relume: &Relume| events(relume, "web").iter().filter(|event| event["event"] == "probe").count();
    for times in 1..=3 {
        eventually("a failure", || (failures(&relume) >= times).then_some(()));
        if relume.status().state("web") == "running" {
            kill_manager(&relume);
        }
    }
    let status = relume.wait_state("web", "restarting");
    assert!(status.reason("web").contains("health_check failed"), "{status}");
    assert!(Process::of(pid).is_none());
    assert_eq!(failures(&relume), 4, "{:?}", events(&relume, "web"));
    relume.wait_until("its watchdog was not begun anew each time", |status| {
        status.state("dog") == "restarting"
    });
}

/// Shown to fail: without what the guardian keeps the third life gets nothing.
#[test]
fn descriptors_are_kept_for_the_next_life_and_over_the_managers_death() {
    let program = "
import array
def store(fd, text):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect(os.environ['NOTIFY_SOCKET'])
    s.sendmsg([text.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))])
given = int(os.environ.get('LISTEN_FDS', 0))
if given:
    assert int(os.environ['LISTEN_PID']) == os.getpid()
    names = os.environ['LISTEN_FDNAMES'].split(':')
    print(given, names, [os.read(3 + n, 100) for n in range(given)], flush=True)
    for n in range(given): os.lseek(3 + n, 0, 0)
else:
    for n in range(3):
        with open('kept%d' % n, 'w') as f: f.write('text %d' % n)
        store(os.open('kept%d' % n, os.O_RDONLY), 'FDSTORE=1\\nFDNAME=file%d' % n)
    tell('FDSTOREREMOVE=1\\nFDNAME=file1')
tell('READY=1'); rest()";
    let relume = Relume::with(&json!({"services": {"web": {
        "command": python(program), "type": "notify", "fd_store": 3, "retry_delay": "0s"}}}));
    let kill = |pid: u32| Process::of(pid).unwrap().signal(Signal::KILL);
    let line = "2 ['file0', 'file2'] [b'text 0', b'text 2']";
    let first = relume.wait_state("web", "running").pid("web");
    kill(first);
    eventually("the second life has them", || (relume.lines("web") == [line]).then_some(()));
    let second =
        relume.wait_until("it is ready", |now| now.state("web") == "running" && now.pid("web") != first);
    kill_manager(&relume);
    kill(second.pid("web"));
    eventually("the third too", || (relume.lines("web") == [line, line]).then_some(()));
    relume.wait_state("web", "running");
    relume.ok(&["stop", "web"]);
    relume.ok(&["start", "web"]);
    assert_eq!(relume.lines("web").len(), 2, "who was stopped begins anew");
}

/// With systemd's own client, where it is installed.
#[test]
fn the_client_of_systemd_is_understood() {
    if std::process::Command::new("systemd-notify").arg("--version").output().is_err() {
        return skip("systemd-notify is not installed");
    }
    let relume = Relume::with(&json!({"services": {"web": {
        "command": "systemd-notify --ready --status='three workers' && exec sleep 1000", "type": "notify"}}}));
    let status = relume.wait_state("web", "running");
    assert_eq!(status.reason("web"), "three workers", "{status}");
}

/// While both halves are dead there is no socket to be heard in. With the deadline counted from the last sign that was heard, it is
/// killed as soon as relume is back.
#[test]
fn a_service_that_was_not_heard_because_relume_was_dead_is_not_killed_for_that() {
    let program = "
while True:
    try: tell('READY=1\\nWATCHDOG=1')
    except OSError: pass
    time.sleep(0.1)
";
    let relume = Relume::with(&json!({"services": {
        "dog": {"command": python(program), "type": "notify", "watchdog": "2s", "retry_delay": "20s"}}}));
    let before = relume.wait_state("dog", "running");
    kill_both(&before);
    relume.wait_for_end();
    // More than its period.
    std::thread::sleep(Duration::from_secs(3));
    relume.up_again();
    std::thread::sleep(Duration::from_secs(1));
    let after = relume.status();
    assert_eq!((after.state("dog"), after.pid("dog")), ("running", before.pid("dog")), "{after}");
    relume.down();
}
