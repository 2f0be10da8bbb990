use crate::code::test_names;
use crate::{Finding, Rule, Tree};

/// Fewer words say what is touched, not what is so.
const WORDS: usize = 3;

/// What a test is called.
pub(super) const RULE: Rule = Rule {
    name: "each test is named, or described, by a plain sentence",
    why: "a failing test is read by somebody who did not write it: its name is the rule that was broken.",
    remedy: "name it `a_stopped_service_stays_stopped`, or put the sentence into its doc comment.",
    check,
};

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".rs") {
        for (line, name, doc) in test_names(text) {
            let words = name.split('_').filter(|word| !word.is_empty()).count();
            if words < WORDS && doc.split_whitespace().count() < WORDS {
                findings.push(Finding::new(path, line, format!("`{name}` is no sentence")));
            }
        }
    }
    findings
}
