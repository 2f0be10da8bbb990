use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::time::Instant;

use relume_config::{Environment, HttpTarget};
use rustix::net;

use super::*;

const MS: u64 = 1_000_000;

fn probe(port: u16) -> Probe {
    Probe {
        target: ProbeTarget::Tcp { host: "127.0.0.1".into(), port },
        interval: Duration::from_millis(80),
        timeout: Duration::from_secs(5),
        start_period: Duration::ZERO,
        failures: 3,
        successes: 1,
        grace: None,
    }
}

fn silent(port: u16) -> ProbeTarget {
    ProbeTarget::Http(Box::new(HttpTarget {
        tls: false,
        host: "127.0.0.1".into(),
        port,
        method: "GET".into(),
        path: "/".into(),
        headers: Environment(BTreeMap::new().into()),
        status: None,
        body: None,
    }))
}

/// A port that is bound and not listened to: it refuses, and is nobody else's.
fn nobody() -> (OwnedFd, u16) {
    let socket = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None).unwrap();
    net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = SocketAddrV4::try_from(net::getsockname(&socket).unwrap()).unwrap();
    (socket, address.port())
}

/// Everything that is told until `enough` says so.
fn told(
    task: impl FnOnce(Box<dyn Fn(Probed)>) -> std::pin::Pin<Box<dyn Future<Output = ()>>>,
    enough: impl Fn(&[(Option<String>, bool)]) -> bool,
) -> Vec<(Option<String>, bool)> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let (sender, mut woken) = tokio::sync::mpsc::unbounded_channel();
    let into = Arc::clone(&all);
    let tell = move |what| {
        if let Probed::Answered { failure, counts } = what {
            into.lock().unwrap().push((failure, counts));
            sender.send(()).unwrap();
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let task = task(Box::new(tell));
        let wait = async {
            while !enough(&all.lock().unwrap()) {
                woken.recv().await;
            }
        };
        tokio::select! {
            () = task => {}
            () = async { tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap() } => {}
        }
    });
    all.lock().unwrap().clone()
}

#[test]
fn an_eager_probe_tells_a_failure_between_the_regular_ones_once_and_a_success_at_once() {
    let (nobody, port) = nobody();
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(400));
        net::listen(&nobody, 10).unwrap();
        nobody
    });
    let probe = Probe { interval: Duration::from_secs(60), ..probe(port) };
    let began = Instant::now();
    let told = told(
        |tell| Box::pin(eager(probe, Check::Readiness, tell)),
        |all| all.iter().any(|(f, _)| f.is_none()),
    );
    let [(Some(why), false), (None, false)] = &told[..] else { panic!("{told:?}") };
    assert!(why.contains("nobody listens"), "{why}");
    assert!(began.elapsed() < Duration::from_secs(20), "long before the interval");
    drop(late.join().unwrap());
}

#[test]
fn of_an_eager_probe_each_regular_failure_counts_from_one_interval_after_its_start_period_on() {
    let (_nobody, port) = nobody();
    let probe = Probe { start_period: Duration::from_millis(100), ..probe(port) };
    let began = Instant::now();
    let counted = |all: &[(Option<String>, bool)]| all.iter().filter(|(_, counts)| *counts).count();
    told(|tell| Box::pin(eager(probe, Check::Startup, tell)), |all| counted(all) == 3);
    assert!(began.elapsed() >= Duration::from_millis(100 + 3 * 80), "{:?}", began.elapsed());
}

#[test]
fn one_that_never_answers_is_given_up_in_time_and_asked_again_one_at_a_time() {
    // The kernel takes the connections in; nobody reads from them.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let probe = Probe { target: silent(port), timeout: Duration::from_millis(60), ..probe(port) };
    let told = told(|tell| Box::pin(steady(probe, 0, Moment(0), tell)), |all| all.len() == 3);
    assert!(
        told.iter().all(|(why, _)| why.as_ref().is_some_and(|why| why.contains("no answer within 60ms")))
    );
    listener.set_nonblocking(true).unwrap();
    // Where the machine is late, the next question was due before anybody could look at the third answer.
    assert!((3..=4).contains(&std::iter::from_fn(|| listener.accept().ok()).count()));
}

#[test]
fn a_steady_probe_that_goes_on_well_is_not_told_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (times, waited) = (Arc::new(Mutex::new(0)), Duration::from_secs(2));
    let counted = Arc::clone(&times);
    let tell = move |_| *counted.lock().unwrap() += 1;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let task = async { tokio::time::timeout(waited, steady(probe(port), 0, Moment(0), tell)).await };
    assert!(runtime.block_on(task).is_err());
    assert_eq!(*times.lock().unwrap(), 1);
    listener.set_nonblocking(true).unwrap();
    assert!(std::iter::from_fn(|| listener.accept().ok()).count() >= 2, "it was asked again all the same");
}

#[test]
fn the_grid_is_the_same_whenever_it_is_looked_at() {
    assert_eq!(next_on_grid(30, 100, 0), 30);
    assert_eq!(next_on_grid(30, 100, 30), 30);
    assert_eq!(next_on_grid(30, 100, 31), 130);
    assert_eq!(next_on_grid(30, 100, 999), 1030);
    let phase = phase("web", Check::Liveness, Duration::from_secs(10));
    let at = next_on_grid(phase, 10_000 * MS, 77_777 * MS);
    for look in (77_777 * MS..at).step_by(MS as usize * 100) {
        assert_eq!(next_on_grid(phase, 10_000 * MS, look), at);
    }
}

/// Chi-square over 100 parts with 99 degrees of freedom: above 148.2 with a probability of 0.001. Of names that differ in one
/// digit, as those of instances do; without the finalizer it is above 10,000.
#[test]
fn probes_of_many_services_are_spread_evenly_over_the_interval() {
    for pattern in ["web:", "service-", "", "a-rather-long-name-of-a-service.with.dots@"] {
        let mut parts = [0u32; 100];
        for number in 0..10_000 {
            let phase = phase(&format!("{pattern}{number}"), Check::Health, Duration::from_secs(10));
            parts[(phase / (100 * MS)) as usize] += 1;
        }
        let chi: f64 = parts.iter().map(|n| (f64::from(*n) - 100.0).powi(2) / 100.0).sum();
        assert!(chi < 148.2, "{pattern}: {chi}");
    }
}
