//! What `relume status` looks like.

use insta::assert_snapshot;
use relume_proto::{LastExit, ManagerReport, ManagerState};

use super::*;

fn manager_report() -> ManagerReport {
    ManagerReport {
        pid: 4242,
        guardian_pid: 4242,
        version: "0.1.0".into(),
        state: ManagerState::Running,
        uptime_s: 7385.2,
        ..ManagerReport::default()
    }
}

fn service(name: &str, state: State) -> ServiceReport {
    ServiceReport { name: name.into(), state, autostart: true, ..ServiceReport::default() }
}

fn exit(reason: &str) -> Option<LastExit> {
    Some(LastExit { code: Some(1), reason: reason.into(), ..LastExit::default() })
}

fn troubled() -> StatusReport {
    let services = vec![
        ServiceReport {
            pid: Some(4711),
            uptime_s: Some(7384.9),
            port: Some(5432),
            ..service("db", State::Running)
        },
        ServiceReport {
            reason: Some("waiting for api to be ready".into()),
            depends_on: vec!["api".into()],
            ..service("web", State::Pending)
        },
        ServiceReport {
            restarts: 2,
            retries_used: 2,
            retries_left: Some(3),
            next_start_in_s: Some(4.2),
            last_exit: exit("exited 1 after 3 s"),
            ..service("api", State::Crashed)
        },
        ServiceReport {
            restarts: 5,
            retries_used: 5,
            retries_left: Some(0),
            next_start_in_s: Some(240.0),
            last_exit: exit("ended by SIGSEGV (core dumped) after 40 ms"),
            ..service("worker:1", State::MaxRestarts)
        },
        ServiceReport { autostart: false, ..service("backup", State::Stopped) },
        ServiceReport {
            last_exit: exit("exited 0 after 120 ms"),
            run: Some(1),
            ..service("migrate", State::Completed)
        },
    ];
    StatusReport { manager: manager_report(), services }
}

#[test]
fn each_state_says_what_matters_about_it() {
    assert_snapshot!(render(&troubled(), Look::PLAIN), @r#"
    NAME      STATE          PID     UPTIME  RESTARTS  NOW
    db        running       4711  2 h 3 min         0  port 5432
    web       pending          -          -         0  waiting for api to be ready
    api       crashed          -          -         2  exited 1 after 3 s; next start in 4 s, 3 of 5 retries left
    worker:1  max_restarts     -          -         5  ended by SIGSEGV (core dumped) after 40 ms; 5 retries used; next try in 4 min
    backup    stopped          -          -         0  not started by itself (autostart: false)
    migrate   completed        -          -         0  exited 0 after 120 ms

    6 services: 1 running, 1 pending, 1 crashed, 1 max_restarts, 1 stopped, 1 completed · relume 0.1.0, pid 4242, up 2 h 3 min
    See why: relume explain worker:1   then: relume start worker:1
    "#);
}

#[test]
fn a_narrow_terminal_breaks_only_the_last_column() {
    let look = Look { width: Some(80), ..Look::PLAIN };
    let shown = render(&troubled(), look);
    let table: Vec<&str> = shown.lines().take_while(|line| !line.is_empty()).collect();
    assert!(table.iter().all(|line| columns(line) <= 80), "{shown}");
    assert_snapshot!(table.join("\n"), @r#"
    NAME      STATE          PID     UPTIME  RESTARTS  NOW
    db        running       4711  2 h 3 min         0  port 5432
    web       pending          -          -         0  waiting for api to be ready
    api       crashed          -          -         2  exited 1 after 3 s; next
                                                       start in 4 s, 3 of 5 retries
                                                       left
    worker:1  max_restarts     -          -         5  ended by SIGSEGV (core
                                                       dumped) after 40 ms; 5
                                                       retries used; next try in 4
                                                       min
    backup    stopped          -          -         0  not started by itself
                                                       (autostart: false)
    migrate   completed        -          -         0  exited 0 after 120 ms
    "#);
}

#[test]
fn colours_follow_the_state_and_do_not_disturb_the_columns() {
    let look = Look { colour: true, ..Look::PLAIN };
    let report = StatusReport {
        manager: manager_report(),
        services: vec![service("a", State::Running), service("b", State::Failed)],
    };
    let shown = render(&report, look);
    assert!(shown.contains("\u{1b}[32mrunning\u{1b}[0m"), "{shown:?}");
    assert!(shown.contains("\u{1b}[31mfailed \u{1b}[0m"), "{shown:?}");
    let plain = anstream::adapter::strip_str(&shown).to_string();
    assert_eq!(plain, render(&report, Look::PLAIN));
}

#[test]
fn all_well_needs_no_advice() {
    let report = StatusReport {
        manager: manager_report(),
        services: vec![ServiceReport {
            pid: Some(7),
            uptime_s: Some(61.0),
            urls: vec!["http://localhost:8080/".into()],
            restarts: 1,
            last_exit: exit("exited 1 after 3 s"),
            ..service("web", State::Running)
        }],
    };
    assert_snapshot!(render(&report, Look::PLAIN), @r#"
    NAME  STATE    PID     UPTIME  RESTARTS  NOW
    web   running    7  1 min 1 s         1  http://localhost:8080/; before: exited 1 after 3 s

    1 service: 1 running · relume 0.1.0, pid 4242, up 2 h 3 min
    "#);
    assert!(is_well(&report.services));
}

#[test]
fn no_services_are_fine() {
    let report = StatusReport { manager: manager_report(), services: Vec::new() };
    assert_snapshot!(render(&report, Look::PLAIN), @r#"
    No services.

    0 services · relume 0.1.0, pid 4242, up 2 h 3 min
    "#);
    assert!(is_well(&[]));
}

#[test]
fn what_waits_for_a_stopped_service_is_told_which() {
    let mut web = service("web", State::Pending);
    web.depends_on = vec!["db".into()];
    let report =
        StatusReport { manager: manager_report(), services: vec![service("db", State::Stopped), web] };
    assert!(render(&report, Look::PLAIN).ends_with("web waits for db: relume start db\n"));
    assert!(!is_well(&report.services));
}

#[test]
fn an_unwell_service_counts_only_if_it_starts_by_itself() {
    let mut manual = service("tool", State::Failed);
    assert!(!is_well(&[manual.clone()]));
    manual.autostart = false;
    assert!(is_well(&[manual]));
}

#[test]
fn words_and_names_of_strangers_are_shown_harmless() {
    let mut odd = service("a\u{1b}[2Jb", State::from("new\u{1b}word"));
    odd.reason = Some("line\nbreak \u{202e}".into());
    let shown = render(&StatusReport { manager: manager_report(), services: vec![odd] }, Look::PLAIN);
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown:?}");
    assert!(shown.contains("a\\x1b[2Jb") && shown.contains("line\\nbreak"), "{shown}");
}
