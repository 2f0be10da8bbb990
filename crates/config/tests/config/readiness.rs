//! How a service becomes ready: what each way of writing it comes to.

use std::time::Duration;

use relume_config::{GrpcTarget, HttpTarget, Probe, ProbeTarget, Readiness, Said, ServiceConfig};
use relume_core::ServiceKind;

use crate::common::{check, good, load_one};

fn service(keys: &str) -> ServiceConfig {
    good("c.yaml", &format!("services: {{a: {{command: x, {keys}}}}}")).services.remove(0)
}

fn probe(keys: &str) -> Probe {
    let service = service(keys);
    assert_eq!(service.spec.policy.kind, ServiceKind::Notify, "{keys}");
    let probes = service.readiness.probes.clone();
    probes.readiness.or(probes.health).expect("there is a probe")
}

fn http(keys: &str) -> HttpTarget {
    let target = probe(keys).target;
    let ProbeTarget::Http(target) = target else { panic!("{keys}: {target:?}") };
    *target
}

#[test]
fn a_service_says_that_it_is_ready_in_one_of_two_ways() {
    let notify = service("type: notify");
    assert_eq!(notify.spec.policy.kind, ServiceKind::Notify);
    assert_eq!(notify.readiness, Readiness { said: Some(Said::Notify), ..Readiness::default() }.into());
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

/// Shown to fail: with maps that replace each other as a whole.
#[test]
fn defaults_say_how_to_ask_and_each_service_what() {
    let config = good(
        "c.yaml",
        "defaults: {health_check: {interval: 5s, retries: 7}, liveness: {tcp: 80, timeout: 2s}}\n\
         services:\n  a: {command: x, health_check: 'http://localhost:1/', liveness: {exec: [x]}}\n  \
         b: {command: x, health_check: {tcp: 9, retries: 2}, liveness: off}\n  c: {command: x}\n",
    );
    let [a, b, c] = [0, 1, 2].map(|at| config.services[at].readiness.probes.clone());
    let asked = a.readiness.unwrap();
    assert_eq!((asked.interval, asked.failures), (Duration::from_secs(5), 7));
    assert!(matches!(asked.target, ProbeTarget::Http(_)), "{:?}", asked.target);
    let alive = a.liveness.unwrap();
    assert_eq!(alive.timeout, Duration::from_secs(2));
    assert!(
        matches!(alive.target, ProbeTarget::Exec(_)),
        "its own in place of the default: {:?}",
        alive.target
    );
    let asked = b.readiness.unwrap();
    assert_eq!((asked.interval, asked.failures, b.liveness), (Duration::from_secs(5), 2, None));
    assert!(matches!(asked.target, ProbeTarget::Tcp { port: 9, .. }), "{:?}", asked.target);
    assert_eq!((c.health, c.readiness), (None, None), "who says nothing is not asked");
    assert!(matches!(c.liveness.unwrap().target, ProbeTarget::Tcp { port: 80, .. }));
}

#[test]
fn a_probe_that_nobody_says_what_to_ask_is_an_error_at_its_place() {
    check(
        "yaml",
        "defaults: {health_check: {retries: 7}}\nservices: {a: {command: x, health_check: {interval: 5s}}}\n",
        &["2:42 E the probe does not say what to ask"],
    );
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
    assert_eq!(found.services[0].readiness.probes.health.as_ref().unwrap().timeout, Duration::from_secs(3));
}

#[test]
fn a_health_check_is_whatever_is_not_written_beside_it() {
    let probes = |keys: &str| service(keys).readiness.probes.clone();
    let tcp = |port| ProbeTarget::Tcp { host: "127.0.0.1".into(), port };
    let port = |probe: &Option<Probe>| probe.as_ref().map(|probe| probe.target.clone());
    let both = probes("health_check: {tcp: 1}");
    assert!(both.health.is_some() && both.readiness.is_none() && both.liveness.is_none());
    let live = probes("health_check: {tcp: 1}, readiness: {tcp: 2}");
    assert_eq!(
        (port(&live.readiness), port(&live.liveness), live.health),
        (Some(tcp(2)), Some(tcp(1)), None)
    );
    let ready = probes("health_check: {tcp: 1}, liveness: {tcp: 2}");
    assert_eq!((port(&ready.readiness), port(&ready.liveness)), (Some(tcp(1)), Some(tcp(2))));
    let off = service("health_check: {tcp: 1}, readiness: off");
    assert!(!off.readiness.is_awaited() && off.readiness.probes.liveness.is_some());
    assert_eq!(off.spec.policy.kind, ServiceKind::Simple);
    assert!(off.spec.policy.checks.liveness.is_some());
    assert_eq!(probes("health_check: off"), Default::default());
}

#[test]
fn each_kind_of_probe_can_be_written_in_its_short_form_and_as_kubernetes_does() {
    let target = |keys: &str| probe(keys).target;
    let exec = |words: &[&str]| ProbeTarget::Exec(words.iter().map(|word| (*word).to_owned()).collect());
    assert_eq!(
        target("environment: {P: 70}, readiness: {exec: 'check -p ${P}'}"),
        exec(&["check", "-p", "70"])
    );
    assert_eq!(target("readinessProbe: {exec: {command: [cat, /tmp/it]}}"), exec(&["cat", "/tmp/it"]));
    assert_eq!(target("health_check: {exec: 'a | b'}"), exec(&["/bin/sh", "-c", "a | b"]));
    let grpc = |host: &str, port, service: &str| {
        ProbeTarget::Grpc(GrpcTarget { host: host.into(), port, service: service.into() })
    };
    assert_eq!(target("readiness: {grpc: 'db:70'}"), grpc("db", 70, ""));
    assert_eq!(target("readinessProbe: {grpc: {port: 70, service: s}}"), grpc("127.0.0.1", 70, "s"));
    assert_eq!(target("readiness: {unix: /run/it.sock}"), ProbeTarget::Unix("/run/it.sock".into()));
    assert_eq!(target("readiness: {file: /run/it}"), ProbeTarget::File("/run/it".into()));
    assert_eq!(target("readiness: {log_line: 'listening on'}"), ProbeTarget::LogLine("listening on".into()));
    let https = http("readiness: 'https://h/up'");
    assert_eq!((https.tls, https.port, https.method.as_str()), (true, 443, "GET"));
    let asked = http("readiness: {http: {scheme: HTTPS, method: head, body: ok, port: 1}}");
    assert_eq!((asked.tls, asked.method.as_str(), asked.body.as_deref()), (true, "HEAD", Some("ok")));
}

#[test]
fn thresholds_and_times_of_probes_reach_the_rules_of_the_core() {
    let config = service(
        "startup: {exec: x, retries: 30, interval: 2s}, \
         livenessProbe: {tcpSocket: {port: 1}, failureThreshold: 5, terminationGracePeriodSeconds: 4}, watchdog: 20s",
    );
    let checks = &config.spec.policy.checks;
    let startup = checks.startup.unwrap();
    assert_eq!((startup.failures, startup.command), (30, Some(Duration::from_secs(1))));
    let liveness = checks.liveness.unwrap();
    assert_eq!((liveness.failures, liveness.grace), (5, Some(Duration::from_secs(4))));
    // A start may take as long as its own probe lets it, and then the usual time.
    assert_eq!(config.spec.policy.timeout_start, Some(Duration::from_secs(60 + 30 * 2 + 1)));
    assert_eq!(config.readiness.watchdog, Some(Duration::from_secs(20)));
    assert!(config.readiness.notifies() && !service("watchdog: off").readiness.notifies());
    let set = service("startup: {tcp: 1}, timeout_start: 5s").spec.policy.timeout_start;
    assert_eq!(set, Some(Duration::from_secs(5)));
}

#[test]
fn a_forking_service_can_be_asked_whether_it_lives() {
    let probes = service("type: forking, health_check: {tcp: 1}").readiness.probes.clone();
    assert!(probes.liveness.is_some() && probes.health.is_none());
}

#[test]
fn what_cannot_be_asked_is_an_error_at_its_place() {
    for (keys, message) in [
        ("readiness: 'http://u@host/'", "is no host that can be asked"),
        ("readiness: 'http://ho st/'", "is no host that can be asked"),
        ("readiness: 'http://host/a b'", "has characters that no URL can have"),
        ("readiness: 'tcp://host:0'", "a port is a number from 1 to 65535"),
        ("readiness: {http: {url: 'host:80'}}", "expected a URL"),
        ("readiness: {http: {url: 'tcp://host:80'}}", "expected a URL with `http://` or `https://`"),
        ("readiness: {http: {url: 'http://host', path: /x}}", "`url` says already where to ask"),
        ("readiness: {http: {scheme: ftp}}", "expected `http` or `https`"),
        ("readiness: {http: {headers: {'a(b': c}}}", "is no name of a header"),
        ("readiness: {http: {headers: {a: \"b\\r\\nX: y\"}}}", "control characters"),
        ("readiness: {http: {status: 99}}", "an answer has a status from 200 to 599"),
        ("readiness: {tcp: {host: h}}", "the probe names no port"),
        ("readiness: {tcp: 1, interval: 0}", "the interval of a probe cannot be zero"),
        ("readiness: {tcp: 1, timeout: 0}", "the timeout of a probe cannot be zero"),
        ("readiness: {tcp: 1, retries: 0}", "a probe must fail at least once"),
        ("readiness: {http: {method: BREW}}", "is no method a probe can use"),
        ("readiness: {exec: {}}", "the probe has no `command`"),
        ("liveness: {log_line: x}", "`log_line` is for `readiness` only"),
        ("readiness: {log_line: \"a\\nb\"}", "within one line"),
        ("watchdog: 0", "needs some time between two signs of life"),
        ("fd_store: 4, notification_fd: 6", "descriptors from 3 to 6 are those of `fd_store`"),
        ("fd_store: 1000", "at most 512 descriptors"),
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
         c: {command: x, readiness: {tcp: 1, grace_period: 1s}}\n  d: {command: x, readiness: {tcp: 1}, liveness: {tcp: 1}, health_check: {tcp: 1}}\n",
        &[
            "2:45 W `readiness` decides nothing here: a oneshot is ready when it has ended with success",
            "3:51 W `notification_fd` decides nothing here: a `forking` service is ready when its main process is known",
            "4:53 W failing readiness never stops a service",
            "5:74 W `readiness` and `liveness` say already all that it could",
        ],
    );
    let text = "services: {a: {command: x, type: oneshot, readiness: {tcp: 1}}}";
    let services = load_one("c.yaml", text).config.services;
    assert_eq!(services[0].spec.policy.kind, ServiceKind::Oneshot);
    assert!(services.iter().all(|service| !service.readiness.is_awaited()));
}
