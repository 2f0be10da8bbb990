//! `relume man`: the manual pages, made from the same words as the help.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::args::{Cli, ManArgs};
use crate::cli::render::text::nearest;
use crate::cli::{Exit, Failure, Screen};

/// Prints one page, or writes all into a folder.
pub(crate) fn run(args: &ManArgs, screen: &Screen) -> Result<Exit, Failure> {
    // Built, so that every command knows its full name and the options it shares.
    let mut all = Cli::command();
    all.build();
    if let Some(dir) = &args.dir {
        return write_all(&all, dir, screen);
    }
    let page = match &args.verb {
        None => all,
        Some(verb) => named(&all, verb)?,
    };
    let text =
        render(page).map_err(|error| Failure::new(Exit::NotWell, format!("no manual page: {error}")))?;
    screen.result_bytes(&text);
    Ok(Exit::Done)
}

fn named(all: &Command, verb: &str) -> Result<Command, Failure> {
    all.find_subcommand(verb).cloned().ok_or_else(|| {
        let failure = Failure::new(Exit::Usage, format!("there is no command `{verb}`"));
        match nearest(verb, all.get_subcommands().map(Command::get_name)) {
            Some(meant) => failure.help(format!("Did you mean {meant}?")),
            None => failure.help("See them with: relume --help"),
        }
    })
}

/// `relume-wait`, as the pages of commands of commands are called.
fn name_of(page: &Command) -> &str {
    page.get_display_name().unwrap_or(page.get_name())
}

fn write_all(all: &Command, dir: &Path, screen: &Screen) -> Result<Exit, Failure> {
    let pages = all.get_subcommands().cloned().chain([all.clone()]);
    let mut written = 0;
    std::fs::create_dir_all(dir).map_err(|error| failed(dir, &error))?;
    for page in pages {
        let path = dir.join(format!("{}.1", name_of(&page)));
        let text = render(page).map_err(|error| failed(&path, &error))?;
        std::fs::write(&path, text).map_err(|error| failed(&path, &error))?;
        written += 1;
    }
    screen.note(&format!("wrote {written} pages into {}\n", dir.display()));
    Ok(Exit::Done)
}

fn render(page: Command) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let title = name_of(&page).to_owned();
    Man::new(page).title(title).render(&mut text)?;
    Ok(text)
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::NotWell, format!("cannot write {}: {error}", path.display()))
}
