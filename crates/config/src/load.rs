//! From paths to a config.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use relume_core::RespawnRate;

use crate::diagnostic::Diagnostics;
use crate::env_files::EnvFiles;
use crate::expand::Vars;
use crate::files::Files;
use crate::gather::Gather;
use crate::lower;
use crate::model::Config;
use crate::source::{Sink, Sources};

/// The names that are looked for in the working directory, in this order.
pub const DISCOVERY: [&str; 6] =
    ["relume.yaml", "relume.yml", "relume.toml", "relume.json", "relume.ini", "services_config.json"];

/// What a load is done with, beside the files.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Absolute: where relative paths of the command line start.
    pub current_dir: PathBuf,
    /// The files and directories given, at least one; the first is "the config".
    pub paths: Vec<PathBuf>,
    /// What `${VAR}` sees first.
    pub environment: BTreeMap<String, String>,
    /// Manager settings from flags and variables, the strongest last.
    pub overrides: Vec<Override>,
    /// Read the manager settings of the given files alone: no includes, no services. For clients, which need the
    /// state directory and have no use for the rest.
    pub manager_only: bool,
    /// Excerpts show the values of variables and passwords too. Only for the eyes of who owns the files.
    pub show_secrets: bool,
}

/// A manager setting that came by a flag or a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// As in the file: `log_level`, `api.listen`.
    pub key: String,
    /// As text; the same forms as in the file.
    pub value: String,
    /// For messages: `--log-level` or `RELUME_LOG_LEVEL`.
    pub origin: String,
}

/// A config as far as it could be understood, and all that is wrong with it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Best effort where there are errors: what is wrong is left out. Not to be run then.
    pub config: Config,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
}

impl Loaded {
    /// The config with its warnings, or all findings if one of them is an error.
    ///
    /// # Errors
    /// When the config cannot be used.
    pub fn into_result(self) -> Result<(Config, Diagnostics), Diagnostics> {
        if self.diagnostics.has_errors() {
            Err(self.diagnostics)
        } else {
            Ok((self.config, self.diagnostics))
        }
    }
}

/// Reads the config, with everything it includes, and judges it.
///
/// Never fails: what is wrong is in the diagnostics.
#[must_use]
pub fn load(files: &dyn Files, options: &Options) -> Loaded {
    let mut sources = Sources::default();
    let mut sink = Sink::default();
    let mut gather = Gather::new(files, options, &mut sources, &mut sink);
    let config_dir = gather.roots();
    let (mut units, paths) = (gather.units, gather.paths);
    let mut reader = EnvFiles {
        files,
        sources: &mut sources,
        sink: &mut sink,
        read: HashMap::new(),
        templates: BTreeSet::new(),
        room: crate::limits::EXPANDED_BYTES,
    };

    let mut settings = lower::manager::Settings::collect(&mut units, options, &mut reader);
    let mut manager = settings.lower(&options.environment, &config_dir, &mut reader);
    let vars = Vars(vec![&options.environment, &settings.environment]);
    let mut services = Vec::new();
    if !options.manager_only {
        let written = lower::written(units, &vars, &mut reader);
        let globals = lower::Globals {
            environment: &options.environment,
            shared: &settings.environment,
            config_dir: &config_dir,
            log_dir: &manager.log_dir,
        };
        services = lower::services(written, &globals, &mut reader);
    }
    manager.policy.respawn_rate = match settings.respawn_rate {
        Some(rate) => rate.map(|(count, window)| RespawnRate { count, window }),
        None => Some(RespawnRate::for_services(services.len())),
    };
    let templates = reader.templates.into_iter().collect();
    let config = Config { manager, services, sources: paths, templates };
    Loaded { config, diagnostics: sink.finish(&sources) }
}
