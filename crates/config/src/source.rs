//! Where text came from, and where in it something stands.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::diagnostic::{Diagnostic, Diagnostics, Excerpt, Severity};
use crate::limits;
use crate::secrets::{self, Stretch};

/// A stretch of one source, in bytes. `u32` is enough: a source is at most 16 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) file: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn new(file: u32, start: usize, end: usize) -> Self {
        let short = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { file, start: short(start), end: short(end.max(start)) }
    }
}

/// One text that values come from.
pub(crate) struct Source {
    /// As shown to people.
    pub(crate) name: String,
    /// Where relative paths in it start; absolute.
    pub(crate) dir: PathBuf,
    pub(crate) text: String,
    /// The byte at which each line starts.
    lines: Vec<usize>,
    /// Its lines are never shown: they may be passwords.
    pub(crate) secret: bool,
    /// What of its lines is not shown.
    hidden: Hidden,
}

/// What of a source is not shown.
enum Hidden {
    /// Nothing.
    Nothing,
    /// These stretches, in the order of the text.
    Known(Vec<Stretch>),
    /// It could not be parsed, so what looks like a value that nobody should see.
    BySight,
}

impl Source {
    pub(crate) fn new(name: String, dir: PathBuf, text: String, secret: bool) -> Self {
        let mut lines = vec![0];
        lines.extend(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1));
        Self { name, dir, text, lines, secret, hidden: Hidden::Nothing }
    }

    /// Line and column from 1, the column in characters.
    fn place(&self, at: usize) -> (usize, usize) {
        let at = self.floor(at);
        let line = self.lines.partition_point(|start| *start <= at).saturating_sub(1);
        let column = self.text[self.lines[line]..at].chars().count();
        (line + 1, column + 1)
    }

    /// The nearest character boundary at or before a byte.
    fn floor(&self, at: usize) -> usize {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    /// The source line of a span, cut to what fits on a screen.
    fn excerpt(&self, start: usize, end: usize) -> Option<Excerpt> {
        /// Bytes shown on either side of the place; minified JSON is one line of megabytes.
        const AROUND: usize = 120;
        if self.secret {
            return None;
        }
        let start = self.floor(start);
        let line = self.lines.partition_point(|begin| *begin <= start).saturating_sub(1);
        let line_start = self.lines[line];
        let line_end = self.lines.get(line + 1).map_or(self.text.len(), |next| next - 1);
        let from = self.floor(start.saturating_sub(AROUND)).max(line_start);
        let to = self.floor(start.saturating_add(AROUND)).min(line_end).max(start.min(line_end));
        let text = self.text[from..to].trim_end_matches('\r');
        let mark_start = (start - from).min(text.len());
        let mark_end = (self.floor(end).max(start) - from).clamp(mark_start, text.len());
        let mut marks = [mark_start, mark_end];
        let seen;
        let hidden = match &self.hidden {
            Hidden::Nothing => &[][..],
            Hidden::Known(known) => known,
            Hidden::BySight => {
                seen = secrets::by_sight(&self.text, line_end);
                &seen
            }
        };
        let text = secrets::masked(text, from, hidden, &mut marks);
        let [start, end] = marks;
        Some(Excerpt { text, start, end })
    }
}

/// All texts of one load.
#[derive(Default)]
pub(crate) struct Sources(Vec<Source>);

impl Sources {
    /// Takes a text in; what it is called by in spans from now on.
    pub(crate) fn add(&mut self, source: Source) -> u32 {
        self.0.push(source);
        u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX)
    }

    pub(crate) fn get(&self, file: u32) -> &Source {
        &self.0[file as usize]
    }

    /// What of a text is hidden from now on; none: what looks like it.
    pub(crate) fn hide(&mut self, file: u32, hidden: Option<Vec<Stretch>>) {
        self.0[file as usize].hidden = hidden.map_or(Hidden::BySight, Hidden::Known);
    }

    /// `file:line:column`, to point from one message to another place.
    pub(crate) fn place(&self, span: Span) -> String {
        let source = self.get(span.file);
        let (line, column) = source.place(span.start as usize);
        format!("{}:{line}:{column}", source.name)
    }
}

/// What is wrong, before anybody has looked up its line.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) span: Span,
    pub(crate) key: Option<String>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Finding {
    pub(crate) fn error(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, span, key: None, message: message.into(), help: None }
    }

    pub(crate) fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    pub(crate) fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Collects findings: each once, and not more errors than anybody would read.
#[derive(Default)]
pub(crate) struct Sink {
    found: Vec<Finding>,
    seen: HashSet<(Span, String)>,
    errors: usize,
    warnings: usize,
}

impl Sink {
    pub(crate) fn add(&mut self, finding: Finding) {
        let (count, limit) = match finding.severity {
            Severity::Error => (&mut self.errors, limits::ERRORS),
            Severity::Warning => (&mut self.warnings, limits::WARNINGS),
        };
        if *count >= limit || !self.seen.insert((finding.span, finding.message.clone())) {
            return;
        }
        *count += 1;
        self.found.push(finding);
    }

    /// Whether looking for more errors is pointless.
    pub(crate) fn full(&self) -> bool {
        self.errors >= limits::ERRORS
    }

    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// In the order of the text, with line and column.
    pub(crate) fn finish(mut self, sources: &Sources) -> Diagnostics {
        self.found.sort_by_key(|found| found.span);
        let full = self.full();
        let mut all: Vec<Diagnostic> =
            self.found.into_iter().map(|found| diagnostic(found, sources)).collect();
        if full && let Some(last) = all.iter_mut().rev().find(|found| found.severity == Severity::Error) {
            let note = format!("there may be more errors: only the first {} are shown", limits::ERRORS);
            last.help = Some(last.help.take().map_or(note.clone(), |help| format!("{help}; {note}")));
        }
        Diagnostics(all)
    }
}

fn diagnostic(found: Finding, sources: &Sources) -> Diagnostic {
    let source = sources.get(found.span.file);
    let (line, column) = source.place(found.span.start as usize);
    Diagnostic {
        severity: found.severity,
        file: source.name.clone(),
        line,
        column,
        key: found.key,
        message: found.message,
        help: found.help,
        excerpt: source.excerpt(found.span.start as usize, found.span.end as usize),
    }
}
