//! One name for each key and one shape for each value, so that `defaults` and services merge key by key.

use crate::node::{Node, Pair, Value};
use crate::raw::{ALIASES, PROBE_KEYS, PROBE_TARGETS, Scope};
use crate::source::{Finding, Sink};

/// A service (or `defaults`) with canonical keys, its environment as a map.
pub(super) fn service(mut node: Node, prefix: &str, sink: &mut Sink) -> Node {
    rename(&mut node, Scope::Service, prefix, sink);
    if let Value::Map(pairs) = &mut node.value {
        for pair in pairs {
            if PROBE_KEYS.contains(&&*pair.key) {
                rename(&mut pair.node, Scope::Probe, &format!("{prefix}.{}", pair.key), sink);
            }
            if &*pair.key == "environment" {
                environment(&mut pair.node, prefix, sink);
            }
        }
    }
    node
}

/// The defaults as they go under the probes of this service. They may say how to ask and not what: then the service's own
/// probe says that, be it no more than a URL, and without one there is no probe. Of two things to ask its own is asked.
pub(super) fn probes_under(under: &Node, service: &mut Node) -> Node {
    let mut under = under.clone();
    let (Value::Map(below), Value::Map(own)) = (&mut under.value, &mut service.value) else { return under };
    below.retain_mut(|pair| {
        if !PROBE_KEYS.contains(&&*pair.key) {
            return true;
        }
        let Value::Map(below) = &mut pair.node.value else { return true };
        let Some(own) = own.iter_mut().find(|own| own.key == pair.key) else {
            return below.iter().any(asks);
        };
        url_as_map(&mut own.node);
        if own.node.pairs().iter().any(asks) {
            below.retain(|pair| !asks(pair));
        }
        true
    });
    under
}

/// Whether this key of a probe says what is asked.
fn asks(pair: &Pair) -> bool {
    PROBE_TARGETS.contains(&&*pair.key)
}

/// `http://…` as `{http: http://…}`, so that other keys can go under it.
fn url_as_map(probe: &mut Node) {
    let Some(text) = probe.text() else { return };
    let scheme = text.trim().split_once("://").map(|(scheme, _)| scheme);
    let key = match scheme {
        Some("http" | "https") => "http",
        Some("tcp") => "tcp",
        _ => return,
    };
    let url = Node::new(Value::Text(text.trim().into()), probe.span);
    probe.value = Value::Map(vec![Pair { key: key.into(), key_span: probe.span, node: url }]);
}

/// Gives keys their one name; two names of one key are an error at the second.
fn rename(node: &mut Node, scope: Scope, prefix: &str, sink: &mut Sink) {
    let Value::Map(pairs) = &mut node.value else { return };
    let canonical = |key: &str| {
        ALIASES.iter().find(|(where_, other, _)| *where_ == scope && *other == key).map(|(_, _, name)| *name)
    };
    let mut given: Vec<(Box<str>, Box<str>)> = Vec::new();
    pairs.retain_mut(|pair| {
        let name: Box<str> = canonical(&pair.key).map_or_else(|| pair.key.clone(), Into::into);
        if let Some((_, first)) = given.iter().find(|(known, _)| *known == name) {
            let message = format!("`{}` means the same as `{first}`, which is given already", pair.key);
            sink.add(Finding::error(pair.key_span, message).key(format!("{prefix}.{}", pair.key)));
            return false;
        }
        given.push((name.clone(), std::mem::replace(&mut pair.key, name)));
        true
    });
}

/// A list of `NAME=VALUE` as a map.
fn environment(node: &mut Node, prefix: &str, sink: &mut Sink) {
    let elements: Vec<Node> = match &node.value {
        Value::List(nodes) => nodes.clone(),
        Value::Loose(text) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(|part| Node::new(Value::Text(part.into()), node.span)).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => return,
    };
    let loose = matches!(node.value, Value::Loose(_));
    let mut pairs: Vec<Pair> = Vec::new();
    for element in elements {
        let Some(text) = element.text() else {
            let message = format!("expected `NAME=VALUE`, found {}", element.kind());
            sink.add(Finding::error(element.span, message).key(format!("{prefix}.environment")));
            continue;
        };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => {
                let quoted = loose && value.len() >= 2 && value.starts_with('"') && value.ends_with('"');
                let value = if quoted { &value[1..value.len() - 1] } else { value };
                (name, Value::Text(value.into()))
            }
            None => (text, Value::Null),
        };
        if pairs.iter().any(|pair| &*pair.key == name) {
            let message = format!("`{}` stands twice in this list", crate::node::shortened(name));
            sink.add(Finding::error(element.span, message).key(format!("{prefix}.environment.{name}")));
            continue;
        }
        pairs.push(Pair { key: name.into(), key_span: element.span, node: Node::new(value, element.span) });
    }
    node.value = Value::Map(pairs);
}
