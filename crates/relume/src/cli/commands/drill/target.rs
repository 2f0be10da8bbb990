//! The relume that is drilled: its two halves are killed, and waited for until it supervises again.
//!
//! That is measured from outside: from the signal until a manager that was not there before answers a request.
//! It answers after it has taken every service over, so the time is never flattering.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;
use relume_os::pidfd::{PidFd, ProcessId};
use relume_proto::{Client, VersionReport};

use crate::cli::args::Cli;
use crate::roles::{AGAIN, IN_BACKGROUND, ROLE};

/// How long relume may take to supervise again before that counts as never: twice the watchdog's default.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at one that does not answer yet: a time that is short beside what is measured.
const LOOK: Duration = Duration::from_micros(500);

/// How long systemd is given to start a unit again before the drill does.
const SYSTEMD_STARTS_IT: Duration = Duration::from_secs(10);

/// Before relume is started once more after it has refused to.
const AFTER_REFUSAL: Duration = Duration::from_millis(300);

const KILL: i32 = 9;

/// A running relume.
pub(super) struct Target {
    pub(super) client: Client,
    started: AsStarted,
}

impl Target {
    /// The one that answers here.
    pub(super) fn new(client: Client) -> Result<Self, String> {
        let halves = client.version().map_err(|error| error.to_string())?;
        Ok(Self { client, started: AsStarted::of(halves.guardian_pid)? })
    }

    /// Kills the manager. How long it took to be replaced.
    pub(super) fn kill_manager(&self) -> Result<Duration, String> {
        let before = self.halves()?;
        let manager = open(before.pid, "the manager")?;
        let killed = Instant::now();
        kill(&manager)?;
        self.again(killed, "the manager", |now| now.pid != before.pid)?;
        Ok(killed.elapsed())
    }

    /// Kills the guardian. How long it took to be replaced.
    pub(super) fn kill_guardian(&self) -> Result<Duration, String> {
        let before = self.halves()?;
        let guardian = open(before.guardian_pid, "the guardian")?;
        let killed = Instant::now();
        kill(&guardian)?;
        self.again(killed, "the guardian", |now| {
            now.guardian_pid != before.guardian_pid && now.guardian_pid != now.pid
        })?;
        Ok(killed.elapsed())
    }

    /// Kills both at once and starts relume again, unless somebody else does.
    pub(super) fn kill_both(&self, guardian_first: bool) -> Result<Duration, String> {
        let before = self.halves()?;
        let mut halves = [open(before.pid, "the manager")?, open(before.guardian_pid, "the guardian")?];
        if guardian_first {
            halves.reverse();
        }
        let killed = Instant::now();
        for half in &halves {
            half.send_signal(KILL).map_err(|error| error.to_string())?;
        }
        halves.iter().try_for_each(kill)?;
        if !(self.started.by_systemd && self.comes_by_itself(&before)) {
            self.start_again(killed, before.pid)?;
        }
        self.again(killed, "relume", |now| now.pid != before.pid)?;
        Ok(killed.elapsed())
    }

    /// A guardian that died later than its manager may have started another, which then holds the lock: that one answers
    /// soon, or is gone soon.
    fn start_again(&self, since: Instant, before: u32) -> Result<(), String> {
        loop {
            let Err(why) = self.started.start_again() else { return Ok(()) };
            let pause = Instant::now() + AFTER_REFUSAL;
            while Instant::now() < pause {
                if self.client.version().is_ok_and(|now| now.pid != before) {
                    return Ok(());
                }
                std::thread::sleep(LOOK);
            }
            if since.elapsed() > PATIENCE {
                return Err(why);
            }
        }
    }

    /// Nobody is left unsupervised by a drill that has failed. What went wrong with that.
    pub(super) fn start_again_after_all(&self) -> Option<String> {
        self.started.start_again().err()
    }

    fn comes_by_itself(&self, before: &VersionReport) -> bool {
        let end = Instant::now() + SYSTEMD_STARTS_IT;
        while Instant::now() < end {
            if self.client.version().is_ok_and(|now| now.pid != before.pid) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn again(&self, since: Instant, who: &str, is: impl Fn(&VersionReport) -> bool) -> Result<(), String> {
        while since.elapsed() < PATIENCE {
            if self.client.version().is_ok_and(|now| is(&now)) {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
        Err(format!("{who} was killed and not replaced within {} s", PATIENCE.as_secs()))
    }

    fn halves(&self) -> Result<VersionReport, String> {
        self.client.version().map_err(|error| error.to_string())
    }
}

/// The process of this pid, which has just been named by relume itself.
pub(super) fn open(pid: u32, who: &str) -> Result<PidFd, String> {
    let process = ProcessId::of(pid).ok().flatten().and_then(|process| process.open().ok().flatten());
    process.ok_or_else(|| format!("{who} (pid {pid}) is not there"))
}

/// SIGKILL, and the end of the process.
pub(super) fn kill(process: &PidFd) -> Result<(), String> {
    process.send_signal(KILL).map_err(|error| error.to_string())?;
    match process.wait_ended(PATIENCE) {
        Ok(true) => Ok(()),
        Ok(false) => Err("a process has not ended of SIGKILL".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// How a relume was started, read from the process itself.
struct AsStarted {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
    by_systemd: bool,
}

impl AsStarted {
    fn of(pid: u32) -> Result<Self, String> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            std::fs::read(&path).map_err(|error| format!("cannot read {path}: {error}"))
        };
        let link = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            std::fs::read_link(&path).map_err(|error| format!("cannot read {path}: {error}"))
        };
        let words = |bytes: Vec<u8>| -> Vec<OsString> {
            let parts = bytes.split(|&byte| byte == 0).filter(|part| !part.is_empty());
            parts.map(|part| OsString::from_vec(part.to_vec())).collect()
        };
        let environment: Vec<(OsString, OsString)> =
            words(read("environ")?).into_iter().filter_map(pair).filter(|(key, _)| !is_role(key)).collect();
        let program = link("exe")?;
        Ok(Self {
            // A program that was replaced meanwhile lies under its old path; this one is as good.
            program: if program.is_file() { program } else { std::env::current_exe().unwrap_or(program) },
            arguments: in_background(words(read("cmdline")?)),
            by_systemd: environment.iter().any(|(key, _)| key == "INVOCATION_ID"),
            environment,
            folder: link("cwd")?,
        })
    }

    fn start_again(&self) -> Result<(), String> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().current_dir(&self.folder);
        // Without its notify socket: whoever listens there did not ask for this one.
        command.envs(self.environment.iter().filter(|(key, _)| key != "NOTIFY_SOCKET").cloned());
        let output = command.output().map_err(|error| format!("{}: {error}", self.program.display()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("relume could not be started again: {}", said(&output.stderr)))
    }
}

/// The errors among what a relume has said, in one line.
pub(super) fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let errors = text.lines().filter_map(|line| line.strip_prefix("error: "));
    let errors = errors.collect::<Vec<_>>().join("; ");
    if errors.is_empty() { text.trim_end().to_owned() } else { errors }
}

fn pair(entry: OsString) -> Option<(OsString, OsString)> {
    let mut bytes = entry.into_vec();
    let at = bytes.iter().position(|&byte| byte == b'=')?;
    let value = bytes.split_off(at + 1);
    bytes.pop();
    Some((OsString::from_vec(bytes), OsString::from_vec(value)))
}

fn is_role(key: &OsString) -> bool {
    [ROLE, AGAIN, IN_BACKGROUND].iter().any(|role| key == role)
}

/// The same command line, put in the background: whoever waits for it would wait for ever.
fn in_background(mut words: Vec<OsString>) -> Vec<OsString> {
    if !words.is_empty() {
        words.remove(0);
    }
    let without_verb = |words: &[OsString]| {
        let all = std::iter::once("relume".into()).chain(words.iter().cloned());
        Cli::try_parse_from::<_, OsString>(all).is_ok_and(|cli| cli.command.is_none())
    };
    if without_verb(&words) {
        words.push("up".into());
    }
    let has =
        |words: &[OsString], flags: &[&str]| words.iter().any(|word| flags.iter().any(|flag| word == flag));
    words.retain(|word| word != "--follow");
    if !has(&words, &["-d", "--detach"]) {
        words.push("--detach".into());
    }
    if !has(&words, &["--no-wait"]) {
        words.push("--no-wait".into());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(line: &str) -> String {
        let words = in_background(line.split(' ').map(OsString::from).collect());
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn relume_is_started_again_as_it_was_but_in_the_background() {
        assert_eq!(again("relume -c a.yaml up web"), "-c a.yaml up web --detach --no-wait");
        assert_eq!(again("/x/relume up -d --no-wait"), "up -d --no-wait");
        assert_eq!(again("relume --state-dir /s"), "--state-dir /s up --detach --no-wait");
        assert_eq!(again("relume up --follow"), "up --detach --no-wait");
    }

    #[test]
    fn a_variable_may_hold_an_equals_sign() {
        let (key, value) = pair("A=b=c".into()).unwrap();
        assert_eq!((key, value), ("A".into(), "b=c".into()));
        assert!(pair("nothing".into()).is_none());
    }
}
