//! `relume status`: what is so.

use std::ops::ControlFlow;
use std::time::Duration;

use relume_proto::{ErrorKind, StatusReport};

use super::events::comes_back;
use super::{client, find_manager, refused, select};
use crate::cli::args::{Global, StatusArgs};
use crate::cli::render::status;
use crate::cli::{Exit, Failure, Screen};

/// So often what is watched is shown again when nothing happens: uptimes and waits go on.
const REFRESH: Duration = Duration::from_secs(1);

/// Shows the services; `NotWell` while one that starts by itself is not well.
pub(crate) fn run(args: &StatusArgs, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    if args.watch {
        return watch(args, global, screen);
    }
    let found = find_manager(global)?;
    let mut report = client(&found)?.status(&[]).map_err(|error| refused(error, &found))?;
    // Not asked of the manager by name: here all names are known, so the nearest one can be told.
    select(&mut report.services, &args.names)?;
    show(&report, screen);
    let safe_mode = report.manager.state == relume_proto::ManagerState::SafeMode;
    Ok(if status::is_well(&report.services) && !safe_mode { Exit::Done } else { Exit::NotWell })
}

/// False: nobody reads any more.
fn show(report: &StatusReport, screen: &Screen) -> bool {
    if screen.json {
        screen.result(&format!("{}\n", serde_json::json!(report)))
    } else {
        screen.result(&status::render(report, screen.out))
    }
}

/// Shows it again whenever something has happened; on a terminal in place, elsewhere one below the other.
fn watch(args: &StatusArgs, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let found = find_manager(global)?;
    let client = client(&found)?;
    // Only a terminal shows time passing; a file or a program is told what has changed.
    let refresh = screen.out.width.filter(|_| !screen.json).map(|_| REFRESH);
    loop {
        let mut shown = false;
        let answer = client.watch(refresh, |mut report, _| {
            if let Err(failure) = select(&mut report.services, &args.names) {
                return ControlFlow::Break(Err(failure));
            }
            if refresh.is_some() && !screen.result("\u{1b}[H\u{1b}[2J") {
                return ControlFlow::Break(Ok(()));
            }
            shown = true;
            if show(&report, screen) { ControlFlow::Continue(()) } else { ControlFlow::Break(Ok(())) }
        });
        match answer {
            Ok(Some(ended)) => return ended.map(|()| Exit::Done),
            Ok(None) => {}
            // A manager that is being replaced is there again in a moment.
            Err(error) if shown && matches!(error.kind, ErrorKind::Lost) && comes_back(&client) => {}
            Err(error) => return Err(refused(error, &found)),
        }
    }
}
