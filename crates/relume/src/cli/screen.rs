//! The one writer: everything the command line shows goes out here.
//!
//! Results go to standard output, everything about them (errors, hints, progress) to standard error. A
//! reader that has seen enough (`relume logs | head`) is no error: the command ends quietly.

use std::io::{self, IsTerminal, Write};

use rustix::io::Errno;

use super::render::{BAD, DIM, Look};

/// Where a command shows what it has to show.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    /// How standard output may look.
    pub(crate) out: Look,
    /// How standard error may look.
    pub(crate) err: Look,
    /// Answers are wanted as JSON.
    pub(crate) json: bool,
}

impl Screen {
    /// Looks at the two streams and at `NO_COLOR` (<https://no-color.org>), `TERM` and the locale.
    pub(crate) fn new(json: bool, no_colour: bool) -> Self {
        let set = |key: &str| std::env::var_os(key).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let plain = no_colour || set("NO_COLOR") || dumb;
        let unicode = is_utf8_locale(|key| std::env::var(key).ok());
        let look = |terminal: bool, width: Option<usize>| Look {
            colour: terminal && !plain,
            unicode,
            width: width.filter(|_| terminal),
        };
        Self {
            out: look(io::stdout().is_terminal(), width_of(&io::stdout())),
            err: look(io::stderr().is_terminal(), width_of(&io::stderr())),
            json,
        }
    }

    /// Results. False: nobody reads any more, stop.
    pub(crate) fn result(&self, text: &str) -> bool {
        self.result_bytes(text.as_bytes())
    }

    /// Results that need not be text. False: nobody reads any more, stop.
    pub(crate) fn result_bytes(&self, bytes: &[u8]) -> bool {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).is_ok()
    }

    /// As much of a piece of results as one write(2) takes, past all buffers: how much. None: nobody reads any more.
    pub(crate) fn result_piece(&self, bytes: &[u8]) -> Option<usize> {
        match rustix::io::write(io::stdout(), bytes) {
            Ok(written) => Some(written),
            Err(Errno::INTR | Errno::AGAIN) => Some(0),
            // A standard output that is closed has nobody who could miss anything, as for the standard library.
            Err(Errno::BADF) => Some(bytes.len()),
            Err(_) => None,
        }
    }

    /// What is to be said beside results. If even this cannot be written, nobody is there to be told.
    pub(crate) fn note(&self, text: &str) {
        let mut err = io::stderr().lock();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }

    /// A failure, and what to do about it.
    pub(crate) fn error(&self, message: &str, help: Option<&str>) {
        let mut text = format!("{} {message}\n", self.err.paint(BAD.bold(), "error:"));
        if let Some(help) = help {
            for line in help.lines() {
                text.push_str(&format!("  {}\n", self.err.paint(DIM, line)));
            }
        }
        self.note(&text);
    }

    /// A line that the next note or progress replaces; nothing unless standard error is a terminal.
    pub(crate) fn progress(&self, line: &str) {
        let Some(width) = self.err.width else { return };
        let line = super::render::text::cut(line, width.saturating_sub(1), self.err.sign("…", "..."));
        self.note(&format!("\r\x1b[K{}", self.err.paint(DIM, &line)));
    }

    /// Takes the progress line away.
    pub(crate) fn end_progress(&self) {
        if self.err.width.is_some() {
            self.note("\r\x1b[K");
        }
    }
}

/// Whether the locale writes UTF-8 (locale(7): the first of these that is set counts).
fn is_utf8_locale(env: impl Fn(&str) -> Option<String>) -> bool {
    ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|key| env(key).filter(|value| !value.is_empty()))
        .is_some_and(|value| value.to_ascii_lowercase().replace('-', "").contains("utf8"))
}

/// `COLUMNS` is not asked: shells do not export it, and whoever does export it has an old value.
fn width_of(stream: &impl std::os::fd::AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    // A terminal that does not know its width is as wide as they all once were.
    Some(if size.ws_col == 0 { 80 } else { usize::from(size.ws_col) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_locale_variable_that_is_set_decides() {
        let locale = |pairs: &[(&str, &str)]| {
            is_utf8_locale(|key| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| (*v).to_owned()))
        };
        assert!(locale(&[("LANG", "de_DE.UTF-8")]));
        assert!(locale(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8")]));
        assert!(!locale(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]));
        assert!(!locale(&[]));
    }
}
