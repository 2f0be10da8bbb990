//! `relume plan`: what the config as it is now would change, by the judgement of the manager that runs.

use relume_proto::{ChangeReport, Client, ClientError};

use super::{client, find_manager, refused};
use crate::cli::args::Global;
use crate::cli::render::change;
use crate::cli::{Exit, Failure, Screen};

/// Changes nothing.
pub(crate) fn run(global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    consider(Client::plan, global, screen)
}

/// Asks, and shows the answer; a config that cannot be used is bad config.
pub(super) fn consider(
    ask: impl FnOnce(&Client) -> Result<ChangeReport, ClientError>,
    global: &Global,
    screen: &Screen,
) -> Result<Exit, Failure> {
    let found = find_manager(global)?;
    let client = client(&found)?;
    screen.progress("the manager reads its config");
    let answer = ask(&client);
    screen.end_progress();
    let report = answer.map_err(|error| refused(error, &found))?;
    if screen.json {
        screen.result(&format!("{}\n", serde_json::json!(report)));
    } else if report.ok {
        screen.note(&report.rendered);
        screen.result(&change::render(&report, screen.out));
    } else {
        screen.note(&format!("{}\n", report.rendered.trim_end()));
        screen.error("this config cannot be used; nothing has changed", Some("See it with: relume check"));
    }
    Ok(if report.ok { Exit::Done } else { Exit::Usage })
}
