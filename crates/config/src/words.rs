//! A command string into words, by the quoting rules of the shell (POSIX.1-2024, XCU 2.2).
//!
//! Only for strings without any character the shell gives a meaning to: `needs_shell` decides. A `#` is such a
//! character, so unlike in other splitters a comment cannot silently cut a command short here.

/// Whether the shell would do more with this than split it.
pub(crate) fn needs_shell(command: &str) -> bool {
    command.contains(|c| "|&;<>()$`*?[]#~=%{}!\n".contains(c))
}

/// Whether a shell that is handed this would start one program and wait for it. Then that program may as well take its place,
/// and be the one that is signalled, heard and waited for. In doubt it is not.
pub(crate) fn is_one_program(command: &str) -> bool {
    let first = command.split_whitespace().next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./+-@:".contains(c);
    !first.is_empty()
        && first.chars().all(plain)
        && (first.contains('/') && first != "." || !SHELLS_OWN.contains(&first))
        && !without_redirections(command).contains(|c| "|&;()`\n".contains(c))
}

/// First words that a shell takes for its own: of POSIX (XCU 1.6, 2.4, 2.15) and of those that stand in for `sh`.
const SHELLS_OWN: [&str; 73] = [
    ".", ":", "[", "alias", "bg", "bind", "break", "builtin", "caller", "case", "cd", "command", "compgen",
    "continue", "declare", "dirs", "disown", "do", "done", "echo", "elif", "else", "enable", "esac", "eval",
    "exec", "exit", "export", "false", "fc", "fg", "fi", "for", "function", "getopts", "hash", "help",
    "history", "if", "jobs", "kill", "let", "local", "logout", "mapfile", "popd", "printf", "pushd", "pwd",
    "read", "readonly", "return", "select", "set", "shift", "shopt", "source", "suspend", "test", "then",
    "time", "times", "trap", "true", "type", "typeset", "ulimit", "umask", "unalias", "unset", "until",
    "wait", "while",
];

/// `2>&1` starts nothing in the background.
fn without_redirections(command: &str) -> String {
    command.replace(">&", ">").replace("<&", "<")
}

/// The words of a command.
///
/// # Errors
/// A quote that is not closed or a backslash at the end, with the byte where it stands.
pub(crate) fn split(command: &str) -> Result<Vec<String>, (usize, &'static str)> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = command.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some((_, '\'')) => break,
                        Some((_, c)) => word.push(c),
                        None => return Err((at, "this quote is not closed")),
                    }
                }
            }
            '"' => {
                double(&mut chars, word.get_or_insert_default()).ok_or((at, "this quote is not closed"))?
            }
            '\\' => match chars.next() {
                Some((_, c)) => word.get_or_insert_default().push(c),
                None => return Err((at, "nothing follows this backslash")),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Inside double quotes a backslash protects only what is special there.
fn double(chars: &mut std::str::CharIndices<'_>, word: &mut String) -> Option<()> {
    loop {
        match chars.next()?.1 {
            '"' => return Some(()),
            '\\' => match chars.next()?.1 {
                c @ ('"' | '\\' | '$' | '`') => word.push(c),
                '\n' => {}
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_follow_the_shells_quoting_rules() {
        let cases: &[(&str, &[&str])] = &[
            ("a b  c", &["a", "b", "c"]),
            ("a 'b c' \"d e\"", &["a", "b c", "d e"]),
            (r#"a\ b "c\"d" 'e\f'"#, &["a b", "c\"d", r"e\f"]),
            ("a '' \"\"", &["a", "", ""]),
            (r#""\n""#, &[r"\n"]),
            ("#a b", &["#a", "b"]),
            ("", &[]),
        ];
        for (command, expected) in cases {
            assert_eq!(split(command).unwrap(), *expected, "{command}");
        }
    }

    #[test]
    fn an_open_quote_is_an_error_at_its_place() {
        assert_eq!(split("ab 'c").unwrap_err().0, 3);
        assert_eq!(split("ab \"c\\").unwrap_err().0, 3);
        assert_eq!(split("ab\\").unwrap_err().0, 2);
    }

    #[test]
    fn one_program_takes_the_place_of_the_shell_and_what_is_more_does_not() {
        for one in
            ["a $B", "/x/y --a=b", "./z > log 2>&1", "a *.txt", "printenv HOME # said", "/bin/test -e ${X}"]
        {
            assert!(is_one_program(one), "{one}");
        }
        for more in [
            "",
            "a; b",
            "a && b",
            "a | b",
            "a &",
            "(a)",
            "a $(b)",
            "a `b`",
            "a\nb",
            "X=1 a",
            "! a",
            "{ a }",
            "exit $X",
            "while $X",
            ". ./x $Y",
            "$A b",
            "\"a b\" $C",
            "exec a $B",
            "cd /x=y",
            "a 2>&1 & b",
        ] {
            assert!(!is_one_program(more), "{more}");
        }
    }

    #[test]
    fn only_what_the_shell_gives_a_meaning_to_goes_to_the_shell() {
        assert!(!needs_shell("python /path/to/my_service_1.py --config /etc/my_service_1.conf"));
        for c in "|&;<>()$`*?[]#~=%{}!\n".chars() {
            assert!(needs_shell(&format!("a{c}b")), "{c:?}");
        }
    }
}
