//! The real tree, held against every rule.

use std::path::Path;

use relume_tidy::{RULES, Tree, complaint, licences, packages};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn every_rule_holds_in_this_tree() {
    let tree = Tree::read(root()).unwrap();
    assert!(tree.has("crates/tidy/tests/house.rs"), "this is not the tree of relume");
    let complaints: Vec<String> = RULES.iter().filter_map(|rule| rule.complaint(&tree)).collect();
    assert!(complaints.is_empty(), "{}", complaints.concat());
}

#[test]
fn every_package_may_be_given_on_under_our_licences() {
    let tree = Tree::read(root()).unwrap();
    let packages = packages(root()).unwrap();
    assert!(
        packages.iter().any(|package| package.name == "serde"),
        "cargo named {} packages",
        packages.len()
    );
    let findings = licences::check(tree.text("deny.toml").unwrap_or_default(), &packages);
    let complaint = complaint(licences::NAME, licences::WHY, licences::REMEDY, findings);
    assert!(complaint.is_none(), "{}", complaint.unwrap_or_default());
}
