//! `relume stop`: end services, which then stay ended.

use relume_proto::Verb;

use super::operate::operate;
use crate::cli::args::{Global, StopArgs};
use crate::cli::{Exit, Failure, Screen};

/// Stops them and waits until nothing of them is left.
pub(crate) fn run(args: &StopArgs, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    operate(Verb::Stop, &args.target, args.with_dependents, global, screen)
}
