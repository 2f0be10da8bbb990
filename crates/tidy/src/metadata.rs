//! What cargo says about everything that is linked or run to build and test relume.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A package, ours or another's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The licence expression (SPDX) it declares.
    pub licence: Option<String>,
    /// Where it comes from; `None`: from this tree.
    pub source: Option<String>,
}

/// Every package that is built on this machine's kind of target.
///
/// Those of other systems are left out: cargo would have to download them only to be asked.
///
/// # Errors
/// When cargo cannot be run or refuses, with what it said.
pub fn packages(root: &Path) -> Result<Vec<Package>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &target])
        .current_dir(root)
        .output()
        .map_err(|e| format!("cargo cannot be run: {e}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let json: Value = serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
    let list = json["packages"].as_array().ok_or("cargo metadata names no packages")?;
    Ok(list.iter().map(package).collect())
}

fn package(value: &Value) -> Package {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    Package {
        name: text("name").unwrap_or_default(),
        version: text("version").unwrap_or_default(),
        licence: text("license"),
        source: text("source"),
    }
}
