//! What a service may use, its sockets, and the zones of schedules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use relume_config::{Account, Limits, ServiceConfig, Socket, SocketAddress, SocketKind};

use crate::common::{check, good, load_one};

fn service(keys: &str) -> ServiceConfig {
    good("c.yaml", &format!("services: {{a: {{command: x, {keys}}}}}")).services.remove(0)
}

fn socket(written: &str) -> Socket {
    let sockets = service(&format!("sockets: [{written}]")).sockets;
    assert_eq!(sockets.len(), 1, "{written}");
    sockets[0].clone()
}

#[test]
fn an_address_is_a_port_an_address_a_path_or_a_name() {
    let port = |port| SocketAddress::Inet(None, port);
    let at = |ip: IpAddr, port| SocketAddress::Inet(Some(ip), port);
    let unix = |path: &str| SocketAddress::Unix(path.into());
    for (written, address, kind) in [
        ("8080", port(8080), SocketKind::Stream),
        ("'*:8080'", port(8080), SocketKind::Stream),
        ("tcp://127.0.0.1:80", at(Ipv4Addr::LOCALHOST.into(), 80), SocketKind::Stream),
        ("'localhost:80'", at(Ipv4Addr::LOCALHOST.into(), 80), SocketKind::Stream),
        ("'[::1]:80'", at(Ipv6Addr::LOCALHOST.into(), 80), SocketKind::Stream),
        ("udp://:514", port(514), SocketKind::Datagram),
        ("{listen: 514, type: datagram}", port(514), SocketKind::Datagram),
        ("run/a.sock", unix("/w/run/a.sock"), SocketKind::Stream),
        ("unix:a.sock", unix("/w/a.sock"), SocketKind::Stream),
        ("a.sock", unix("/w/a.sock"), SocketKind::Stream),
        ("{listen: /tmp/a, type: seqpacket}", unix("/tmp/a"), SocketKind::Seqpacket),
        ("'@name'", SocketAddress::Abstract("name".into()), SocketKind::Stream),
    ] {
        let found = socket(written);
        assert_eq!((found.address, found.kind), (address, kind), "{written}");
    }
}

#[test]
fn what_else_is_said_of_a_socket_is_kept_and_shapes_the_process() {
    let whole = socket(
        "{listen: ./a.sock, name: ctl, mode: '0600', user: www, group: 7, backlog: 9, receive_buffer: 64KiB}",
    );
    assert_eq!((whole.name.as_str(), whole.mode, whole.backlog), ("ctl", 0o600, 9));
    assert_eq!((whole.user, whole.group), (Some(Account::Name("www".into())), Some(Account::Id(7))));
    assert_eq!(whole.receive_buffer, Some(65_536));
    let plain = socket("80");
    assert_eq!((plain.name.as_str(), plain.backlog, plain.reuse_port), ("a", 4096, false));
    let launch = |keys: &str| service(keys).spec.launch;
    assert_ne!(launch("sockets: [80]"), launch("autostart: true"));
    assert_ne!(launch("sockets: [80]"), launch("sockets: [{listen: 80, backlog: 1}]"));
    assert_ne!(launch("sockets: [80]"), launch("sockets: [{listen: 80, name: b}]"));
    assert_ne!(launch("limits: {pids: 5}"), launch("autostart: true"));
    assert_eq!(launch("max_memory: 1GB"), launch("autostart: true"), "it knows nothing of its bound");
}

#[test]
fn sockets_that_cannot_be_are_said() {
    check(
        "yaml",
        "services:\n  a: {command: x, sockets: [0]}\n  b: {command: x, sockets: ['example.com:80']}\n  \
         c: {command: x, sockets: [{name: x}]}\n  d: {command: x, sockets: [80, '*:80']}\n  \
         e: {command: x, sockets: [{listen: 80, name: 'a:b'}]}\n  f: {command: x, sockets: [{listen: 80, type: seqpacket}]}\n  \
         g: {command: x, sockets: [{listen: 'udp://:5', type: stream}]}\n  h: {command: x, sockets: [80], notification_fd: 3}\n  \
         i: {type: external, start_command: x, sockets: [80]}\n  j: {command: x, sockets: [{listen: 80, mode: 600}]}\n",
        &[
            "2:28 E `0` names no port from 1 to 65535",
            "3:28 E `example.com` is no address of a machine",
            "4:28 E a socket needs `listen`",
            "5:28 E tcp port 80 is listed twice",
            "6:28 E `a:b` is no name for a socket",
            "7:28 E `seqpacket` goes with unix sockets only",
            "8:28 E `udp://:5` and its `type` say different things",
            "9:51 E descriptors from 3 to 3 are those of `sockets` and `fd_store`",
            "10:50 E sockets can only be handed to a process of relume's own",
            "11:28 W `mode`, `user` and `group` are those of unix sockets",
        ],
    );
}

#[test]
fn sockets_may_be_a_map_from_their_names_in_every_format() {
    let named = |all: &[Socket]| -> Vec<String> {
        all.iter().map(|socket| format!("{}={socket}", socket.name)).collect()
    };
    let expected = ["http=tcp port 80", "ctl=unix /w/run/a.sock"];
    let yaml = "sockets: {http: 80, ctl: {listen: run/a.sock, mode: '0600'}}";
    assert_eq!(named(&service(yaml).sockets), expected);
    let ini = "[service a]\ncommand = x\nsockets.http = 80\nsockets.ctl = run/a.sock\n";
    assert_eq!(named(&good("c.ini", ini).services.remove(0).sockets), expected);
    let toml = "[services.a]\ncommand = 'x'\n[services.a.sockets]\nhttp = 80\nctl = 'run/a.sock'\n";
    assert_eq!(named(&good("c.toml", toml).services.remove(0).sockets), expected);
    // One of them, with its keys in any order.
    assert_eq!(named(&service("sockets: {name: http, listen: 80}").sockets), ["http=tcp port 80"]);
    assert_eq!(named(&service("sockets: {mode: '0600', listen: ./b}").sockets), ["a=unix /w/b"]);
    assert!(service("sockets: {}").sockets.is_empty());
    check(
        "yaml",
        "services:\n  a: {command: x, sockets: {http: 80, ctl: {listen: 81, nmae: x}}}\n  \
         b: {command: x, sockets: {http: {listen: 80, name: web}}}\n  c: {command: x, sockets: {http: []}}\n",
        &[
            "2:57 E unknown key `nmae`; did you mean `name`?",
            "3:28 E the socket `http` has another `name` inside",
            "4:35 E expected a port, an address or a map with `listen`, found a list",
        ],
    );
}

#[test]
fn processors_are_a_number_a_percentage_or_thousandths() {
    let cpu = |written: &str| service(&format!("limits: {{cpu: {written}}}")).resources.limits.cpu_milli;
    let read = [cpu("2"), cpu("0.5"), cpu("'1.5'"), cpu("50%"), cpu("250 %"), cpu("500m")];
    assert_eq!(read, [2000, 500, 1500, 500, 2500, 500].map(Some));
    check(
        "yaml",
        "services:\n  a: {command: x, limits: {cpu: half}}\n  b: {command: x, limits: {cpu: 0%}}\n",
        &[
            "2:33 E expected a number of processors such as 0.5, 2, `50%`, found `half`",
            "3:33 E expected a number of processors from 0.01 to 8192",
        ],
    );
}

#[test]
fn a_wrong_cron_expression_says_which_field_and_what_it_may_be() {
    for (written, wrong, help) in [
        ("61 * * * *", "`61` is no minute", "0 to 59; also"),
        ("0 24 * * *", "`24` is no hour", "0 to 23; also"),
        ("0 0 0 * *", "`0` is no day of the month", "1 to 31, or `L`"),
        ("0 0 1-32 * *", "`1-32` is no day of the month", "ranges (`1-5`)"),
        ("0 0 1 foo *", "`foo` is no month", "`jan` to `dec`"),
        ("0 0 * * 8", "`8` is no day of the week", "`sun` to `sat`"),
        ("60 0 0 * * *", "`60` is no second", "0 to 59; also"),
        ("*/0 * * * *", "`*/0` is no minute", "steps (`*/5`)"),
        (
            "0 0 * *",
            "has five fields (minute, hour, day of the month, month, day of the week), and this has 4",
            "",
        ),
    ] {
        let text = format!("services: {{a: {{command: x, type: oneshot, schedule: '{written}'}}}}");
        let said = load_one("c.yaml", &text).diagnostics.render(false);
        assert!(said.contains(wrong) && said.contains(help), "{written}: {said}");
        assert!(said.contains("c.yaml:1:") && !said.contains("omponent"), "{written}: {said}");
    }
}

#[test]
fn bounds_and_limits_are_read_and_those_that_no_program_fits_into_are_said() {
    let limited = service("max_memory: 200MB, limits: {memory: 256MiB, cpu: 1.5, pids: 64}").resources;
    assert_eq!(limited.max_memory, Some(200_000_000));
    let expected = Limits { memory: Some(256 << 20), cpu_milli: Some(1500), pids: Some(64) };
    assert_eq!(limited.limits, expected);
    assert_eq!(expected.controllers(), ["cpu", "memory", "pids"]);
    assert!(!service("limits: {}").resources.limits.is_some());
    check(
        "yaml",
        "services:\n  a: {command: x, max_memory: 100}\n  b: {command: x, limits: {memory: 5, cpu: 0, pids: 0}}\n  \
         c: {command: x, max_memory: 1GB, limits: {memory: 1GB}}\n",
        &[
            "2:31 E no program fits into less than 1 MiB",
            "3:36 E no program fits into less than 1 MiB",
            "3:44 E expected a number of processors from 0.01 to 8192",
            "3:53 E a service needs one process at least",
            "4:31 W `limits.memory` ends it before `max_memory` restarts it",
        ],
    );
}

#[test]
fn a_time_zone_is_known_or_an_error_with_the_nearest_one() {
    let job = |zone: &str| {
        let keys = format!("type: oneshot, schedule: '@daily', catch_up: true, timezone: {zone}");
        service(&keys).schedule.unwrap()
    };
    assert_eq!(job("europe/berlin").timezone.as_deref(), Some("Europe/Berlin"));
    assert!(job("UTC").catch_up);
    assert_eq!(job("local").timezone, None);
    let wrong = |zone: &str| {
        let text =
            format!("services: {{a: {{command: x, type: oneshot, schedule: '@daily', timezone: {zone}}}}}");
        let found = crate::common::load_one("c.yaml", &text).diagnostics.render(false);
        assert!(found.contains("there is no time zone"), "{found}");
        found
    };
    assert!(wrong("Europe/Berln").contains("did you mean `Europe/Berlin`?"));
    assert!(wrong("berlin").contains("did you mean `Europe/Berlin`?"));
    assert!(wrong("Nowhere/At_All_To_Be_Found").contains("`UTC`"));
}
