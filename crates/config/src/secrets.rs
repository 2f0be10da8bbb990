//! Which stretches of a config nobody but its owner should see, so that no excerpt shows them.
//!
//! With a tree it is known: all values below `environment`, and those of a few other keys. Where the text could not be
//! parsed it is told by sight, and in doubt it is hidden: only what follows a key that relume knows is shown.

use std::collections::BTreeSet;

use crate::node::{Node, Value};

/// What stands in the place of a value. Says nothing of its length.
pub(crate) const MASK: &str = "***";

/// A stretch of a text, in bytes.
pub(crate) type Stretch = (usize, usize);

/// The stretches of the values that are hidden, in the order of the text.
pub(crate) fn of_tree(root: &Node) -> Vec<Stretch> {
    let mut found = Vec::new();
    collect(root, false, &mut found);
    found.sort_unstable();
    found
}

fn collect(node: &Node, hidden: bool, found: &mut Vec<Stretch>) {
    match &node.value {
        Value::List(nodes) => nodes.iter().for_each(|node| collect(node, hidden, found)),
        Value::Map(pairs) => {
            pairs.iter().for_each(|pair| collect(&pair.node, hidden || is_secret(&pair.key), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Loose(_) if hidden => {
            found.push((node.span.start as usize, node.span.end as usize));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Loose(_) => {}
    }
}

/// Whether what stands under this key is not to be shown: variables, what is sent to others, and whatever
/// calls itself a password. A path to a file with one is no secret.
fn is_secret(key: &str) -> bool {
    const WHOLE: [&str; 6] = ["environment", "env", "headers", "httpheaders", "webhook", "token"];
    const PART: [&str; 7] = ["password", "passwd", "passphrase", "secret", "credential", "api_key", "apikey"];
    let key = key.to_ascii_lowercase();
    let last = key.rsplit('.').next().unwrap_or(&key);
    // INI: `environment.KEY`.
    key.split('.').any(|part| WHOLE.contains(&part))
        || (PART.iter().any(|part| last.contains(part)) && !last.ends_with("file"))
}

/// The same for a text of which there is no tree, up to byte `end`: hidden is all that follows a key which is
/// secret or not known, until the next one that is known.
pub(crate) fn by_sight(text: &str, end: usize) -> Vec<Stretch> {
    let known = known_keys();
    let mut found = Vec::new();
    let mut hidden_from = None;
    for key in keys(&text[..end]) {
        let shown = known.contains(key.word.to_ascii_lowercase().as_str())
            || known.contains(key.word.rsplit('.').next().unwrap_or_default());
        let shown = shown && !is_secret(key.word);
        if let (Some(from), true) = (hidden_from, shown) {
            found.extend(trimmed(text, from, key.start));
            hidden_from = None;
        }
        if !shown {
            hidden_from.get_or_insert(key.end);
        }
    }
    if let Some(from) = hidden_from {
        found.extend(trimmed(text, from, end));
    }
    found
}

/// A word with `:` or `=` behind it.
struct Key<'a> {
    word: &'a str,
    start: usize,
    /// Behind the sign.
    end: usize,
}

fn keys(text: &str) -> impl Iterator<Item = Key<'_>> {
    let bytes = text.as_bytes();
    let signs = bytes.iter().enumerate().filter(|(_, byte)| matches!(byte, b':' | b'='));
    signs.filter_map(move |(sign, byte)| {
        let before = text[..sign].trim_end_matches([' ', '\t']);
        let quoted = before.ends_with(['"', '\'']);
        let next = bytes.get(sign + 1).copied().unwrap_or(b'\n');
        // A colon inside a word, as in an address, is none of a map.
        if *byte == b':' && !quoted && !next.is_ascii_whitespace() {
            return None;
        }
        let before = before.trim_end_matches(['"', '\'']);
        let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
        let start = before.char_indices().rev().take_while(|(_, c)| part(*c)).last()?.0;
        // An option of a command: `--port=80`.
        let option = *byte == b'=' && before[start..].starts_with('-');
        (!option).then_some(Key { word: &before[start..], start, end: sign + 1 })
    })
}

/// Without the signs and blanks at both ends; none if nothing else is in it.
fn trimmed(text: &str, from: usize, to: usize) -> Option<Stretch> {
    let blank = |c: char| c.is_whitespace() || matches!(c, '{' | '}' | '[' | ']' | ',' | '"' | '\'' | '-');
    let whole = text.get(from..to)?;
    let start = whole.trim_start_matches(blank);
    let inner = start.trim_end_matches(blank);
    let from = from + (whole.len() - start.len());
    (!inner.is_empty()).then_some((from, from + inner.len()))
}

/// Every key of the schema. Made where a text cannot be parsed, and nowhere else.
fn known_keys() -> BTreeSet<String> {
    fn below(value: &serde_json::Value, known: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(map) => {
                if let Some(serde_json::Value::Object(properties)) = map.get("properties") {
                    known.extend(properties.keys().map(|key| key.to_ascii_lowercase()));
                }
                map.values().for_each(|value| below(value, known));
            }
            serde_json::Value::Array(list) => list.iter().for_each(|value| below(value, known)),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::String(_) => {}
        }
    }
    let mut known = BTreeSet::new();
    below(&crate::schema(), &mut known);
    known.extend(crate::raw::ALIASES.iter().map(|(_, other, _)| other.to_ascii_lowercase()));
    known.extend(crate::gather::TOP_LEVEL.map(str::to_owned));
    known
}

/// `text` with a mask in the place of each hidden stretch that it touches; `from` is where it begins in the
/// whole. `marks` are places in `text`, and are moved to where they are afterwards.
pub(crate) fn masked(text: &str, from: usize, hidden: &[Stretch], marks: &mut [usize]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let mut moved: Vec<Option<usize>> = vec![None; marks.len()];
    for (start, end) in hidden {
        let start = start.saturating_sub(from).clamp(at, text.len());
        let end = end.saturating_sub(from).min(text.len());
        if end <= start || !text.is_char_boundary(start) || !text.is_char_boundary(end) {
            continue;
        }
        for (mark, moved) in marks.iter().zip(&mut moved).filter(|(mark, _)| (at..end).contains(*mark)) {
            let shown = mark.saturating_sub(at).min(start - at);
            let inside = if *mark > start { MASK.len() } else { 0 };
            *moved = Some(out.len() + shown + inside);
        }
        out.push_str(&text[at..start]);
        out.push_str(MASK);
        at = end;
    }
    for (mark, moved) in marks.iter_mut().zip(moved) {
        *mark = moved.unwrap_or(out.len() + mark.saturating_sub(at));
    }
    out.push_str(&text[at..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(text: &str) -> String {
        masked(text, 0, &by_sight(text, text.len()), &mut [])
    }

    #[test]
    fn by_sight_only_what_follows_a_known_key_is_shown() {
        assert_eq!(
            sight(
                "services:\n  web:\n    command: curl http://x --a=b\n    environment:\n      A: hunter2\n      b: 'x y'\n    port: 1"
            ),
            "services:\n  web:\n    command: curl http://x --a=b\n    environment:\n      ***'\n    port: 1"
        );
        assert_eq!(
            sight(r#"{"name": "a", "environment": {"PW": "x", "command": "y"}, "db_password": "z"#),
            r#"{"name": "a", "environment": {"***", "command": "y"}, "db_password": "***"#
        );
        assert_eq!(
            sight("[service a]\nenvironment.PW = x;y\nport = 3"),
            "[service a]\nenvironment.PW = ***\nport = 3"
        );
        assert_eq!(sight("A=hunter2"), "A=***");
    }

    #[test]
    fn marks_stay_where_they_point_to() {
        let mut marks = [0, 5, 8, 12];
        assert_eq!(masked("abc: secret, d", 100, &[(105, 111)], &mut marks), "abc: ***, d");
        assert_eq!(marks, [0, 5, 8, 9]);
        let mut marks = [2];
        assert_eq!(masked("éabc", 0, &[(0, 2), (3, 4)], &mut marks), "***a***c");
        assert_eq!(marks, [3]);
    }
}
