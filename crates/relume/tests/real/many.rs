//! Many services at once: what a respawn and a killed manager cost them, and whoever connects meanwhile. Short here; the figures with
//! a thousand services:
//!
//! ```sh
//! RELUME_SERVICES=1000 RELUME_KILLS=20 cargo test --release -p relume --test real many:: -- --nocapture --test-threads 1
//! ```
//!
//! An optimised build on a machine that is quiet: what counts is milliseconds.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Map, Value, json};

use crate::figures::{gaps, say};
use crate::harness::halves::*;
use crate::harness::{Relume, Status, eventually, fixture, free_ports};
use crate::sockets::{Client, server};

/// How many services there are; `RELUME_SERVICES` says otherwise.
fn services(few: usize) -> usize {
    std::env::var("RELUME_SERVICES").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// So many services that do nothing.
fn idle(count: usize) -> Map<String, Value> {
    let service = json!({"command": [fixture("never-ready")]});
    (0..count).map(|n| (format!("s{n:04}"), service.clone())).collect()
}

fn up(services: Map<String, Value>) -> (Relume, Status) {
    let relume = Relume::with(&json!({"manager": {"self_respawn": "off"}, "services": services}));
    let first = relume.wait_until("all run", |status| {
        status.services().iter().all(|service| service["state"] == "running")
    });
    // The start is over when all that it leaves to do is done.
    std::thread::sleep(Duration::from_millis(if first.services().len() > 100 { 3000 } else { 0 }));
    (relume, first)
}

/// Both figures are from the last look for ends that a manager took to the first one that the next took. Shown to fail: with a
/// successor that forgets one process that it is handed.
#[test]
fn a_respawn_and_a_killed_manager_leave_many_services_as_they_were() {
    let (relume, first) = up(idle(services(40)));
    for _ in 0..kills(3) {
        relume.ok(&["respawn"]);
        std::thread::sleep(Duration::from_millis(random(1000)));
    }
    for _ in 0..kills(3) {
        let old = manager(&relume.status());
        old.signal(Signal::KILL);
        wait_for_manager(&relume, &old);
        std::thread::sleep(Duration::from_millis(random(1000)));
    }
    let status = relume.status();
    assert_eq!(pids(&status), pids(&first), "the same processes, none twice");
    assert!(status.services().iter().all(|service| service["restarts"] == 0), "{status}");
    for kind in ["respawn", "recovery"] {
        let gaps = gaps(&relume, kind);
        say(&format!("{} services, {kind}", first.services().len()), &gaps);
        assert_eq!(gaps.len(), kills(3), "each is told of: {gaps:?}");
    }
    relume.down();
}

/// One request after the other to the manager itself, each on a connection of its own.
fn api_client(socket: PathBuf) -> Client {
    let ask = move || -> std::io::Result<bool> {
        let mut connection = UnixStream::connect(&socket)?;
        connection.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(connection, "GET /v1/version HTTP/1.0\r\nHost: relume\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"))
    };
    Client::new(move |seen| {
        let answer = ask();
        let mut seen = seen.lock().unwrap();
        match answer {
            Ok(true) => seen.answered += 1,
            Ok(false) => seen.dropped += 1,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => seen.refused += 1,
            Err(_) => seen.dropped += 1,
        }
    })
}

/// Shown to fail: with a successor that makes a new socket instead of taking the one that is kept.
#[test]
fn no_client_is_refused_over_respawns() {
    let [port] = free_ports();
    let mut all = idle(services(20));
    all.insert("web".into(), json!({"command": server(), "sockets": [port]}));
    let (relume, first) = up(all);
    let (api, web) = (api_client(relume.path("runtime").join("control.sock")), Client::at(port));
    let answered = || [&api, &web].map(|client| client.seen().answered);
    for _ in 0..kills(3) {
        let before = answered();
        relume.ok(&["respawn"]);
        std::thread::sleep(Duration::from_millis(random(200)));
        eventually("both are answered", || (0..2).all(|n| answered()[n] > before[n]).then_some(()));
    }
    let (api, web) = (api.end(), web.end());
    eprintln!("{} respawns, {} services: manager {api:?}, service {web:?}", kills(3), first.services().len());
    for seen in [&api, &web] {
        assert_eq!((seen.refused, seen.dropped), (0, 0), "manager {api:?}, service {web:?}");
    }
    assert_eq!(gaps(&relume, "respawn").len(), kills(3));
    assert_eq!(pids(&relume.status()), pids(&first), "the same processes, none twice");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    relume.down();
}
