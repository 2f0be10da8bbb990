//! How a service becomes ready: what each way of writing it comes to.

use std::time::Duration;

use relume_config::{HttpTarget, Probe, ProbeTarget, Readiness, Said, ServiceConfig};
use relume_core::ServiceKind;

use crate::common::{check, good, load_one};

fn service(keys: &str) -> ServiceConfig {
    good("c.yaml", &format!("services: {{a: {{command: x, {keys}}}}}")).services.remove(0)
}

fn probe(keys: &str) -> Probe {
    let service = service(keys);
    assert_eq!(service.spec.policy.kind, ServiceKind::Notify, "{keys}");
    service.readiness.probe.clone().expect("there is a probe")
}

fn http(keys: &str) -> HttpTarget {
    match probe(keys).target {
        ProbeTarget::Http(target) => target,
        other => panic!("{keys}: {other:?}"),
    }
}

#[test]
fn a_service_says_that_it_is_ready_in_one_of_two_ways() {
    let notify = service("type: notify");
    assert_eq!(notify.spec.policy.kind, ServiceKind::Notify);
    assert_eq!(notify.readiness, Readiness { said: Some(Said::Notify), probe: None }.into());
    let fd = service("notification_fd: 3");
    assert_eq!(fd.spec.policy.kind, ServiceKind::Notify);
    assert_eq!(fd.readiness.said, Some(Said::Fd(3)));
    assert!(!service("autostart: true").readiness.is_awaited());
    assert_eq!(service("autostart: true").spec.policy.kind, ServiceKind::Simple);
}

#[test]
fn what_the_process_is_told_is_part_of_its_launch_and_a_probe_is_not() {
    let launch = |keys: &str| service(keys).spec.launch;
    let plain = launch("autostart: true");
    assert_eq!(plain, launch("readiness: 'tcp://localhost:80'"));
    let told = [plain, launch("type: notify"), launch("notification_fd: 3"), launch("notification_fd: 4")];
    for (at, one) in told.iter().enumerate() {
        assert!(!told[..at].contains(one), "{told:?}");
    }
}

#[test]
fn an_http_probe_is_a_url_or_a_map_in_the_manner_of_kubernetes() {
    let target = http("readiness: 'http://db.internal:8080/up?full=1#top'");
    assert_eq!(
        (target.host.as_str(), target.port, target.path.as_str()),
        ("db.internal", 8080, "/up?full=1")
    );
    let target = http("port: 9000, readiness: 'http://[::1]'");
    assert_eq!((target.host.as_str(), target.port, target.path.as_str()), ("::1", 80, "/"));
    let target = http(
        "readinessProbe: {httpGet: {path: up, port: 81, scheme: HTTP, httpHeaders: {X-Key: secret}, status_code: 204}, \
         periodSeconds: 2, timeoutSeconds: 4, initialDelaySeconds: 1, successThreshold: 2}",
    );
    assert_eq!((target.host.as_str(), target.port, target.path.as_str()), ("127.0.0.1", 81, "/up"));
    assert_eq!((target.status, target.headers.0["X-Key"].as_str()), (Some(204), "secret"));
    assert!(!format!("{target:?}").contains("secret"));
    assert_eq!(http("port: 9000, readiness: {http: {status: 401}}").port, 9000);
}

#[test]
fn a_tcp_probe_is_a_port_with_or_without_a_host() {
    let target = |keys: &str| probe(keys).target;
    let tcp = |host: &str, port| ProbeTarget::Tcp { host: host.into(), port };
    assert_eq!(target("readiness: {tcp: 5432}"), tcp("127.0.0.1", 5432));
    assert_eq!(target("readiness: {tcp: 'db:5432'}"), tcp("db", 5432));
    assert_eq!(target("readiness: 'tcp://[fe80::1]:5432'"), tcp("fe80::1", 5432));
    assert_eq!(target("port: 70, readiness: {tcpSocket: {host: h}}"), tcp("h", 70));
}

#[test]
fn times_have_the_defaults_of_their_key() {
    let probe = probe("readiness: {tcp: 1, start_period: 5s}");
    assert_eq!((probe.interval, probe.timeout), (Duration::from_secs(10), Duration::from_secs(1)));
    assert_eq!((probe.start_period, probe.successes), (Duration::from_secs(5), 1));
    let found = load_one("c.yaml", "services: {a: {command: x, health_check: {tcp: 1}}}").config;
    assert_eq!(found.services[0].readiness.probe.as_ref().unwrap().timeout, Duration::from_secs(3));
}

#[test]
fn readiness_wins_over_health_check_and_both_can_be_off() {
    let text = "services: {a: {command: x, health_check: {tcp: 1}, readiness: {tcp: 2}}, \
                b: {command: x, health_check: {tcp: 1}, readiness: off}, c: {command: x, health_check: off}}";
    let services = load_one("c.yaml", text).config.services;
    let target = services[0].readiness.probe.as_ref().unwrap().target.clone();
    assert_eq!(target, ProbeTarget::Tcp { host: "127.0.0.1".into(), port: 2 });
    assert!(!services[1].readiness.is_awaited() && !services[2].readiness.is_awaited());
    assert_eq!(services[1].spec.policy.kind, ServiceKind::Simple);
}

#[test]
fn what_cannot_be_asked_is_an_error_at_its_place() {
    for (keys, message) in [
        ("readiness: 'http://u@host/'", "is no host that can be asked"),
        ("readiness: 'http://ho st/'", "is no host that can be asked"),
        ("readiness: 'http://host/a b'", "has characters that no URL can have"),
        ("readiness: 'tcp://host:0'", "a port is a number from 1 to 65535"),
        ("readiness: {http: {url: 'host:80'}}", "expected a URL"),
        ("readiness: {http: {url: 'tcp://host:80'}}", "expected a URL with `http://`"),
        ("readiness: {http: {url: 'http://host', path: /x}}", "`url` says already where to ask"),
        ("readiness: {http: {scheme: ftp}}", "expected `http` or `https`"),
        ("readiness: {http: {headers: {'a(b': c}}}", "is no name of a header"),
        ("readiness: {http: {headers: {a: \"b\\r\\nX: y\"}}}", "control characters"),
        ("readiness: {http: {status: 99}}", "an answer has a status from 200 to 599"),
        ("readiness: {tcp: {host: h}}", "the probe names no port"),
        ("readiness: {tcp: 1, interval: 0}", "the interval of a probe cannot be zero"),
        ("readiness: {tcp: 1, timeout: 0}", "the timeout of a probe cannot be zero"),
        ("readiness: {tcp: 1, successes: 0}", "a probe must succeed at least once"),
        ("notification_fd: 2", "a notification descriptor has a number from 3 to 1023"),
        ("notification_fd: 1024", "a notification descriptor has a number from 3 to 1023"),
        ("type: notify, notification_fd: 3", "a service says in one way that it is ready"),
    ] {
        let found = load_one("c.yaml", &format!("services: {{a: {{command: x, {keys}}}}}")).diagnostics;
        let errors: Vec<_> = found
            .0
            .iter()
            .filter(|d| d.severity == relume_config::Severity::Error)
            .map(|d| &d.message)
            .collect();
        assert!(errors.len() == 1 && errors[0].contains(message), "{keys}: {errors:?}");
    }
}

#[test]
fn what_is_not_looked_at_warns_and_leaves_the_service_as_it_is() {
    check(
        "yaml",
        "services:\n  a: {command: x, type: oneshot, readiness: {tcp: 1}}\n  b: {command: x, type: forking, notification_fd: 3}\n  \
         c: {command: x, readiness: 'https://h/'}\n  d: {command: x, readiness: {exec: 'true'}}\n  e: {command: x, health_check: {tcp: 1}}\n",
        &[
            "2:45 W `readiness` decides nothing here: a oneshot is ready when it has ended with success",
            "3:51 W `notification_fd` decides nothing here: a `forking` service is ready when its main process is known",
            "4:30 W a probe by `https` is not acted on by this version yet",
            "5:31 W `exec` is not acted on by this version yet",
            "6:33 W `health_check` decides when it is ready; that it fails later is not acted on by this version yet",
        ],
    );
    let text = "services: {a: {command: x, type: oneshot, readiness: {tcp: 1}}, b: {command: x, readiness: {exec: x}}}";
    let services = load_one("c.yaml", text).config.services;
    assert_eq!(services[0].spec.policy.kind, ServiceKind::Oneshot);
    assert_eq!(services[1].spec.policy.kind, ServiceKind::Simple);
    assert!(services.iter().all(|service| !service.readiness.is_awaited()));
}
