//! Words by which a program is told to end with its parent (`PR_SET_PDEATHSIG`, prctl(2)). The parent is relume, and what the
//! kernel takes for its end is also that of the thread which has started the program: it comes with each respawn.

use std::path::Path;

use super::service::Work;

const HELP: &str = "leave it out: relume ends a service with all that it has started";

/// Warns of a service that would be started again every few minutes.
pub(super) fn look(work: &mut Work<'_, '_>, argv: &[String]) {
    if let Some((program, word)) = asking(argv) {
        let key = if work.raw.command.is_some() { "command" } else { "executable" };
        let message = format!("`{program} {word}` ends this service whenever relume replaces itself");
        work.warning(&[key], message, HELP);
    }
}

/// The word that says so, with its program.
fn asking(argv: &[String]) -> Option<(&str, &str)> {
    let (program, rest) = argv.split_first()?;
    let program = Path::new(program).file_name()?.to_str()?;
    let own: Vec<&str> = rest.iter().map(String::as_str).take_while(|word| *word != "--").collect();
    let at = match program {
        "bwrap" => own.iter().position(|word| *word == "--die-with-parent"),
        "setpriv" => own.iter().position(|word| is_signal_of_setpriv(word)),
        "tini" => {
            own.iter().position(|word| word.starts_with("-p")).filter(|at| is_among_options(&own[..*at]))
        }
        _ => None,
    }?;
    let value = own[at].split_once('=').map(|(_, value)| value).or(own.get(at + 1).copied());
    (!matches!(value, Some("keep" | "clear"))).then_some((program, own[at]))
}

fn is_signal_of_setpriv(word: &str) -> bool {
    word == "--pdeathsig" || word.starts_with("--pdeathsig=")
}

/// Whether what stands before a word of tini leaves it one of tini's own: options, and the exit code that `-e` takes.
fn is_among_options(before: &[&str]) -> bool {
    let is_code = |at: usize| at.checked_sub(1).is_some_and(|before_it| before[before_it] == "-e");
    before.iter().enumerate().all(|(at, word)| word.starts_with('-') || is_code(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(command: &str) -> Option<String> {
        let argv: Vec<String> = command.split(' ').map(str::to_owned).collect();
        asking(&argv).map(|(program, word)| format!("{program} {word}"))
    }

    #[test]
    fn programs_that_are_told_to_end_with_their_parent_are_known() {
        for (command, word) in [
            ("setpriv --reuid 1000 --pdeathsig TERM sleep 9", "setpriv --pdeathsig"),
            ("/usr/bin/setpriv --pdeathsig=KILL -- sleep 9", "setpriv --pdeathsig=KILL"),
            ("bwrap --ro-bind / / --die-with-parent sleep 9", "bwrap --die-with-parent"),
            ("tini -g -e 143 -p SIGTERM -- sleep 9", "tini -p"),
        ] {
            assert_eq!(found(command).as_deref(), Some(word), "{command}");
        }
    }

    #[test]
    fn others_are_left_alone() {
        for command in [
            "setpriv --pdeathsig clear sleep 9",
            "setpriv --pdeathsig=keep sleep 9",
            "setpriv --reuid 1000 -- other --pdeathsig TERM",
            "tini -- grep -p x",
            "tini grep -p x",
            "other --die-with-parent",
            "tini",
        ] {
            assert_eq!(found(command), None, "{command}");
        }
    }
}
