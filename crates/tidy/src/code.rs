//! Rust source seen as code alone: a small reader that knows what is comment and what is literal.
//!
//! A parser would know more than the rules ask and would make the check one of the slowest things to build.

/// The source with comments and the insides of literals blanked, every line where it was.
#[must_use]
pub fn code_only(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let code_before = out.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
        match skipped(rest, code_before) {
            Some(length) => {
                let (gone, after) = rest.split_at(length);
                out.extend(gone.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                rest = after;
            }
            None => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

/// Length of the comment or literal that begins here.
fn skipped(rest: &str, in_word: bool) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    if rest.starts_with('"') {
        return Some(quoted(rest, '"'));
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    // `r` and `br` begin a raw string only where no word is under way: `for"` is no Rust, `bar"` neither.
    if in_word { None } else { raw_string(rest) }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + 1;
        }
    }
    rest.len()
}

/// A character literal; a lifetime (`'a`) is none.
fn character(rest: &str) -> Option<usize> {
    let mut chars = rest.chars().skip(1);
    let (first, second) = (chars.next()?, chars.next());
    (first == '\\' || second == Some('\'')).then(|| quoted(rest, '\''))
}

fn raw_string(rest: &str) -> Option<usize> {
    let hashed = ["br", "cr", "r"].iter().find_map(|start| rest.strip_prefix(start))?;
    let hashes = hashed.len() - hashed.trim_start_matches('#').len();
    let inside = hashed[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let before = rest.len() - inside.len();
    Some(inside.find(&end).map_or(rest.len(), |at| before + at + end.len()))
}

/// The lines (from 1) in which the word stands by itself.
pub(crate) fn lines_with_word<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    let stands = move |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + word.len()..].chars().next();
            !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
        })
    };
    text.lines().enumerate().filter(move |(_, line)| stands(line)).map(|(at, _)| at + 1)
}

/// Whether a source file holds nothing but tests.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

/// The source without the tests at its end.
pub(crate) fn without_tests(source: &str) -> &str {
    source.find("\n#[cfg(test)]\nmod ").map_or(source, |at| &source[..=at])
}

/// Each test: its line, its name, and its doc comment.
#[must_use]
pub fn test_names(source: &str) -> Vec<(usize, String, String)> {
    let code = code_only(source);
    let lines: Vec<&str> = code.lines().collect();
    let originals: Vec<&str> = source.lines().collect();
    let is_test = |line: &str| matches!(line.trim(), "#[test]" | "#[tokio::test]");
    let tests = lines.iter().enumerate().filter(|(_, line)| is_test(line));
    tests
        .filter_map(|(at, _)| {
            let (on, name) = lines.iter().enumerate().skip(at + 1).find_map(|(on, line)| {
                let name = line.trim().trim_start_matches("async ").strip_prefix("fn ")?;
                Some((on, name.split(['(', '<']).next()?.to_owned()))
            })?;
            Some((on + 1, name, docs_around(&originals, at, on)))
        })
        .collect()
}

/// The doc comment of what stands between two lines and right above them.
fn docs_around(lines: &[&str], from: usize, to: usize) -> String {
    let doc = |line: &&str| line.trim().strip_prefix("///").map(|text| text.trim().to_owned());
    let above: Vec<String> = lines[..from].iter().rev().map_while(doc).collect();
    let between = lines[from..to].iter().filter_map(doc);
    above.into_iter().rev().chain(between).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, code: &str) {
        assert_eq!(code_only(source).split_whitespace().collect::<Vec<_>>().join(" "), code);
    }

    #[test]
    fn comments_are_blanked() {
        check("a // b\nc", "a c");
        check("a /* b /* c */ d */ e", "a e");
        check("a /* never ends", "a");
    }

    #[test]
    fn literals_are_blanked() {
        check(r#"a("b \" c")"#, "a( )");
        check("a(r#\"b \" // c\"#) d", "a( ) d");
        check("a('\\'', 'b', '\"') c", "a( , , ) c");
        check("fn a<'b>(c: &'b str)", "fn a<'b>(c: &'b str)");
    }

    #[test]
    fn every_line_stays_where_it_was() {
        let source = "a\n/* b\n c */ d\n\"e\nf\" g\n";
        assert_eq!(code_only(source).lines().count(), source.lines().count());
        assert_eq!(code_only(source).lines().nth(4).unwrap().trim(), "g");
    }

    #[test]
    fn a_word_stands_by_itself() {
        let lines = |text| lines_with_word(text, "unsafe").collect::<Vec<_>>();
        assert_eq!(lines("a\nunsafe { }\nunsafe_code\n(unsafe)"), [2, 4]);
    }

    #[test]
    fn a_test_is_found_with_its_doc_comment() {
        let source = "/// One plain sentence.\n#[test]\n#[ignore = \"x\"]\nfn a() {}\n#[test]\nfn b_c() {}\n";
        let all = [(4, "a".into(), "One plain sentence.".into()), (6, "b_c".into(), String::new())];
        assert_eq!(test_names(source), all);
    }
}
