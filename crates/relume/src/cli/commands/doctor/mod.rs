//! `relume doctor`: what could keep relume or the services from working here, and what to do about it.
//!
//! It looks and changes nothing: it starts no service, makes no file, and asks the manager only whether it is
//! there. Each finding stands for itself, so one that cannot be judged hides no other.

mod disk;
mod limits;
mod machine;
mod ports;
mod services;

use relume_config::Config;
use serde_json::json;

use super::{client, configs, find_manager, load_options};
use crate::cli::args::{Global, ManagerFlags};
use crate::cli::render::doctor::{self, Check, Verdict};
use crate::cli::render::text::count;
use crate::cli::{Exit, Failure, Screen};
use crate::config_files::Disk;

/// Looks at everything; `NotWell` when something is bad.
pub(crate) fn run(global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let mut checks = machine::kernel();
    checks.extend(config(global));
    if screen.json {
        screen.result(&format!("{}\n", as_json(&checks)));
    } else {
        screen.result(&doctor::render(&checks, screen.out));
    }
    Ok(if is_bad(&checks) { Exit::NotWell } else { Exit::Done })
}

/// What depends on the config; a word about it when there is none.
fn config(global: &Global) -> Vec<Check> {
    let paths = configs(global);
    if paths.is_empty() {
        let check = Check::warn("config", "there is none here, so no service was looked at");
        return [check.advice("give one with -c PATH, or change to its folder")].into();
    }
    let loaded = relume_config::load(&Disk, &load_options(global, &ManagerFlags::default(), paths));
    let errors = loaded.diagnostics.0.iter().filter(|d| d.severity == relume_config::Severity::Error).count();
    let config = loaded.config;
    let about = match errors {
        0 => Check::ok("config", format!("valid, {}", count(config.services.len(), "service"))),
        n => Check::bad("config", count(n, "error")).advice("see them with: relume check"),
    };
    let mut checks = vec![about];
    checks.extend(of_config(&config, global));
    checks
}

/// What of a config cannot work on this machine, as far as can be seen without starting anything.
pub(super) fn of_config(config: &Config, global: &Global) -> Vec<Check> {
    let mut checks: Vec<Check> = machine::trusted(config, global.trust).into_iter().collect();
    checks.extend(machine::descriptors(config.services.len()));
    checks.extend(machine::processes(config.services.len()));
    checks.extend(machine::places(&config.manager));
    checks.extend(disk::room(&config.manager));
    checks.extend(services::programs(&config.services));
    checks.extend(services::engines(&config.services));
    checks.extend(services::users(&config.services));
    checks.extend(services::rights(&config.services));
    checks.extend(services::folders(&config.services));
    checks.extend(ports::held(&config.services));
    checks.extend(limits::kept(&config.services, &running(global)));
    checks
}

/// Manager and guardian of the relume that runs here; nobody where none does.
fn running(global: &Global) -> Vec<u32> {
    let report = find_manager(global).and_then(|found| Ok(client(&found)?.status(&[])?));
    report.map_or_else(|_| Vec::new(), |report| vec![report.manager.pid, report.manager.guardian_pid])
}

/// Whether something will not work.
pub(super) fn is_bad(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.verdict == Verdict::Bad)
}

/// `{"ok": …, "checks": [{"check", "verdict", "detail", "advice"}]}`
pub(super) fn as_json(checks: &[Check]) -> serde_json::Value {
    let one = |check: &Check| {
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Bad => "bad",
        };
        json!({"check": check.what, "verdict": verdict, "detail": check.detail, "advice": check.advice})
    };
    json!({"ok": !is_bad(checks), "checks": checks.iter().map(one).collect::<Vec<_>>()})
}
