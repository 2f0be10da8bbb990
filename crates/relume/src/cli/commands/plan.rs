//! `relume plan`: what the config as it is now would change, by the judgement of the manager that runs; without
//! one, what the next `relume up` would start.

use relume_config::{Config, Severity};
use relume_proto::{ChangeReport, Client, ClientError, ErrorKind, Fate, ServiceChange};

use super::{client, configs, find_manager, load_options, no_config, refused};
use crate::cli::args::{Global, ManagerFlags};
use crate::cli::render::change;
use crate::cli::{Exit, Failure, Screen};
use crate::config_files::Disk;
use crate::manager::last_known;

/// Changes nothing.
pub(crate) fn run(global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let found = find_manager(global)?;
    match ask(Client::plan, &client(&found)?, screen) {
        Ok(report) => Ok(show(&report, screen)),
        Err(error) if matches!(error.kind, ErrorKind::NotRunning) => without_manager(global, screen),
        Err(error) => Err(refused(error, &found)),
    }
}

/// Has the manager read its config.
pub(super) fn ask(
    ask: impl FnOnce(&Client) -> Result<ChangeReport, ClientError>,
    client: &Client,
    screen: &Screen,
) -> Result<ChangeReport, ClientError> {
    screen.progress("the manager reads its config");
    let answer = ask(client);
    screen.end_progress();
    answer
}

/// Shows an answer; a config that cannot be used is bad config.
pub(super) fn show(report: &ChangeReport, screen: &Screen) -> Exit {
    if screen.json {
        screen.result(&format!("{}\n", serde_json::json!(report)));
    } else if report.ok {
        screen.note(&report.rendered);
        screen.result(&change::render(report, screen.out));
    } else {
        screen.note(&format!("{}\n", report.rendered.trim_end()));
        screen.error("this config cannot be used; nothing has changed", Some("See it with: relume check"));
    }
    if report.ok { Exit::Done } else { Exit::Usage }
}

/// Nothing runs, so all that starts by itself would be started, but for what somebody has stopped.
fn without_manager(global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let paths = configs(global);
    if paths.is_empty() {
        return Err(no_config());
    }
    let loaded = relume_config::load(&Disk, &load_options(global, &ManagerFlags::default(), paths));
    let findings = &loaded.diagnostics;
    let ok = !findings.0.iter().any(|found| found.severity == Severity::Error);
    let stopped = last_known::of_config(&loaded.config.manager).map_or_else(Vec::new, |last| last.stopped());
    let report = ChangeReport {
        ok,
        config: loaded.config.sources.iter().map(|path| path.display().to_string()).collect(),
        changes: if ok { changes(&loaded.config, &stopped) } else { Vec::new() },
        diagnostics: findings.0.iter().filter_map(|found| serde_json::to_value(found).ok()).collect(),
        rendered: findings.render(screen.err.colour),
        ..ChangeReport::default()
    };
    if screen.json || !ok {
        return Ok(show(&report, screen));
    }
    screen.note(&report.rendered);
    screen.result(&change::render_start(&report, &stopped, screen.out));
    Ok(Exit::Done)
}

fn changes(config: &Config, stopped: &[String]) -> Vec<ServiceChange> {
    let fate = |name: &str, autostart: bool| match autostart && !stopped.iter().any(|stopped| stopped == name)
    {
        true => Fate::Added,
        false => Fate::AddedStopped,
    };
    let services = config.services.iter().map(|service| &service.spec);
    services
        .map(|spec| ServiceChange {
            service: spec.name.to_string(),
            fate: fate(&spec.name, spec.policy.autostart),
        })
        .collect()
}
