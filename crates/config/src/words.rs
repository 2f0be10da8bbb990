//! A command string into words, by the quoting rules of the shell (POSIX.1-2024, XCU 2.2).
//!
//! Only for strings without any character the shell gives a meaning to: `needs_shell` decides. A `#` is such a
//! character, so unlike in other splitters a comment cannot silently cut a command short here.

/// Whether the shell would do more with this than split it.
pub(crate) fn needs_shell(command: &str) -> bool {
    command.contains(|c| "|&;<>()$`*?[]#~=%{}!\n".contains(c))
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
    fn only_what_the_shell_gives_a_meaning_to_goes_to_the_shell() {
        assert!(!needs_shell("python /path/to/my_service_1.py --config /etc/my_service_1.conf"));
        for c in "|&;<>()$`*?[]#~=%{}!\n".chars() {
            assert!(needs_shell(&format!("a{c}b")), "{c:?}");
        }
    }
}
