//! `relume logs`: the output of services, straight from their files.
//!
//! The files are the truth and the manager is only asked where they are, so this works while none runs. The
//! bytes a service wrote are shown as they are, except on a terminal, where what could command it is made
//! harmless. Lines of several services are merged in order of the time that the index beside each log knows; a
//! line of which no index knows comes right after the one before it in its log. Between the lines, marks say when
//! runs began and ended. Following loses no line over rotation, truncation and replacement ([`crate::log_files`]).

mod follow;
mod newcomers;
mod noted;
mod printer;
mod source;
mod start;
mod stream;
mod targets;
mod when;

use std::collections::BTreeSet;

use super::{Named, client, find_manager, select};
use crate::cli::args::{Global, LogsArgs};
use crate::cli::render::text::harmless;
use crate::cli::{Exit, Failure, Screen};
pub(crate) use noted::FILES as NOTED_FILES;
pub(crate) use stream::{Followed, Stream};
pub(crate) use when::parse as parse_time;

use newcomers::Newcomers;
use printer::{Printer, Shape};
use source::{Source, merge};
use targets::Target;

/// Shows the last lines, and what follows if that is wanted.
pub(crate) fn run(args: &LogsArgs, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let targets = wanted(args, global)?;
    if targets.is_empty() && !args.follow {
        screen.note("No service has a log.\n");
        return Ok(Exit::Done);
    }
    // Two descriptors a service: for ten thousand of them, more than a shell allows. Without them some are told
    // as not readable.
    let _fewer = relume_os::limits::raise_nofile();
    let mut targets = targets::with_stderr(targets, args.follow);
    let mut sources = Vec::with_capacity(targets.len());
    targets.retain(|target| match Source::begin(target, args) {
        Ok(source) => {
            sources.push(source);
            true
        }
        Err(error) => {
            complain(screen, target, &error);
            false
        }
    });
    for second in 1..sources.len() {
        if targets[second].is_stderr()
            && args.most() < u64::MAX
            && targets[second - 1].name() == targets[second].name()
        {
            let (first, rest) = sources.split_at_mut(second);
            if let (Some(output), Some(errors)) = (first.last_mut(), rest.first_mut())
                && let Err(error) = output.keep_last_of_both(errors, args.most())
            {
                complain(screen, &targets[second], &error);
            }
        }
    }
    let mut printer = Printer::new(screen, targets.iter().map(Target::name), &Shape::of(args, screen));
    let mut all: BTreeSet<usize> = (0..sources.len()).collect();
    let mut failed = |number: usize, error| complain(screen, &targets[number], &error);
    let mut emit = |number: usize, item| printer.print(number, &item);
    if !merge(&mut sources, &mut all, usize::MAX, &mut emit, &mut failed) {
        return Ok(Exit::Done);
    }
    if args.follow {
        printer.flush();
        let status = find_manager(global)?.state_dir.join(targets::STATUS);
        let newcomers = (!args.own).then(|| Newcomers::start(status, Some(args), &targets)).flatten();
        follow::until_interrupted(&mut sources, newcomers, screen, &mut printer)?;
        return Ok(Exit::Done);
    }
    for (number, source) in sources.iter_mut().enumerate() {
        if let Some(item) = source.take_partial() {
            printer.print(number, &item);
        }
    }
    printer.end();
    if printer.is_untouched() && !screen.json && screen.err.width.is_some() {
        screen.note(if args.is_filtered() {
            "No line matches.\n"
        } else {
            "Nothing has been written yet.\n"
        });
    }
    Ok(Exit::Done)
}

/// The logs that are meant. `relume` is relume's own log, unless a service is called so.
fn wanted(args: &LogsArgs, global: &Global) -> Result<Vec<Target>, Failure> {
    let is_own = |words: &[String]| words.iter().any(|word| word == targets::OWN);
    if args.own {
        return Ok(vec![targets::own(global)?]);
    }
    let found = targets::find(global);
    // No manager, no status file, and only relume's own log is wanted: that can be there all the same.
    if found.is_err() && args.names.len() == 1 && is_own(&args.names) {
        return Ok(vec![targets::own(global)?]);
    }
    let mut targets = found?;
    if is_own(&args.names) && !targets.iter().any(|target| target.name() == targets::OWN) {
        targets.push(targets::own(global)?);
    }
    select(&mut targets, &args.names)?;
    Ok(targets::one_per_file(targets))
}

/// One file that cannot be read does not hide the others.
fn complain(screen: &Screen, target: &Target, error: &std::io::Error) {
    // A service that was never started has no file, which is no news.
    if error.kind() != std::io::ErrorKind::NotFound {
        let text = format!("{}: cannot read {}: {error}", target.name(), target.path.display());
        screen.note(&format!("{}\n", harmless(&text)));
    }
}
