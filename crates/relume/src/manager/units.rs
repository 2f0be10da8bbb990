//! The configuration as the manager uses it: each service with what is derived from it once.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use relume_config::{
    Config, LineFormat, LogConfig, LogRules, ManagerConfig, ServiceConfig, Stderr, WhenFull,
};

use relume_core::Name;

use super::capture::{LogTarget, Rotate};
use crate::prepared::Written;
use crate::recorded::Recording;

/// All services by name, and the settings that go with them.
#[derive(Debug)]
pub(crate) struct Units {
    /// Settings of relume itself.
    pub(crate) manager: ManagerConfig,
    /// The services.
    pub(crate) by_name: BTreeMap<Name, Arc<Unit>>,
    /// Their names in the order of the configuration.
    pub(crate) order: Vec<Name>,
    /// The files it was read from.
    pub(crate) sources: Vec<PathBuf>,
    /// What stood in them, for the next manager.
    pub(crate) written: Option<Written>,
}

/// One service with what is derived from its configuration once.
#[derive(Debug)]
pub(crate) struct Unit {
    /// As configured.
    pub(crate) config: ServiceConfig,
    /// Where its output goes.
    pub(crate) out: Arc<LogTarget>,
    /// Where its stderr goes, if not there.
    pub(crate) err: Option<Arc<LogTarget>>,
}

impl Units {
    pub(crate) fn new(config: Config) -> Self {
        let units: Vec<Arc<Unit>> =
            config.services.into_iter().map(|service| Arc::new(Unit::new(service))).collect();
        let order: Vec<Name> = units.iter().map(|unit| unit.config.spec.name.clone()).collect();
        let by_name = order.iter().cloned().zip(units).collect();
        Self { manager: config.manager, by_name, order, sources: config.sources, written: None }
    }

    /// The same, with what it was read from, and as it is to be handed on where that can be had.
    pub(crate) fn written(self, recording: &Recording, prepared: Option<OwnedFd>) -> Self {
        Self { written: Written::of(recording, prepared), ..self }
    }

    /// What the core is told. `autostart` is off when only some services were named.
    pub(crate) fn for_core(&self, autostart: bool) -> relume_core::Config {
        let services = self.order.iter().filter_map(|name| self.by_name.get(name));
        relume_core::Config {
            manager: self.manager.policy.clone(),
            autostart,
            services: services.map(|unit| unit.config.spec.clone()).collect(),
        }
    }

    /// Whether somebody has a `max_memory`.
    pub(crate) fn has_memory_bounds(&self) -> bool {
        self.by_name.values().any(|unit| unit.config.resources.max_memory.is_some())
    }

    /// The service of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Unit>> {
        self.by_name.get(name)
    }
}

impl Unit {
    /// A service that is no longer configured, of which something still runs: all that counts of it is where
    /// its last output goes.
    pub(crate) fn unconfigured(name: &str, log_dir: &std::path::Path) -> Self {
        let name = Name::from(name);
        let spec = relume_core::ServiceSpec {
            name: name.clone(),
            policy: relume_core::Policy::default().into(),
            launch: 0,
        };
        let how = relume_config::How {
            shell: false,
            working_dir: PathBuf::from("/"),
            user: None,
            group: None,
            umask: None,
            nice: None,
            oom_score_adj: None,
            rlimits: BTreeMap::new(),
        };
        let environment = relume_config::Environment::default();
        let launch = relume_config::Launch { argv: Box::default(), environment, how: how.into() };
        let file = log_dir.join(format!("{name}.log"));
        let (format, when_full) = (LineFormat::default(), WhenFull::default());
        let rules = LogRules {
            stderr: Stderr::Merge,
            survive: false,
            format,
            when_full,
            rotate: None,
            forward: Vec::new(),
        };
        let log = LogConfig { file: file.into(), rules: rules.into() };
        Self::new(ServiceConfig {
            spec,
            launch,
            stand_in: None,
            hooks: Arc::default(),
            pid_file: None,
            readiness: Arc::default(),
            alerts: Arc::default(),
            log,
            shown: relume_config::Shown::default(),
            schedule: None,
            resources: Arc::default(),
            sockets: Arc::default(),
            base_name: name,
        })
    }

    fn new(config: ServiceConfig) -> Self {
        let out = Arc::new(target(&config.log.rules, Arc::clone(&config.log.file)));
        let err = (config.log.rules.stderr == Stderr::Separate)
            .then(|| Arc::new(target(&config.log.rules, separate_file(&config.log.file).into())));
        Self { config, out, err }
    }
}

fn target(log: &LogRules, path: Arc<Path>) -> LogTarget {
    let rotate = log.rotate.map(|rotate| Rotate {
        size: rotate.size,
        keep: rotate.keep,
        age: rotate.age,
        compress: rotate.compress,
    });
    let (format, when_full) = (log.format, log.when_full);
    LogTarget { format, when_full, indexed: true, ..LogTarget::plain(path, rotate) }
}

/// `web.err.log` beside `web.log`.
fn separate_file(file: &std::path::Path) -> PathBuf {
    let mut name = file.file_stem().unwrap_or_default().to_owned();
    name.push(".err");
    if let Some(extension) = file.extension() {
        name.push(".");
        name.push(extension);
    }
    file.with_file_name(name)
}
