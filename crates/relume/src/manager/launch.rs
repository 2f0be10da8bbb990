//! From a configured service to what the kernel is asked to start.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::mpsc;
use std::time::Duration;

use relume_config::{Account, Rlimit, RlimitValue};
use relume_core::{Hook, RunKind};
use relume_os::limits::{Limit, Resource};
use relume_os::spawn::SpawnRequest;
use relume_os::users::{self, Credentials};

use super::units::Unit;

/// Variables that are relume's own business and never reach a service.
const OWN_PREFIXES: [&str; 3] = ["RELUME_", "LISTEN_", "WATCHDOG_"];

/// How long the system may take to say who a user is. NSS may ask a directory server; one that is down must
/// not hold up the services of other users for ever.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);

/// What every service starts with: the environment and limits that relume itself was started with.
#[derive(Debug)]
pub(crate) struct Inheritance {
    environment: BTreeMap<OsString, OsString>,
    limits: Vec<(Resource, Limit)>,
}

impl Inheritance {
    /// Reads both. To be called before relume raises its own limits.
    pub(crate) fn of_this_process() -> relume_os::Result<Self> {
        let own = |key: &OsString| {
            let key = key.to_string_lossy();
            key == "NOTIFY_SOCKET" || OWN_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
        };
        let environment = std::env::vars_os().filter(|(key, _)| !own(key)).collect();
        Ok(Self { environment, limits: relume_os::limits::snapshot()? })
    }
}

/// What a process of this run is to be.
///
/// # Errors
/// When its user or group does not exist or cannot be looked up: a fragment for people.
pub(crate) fn request(
    unit: &Unit,
    kind: RunKind,
    tag: &str,
    inherited: &Inheritance,
) -> Result<SpawnRequest, String> {
    let launch = &unit.config.launch;
    let credentials = credentials(launch.user.as_ref(), launch.group.as_ref())?;
    Ok(SpawnRequest {
        argv: command(unit, kind).iter().map(OsString::from).collect(),
        arg0: None,
        environment: environment(unit, tag, inherited, credentials.as_ref()),
        working_dir: Some(launch.working_dir.clone()),
        credentials,
        umask: launch.umask,
        nice: launch.nice,
        oom_score_adj: launch.oom_score_adj,
        limits: limits(&inherited.limits, &launch.rlimits),
        keep_session: false,
    })
}

fn command(unit: &Unit, kind: RunKind) -> &[String] {
    let hooks = &unit.config.hooks;
    let hook = match kind {
        RunKind::Service | RunKind::Job => return &unit.config.launch.argv,
        RunKind::Hook(Hook::PreStart) => &hooks.pre_start,
        RunKind::Hook(Hook::PostStart) => &hooks.post_start,
        RunKind::Hook(Hook::PreStop) => &hooks.pre_stop,
        RunKind::Hook(Hook::PostStop) => &hooks.post_stop,
        RunKind::Hook(Hook::OnFailure) => &hooks.on_failure,
        RunKind::Hook(Hook::Stop) => &hooks.stop,
        RunKind::Hook(Hook::Reload) => &hooks.reload,
    };
    // A hook that was configured away since the core asked for it: an empty command is refused by name.
    hook.as_ref().map_or(&[], |hook| &hook.argv)
}

fn environment(
    unit: &Unit,
    tag: &str,
    inherited: &Inheritance,
    credentials: Option<&Credentials>,
) -> Vec<(OsString, OsString)> {
    let mut all = inherited.environment.clone();
    if let Some(who) = credentials {
        let mut set = |key: &str, value: Option<OsString>| {
            value.map(|value| all.insert(OsString::from(key), value));
        };
        set("USER", who.user.as_ref().map(OsString::from));
        set("LOGNAME", who.user.as_ref().map(OsString::from));
        set("HOME", who.home.as_ref().map(|path| path.clone().into_os_string()));
        set("SHELL", who.shell.as_ref().map(|path| path.clone().into_os_string()));
    }
    for (key, value) in unit.config.launch.environment.0.iter() {
        all.insert(key.into(), value.into());
    }
    all.insert("RELUME_SERVICE".into(), unit.config.spec.name.clone().into());
    all.insert("RELUME_RUN".into(), tag.into());
    all.into_iter().collect()
}

/// relume's own original limits, with the service's on top.
fn limits(original: &[(Resource, Limit)], own: &BTreeMap<Rlimit, RlimitValue>) -> Vec<(Resource, Limit)> {
    let mut all = original.to_vec();
    for (limit, value) in own {
        let Some(resource) = Resource::by_name(name_of(*limit)) else { continue };
        let value = Limit { soft: value.soft, hard: value.hard };
        match all.iter_mut().find(|(known, _)| *known == resource) {
            Some((_, known)) => *known = value,
            None => all.push((resource, value)),
        }
    }
    all
}

fn name_of(limit: Rlimit) -> &'static str {
    match limit {
        Rlimit::As => "as",
        Rlimit::Core => "core",
        Rlimit::Cpu => "cpu",
        Rlimit::Data => "data",
        Rlimit::Fsize => "fsize",
        Rlimit::Locks => "locks",
        Rlimit::Memlock => "memlock",
        Rlimit::Msgqueue => "msgqueue",
        Rlimit::Nice => "nice",
        Rlimit::Nofile => "nofile",
        Rlimit::Nproc => "nproc",
        Rlimit::Rss => "rss",
        Rlimit::Rtprio => "rtprio",
        Rlimit::Rttime => "rttime",
        Rlimit::Sigpending => "sigpending",
        Rlimit::Stack => "stack",
    }
}

/// Who the service runs as; none: as relume.
fn credentials(user: Option<&Account>, group: Option<&Account>) -> Result<Option<Credentials>, String> {
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    let text = |account: &Account| match account {
        Account::Id(id) => id.to_string(),
        Account::Name(name) => name.clone(),
    };
    let (user, group) = (user.map(text), group.map(text));
    let (answer, answered) = mpsc::channel();
    let asked = user.clone().or_else(|| group.clone()).unwrap_or_default();
    // A thread of its own, left behind if the system never answers: there is no way to cancel NSS.
    std::thread::Builder::new()
        .name("lookup".into())
        .spawn(move || {
            // The receiver is gone when this took too long; then nobody wants to know.
            let _unwanted = answer.send(users::resolve(user.as_deref(), group.as_deref()));
        })
        .map_err(|error| format!("cannot look up user {asked}: {error}"))?;
    match answered.recv_timeout(LOOKUP_LIMIT) {
        Ok(Ok(found)) => Ok(Some(found)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!(
            "cannot look up user {asked}: the system has not answered within {} s",
            LOOKUP_LIMIT.as_secs()
        )),
    }
}
