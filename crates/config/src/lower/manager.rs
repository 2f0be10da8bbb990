//! The settings of the manager: from all files, then from variables and flags, which win.

use std::path::{Path, PathBuf};
use std::time::Duration;

use relume_core::{ExitWhen, ManagerPolicy};

use crate::env_files::{EnvFiles, Values};
use crate::expand::{Vars, expand_tree};
use crate::gather::Unit;
use crate::load::{Options, Override};
use crate::maturity;
use crate::model::{LogFormat, LogLevel, ManagerConfig};
use crate::node::{Node, Pair, Value, merge};
use crate::raw::{OneOrMany, PathText, RawEnvFile, RawExitWhen, RawLevel, RawManager, RawManagerLogFormat};
use crate::source::{Finding, Source, Span};

/// The settings as written, with the files of variables read: they are needed before anything is expanded.
pub(crate) struct Settings {
    written: Node,
    overrides: Vec<Node>,
    /// From `env_file`.
    pub(crate) environment: Values,
    /// As given; None: not given.
    pub(crate) respawn_rate: Option<Option<(u32, Duration)>>,
}

impl Settings {
    pub(crate) fn collect(units: &mut [Unit], options: &Options, files: &mut EnvFiles<'_>) -> Self {
        let mut pairs: Vec<Pair> = Vec::new();
        for node in units.iter_mut().filter_map(|unit| unit.manager.take()) {
            let Value::Map(found) = node.value else { continue };
            for pair in found {
                match pairs.iter().find(|known| known.key == pair.key) {
                    Some(first) => {
                        let place = files.sources.place(first.key_span);
                        let message = format!("`{}` is set already at {place}", pair.key);
                        files
                            .sink
                            .add(Finding::error(pair.key_span, message).key(format!("manager.{}", pair.key)));
                    }
                    None => pairs.push(pair),
                }
            }
        }
        // The settings have no place as a whole, only each by itself; every error is at one of them.
        let nowhere = Span::new(0, 0, 0);
        let overrides = options.overrides.iter().map(|given| override_node(given, options, files)).collect();
        let mut settings = Self {
            written: Node::new(Value::Map(pairs), nowhere),
            overrides,
            environment: Values::new(),
            respawn_rate: None,
        };
        settings.environment = settings.env_files(options, files);
        settings
    }

    fn env_files(&self, options: &Options, files: &mut EnvFiles<'_>) -> Values {
        let given = self.overrides.iter().rev().find_map(|node| node.get("env_file")).cloned();
        let node = match (given, self.written.get("env_file")) {
            (Some(node), _) => node,
            (None, Some(node)) => {
                let mut node = node.clone();
                expand_tree(&mut node, &Vars(vec![&options.environment]), files.sink);
                node
            }
            (None, None) => return Values::new(),
        };
        let raw: OneOrMany<RawEnvFile> = crate::de::decode(&node, "manager.env_file", files.sink);
        // A client wants to know where the state is; a file of secrets may not be readable to it.
        if options.manager_only { Values::new() } else { files.values(&raw, &node, "manager.env_file") }
    }

    /// The settings in force. `respawn_rate` is left for when the number of services is known.
    pub(crate) fn lower(
        &mut self,
        env: &Values,
        config_dir: &Path,
        files: &mut EnvFiles<'_>,
    ) -> ManagerConfig {
        let vars = Vars(vec![env, &self.environment]);
        expand_tree(&mut self.written, &vars, files.sink);
        let node = self.overrides.iter().fold(self.written.clone(), |under, over| merge(&under, over));
        maturity::manager(&node, files.sink);
        let raw: RawManager = crate::de::decode(&node, "manager", files.sink);
        self.respawn_rate = raw.respawn_rate.as_ref().map(|rate| rate.0);
        let path = |key: &str, text: &Option<PathText>| -> Option<PathBuf> {
            let text = text.as_ref()?;
            Some(files.resolve(node.get(key)?.span, &text.0))
        };
        let mut config = ManagerConfig {
            config_dir: config_dir.to_path_buf(),
            state_dir: path("state_dir", &raw.state_dir),
            runtime_dir: path("runtime_dir", &raw.runtime_dir),
            log_dir: path("log_dir", &raw.log_dir).unwrap_or_else(|| config_dir.join("logs")),
            log_file: path("log_file", &raw.log_file),
            state_file: path("state_file", &raw.state_file),
            status_file: path("status_file", &raw.status_file),
            pid_dir: path("pid_dir", &raw.pid_dir),
            log_level: level(raw.log_level),
            log_forward: Vec::new(),
            log_format: match raw.log_format {
                None | Some(RawManagerLogFormat::Text) => LogFormat::Text,
                Some(RawManagerLogFormat::Json) => LogFormat::Json,
            },
            self_respawn: raw
                .self_respawn
                .map_or(Some(SELF_RESPAWN), |span| span.0.filter(|span| !span.is_zero())),
            apply_on_respawn: raw.apply_on_respawn.unwrap_or(true),
            watchdog: raw.watchdog.map_or(Some(WATCHDOG), |span| span.0.filter(|span| !span.is_zero())),
            policy: ManagerPolicy {
                respawn_rate: None,
                start_parallelism: raw
                    .start_parallelism
                    .unwrap_or(ManagerPolicy::default().start_parallelism),
                exit_when: match raw.exit_when {
                    None | Some(RawExitWhen::Never) => ExitWhen::Never,
                    Some(RawExitWhen::AllDone) => ExitWhen::AllDone,
                    Some(RawExitWhen::AnyFailed) => ExitWhen::AnyFailed,
                },
            },
        };
        let span = node.get("log_forward").map_or(node.span, |node| node.span);
        config.log_forward = super::launch::targets(raw.log_forward.as_ref(), |message| {
            let found = Finding::error(span, message).key("manager.log_forward");
            files.sink.add(found.help(crate::forward::HELP));
        });
        if config.policy.start_parallelism == 0 {
            let span = node.get("start_parallelism").map_or(node.span, |node| node.span);
            let found = Finding::error(span, "nothing could ever start").key("manager.start_parallelism");
            files.sink.add(found.help("a number of 1 or more"));
        }
        config
    }
}

/// How often the manager replaces itself: the seeds' five minutes.
const SELF_RESPAWN: Duration = Duration::from_secs(300);
/// How long a silent manager is borne: far above any pause of a loaded machine, far below what people bear.
const WATCHDOG: Duration = Duration::from_secs(10);

fn level(raw: Option<RawLevel>) -> LogLevel {
    match raw {
        Some(RawLevel::Error) => LogLevel::Error,
        Some(RawLevel::Warn) => LogLevel::Warn,
        None | Some(RawLevel::Info) => LogLevel::Info,
        Some(RawLevel::Debug) => LogLevel::Debug,
        Some(RawLevel::Trace) => LogLevel::Trace,
    }
}

/// A setting from a flag or a variable as a map with one key, in a source of its own.
fn override_node(given: &Override, options: &Options, files: &mut EnvFiles<'_>) -> Node {
    let source = Source::new(given.origin.clone(), options.current_dir.clone(), given.value.clone(), false);
    let file = files.sources.add(source);
    let span = Span::new(file, 0, given.value.len());
    let leaf = Node::new(Value::Loose(given.value.as_str().into()), span);
    given.key.rsplit('.').fold(leaf, |node, key| {
        Node::new(Value::Map(vec![Pair { key: key.into(), key_span: span, node }]), span)
    })
}
