//! Taste as tests: what the house of relume promises about its own text, checked by the test suite.
//!
//! # Theory of operation
//!
//! A [`Tree`] is the text of every file of the repository, read once and held in memory; so a test can make
//! one up. A [`Rule`] is a name, a reason, a way out and a pure function from a tree to findings. [`RULES`] is
//! the list of all. `tests/house.rs` holds the real tree against each; `tests/rules.rs` shows on small
//! made-up trees that each can fail, and that it lets the nearest good thing pass.
//!
//! What clippy and rustc can see is left to them (the lints of the workspace's manifest, with a reason each).
//! Here stands what lies between files: sizes, arrows between crates, links in prose, licences.
//!
//! # What it must never do
//!
//! Be shipped, write a file, need the network, or know a file by name that somebody may want to move. A rule
//! that needs a list of exceptions is wrong: change the rule or the code.

#![forbid(unsafe_code)]

mod code;
mod manifest;
pub mod markdown;
mod metadata;
mod rules;
mod tree;

pub use code::{code_only, test_names};
pub use metadata::{Package, packages};
pub use rules::{RULES, licences};
pub use tree::Tree;

use std::fmt;

/// One place where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, relative to the root of the tree.
    pub path: String,
    /// The line, from 1; 0 speaks of the whole file.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

impl Finding {
    pub(crate) fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// Something that holds everywhere in the tree.
#[derive(Debug)]
pub struct Rule {
    /// A sentence that is true of a tidy tree.
    pub name: &'static str,
    /// What would be lost without it.
    pub why: &'static str,
    /// What to do about a finding.
    pub remedy: &'static str,
    /// Every place where it is broken.
    pub check: fn(&Tree) -> Vec<Finding>,
}

impl Rule {
    /// Says where the rule is broken, why it is there, and what to do; `None` if it holds.
    #[must_use]
    pub fn complaint(&self, tree: &Tree) -> Option<String> {
        complaint(self.name, self.why, self.remedy, (self.check)(tree))
    }
}

/// One text for everything that is wrong by one rule.
#[must_use]
pub fn complaint(name: &str, why: &str, remedy: &str, mut findings: Vec<Finding>) -> Option<String> {
    findings.sort();
    let places: Vec<String> = findings.iter().map(|finding| format!("  {finding}\n")).collect();
    let text = format!("\nNot so: {name}.\n{}Why: {why}\nWhat to do: {remedy}\n", places.concat());
    (!places.is_empty()).then_some(text)
}
