//! Which configuration a manager begins with after the one before was killed: what stands in the files by then. Where that is what
//! they have said before, it is handed on and not read again.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::halves::{manager, pids, wait_for_manager};
use crate::harness::{Builder, Relume, fixture, text};

fn config(names: &[&str], conf_d: &str) -> Value {
    let services: serde_json::Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), json!({"command": [fixture("never-ready")]}))).collect();
    json!({"manager": {"log_level": "debug"}, "include": [conf_d], "services": services})
}

/// How the configs of all managers until now were had, oldest first. `of`: so many of them.
fn had(relume: &Relume, of: usize) -> Vec<&'static str> {
    crate::harness::eventually("each manager says it", || {
        let said = relume.told();
        let lines = said.lines().filter(|line| line.contains(" service") && line.contains(", config "));
        let all: Vec<_> =
            lines.map(|line| if line.contains("config handed on") { "handed on" } else { "read" }).collect();
        (all.len() == of).then_some(all)
    })
}

fn kill(relume: &Relume) {
    let old = manager(&relume.status());
    old.signal(Signal::KILL);
    wait_for_manager(relume, &old);
}

/// Shown to fail: with a recording that is always taken for what the files say (`new` and `late` do not appear), and with none that
/// ever is (no config is handed on).
#[test]
fn a_manager_after_a_kill_runs_what_the_files_say() {
    let builder = Builder::new();
    let conf_d = builder.path("conf.d/*.json");
    fs::create_dir(builder.path("conf.d")).unwrap();
    let one = |name: &str| json!({"services": {name: {"command": [fixture("never-ready")]}}}).to_string();
    fs::write(builder.path("conf.d/first.json"), one("first")).unwrap();
    let relume = builder.config(&config(&["web"], &conf_d)).up();
    let first = relume.wait_until("both run", |status| pids(status).len() == 2);
    kill(&relume);
    kill(&relume);
    assert_eq!(pids(&relume.status()), pids(&first));
    assert_eq!(had(&relume, 3), ["handed on"; 3], "{}", relume.told());

    fs::write(relume.path("next.json"), config(&["web", "new"], &conf_d).to_string()).unwrap();
    fs::rename(relume.path("next.json"), relume.path("relume.json")).unwrap();
    kill(&relume);
    let second = relume.wait_state("new", "running");
    assert_eq!(second.pid("web"), first.pid("web"));
    // A file that was not there before.
    fs::write(relume.path("conf.d/late.json"), one("late")).unwrap();
    kill(&relume);
    relume.wait_state("late", "running");
    kill(&relume);
    assert_eq!(had(&relume, 6)[3..], ["read", "read", "handed on"]);

    // What was taken up by hand is handed on as well.
    fs::remove_file(relume.path("conf.d/late.json")).unwrap();
    relume.ok(&["apply"]);
    kill(&relume);
    assert_eq!(had(&relume, 7)[6], "handed on");
    assert!(!text(&relume.run(&["status"])).contains("late"));
    relume.down();
}
