//! What is said about a config: one finding, its place, and how both are shown.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The config cannot be used.
    Error,
    /// It can be used, but perhaps does not do what its author thinks.
    Warning,
}

/// One finding about a config. Its `Serialize` form is one element of `relume check --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file as the user knows it: as given, or relative to what was given. For a value that came by a flag
    /// or a variable: the name of that.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The key it is about, with dots: `services.web.restart_policy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The source line. None where it could hold a secret, or where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<Excerpt>,
}

/// The source line of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Excerpt {
    /// The line without its end; long ones are cut around the place.
    pub text: String,
    /// The first byte of `text` that is marked.
    pub start: usize,
    /// One past the last byte of `text` that is marked.
    pub end: usize,
}

/// All findings, in the order of the text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// Whether the config cannot be used.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|d| d.severity == Severity::Error)
    }

    /// All findings as a terminal or a log shows them: each begins with `file:line:column`.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        self.0.iter().map(|d| d.render(colour)).collect()
    }
}

impl Diagnostic {
    /// `file:line:column: error: message`, then the marked source line and the help.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let (level, word) = match self.severity {
            Severity::Error => (Level::ERROR, "error"),
            Severity::Warning => (Level::WARNING, "warning"),
        };
        let (strong, reset) = if colour { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
        let tint = match (colour, self.severity) {
            (false, _) => "",
            (true, Severity::Error) => "\u{1b}[1;31m",
            (true, Severity::Warning) => "\u{1b}[1;33m",
        };
        let place = format!("{}:{}:{}", printable(&self.file), self.line, self.column);
        let mut out = format!("{strong}{place}:{reset} {tint}{word}:{reset} {}\n", printable(&self.message));
        let mut group = Group::with_level(level);
        if let Some(excerpt) = &self.excerpt {
            let mark = AnnotationKind::Primary.span(excerpt.start..excerpt.end);
            group =
                group.element(Snippet::source(excerpt.text.as_str()).line_start(self.line).annotation(mark));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(printable(help)));
        }
        if self.excerpt.is_some() || self.help.is_some() {
            let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
            out.push_str(&visible(&renderer.render(&[group])));
            out.push('\n');
        }
        out
    }
}

/// A rendered excerpt with a sign in the place of each character that nobody would see. Control characters in it
/// have been replaced by the renderer; its own colours stay.
fn visible(rendered: &str) -> String {
    rendered.replace(crate::names::invisible, "\u{fffd}")
}

/// Text from a config as a terminal may see it: control characters could move the cursor or hide the message.
fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control() || crate::names::invisible(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
        out
    })
}
