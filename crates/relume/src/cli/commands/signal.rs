//! `relume signal`: any signal to services.

use relume_proto::{SignalRequest, Targets};

use super::{client, find_manager, refused};
use crate::cli::args::{Global, SignalArgs};
use crate::cli::render::operation;
use crate::cli::{Exit, Failure, Screen};

/// Sends it; what it does shows in the status.
pub(crate) fn run(args: &SignalArgs, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let found = find_manager(global)?;
    let request = SignalRequest {
        signal: args.signal.to_string(),
        targets: if args.all { Targets::All } else { Targets::Names(args.names.clone()) },
        tree: args.tree,
    };
    let report = client(&found)?.signal(&request).map_err(|error| refused(error, &found))?;
    if screen.json {
        screen.result(&format!("{}\n", serde_json::json!(report)));
    } else {
        let name = relume_os::signals::name(args.signal);
        screen.result(&operation::render_sent(&name, &report, screen.out));
    }
    Ok(if operation::judged(&report).0 { Exit::NotWell } else { Exit::Done })
}
