//! R25: a stop leaves nothing of a run behind, by cgroup and by walking the process tree, and touches no stranger.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use common::{Child, LONG, METHODS, alone, request, sh, skip};
use relume_os::cgroup::{CgroupRoot, EntryWay, Removal, RunCgroup};
use relume_os::epoll::{Epoll, Inotify, Interest, Watch};
use relume_os::exit::{self, ExitStatus};
use relume_os::pidfd::{PidFd, ProcessId};
use relume_os::pipes::Pipe;
use relume_os::spawn::{CgroupEntry, SpawnFds, SpawnMethod, SpawnStep};
use relume_os::tree::{self, RunMarks};
use relume_os::{prctl, proc};

/// Leader, child, one that ignores TERM, one with a session of its own, and a daemon (two forks and a session) with a child.
/// Each says its pid before it settles down.
const FAMILY: &str = r#"
trap '' TERM
echo $$
sh -c 'echo $$; exec sleep 1000' &
sh -c 'trap "" TERM; echo $$; while :; do sleep 1000; done' &
setsid sh -c 'echo $$; exec sleep 1000' &
(setsid sh -c 'sh -c "echo \$\$; exec sleep 1000" & echo $$; exec sleep 1000' &)
while :; do wait; done
"#;
const FAMILY_SIZE: usize = 6;

struct Family {
    leader: Child,
    members: Vec<(ProcessId, PidFd)>,
    tag: String,
}

impl Family {
    fn start(cgroup: Option<CgroupEntry<'_>>, method: SpawnMethod) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let tag = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut request = sh(FAMILY);
        request.environment.push(("RELUME_RUN".into(), tag.clone().into()));
        let pipe = Pipe::new().unwrap();
        let fds = SpawnFds { stdout: Some(pipe.write.as_fd()), cgroup, ..SpawnFds::default() };
        let leader = Child::start(&request, &fds, method).unwrap();
        drop(pipe.write);
        let lines = BufReader::new(File::from(pipe.read)).lines().take(FAMILY_SIZE);
        let members = lines.map(|line| {
            let id = ProcessId::of(line.unwrap().parse().unwrap()).unwrap().unwrap();
            (id, id.open().unwrap().unwrap())
        });
        Self { members: members.collect(), leader, tag }
    }

    fn marks(&self) -> RunMarks<'_> {
        RunMarks { leader: Some(self.leader.spawned.id), tag: Some(("RELUME_RUN", &self.tag)), adopters: &[] }
    }

    fn living(&self) -> usize {
        self.members.iter().filter(|(_, fd)| !fd.has_ended().unwrap()).count()
    }

    fn wait_all_ended(&self) {
        for (id, fd) in &self.members {
            assert!(fd.wait_ended(LONG).unwrap(), "{id:?} survived");
        }
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        for (id, fd) in &self.members {
            let _ = fd.send_signal(9);
            let _ = fd.wait_ended(LONG);
            if *id != self.leader.spawned.id {
                let _ = exit::reap_orphan(id.pid);
            }
        }
        // What the family had started besides is an orphan of ours by now.
        let _ = tree::kill_all(&self.marks());
        for pid in proc::children().unwrap_or_default() {
            if proc::stat(pid).ok().flatten().is_some_and(|s| s.is_zombie()) && pid != self.leader.pid() {
                let _ = exit::reap_orphan(pid);
            }
        }
    }
}

struct Root(CgroupRoot);

impl Root {
    fn find(name: &str) -> Option<Self> {
        match CgroupRoot::discover(&format!("relume-test-{name}-{}", std::process::id())) {
            Ok(root) => Some(Self(root)),
            Err(e) => {
                skip(&format!("no writable cgroup v2: {e}"));
                None
            }
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for (service, generation) in self.0.runs().unwrap_or_default() {
            let run = self.0.run(&service, generation);
            let _ = run.kill();
            wait_empty(&run);
            let _ = run.remove();
        }
        assert_eq!(self.0.remove().unwrap(), Removal::Removed);
    }
}

fn wait_empty(run: &RunCgroup) {
    let (inotify, epoll) = (Inotify::new().unwrap(), Epoll::new().unwrap());
    epoll.add(&inotify, 0, Interest::READ).unwrap();
    let Ok(_watch) = inotify.add_watch(&run.events_path(), Watch::MODIFIED) else { return };
    let deadline = Instant::now() + LONG;
    let mut ready = Vec::new();
    while run.populated().unwrap() {
        assert!(Instant::now() < deadline, "{} stays populated", run.path().display());
        epoll.wait(&mut ready, Some(LONG)).unwrap();
        inotify.drain(|_| {}).unwrap();
    }
}

#[test]
fn a_cgroup_kill_leaves_nothing_of_a_family_and_no_directory() {
    let _turn = alone();
    prctl::set_child_subreaper().unwrap();
    let Some(root) = Root::find("kill") else { return };
    let way = root.0.probe().unwrap();
    let mut generation = 0;
    for method in METHODS {
        for born in [true, false] {
            generation += 1;
            let run = root.0.create_run("web:1", generation).unwrap();
            let dir = run.open_dir().unwrap();
            let entry = match born && way == EntryWay::Born {
                true => CgroupEntry::Born(dir.as_fd()),
                false => CgroupEntry::Move(dir.as_fd()),
            };
            let stranger = Child::start(&request(&["sleep", "1000"]), &SpawnFds::default(), method).unwrap();
            let family = Family::start(Some(entry), method);
            let inside = run.procs().unwrap();
            assert!(
                family.members.iter().all(|(id, _)| inside.contains(&id.pid)) && run.populated().unwrap()
            );
            assert_eq!(run.remove().unwrap(), Removal::Busy, "a populated cgroup is busy, not an error");
            run.kill().unwrap();
            family.wait_all_ended();
            wait_empty(&run);
            assert_eq!(run.procs().unwrap(), Vec::<u32>::new());
            assert_eq!(run.remove().unwrap(), Removal::Removed);
            assert!(!run.path().exists());
            assert!(!stranger.spawned.pidfd.has_ended().unwrap(), "a stranger was killed");
        }
    }
}

#[test]
fn a_signal_to_a_cgroup_reaches_each_process_and_those_who_ignore_it_live() {
    let _turn = alone();
    prctl::set_child_subreaper().unwrap();
    let Some(root) = Root::find("signal") else { return };
    let run = root.0.create_run("web", 1).unwrap();
    let dir = run.open_dir().unwrap();
    let family = Family::start(Some(CgroupEntry::Move(dir.as_fd())), SpawnMethod::Clone3);
    assert!(run.signal_all(15).unwrap() >= FAMILY_SIZE);
    for (id, fd) in &family.members {
        if *id != family.leader.spawned.id
            && proc::status_field(id.pid, "SigIgn:").is_some_and(|m| m.ends_with("0000"))
        {
            assert!(fd.wait_ended(LONG).unwrap());
        }
    }
    assert!(family.living() >= 1 && run.populated().unwrap());
}

#[test]
fn run_directories_are_fresh_listed_and_made_again_only_after_removal() {
    let _turn = alone();
    let Some(root) = Root::find("list") else { return };
    let odd = "a b/../é:2";
    root.0.create_run(odd, 7).unwrap();
    root.0.create_run("web", 1).unwrap();
    root.0.create_run("web", 2).unwrap();
    assert_eq!(root.0.create_run("web", 1).unwrap_err().errno, relume_os::Errno::EXIST);
    assert_eq!(root.0.runs().unwrap(), [(odd.to_owned(), 7), ("web".to_owned(), 1), ("web".to_owned(), 2)]);
    assert_eq!(root.0.run("web", 1).remove().unwrap(), Removal::Removed);
    assert_eq!(root.0.run("web", 1).remove().unwrap(), Removal::Removed, "removing twice is no error");
    assert!(!root.0.run("never", 1).populated().unwrap());
    root.0.run("never", 1).kill().unwrap();
    // A service may make groups of its own below its run.
    let run = root.0.run("web", 2);
    std::fs::create_dir_all(run.path().join("inner/deeper")).unwrap();
    assert_eq!(run.remove().unwrap(), Removal::Removed);
    assert_eq!(root.0.remove().unwrap(), Removal::Busy, "one run is left");
    // As an earlier version has left it.
    let old = root.0.path().join("web/3");
    std::fs::create_dir_all(&old).unwrap();
    assert_eq!(RunCgroup::at(old.clone().into()).remove().unwrap(), Removal::Removed);
    assert!(!old.parent().unwrap().exists() && root.0.path().exists());
}

/// Kernels up to 6.18 kill at birth what is born into a cgroup that was killed before. It must come out as a failed spawn, and
/// the way by cgroup.procs must work where birth does not.
#[test]
fn a_child_killed_at_birth_is_a_failed_spawn() {
    let _turn = alone();
    let Some(root) = Root::find("birth") else { return };
    let run = root.0.create_run("web", 1).unwrap();
    let dir = run.open_dir().unwrap();
    run.kill().unwrap();
    let born = SpawnFds { cgroup: Some(CgroupEntry::Born(dir.as_fd())), ..SpawnFds::default() };
    match Child::start(&sh("exit 3"), &born, SpawnMethod::Clone3) {
        Ok(child) => assert_eq!(child.end(), ExitStatus::Code(3), "this kernel has no such fault"),
        Err(e) => assert!(e.step == SpawnStep::Killed && e.to_string().contains("SIGKILL"), "{e}"),
    }
    let moved = SpawnFds { cgroup: Some(CgroupEntry::Move(dir.as_fd())), ..SpawnFds::default() };
    assert_eq!(Child::start(&sh("exit 3"), &moved, SpawnMethod::Clone3).unwrap().end(), ExitStatus::Code(3));
}

#[test]
fn a_walk_of_the_tree_finds_and_kills_a_whole_family_and_no_stranger() {
    let _turn = alone();
    prctl::set_child_subreaper().unwrap();
    for method in METHODS {
        let stranger = Child::start(&request(&["sleep", "1000"]), &SpawnFds::default(), method).unwrap();
        let family = Family::start(None, method);
        let found = tree::members(&family.marks()).unwrap();
        for (id, _) in &family.members {
            assert!(found.contains(id), "{id:?} was not found");
        }
        assert!(tree::kill_all(&family.marks()).unwrap() >= FAMILY_SIZE);
        family.wait_all_ended();
        assert_eq!(tree::members(&family.marks()).unwrap(), []);
        assert!(!stranger.spawned.pidfd.has_ended().unwrap(), "a stranger was killed");
    }
}

#[test]
fn the_rest_of_a_family_is_found_after_its_leader_was_reaped() {
    let _turn = alone();
    prctl::set_child_subreaper().unwrap();
    let family = Family::start(None, SpawnMethod::Clone3);
    assert!(family.leader.spawned.pidfd.send_signal(9).unwrap());
    assert_eq!(family.leader.end(), ExitStatus::Signal { number: 9, core_dumped: false });
    assert_eq!(family.living(), FAMILY_SIZE - 1);
    tree::kill_all(&family.marks()).unwrap();
    family.wait_all_ended();
}

/// Able to fail: with the `?` of each signal in place of a note, the user's own process was left stopped, and lived.
#[test]
fn what_may_not_be_signalled_keeps_nobody_else_alive_or_stopped() {
    let _turn = alone();
    if !rustix::process::geteuid().is_root() {
        return skip("only root has processes of two users");
    }
    // The eldest is root's, and so are two of three: whichever order they are found in, one of them is not the last.
    let script =
        "sleep 1000 & echo $!; setpriv --reuid 65534 --clear-groups sleep 1000 & echo $!; exec sleep 1000";
    let pipe = Pipe::new().unwrap();
    let fds = SpawnFds { stdout: Some(pipe.write.as_fd()), ..SpawnFds::default() };
    let leader = Child::start(&sh(script), &fds, SpawnMethod::Clone3).unwrap();
    drop(pipe.write);
    let mut said = BufReader::new(File::from(pipe.read)).lines();
    let mut next = || ProcessId::of(said.next().unwrap().unwrap().parse().unwrap()).unwrap().unwrap();
    let (roots, users) = (next(), next());
    let (roots_fd, users_fd) = (roots.open().unwrap().unwrap(), users.open().unwrap().unwrap());
    let status = |id: ProcessId| std::fs::read_to_string(format!("/proc/{}/status", id.pid)).unwrap();
    while !status(users).contains("Uid:\t65534\t65534\t65534") {
        std::thread::yield_now();
    }
    let id = leader.spawned.id;
    let killed = std::thread::spawn(move || {
        // This thread alone becomes another.
        let user = rustix::process::Uid::from_raw(65534);
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        tree::kill_all(&RunMarks { leader: Some(id), tag: None, adopters: &[] })
    });
    let error = killed.join().unwrap().unwrap_err();
    let ended = users_fd.wait_ended(LONG).unwrap();
    let untouched = !roots_fd.has_ended().unwrap() && !leader.spawned.pidfd.has_ended().unwrap();
    for fd in [&users_fd, &roots_fd] {
        fd.send_signal(9).unwrap();
        fd.wait_ended(LONG).unwrap();
    }
    assert!(ended, "the user's own process lives");
    assert!(untouched, "root's were killed by a user");
    assert_eq!(error.errno, relume_os::Errno::PERM, "{error}");
    assert!([id.pid, roots.pid].iter().any(|pid| error.to_string().contains(&pid.to_string())), "{error}");
}

/// Each process replaces itself by a new one as fast as it can: whoever kills what it has listed is always too late.
#[test]
fn a_chain_that_forks_as_fast_as_it_can_does_not_outrun_the_kill() {
    let _turn = alone();
    prctl::set_child_subreaper().unwrap();
    // Bounded, so that a failure does not occupy the machine for ever.
    let mut request = sh("f() { [ $1 -gt 0 ] && f $(($1 - 1)) & }; f 20000; f 20000; exec sleep 1000");
    let tag = format!("{}-chain", std::process::id());
    request.environment.push(("RELUME_RUN".into(), tag.clone().into()));
    let leader = Child::start(&request, &SpawnFds::default(), SpawnMethod::Clone3).unwrap();
    let marks = RunMarks { leader: Some(leader.spawned.id), tag: Some(("RELUME_RUN", &tag)), adopters: &[] };
    tree::kill_all(&marks).unwrap();
    assert_eq!(tree::members(&marks).unwrap(), []);
    for pid in proc::children().unwrap() {
        if pid != leader.pid() && proc::stat(pid).unwrap().is_some_and(|s| s.is_zombie()) {
            exit::reap_orphan(pid).unwrap();
        }
    }
}

#[test]
fn the_kernels_abilities_are_probed_and_agree_with_each_other() {
    let _turn = alone();
    let root = Root::find("features");
    let answers = relume_os::features::probe(root.as_ref().map(|r| &r.0).ok_or_else(|| "none".to_owned()));
    assert!(answers.pidfd && !answers.kernel.is_empty());
    assert_eq!(answers.cgroup.is_ok(), root.is_some());
    if let Some(root) = &root {
        assert_eq!(answers.cgroup, root.0.probe().map_err(|e| e.to_string()));
    }
}
