use crate::code::{code_only, lines_with_word};
use crate::{Finding, Rule, Tree};

/// Where `unsafe` may be.
pub(super) const RULE: Rule = Rule {
    name: "unsafe is written in crates/os alone",
    why: "what the compiler does not check is read by people: it has to be in one place, and small.",
    remedy: "use rustix or nix, or wrap the call in crates/os with a safe face and its reason.",
    check,
};

fn check(tree: &Tree) -> Vec<Finding> {
    let sources = tree.ending(".rs").filter(|(path, _)| !path.starts_with("crates/os/"));
    let mut findings = Vec::new();
    for (path, text) in sources {
        let code = code_only(text);
        findings.extend(lines_with_word(&code, "unsafe").map(|line| Finding::new(path, line, "unsafe code")));
    }
    findings
}
