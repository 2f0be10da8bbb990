//! The services: programs, users, folders.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use relume_config::{Account, ServiceConfig, StandIn};
use relume_os::users;
use rustix::fs::Access;

use crate::cli::render::doctor::Check;

/// How long the system may take to say who a user is: a directory server may be down.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);

/// Whether the programs are there. One check for all that are fine, one for each that is not.
pub(super) fn programs(services: &[ServiceConfig]) -> Vec<Check> {
    let mut fine = 0;
    let mut checks = Vec::new();
    for service in services {
        let hooks = &service.hooks;
        let others = [
            ("pre_start", &hooks.pre_start),
            ("post_start", &hooks.post_start),
            ("pre_stop", &hooks.pre_stop),
            ("post_stop", &hooks.post_stop),
            ("on_failure", &hooks.on_failure),
            ("stop_command", &hooks.stop),
            ("reload_command", &hooks.reload),
        ];
        let others = others.into_iter().filter_map(|(key, hook)| Some((key, hook.as_ref()?.argv.as_slice())));
        // An engine is asked when its container is started.
        let command = service.launch.command();
        let main = match service.stand_in.as_deref() {
            None => vec![("command", command.as_slice())],
            Some(StandIn::Container(_)) => Vec::new(),
            Some(StandIn::External(external)) => {
                external.commands().into_iter().map(|(key, argv)| (key, argv.as_slice())).collect()
            }
        };
        for (key, argv) in main.into_iter().chain(others) {
            let Some(program) = argv.first() else { continue };
            match find(program, service) {
                Ok(_) => fine += 1,
                Err(why) => {
                    let what = format!("{}.{key}", service.spec.name);
                    checks.push(
                        Check::bad(&what, why)
                            .advice("install it, write its whole path, or set PATH in environment"),
                    );
                }
            }
        }
    }
    checks.insert(0, Check::ok("programs", format!("{fine} found and executable")));
    checks
}

/// Whether there is an engine for the containers.
pub(super) fn engines(services: &[ServiceConfig]) -> Vec<Check> {
    let containers = services.iter().filter_map(|service| match service.stand_in.as_deref() {
        Some(StandIn::Container(container)) => Some((&service.spec.name, container.engine)),
        Some(StandIn::External(_)) | None => None,
    });
    containers
        .map(|(name, engine)| {
            let what = format!("{name}.container");
            match crate::shim::engine_listens(engine) {
                Ok(found) => Check::ok(&what, found),
                Err(why) => Check::bad(&what, format!("no container engine: {why}"))
                    .advice("start it, join its group, or set DOCKER_HOST or CONTAINER_HOST"),
            }
        })
        .collect()
}

/// Where a program is, by the rules of execvp(3) with the service's own PATH and folder.
fn find(program: &str, service: &ServiceConfig) -> Result<PathBuf, String> {
    let launch = &service.launch;
    if program.contains('/') {
        let path = launch.how.working_dir.join(program);
        return executable(&path).map(|()| path);
    }
    let own = launch.environment.0.get("PATH").cloned();
    let search = own.or_else(|| std::env::var("PATH").ok()).unwrap_or_else(|| "/usr/bin:/bin".into());
    let mut last = format!("{program} is in no folder of PATH ({search})");
    for folder in search.split(':') {
        let path = launch.how.working_dir.join(folder).join(program);
        if path.exists() {
            match executable(&path) {
                Ok(()) => return Ok(path),
                Err(why) => last = why,
            }
        }
    }
    Err(last)
}

fn executable(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let found = std::fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?;
    if !found.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    rustix::fs::access(path, Access::EXEC_OK)
        .map_err(|error| format!("{shown} cannot be executed: {}", std::io::Error::from(error)))
}

/// A user or group as it was written.
fn text(account: &Account) -> String {
    match account {
        Account::Id(id) => id.to_string(),
        Account::Name(name) => name.clone(),
    }
}

/// Whether the users exist, and whether relume may become them.
pub(super) fn users(services: &[ServiceConfig]) -> Vec<Check> {
    let mut who: BTreeMap<(Option<String>, Option<String>), &str> = BTreeMap::new();
    for service in services {
        let pair = (service.launch.how.user.as_ref().map(text), service.launch.how.group.as_ref().map(text));
        if pair != (None, None) {
            who.entry(pair).or_insert(&service.spec.name);
        }
    }
    who.into_iter()
        .map(|((user, group), service)| {
            let what = format!("{service}.user");
            let shown =
                [user.as_deref(), group.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(":");
            match resolve(user, group) {
                Err(why) => Check::bad(&what, why).advice("make it with useradd(8), or name another"),
                Ok((uid, _)) if uid != users::effective_uid() && !users::is_root() => {
                    Check::bad(&what, format!("only root can run a service as {shown}"))
                        .advice("start relume as root, or leave `user` out")
                }
                Ok(_) => Check::ok(&what, format!("{shown} exists")),
            }
        })
        .collect()
}

/// Numbers of user and group. In a thread of its own, left behind if the system never answers.
fn resolve(user: Option<String>, group: Option<String>) -> Result<(u32, u32), String> {
    let (answer, answered) = mpsc::channel();
    let look = move || {
        let found = users::resolve(user.as_deref(), group.as_deref());
        // The receiver is gone when this took too long.
        let _late = answer.send(found.map(|who| (who.uid, who.gid)).map_err(|error| error.to_string()));
    };
    std::thread::Builder::new().spawn(look).map_err(|error| error.to_string())?;
    let slow = || format!("the system has not said within {} s who that is", LOOKUP_LIMIT.as_secs());
    answered.recv_timeout(LOOKUP_LIMIT).unwrap_or_else(|_| Err(slow()))
}

/// What only root may do and these services want.
pub(super) fn rights(services: &[ServiceConfig]) -> Vec<Check> {
    if users::is_root() {
        return Vec::new();
    }
    let mut checks = Vec::new();
    for service in services {
        let (name, launch) = (&service.spec.name, &service.launch);
        let wants = [
            (launch.how.nice.is_some_and(|nice| nice < 0), "nice", "a priority above the usual"),
            (
                launch.how.oom_score_adj.is_some_and(|score| score < 0),
                "oom_score_adj",
                "to be spared when memory is short",
            ),
            (
                service.shown.more.port.is_some_and(|port| port < unprivileged_port()),
                "port",
                "a port kept for root",
            ),
        ];
        for (_, key, what) in wants.into_iter().filter(|(wanted, _, _)| *wanted) {
            checks.push(
                Check::warn(&format!("{name}.{key}"), format!("it wants {what}, which only root may have"))
                    .advice("start relume as root, give the program the capability, or choose another value"),
            );
        }
    }
    checks
}

/// The first port that anybody may listen on (ip(7)).
fn unprivileged_port() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

/// Whether the working folders are there, and open to whoever is to work in them.
pub(super) fn folders(services: &[ServiceConfig]) -> Vec<Check> {
    let mut seen: BTreeMap<(&Path, Option<String>), &str> = BTreeMap::new();
    for service in services {
        let user = service.launch.how.user.as_ref().map(text);
        seen.entry((&service.launch.how.working_dir, user)).or_insert(&service.spec.name);
    }
    let judged = seen.into_iter().filter_map(|((dir, user), service)| {
        let what = format!("{service}.working_dir");
        if !dir.is_dir() {
            let check = Check::bad(&what, format!("{} is no folder", dir.display()));
            return Some(check.advice("make it, or correct `working_dir`"));
        }
        let (user, who) = user.clone().zip(resolve(user, None).ok())?;
        let closed = dir.ancestors().find(|folder| !may_enter(folder, who))?;
        let check = Check::warn(&what, format!("{user} may not enter {}, by its mode", closed.display()));
        Some(check.advice("open it with chmod(1), or choose another `working_dir`"))
    });
    judged.collect()
}

/// By owner and mode alone: further groups and access lists may open what looks closed here.
fn may_enter(folder: &Path, (uid, gid): (u32, u32)) -> bool {
    let Ok(found) = std::fs::metadata(folder) else { return true };
    let bit = match (found.uid() == uid, found.gid() == gid) {
        (true, _) => 0o100,
        (false, true) => 0o010,
        (false, false) => 0o001,
    };
    uid == 0 || found.mode() & bit != 0
}
