use crate::code::code_only;
use crate::{Finding, Rule, Tree};

/// No silenced lint without a reason.
pub(super) const RULE: Rule = Rule {
    name: "each #[expect(…)] says its reason",
    why: "whoever meets a silenced lint must be able to tell whether the reason still holds.",
    remedy: "add `reason = \"…\"` inside of it.",
    check,
};

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".rs") {
        let code = code_only(text);
        for (at, _) in code.match_indices("[expect(").chain(code.match_indices(", expect(")) {
            let inside = parenthesis(&code[at..]);
            if !inside.contains("reason =") {
                let line = code[..at].lines().count().max(1);
                findings.push(Finding::new(path, line, "silences a lint and does not say why"));
            }
        }
    }
    findings
}

/// From the first `(` to the `)` that closes it.
fn parenthesis(code: &str) -> &str {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return &code[..at],
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    code
}
