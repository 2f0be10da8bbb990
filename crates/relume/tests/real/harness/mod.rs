//! A relume of a test's own: started from a config, asked by its own commands, and gone afterwards with all
//! that it started.

pub(crate) mod answers;
mod fixtures;
pub(crate) mod halves;
mod ports;
mod processes;
pub(crate) mod sick_disk;
mod status;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

pub(crate) use fixtures::fixture;
pub(crate) use ports::{Nobody, free_ports};
pub(crate) use processes::Process;
pub(crate) use status::Status;

/// How long a test waits for what it expects. What is waited for takes well under a second on an idle
/// machine; a test that hits this has failed. Long, because a machine that builds beside the tests is no reason to fail.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at something that tells nobody when it changes.
const PAUSE: Duration = Duration::from_millis(10);

/// The user that tests run as an ordinary one when they are root: `nobody`, on every distribution.
pub(crate) const ORDINARY: u32 = 65534;

/// Whether this test process is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says that (a part of) a test was left out; with `CI=true` that is a failure.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "must not be skipped here: {why}");
    eprintln!("SKIPPED: {why}");
}

/// Looks until there is something, for [`PATIENCE`] at most.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// What a relume will be started with.
pub(crate) struct Builder {
    home: tempfile::TempDir,
    config: PathBuf,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    wrapper: Vec<String>,
    user: Option<u32>,
    by_default: bool,
    linked: bool,
    own_program: bool,
    terminal: Option<OwnedFd>,
    input: Stdio,
}

impl Builder {
    /// A directory of its own, with nothing in it yet.
    pub(crate) fn new() -> Self {
        let home = tempfile::Builder::new().prefix("relume-test-").tempdir().unwrap();
        let config = home.path().join("relume.json");
        Self {
            home,
            config,
            environment: vec![],
            arguments: vec![],
            wrapper: vec![],
            user: None,
            by_default: false,
            linked: false,
            own_program: false,
            terminal: None,
            input: Stdio::null(),
        }
    }

    /// The directory that the config, the logs and the state will be in.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// A path in that directory, as text for a config.
    pub(crate) fn path(&self, name: &str) -> String {
        self.home().join(name).to_str().unwrap().to_owned()
    }

    /// Where fixtures announce themselves (`--announce`).
    pub(crate) fn announcements(&self) -> String {
        self.path("announcements")
    }

    /// The config, written as `relume.json`.
    pub(crate) fn config(self, config: &Value) -> Self {
        std::fs::write(&self.config, serde_json::to_string_pretty(config).unwrap()).unwrap();
        self
    }

    /// The folder's own content becomes a copy of `folder`, and `config` in it is used.
    pub(crate) fn copy_of(mut self, folder: &Path, config: &str) -> Self {
        copy(folder, self.home.path());
        self.config = self.home.path().join(config);
        self
    }

    /// A variable in relume's environment.
    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// A further word behind `up`.
    pub(crate) fn arg(mut self, word: &str) -> Self {
        self.arguments.push(word.to_owned());
        self
    }

    /// A command that ends by executing its arguments, to start relume in an odd state.
    pub(crate) fn through(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Runs relume as [`ORDINARY`] (only root can).
    pub(crate) fn by_ordinary_user(self) -> Self {
        self.by_user(ORDINARY)
    }

    /// Runs relume as this user (only root can).
    pub(crate) fn by_user(mut self, uid: u32) -> Self {
        self.user = Some(uid);
        self
    }

    /// This terminal is relume's standard input, output and error, and its session's own.
    pub(crate) fn on_terminal(mut self, terminal: OwnedFd) -> Self {
        self.terminal = Some(terminal);
        self.through(&["setsid", "--ctty"])
    }

    /// What it is started through finds this as its standard input.
    pub(crate) fn input(mut self, input: OwnedFd) -> Self {
        self.input = input.into();
        self
    }

    /// Relume is started by a link of its own ([`Relume::program`]), which an upgrade can turn elsewhere.
    pub(crate) fn by_link(mut self) -> Self {
        self.linked = true;
        self
    }

    /// Nothing is said about where the config and the state are: plain `relume` in its folder.
    pub(crate) fn with_default_places(mut self) -> Self {
        self.by_default = true;
        self
    }

    /// The program is a copy in its own directory ([`Relume::program`]), which the test may replace.
    pub(crate) fn with_own_program(mut self) -> Self {
        self.own_program = true;
        self
    }

    /// Starts it and waits until it answers.
    pub(crate) fn up(self) -> Relume {
        let relume = self.spawn();
        relume.wait_until_it_answers();
        relume
    }

    /// Starts it; whether it comes up is what the test wants to see.
    pub(crate) fn spawn(mut self) -> Relume {
        let (wrapper, terminal) = (std::mem::take(&mut self.wrapper), self.terminal.take());
        let input = std::mem::replace(&mut self.input, Stdio::null());
        let mut words = if self.by_default { vec![] } else { vec!["up".to_owned()] };
        words.append(&mut self.arguments);
        let relume = self.prepare();
        let output = File::create(&relume.output).unwrap();
        let mut command = relume.command_through(&wrapper, &words);
        match terminal {
            Some(end) => command.stdin(end.try_clone().unwrap()).stdout(end.try_clone().unwrap()).stderr(end),
            None => command.stdin(input).stdout(output.try_clone().unwrap()).stderr(output),
        };
        // A child that another test has just forked may still have the copy of the program open for writing.
        relume.adopt(eventually("the program can be executed", || match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => None,
            spawned => Some(spawned.unwrap()),
        }));
        relume
    }

    /// Everything but the start: `relume up` is for the test to run, and for [`Relume::adopt`].
    pub(crate) fn prepare(self) -> Relume {
        fixtures::build();
        let program = self.program();
        if let Some(user) = self.user {
            chown_all(self.home.path(), user);
        }
        Relume {
            tag: format!("{}-{}", std::process::id(), self.home.path().display()),
            output: self.home.path().join("up.output"),
            state: self.home.path().join(if self.by_default { ".relume" } else { "state" }),
            config: self.config,
            by_default: self.by_default,
            environment: self.environment,
            user: self.user,
            program,
            home: self.home,
            child: Mutex::new(None),
        }
    }

    /// The program; a copy of it for an ordinary user, who may not reach where it was built.
    fn program(&self) -> PathBuf {
        let built = PathBuf::from(env!("CARGO_BIN_EXE_relume"));
        if self.linked {
            let link = self.home.path().join("relume-link");
            std::os::unix::fs::symlink(built, &link).unwrap();
            return link;
        }
        if self.user.is_none() && !self.own_program {
            return built;
        }
        let copy = self.home.path().join("relume-program");
        std::fs::copy(built, &copy).unwrap();
        copy
    }
}

/// A relume that a test has started.
pub(crate) struct Relume {
    tag: String,
    config: PathBuf,
    state: PathBuf,
    by_default: bool,
    output: PathBuf,
    environment: Vec<(String, String)>,
    user: Option<u32>,
    program: PathBuf,
    child: Mutex<Option<Child>>,
    /// Last, so that everything that uses it is gone before it is removed.
    home: tempfile::TempDir,
}

impl Relume {
    /// A relume with this config, up and answering.
    pub(crate) fn with(config: &Value) -> Self {
        Builder::new().config(config).up()
    }

    /// A file or folder in its own directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The program that is run.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// The manager as it is now.
    pub(crate) fn manager(&self) -> Process {
        // One that was told to die at some act may do so between the answer and the look.
        eventually("a manager lives", || {
            let pid = self.status().manager()["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
            Process::of(pid.expect("a pid"))
        })
    }

    /// The process that `relume up` is.
    pub(crate) fn main_process(&self) -> Process {
        let pid = self.child().as_ref().expect("it was started").id();
        Process::of(pid).expect("relume is running")
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This is the `relume up` that the harness watches and ends from now on.
    pub(crate) fn adopt(&self, child: Child) {
        *self.child() = Some(child);
    }

    /// A command of relume's against this one, to be run by the test.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.command_through(&[], words);
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn wait_until_it_answers(&self) {
        eventually("relume answers", || {
            if let Some(status) = self.ended() {
                panic!("relume up ended with {status}\n{}", self.said());
            }
            self.try_status()
        });
    }

    /// `relume up` once more, after the first one has ended or was killed, and waits until it answers.
    pub(crate) fn up_again(&self) {
        let output = File::options().append(true).open(&self.output).unwrap();
        let mut command = self.command_through::<String>(&[], &["up".to_owned()]);
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        self.adopt(command.spawn().unwrap());
        self.wait_until_it_answers();
    }

    /// A file or folder in its state directory.
    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// What `relume up` has printed so far.
    pub(crate) fn said(&self) -> String {
        read(&self.output)
    }

    /// What `relume up` has printed and its own log, together.
    pub(crate) fn told(&self) -> String {
        format!("{}\n{}", self.said(), read(&self.state("relume.log")))
    }

    fn command_through<W: AsRef<std::ffi::OsStr>>(&self, wrapper: &[String], words: &[W]) -> Command {
        let mut command = match wrapper.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        for (name, _) in std::env::vars_os() {
            // By which road relume replaces itself may be said for all tests at once.
            if name.to_string_lossy().starts_with("RELUME_") && name != "RELUME_HANDOVER" {
                command.env_remove(name);
            }
        }
        // Services inherit the tag, so whatever one of them starts can be found later.
        command.args(words).current_dir(self.home.path()).env(processes::TAG, &self.tag);
        if !self.by_default {
            command.env("RELUME_STATE_DIR", &self.state).env("RELUME_CONFIG", &self.config);
            command.env("RELUME_RUNTIME_DIR", self.path("runtime"));
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(user) = self.user {
            command.gid(user).uid(user);
        }
        command
    }

    /// Runs a command of relume's against this one and waits for its end.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        let mut command = self.command_through(&[], words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let process = Process::of(child.id());
        let (tell, ended) = std::sync::mpsc::channel();
        // Ends with the child, at the latest when it is killed below.
        std::thread::spawn(move || tell.send(child.wait_with_output().unwrap()));
        ended.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            if let Some(process) = process {
                process.signal(Signal::KILL);
            }
            panic!("relume {words:?} does not end\n{}", self.told());
        })
    }

    /// Runs a command that must do what it says; its standard output.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "relume {words:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// `relume status --json`, unless nobody answers.
    pub(crate) fn try_status(&self) -> Option<Status> {
        let output = self.run(&["status", "--json"]);
        if !matches!(output.status.code(), Some(0 | 1)) {
            return None;
        }
        serde_json::from_slice(&output.stdout).ok().map(Status::new)
    }

    /// `relume status --json`.
    pub(crate) fn status(&self) -> Status {
        self.try_status().unwrap_or_else(|| panic!("no status: {}", text(&self.run(&["status", "--json"]))))
    }

    /// Asks for the status until it is as wanted.
    pub(crate) fn wait_until(&self, what: &str, mut so: impl FnMut(&Status) -> bool) -> Status {
        let end = Instant::now() + PATIENCE;
        loop {
            let asked = Instant::now();
            let status = self.status();
            if so(&status) {
                return status;
            }
            // Asking about a thousand services costs something; it should not hold up what is waited for.
            let pause = PAUSE.max(asked.elapsed());
            assert!(
                Instant::now() < end,
                "waited {PATIENCE:?} in vain until {what}; now: {status}\n{}",
                self.told()
            );
            std::thread::sleep(pause);
        }
    }

    /// Waits until the service is in this state (a word of the user's).
    pub(crate) fn wait_state(&self, service: &str, state: &str) -> Status {
        self.wait_until(&format!("{service} is {state}"), |status| status.state(service) == state)
    }

    /// What the service has printed so far, as its log file has it.
    pub(crate) fn log(&self, display_name: &str) -> Vec<u8> {
        std::fs::read(self.path("logs").join(format!("{display_name}.log"))).unwrap_or_default()
    }

    /// The complete lines of that log.
    pub(crate) fn lines(&self, display_name: &str) -> Vec<String> {
        let log = String::from_utf8_lossy(&self.log(display_name)).into_owned();
        let end = log.rfind('\n').map_or(0, |at| at + 1);
        log[..end].lines().map(str::to_owned).collect()
    }

    /// Waits until so many fixtures have announced themselves in this role; their processes, in that order.
    pub(crate) fn announced(&self, role: &str, count: usize) -> Vec<u32> {
        eventually(&format!("{count} × {role:?} is announced"), || {
            let pids = self.announcements().into_iter().filter(|(is, _)| is == role).map(|(_, pid)| pid);
            Some(pids.collect::<Vec<_>>()).filter(|pids| pids.len() >= count)
        })
    }

    /// All announcements so far: role and pid, in the order in which they were made.
    pub(crate) fn announcements(&self) -> Vec<(String, u32)> {
        let text = read(&self.path("announcements"));
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(role, pid)| (role.to_owned(), pid.parse().unwrap()))
            .collect()
    }

    /// Every living process that this relume or one of its services has started, itself included.
    pub(crate) fn processes(&self) -> Vec<Process> {
        processes::tagged(&self.tag)
    }

    /// The living processes of one service.
    pub(crate) fn processes_of(&self, service: &str) -> Vec<Process> {
        let tag = format!("RELUME_SERVICE={service}");
        self.processes().into_iter().filter(|process| process.has_in_environment(&tag)).collect()
    }

    /// How `relume up` has ended, if it has.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        self.child().as_mut().expect("it was started").try_wait().unwrap()
    }

    /// Waits for the end of `relume up`.
    pub(crate) fn wait_for_end(&self) -> ExitStatus {
        eventually("relume up ends", || self.ended())
    }

    /// Sends a signal to `relume up`.
    pub(crate) fn signal(&self, signal: Signal) {
        self.main_process().signal(signal);
    }

    /// `relume down`, which must work, and the clean end of `relume up`.
    pub(crate) fn down(&self) {
        self.ok(&["down"]);
        let status = self.wait_for_end();
        assert_eq!(status.code(), Some(0), "{}", self.told());
    }

    /// Fixtures that have announced themselves and still live; some cannot be found by their environment.
    pub(crate) fn living_fixtures(&self) -> Vec<Process> {
        let living = self.announcements().into_iter().filter_map(|(_, pid)| Process::of(pid));
        living.filter(Process::is_fixture).collect()
    }

    /// Ends `relume up`: asks first, and kills it when it does not listen.
    fn end(&self) {
        let mut child = self.child();
        let Some(child) = child.as_mut() else { return };
        if child.try_wait().unwrap().is_some() {
            return;
        }
        for signal in [Signal::TERM, Signal::TERM] {
            if let Some(process) = Process::of(child.id()) {
                process.signal(signal);
            }
            let end = Instant::now() + PATIENCE / 2;
            while Instant::now() < end {
                if child.try_wait().unwrap().is_some() {
                    return;
                }
                std::thread::sleep(PAUSE);
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Relume {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what relume said ---\n{}", self.told());
        }
        self.end();
        let mut left = self.processes();
        left.extend(self.living_fixtures());
        for process in &left {
            process.signal(Signal::KILL);
        }
        if !std::thread::panicking() {
            assert!(left.is_empty(), "left behind: {left:#?}\n{}", self.told());
        }
    }
}

/// The text of a file that may not be there yet. What is no file is not opened: a FIFO would hang the test.
pub(crate) fn read(path: &Path) -> String {
    if !path.is_file() {
        return String::new();
    }
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Exit code, standard output and standard error of a command, for people.
pub(crate) fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{}\n{out}{err}", output.status)
}

/// Status code and body of an HTTP answer on this machine; `None` while nobody answers.
pub(crate) fn http(port: u16, path: &str) -> Option<(u16, String)> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    connection.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(connection, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let name = entry.file_name();
        // What an earlier run in the folder itself has left.
        if ["run", "logs", "__pycache__", ".relume", ".pids", ".venv", ".env"]
            .iter()
            .any(|left| name == *left)
        {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn chown_all(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            chown_all(&entry.unwrap().path(), user);
        }
    }
}
