//! The rules, one file each.

mod arrows;
mod core_purity;
mod dependencies_used;
mod essays;
mod expect_reasons;
mod leftovers;
pub mod licences;
mod links;
mod machine_paths;
mod sizes;
mod statics;
mod test_sentences;
mod unsafe_code;

use crate::Rule;

/// Every rule that needs nothing but the tree. [`licences`] also wants to know what cargo says.
pub const RULES: &[Rule] = &[
    arrows::RULE,
    core_purity::RULE,
    dependencies_used::RULE,
    essays::RULE,
    expect_reasons::RULE,
    leftovers::RULE,
    links::RULE,
    links::REACHED,
    machine_paths::RULE,
    sizes::RULE,
    statics::RULE,
    test_sentences::RULE,
    unsafe_code::RULE,
];
