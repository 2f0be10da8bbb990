//! Log bytes on their way to the reader: prefixed when they are of several services, harmless on a terminal.

use anstyle::{AnsiColor, Style};

use crate::cli::Screen;
use crate::cli::render::text::{columns, harmless, padded, push_harmless};

/// A line is held back until its end is there, so that lines of two services do not mix; one that is longer
/// is shown in pieces. In bytes.
const LONGEST_HELD: usize = 64 << 10;

/// Colours of names, in turn; red is left to errors.
const COLOURS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Green,
    AnsiColor::Yellow,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::BrightCyan,
];

/// Shows bytes of several logs.
pub(super) struct Printer<'a> {
    screen: &'a Screen,
    lines: Vec<Lines>,
}

impl<'a> Printer<'a> {
    /// For these services. `raw`: a terminal gets the bytes as they are, too.
    pub(super) fn new(screen: &'a Screen, names: &[&str], raw: bool) -> Self {
        let look = screen.out;
        let clean = look.width.is_some() && !raw;
        let width = names.iter().map(|name| columns(&harmless(name))).max().unwrap_or(0);
        let prefix = |number: usize, name: &str| {
            let colour = Style::new().fg_color(Some(COLOURS[number % COLOURS.len()].into()));
            look.paint(colour, &format!("{} | ", padded(&harmless(name), width)))
        };
        let several = names.len() > 1;
        let lines = names
            .iter()
            .enumerate()
            .map(|(number, name)| Lines {
                prefix: if several { prefix(number, name) } else { String::new() },
                clean,
                held: Vec::new(),
                inside: false,
            })
            .collect();
        Self { screen, lines }
    }

    /// Shows what was read of one log. False: nobody reads any more.
    pub(super) fn print(&mut self, number: usize, bytes: &[u8]) -> bool {
        let out = self.lines[number].push(bytes);
        out.is_empty() || self.screen.result_bytes(&out)
    }

    /// Nothing more of this log will come: shows a last line without an end.
    pub(super) fn end(&mut self, number: usize) -> bool {
        let out = self.lines[number].finish();
        out.is_empty() || self.screen.result_bytes(&out)
    }
}

/// Cuts one log into lines.
struct Lines {
    prefix: String,
    /// Make it harmless.
    clean: bool,
    /// The beginning of a line whose end has not come yet.
    held: Vec<u8>,
    /// In the middle of a line that is shown in pieces.
    inside: bool,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        // Nothing to add and nothing to change: not even lines are needed.
        if self.prefix.is_empty() && !self.clean {
            return bytes.to_vec();
        }
        let mut out = Vec::with_capacity(bytes.len() + 256);
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.held.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.held.len() > LONGEST_HELD {
                self.take(&mut out);
            }
        }
        out
    }

    fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.held.is_empty() {
            self.take(&mut out);
            out.push(b'\n');
            self.inside = false;
        }
        out
    }

    fn take(&mut self, out: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.held);
        let whole = line.ends_with(b"\n");
        if !self.inside {
            out.extend_from_slice(self.prefix.as_bytes());
        }
        if self.clean {
            out.extend_from_slice(cleaned(line.strip_suffix(b"\n").unwrap_or(&line)).as_bytes());
            if whole {
                out.push(b'\n');
            }
        } else {
            out.extend_from_slice(&line);
        }
        self.inside = !whole;
    }
}

/// A line as a terminal may see it. Colours are taken away, every other control sequence is shown as an
/// escape; tabs stay, and so does a carriage return no more than it does harm at the end of a line.
fn cleaned(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = String::from_utf8_lossy(line);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    while let Some(character) = rest.chars().next() {
        if let Some(after) = after_colour(rest) {
            rest = after;
            continue;
        }
        if character == '\t' {
            out.push('\t');
        } else {
            push_harmless(&mut out, character);
        }
        rest = &rest[character.len_utf8()..];
    }
    out
}

/// What follows a colour sequence (ECMA-48 SGR: `ESC [ digits ; m`) at the beginning of the text.
fn after_colour(text: &str) -> Option<&str> {
    let body = text.strip_prefix("\u{1b}[")?;
    let end = body.find(|c: char| !(c.is_ascii_digit() || c == ';' || c == ':'))?;
    body[end..].strip_prefix('m')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::Look;

    fn terminal(colour: bool) -> Look {
        Look { colour, unicode: true, width: Some(80) }
    }

    fn lines(prefix: &str, clean: bool) -> Lines {
        Lines { prefix: prefix.into(), clean, held: Vec::new(), inside: false }
    }

    #[test]
    fn in_a_pipe_the_bytes_of_one_service_are_unchanged() {
        let bytes = b"\x1b[31mred\x00\xff\r\nhalf";
        assert_eq!(lines("", false).push(bytes), bytes);
    }

    #[test]
    fn lines_of_several_services_are_prefixed_and_never_mixed() {
        let mut web = lines("web | ", false);
        assert_eq!(web.push(b"one\ntw"), b"web | one\n");
        assert_eq!(web.push(b"o\n"), b"web | two\n");
        assert_eq!(web.push(b"end"), b"");
        assert_eq!(web.finish(), b"web | end\n");
    }

    #[test]
    fn a_line_too_long_to_hold_is_shown_in_pieces_with_one_prefix() {
        let mut web = lines("web | ", false);
        let mut out = web.push(&vec![b'x'; LONGEST_HELD + 1]);
        out.extend(web.push(b"y\nz\n"));
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, format!("web | {}y\nweb | z\n", "x".repeat(LONGEST_HELD + 1)));
    }

    #[test]
    fn a_terminal_gets_no_command_of_a_service() {
        for payload in [
            "\u{1b}[2J",
            "\u{1b}]0;title\u{7}",
            "\u{9b}2J",
            "\u{1b}c",
            "\u{1b}[31",
            "\u{1b}[31;\u{1b}[2J",
            "\u{202e}",
        ] {
            let shown = lines("", true).push(format!("{payload}x\n").as_bytes());
            let shown = String::from_utf8(shown).unwrap();
            assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{7}', '\u{202e}']), "{shown:?}");
        }
        assert_eq!(cleaned(b"\x1b[1;32mok\x1b[0m\tdone\r"), "ok\tdone");
        assert_eq!(cleaned(b"50%\r100%"), "50%\\r100%");
        assert_eq!(cleaned(b"a\xffb"), "a\u{fffd}b");
    }

    #[test]
    fn only_a_terminal_has_its_bytes_changed() {
        let screen = |out| Screen { out, err: Look::PLAIN, json: false };
        assert!(Printer::new(&screen(terminal(false)), &["a"], false).lines[0].clean);
        assert!(!Printer::new(&screen(terminal(false)), &["a"], true).lines[0].clean);
        assert!(!Printer::new(&screen(Look::PLAIN), &["a"], false).lines[0].clean);
    }

    #[test]
    fn names_are_aligned_and_coloured() {
        let screen = Screen { out: terminal(true), err: Look::PLAIN, json: false };
        let printer = Printer::new(&screen, &["a", "long"], false);
        assert_eq!(printer.lines[0].prefix, "\u{1b}[36ma    | \u{1b}[0m");
        assert_eq!(printer.lines[1].prefix, "\u{1b}[32mlong | \u{1b}[0m");
    }
}
