//! `relume schema`: the JSON Schema of the config, for editors.

use crate::cli::{Exit, Failure, Screen};

/// Prints it; the same with and without `--json`.
pub(crate) fn run(screen: &Screen) -> Result<Exit, Failure> {
    screen.result(&format!("{:#}\n", relume_config::schema()));
    Ok(Exit::Done)
}
