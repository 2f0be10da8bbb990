//! `relume urls`: where to look at the services.

use super::{client, find_manager, refused, select};
use crate::cli::args::{Global, UrlsArgs};
use crate::cli::render::urls;
use crate::cli::{Exit, Failure, Screen};

/// Shows what the config says of them.
pub(crate) fn run(args: &UrlsArgs, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let found = find_manager(global)?;
    let mut report = client(&found)?.status(&[]).map_err(|error| refused(error, &found))?;
    select(&mut report.services, &args.names)?;
    if screen.json {
        screen.result(&format!("{}\n", urls::as_json(&report.services)));
    } else {
        screen.result(&urls::render(&report.services, screen.out));
    }
    Ok(Exit::Done)
}
