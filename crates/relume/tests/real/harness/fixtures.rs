//! Where the fixtures are, and that they are there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The fixture's program, as text for a config.
pub(crate) fn fixture(name: &str) -> String {
    build();
    let path = folder().join(name);
    assert!(path.is_file(), "there is no fixture {}", path.display());
    path.to_str().unwrap().to_owned()
}

/// Beside relume: cargo puts the programs of all packages of a workspace into one folder.
pub(super) fn folder() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_relume")).parent().unwrap()
}

/// Builds them, once in a test process: cargo builds only the programs of the package that is tested. Test
/// programs started by hand, without cargo, take what is there.
pub(super) fn build() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let Some(cargo) = std::env::var_os("CARGO") else { return };
        let profile = match folder().file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            other => other,
        };
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--package", "relume-fixtures", "--profile", profile])
            .arg("--manifest-path")
            .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/Cargo.toml"))
            .arg("--target-dir")
            .arg(folder().parent().unwrap())
            .status()
            .unwrap();
        assert!(status.success(), "the fixtures cannot be built: {status}");
    });
}
