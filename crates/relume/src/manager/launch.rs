//! From a configured service to what the kernel is asked to start.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::mpsc;

use relume_config::{Account, ProbeTarget, Rlimit, RlimitValue, StandIn};
use relume_core::{Check, Hook, RunKind, SpawnError};
use relume_os::limits::{Limit, Resource};
use relume_os::spawn::SpawnRequest;
use relume_os::users::{self, Credentials};

use super::accounts::Account as Who;
use super::job;
use super::spawn::LOOKUP_LIMIT;
use super::units::Unit;
use crate::roles::{self, NOFILE, Role};
use crate::shim::{self, Order, What};

/// Variables that are relume's own business and never reach a service.
const OWN_PREFIXES: [&str; 3] = ["RELUME_", "LISTEN_", "WATCHDOG_"];

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
        Ok(Self { environment, limits: original_limits()? })
    }

    /// The limits that relume was started with.
    pub(crate) fn limits(&self) -> &[(Resource, Limit)] {
        &self.limits
    }
}

/// The limits that relume was started with. To be called before this process raises its own.
pub(crate) fn original_limits() -> relume_os::Result<Vec<(Resource, Limit)>> {
    let mut limits = relume_os::limits::snapshot()?;
    if let Some((_, limit)) = limits.iter_mut().find(|(resource, _)| *resource == Resource::NOFILE) {
        *limit = nofile()?;
    }
    Ok(limits)
}

/// The limit of open files that relume was started with: a manager that has crashed had raised its own.
pub(crate) fn nofile() -> relume_os::Result<Limit> {
    let told = std::env::var(NOFILE).ok().and_then(|text| Limit::parse(&text));
    told.map_or_else(|| relume_os::limits::get(Resource::NOFILE), Ok)
}

/// What a process of this run is to be, as whom; `done`: of a check, that files have told that it has been done.
///
/// # Errors
/// When what it is to be told cannot be put into words.
pub(crate) fn request(
    unit: &Unit,
    (kind, done): (RunKind, bool),
    tag: &str,
    credentials: Option<Credentials>,
    (inherited, runtime_dir): (&Inheritance, &Path),
) -> Result<SpawnRequest, SpawnError> {
    let launch = &unit.config.launch;
    let mut environment = environment(unit, tag, inherited, credentials.as_ref());
    let mut arg0 = None;
    let mut argv = match kind {
        RunKind::Hook(Hook::Check) => job::argv(unit, done)?,
        RunKind::Service | RunKind::Job | RunKind::Hook(_) | RunKind::Probe(_) | RunKind::Alert(_) => {
            command(unit, kind).iter().map(OsString::from).collect()
        }
    };
    if let (RunKind::Service | RunKind::Job, Some(stand_in)) = (kind, &unit.config.stand_in) {
        argv = vec![roles::running_program().into_os_string()];
        arg0 = Some(format!("relume-shim {}", unit.config.spec.name).into());
        environment.extend(shims_part(unit, stand_in, tag, runtime_dir));
    }
    Ok(SpawnRequest {
        argv,
        arg0,
        environment,
        working_dir: Some(launch.how.working_dir.clone()),
        credentials,
        umask: launch.how.umask,
        nice: launch.how.nice,
        oom_score_adj: launch.how.oom_score_adj,
        limits: limits(&inherited.limits, &launch.how.rlimits),
        listen_pid: false,
        watchdog_pid: false,
        keep_session: false,
    })
}

fn command(unit: &Unit, kind: RunKind) -> Vec<&str> {
    if let RunKind::Service | RunKind::Job | RunKind::Hook(Hook::Check) = kind {
        return unit.config.launch.argv.iter().map(|word| &**word).collect();
    }
    other_command(unit, kind).iter().map(String::as_str).collect()
}

/// What is run beside the service's own program.
fn other_command(unit: &Unit, kind: RunKind) -> &[String] {
    let hooks = &unit.config.hooks;
    let hook = match kind {
        RunKind::Service | RunKind::Job | RunKind::Hook(Hook::Check) => return &[],
        RunKind::Probe(check) => return probe_command(unit, check),
        RunKind::Alert(which) => {
            let alert = unit.config.alerts.get(usize::from(which));
            return alert.and_then(|alert| alert.command.as_deref()).unwrap_or_default();
        }
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

fn probe_command(unit: &Unit, check: Check) -> &[String] {
    match unit.config.readiness.probes.get(check).map(|probe| &probe.target) {
        Some(ProbeTarget::Exec(argv)) => argv,
        _ => &[],
    }
}

fn environment(
    unit: &Unit,
    tag: &str,
    inherited: &Inheritance,
    credentials: Option<&Credentials>,
) -> Vec<(OsString, OsString)> {
    // Borrowed until it is complete: of some dozens of variables, most are copied once.
    let mut all: BTreeMap<&OsStr, &OsStr> =
        inherited.environment.iter().map(|(key, value)| (key.as_os_str(), value.as_os_str())).collect();
    if let Some(who) = credentials {
        let of_user = [
            ("USER", who.user.as_deref().map(OsStr::new)),
            ("LOGNAME", who.user.as_deref().map(OsStr::new)),
            ("HOME", who.home.as_deref().map(Path::as_os_str)),
            ("SHELL", who.shell.as_deref().map(Path::as_os_str)),
        ];
        all.extend(of_user.into_iter().filter_map(|(key, value)| Some((OsStr::new(key), value?))));
    }
    for (key, value) in unit.config.launch.environment.0.iter() {
        all.insert(OsStr::new(key), OsStr::new(value));
    }
    all.insert(OsStr::new("RELUME_SERVICE"), OsStr::new(unit.config.spec.name.as_str()));
    all.insert(OsStr::new("RELUME_RUN"), OsStr::new(tag));
    all.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// What turns this program into a shim.
fn shims_part(unit: &Unit, stand_in: &StandIn, tag: &str, runtime_dir: &Path) -> [(OsString, OsString); 2] {
    let policy = &unit.config.spec.policy;
    let service = unit.config.spec.name.to_string();
    let order = Order {
        owner: tag.split('/').next().unwrap_or_default().to_owned(),
        what: match stand_in {
            StandIn::Container(container) => What::Container(container.clone()),
            StandIn::External(external) => What::External(external.clone()),
        },
        stop_after: policy.timeout_stop.map(|limit| limit.as_secs_f64()),
        cursor: runtime_dir.join(format!("container-{service}")),
        service,
    };
    [(roles::ROLE.into(), Role::Shim.word().into()), (shim::VARIABLE.into(), order.text().into())]
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

/// Who the service runs as, in the words of its configuration; none: as relume.
pub(crate) fn account(unit: &Unit) -> Option<Who> {
    let (user, group) = words(unit.config.launch.how.user.as_ref(), unit.config.launch.how.group.as_ref());
    (user.is_some() || group.is_some()).then_some((user, group))
}

fn words(user: Option<&Account>, group: Option<&Account>) -> Who {
    let text = |account: &Account| match account {
        Account::Id(id) => id.to_string(),
        Account::Name(name) => name.clone(),
    };
    (user.map(text), group.map(text))
}

/// Who a socket belongs to, asked where it is opened, which is once; none: relume.
pub(crate) fn credentials(
    user: Option<&Account>,
    group: Option<&Account>,
) -> Result<Option<Credentials>, SpawnError> {
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    let (user, group) = words(user, group);
    let (answer, answered) = mpsc::channel();
    let asked = user.clone().or_else(|| group.clone()).unwrap_or_default();
    // A thread of its own, left behind if the system never answers: there is no way to cancel NSS.
    std::thread::Builder::new()
        .name("lookup".into())
        .spawn(move || {
            // The receiver is gone when this took too long; then nobody wants to know.
            let _unwanted = answer.send(users::resolve(user.as_deref(), group.as_deref()));
        })
        // The machine has no room for a thread now, which is no fault of the service's.
        .map_err(|error| SpawnError {
            text: format!("cannot look up user {asked}: {error}"),
            shortage: true,
        })?;
    let fault = |text| SpawnError { text, shortage: false };
    match answered.recv_timeout(LOOKUP_LIMIT) {
        Ok(Ok(found)) => Ok(Some(found)),
        Ok(Err(error)) => Err(fault(error.to_string())),
        Err(_) => Err(fault(format!(
            "cannot look up user {asked}: the system has not answered within {} s",
            LOOKUP_LIMIT.as_secs()
        ))),
    }
}
