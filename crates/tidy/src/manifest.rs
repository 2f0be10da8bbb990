//! Manifests as the rules see them.

use toml::{Table, Value};

use crate::Tree;

/// The kinds of dependencies a manifest may name.
pub(crate) const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Every package of ours: path of its manifest, name, manifest.
pub(crate) fn members(tree: &Tree) -> Vec<(&str, String, Table)> {
    let manifests = tree.ending("/Cargo.toml");
    manifests
        .filter_map(|(path, text)| {
            let table: Table = text.parse().ok()?;
            let name = table.get("package")?.get("name")?.as_str()?.to_owned();
            Some((path, name, table))
        })
        .collect()
}

/// The workspace's own manifest; empty where there is none.
pub(crate) fn workspace(tree: &Tree) -> Table {
    let table = tree.text("Cargo.toml").and_then(|text| text.parse().ok());
    table.as_ref().and_then(|table: &Table| table.get("workspace")?.as_table().cloned()).unwrap_or_default()
}

/// One kind of dependencies, also those for some targets only.
pub(crate) fn dependencies<'a>(table: &'a Table, kind: &str) -> Vec<(&'a str, &'a Value)> {
    let targets = table.get("target").and_then(Value::as_table);
    let of_targets = targets.into_iter().flat_map(|targets| targets.values().filter_map(|t| t.get(kind)));
    let tables = table.get(kind).into_iter().chain(of_targets).filter_map(Value::as_table);
    tables.flatten().map(|(name, value)| (name.as_str(), value)).collect()
}

/// The line (from 1) where a manifest first speaks of a key; 0 if it does not.
pub(crate) fn line_of(text: &str, key: &str) -> usize {
    let speaks = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with([' ', '.', '=']));
    text.lines().position(|line| speaks(line.trim())).map_or(0, |at| at + 1)
}
