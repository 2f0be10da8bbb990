//! Small text: spans of time, names beside each other, and what a stranger wrote made harmless.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A text of unknown origin, safe on a terminal and in a line: control characters, line ends and what turns
/// the writing direction around are shown as escapes.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        push_harmless(&mut out, character);
    }
    Cow::Owned(out)
}

/// Appends one character of unknown origin.
pub(crate) fn push_harmless(out: &mut String, character: char) {
    if !is_harmful(character) {
        out.push(character);
        return;
    }
    // Writing to a string cannot fail.
    let _ = match character {
        '\n' => write!(out, "\\n"),
        '\r' => write!(out, "\\r"),
        '\t' => write!(out, "\\t"),
        _ if u32::from(character) < 0x100 => write!(out, "\\x{:02x}", u32::from(character)),
        _ => write!(out, "\\u{{{:x}}}", u32::from(character)),
    };
}

/// C0, DEL and C1 controls; line and paragraph separators; marks that reorder (Unicode UAX #9) or hide text.
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// Columns a text takes.
pub(crate) fn columns(text: &str) -> usize {
    text.width()
}

/// The text filled up with spaces to so many columns.
pub(crate) fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

/// The text with spaces before it up to so many columns.
pub(crate) fn right(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(columns(text))))
}

/// The text broken between words into lines of at most `width` columns; a word that is longer is cut.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && columns(&line) + 1 + columns(word) > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        for character in word.chars() {
            if columns(&line) + character.width().unwrap_or(0) > width {
                lines.push(std::mem::take(&mut line));
            }
            line.push(character);
        }
    }
    lines.push(line);
    lines
}

/// The text cut to so many columns, with a sign that it was.
pub(crate) fn cut(text: &str, width: usize, sign: &str) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(columns(sign));
    let mut out = String::new();
    for character in text.chars() {
        if columns(&out) + character.width().unwrap_or(0) > room {
            break;
        }
        out.push(character);
    }
    out + sign
}

/// A span of time in the two largest units that matter: `350 ms`, `4 s`, `2 min 5 s`, `3 h 12 min`, `9 d 4 h`.
pub(crate) fn span(span: Duration) -> String {
    let s = span.as_secs();
    let pair = |large: u64, unit: &str, small: u64, sub: &str| {
        if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {sub}") }
    };
    match s {
        0 => format!("{} ms", span.as_millis()),
        1..60 => format!("{s} s"),
        60..3600 => pair(s / 60, "min", s % 60, "s"),
        3600..86400 => pair(s / 3600, "h", s / 60 % 60, "min"),
        _ => pair(s / 86400, "d", s / 3600 % 24, "h"),
    }
}

/// Seconds of a report as a span of time; what is no span counts as none.
pub(crate) fn seconds(seconds: f64) -> String {
    let span_of = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
    // A report a moment old is no more exact than this.
    span(if span_of < Duration::from_secs(1) { Duration::from_secs(span_of.as_secs()) } else { span_of })
        .replace("0 ms", "0 s")
}

/// `1 service`, `2 services`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// The name that `wrong` was most likely meant to be: at most a third of it mistyped.
pub(crate) fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (wrong.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|name| (distance(wrong, name), name))
        .filter(|&(distance, _)| distance <= limit)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// How many characters are missing, too many, wrong, or swapped with their neighbour (Damerau's distance in
/// its restricted form).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // Names are short; what is not a name need not be compared.
    if a.len().max(b.len()) > 200 {
        return usize::MAX;
    }
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, _) | (_, 0) => i.max(j),
                _ => {
                    let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                    let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    if swapped { best.min(rows[i - 2][j - 2] + 1) } else { best }
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_stranger_wrote_reaches_the_terminal_as_a_command() {
        for payload in ["\u{1b}[2J", "\u{9b}31m", "a\nb", "a\rb", "\u{7}", "\u{202e}gnp", "\u{0}", "\u{2028}"]
        {
            let shown = harmless(payload);
            assert!(shown.chars().all(|c| !is_harmful(c)), "{shown:?}");
            assert!(shown.contains('\\'), "{shown:?} hides that something was there");
        }
        assert_eq!(harmless("naïve 日本"), "naïve 日本");
    }

    #[test]
    fn spans_use_two_units() {
        let shown: Vec<String> = [350, 4_000, 125_000, 3_600_000, 11_520_000, 792_000_000]
            .map(|ms| span(Duration::from_millis(ms)))
            .into();
        assert_eq!(shown, ["350 ms", "4 s", "2 min 5 s", "1 h", "3 h 12 min", "9 d 4 h"]);
        assert_eq!([0.4, 3.9, f64::NAN, -1.0].map(seconds), ["0 s", "3 s", "0 s", "0 s"]);
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(padded("日本", 6), "日本  ");
        assert_eq!(cut("日本語です", 5, "…"), "日本…");
        assert_eq!(wrapped("eins zwei drei", 9), ["eins zwei", "drei"]);
        assert_eq!(wrapped("abcdefgh", 3), ["abc", "def", "gh"]);
    }

    #[test]
    fn the_nearest_name_is_found_and_a_stranger_is_not() {
        assert_eq!(nearest("wrker", ["web", "worker", "db"]), Some("worker"));
        assert_eq!(nearest("wbe", ["web", "worker", "db"]), Some("web"));
        assert_eq!(nearest("elephant", ["web", "worker", "db"]), None);
    }
}
