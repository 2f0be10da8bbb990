use crate::code::{code_only, lines_with_word};
use crate::{Finding, Rule, Tree};

/// Marks of unfinished work, in any file. Put together here, so that this file has none.
const MARKS: [&str; 3] = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("X", "XX")];

/// Macros of unfinished work, in code.
const MACROS: [&str; 3] = ["todo", "unimplemented", "dbg"];

/// Nothing is left half done.
pub(super) const RULE: Rule = Rule {
    name: "nothing is marked as unfinished",
    why: "a note in the code is read by nobody; a stub is met by a user.",
    remedy: "finish it, take it out, or write an issue.",
    check,
};

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files() {
        for mark in MARKS {
            let lines = lines_with_word(text, mark);
            findings.extend(lines.map(|line| Finding::new(path, line, format!("says {mark}"))));
        }
    }
    for (path, text) in tree.ending(".rs") {
        let code = code_only(text);
        for name in MACROS {
            let call = format!("{name}!");
            let calls = |line: &&str| line.contains(&call);
            let lines = lines_with_word(&code, name)
                .filter(|at| code.lines().nth(at - 1).as_ref().is_some_and(calls));
            findings.extend(lines.map(|line| Finding::new(path, line, format!("calls {call}"))));
        }
    }
    findings
}
