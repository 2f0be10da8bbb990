//! `relume apply`: the manager reads its config again and puts it in force.

use relume_proto::Client;

use super::plan::consider;
use crate::cli::args::Global;
use crate::cli::{Exit, Failure, Screen};

/// Returns when it holds. Services that are restarted by it may still be on their way.
pub(crate) fn run(global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    consider(Client::apply, global, screen)
}
