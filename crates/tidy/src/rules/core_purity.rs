use toml::Value;

use crate::code::code_only;
use crate::manifest::{dependencies, line_of, workspace};
use crate::{Finding, Rule, Tree};

const MANIFEST: &str = "crates/core/Cargo.toml";
const ROOT: &str = "crates/core/src/lib.rs";

/// Features of serde that need no standard library.
const SERDE_FEATURES: [&str; 2] = ["derive", "alloc"];

/// What makes the core pure.
pub(super) const RULE: Rule = Rule {
    name: "the core imports alloc and serde's derive, nothing else",
    why: "without a standard library there is no clock, file, thread, environment or randomly seeded map to \
          reach for: purity is a compile error instead of a promise, and any failure replays from one number.",
    remedy: "hand the thing in as an event or as configuration; keep `#![cfg_attr(not(test), no_std)]` and \
             `#![forbid(unsafe_code)]` at the top of the core.",
    check,
};

fn check(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(MANIFEST) else { return Vec::new() };
    let Ok(table) = text.parse::<toml::Table>() else {
        return vec![Finding::new(MANIFEST, 0, "is no TOML")];
    };
    let mut findings = Vec::new();
    for (name, value) in dependencies(&table, "dependencies") {
        let line = line_of(text, name);
        if name == "serde" {
            findings.extend(std_features(value).map(|what| Finding::new(MANIFEST, line, what)));
        } else {
            findings.push(Finding::new(MANIFEST, line, format!("the core may not depend on {name}")));
        }
    }
    for (name, _) in dependencies(&table, "build-dependencies") {
        findings.push(Finding::new(
            MANIFEST,
            line_of(text, name),
            format!("nothing is built before it: {name}"),
        ));
    }
    findings.extend(workspace_serde(tree));
    findings.extend(attributes(tree));
    findings
}

/// What of a dependency's line pulls the standard library in.
fn std_features(value: &Value) -> impl Iterator<Item = String> + '_ {
    let features = value.get("features").and_then(Value::as_array).into_iter().flatten();
    let strange = features.filter_map(Value::as_str).filter(|feature| !SERDE_FEATURES.contains(feature));
    strange.map(|feature| format!("serde's feature {feature} is not for the core"))
}

fn workspace_serde(tree: &Tree) -> Vec<Finding> {
    let workspace = workspace(tree);
    let Some(serde) = workspace.get("dependencies").and_then(|all| all.get("serde")) else {
        return Vec::new();
    };
    let line = line_of(tree.text("Cargo.toml").unwrap_or_default(), "serde");
    let plain = serde.get("default-features").and_then(Value::as_bool) == Some(false);
    let default = (!plain).then(|| "serde's default features pull in the standard library".to_owned());
    default
        .into_iter()
        .chain(std_features(serde))
        .map(|what| Finding::new("Cargo.toml", line, what))
        .collect()
}

fn attributes(tree: &Tree) -> Vec<Finding> {
    let code = code_only(tree.text(ROOT).unwrap_or_default());
    let wanted = ["#![cfg_attr(not(test), no_std)]", "#![forbid(unsafe_code)]"];
    let missing = wanted.iter().filter(|attribute| !code.contains(**attribute));
    missing.map(|attribute| Finding::new(ROOT, 0, format!("{attribute} is missing"))).collect()
}
