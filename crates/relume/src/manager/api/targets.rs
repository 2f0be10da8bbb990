//! Which services a client means.

use axum::http::StatusCode;
use relume_proto::Targets;

use super::Refusal;
use crate::cli::render::text::nearest;
use crate::manager::publish::Board;

/// A word that means all services of a group.
const GROUP: &str = "group/";

/// The names that are meant, in the order of the configuration: a service, all instances of one, a group.
pub(super) fn names(board: &Board, targets: &Targets) -> Result<Vec<String>, Refusal> {
    let words = match targets {
        Targets::All => return Ok(board.in_order().map(|(_, record)| record.name.to_string()).collect()),
        Targets::Names(words) => words,
    };
    let unknown: Vec<&str> = words.iter().filter(|word| !anybody(board, word)).map(String::as_str).collect();
    if !unknown.is_empty() {
        let detail = format!("no service or group is called {}", unknown.join(", "));
        return Err(Refusal::new(StatusCode::NOT_FOUND, "unknown_service", detail)
            .help(nearest_of(board, unknown[0])));
    }
    let meant = |name: &&str| words.iter().any(|word| is_meant(board, name, word));
    Ok(board.in_order().map(|(_, record)| record.name.as_str()).filter(meant).map(str::to_owned).collect())
}

fn nearest_of(board: &Board, word: &str) -> String {
    match nearest(word, board.units.order.iter().map(|name| &**name)) {
        Some(name) => format!("Did you mean {name}? See all names with: relume status"),
        None => "See the names with: relume status".into(),
    }
}

fn anybody(board: &Board, word: &str) -> bool {
    board.in_order().any(|(_, record)| is_meant(board, &record.name, word))
}

fn is_meant(board: &Board, name: &str, word: &str) -> bool {
    let unit = board.units.get(name);
    match word.strip_prefix(GROUP) {
        Some(group) => {
            unit.is_some_and(|unit| unit.config.shown.more.groups.iter().any(|known| known == group))
        }
        None => name == word || unit.is_some_and(|unit| unit.config.base_name == word),
    }
}

/// With all that depend on them, however indirectly.
pub(super) fn with_dependents(board: &Board, mut names: Vec<String>) -> Vec<String> {
    let mut at = 0;
    while let Some(name) = names.get(at).cloned() {
        at += 1;
        names.extend(
            dependents(board, &name).into_iter().filter(|other| !names.contains(other)).collect::<Vec<_>>(),
        );
    }
    names
}

/// Those that depend on a service directly.
pub(super) fn dependents(board: &Board, name: &str) -> Vec<String> {
    let depends = |other: &&relume_core::Name| {
        let unit = board.units.get(other);
        unit.is_some_and(|unit| unit.config.spec.policy.dependencies.contains_key(name))
    };
    board.units.order.iter().filter(depends).map(|other| other.to_string()).collect()
}
