//! `relume completions`: what a shell needs to complete the command line.

use clap::CommandFactory;

use crate::cli::args::{Cli, CompletionsArgs};
use crate::cli::{Exit, Failure, Screen};

/// Prints them; the same with and without `--json`.
pub(crate) fn run(args: &CompletionsArgs, screen: &Screen) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "relume", &mut text);
    screen.result_bytes(&text);
    Ok(Exit::Done)
}
