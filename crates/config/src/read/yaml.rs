//! YAML 1.2 by events. Types are the core schema's, told here and not by the parser: `no` stays a string until
//! something wants a boolean, and `022` keeps its zero until something wants a number. Aliases are copies and
//! paid for from the budget, so a bomb of them is a message.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use super::Budget;
use crate::limits;
use crate::node::{Node, Pair, Value};
use crate::source::{Finding, Sink, Span};

pub(super) fn read(file: u32, text: &str, budget: &mut Budget, sink: &mut Sink) -> Option<Node> {
    let mut reader = Reader {
        places: Places::new(file, text),
        budget,
        sink,
        open: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        documents: 0,
    };
    for event in Parser::new_from_str(text) {
        let stop = match event {
            Ok((event, span)) => reader.event(event, span).is_none(),
            Err(error) => {
                reader.broken(&error);
                true
            }
        };
        if stop {
            return None;
        }
    }
    let empty = Node::new(Value::Null, Span::new(file, 0, 0));
    Some(reader.root.unwrap_or(empty))
}

/// The parser counts characters, spans count bytes.
struct Places<'a> {
    file: u32,
    text: &'a str,
    /// The byte of each `STEP`th character; empty for ASCII, where both are the same.
    sparse: Vec<usize>,
}

/// Characters between two remembered places: a lookup walks at most so many.
const STEP: usize = 64;

impl<'a> Places<'a> {
    fn new(file: u32, text: &'a str) -> Self {
        let sparse = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().step_by(STEP).map(|(at, _)| at).collect()
        };
        Self { file, text, sparse }
    }

    fn byte(&self, marker: &Marker) -> usize {
        let index = marker.index();
        if self.sparse.is_empty() {
            return index.min(self.text.len());
        }
        let Some(start) = self.sparse.get(index / STEP) else { return self.text.len() };
        let rest = self.text[*start..].char_indices().nth(index % STEP);
        rest.map_or(self.text.len(), |(at, _)| start + at)
    }

    fn span(&self, span: saphyr_parser::Span) -> Span {
        Span::new(self.file, self.byte(&span.start), self.byte(&span.end))
    }
}

/// A list or map that has begun.
struct Open {
    span: Span,
    anchor: usize,
    size: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    Map { pairs: Vec<Pair>, key: Option<(Box<str>, Span, bool)>, merged: Vec<(Span, Node)> },
}

struct Reader<'a> {
    places: Places<'a>,
    budget: &'a mut Budget,
    sink: &'a mut Sink,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, usize)>,
    root: Option<Node>,
    documents: usize,
}

impl Reader<'_> {
    /// None: reading is over, the sink knows why.
    fn event(&mut self, event: Event<'_>, span: saphyr_parser::Span) -> Option<()> {
        let span = self.places.span(span);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Some(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents == 1 {
                    return Some(());
                }
                self.fail(span, "a second document (`---`) begins here; a config file has one")
            }
            Event::Scalar(text, style, anchor, tag) => {
                let merge_key = style == ScalarStyle::Plain && text == "<<";
                let value = self.scalar(text, style, tag, span)?;
                self.value(Node::new(value, span), anchor, 1, merge_key)
            }
            Event::SequenceStart(anchor, tag) => {
                self.plain_tag(tag.as_deref(), span)?;
                self.begin(span, anchor, Kind::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.plain_tag(tag.as_deref(), span)?;
                self.begin(span, anchor, Kind::Map { pairs: Vec::new(), key: None, merged: Vec::new() })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some((node, size)) if self.budget.take(*size) => {
                    let (node, size) = (node.clone(), *size);
                    self.value(node, 0, size, false)
                }
                Some(_) => {
                    self.budget.exceeded(span, self.sink);
                    None
                }
                None => self.fail(span, "this alias stands inside the value it refers to"),
            },
        }
    }

    fn fail<T>(&mut self, span: Span, message: &str) -> Option<T> {
        self.sink.add(Finding::error(span, message));
        None
    }

    fn broken(&mut self, error: &ScanError) {
        let at = self.places.byte(error.marker());
        let tab = self.places.text[..at]
            .rsplit('\n')
            .next()
            .is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'))
            || self.places.text[at..].starts_with('\t');
        let found = Finding::error(
            Span::new(self.places.file, at, at + 1),
            format!("not valid YAML: {}", error.info()),
        );
        self.sink.add(if tab { found.help("YAML is indented by spaces, never by tabs") } else { found });
    }

    fn begin(&mut self, span: Span, anchor: usize, kind: Kind) -> Option<()> {
        if self.open.len() >= limits::DEPTH {
            super::too_deep(span, self.sink);
            return None;
        }
        self.open.push(Open { span, anchor, size: 1, kind });
        Some(())
    }

    fn end(&mut self) -> Option<()> {
        let open = self.open.pop()?;
        let value = match open.kind {
            Kind::List(nodes) => Value::List(nodes),
            Kind::Map { mut pairs, merged, .. } => {
                for (span, node) in merged {
                    self.merge(&mut pairs, span, &node)?;
                }
                Value::Map(pairs)
            }
        };
        self.value(Node::new(value, open.span), open.anchor, open.size, false)
    }

    /// `<<`: what the map does not have itself, the first of several wins.
    fn merge(&mut self, pairs: &mut Vec<Pair>, span: Span, node: &Node) -> Option<()> {
        let maps = match &node.value {
            Value::Map(_) => std::slice::from_ref(node),
            Value::List(nodes) => nodes.as_slice(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Loose(_) => &[],
        };
        if maps.is_empty() || maps.iter().any(|map| !matches!(map.value, Value::Map(_))) {
            return self.fail(span, "`<<` takes a map or a list of maps");
        }
        let mut known: std::collections::HashSet<Box<str>> =
            pairs.iter().map(|pair| pair.key.clone()).collect();
        for pair in maps.iter().flat_map(Node::pairs) {
            if known.insert(pair.key.clone()) {
                pairs.push(pair.clone());
            }
        }
        Some(())
    }

    /// A complete value: to its anchor, then to the list or map it stands in.
    fn value(&mut self, node: Node, anchor: usize, size: usize, merge_key: bool) -> Option<()> {
        let paid = if size == 1 { 1 } else { 0 } + if anchor > 0 { size } else { 0 };
        if !self.budget.take(paid) {
            self.budget.exceeded(node.span, self.sink);
            return None;
        }
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Some(());
        };
        open.size += size;
        match &mut open.kind {
            Kind::List(nodes) => nodes.push(node),
            Kind::Map { pairs, key, merged } => match key.take() {
                None => {
                    match node.text().map(Box::from).or(matches!(node.value, Value::Null).then(|| "~".into()))
                    {
                        Some(text) => *key = Some((text, node.span, merge_key)),
                        None => return self.fail(node.span, "a key must be a word, not a list or a map"),
                    }
                }
                Some((_, span, true)) => merged.push((span, node)),
                Some((key, key_span, false)) => pairs.push(Pair { key, key_span, node }),
            },
        }
        Some(())
    }

    fn plain_tag(&mut self, tag: Option<&Tag>, span: Span) -> Option<()> {
        match tag {
            Some(tag) if !(tag.is_yaml_core_schema() && matches!(tag.suffix.as_str(), "map" | "seq")) => {
                self.fail(span, &format!("the tag `{}{}` means nothing here", tag.handle, tag.suffix))
            }
            Some(_) | None => Some(()),
        }
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        tag: Option<Cow<'_, Tag>>,
        span: Span,
    ) -> Option<Value> {
        if let Some(tag) = tag {
            return match (tag.is_yaml_core_schema(), tag.suffix.as_str()) {
                (true, "str") => Some(Value::Text(text.into())),
                (true, "int" | "float" | "bool" | "null") => Some(typed(text)),
                _ => self.fail(span, &format!("the tag `{}{}` means nothing here", tag.handle, tag.suffix)),
            };
        }
        Some(if style == ScalarStyle::Plain { typed(text) } else { Value::Text(text.into()) })
    }
}

/// The core schema of YAML 1.2.2, §10.3.2.
fn typed(text: Cow<'_, str>) -> Value {
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        other if number(other) => Value::Number(text.into()),
        _ => Value::Text(text.into()),
    }
}

fn number(text: &str) -> bool {
    let digits = |text: &str, radix: u32| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, 8);
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return digits(hex, 16);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return false;
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    (!whole.is_empty() || !part.is_empty())
        && whole.chars().chain(part.chars()).all(|c| c.is_ascii_digit())
        && digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent), 10)
}
