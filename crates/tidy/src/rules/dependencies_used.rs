use toml::Value;

use crate::manifest::{KINDS, dependencies, line_of, members, workspace};
use crate::{Finding, Rule, Tree};

/// No dependency without a user.
pub(super) const RULE: Rule = Rule {
    name: "each dependency is used by somebody",
    why: "a line that nobody needs is still downloaded, audited, updated and believed in.",
    remedy: "delete the line, or the crate that should use it has not said so.",
    check,
};

fn check(tree: &Tree) -> Vec<Finding> {
    let members = members(tree);
    let named = |name: &str| {
        members.iter().any(|(_, _, table)| {
            KINDS.iter().flat_map(|kind| dependencies(table, kind)).any(|(other, _)| other == name)
        })
    };
    let mut findings = Vec::new();
    let text = tree.text("Cargo.toml").unwrap_or_default();
    if let Some(all) = workspace(tree).get("dependencies").and_then(Value::as_table) {
        for name in all.keys().filter(|name| !named(name)) {
            let what = format!("no crate of ours depends on {name}");
            findings.push(Finding::new("Cargo.toml", line_of(text, name), what));
        }
    }
    for (path, _, table) in &members {
        findings.extend(unused_in(tree, path, table));
    }
    findings
}

/// Dependencies of one crate whose name is nowhere in its sources.
fn unused_in(tree: &Tree, path: &str, table: &toml::Table) -> Vec<Finding> {
    let folder = path.trim_end_matches("Cargo.toml");
    let sources: Vec<&str> =
        tree.ending(".rs").filter(|(file, _)| file.starts_with(folder)).map(|f| f.1).collect();
    let text = tree.text(path).unwrap_or_default();
    let all = KINDS.iter().flat_map(|kind| dependencies(table, kind));
    let unused = all.filter(|(name, _)| {
        let word = name.replace('-', "_");
        !sources.iter().any(|source| crate::code::lines_with_word(source, &word).next().is_some())
    });
    unused
        .map(|(name, _)| Finding::new(path, line_of(text, name), format!("no source names {name}")))
        .collect()
}
