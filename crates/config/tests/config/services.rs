//! What a service comes to: commands, environments, instances, digests, settings.

use std::time::Duration;

use crate::common::{Memory, good, lines, load_one, load_with};
use relume_config::{Account, Config, LogLevel, StandIn, Stderr};
use relume_core::{ExitWhen, ServiceKind};

fn command(text: &str) -> Vec<String> {
    good("c.json", &format!("[{{\"name\": \"a\", \"command\": {text}}}]")).services[0].launch.command()
}

#[test]
fn a_list_is_executed_as_it_is_and_a_string_goes_to_the_shell_only_if_it_must() {
    assert_eq!(command(r#"["echo", "a b", "$HOME; #"]"#), ["echo", "a b", "$HOME; #"]);
    assert_eq!(command(r#""echo 'a b' c\\ d""#), ["echo", "a b", "c d"]);
    assert_eq!(command(r#""echo a | cat""#), ["/bin/sh", "-c", "echo a | cat"]);
    assert_eq!(command(r##""echo #a""##), ["/bin/sh", "-c", "echo #a"]);
    assert_eq!(command(r#""echo $HOME""#), ["/bin/sh", "-c", "echo $HOME"]);
    assert_eq!(command(r#""echo ${HOME}""#), ["echo", "/home/u"]);
    assert_eq!(command(r#""echo $${HOME}""#), ["/bin/sh", "-c", "echo ${HOME}"]);
    assert_eq!(command(r#""echo ${X:-y}""#), ["echo", "y"]);
}

#[test]
fn shell_chooses_the_shell_or_none() {
    let argv = |shell: &str| {
        let text = format!("services: {{a: {{command: \"echo a;b\", shell: {shell}}}}}");
        good("c.yaml", &text).services[0].launch.command()
    };
    assert_eq!(argv("/bin/bash -e"), ["/bin/bash", "-e", "-c", "echo a;b"]);
    assert_eq!(argv("off"), ["echo", "a;b"]);
}

#[test]
fn executable_and_arguments_are_the_command_in_two_keys() {
    let argv = |text: &str| good("c.yaml", text).services[0].launch.command();
    assert_eq!(
        argv("services: {a: {executable: /bin/my prog, arguments: [-p, '${N}', '']}}"),
        ["/bin/my prog", "-p", "7", ""]
    );
    assert_eq!(argv("services: {a: {executable: /bin/a, arguments: \"-x 'y z'\"}}"), ["/bin/a", "-x", "y z"]);
    assert_eq!(argv("services: {a: {executable: /bin/a, arguments: []}}"), ["/bin/a"]);
}

#[test]
fn the_services_own_environment_counts_first_in_its_commands() {
    let config = good(
        "c.yaml",
        "services:\n  a:\n    command: [x, '${N}', '${RELUME_INSTANCE}']\n    environment: {N: own, M: '${N}'}\n    pre_start: {command: 'y ${N}', timeout: 5s}\n    on_failure: z ${M}\n",
    );
    let service = &config.services[0];
    assert_eq!(service.launch.command(), ["x", "own", "1"]);
    assert_eq!(service.launch.environment.0["M"], "7");
    let hook = service.hooks.pre_start.as_ref().unwrap();
    assert_eq!((hook.argv.join(" "), hook.timeout), ("y own".to_owned(), Duration::from_secs(5)));
    assert_eq!(service.hooks.on_failure.as_ref().unwrap().argv, ["z", "7"]);
    assert_eq!(service.spec.policy.hooks.pre_start, Some(Duration::from_secs(5)));
    assert_eq!(service.spec.policy.hooks.on_failure, Some(relume_core::HOOK_TIMEOUT));
    assert_eq!(service.spec.policy.hooks.post_stop, None);
}

#[test]
fn instances_are_services_and_a_dependency_on_the_name_means_all_of_them() {
    let config = good(
        "c.yaml",
        "services:\n  web: {command: x, instances: 2, display_name: Web, groups: front}\n  one: {command: x, dependencies: ['web:2']}\n  all: {command: x, instances: 2, depends_on: {web: {condition: started}}, log: {file: all.log}}\n",
    );
    let names: Vec<&str> = config.services.iter().map(|s| s.spec.name.as_str()).collect();
    assert_eq!(names, ["web:1", "web:2", "one", "all:1", "all:2"]);
    let [first, second, one, all, _] = &config.services[..] else { panic!("five") };
    assert_eq!((first.base_name.as_str(), second.shown.display_name.as_str()), ("web", "Web:2"));
    assert_eq!(second.launch.environment.0["RELUME_INSTANCE"], "2");
    assert_eq!(second.log.file.to_str(), Some("/w/logs/Web:2.log"));
    assert_eq!(all.log.file.to_str(), Some("/w/all:1.log"));
    assert_eq!(one.spec.policy.dependencies.keys().collect::<Vec<_>>(), ["web:2"]);
    assert_eq!(all.spec.policy.dependencies.keys().collect::<Vec<_>>(), ["web:1", "web:2"]);
}

#[test]
fn an_instance_that_does_not_exist_is_told_from_a_service_that_does_not() {
    let text = "services:\n  web: {command: x, instances: 2}\n  a: {command: x, dependencies: ['web:3', 'b:1', 'c:1']}\n  b: {command: x}\n";
    assert_eq!(
        lines(&load_one("c.yaml", text).diagnostics),
        [
            "c.yaml:3:34: error: `a` depends on `web:3`, which does not exist; `web` has 2 instances",
            "c.yaml:3:43: error: `a` depends on `b:1`, which does not exist; `b` has one instance, called `b`",
            "c.yaml:3:50: error: `a` depends on `c:1`, which does not exist",
        ]
    );
}

#[test]
fn a_circle_through_instances_is_named_once() {
    let text = "services:\n  a: {command: x, instances: 3, dependencies: b}\n  b: {command: x, instances: 2, dependencies: a}\n  c: {command: x, dependencies: c}\n";
    assert_eq!(
        lines(&load_one("c.yaml", text).diagnostics),
        [
            "c.yaml:2:47: error: dependencies go in a circle: a → b → a",
            "c.yaml:4:33: error: dependencies go in a circle: c → c",
        ]
    );
}

fn digest(config: &Config) -> u64 {
    config.services[0].spec.launch
}

#[test]
fn the_launch_digest_changes_with_what_a_process_is_started_with_and_with_nothing_else() {
    let with = |more: &str| digest(&good("c.yaml", &format!("services: {{a: {{command: x{more}}}}}")));
    let plain = with("");
    for same in [
        ", restart: never",
        ", timeout_stop: 1s",
        ", port: 80",
        ", log: {file: y.log}",
        ", description: d",
        ", pre_start: y",
        ", display_name: A",
        ", autostart: no",
        ", urls: [u]",
        ", groups: [g]",
        ", type: oneshot",
        ", environment: {}",
    ] {
        assert_eq!(with(same), plain, "{same}");
    }
    let mut seen = std::collections::BTreeSet::from([plain]);
    for other in [
        ", environment: {A: b}",
        ", environment: {A: ''}",
        ", environment: {Ab: ''}",
        ", working_dir: y",
        ", user: u",
        ", user: 1",
        ", group: u",
        ", umask: 0",
        ", nice: 0",
        ", nice: 1",
        ", oom_score_adj: 1",
        ", rlimits: {core: 1}",
        ", rlimits: {core: '0:1'}",
        ", rlimits: {cpu: 1}",
        ", type: forking, pid_file: y",
        ", log: {stderr: separate}",
        ", log: {stderr: discard}",
        ", log: {survive: true}",
    ] {
        assert!(seen.insert(with(other)), "{other}");
    }
}

#[test]
fn the_launch_digest_is_the_same_in_every_version() {
    let config = good(
        "c.yaml",
        "services: {a: {command: [x, y], environment: {A: b}, umask: 22, rlimits: {nofile: 10}}}",
    );
    assert_eq!(format!("{:016x}", digest(&config)), DIGEST);
}

/// If this changes, an upgrade of relume restarts every service of every user once.
const DIGEST: &str = "5cd9949bb89989c0";

#[test]
fn secrets_do_not_appear_in_debug_output() {
    let files = Memory::with(&[
        ("c.yaml", "services: {a: {command: x, environment: {PASSWORD: hunter2}, env_file: a.env}}"),
        ("a.env", "TOKEN=hunter3\n"),
    ]);
    let loaded = load_with(&files, &["c.yaml"], &[]);
    let shown = format!("{loaded:?}");
    assert_eq!(loaded.config.services[0].launch.environment.0["TOKEN"], "hunter3");
    assert!(shown.contains("PASSWORD") && shown.contains("TOKEN") && !shown.contains("hunter"), "{shown}");
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let files = Memory::with(&[(
        "d/c.yaml",
        "manager: {log_level: warn, start_parallelism: 3, exit_when: all_done, log_dir: l}",
    )]);
    let overrides = [
        ("log_level", "error", "RELUME_LOG_LEVEL"),
        ("log_level", "debug", "--log-level"),
        ("start_parallelism", "9", "RELUME_START_PARALLELISM"),
        ("state_dir", "s", "--state-dir"),
        ("respawn_rate", "off", "--respawn-rate"),
    ];
    let loaded = load_with(&files, &["d/c.yaml"], &overrides);
    assert_eq!(lines(&loaded.diagnostics), Vec::<String>::new());
    let manager = loaded.config.manager;
    assert_eq!((manager.log_level, manager.policy.start_parallelism), (LogLevel::Debug, 9));
    assert_eq!(manager.policy.exit_when, ExitWhen::AllDone);
    assert_eq!(manager.policy.respawn_rate, None);
    assert_eq!(
        manager.state_dir.unwrap().to_str(),
        Some("/w/s"),
        "a flag's path starts in the working directory"
    );
    assert_eq!(manager.log_dir.to_str(), Some("/w/d/l"), "a file's path starts at the file");
    assert_eq!(manager.config_dir.to_str(), Some("/w/d"));
}

#[test]
fn a_wrong_flag_or_variable_is_named() {
    let files = Memory::with(&[("c.yaml", "")]);
    let overrides = [
        ("log_level", "lout", "--log-level"),
        ("api.listn", "x", "RELUME_API_LISTN"),
        ("start_parallelism", "x", "RELUME_START_PARALLELISM"),
    ];
    assert_eq!(
        lines(&load_with(&files, &["c.yaml"], &overrides).diagnostics),
        [
            "--log-level:1:1: error: unknown value `lout`",
            "RELUME_API_LISTN:1:1: warning: `api` is not acted on by this version yet",
            "RELUME_API_LISTN:1:1: error: unknown key `listn`; did you mean `listen`?",
            "RELUME_START_PARALLELISM:1:1: error: expected a whole number from 0 to 4294967295, found `x`",
        ]
    );
}

#[test]
fn off_and_zero_mean_what_each_timeout_says() {
    let policy = |keys: &str| {
        good("c.yaml", &format!("services: {{a: {{command: x, {keys}}}}}")).services.remove(0).spec.policy
    };
    assert_eq!(policy("timeout_start: off").timeout_start, None);
    assert_eq!(policy("timeout_start: 0").timeout_start, None);
    assert_eq!(policy("timeout_start: 5").timeout_start, Some(Duration::from_secs(5)));
    assert_eq!(policy("timeout_stop: off").timeout_stop, None);
    assert_eq!(policy("timeout_stop: 0").timeout_stop, Some(Duration::ZERO));
    assert_eq!(policy("type: oneshot, timeout_start: 5").timeout_start, Some(Duration::from_secs(5)));
    assert_eq!(policy("max_retries: unlimited").restart.max_retries, None);
    assert_eq!(policy("restart: 'on-failure:3'").restart.max_retries, Some(3));
    assert_eq!(policy("type: forking").kind, ServiceKind::Forking);
}

#[test]
fn names_that_would_leave_the_log_folder_are_escaped_or_refused() {
    let stem = |display: &str| {
        let text = serde_json::json!([{"name": "a", "display_name": display, "command": "x"}]).to_string();
        good("c.json", &text).services[0]
            .log
            .file
            .strip_prefix("/w/logs")
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    for (display, file) in [
        ("../x", "%2E.%2Fx.log"),
        ("a/b", "a%2Fb.log"),
        (".", "%2E.log"),
        ("..", "%2E..log"),
        ("a%2Fb", "a%252Fb.log"),
        ("a\nb\u{1b}[m", "a%0Ab%1B[m.log"),
        ("a\u{202e}b", "a%E2%80%AEb.log"),
        ("Müller & Söhne", "Müller & Söhne.log"),
    ] {
        assert_eq!(stem(display), file);
    }
    let long = "x".repeat(300);
    for name in
        ["../x", "a/b", ".", "..", "", "a\nb", "a\u{1b}b", "a\u{202e}b", "-x", "%(x)s", "$(id)", "ü", &long]
    {
        let text = serde_json::json!([{"name": name, "command": "x"}]).to_string();
        let found = load_one("c.json", &text);
        assert!(found.diagnostics.has_errors() && found.config.services.is_empty(), "{name}");
        let rendered = found.diagnostics.render(false);
        assert!(!rendered.contains('\u{1b}') && !rendered.contains('\u{202e}'), "{rendered}");
    }
}

#[test]
fn stderr_is_merged_unless_told_otherwise() {
    assert_eq!(good("c.yaml", "services: {a: {command: x}}").services[0].log.rules.stderr, Stderr::Merge);
    assert_eq!(
        good("c.yaml", "services: {a: {command: x, user: 5, log: {rotate: off}}}").services[0]
            .log
            .rules
            .rotate,
        None
    );
    assert_eq!(
        good("c.yaml", "services: {a: {command: x, user: 5}}").services[0].launch.how.user,
        Some(Account::Id(5))
    );
}

#[test]
fn a_service_has_its_own_targets_of_alerts_and_those_of_all() {
    let text = "alerts: {webhook: 'https://hooks.example/x?y=1', template: '{service}'}\n\
                services: {a: {command: x, alerts: [{on: [running, stopped], command: 'tell ${W}'}], environment: {W: me}}, b: {command: x}}";
    let services = crate::common::good("c.yaml", text).services;
    let (a, b) = (&services[0].alerts, &services[1].alerts);
    assert_eq!((a.len(), b.len()), (2, 1));
    assert_eq!(a[0].on, [relume_core::Word::Running, relume_core::Word::Stopped]);
    assert_eq!(a[0].command.as_deref(), Some(&["tell".to_owned(), "me".to_owned()][..]));
    assert_eq!((b[0].on.as_slice(), &a[1]), (&relume_config::Alert::USUAL[..], &b[0]));
    let hook = b[0].webhook.as_ref().unwrap();
    assert_eq!(
        (hook.tls, hook.port, hook.path.as_str(), hook.method.as_str()),
        (true, 443, "/x?y=1", "POST")
    );
}

#[test]
fn an_alert_that_tells_nobody_or_nowhere_is_an_error() {
    for (alert, message) in [
        ("{on: crashed}", "the alert tells nobody"),
        ("{webhook: 'tcp://host:1'}", "a webhook is a URL"),
        ("{webhook: 'http://'}", "names no host"),
    ] {
        let text = format!("services: {{a: {{command: x, alerts: {alert}}}}}");
        let found = crate::common::load_one("c.yaml", &text).diagnostics;
        assert!(found.0.iter().any(|d| d.message.contains(message)), "{alert}: {found:?}");
    }
}

/// What stands in for a container is asked to end in one way; what the container is sent is its engine's affair. Shown to fail:
/// with `KILL` sent to what stands in, that dies and the container runs on.
#[test]
fn the_stop_signal_of_a_container_is_the_containers_and_not_that_of_its_shim() {
    let text = "services: {a: {container: {image: i}, stop_signal: KILL}, b: {type: external, status_command: 'true', stop_signal: USR1}, c: {command: x, stop_signal: KILL}}";
    let config = good("c.yaml", text);
    let signals: Vec<i32> = config.services.iter().map(|service| service.spec.policy.stop_signal).collect();
    assert_eq!(signals, [15, 15, 9]);
    match config.services[0].stand_in.as_deref() {
        Some(StandIn::Container(container)) => assert_eq!(container.stop_signal, Some(9)),
        Some(StandIn::External(_)) | None => panic!("a container"),
    }
}

#[test]
fn a_container_has_the_services_variables_under_its_own_and_a_name_for_each_instance() {
    let text = "services: {a@1: {instances: 2, environment: {A: a, B: b}, container: {image: i, env: {B: c}, volumes: ['./x:/y:ro', data:/z]}}}";
    let config = good("c.yaml", text);
    let containers: Vec<_> = config
        .services
        .iter()
        .map(|service| match service.stand_in.as_deref() {
            Some(StandIn::Container(container)) => container.clone(),
            Some(StandIn::External(_)) | None => panic!("a container"),
        })
        .collect();
    assert_eq!(containers[0].name, "relume-a-1-1");
    assert_eq!(containers[1].name, "relume-a-1-2");
    assert_eq!(containers[0].env["A"], "a");
    assert_eq!(containers[0].env["B"], "c");
    assert_eq!(containers[0].volumes[0].from, "/w/x");
    assert_eq!(containers[0].volumes[1].from, "data");
    assert_eq!(config.services[0].spec.policy.kind, ServiceKind::Notify);
}

#[test]
fn another_variable_of_a_container_is_another_launch() {
    let launch = |value: &str| {
        let text = format!("services: {{a: {{container: {{image: i, env: {{A: {value}}}}}}}}}");
        good("c.yaml", &text).services[0].spec.launch
    };
    assert_eq!(launch("1"), launch("1"));
    assert_ne!(launch("1"), launch("2"));
}
