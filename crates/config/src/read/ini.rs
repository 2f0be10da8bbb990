//! INI: `[relume]` for the settings of the manager (and `include`), `[defaults]`, `[service NAME]`.
//!
//! The dialect: a comment has a line of its own and begins with `;` or `#` (so a command may contain both); a
//! value goes on in the next line after a `\` at the end; indentation means nothing; a value that is one quoted
//! string loses its quotes, except in commands, where quotes are the command's. Dots in a key make maps, but
//! what follows `environment.` is one name. Every value is text and is split at commas where a list is wanted.

use super::Budget;
use crate::limits;
use crate::node::{Node, Pair, Value};
use crate::raw::COMMAND_KEYS;
use crate::source::{Finding, Sink, Span};

pub(super) fn read(file: u32, text: &str, budget: &mut Budget, sink: &mut Sink) -> Option<Node> {
    let origin = Span::new(file, 0, 0);
    let mut reader = Reader { file, budget, sink, sections: Vec::new() };
    let mut at = 0;
    while at < text.len() {
        at = reader.line(text, at)?;
    }
    let sections = reader.sections;
    let mut root: Vec<Pair> = Vec::new();
    let mut services: Vec<Pair> = Vec::new();
    let mut services_span = None;
    for section in sections {
        let pair = Pair {
            key: section.name,
            key_span: section.name_span,
            node: Node::new(Value::Map(section.pairs), section.span),
        };
        match section.kind {
            SectionKind::Manager => split_include(pair, &mut root),
            SectionKind::Defaults => root.push(pair),
            SectionKind::Service => {
                services_span.get_or_insert(pair.key_span);
                services.push(pair);
            }
            SectionKind::Unknown => {}
        }
    }
    if let Some(span) = services_span {
        root.push(Pair {
            key: "services".into(),
            key_span: span,
            node: Node::new(Value::Map(services), span),
        });
    }
    Some(Node::new(Value::Map(root), origin))
}

/// `include` concerns the file, not the manager; INI has no other place for it.
fn split_include(mut manager: Pair, root: &mut Vec<Pair>) {
    if let Value::Map(pairs) = &mut manager.node.value
        && let Some(at) = pairs.iter().position(|pair| &*pair.key == "include")
    {
        root.push(pairs.remove(at));
    }
    root.push(manager);
}

enum SectionKind {
    Manager,
    Defaults,
    Service,
    Unknown,
}

struct Section {
    kind: SectionKind,
    name: Box<str>,
    name_span: Span,
    span: Span,
    pairs: Vec<Pair>,
}

struct Reader<'a> {
    file: u32,
    budget: &'a mut Budget,
    sink: &'a mut Sink,
    sections: Vec<Section>,
}

impl Reader<'_> {
    /// Reads one line with what continues it; gives the byte after it.
    fn line(&mut self, text: &str, at: usize) -> Option<usize> {
        let (line, mut next) = line_at(text, at);
        let trimmed = line.trim();
        let start = at + (line.len() - line.trim_start().len());
        if trimmed.is_empty() || trimmed.starts_with([';', '#']) {
            return Some(next);
        }
        if trimmed.starts_with('[') {
            return self.header(trimmed, start).map(|()| next);
        }
        let Some(equals) = line.find('=') else {
            let span = Span::new(self.file, start, start + trimmed.len());
            let found = Finding::error(span, "expected `key = value` or `[section]`");
            self.sink.add(found.help("a value goes on in the next line after a `\\` at the end of this one"));
            return Some(next);
        };
        let key = line[..equals].trim();
        let key_span = Span::new(self.file, start, start + key.len());
        let rest = &line[equals + 1..];
        let value_start = at + equals + 1 + (rest.len() - rest.trim_start().len());
        let mut value = rest.trim().to_owned();
        while value.ends_with('\\') && next < text.len() {
            value.pop();
            let (more, after) = line_at(text, next);
            value.truncate(value.trim_end().len());
            value.push(' ');
            value.push_str(more.trim());
            next = after;
        }
        let end = (value_start + value.len()).min(next);
        self.entry(key, key_span, value, Span::new(self.file, value_start, end))?;
        Some(next)
    }

    fn header(&mut self, line: &str, start: usize) -> Option<()> {
        let span = Span::new(self.file, start, start + line.len());
        if !self.budget.take(1) {
            self.budget.exceeded(span, self.sink);
            return None;
        }
        let inner = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')).map(str::trim);
        let (kind, name) = match inner {
            Some("relume") => (SectionKind::Manager, "manager"),
            Some("defaults") => (SectionKind::Defaults, "defaults"),
            Some(other) if other.starts_with("service ") || other.starts_with("service\t") => {
                (SectionKind::Service, other["service ".len()..].trim())
            }
            Some(_) | None => {
                let message = match inner {
                    Some(other) => format!("unknown section `{}`", crate::node::shortened(other)),
                    None => "a section name ends with `]`".to_owned(),
                };
                let help = match inner.and_then(|other| other.split_once(':')) {
                    Some(("program", name)) => format!("write [service {name}]"),
                    Some(_) | None => "sections are [relume], [defaults] and [service NAME]".to_owned(),
                };
                self.sink.add(Finding::error(span, message).help(help));
                (SectionKind::Unknown, "")
            }
        };
        let name_at = line.rfind(name).filter(|_| matches!(kind, SectionKind::Service)).unwrap_or(1);
        let shown =
            if matches!(kind, SectionKind::Service) { name.len() } else { line.len().saturating_sub(2) };
        let name_span = Span::new(self.file, start + name_at, start + name_at + shown);
        self.sections.push(Section { kind, name: name.into(), name_span, span, pairs: Vec::new() });
        Some(())
    }

    fn entry(&mut self, key: &str, key_span: Span, value: String, span: Span) -> Option<()> {
        if !self.budget.take(1) {
            self.budget.exceeded(span, self.sink);
            return None;
        }
        let Some(section) = self.sections.last_mut() else {
            let found = Finding::error(key_span, "a key before the first section");
            self.sink.add(found.help("begin with [relume], [defaults] or [service NAME]"));
            return Some(());
        };
        let mut path: Vec<&str> = match key.strip_prefix("environment.").or_else(|| key.strip_prefix("env."))
        {
            Some(name) => vec![&key[..key.len() - name.len() - 1], name],
            None => key.split('.').collect(),
        };
        if path.len() > limits::DEPTH / 2 {
            super::too_deep(key_span, self.sink);
            return Some(());
        }
        let last = path.pop().unwrap_or_default();
        let plain = match unquoted(&value) {
            Some(inner) if !COMMAND_KEYS.contains(&last) => inner.into(),
            Some(_) | None => value.into(),
        };
        let mut pairs = &mut section.pairs;
        for part in path {
            let Some(inner) = descend(pairs, part, key_span) else {
                let message = format!("`{part}` has a value already and cannot have keys below it");
                self.sink.add(Finding::error(key_span, message));
                return Some(());
            };
            pairs = inner;
        }
        pairs.push(Pair { key: last.into(), key_span, node: Node::new(Value::Loose(plain), span) });
        Some(())
    }
}

/// The map under `part`, made if need be; None if something else stands there.
fn descend<'a>(pairs: &'a mut Vec<Pair>, part: &str, span: Span) -> Option<&'a mut Vec<Pair>> {
    let at = match pairs.iter().position(|pair| &*pair.key == part) {
        Some(at) => at,
        None => {
            pairs.push(Pair {
                key: part.into(),
                key_span: span,
                node: Node::new(Value::Map(Vec::new()), span),
            });
            pairs.len() - 1
        }
    };
    match &mut pairs[at].node.value {
        Value::Map(inner) => Some(inner),
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Text(_)
        | Value::Loose(_)
        | Value::List(_) => None,
    }
}

/// What is between the quotes, if the whole is one quoted string.
fn unquoted(value: &str) -> Option<&str> {
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inner = value.get(1..value.len().checked_sub(1)?)?;
    (value.len() >= 2 && value.ends_with(quote) && !inner.contains(quote)).then_some(inner)
}

/// The line that begins at a byte, without its end, and the byte after it.
fn line_at(text: &str, at: usize) -> (&str, usize) {
    match text[at..].find('\n') {
        Some(length) => (text[at..at + length].trim_end_matches('\r'), at + length + 1),
        None => (&text[at..], text.len()),
    }
}
