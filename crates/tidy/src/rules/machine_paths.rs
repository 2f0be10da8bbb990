use crate::{Finding, Rule, Tree};

/// Beginnings of paths that exist on one machine alone. Put together here, so that this file has none.
const BEGINNINGS: [&str; 4] =
    [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Use", "rs/")];

/// Names that stand for anybody.
const ANYBODY: [&str; 6] = ["u", "you", "me", "user", "alice", "NAME"];

/// No path of a developer's machine.
pub(super) const RULE: Rule = Rule {
    name: "no file names a path of a developer's machine",
    why: "it works there and nowhere else.",
    remedy: "use a path relative to the project, a temporary folder, or a name that stands for anybody (`u`, \
             `you`, `user`).",
    check,
};

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files() {
        for (at, line) in text.lines().enumerate() {
            let found = BEGINNINGS.iter().flat_map(|beginning| line.match_indices(beginning));
            let found = found.filter(|(from, beginning)| {
                is_absolute(line, *from) && !is_anybody(&line[from + beginning.len()..])
            });
            findings.extend(found.map(|(from, _)| {
                let end = line[from..].find([' ', '"', '`', ')', ',']).map_or(line.len(), |end| from + end);
                Finding::new(path, at + 1, format!("names {}", &line[from..end]))
            }));
        }
    }
    findings
}

/// Not the middle of a longer path, such as `$HOME/../x`.
fn is_absolute(line: &str, from: usize) -> bool {
    let before = line[..from].chars().next_back();
    !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | '/' | '~'))
}

fn is_anybody(rest: &str) -> bool {
    let name = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    ANYBODY.contains(&name)
}
