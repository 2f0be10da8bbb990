//! A manager that dies while a process is being born: whoever comes after knows of it, though nobody has noted it, and starts no
//! second one. Without cgroups, which would show every process of a run.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::halves::{manager, wait_for_manager};
use crate::harness::{Builder, Process, Relume, eventually, fixture, read};

/// Holds a lease on a file until its standard input ends: whoever executes the file waits so long.
const LEASE: &str = "
import fcntl, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = open(sys.argv[1], 'rb')
fcntl.fcntl(file, 1024, fcntl.F_WRLCK)
print('leased', flush=True)
sys.stdin.read()
";

fn runs_of(program: &str) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let cmdline = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    cmdline.filter(|words| words.starts_with(program.as_bytes())).count()
}

/// The child that the manager is starting.
fn unborn(relume: &Relume) -> Process {
    let manager = relume.manager().pid;
    eventually("a child waits for its program", || {
        let tasks = std::fs::read_dir(format!("/proc/{manager}/task")).ok()?.flatten();
        let children =
            tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
        children
            .flat_map(|all| all.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
            .find_map(Process::of)
    })
}

/// With `is_itself` switched off (always true) two of them run: the one that was hanging, and the one that was started for it.
#[test]
fn a_start_that_hangs_when_the_manager_dies_is_made_again_and_only_once() {
    let builder = Builder::new();
    let program = builder.path("program");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let mut lease = Command::new("python3")
        .args(["-c", LEASE, &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut word = String::new();
    BufReader::new(lease.stdout.take().unwrap()).read_line(&mut word).unwrap();
    assert_eq!(word, "leased\n");
    let config = json!({"services": {"slow": {"command": [program, "1000"]}}});
    let relume = builder.config(&config).env("RELUME_CGROUP", "off").up();
    let child = unborn(&relume);
    let before = relume.status();
    let old = manager(&before);
    old.signal(Signal::KILL);
    let after = wait_for_manager(&relume, &old);
    eventually("the one that hung is given up", || (!child.lives()).then_some(()));
    drop(lease.stdin.take());
    lease.wait().unwrap();
    let status = relume.wait_state("slow", "running");
    assert_eq!((status.service("slow")["run"].as_u64(), status.restarts("slow")), (Some(1), 0), "{after}");
    assert_eq!(runs_of(&program), 1, "{}", relume.told());
    relume.down();
    assert_eq!(runs_of(&program), 0);
}

/// The manager dies at each act of a start, of a program that nothing shows to be a service's. With `born` and `held` switched off,
/// several of them live.
#[cfg(debug_assertions)]
#[test]
fn a_process_without_a_tag_is_known_from_the_moment_of_its_birth() {
    let builder = Builder::new();
    let (announce, count) = (builder.announcements(), builder.path("die-at"));
    let command = ["env", "-i", &fixture("never-ready"), "--announce", &announce].map(str::to_owned);
    let config = json!({"services": {"bare": {"command": command, "stop_signal": "KILL"}}});
    let relume = builder.config(&config).env("RELUME_CGROUP", "off").env("RELUME_DIE_AT", &count).up();
    relume.wait_state("bare", "running");
    let recoveries = |relume: &Relume| relume.status().manager()["recoveries"].as_u64().unwrap();
    let mut n = 1;
    loop {
        relume.ok(&["stop", "bare"]);
        eventually("it is down", || relume.living_fixtures().is_empty().then_some(()));
        let before = recoveries(&relume);
        std::fs::write(&count, n.to_string()).unwrap();
        relume.manager().signal(Signal::USR2);
        relume.ok(&["start", "bare"]);
        relume.wait_state("bare", "running");
        // A second one that announces itself later is still there when it is to be down.
        let lives =
            eventually("it lives", || Some(relume.living_fixtures()).filter(|lives| !lives.is_empty()));
        assert_eq!(lives.len(), 1, "death at act {n}: {lives:?}\n{}", read(&relume.state("relume.log")));
        if recoveries(&relume) == before {
            break;
        }
        n += 1;
    }
    assert!(n > 10, "{n}: no deaths");
    std::fs::write(&count, "0").unwrap();
    relume.manager().signal(Signal::USR2);
    relume.down();
}
