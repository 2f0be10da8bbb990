//! Files of `KEY=VALUE` lines.
//!
//! The dialect is what docker compose and systemd agree on: `export` in front is ignored; `#` begins a comment
//! at the start of a line or after a blank; single quotes take everything as it is; double quotes know `\n`,
//! `\r`, `\t`, `\"`, `\\`, `\$` and may span lines. Nothing is expanded: values are passwords more often than
//! not, and a `$` in one must survive.

use std::collections::BTreeMap;

/// A line that is not understood: where it is (in bytes) and why.
pub(crate) type Problem = (usize, &'static str);

/// Values of a file, the last of a name winning, and the lines that are not understood.
pub(crate) fn parse(text: &str) -> (BTreeMap<String, String>, Vec<Problem>) {
    let mut values = BTreeMap::new();
    let mut problems = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let line_end = text[at..].find('\n').map_or(text.len(), |length| at + length);
        let line = text[at..line_end].trim();
        let start = at + (text[at..line_end].len() - text[at..line_end].trim_start().len());
        if line.is_empty() || line.starts_with('#') {
            at = line_end + 1;
            continue;
        }
        match entry(text, start, line_end) {
            Ok((name, value, next)) => {
                values.insert(name, value);
                at = next;
            }
            Err(problem) => {
                problems.push(problem);
                at = line_end + 1;
            }
        }
    }
    (values, problems)
}

/// One entry that begins at `start`; gives the byte after its last line too.
fn entry(text: &str, start: usize, line_end: usize) -> Result<(String, String, usize), Problem> {
    let line = &text[start..line_end];
    let name_start = match line.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => start + line.len() - rest.trim_start().len(),
        Some(_) | None => start,
    };
    let equals = text[name_start..line_end].find('=').ok_or((start, "expected `KEY=VALUE`"))? + name_start;
    let name = text[name_start..equals].trim_end();
    name_problem(name).map_or(Ok(()), |problem| Err((name_start, problem)))?;
    let rest = &text[equals + 1..line_end];
    let value_start = equals + 1 + (rest.len() - rest.trim_start_matches([' ', '\t']).len());
    let (value, end) = match text[value_start..].chars().next() {
        Some('\'') => single(text, value_start)?,
        Some('"') => double(text, value_start)?,
        Some(_) | None => {
            return Ok((name.to_owned(), plain(&text[value_start..line_end]).to_owned(), line_end + 1));
        }
    };
    let after_end = text[end..].find('\n').map_or(text.len(), |length| end + length);
    let after = text[end..after_end].trim();
    if !(after.is_empty() || after.starts_with('#')) {
        return Err((end, "nothing but a comment may follow the closing quote"));
    }
    Ok((name.to_owned(), value, after_end + 1))
}

/// What is wrong with the name of a variable, if anything.
pub(crate) fn name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("the name of a variable must not be empty");
    }
    let bad = name.contains(|c: char| c == '=' || c.is_whitespace() || c.is_control());
    bad.then_some("the name of a variable has no blanks, `=` or control characters")
}

/// An unquoted value: up to a `#` after a blank.
fn plain(value: &str) -> &str {
    let comment = value
        .char_indices()
        .zip(value.char_indices().skip(1))
        .find_map(|((_, before), (at, c))| (c == '#' && before.is_whitespace()).then_some(at));
    if value.starts_with('#') { "" } else { value[..comment.unwrap_or(value.len())].trim_end() }
}

fn single(text: &str, start: usize) -> Result<(String, usize), Problem> {
    let length = text[start + 1..].find('\'').ok_or((start, "this quote is not closed"))?;
    Ok((text[start + 1..start + 1 + length].to_owned(), start + 2 + length))
}

fn double(text: &str, start: usize) -> Result<(String, usize), Problem> {
    let mut value = String::new();
    let mut chars = text[start + 1..].char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, start + 1 + at + 1)),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, 't')) => value.push('\t'),
                Some((_, c @ ('"' | '\\' | '$' | '`'))) => value.push(c),
                Some((_, '\n')) => {}
                Some((_, c)) => value.extend(['\\', c]),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err((start, "this quote is not closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_a_line_is_read() {
        let cases = [
            ("A=1", "1"),
            ("export A=1", "1"),
            ("  A = 1  ", "1"),
            ("A=", ""),
            ("A=a b # c", "a b"),
            ("A=a#b", "a#b"),
            ("A=#b", ""),
            ("A='a # $b'", "a # $b"),
            ("A=\"a\\nb\" # c", "a\nb"),
            ("A=\"a\nb\"", "a\nb"),
            ("A=p$w${x}", "p$w${x}"),
            ("# c\n\nA=1\r\n", "1"),
            ("A=1\nA=2", "2"),
            ("A=k=v", "k=v"),
        ];
        for (text, expected) in cases {
            let (values, problems) = parse(text);
            assert_eq!(
                (values.get("A").map(String::as_str), problems.len()),
                (Some(expected), 0),
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_is_not_understood_has_a_place_and_the_rest_is_read() {
        let (values, problems) = parse("oops\nA=1\nB='x\n=2\nC=\"x\" y\n");
        assert_eq!(values.keys().collect::<Vec<_>>(), ["A"]);
        assert_eq!(problems.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 11, 14, 22]);
    }
}
