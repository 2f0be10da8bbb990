//! `relume reload`: services read their own configuration again.

use relume_proto::Verb;

use super::operate::operate;
use crate::cli::args::{Global, ReloadArgs};
use crate::cli::{Exit, Failure, Screen};

/// Asks them, and waits for the end of what is a command.
pub(crate) fn run(args: &ReloadArgs, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    operate(Verb::Reload, &args.target, false, global, screen)
}
