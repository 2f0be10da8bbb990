//! The four formats say the same thing.

use crate::common::{good, load_one};
use relume_core::{Condition, RestartMode, WhenExhausted};
use std::time::Duration;

const YAML: &str = r#"
manager:
  log_level: debug
  respawn_rate: 20/1s
  state_dir: state
defaults:
  retry_delay: 2s
  environment: {SHARED: "yes"}
services:
  db:
    command: ["/bin/db", "--port", "5432"]
    port: 5432
    umask: "027"
    rlimits: {nofile: 65536}
    success_exit_codes: [0, 3]
  web:
    display_name: The Web
    command: /bin/web 'two words'
    dependencies: [db]
    environment: {A: "1", B: "x=y"}
    restart_policy: on-failure
    max_retries: "${N}"
    backoff: off
    when_exhausted: give_up
    timeout_stop: 1m30s
    stop_signal: INT
    log: {stderr: separate, rotate: {size: 64KiB, keep: 2}}
    groups: [front]
  job:
    type: oneshot
    command: exit 0; true
    autostart: no
    dependencies: {db: {condition: completed, restart: true}}
"#;

const TOML: &str = r#"
[manager]
log_level = "debug"
respawn_rate = "20/1s"
state_dir = "state"
[defaults]
retry_delay = "2s"
environment.SHARED = "yes"
[services.db]
command = ["/bin/db", "--port", "5432"]
port = 5432
umask = "027"
rlimits.nofile = 65536
success_exit_codes = [0, 3]
[services.web]
display_name = "The Web"
command = "/bin/web 'two words'"
dependencies = ["db"]
environment = {A = "1", B = "x=y"}
restart_policy = "on-failure"
max_retries = "${N}"
backoff = "off"
when_exhausted = "give_up"
timeout_stop = "1m30s"
stop_signal = "INT"
log.stderr = "separate"
log.rotate = {size = "64KiB", keep = 2}
groups = ["front"]
[services.job]
type = "oneshot"
command = "exit 0; true"
autostart = false
dependencies.db = {condition = "completed", restart = true}
"#;

const JSON: &str = r#"
{
  // comments are fine
  "manager": {"log_level": "debug", "respawn_rate": "20/1s", "state_dir": "state"},
  "defaults": {"retry_delay": 2, "environment": {"SHARED": "yes"}},
  "services": [
    {"name": "db", "command": ["/bin/db", "--port", "5432"], "port": 5432, "umask": "027",
     "rlimits": {"nofile": 65536}, "success_exit_codes": [0, 3]},
    {"name": "web", "display_name": "The Web", "command": "/bin/web 'two words'", "depends_on": "db",
     "env": ["A=1", "B=x=y"], "restart": "on_failure", "max_retries": 7, "backoff": false,
     "when_exhausted": "give_up", "stop_grace_period": 90, "stop_signal": "SIGINT",
     "log": {"stderr": "separate", "rotate": {"size": 65536, "keep": 2}}, "groups": "front"},
    {"name": "job", "type": "oneshot", "command": "exit 0; true", "autostart": "off",
     "dependencies": {"db": {"condition": "service_completed_successfully", "restart": "on"}}},
  ]
}
"#;

const INI: &str = r#"
[relume]
log_level = debug
respawn_rate = 20/1s
state_dir = state
[defaults]
retry_delay = 2
environment.SHARED = yes
; a comment
[service db]
command = /bin/db \
    --port 5432
port = 5432
umask = 027
rlimits.nofile = 65536
success_exit_codes = 0, 3
[service web]
display_name = "The Web"
command = /bin/web 'two words'
dependencies = db
environment.A = 1
environment.B = x=y
restart_policy = on-failure
max_retries = ${N}
backoff = off
when_exhausted = give_up
timeout_stop = 90
stop_signal = int
log.stderr = separate
log.rotate.size = 64KiB
log.rotate.keep = 2
groups = front
[service job]
type = oneshot
command = exit 0; true
autostart = no
dependencies.db.condition = completed
dependencies.db.restart = true
"#;

#[test]
fn the_same_config_in_all_four_formats_is_the_same_config() {
    let yaml = good("c.yaml", YAML);
    for (name, text) in [("c.toml", TOML), ("c.json", JSON), ("c.ini", INI)] {
        let mut other = good(name, text);
        other.sources.clone_from(&yaml.sources);
        assert_eq!(other, yaml, "{name}");
    }
}

#[test]
fn what_is_written_is_what_is_meant() {
    let config = good("c.yaml", YAML);
    assert_eq!(config.manager.state_dir.as_deref(), Some("/w/state".as_ref()));
    assert_eq!(config.manager.policy.respawn_rate.unwrap().count, 20);
    let [db, web, job] = &config.services[..] else { panic!("three services") };
    assert_eq!(db.launch.command(), ["/bin/db", "--port", "5432"]);
    assert_eq!(db.launch.how.umask, Some(0o27));
    assert_eq!(db.spec.policy.restart.success_exit_codes, [0, 3]);
    assert_eq!(db.log.file.to_str(), Some("/w/logs/db.log"));
    assert_eq!(web.launch.command(), ["/bin/web", "two words"]);
    assert_eq!(web.launch.environment.0["SHARED"], "yes");
    assert_eq!(web.launch.environment.0["B"], "x=y");
    assert_eq!(web.log.file.to_str(), Some("/w/logs/The Web.log"));
    assert_eq!(web.log.stderr_file().to_str(), Some("/w/logs/The Web.err.log"));
    let restart = &web.spec.policy.restart;
    assert_eq!((restart.mode, restart.max_retries, restart.backoff), (RestartMode::OnFailure, Some(7), None));
    assert_eq!(
        (restart.when_exhausted, restart.retry_delay),
        (WhenExhausted::GiveUp, Duration::from_secs(2))
    );
    assert_eq!(web.spec.policy.timeout_stop, Some(Duration::from_secs(90)));
    assert_eq!(web.spec.policy.dependencies["db"].condition, Condition::Ready);
    assert_eq!(job.launch.command(), ["/bin/sh", "-c", "exit 0; true"]);
    assert!(job.launch.how.shell && !job.spec.policy.autostart);
    assert_eq!(job.spec.policy.timeout_start, None);
    assert_eq!(job.spec.policy.restart.mode, RestartMode::OnFailure);
    assert!(job.spec.policy.dependencies["db"].restart);
}

#[test]
fn the_seeds_array_works_as_it_stands() {
    let config = good(
        "services_config.json",
        r#"[
      {
        "name": "my_service_1",
        "command": "python /path/to/my_service_1.py --config /etc/my_service_1.conf"
      },
      {
        "name": "another_service",
        "command": "/usr/local/bin/another_app -d"
      }
    ]"#,
    );
    assert_eq!(
        config.services[0].launch.command(),
        ["python", "/path/to/my_service_1.py", "--config", "/etc/my_service_1.conf"]
    );
    assert_eq!(config.services[1].launch.command(), ["/usr/local/bin/another_app", "-d"]);
    assert_eq!(config.services[1].launch.how.working_dir.to_str(), Some("/w"));
    assert_eq!(config.services[0].spec.policy.restart.mode, RestartMode::Always);
    assert_eq!(config.manager.policy.respawn_rate.unwrap().count, 10);
}

#[test]
fn an_empty_config_is_valid_in_every_format() {
    for (name, text) in [
        ("c.yaml", ""),
        ("c.yaml", "services:\n"),
        ("c.yaml", "services: []\n"),
        ("c.yaml", "# nothing\n"),
        ("c.json", "[]"),
        ("c.json", "{}"),
        ("c.json", "\u{feff}{\"services\": {}}"),
        ("c.toml", ""),
        ("c.ini", "; nothing\r\n\r\n"),
    ] {
        assert_eq!(good(name, text).services, [], "{name} {text}");
    }
}

#[test]
fn yaml_anchors_aliases_and_merge_keys_work() {
    let config = good(
        "c.yaml",
        "x-base: &base {command: /bin/a, port: 1, environment: {A: '1'}}\n\
         services:\n  a: *base\n  b: {<<: *base, port: 2}\n  c:\n    <<: [{port: 3}, *base]\n",
    );
    let ports: Vec<_> = config.services.iter().map(|s| s.shown.more.port).collect();
    assert_eq!(ports, [Some(1), Some(2), Some(3)]);
    assert!(config.services.iter().all(|s| s.launch.environment.0["A"] == "1"));
}

#[test]
fn yaml_words_stay_words_until_something_else_is_wanted() {
    let config = good(
        "c.yaml",
        "services:\n  no:\n    command: /bin/a\n    umask: 022\n    description: 007\n    autostart: off\n    environment: {A: no, B: 0755, C: true, D: 1.50, E: ~, F: ''}\n",
    );
    let service = &config.services[0];
    let env = &service.launch.environment.0;
    assert_eq!((service.spec.name.as_str(), service.launch.how.umask), ("no", Some(0o22)));
    assert_eq!(service.shown.more.description.as_deref(), Some("007"));
    assert!(!service.spec.policy.autostart);
    assert_eq!(
        (&*env["A"], &*env["B"], &*env["C"], &*env["D"], &*env["F"]),
        ("no", "0755", "true", "1.50", "")
    );
    assert!(!env.contains_key("E"));
}

#[test]
fn crlf_and_a_byte_order_mark_change_nothing_not_even_places() {
    for (name, text) in [
        ("c.yaml", "services:\r\n  é: {}\r\n  a:\r\n    command: /bin/a\r\n    comand: x\r\n"),
        ("c.toml", "[services.a]\r\ncommand = '/bin/a'\r\n# é\r\n\r\ncomand = 'x'\r\n"),
        ("c.ini", "[service a]\r\ncommand = /bin/a\r\n\r\n# é\r\ncomand = x\r\n"),
        ("c.json", "[\r\n{\"name\": \"a\",\r\n\"command\": \"/bin/a\",\r\n\r\n\"comand\": 1}]\r\n"),
    ] {
        let plain = load_one(name, text).diagnostics;
        let marked = load_one(name, &format!("\u{feff}{text}")).diagnostics;
        let place =
            |d: &relume_config::Diagnostics| d.0.last().map(|d| (d.line, d.column, d.message.clone()));
        assert_eq!(place(&plain), place(&marked));
        let (line, _, message) = place(&plain).unwrap();
        assert_eq!((line, message.as_str()), (5, "unknown key `comand`; did you mean `command`?"), "{name}");
    }
}
