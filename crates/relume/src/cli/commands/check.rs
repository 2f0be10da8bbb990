//! `relume check`: every problem of the config in one go; with `--deep` also what of it cannot work on this machine.

use relume_config::{Loaded, Severity};

use super::doctor::{self, is_bad};
use super::{configs, load_options, no_config};
use crate::cli::args::{CheckArgs, Global, ManagerFlags};
use crate::cli::render::doctor::Check;
use crate::cli::render::text::{count, harmless};
use crate::cli::render::{BAD, GOOD};
use crate::cli::{Exit, Failure, Screen};
use crate::config_files::Disk;

/// Reads the config as `up` would, and starts nothing.
pub(crate) fn run(args: &CheckArgs, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let paths = configs(global);
    if paths.is_empty() {
        return Err(no_config());
    }
    let mut options = load_options(global, &ManagerFlags::default(), paths);
    options.show_secrets = args.show_secrets;
    let loaded = relume_config::load(&Disk, &options);
    let checks = args.deep.then(|| doctor::of_config(&loaded.config, global));
    if screen.json {
        screen.result(&format!("{}\n", as_json(&loaded, checks.as_deref())));
    } else {
        screen.result(&loaded.diagnostics.render(screen.out.colour));
        if let Some(checks) = &checks {
            screen.result(&crate::cli::render::doctor::render(checks, screen.out));
        }
        screen.result(&summary(&loaded, screen));
    }
    Ok(match checks {
        _ if loaded.diagnostics.has_errors() => Exit::Usage,
        Some(checks) if is_bad(&checks) => Exit::NotWell,
        Some(_) | None => Exit::Done,
    })
}

fn as_json(loaded: &Loaded, checks: Option<&[Check]>) -> serde_json::Value {
    let sources: Vec<String> = loaded.config.sources.iter().map(|path| path.display().to_string()).collect();
    let mut answer = serde_json::json!({
        "ok": !loaded.diagnostics.has_errors(),
        "sources": sources,
        "services": loaded.config.services.len(),
        "diagnostics": loaded.diagnostics,
    });
    if let Some(checks) = checks {
        answer["deep"] = doctor::as_json(checks);
    }
    answer
}

fn summary(loaded: &Loaded, screen: &Screen) -> String {
    let of =
        |severity: Severity| loaded.diagnostics.0.iter().filter(|found| found.severity == severity).count();
    let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
    let files: Vec<String> = loaded.config.sources.iter().map(|path| path.display().to_string()).collect();
    let warned = if warnings == 0 { String::new() } else { format!(", {}", count(warnings, "warning")) };
    let (sign, verdict) = if errors == 0 {
        let fine = format!("{}{warned}", count(loaded.config.services.len(), "service"));
        (screen.out.paint(GOOD, screen.out.sign("✓", "ok")), fine)
    } else {
        (screen.out.paint(BAD, screen.out.sign("✗", "x")), format!("{}{warned}", count(errors, "error")))
    };
    format!("{sign} {}: {verdict}\n", harmless(&files.join(", ")))
}
