//! R29: what a child starts with. R20: what is said when it cannot start. Each through both ways of making a process.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use common::{Child, METHODS, alone, output, request, sh, skip};
use relume_os::exit::ExitStatus;
use relume_os::limits::{Limit, Resource};
use relume_os::pipes::Pipe;
use relume_os::spawn::{SpawnError, SpawnFds, SpawnMethod, SpawnPlan, SpawnRequest, SpawnStep, Spawner};
use relume_os::{Errno, prctl, proc, signals, users};

fn text(request: &SpawnRequest, method: SpawnMethod) -> String {
    let (text, end) = output(request, method).unwrap();
    assert_eq!(end, ExitStatus::Code(0), "{text}");
    text
}

fn field<'a>(status: &'a str, key: &str) -> &'a str {
    status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_else(|| panic!("no {key} in {status}")).trim()
}

/// Rust's own runtime ignores SIGPIPE, so without the reset this fails; so it does without clearing the mask.
#[test]
fn signals_are_all_default_and_none_is_blocked() {
    let _turn = alone();
    signals::ignore(libc::SIGXFSZ).unwrap();
    signals::ignore(libc::SIGUSR2).unwrap();
    signals::ignore(libc::SIGRTMIN() + 5).unwrap();
    signals::block(&[libc::SIGTERM, libc::SIGUSR1, libc::SIGRTMIN()]).unwrap();
    assert!(signals::is_ignored(libc::SIGPIPE).unwrap());
    for method in METHODS {
        let status = text(&request(&["cat", "/proc/self/status"]), method);
        for key in ["SigBlk:", "SigIgn:", "SigPnd:", "ShdPnd:"] {
            assert_eq!(field(&status, key), "0000000000000000", "{key}");
        }
    }
    let mine = proc::status_field(std::process::id(), "SigIgn:").unwrap();
    assert_ne!(mine, "0000000000000000", "the child's reset must not be ours");
    signals::unblock_all().unwrap();
}

/// A descriptor without close-on-exec, as a careless library or an inherited one would be.
#[test]
fn no_descriptor_but_the_standard_ones_gets_through() {
    let _turn = alone();
    let leak = File::open("/dev/null").unwrap();
    // SAFETY: duplicates an open descriptor without close-on-exec; closed below.
    let (low, high) = unsafe {
        (libc::fcntl(leak.as_raw_fd(), libc::F_DUPFD, 3), libc::fcntl(leak.as_raw_fd(), libc::F_DUPFD, 300))
    };
    assert!(low >= 3 && high >= 300);
    for method in METHODS {
        // The shell lists its own descriptors; 3 of `ls` would be its own open directory.
        let listed = text(&sh("cd /proc/self/fd; echo *"), method);
        let numbers: Vec<i32> =
            listed.split_ascii_whitespace().map(|w| w.parse().unwrap()).filter(|n| *n != 10).collect();
        assert!(numbers.starts_with(&[0, 1, 2]) && numbers.iter().all(|n| *n < 4), "{method:?}: {listed}");
        let targets = text(&sh("ls -l /proc/$$/fd; :"), method);
        let null_count = targets.matches("/dev/null").count();
        assert_eq!(null_count, 1, "only standard input is /dev/null:\n{targets}");
        assert_eq!(targets.matches("->").count(), 3, "{targets}");
    }
    for fd in [low, high] {
        // SAFETY: both were made above and are used by nobody.
        unsafe { libc::close(fd) };
    }
}

#[test]
fn extra_descriptors_arrive_at_their_numbers_and_nothing_between_them() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<File> = ["a", "b", "c"]
        .iter()
        .map(|n| {
            let path = dir.path().join(n);
            fs::write(&path, n).unwrap();
            File::open(path).unwrap()
        })
        .collect();
    for method in METHODS {
        let pipe = Pipe::new().unwrap();
        let extra = [(9, files[1].as_fd()), (3, files[0].as_fd()), (4, files[2].as_fd())];
        let fds = SpawnFds { stdout: Some(pipe.write.as_fd()), extra: &extra, ..SpawnFds::default() };
        let child = Child::start(&sh("cat <&3; cat <&4; cat <&9; ls /proc/$$/fd; :"), &fds, method).unwrap();
        drop(pipe.write);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut File::from(pipe.read), &mut text).unwrap();
        assert_eq!(text, "acb0\n1\n2\n3\n4\n9\n", "{method:?}");
        assert_eq!(child.end(), ExitStatus::Code(0));
        for file in &files {
            std::io::Seek::rewind(&mut &*file).unwrap();
        }
    }
}

/// The spawner's own numbers are low, so they are also targets: placing one after the other would overwrite some.
#[test]
fn extra_descriptors_may_sit_where_others_have_to_go() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let numbers: Vec<i32> = (12..42).collect();
    let null = File::open("/dev/null").unwrap();
    for method in METHODS {
        let mut spawner = Spawner::with_method(method).unwrap();
        let mut start = |request: &SpawnRequest, fds: &SpawnFds<'_>| {
            let plan = SpawnPlan::prepare(request).unwrap();
            Child { spawned: spawner.spawn(&plan, fds).unwrap() }
        };
        // Makes it reserve its numbers before the files below take them.
        let all_null: Vec<_> = numbers.iter().map(|n| (*n, null.as_fd())).collect();
        start(&sh("exit 0"), &SpawnFds { extra: &all_null, ..SpawnFds::default() }).end();
        let open = |n: &i32| {
            let path = dir.path().join(n.to_string());
            fs::write(&path, format!("{n} ")).unwrap();
            (*n, File::open(path).unwrap())
        };
        let files: Vec<(i32, File)> = numbers.iter().map(open).collect();
        let extra: Vec<_> = files.iter().map(|(n, file)| (*n, file.as_fd())).collect();
        let mut request = request(&["cat"]);
        request.argv.extend(numbers.iter().map(|n| OsString::from(format!("/proc/self/fd/{n}"))));
        let pipe = Pipe::new().unwrap();
        let child = start(
            &request,
            &SpawnFds { stdout: Some(pipe.write.as_fd()), extra: &extra, ..SpawnFds::default() },
        );
        drop(pipe.write);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut File::from(pipe.read), &mut text).unwrap();
        let expected: String = numbers.iter().map(|n| format!("{n} ")).collect();
        assert_eq!((text, child.end()), (expected, ExitStatus::Code(0)), "{method:?}");
    }
}

#[test]
fn a_number_given_twice_or_out_of_range_is_refused_and_nothing_is_started() {
    let _turn = alone();
    let null = File::open("/dev/null").unwrap();
    for extra in [
        [(3, null.as_fd()), (3, null.as_fd())],
        [(1, null.as_fd()), (4, null.as_fd())],
        [(-1, null.as_fd()), (4, null.as_fd())],
        [(3, null.as_fd()), (1024, null.as_fd())],
    ] {
        let fds = SpawnFds { extra: &extra, ..SpawnFds::default() };
        let error = Child::start(&sh("exit 0"), &fds, SpawnMethod::Clone3).err().unwrap();
        assert_eq!(error.step, SpawnStep::Descriptors, "{error}");
    }
}

#[test]
fn a_pipe_ends_when_the_child_does_because_no_copy_stays_here() {
    let _turn = alone();
    let mut spawner = Spawner::new().unwrap();
    let pipe = Pipe::new().unwrap();
    let plan = SpawnPlan::prepare(&sh("echo done")).unwrap();
    let write = Some(pipe.write.as_fd());
    let child = Child {
        spawned: spawner
            .spawn(&plan, &SpawnFds { stdout: write, stderr: write, ..SpawnFds::default() })
            .unwrap(),
    };
    drop(pipe.write);
    let mut text = String::new();
    // Would wait for ever if the living spawner kept a copy.
    std::io::Read::read_to_string(&mut File::from(pipe.read), &mut text).unwrap();
    assert_eq!((text.as_str(), child.end()), ("done\n", ExitStatus::Code(0)));
}

#[test]
fn it_leads_its_own_session_without_a_terminal() {
    let _turn = alone();
    for method in METHODS {
        let stat = text(&request(&["cat", "/proc/self/stat"]), method);
        let words: Vec<i64> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_ascii_whitespace()
            .skip(1)
            .take(4)
            .map(|w| w.parse().unwrap())
            .collect();
        let pid: i64 = stat.split(' ').next().unwrap().parse().unwrap();
        let (ppid, group, session, terminal) = (words[0], words[1], words[2], words[3]);
        assert_eq!((ppid, group, session, terminal), (i64::from(std::process::id()), pid, pid, 0));
    }
}

#[test]
fn umask_limits_nice_oom_score_directory_and_environment_are_as_asked() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    for method in METHODS {
        let mut request =
            request(&["cat", "/proc/self/status", "/proc/self/limits", "/proc/self/oom_score_adj"]);
        request.umask = Some(0o027);
        request.limits = vec![
            (Resource::NOFILE, Limit { soft: Some(77), hard: Some(99) }),
            (Resource::CORE, Limit { soft: Some(0), hard: Some(0) }),
        ];
        request.oom_score_adj = Some(500);
        let shown = text(&request, method);
        assert_eq!(field(&shown, "Umask:"), "0027");
        let words: Vec<&str> = field(&shown, "Max open files").split_ascii_whitespace().collect();
        assert_eq!(words[..2], ["77", "99"]);
        assert!(shown.ends_with("500\n"), "{shown}");

        let mut request = sh("pwd -P; nice; env | sort");
        request.working_dir = Some(dir.path().to_owned());
        request.nice = Some(prctl::nice().unwrap() + 1);
        request.environment.push(("GREETING".into(), "hello".into()));
        let shown = text(&request, method);
        let real = fs::canonicalize(dir.path()).unwrap();
        let mut lines = shown.lines();
        assert_eq!(lines.next().unwrap(), real.to_str().unwrap());
        assert_eq!(lines.next().unwrap(), (prctl::nice().unwrap() + 1).to_string());
        let names: Vec<&str> = lines
            .map(|l| l.split('=').next().unwrap())
            .filter(|n| !["PWD", "OLDPWD", "SHLVL", "_"].contains(n))
            .collect();
        assert_eq!(names, ["GREETING", "PATH"], "nothing of our environment leaks");
    }
    assert_ne!(relume_os::limits::get(Resource::NOFILE).unwrap().soft, Some(77), "ours is untouched");
}

#[test]
fn it_becomes_the_user_in_all_respects_and_can_open_its_standard_output() {
    let _turn = alone();
    if !users::is_root() {
        return skip("changing the user needs root");
    }
    let nobody = users::resolve(Some("nobody"), None).unwrap();
    for method in METHODS {
        let mut request = sh(
            "cat /proc/self/status; cat /proc/self/oom_score_adj; echo opened > /dev/stdout; echo opened > /dev/stderr",
        );
        request.credentials = Some(nobody.clone());
        // Root may lower it, nobody may not: it must happen before the change.
        request.nice = Some(-1);
        let shown = text(&request, method);
        assert_eq!(field(&shown, "Uid:"), format!("{0}\t{0}\t{0}\t{0}", nobody.uid));
        assert_eq!(field(&shown, "Gid:"), format!("{0}\t{0}\t{0}\t{0}", nobody.gid));
        let mut groups: Vec<u32> =
            field(&shown, "Groups:").split_ascii_whitespace().map(|g| g.parse().unwrap()).collect();
        groups.dedup();
        assert_eq!(groups, [nobody.gid], "root's groups are gone");
        assert_eq!(field(&shown, "CapEff:"), "0000000000000000");
        assert_eq!(shown.matches("opened").count(), 2);
    }
}

#[test]
fn an_ordinary_user_cannot_start_as_another_and_is_told_so() {
    let _turn = alone();
    if users::is_root() {
        return skip("root may change the user");
    }
    let mut request = sh("exit 0");
    request.credentials = Some(users::resolve(Some("0"), None).unwrap());
    let error = Child::start(&request, &SpawnFds::default(), SpawnMethod::Clone3).err().unwrap();
    assert_eq!((error.step, error.errno), (SpawnStep::Groups, Errno::PERM), "{error}");
}

#[test]
fn our_own_user_asked_for_by_name_is_no_change_and_needs_no_right() {
    let _turn = alone();
    let mut request = sh("exit 0");
    let me = users::effective_uid().to_string();
    request.credentials = Some(users::resolve(Some(&me), None).unwrap());
    assert_eq!(output(&request, SpawnMethod::Clone3).unwrap().1, ExitStatus::Code(0));
}

#[test]
fn the_program_is_found_through_the_services_path_and_told_its_name() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    script(&dir.path().join("hello-there"), "#!/bin/sh\necho found $0\n", 0o755);
    for method in METHODS {
        let mut request = request(&["hello-there"]);
        request.environment = vec![("PATH".into(), format!("/nowhere:{}", dir.path().display()).into())];
        assert_eq!(text(&request, method), format!("found {}/hello-there\n", dir.path().display()));
        let mut request = sh("echo $0");
        request.arg0 = Some("-login".into());
        assert!(output(&request, method).is_ok());
    }
}

fn script(path: &Path, content: &str, mode: u32) {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).unwrap();
    file.write_all(content.as_bytes()).unwrap();
    drop(file);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The kernel lists a child under the thread that made it.
fn children_of_this_thread() -> Vec<u32> {
    let text = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    text.split_ascii_whitespace().map(|w| w.parse().unwrap()).collect()
}

/// Fails to start, and leaves no child behind: neither a zombie nor a copy of ourselves.
fn refused(request: &SpawnRequest, method: SpawnMethod) -> SpawnError {
    let error = Child::start(request, &SpawnFds::default(), method)
        .err()
        .unwrap_or_else(|| panic!("{:?} was started", request.argv));
    let own = fs::read_link("/proc/self/exe").unwrap();
    for pid in children_of_this_thread() {
        let zombie = proc::stat(pid).unwrap().is_some_and(|s| s.is_zombie());
        let copy = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == own);
        assert!(!zombie && !copy, "a half-started child {pid} is left after {error}");
    }
    error
}

fn expect(error: &SpawnError, step: SpawnStep, errno: Errno, path: Option<&Path>, words: &str) {
    assert_eq!((error.step, error.errno, error.path.as_deref()), (step, errno, path), "{error}");
    assert!(error.to_string().contains(words), "{words:?} is not in: {error}");
}

#[test]
fn a_program_that_is_missing_not_executable_or_a_directory_is_named_with_the_reason() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    script(&at("plain"), "#!/bin/sh\n", 0o644);
    for method in METHODS {
        let run = |path: &Path| refused(&request(&[path.to_str().unwrap()]), method);
        expect(&run(&at("missing")), SpawnStep::Execute, Errno::NOENT, Some(&at("missing")), "No such file");
        expect(
            &run(&at("plain")),
            SpawnStep::Execute,
            Errno::ACCES,
            Some(&at("plain")),
            "not executable (mode 0644)",
        );
        expect(&run(dir.path()), SpawnStep::Execute, Errno::ACCES, Some(dir.path()), "it is a directory");
        expect(
            &refused(&request(&["no-such-program-here"]), method),
            SpawnStep::Execute,
            Errno::NOENT,
            Some(Path::new("no-such-program-here")),
            "not found in the service's PATH",
        );
        let mut relative = request(&["./missing"]);
        relative.working_dir = Some(dir.path().to_owned());
        expect(
            &refused(&relative, method),
            SpawnStep::Execute,
            Errno::NOENT,
            Some(&at("./missing")),
            "No such file",
        );
    }
}

#[test]
fn a_found_but_forbidden_program_in_path_is_no_missing_one() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    script(&dir.path().join("tool"), "#!/bin/sh\n", 0o600);
    for method in METHODS {
        let mut request = request(&["tool"]);
        request.environment = vec![("PATH".into(), format!("{}:/nowhere", dir.path().display()).into())];
        expect(
            &refused(&request, method),
            SpawnStep::Execute,
            Errno::ACCES,
            Some(&dir.path().join("tool")),
            "mode 0600",
        );
    }
}

/// What a service's user meets when it inherits root's PATH.
#[test]
fn a_search_through_directories_it_may_not_enter_has_found_nothing() {
    let _turn = alone();
    if !users::is_root() {
        return skip("changing the user needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    for method in METHODS {
        let mut request = request(&["no-such-program-here"]);
        request.credentials = Some(users::resolve(Some("nobody"), None).unwrap());
        request.environment = vec![("PATH".into(), format!("{}:/nowhere", dir.path().display()).into())];
        let (program, words) = (Path::new("no-such-program-here"), "may not enter all");
        expect(&refused(&request, method), SpawnStep::Execute, Errno::NOENT, Some(program), words);
    }
}

#[test]
fn an_unknown_format_is_reported_and_never_handed_to_a_shell() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let (path, trace) = (dir.path().join("no-shebang"), dir.path().join("trace"));
    script(&path, &format!("echo ran > {}\n", trace.display()), 0o755);
    for method in METHODS {
        expect(
            &refused(&request(&[path.to_str().unwrap()]), method),
            SpawnStep::Execute,
            Errno::NOEXEC,
            Some(&path),
            "begins with #!",
        );
    }
    assert!(!trace.exists());
}

#[test]
fn a_missing_interpreter_is_told_apart_from_a_missing_program() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let (gone, dos) = (dir.path().join("gone"), dir.path().join("dos"));
    script(&gone, "#! /no/such/interpreter -x\n", 0o755);
    script(&dos, "#!/bin/sh\r\necho hello\r\n", 0o755);
    for method in METHODS {
        let run = |path: &Path| refused(&request(&[path.to_str().unwrap()]), method);
        expect(
            &run(&gone),
            SpawnStep::Execute,
            Errno::NOENT,
            Some(&gone),
            "its interpreter /no/such/interpreter is missing",
        );
        expect(&run(&dos), SpawnStep::Execute, Errno::NOENT, Some(&dos), "carriage return");
    }
}

#[test]
fn a_program_open_for_writing_is_busy() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("busy");
    fs::copy("/bin/sh", &path).unwrap();
    let _writer = fs::OpenOptions::new().append(true).open(&path).unwrap();
    for method in METHODS {
        expect(
            &refused(&request(&[path.to_str().unwrap()]), method),
            SpawnStep::Execute,
            Errno::TXTBSY,
            Some(&path),
            "open for writing",
        );
    }
}

#[test]
fn too_long_an_argument_is_measured_for_the_user() {
    let _turn = alone();
    for method in METHODS {
        let mut request = request(&["/bin/sh"]);
        request.argv.push(OsString::from("x".repeat(200_000)));
        expect(
            &refused(&request, method),
            SpawnStep::Execute,
            Errno::TOOBIG,
            Some(Path::new("/bin/sh")),
            "200001",
        );
    }
}

#[test]
fn a_bad_working_directory_is_the_directorys_error() {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for method in METHODS {
        for (path, errno) in [(dir.path().join("nowhere"), Errno::NOENT), (file.clone(), Errno::NOTDIR)] {
            let mut request = sh("exit 0");
            request.working_dir = Some(path.clone());
            expect(
                &refused(&request, method),
                SpawnStep::WorkingDirectory,
                errno,
                Some(&path),
                "cannot enter the working directory",
            );
        }
    }
}

#[test]
fn a_limit_that_cannot_be_set_is_named() {
    let _turn = alone();
    for method in METHODS {
        let mut request = sh("exit 0");
        request.limits = vec![(Resource::NOFILE, Limit { soft: None, hard: None })];
        let error = refused(&request, method);
        expect(&error, SpawnStep::Limit(Resource::NOFILE), Errno::PERM, None, "nofile");
        assert!(error.to_string().contains("unlimited:unlimited"), "{error}");
    }
}

#[test]
fn spawning_from_several_threads_at_once_mixes_nothing() {
    let _turn = alone();
    std::thread::scope(|scope| {
        for n in 0..4 {
            scope.spawn(move || {
                let mut spawner = Spawner::with_method(METHODS[n % 2]).unwrap();
                for round in 0..25 {
                    let word = format!("{n}-{round}");
                    let plan = SpawnPlan::prepare(&request(&["echo", &word])).unwrap();
                    let pipe = Pipe::new().unwrap();
                    let fds = SpawnFds { stdout: Some(pipe.write.as_fd()), ..SpawnFds::default() };
                    let child = Child { spawned: spawner.spawn(&plan, &fds).unwrap() };
                    drop(pipe.write);
                    let mut text = String::new();
                    std::io::Read::read_to_string(&mut File::from(pipe.read), &mut text).unwrap();
                    assert_eq!((text.trim(), child.end()), (word.as_str(), ExitStatus::Code(0)));
                }
            });
        }
    });
}
