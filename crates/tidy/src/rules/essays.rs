use crate::{Finding, Rule, Tree};

/// Fewer words than this are a title, not a theory of operation.
const WORDS: usize = 25;

/// How a crate opens.
pub(super) const RULE: Rule = Rule {
    name: "each crate opens with what it does and what it must never do",
    why: "the first screen of a crate is where a newcomer decides whether the thing sought is here.",
    remedy: "begin lib.rs (main.rs, if there is no lib.rs) with a `//!` essay of a few sentences, and every \
             other program with at least one line.",
    check,
};

fn check(tree: &Tree) -> Vec<Finding> {
    let roots =
        tree.ending(".rs").filter(|(path, _)| path.starts_with("crates/") && !path.contains("/tests/"));
    roots.filter_map(|(path, text)| finding(tree, path, text)).collect()
}

fn finding(tree: &Tree, path: &str, text: &str) -> Option<Finding> {
    let wanted = match path.rsplit_once("/src/") {
        Some((_, "lib.rs")) => WORDS,
        Some((folder, "main.rs")) if !tree.has(&format!("{folder}/src/lib.rs")) => WORDS,
        Some((_, "main.rs")) => 1,
        Some((_, file)) if file.starts_with("bin/") => 1,
        Some(_) | None => return None,
    };
    let essay = text.lines().map_while(|line| line.strip_prefix("//!"));
    let words: usize = essay.map(|line| line.split_whitespace().count()).sum();
    (words < wanted)
        .then(|| Finding::new(path, 1, format!("opens with {words} words of `//!`, not {wanted}")))
}
