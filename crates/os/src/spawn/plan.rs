//! What a child is to be: as asked for, and as the kernel wants it.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::error::{SpawnError, SpawnStep};
use crate::error::Errno;
use crate::limits::{Limit, Resource};
use crate::users::Credentials;

/// Where programs are sought when the service's environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is to be started, in everyday types. What is `None` or empty stays as it is in this process.
#[derive(Debug, Clone, Default)]
pub struct SpawnRequest {
    /// The program and its arguments. A program without `/` is sought in the `PATH` of `environment`.
    pub argv: Vec<OsString>,
    /// What the program is told as its own name, if not `argv[0]`.
    pub arg0: Option<OsString>,
    /// The whole environment: nothing is inherited.
    pub environment: Vec<(OsString, OsString)>,
    /// Entered after the change of user. A relative program or `PATH` entry counts from here.
    pub working_dir: Option<PathBuf>,
    /// User and groups to become; nothing is done where they are ours already.
    pub credentials: Option<Credentials>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Nice value, -20 to 19.
    pub nice: Option<i32>,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Limits to set, usually those this program was started with ([`crate::limits::snapshot`]) overlaid by the service's.
    pub limits: Vec<(Resource, Limit)>,
    /// `LISTEN_PID` is the child's own pid, which nobody knows beforehand (sd_listen_fds(3)).
    pub listen_pid: bool,
    /// `WATCHDOG_PID` is too (sd_watchdog_enabled(3)).
    pub watchdog_pid: bool,
    /// Stay in our session and process group (only for helpers of a foreground command).
    pub keep_session: bool,
}

/// The same, ready for the kernel. Immutable; may be used for any number of spawns.
#[derive(Debug, Clone)]
pub struct SpawnPlan {
    /// As named by the user, for messages.
    pub(super) program: PathBuf,
    /// Paths to try in turn.
    pub(super) candidates: Vec<CString>,
    pub(super) argv: Vec<CString>,
    pub(super) environment: Vec<CString>,
    pub(super) working_dir: Option<CString>,
    pub(super) identity: Option<Identity>,
    pub(super) umask: Option<u32>,
    pub(super) nice: Option<i32>,
    pub(super) oom_score_adj: Option<Vec<u8>>,
    pub(super) limits: Vec<(Resource, libc::rlimit64)>,
    pub(super) session: bool,
    pub(super) listen_pid: bool,
    pub(super) watchdog_pid: bool,
}

/// The numbers of [`Credentials`].
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

impl SpawnPlan {
    /// Checks and converts a request. No file is looked at: what exists is settled when the child runs.
    pub fn prepare(request: &SpawnRequest) -> Result<Self, SpawnError> {
        let Some(program) = request.argv.first().filter(|p| !p.is_empty()) else {
            return Err(refuse("the command is empty", Errno::NOENT));
        };
        let mut argv = Vec::with_capacity(request.argv.len());
        argv.push(c_string(request.arg0.as_deref().unwrap_or(program), "the command")?);
        for argument in request.argv.iter().skip(1) {
            argv.push(c_string(argument, "an argument")?);
        }
        Ok(Self {
            program: PathBuf::from(program),
            candidates: candidates(program, &request.environment)?,
            argv,
            environment: request.environment.iter().map(variable).collect::<Result<_, _>>()?,
            working_dir: request
                .working_dir
                .as_ref()
                .map(|d| c_string(d.as_os_str(), "the working directory"))
                .transpose()?,
            identity: request.credentials.as_ref().and_then(identity),
            umask: request.umask.map(|m| m & 0o777),
            nice: request.nice,
            oom_score_adj: request.oom_score_adj.map(|n| n.to_string().into_bytes()),
            limits: request.limits.iter().map(|(r, l)| (*r, l.to_raw())).collect(),
            session: !request.keep_session,
            listen_pid: request.listen_pid,
            watchdog_pid: request.watchdog_pid,
        })
    }

    /// The program as the user named it.
    #[must_use]
    pub fn program(&self) -> &std::path::Path {
        &self.program
    }
}

/// The paths execvp(3) would try.
fn candidates(program: &OsStr, environment: &[(OsString, OsString)]) -> Result<Vec<CString>, SpawnError> {
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(program, "the command")?]);
    }
    let path = environment.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_os_str());
    let path = path.unwrap_or_else(|| OsStr::new(DEFAULT_PATH));
    path.as_bytes()
        .split(|&b| b == b':')
        .map(|directory| {
            // An empty entry is the working directory.
            let mut full = if directory.is_empty() { b".".to_vec() } else { directory.to_vec() };
            full.push(b'/');
            full.extend_from_slice(program.as_bytes());
            CString::new(full).map_err(|_| nul("PATH"))
        })
        .collect()
}

fn variable((key, value): &(OsString, OsString)) -> Result<CString, SpawnError> {
    if key.is_empty() || key.as_bytes().contains(&b'=') {
        return Err(refuse(format!("{key:?} is no name of an environment variable"), Errno::INVAL));
    }
    // With room for the NUL: there are some dozens of variables to each start, and each is allocated once.
    let mut entry = Vec::with_capacity(key.len() + value.len() + 2);
    entry.extend_from_slice(key.as_bytes());
    entry.push(b'=');
    entry.extend_from_slice(value.as_bytes());
    CString::new(entry).map_err(|_| nul("the environment"))
}

/// `None` when there is nothing to change: an ordinary user may not even set what is so already.
fn identity(c: &Credentials) -> Option<Identity> {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let effective = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if !(c.uid == uid && c.gid == gid && effective == (uid, gid)) {
        return Some(Identity { uid: c.uid, gid: c.gid, groups: c.groups.clone() });
    }
    let mut now: Vec<u32> = rustix::process::getgroups()
        .unwrap_or_default()
        .into_iter()
        .map(rustix::process::Gid::as_raw)
        .collect();
    let mut wanted = c.groups.clone();
    // The primary group may or may not be listed; that makes no difference to any permission.
    now.push(gid);
    wanted.push(gid);
    for list in [&mut now, &mut wanted] {
        list.sort_unstable();
        list.dedup();
    }
    let changes = now != wanted && effective.0 == 0;
    changes.then(|| Identity { uid: c.uid, gid: c.gid, groups: c.groups.clone() })
}

fn c_string(text: &OsStr, what: &str) -> Result<CString, SpawnError> {
    CString::new(text.as_bytes()).map_err(|_| nul(what))
}

fn nul(what: &str) -> SpawnError {
    refuse(format!("{what} contains a NUL character"), Errno::INVAL)
}

fn refuse(hint: impl Into<String>, errno: Errno) -> SpawnError {
    SpawnError { step: SpawnStep::Prepare, path: None, errno, hint: Some(hint.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(argv: &[&str], env: &[(&str, &str)]) -> SpawnRequest {
        SpawnRequest {
            argv: argv.iter().map(OsString::from).collect(),
            environment: env.iter().map(|(k, v)| (k.into(), v.into())).collect(),
            ..SpawnRequest::default()
        }
    }

    #[test]
    fn a_program_without_a_slash_is_sought_in_the_services_own_path() {
        let plan = SpawnPlan::prepare(&request(&["tool"], &[("PATH", "/a::rel")])).unwrap();
        let texts: Vec<_> = plan.candidates.iter().map(|c| c.to_str().unwrap()).collect();
        assert_eq!(texts, ["/a/tool", "./tool", "rel/tool"]);
        let plan = SpawnPlan::prepare(&request(&["./tool"], &[("PATH", "/a")])).unwrap();
        assert_eq!(plan.candidates.len(), 1);
    }

    #[test]
    fn what_the_kernel_could_not_take_is_refused_beforehand() {
        for bad in [
            request(&[], &[]),
            request(&[""], &[]),
            request(&["a\0b"], &[]),
            request(&["a", "\0"], &[]),
            request(&["a"], &[("", "x")]),
            request(&["a"], &[("A=B", "x")]),
        ] {
            let error = SpawnPlan::prepare(&bad).unwrap_err();
            assert_eq!(error.step, SpawnStep::Prepare, "{error}");
        }
    }
}
