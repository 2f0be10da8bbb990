//! `relume start`: run services, and what they depend on.

use relume_proto::Verb;

use super::operate::operate;
use crate::cli::args::{Global, StartArgs};
use crate::cli::{Exit, Failure, Screen};

/// Starts them and waits until they are ready.
pub(crate) fn run(args: &StartArgs, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    operate(Verb::Start, &args.target, false, global, screen)
}
