//! `relume check`: every problem of the config in one go.

use relume_config::{Loaded, Severity};

use super::{configs, load_options, no_config};
use crate::cli::args::{Global, ManagerFlags};
use crate::cli::render::text::{count, harmless};
use crate::cli::render::{BAD, GOOD};
use crate::cli::{Exit, Failure, Screen};
use crate::config_files::Disk;

/// Reads the config as `up` would, and starts nothing.
pub(crate) fn run(global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let paths = configs(global);
    if paths.is_empty() {
        return Err(no_config());
    }
    let loaded = relume_config::load(&Disk, &load_options(global, &ManagerFlags::default(), paths));
    if screen.json {
        screen.result(&format!("{}\n", as_json(&loaded)));
    } else {
        screen.result(&loaded.diagnostics.render(screen.out.colour));
        screen.result(&summary(&loaded, screen));
    }
    Ok(if loaded.diagnostics.has_errors() { Exit::Usage } else { Exit::Done })
}

fn as_json(loaded: &Loaded) -> serde_json::Value {
    let sources: Vec<String> = loaded.config.sources.iter().map(|path| path.display().to_string()).collect();
    serde_json::json!({
        "ok": !loaded.diagnostics.has_errors(),
        "sources": sources,
        "services": loaded.config.services.len(),
        "diagnostics": loaded.diagnostics,
    })
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
