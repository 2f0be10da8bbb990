use crate::manifest::{KINDS, dependencies, line_of, members};
use crate::{Finding, Rule, Tree};

/// Who may know whom. What is not here knows no other crate of ours.
const ALLOWED: [(&str, &str); 5] = [
    ("relume-config", "relume-core"),
    ("relume", "relume-config"),
    ("relume", "relume-core"),
    ("relume", "relume-os"),
    ("relume", "relume-proto"),
];

/// The simulator drives the core, and what is fuzzed is every parser; nothing that is shipped knows either.
const FOR_DEVELOPMENT: [(&str, &str); 5] = [
    ("relume-sim", "relume-core"),
    ("relume-fuzz", "relume-config"),
    ("relume-fuzz", "relume-core"),
    ("relume-fuzz", "relume-os"),
    ("relume-fuzz", "relume-proto"),
];

/// The arrows between our crates.
pub(super) const RULE: Rule = Rule {
    name: "arrows between our crates are core ← config ← relume, os ← relume, proto ← relume, core ← sim",
    why: "decisions stay apart from the kernel, the kernel from the wire: each crate can be understood, tested \
          and replaced without the others.",
    remedy: "move the code to where it may know what it needs, or hand the value in from crates/relume. A new \
             arrow needs a file in docs/internals/decisions/ and a line in crates/tidy/src/rules/arrows.rs.",
    check,
};

fn check(tree: &Tree) -> Vec<Finding> {
    let members = members(tree);
    let ours = |name: &str| members.iter().any(|(_, other, _)| other == name);
    let mut findings = Vec::new();
    for (path, name, table) in &members {
        let all = KINDS.iter().flat_map(|kind| dependencies(table, kind));
        for (other, _) in all.filter(|(other, _)| ours(other)) {
            if !ALLOWED.iter().chain(&FOR_DEVELOPMENT).any(|arrow| *arrow == (name.as_str(), other)) {
                let line = line_of(tree.text(path).unwrap_or_default(), other);
                findings.push(Finding::new(path, line, format!("{name} must not know {other}")));
            }
        }
    }
    findings
}
