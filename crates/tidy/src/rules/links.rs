use crate::markdown::{anchors, links};
use crate::{Finding, Rule, Tree};

/// Where links lead.
pub(super) const RULE: Rule = Rule {
    name: "every link in a page leads to a file, and to a heading of it",
    why: "prose rots in silence; a link is the part of it that a machine can check.",
    remedy: "correct the path (relative to the page) or the #anchor (the heading in lower case, spaces as \
             hyphens, other signs left out).",
    check,
};

/// How pages are found.
pub(super) const REACHED: Rule = Rule {
    name: "every page under docs/ is linked from another page",
    why: "a page that no index names is read by nobody and rots.",
    remedy: "add it to docs/user/README.md, docs/internals/README.md or docs/internals/decisions/README.md.",
    check: check_reached,
};

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".md") {
        for link in links(text).into_iter().filter(|link| is_relative(&link.target)) {
            let (file, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
            let to = resolve(path, file);
            if !to.as_deref().is_some_and(|to| tree.has(to)) {
                findings.push(Finding::new(path, link.line, format!("leads nowhere: {}", link.target)));
                continue;
            }
            let page = to.as_deref().filter(|to| to.ends_with(".md")).and_then(|to| tree.text(to));
            let known =
                page.is_none_or(|page| anchor.is_empty() || anchors(page).iter().any(|a| a == anchor));
            if !known {
                let what = format!("no such heading: {}", link.target);
                findings.push(Finding::new(path, link.line, what));
            }
        }
    }
    findings
}

fn check_reached(tree: &Tree) -> Vec<Finding> {
    let mut reached = Vec::new();
    for (path, text) in tree.ending(".md") {
        let all = links(text).into_iter().filter(|link| is_relative(&link.target));
        let files = all.filter_map(|link| resolve(path, link.target.split('#').next().unwrap_or_default()));
        reached.extend(files.filter(|to| to != path));
    }
    let pages = tree.ending(".md").map(|(path, _)| path).filter(|path| path.starts_with("docs/"));
    let folder = |path: &str| path.strip_suffix("/README.md").unwrap_or(path).to_owned();
    let lost = pages.filter(|path| !reached.iter().any(|to| to == path || *to == folder(path)));
    lost.map(|path| Finding::new(path, 0, "no page leads here")).collect()
}

fn is_relative(target: &str) -> bool {
    !target.contains("://") && !target.starts_with("mailto:")
}

/// The path that a link in `page` means; `None` if it leads out of the tree.
fn resolve(page: &str, link: &str) -> Option<String> {
    if link.is_empty() {
        return Some(page.to_owned());
    }
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in link.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
