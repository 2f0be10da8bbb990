//! `relume logs`: the output of services, straight from their files.
//!
//! The files are the truth and the manager is only asked where they are, so this works while none runs. The
//! bytes a service wrote are shown as they are, except on a terminal, where what could command it is made
//! harmless. Following loses no line over rotation, truncation and replacement (`follow`).

mod chain;
mod follow;
mod printer;
mod stream;
mod tail;
mod targets;

use super::{Named, client, find_manager, select};
use crate::cli::args::{Global, LogsArgs};
use crate::cli::render::text::harmless;
use crate::cli::{Exit, Failure, Screen};
pub(crate) use stream::Stream;

use follow::Follower;
use printer::Printer;
use targets::Target;

/// Shows the last lines, and what follows if that is wanted.
pub(crate) fn run(args: &LogsArgs, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let mut targets = targets::find(global)?;
    select(&mut targets, &args.names)?;
    let targets = targets::one_per_file(targets);
    if targets.is_empty() {
        screen.note("No service has a log.\n");
        return Ok(Exit::Done);
    }
    let names: Vec<&str> = targets.iter().map(Target::name).collect();
    let mut printer = Printer::new(screen, &names, args.raw);
    let mut followers = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        let mut follower = Follower::new(target.path.clone());
        let shown = tail::show(&mut follower, args.lines, &mut |bytes| printer.print(number, bytes));
        match shown {
            Ok(true) => {}
            Ok(false) => return Ok(Exit::Done),
            Err(error) => complain(screen, target, &error),
        }
        if !args.follow && !printer.end(number) {
            return Ok(Exit::Done);
        }
        followers.push(follower);
    }
    if args.follow {
        follow::until_interrupted(&mut followers, screen, &mut |number, bytes| printer.print(number, bytes))?;
    }
    Ok(Exit::Done)
}

/// One file that cannot be read does not hide the others.
fn complain(screen: &Screen, target: &Target, error: &std::io::Error) {
    // A service that was never started has no file, which is no news.
    if error.kind() != std::io::ErrorKind::NotFound {
        let text = format!("{}: cannot read {}: {error}", target.name(), target.path.display());
        screen.note(&format!("{}\n", harmless(&text)));
    }
}
