//! `relume status`: what is so.

use super::{client, find_manager, refused, select};
use crate::cli::args::{Global, StatusArgs};
use crate::cli::render::status;
use crate::cli::{Exit, Failure, Screen};

/// Shows the services; `NotWell` while one that starts by itself is not well.
pub(crate) fn run(args: &StatusArgs, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let found = find_manager(global)?;
    let mut report = client(&found)?.status(&[]).map_err(|error| refused(error, &found))?;
    // Not asked of the manager by name: here all names are known, so the nearest one can be told.
    select(&mut report.services, &args.names)?;
    if screen.json {
        screen.result(&format!("{}\n", serde_json::json!(report)));
    } else {
        screen.result(&status::render(&report, screen.out));
    }
    Ok(if status::is_well(&report.services) { Exit::Done } else { Exit::NotWell })
}
