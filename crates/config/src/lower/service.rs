//! One service: every part of it, then its instances.

use std::sync::Arc;
use std::time::Duration;

use relume_core::{Hooks, Name, Policy, ServiceKind, ServiceSpec};

use super::command::{self, Context};
use super::{Globals, Merged, launch, policy, readiness, resources};
use crate::env_files::EnvFiles;
use crate::expand::Vars;
use crate::model::{Hook, HookCommands, LogConfig, More, ServiceConfig, Shown};
use crate::node::Node;
use crate::raw::{CommandText, RawHook, RawService, RawType};
use crate::readiness::Readiness;
use crate::resources::{Resources, Socket};
use crate::source::{Finding, Span};
use crate::stand_in::{External, StandIn};
use crate::{digest, limits, maturity, names};

/// A service as it is meant, not connected to others yet.
pub(super) struct Lowered {
    pub(super) name: String,
    pub(super) name_span: Span,
    pub(super) node: Node,
    pub(super) instances: Vec<ServiceConfig>,
    /// Something is wrong with it: it takes part in the graph, so that others are judged rightly, and in
    /// nothing else.
    pub(super) broken: bool,
}

/// A service being lowered: where to look and where to complain.
pub(super) struct Work<'w, 'f> {
    pub(super) prefix: String,
    pub(super) node: &'w Node,
    pub(super) name_span: Span,
    pub(super) raw: RawService,
    pub(super) files: &'w mut EnvFiles<'f>,
}

impl Work<'_, '_> {
    /// The place of a key, or of the service where the key is not written.
    pub(super) fn span(&self, path: &[&str]) -> Span {
        match path.first() {
            Some(first) if self.node.get(first).is_some() => self.node.span_of(path),
            Some(_) | None => self.name_span,
        }
    }

    pub(super) fn error(&mut self, path: &[&str], message: impl Into<String>) {
        let found = Finding::error(self.span(path), message).key(self.key(path));
        self.files.sink.add(found);
    }

    pub(super) fn error_with(&mut self, path: &[&str], message: impl Into<String>, help: &str) {
        let found = Finding::error(self.span(path), message).key(self.key(path)).help(help);
        self.files.sink.add(found);
    }

    pub(super) fn warning(&mut self, path: &[&str], message: impl Into<String>, help: &str) {
        let found = Finding::warning(self.span(path), message).key(self.key(path)).help(help);
        self.files.sink.add(found);
    }

    fn key(&self, path: &[&str]) -> String {
        format!("{}.{}", self.prefix, path.join("."))
    }
}

pub(super) fn lower(merged: Merged, globals: &Globals<'_>, files: &mut EnvFiles<'_>) -> Lowered {
    let Merged { name, name_span, node, broken } = merged;
    let before = files.sink.errors();
    let prefix = format!("services.{name}");
    maturity::service(&node, &prefix, files.sink);
    let raw: RawService = crate::de::decode(&node, &prefix, files.sink);
    let mut work = Work { prefix, node: &node, name_span, raw, files };
    let is_container =
        work.raw.container.is_some() && matches!(work.raw.r#type, None | Some(RawType::Simple));
    if is_container {
        // The process that looks after it says when it runs.
        work.raw.r#type = Some(RawType::Notify);
    }
    let count = work.raw.instances.unwrap_or(1);
    let count = if (1..=limits::INSTANCES).contains(&count) {
        count
    } else {
        let message = format!("a service has 1 to {} instances", limits::INSTANCES);
        work.error_with(&["instances"], message, "`autostart: false` keeps one from being started");
        1
    };
    let base = Base::of(&mut work, globals, &name);
    let count = fitting(count, node.weight() + base.environment.weight(), &mut work);
    let instances =
        (1..=count).map(|number| instance(&name, (number, count), &base, globals, &mut work)).collect();
    let broken = broken || work.files.sink.errors() > before;
    Lowered { name, name_span, node, instances, broken }
}

/// As many instances as there is room for: all, or with an error one.
fn fitting(count: u32, weight: usize, work: &mut Work<'_, '_>) -> u32 {
    match work.files.room.checked_sub(weight.saturating_mul(count as usize)) {
        Some(left) => {
            work.files.room = left;
            count
        }
        None => {
            super::too_much(work.name_span, work.files.sink);
            work.files.room = 0;
            1
        }
    }
}

/// What all instances of a service have in common.
struct Base {
    policy: Policy,
    readiness: Readiness,
    log: LogConfig,
    environment: launch::Layers,
    shown: Shown,
    shell: Option<Vec<String>>,
    resources: Arc<Resources>,
    sockets: Arc<[Socket]>,
}

impl Base {
    fn of(work: &mut Work<'_, '_>, globals: &Globals<'_>, name: &str) -> Self {
        let mut policy = policy::lower(work);
        let readiness = readiness::lower(work, policy.kind);
        if readiness.is_awaited() {
            policy.kind = ServiceKind::Notify;
        }
        if let (Some(startup), None) = (&readiness.probes.startup, &work.raw.timeout_start) {
            // Its own threshold ends a start that takes too long; the default limit must not come first.
            policy.timeout_start = policy.timeout_start.map(|limit| limit.saturating_add(startup.patience()));
        }
        let shown = shown(work);
        let log = launch::log(work, globals);
        let environment = launch::Layers::of(work, globals);
        let shell = launch::shell(work);
        program_keys(work);
        let resources = resources::resources(work).into();
        let sockets = resources::sockets(work, policy.kind, name).into();
        Self { policy, readiness, log, environment, shown, shell, resources, sockets }
    }
}

/// The rules between the keys that say what is run.
fn program_keys(work: &mut Work<'_, '_>) {
    let has =
        |key: &str| work.node.get(key).is_some_and(|node| !matches!(node.value, crate::node::Value::Null));
    let (command, executable, arguments) = (has("command"), has("executable"), has("arguments"));
    if super::container::check(work) {
        return;
    }
    if work.raw.r#type == Some(RawType::External) {
        return external_keys(work);
    }
    for key in ["start_command", "status_command"] {
        if has(key) {
            work.error_with(
                &[key],
                format!("`{key}` goes with `type: external`"),
                "add it, or leave this out",
            );
        }
    }
    if command && executable {
        work.error(&["executable"], "`command` says already what is run");
    } else if arguments && !executable {
        let help = if command { "append them to `command`" } else { "`executable` names the program" };
        work.error_with(&["arguments"], "`arguments` goes with `executable`", help);
    } else if !command && !executable && !work.node.pairs().iter().any(|pair| pair.node.is_cut()) {
        // An unknown key may well be the command misspelt: one message for one mistake.
        work.error(&["command"], "the service has no `command`");
    }
    // `stop_signal` is used beside `stop_command`: when that fails, and for what is left.
    if has("reload_command") && has("reload_signal") {
        let message = "`reload_command` is used in the place of `reload_signal`";
        work.warning(&["reload_signal"], message, "leave one of them out");
    }
    if work.raw.pid_file.is_some() && work.raw.r#type != Some(RawType::Forking) {
        work.warning(
            &["pid_file"],
            "`pid_file` is read for `type: forking` only",
            "leave one of them out or add the other",
        );
    }
}

/// The same where others run it.
fn external_keys(work: &mut Work<'_, '_>) {
    for key in ["command", "executable", "arguments", "pid_file"] {
        if work.node.get(key).is_some() {
            let help = "`start_command`, `stop_command` and `status_command` say all there is to know";
            work.error_with(&[key], format!("`{key}` has no meaning for `type: external`"), help);
        }
    }
    if work.raw.start_command.is_none() && work.raw.status_command.is_none() {
        let help = "`start_command` starts it, `status_command` tells whether it is up";
        work.error_with(&["type"], "an external service needs `start_command` or `status_command`", help);
    }
}

/// What others run, as commands.
fn external(work: &mut Work<'_, '_>, context: &Context<'_>) -> Option<External> {
    if work.raw.r#type != Some(RawType::External) {
        return None;
    }
    let mut argv = |key: &'static str, command: Option<CommandText>| {
        let node = work.node.get(key)?;
        let name = format!("{}.{key}", work.prefix);
        command::lower(&command?, node, &name, context, work.files).map(|(argv, _)| argv)
    };
    let (start, stop, status) =
        (work.raw.start_command.clone(), work.raw.stop_command.clone(), work.raw.status_command.clone());
    Some(External {
        start: argv("start_command", start),
        stop: argv("stop_command", stop),
        status: argv("status_command", status),
    })
}

fn shown(work: &mut Work<'_, '_>) -> Shown {
    if work.raw.port == Some(0) {
        work.error(&["port"], "a port is a number from 1 to 65535");
    }
    Shown {
        display_name: work.raw.display_name.as_ref().map(|name| name.0.as_str().into()).unwrap_or_default(),
        more: Arc::new(More {
            description: work.raw.description.clone(),
            urls: work.raw.urls.as_ref().map(|urls| urls.0.clone()).unwrap_or_default(),
            port: work.raw.port,
            groups: work
                .raw
                .groups
                .iter()
                .flat_map(|groups| &groups.0)
                .map(|group| group.0.clone())
                .collect(),
        }),
    }
}

fn instance(
    base_name: &str,
    (number, count): (u32, u32),
    base: &Base,
    globals: &Globals<'_>,
    work: &mut Work<'_, '_>,
) -> ServiceConfig {
    let suffix = if count > 1 { format!(":{number}") } else { String::new() };
    let name = Name::from(format!("{base_name}{suffix}"));
    let base_name = if count > 1 { Name::from(base_name) } else { name.clone() };
    let (shown, log) = shown_and_logged(base, (&base_name, &name), &suffix, globals);

    let environment = base.environment.for_instance(number);
    let vars = Vars(vec![&environment.0, globals.environment, globals.shared]);
    let context = Context { vars, shell: base.shell.clone() };
    let container = super::container::lower(work, (&base_name, &suffix), &environment);
    let stand_in =
        container.map(StandIn::Container).or_else(|| external(work, &context).map(StandIn::External));
    let (argv, shell) = match &stand_in {
        Some(StandIn::Container(container)) => (vec![container.image.clone()], false),
        Some(StandIn::External(external)) => {
            (external.commands().first().map(|(_, argv)| argv.to_vec()).unwrap_or_default(), false)
        }
        None => {
            let (argv, shell) = program(work, &context).unwrap_or_default();
            super::parent_death::look(work, &argv);
            (argv, shell)
        }
    };
    let (mut hooks, mut hook_times) = hooks(work, &context, base.policy.timeout_stop);
    hooks.check = super::job::lower(work, base.policy.kind, &context);
    hook_times.check = hooks.check.as_ref().map(|_| relume_core::HOOK_TIMEOUT);
    let mut readiness = base.readiness.clone();
    readiness::commands(&mut readiness, work, &context);
    let alerts = super::alerts::lower(work, globals, &context);
    let pid_file = work.raw.pid_file.as_ref().map(|path| path.0.clone());
    let pid_file = pid_file.map(|path| work.files.resolve(work.span(&["pid_file"]), &path));
    let launch = launch::lower(work, globals, argv, shell, environment);
    let schedule = super::schedule::lower(work, base.policy.kind);
    let autostart = base.policy.autostart && schedule.is_none();
    let checks = readiness.probes.checks();
    let policy = Policy { hooks: hook_times, checks, autostart, ..base.policy.clone() };
    let spec = ServiceSpec {
        name,
        policy: policy.into(),
        launch: digest::launch(&digest::Parts {
            launch: &launch,
            stand_in: stand_in.as_ref(),
            pid_file: pid_file.as_deref(),
            readiness: &readiness,
            log: &log,
            limits: base.resources.limits,
            sockets: &base.sockets,
        }),
    };
    ServiceConfig {
        spec,
        launch,
        stand_in: stand_in.map(Box::new),
        hooks: hooks.into(),
        pid_file: pid_file.map(Into::into),
        readiness: readiness.into(),
        alerts: alerts.into(),
        log,
        shown,
        schedule: schedule.map(Box::new),
        resources: Arc::clone(&base.resources),
        sockets: Arc::clone(&base.sockets),
        base_name,
    }
}

/// Under which name it is shown, and where its output goes, which follows from that.
fn shown_and_logged(
    base: &Base,
    (base_name, name): (&Name, &Name),
    suffix: &str,
    globals: &Globals<'_>,
) -> (Shown, LogConfig) {
    let (mut shown, mut log) = (base.shown.clone(), base.log.clone());
    let display_name = if shown.display_name.is_empty() { base_name } else { &shown.display_name };
    if log.file.as_os_str().is_empty() {
        let file = format!("{}{suffix}.log", names::file_stem(display_name));
        log.file = globals.log_dir.join(file).into();
    } else if !suffix.is_empty() {
        log.file = launch::numbered(&log.file, suffix).into();
    }
    shown.display_name = if shown.display_name.is_empty() {
        name.clone()
    } else {
        Name::from(format!("{display_name}{suffix}"))
    };
    (shown, log)
}

fn program(work: &mut Work<'_, '_>, context: &Context<'_>) -> Option<(Vec<String>, bool)> {
    if let Some(command) = work.raw.command.clone() {
        let key = format!("{}.command", work.prefix);
        return command::lower(&command, work.node.get("command")?, &key, context, work.files);
    }
    let program = work.raw.executable.clone()?;
    let key = format!("{}.executable", work.prefix);
    let program = crate::raw::CommandText::List(vec![program]);
    let (mut argv, _) = command::lower(&program, work.node.get("executable")?, &key, context, work.files)?;
    if let Some(arguments) = work.raw.arguments.clone() {
        let node = work.node.get("arguments")?;
        let key = format!("{}.arguments", work.prefix);
        argv.extend(command::arguments(&arguments, node, &key, context, work.files)?);
    }
    Some((argv, false))
}

fn hooks(
    work: &mut Work<'_, '_>,
    context: &Context<'_>,
    timeout_stop: Option<Duration>,
) -> (HookCommands, Hooks) {
    let raw = &work.raw;
    let written = [
        ("pre_start", raw.pre_start.clone()),
        ("post_start", raw.post_start.clone()),
        ("pre_stop", raw.pre_stop.clone()),
        ("post_stop", raw.post_stop.clone()),
        ("on_failure", raw.on_failure.clone()),
    ];
    let [pre_start, post_start, pre_stop, post_stop, on_failure] =
        written.map(|(key, raw)| raw.and_then(|raw| hook(key, raw, work, context)));
    // Where the whole stop may take for ever, the command that asks for it may not.
    let stop_limit = timeout_stop.unwrap_or(relume_core::HOOK_TIMEOUT);
    // Of an external service it is the shim's, which the stop signal reaches.
    let stop = work.raw.stop_command.clone().filter(|_| work.raw.r#type != Some(RawType::External));
    let stop = asker("stop_command", stop, stop_limit, work, context);
    let reload =
        asker("reload_command", work.raw.reload_command.clone(), relume_core::HOOK_TIMEOUT, work, context);
    let time = |hook: &Option<Hook>| hook.as_ref().map(|hook| hook.timeout);
    let times = Hooks {
        check: None,
        pre_start: time(&pre_start),
        post_start: time(&post_start),
        pre_stop: time(&pre_stop),
        post_stop: time(&post_stop),
        on_failure: time(&on_failure),
        stop: time(&stop),
        reload: time(&reload),
    };
    (
        HookCommands { check: None, pre_start, post_start, pre_stop, post_stop, on_failure, stop, reload },
        times,
    )
}

/// A command in the place of a signal.
fn asker(
    key: &'static str,
    command: Option<CommandText>,
    timeout: Duration,
    work: &mut Work<'_, '_>,
    context: &Context<'_>,
) -> Option<Hook> {
    let node = work.node.get(key)?;
    let name = format!("{}.{key}", work.prefix);
    let (argv, _) = command::lower(&command?, node, &name, context, work.files)?;
    Some(Hook { argv, timeout })
}

fn hook(
    key: &'static str,
    RawHook(map): RawHook,
    work: &mut Work<'_, '_>,
    context: &Context<'_>,
) -> Option<Hook> {
    let node = work.node.get(key)?;
    let timeout = map.timeout.map_or(relume_core::HOOK_TIMEOUT, |span| span.0);
    if timeout.is_zero() {
        work.error(&[key, "timeout"], "a hook needs some time to run");
    }
    let Some(command) = map.command else {
        work.error(&[key], "the hook has no `command`");
        return None;
    };
    let name = format!("{}.{key}", work.prefix);
    let node = node.get("command").unwrap_or(node);
    let (argv, _) = command::lower(&command, node, &name, context, work.files)?;
    Some(Hook { argv, timeout })
}

/// How its start is judged.
pub(super) fn kind(raw: Option<RawType>) -> ServiceKind {
    match raw {
        None | Some(RawType::Simple) => ServiceKind::Simple,
        // Its shim says when it is up.
        Some(RawType::Notify | RawType::External) => ServiceKind::Notify,
        Some(RawType::Oneshot) => ServiceKind::Oneshot,
        Some(RawType::Forking) => ServiceKind::Forking,
    }
}
