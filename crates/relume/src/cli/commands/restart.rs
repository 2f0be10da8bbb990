//! `relume restart`: end services and run them again.

use relume_proto::Verb;

use super::operate::operate;
use crate::cli::args::{Global, StopArgs};
use crate::cli::{Exit, Failure, Screen};

/// Restarts them and waits until they are ready again.
pub(crate) fn run(args: &StopArgs, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    operate(Verb::Restart, &args.target, args.with_dependents, global, screen)
}
