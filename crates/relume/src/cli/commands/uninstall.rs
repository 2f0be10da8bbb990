//! `relume uninstall`: stops and removes the unit that `relume install` has made.

use super::install::{file_name, place, refuse_strangers, systemctl};
use crate::cli::args::UninstallArgs;
use crate::cli::{Exit, Failure, Screen};

/// Stops it, which stops its services in order, and removes the file.
pub(crate) fn run(args: &UninstallArgs, screen: &Screen) -> Result<Exit, Failure> {
    let path = place(&args.unit)?.join(file_name(&args.unit));
    if !path.exists() {
        return Err(Failure::new(Exit::NotWell, format!("there is no {}", path.display())));
    }
    refuse_strangers(&path)?;
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let name = file_name(&args.unit);
    systemctl(&[words(&["disable", "--now", name.as_str()])], args.unit.user, screen)?;
    std::fs::remove_file(&path)
        .map_err(|error| Failure::new(Exit::NotWell, format!("cannot remove {}: {error}", path.display())))?;
    screen.result(&format!("Removed {}\n", path.display()));
    systemctl(&[words(&["daemon-reload"])], args.unit.user, screen)?;
    Ok(Exit::Done)
}
