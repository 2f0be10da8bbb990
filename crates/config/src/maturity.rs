//! Keys that are known and checked, but not acted on by this version: using one is a warning at its place.
//! Whoever makes one work deletes its line here; nothing else has to change.

use crate::node::{Node, Pair};
use crate::source::{Finding, Sink};

/// A key that is not acted on yet, and the values of it that say what happens anyway.
struct Later {
    path: &'static [&'static str],
    fine: &'static [&'static str],
}

const fn later(path: &'static [&'static str]) -> Later {
    Later { path, fine: &[] }
}

const SERVICE: &[Later] = &[];

const MANAGER: &[Later] = &[later(&["api"])];

/// Warns of what a service says in vain.
pub(crate) fn service(node: &Node, prefix: &str, sink: &mut Sink) {
    warn(SERVICE, node, prefix, sink);
}

/// Warns of what the manager is told in vain.
pub(crate) fn manager(node: &Node, sink: &mut Sink) {
    warn(MANAGER, node, "manager", sink);
}

fn warn(table: &[Later], node: &Node, prefix: &str, sink: &mut Sink) {
    for later in table {
        let Some(pair) = find(node, later.path) else { continue };
        let off = match pair.node.text() {
            Some(text) => crate::raw::is_off(text) || later.fine.contains(&text),
            None => matches!(pair.node.value, crate::node::Value::Null),
        };
        if !off && !pair.node.is_cut() {
            sink.add(not_yet(pair, &format!("{prefix}.{}", later.path.join("."))));
        }
    }
}

fn not_yet(pair: &Pair, key: &str) -> Finding {
    Finding::warning(pair.key_span, format!("`{}` is not acted on by this version yet", pair.key)).key(key)
}

fn find<'a>(node: &'a Node, path: &[&str]) -> Option<&'a Pair> {
    let (last, parents) = path.split_last()?;
    parents.iter().try_fold(node, |node, key| node.get(key))?.pair(last)
}

/// Whether a key of a service or of the manager is not acted on: for the reference page.
pub(crate) fn is_later(manager: bool, path: &[&str]) -> bool {
    let table = if manager { MANAGER } else { SERVICE };
    table.iter().any(|later| later.path == path)
}
