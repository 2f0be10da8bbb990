use crate::code::{is_test_file, without_tests};
use crate::{Finding, Rule, Tree};

/// Lines of a file, tests apart. A file that can be read in one sitting; functions are clippy's (70 lines).
const LINES: usize = 600;

/// How long files are.
pub(super) const RULE: Rule = Rule {
    name: "no source file has more than 600 lines, tests apart",
    why: "a limit on functions alone lets files grow until nobody reads one from the top.",
    remedy: "find the second subject in the file and give it a file of its own.",
    check,
};

fn check(tree: &Tree) -> Vec<Finding> {
    let sources = tree.ending(".rs").filter(|(path, _)| !is_test_file(path));
    let long =
        sources.map(|(path, text)| (path, without_tests(text).lines().count())).filter(|(_, n)| *n > LINES);
    long.map(|(path, lines)| Finding::new(path, 0, format!("{lines} lines"))).collect()
}
