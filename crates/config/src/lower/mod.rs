//! From what is written to what is meant.

mod alerts;
mod command;
mod container;
mod graph;
mod job;
mod launch;
pub(crate) mod manager;
mod parent_death;
mod policy;
mod readiness;
mod resources;
mod schedule;
mod service;
mod shape;
pub(crate) mod share;
mod targets;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::env_files::{EnvFiles, Values};
use crate::expand::{Vars, expand_tree};
use crate::gather::Unit;
use crate::model::ServiceConfig;
use crate::node::{Node, Value, merge};
use crate::raw::RawService;
use crate::source::{Finding, Sink, Sources, Span};
use crate::{limits, names};

/// What all services share.
pub(crate) struct Globals<'a> {
    /// What `${VAR}` sees first outside of commands.
    pub(crate) environment: &'a Values,
    /// The manager's `env_file`s: below every service's own variables.
    pub(crate) shared: &'a Values,
    pub(crate) config_dir: &'a Path,
    pub(crate) log_dir: &'a Path,
    /// Who is told of changes of all services.
    pub(crate) alerts: &'a [(crate::raw::RawAlert, Node)],
}

/// A service with its defaults under it and one name for each key.
pub(crate) struct Merged {
    pub(crate) name: String,
    pub(crate) name_span: Span,
    pub(crate) node: Node,
    /// Something is wrong with it already.
    pub(crate) broken: bool,
}

/// Expands variables, gives every key its one name, and merges `defaults` under the services of their file and
/// of its includes.
pub(crate) fn written(units: Vec<Unit>, vars: &Vars<'_>, files: &mut EnvFiles<'_>) -> Vec<Merged> {
    let (sources, sink) = (&*files.sources, &mut *files.sink);
    let mut room = limits::EXPANDED_BYTES;
    let mut effective: Vec<Option<Node>> = Vec::new();
    let mut all = Vec::new();
    let mut seen: HashMap<String, Span> = HashMap::new();
    for unit in units {
        let inherited = unit.parent.and_then(|parent| effective.get(parent).cloned().flatten());
        let own = unit.defaults.map(|node| defaults(node, vars, sink));
        let under = match (inherited, own) {
            (Some(inherited), Some(own)) => Some(merge(&inherited, &own)),
            (inherited, own) => own.or(inherited),
        };
        for service in unit.services {
            if sink.full() {
                break;
            }
            let before = sink.errors();
            let Some((name, name_span)) = name(&service, sink) else { continue };
            let mut node = service.node;
            if let Some(first) = seen.get(&name) {
                let message =
                    format!("a second service is called `{name}`; the first is at {}", sources.place(*first));
                sink.add(Finding::error(name_span, message).key(format!("services.{name}")));
                continue;
            }
            seen.insert(name.clone(), name_span);
            expand_tree(&mut node, vars, sink);
            let mut node = shape::service(node, &format!("services.{name}"), sink);
            if let Some(under) = &under {
                node = merge(&shape::probes_under(under, &mut node), &node);
            }
            match room.checked_sub(node.weight()) {
                Some(left) => room = left,
                None => {
                    too_much(name_span, sink);
                    return all;
                }
            }
            all.push(Merged { name, name_span, node, broken: sink.errors() > before });
        }
        effective.push(under);
    }
    all
}

/// What is said when all services together would not fit into the memory that a config may take.
fn too_much(span: Span, sink: &mut Sink) {
    let limit = limits::EXPANDED_BYTES >> 20;
    let message =
        format!("up to here the services take more than {limit} MiB, with their defaults and instances");
    sink.add(
        Finding::error(span, message).key("services").help("is there a very long default or `env_file`?"),
    );
}

/// The `defaults` of one file, with what is wrong with them said once and cut off.
fn defaults(mut node: Node, vars: &Vars<'_>, sink: &mut Sink) -> Node {
    expand_tree(&mut node, vars, sink);
    let node = shape::service(node, "defaults", sink);
    for key in ["name", "display_name"] {
        if let Some(pair) = node.pair(key) {
            let message = format!("`{key}` is unique to each service and cannot have a default");
            sink.add(Finding::error(pair.key_span, message).key(format!("defaults.{key}")));
            pair.node.cut();
        }
    }
    let _: RawService = crate::de::decode(&node, "defaults", sink);
    node
}

/// The name of a service, wherever it stands. None: it has none that could be spoken of.
fn name(service: &crate::gather::Written, sink: &mut Sink) -> Option<(String, Span)> {
    if !matches!(service.node.value, Value::Map(_)) {
        let (span, key) = match &service.key {
            Some((name, span)) if matches!(service.node.value, Value::Null) => {
                (*span, format!("services.{name}"))
            }
            Some((name, _)) => (service.node.span, format!("services.{name}")),
            None => (service.node.span, "services".to_owned()),
        };
        let message = format!("expected a map with the keys of a service, found {}", service.node.kind());
        sink.add(Finding::error(span, message).key(key));
        return None;
    }
    let inside = service.node.get("name");
    let (text, span) = match (&service.key, inside) {
        (Some((key, _)), Some(node)) if node.text() != Some(key) => {
            let message =
                format!("this service is called `{}` by its key already", crate::node::shortened(key));
            sink.add(Finding::error(node.span, message).key(format!("services.{key}.name")));
            return None;
        }
        (Some((key, span)), _) => (key.to_string(), *span),
        (None, Some(node)) => match node.text() {
            Some(text) => (text.to_owned(), node.span),
            None => {
                let message = format!("expected a name, found {}", node.kind());
                sink.add(Finding::error(node.span, message).key("name"));
                return None;
            }
        },
        (None, None) => {
            sink.add(Finding::error(service.node.span, "the service has no `name`").key("name"));
            return None;
        }
    };
    if let Some(problem) = names::problem(&text) {
        let (message, help) = problem.split_once("\nhelp: ").unwrap_or((&problem, ""));
        let found = Finding::error(span, message).key("name");
        sink.add(if help.is_empty() { found } else { found.help(help) });
        return None;
    }
    Some((text, span))
}

/// Every service, instances spread; those with errors are left out.
pub(crate) fn services(
    written: Vec<Merged>,
    globals: &Globals<'_>,
    files: &mut EnvFiles<'_>,
) -> Vec<ServiceConfig> {
    let mut lowered = Vec::new();
    let mut count = 0;
    for merged in written {
        if files.sink.full() {
            return Vec::new();
        }
        let service = service::lower(merged, globals, files);
        count += service.instances.len();
        if count > limits::SERVICES {
            let message = format!("there are more than {} services, instances counted", limits::SERVICES);
            files.sink.add(Finding::error(service.name_span, message).key("services"));
            return Vec::new();
        }
        lowered.push(service);
    }
    unique_names(&lowered, files.sink, files.sources);
    graph::connect(&mut lowered, files.sink, files.sources);
    let whole = lowered.into_iter().filter(|service| !service.broken);
    let mut services: Vec<ServiceConfig> = whole.flat_map(|service| service.instances).collect();
    share::alike(&mut services);
    services
}

/// Two display names must differ, and so must two log files: each is written at its own offset.
fn unique_names(lowered: &[service::Lowered], sink: &mut Sink, sources: &Sources) {
    let mut names: BTreeMap<&str, Span> = BTreeMap::new();
    let mut logs: BTreeMap<std::path::PathBuf, Span> = BTreeMap::new();
    for service in lowered {
        let span =
            |key: &[&str]| service.node.get(key[0]).map_or(service.name_span, |_| service.node.span_of(key));
        for instance in &service.instances {
            let at = span(&["display_name"]);
            let shown = instance.shown.display_name.as_str();
            if let Some(first) = names.insert(shown, at) {
                let message =
                    format!("the display name `{shown}` is taken already, at {}", sources.place(first));
                sink.add(Finding::error(at, message).key(format!("services.{}.display_name", service.name)));
                continue;
            }
            let at = span(&["log", "file"]);
            for file in instance.log.files() {
                if let Some(first) = logs.insert(file, at) {
                    let message =
                        format!("another service writes to this log file, at {}", sources.place(first));
                    sink.add(Finding::error(at, message).key(format!("services.{}.log.file", service.name)));
                }
            }
        }
    }
}
