use crate::code::{code_only, is_test_file, without_tests};
use crate::{Finding, Rule, Tree};

/// Types whose value changes behind a shared reference.
const CHANGING: [&str; 6] = ["Mutex", "RwLock", "Atomic", "Cell", "OnceLock", "LazyLock"];

/// No hidden state.
pub(super) const RULE: Rule = Rule {
    name: "no static holds state outside crates/os",
    why: "state that any line may reach cannot be recovered, simulated or tested side by side. (crates/os has \
          one: a signal handler can be handed nothing. Tests may hold a gate.)",
    remedy: "put it into a struct that is handed on.",
    check,
};

fn check(tree: &Tree) -> Vec<Finding> {
    let sources =
        tree.ending(".rs").filter(|(path, _)| !path.starts_with("crates/os/") && !is_test_file(path));
    let mut findings = Vec::new();
    for (path, text) in sources {
        for (at, line) in code_only(without_tests(text)).lines().enumerate() {
            if holds_state(line) {
                findings.push(Finding::new(path, at + 1, line.trim()));
            }
        }
    }
    findings
}

fn holds_state(line: &str) -> bool {
    let words =
        line.trim().trim_start_matches("pub").trim_start_matches("(crate)").trim_start_matches("(super)");
    let Some(rest) = words.trim().strip_prefix("static ") else { return false };
    let of = rest.split('=').next().unwrap_or_default();
    of.trim().starts_with("mut ") || CHANGING.iter().any(|changing| of.contains(changing))
}
