//! The examples that users copy from are right.

use crate::common::{Memory, lines, load_with};

/// Every text file of an example's folder, under `/w`.
fn example(name: &str) -> Memory {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    let mut files = Memory::default();
    for entry in std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.expect("a readable folder").path();
        if path.is_file() {
            files.0.insert(
                std::path::Path::new("/w").join(path.file_name().expect("an entry has a name")),
                std::fs::read(&path).expect("a readable file"),
            );
        }
    }
    files
}

#[test]
fn every_example_loads_without_an_error() {
    for (name, file, services) in [
        ("quickstart", "relume.yaml", 3),
        ("healing-bot", "relume.yaml", 6),
        ("json-array", "services_config.json", 1),
        ("containers", "relume.yaml", 2),
    ] {
        let loaded = load_with(&example(name), &[file], &[]);
        assert!(!loaded.diagnostics.has_errors(), "{name}: {:?}", lines(&loaded.diagnostics));
        assert!(loaded.config.services.len() >= services, "{name}");
    }
}
