//! Pipes of floods are made larger, and take nothing from the pipes of others: what all pipes of an ordinary user may hold
//! together is bounded (`fs.pipe-user-pages-soft`), and above it every new pipe of that user holds 8 KiB.

use std::fs::File;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Builder, Relume, eventually, is_root, skip};

/// A user of this test alone: the bound counts what all processes of a user have.
const USER: u32 = 64_321;

const LARGE: usize = 1 << 20;
const ORDINARY: usize = 1 << 16;

/// How much the pipe holds that is the service's standard output.
fn pipe_of(pid: u32) -> Option<usize> {
    // This opens a second reading end, from which nothing is read.
    let output = File::open(format!("/proc/{pid}/fd/1")).ok()?;
    rustix::pipe::fcntl_getpipe_size(&output).ok()
}

fn pipes(relume: &Relume, prefix: &str) -> Vec<usize> {
    let status = relume.status();
    let names = status.services().iter().filter_map(|service| service["name"].as_str());
    let living = names.filter(|name| name.starts_with(prefix) && status.has_pid(name));
    living.filter_map(|name| pipe_of(status.pid(name))).collect()
}

/// Eighty services fill their pipes at once; some pipes are made larger, and a service that is started then has a pipe like
/// any other. When the floods are over their pipes are ordinary ones again.
///
/// Shown to fail without the bound: 62 pipes are large, and the late service has 8 KiB. And with the looks at large pipes
/// switched off: they stay large.
#[test]
fn floods_take_no_pipe_from_a_service_that_comes_later() {
    if !is_root() {
        return skip("to be another user takes root");
    }
    let builder = Builder::new();
    let enough = builder.path("enough");
    let script =
        format!("until [ -e {enough} ]; do printf %40000s; sleep 1; done; echo quiet; exec sleep 1000");
    let mut services = serde_json::Map::new();
    let blocked = |number: usize| format!("blocked/{number}.log");
    for number in 0..80 {
        // Nothing can be written where a directory stands, so that every pipe fills, and what is in it is dropped.
        std::fs::create_dir_all(builder.home().join(blocked(number))).unwrap();
        let log = json!({"when_full": "drop", "file": blocked(number)});
        let flood = json!({"command": ["/bin/sh", "-c", script], "log": log});
        services.insert(format!("flood{number}"), flood);
    }
    services.insert("late".into(), json!({"command": ["/bin/sleep", "1000"], "autostart": false}));
    let relume = builder.config(&json!({ "services": services })).by_user(USER).up();
    let large = || pipes(&relume, "flood").into_iter().filter(|bytes| *bytes == LARGE).count();
    let mut before = 0;
    eventually("no more pipes become large", || {
        std::thread::sleep(Duration::from_millis(500));
        let now = large();
        (std::mem::replace(&mut before, now) == now && now > 8).then_some(())
    });
    relume.ok(&["start", "late"]);
    let late = pipes(&relume, "late");
    eprintln!("{before} pipes are large, the late one holds {late:?} bytes");
    assert_eq!(late, [ORDINARY]);
    std::fs::write(&enough, "").unwrap();
    (0..80).for_each(|number| std::fs::remove_dir(relume.path(&blocked(number))).unwrap());
    eventually("all pipes are ordinary again", || {
        let pipes = pipes(&relume, "flood");
        (pipes.len() == 80 && pipes.iter().all(|bytes| *bytes == ORDINARY)).then_some(())
    });
    relume.down();
}
