//! Stopping a service leaves nothing of it behind, however it has spread (scorecard R25), with cgroups and
//! without.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::halves::kill_both;
use crate::harness::{Builder, Process, Relume, eventually, fixture};

/// Leader, child, ignorer, setsid parent and child, daemon.
const FAMILY: usize = 6;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// As found: a cgroup for each run, where cgroup v2 is writable.
    Best,
    /// Sessions, descent and the environment tag alone.
    WithoutCgroups,
}

/// A relume whose service `family` is complete.
fn with_family(mode: Mode, extra: &[&str]) -> (Relume, Vec<Process>) {
    let mut builder = Builder::new();
    let announce = builder.announcements();
    if mode == Mode::WithoutCgroups {
        builder = builder.env("RELUME_CGROUP", "off");
    }
    let mut command = vec![fixture("whole-family"), "--announce".to_owned(), announce];
    command.extend(extra.iter().map(|&word| word.to_owned()));
    let relume = builder
        .config(&json!({"services": {"family": {
            "command": command, "timeout_stop": "500ms", "retry_delay": "50ms"}}}))
        .up();
    relume.announced("leader", 1);
    let family = relume.living_fixtures();
    assert_eq!(family.len(), FAMILY, "{family:#?}");
    let own = in_own_cgroups(&family);
    match mode {
        Mode::WithoutCgroups => assert!(!own, "this test is about the other way"),
        Mode::Best if cgroups_can_be_made() => {
            assert!(own, "a cgroup could have been used: {}", relume.told())
        }
        Mode::Best => {
            eprintln!("SKIPPED: no cgroup can be made here, so this was the mode without cgroups again")
        }
    }
    (relume, family)
}

/// Whether relume has put the processes into one cgroup of their own.
fn in_own_cgroups(family: &[Process]) -> bool {
    let cgroup = |pid: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        text.lines().find_map(|line| line.strip_prefix("0::").map(str::to_owned))
    };
    family.iter().all(|process| cgroup(&process.pid.to_string()) != cgroup("self"))
}

/// Whether this process may make cgroups (version 2) below its own. Tried once, as the tests run side by side.
fn cgroups_can_be_made() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        // proc(5): the mount point is field 5, the type follows the lone dash.
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
        let (Some(mount), Some(own)) = (mount.and_then(|line| line.split(' ').nth(4)), own) else {
            return false;
        };
        let probe = Path::new(mount).join(own).join(format!("relume-test-{}", std::process::id()));
        let made = std::fs::create_dir(&probe).is_ok();
        if made {
            std::fs::remove_dir(&probe).unwrap();
        }
        made
    })
}

/// A process that looks like one of the family and is none.
struct Stranger(std::process::Child);

impl Stranger {
    fn new() -> Self {
        Self(Command::new(fixture("ignores-term")).stdout(Stdio::null()).spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn stop_leaves_nothing(mode: Mode) {
    let mut stranger = Stranger::new();
    let (relume, family) = with_family(mode, &[]);
    relume.ok(&["stop", "family"]);
    let survivors: Vec<_> = family.iter().filter(|process| process.lives()).collect();
    assert!(survivors.is_empty(), "{survivors:#?}");
    assert_eq!(relume.processes_of("family"), []);
    assert!(stranger.lives());
    assert_eq!(relume.status().state("family"), "stopped");
}

#[test]
fn stop_leaves_nothing_of_the_tree() {
    stop_leaves_nothing(Mode::Best);
}

#[test]
fn stop_leaves_nothing_of_the_tree_without_cgroups() {
    stop_leaves_nothing(Mode::WithoutCgroups);
}

fn down_leaves_nothing(mode: Mode) {
    let (relume, family) = with_family(mode, &["--clear-env"]);
    relume.down();
    let survivors: Vec<_> = family.iter().filter(|process| process.lives()).collect();
    assert!(survivors.is_empty(), "{survivors:#?}");
}

#[test]
fn down_leaves_nothing_not_even_a_daemon_that_has_cleared_its_environment() {
    down_leaves_nothing(Mode::Best);
}

#[test]
fn down_without_cgroups_leaves_nothing_not_even_a_daemon_that_has_cleared_its_environment() {
    down_leaves_nothing(Mode::WithoutCgroups);
}

fn the_rest_ends_before_a_successor_starts(mode: Mode) {
    let (relume, family) = with_family(mode, &[]);
    let leader = relume.status().pid("family");
    Process::of(leader).unwrap().signal(Signal::KILL);
    let old: Vec<u32> = family.iter().map(|process| process.pid).collect();
    eventually("the successor's first process announces itself", || {
        relume.announcements().iter().any(|(_, pid)| !old.contains(pid)).then_some(())
    });
    let survivors: Vec<_> = family.iter().filter(|process| process.lives()).collect();
    assert!(survivors.is_empty(), "{survivors:#?}");
    relume.announced("leader", 2);
    assert_eq!(relume.living_fixtures().len(), FAMILY, "one family, not two");
}

#[test]
fn when_the_leader_dies_its_tree_is_ended_before_the_next_one_starts() {
    the_rest_ends_before_a_successor_starts(Mode::Best);
}

#[test]
fn when_the_leader_dies_its_tree_is_ended_before_the_next_one_starts_without_cgroups() {
    the_rest_ends_before_a_successor_starts(Mode::WithoutCgroups);
}

#[test]
fn with_stop_to_tree_everybody_is_asked_at_once() {
    let builder = Builder::new();
    let announce = builder.announcements();
    // A leader that takes its time, and a child that would be killed with it if it were not asked itself.
    let script = format!(
        "trap 'wait; exit 0' TERM; {slow} 0 --announce {announce} & {slow} 300 --announce {announce} & wait; wait",
        slow = fixture("slow-stop")
    );
    let relume = builder
        .config(&json!({"services": {"tree": {"command": ["sh", "-c", script], "stop_to": "tree"}}}))
        .up();
    relume.announced("up", 2);
    relume.ok(&["stop", "tree"]);
    assert_eq!(relume.announced("stopped", 2).len(), 2);
    assert_eq!(relume.status().last_exit("tree")["code"], 0);
}

#[test]
fn a_small_fork_bomb_is_stopped_whole() {
    let builder = Builder::new();
    let announce = builder.announcements();
    let relume = builder
        .config(&json!({"services": {"bomb": {
            "command": [fixture("fork-bomb-lite"), "3", "3", "--announce", announce],
            "timeout_stop": "500ms"}}}))
        .up();
    relume.announced("bomb", 1);
    // In the middle of it: most of the forty are still to come.
    relume.ok(&["stop", "bomb"]);
    assert_eq!(relume.living_fixtures(), []);
    assert_eq!(relume.processes_of("bomb"), []);
}

#[test]
fn the_check_sees_survivors_when_only_the_leader_is_killed() {
    let builder = Builder::new();
    let announce = builder.announcements();
    let relume = builder.config(&json!({"services": {}})).up();
    let mut leader = Command::new(fixture("whole-family"))
        .args(["--announce", &announce])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    relume.announced("leader", 1);
    leader.kill().unwrap();
    leader.wait().unwrap();
    let survivors = relume.living_fixtures();
    for process in &survivors {
        process.signal(Signal::KILL);
    }
    assert_eq!(survivors.len(), FAMILY - 1);
    eventually("they are gone", || relume.living_fixtures().is_empty().then_some(()));
}

/// A service is where it was started, whatever the relume that has adopted it would do with a new one. With `tree_of` asking only
/// whether there are cgroups now, the service is taken for alone and its children live on.
#[test]
fn a_family_is_stopped_whole_by_a_relume_that_has_cgroups_or_has_them_no_more() {
    for mode in [Mode::WithoutCgroups, Mode::Best] {
        let (relume, family) = with_family(mode, &[]);
        let before = relume.status();
        kill_both(&before);
        relume.wait_for_end();
        let mut command = relume.command(&["up"]);
        match mode {
            Mode::WithoutCgroups => command.env_remove("RELUME_CGROUP"),
            Mode::Best => command.env("RELUME_CGROUP", "off"),
        };
        relume.adopt(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        relume.wait_until_it_answers();
        assert_eq!(relume.status().pid("family"), before.pid("family"), "it is adopted");
        relume.ok(&["stop", "family"]);
        let left: Vec<&Process> = family.iter().filter(|process| process.lives()).collect();
        assert!(left.is_empty(), "{left:#?}\n{}", relume.told());
        relume.down();
    }
}
