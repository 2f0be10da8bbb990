//! Commands: replaced, then split or handed to the shell.

use crate::env_files::EnvFiles;
use crate::expand::{Problem, Vars, expand};
use crate::node::{Node, shortened};
use crate::raw::CommandText;
use crate::source::{Finding, Span};
use crate::words;

/// What a command is lowered with.
pub(super) struct Context<'a> {
    /// The service's own variables first.
    pub(super) vars: Vars<'a>,
    /// `shell`: the words before `-c`; None: no shell at all.
    pub(super) shell: Option<Vec<String>>,
}

/// Program and arguments, and whether the program is a shell. None: it is wrong, and the sink knows why.
pub(super) fn lower(
    command: &CommandText,
    node: &Node,
    key: &str,
    context: &Context<'_>,
    files: &mut EnvFiles<'_>,
) -> Option<(Vec<String>, bool)> {
    if let (CommandText::Text(text), Some(shell)) = (command, &context.shell) {
        let text = replaced(text, node.span, key, context, files);
        if words::needs_shell(&text) && !text.trim().is_empty() {
            let mut argv = shell.clone();
            let text =
                if is_sh(&argv) && words::is_one_program(&text) { format!("exec {text}") } else { text };
            argv.extend(["-c".to_owned(), text]);
            return checked(argv, node.span, key, files).map(|argv| (argv, true));
        }
    }
    let argv = lower_words(command, node, key, context, files)?;
    checked(argv, node.span, key, files).map(|argv| (argv, false))
}

/// Whether this is the shell that is taken unless another one is asked for: what another one does with `exec` is its affair.
fn is_sh(shell: &[String]) -> bool {
    matches!(shell, [one] if one == "/bin/sh")
}

/// A list as it is, or a string split.
fn lower_words(
    command: &CommandText,
    node: &Node,
    key: &str,
    context: &Context<'_>,
    files: &mut EnvFiles<'_>,
) -> Option<Vec<String>> {
    let text = match command {
        CommandText::List(list) => {
            let span = |at: usize| node.elements().get(at).unwrap_or(node).span;
            let words = list.iter().enumerate();
            return Some(words.map(|(at, word)| replaced(word, span(at), key, context, files)).collect());
        }
        CommandText::Text(text) => replaced(text, node.span, key, context, files),
    };
    match words::split(&text) {
        Ok(argv) => Some(argv),
        Err((at, problem)) => {
            let message = format!("{problem}: `{}`", shortened(text.get(at..).unwrap_or_default()));
            files.sink.add(Finding::error(node.span, message).key(key));
            None
        }
    }
}

/// Arguments alone: a list, or a string that is split. They may be none.
pub(super) fn arguments(
    arguments: &CommandText,
    node: &Node,
    key: &str,
    context: &Context<'_>,
    files: &mut EnvFiles<'_>,
) -> Option<Vec<String>> {
    let empty = match arguments {
        CommandText::List(list) => list.is_empty(),
        CommandText::Text(text) => text.trim().is_empty(),
    };
    if empty {
        return Some(Vec::new());
    }
    let program = vec![String::from("-")];
    match lower_words(arguments, node, key, context, files) {
        Some(words) => {
            checked([program, words].concat(), node.span, key, files).map(|argv| argv[1..].to_vec())
        }
        None => None,
    }
}

/// Replaces what relume knows; the rest is the shell's, with a warning if it looks like ours.
fn replaced(text: &str, span: Span, key: &str, context: &Context<'_>, files: &mut EnvFiles<'_>) -> String {
    let (value, problems) = expand(text, &context.vars);
    for problem in problems {
        if let Problem::Undefined(_, shown) = problem {
            let message = format!("`{shown}` is not defined here and is left for the shell as it is");
            let found = Finding::warning(span, message).key(key);
            files.sink.add(
                found.help(format!("write `${shown}` if that is meant, or give a default `${{VAR:-…}}`")),
            );
        }
    }
    value
}

fn checked(argv: Vec<String>, span: Span, key: &str, files: &mut EnvFiles<'_>) -> Option<Vec<String>> {
    let problem = match argv.first() {
        None => Some("the command is empty"),
        Some(program) if program.trim().is_empty() => Some("the name of the program is empty"),
        Some(_) if argv.iter().any(|word| word.contains('\0')) => Some("a command cannot contain a NUL byte"),
        Some(_) => None,
    };
    match problem {
        Some(problem) => {
            files.sink.add(Finding::error(span, problem).key(key));
            None
        }
        None => Some(argv),
    }
}
