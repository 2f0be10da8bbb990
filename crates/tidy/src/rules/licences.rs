//! Everything relume is built from may be given on under MIT or Apache-2.0, and comes from one place.
//!
//! The lists are those of `deny.toml`, so that `cargo deny` says the same to whoever has it. It is not what
//! the check runs: it would have to be installed first, which takes minutes of compiling on each new machine,
//! and a check that is left out where its tool is missing is no check.

use toml::{Table, Value};

use crate::manifest::line_of;
use crate::{Finding, Package};

/// A sentence that is true of a tidy tree; see [`crate::Rule`].
pub const NAME: &str = "every package has an allowed licence, is not banned, and comes from an allowed place";

/// What would be lost without it.
pub const WHY: &str = "relume is given to others under MIT or Apache-2.0: one package with stricter terms binds \
                       them too, and a package from anywhere but the registry can change without notice.";

/// What to do about a finding.
pub const REMEDY: &str = "choose another package; or, if its terms permit what ours do, add the licence to \
                          `allow` in deny.toml with a reason.";

const FILE: &str = "deny.toml";

/// Holds every package against the lists of `deny.toml`.
#[must_use]
pub fn check(deny: &str, packages: &[Package]) -> Vec<Finding> {
    let Ok(lists) = deny.parse::<Table>() else {
        return vec![Finding::new(FILE, 0, "is missing, or no TOML")];
    };
    let allowed = strings(&lists, "licenses", "allow");
    let registries = strings(&lists, "sources", "allow-registry");
    let banned = strings(&lists, "bans", "deny");
    let mut findings = Vec::new();
    for package in packages {
        let mut say = |what: String, key: &str| {
            let what = format!("{} {}: {what}", package.name, package.version);
            findings.push(Finding::new(FILE, line_of(deny, key), what));
        };
        match &package.licence {
            Some(terms) if permits(terms, &allowed) => {}
            Some(terms) => say(format!("its licence is {terms}"), "allow"),
            None => say("declares no licence".into(), "allow"),
        }
        let from = package.source.as_deref().map(|source| source.trim_start_matches("registry+"));
        if from.is_some_and(|from| !registries.contains(&from)) {
            say(format!("comes from {}", from.unwrap_or_default()), "allow-registry");
        }
        if banned.contains(&package.name.as_str()) {
            say("is banned".into(), "deny");
        }
    }
    findings
}

/// The strings of a list; of a list of tables, their `name`.
fn strings<'a>(lists: &'a Table, section: &str, key: &str) -> Vec<&'a str> {
    let list = lists.get(section).and_then(|section| section.get(key)).and_then(Value::as_array);
    let text = |value: &'a Value| value.as_str().or_else(|| value.get("name")?.as_str());
    list.into_iter().flatten().filter_map(text).collect()
}

/// Whether a licence expression (SPDX) can be met with the allowed licences alone.
///
/// `/` is what older packages write for OR. AND binds closer than OR.
#[must_use]
pub fn permits(terms: &str, allowed: &[&str]) -> bool {
    let spaced = terms.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    either(&mut words, allowed) == Some(true) && words.is_empty()
}

// Each reads its part of the expression from the end of `words`; `None` is no expression.

fn either(words: &mut Vec<&str>, allowed: &[&str]) -> Option<bool> {
    let mut met = both(words, allowed)?;
    while words.last() == Some(&"OR") {
        words.pop();
        met |= both(words, allowed)?;
    }
    Some(met)
}

fn both(words: &mut Vec<&str>, allowed: &[&str]) -> Option<bool> {
    let mut met = one(words, allowed)?;
    while words.last() == Some(&"AND") {
        words.pop();
        met &= one(words, allowed)?;
    }
    Some(met)
}

fn one(words: &mut Vec<&str>, allowed: &[&str]) -> Option<bool> {
    let word = words.pop()?;
    if word == "(" {
        let met = either(words, allowed)?;
        return (words.pop() == Some(")")).then_some(met);
    }
    if words.last() == Some(&"WITH") {
        words.pop();
        let exception = words.pop()?;
        return Some(allowed.contains(&format!("{word} WITH {exception}").as_str()));
    }
    Some(allowed.contains(&word))
}
