//! TOML. Its parser goes on after an error, so several are reported in one go.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Budget;
use crate::limits;
use crate::node::{Node, Pair, Value};
use crate::source::{Finding, Sink, Span};

pub(super) fn read(file: u32, text: &str, budget: &mut Budget, sink: &mut Sink) -> Option<Node> {
    if !super::structure_fits(file, text, sink) {
        return None;
    }
    let (table, errors) =
        parse(text).unwrap_or_else(|error| (Spanned::new(0..0, DeTable::new()), vec![error]));
    // A tree read around a syntax error has values that nobody wrote; what follows from them is no help.
    let broken = errors.iter().any(|error| error.message() != "duplicate key");
    for error in errors {
        let range = error.span().unwrap_or(0..0);
        let message = match error.message() {
            "duplicate key" => {
                let key = text.get(range.clone()).unwrap_or_default();
                format!(
                    "`{}` stands twice in this map",
                    crate::node::shortened(key.trim_matches(['"', '\'']))
                )
            }
            other => format!("not valid TOML: {}", other.lines().next().unwrap_or_default()),
        };
        sink.add(Finding::error(Span::new(file, range.start, range.end), message));
    }
    let span = Span::new(file, 0, 0);
    let root = Reader { file, budget, sink }.map(table.into_inner(), span, 0)?;
    (!broken).then_some(root)
}

/// Longest text in which all errors are looked for. The parser keeps every one it finds, some hundred bytes
/// each, and a file of other things has one in each line; beyond what people write the first one has to do.
const ALL_ERRORS_BYTES: usize = 512 << 10;

fn parse(text: &str) -> Result<(Spanned<DeTable<'_>>, Vec<toml::de::Error>), toml::de::Error> {
    if text.len() <= ALL_ERRORS_BYTES {
        return Ok(DeTable::parse_recoverable(text));
    }
    DeTable::parse(text).map(|table| (table, Vec::new()))
}

struct Reader<'a> {
    file: u32,
    budget: &'a mut Budget,
    sink: &'a mut Sink,
}

impl Reader<'_> {
    fn map(&mut self, table: DeTable<'_>, span: Span, depth: usize) -> Option<Node> {
        let mut pairs = table
            .into_iter()
            .map(|(key, value)| {
                let range = key.span();
                let key_span = Span::new(self.file, range.start, range.end);
                Some(Pair {
                    key: key.into_inner().into(),
                    key_span,
                    node: self.node(value, key_span, depth + 1)?,
                })
            })
            .collect::<Option<Vec<_>>>()?;
        // The parser sorts by name; services are wanted in the order they are written.
        pairs.sort_by_key(|pair| pair.key_span);
        Some(Node::new(Value::Map(pairs), span))
    }

    /// Recursion is bounded by the limit on depth.
    fn node(&mut self, value: Spanned<DeValue<'_>>, key: Span, depth: usize) -> Option<Node> {
        let range = value.span();
        let span = Span::new(self.file, range.start, range.end);
        if !self.budget.take(1) {
            self.budget.exceeded(span, self.sink);
            return None;
        }
        if depth > limits::DEPTH {
            super::too_deep(span, self.sink);
            return None;
        }
        let value = match value.into_inner() {
            DeValue::String(text) => Value::Text(text.into()),
            DeValue::Integer(number) => Value::Number(number.to_string().into()),
            DeValue::Float(number) => Value::Number(number.to_string().into()),
            DeValue::Boolean(value) => Value::Bool(value),
            // No key wants a date; as text it is refused where it stands.
            DeValue::Datetime(date) => Value::Text(date.to_string().into()),
            DeValue::Array(array) => {
                Value::List(array.into_iter().map(|e| self.node(e, span, depth + 1)).collect::<Option<_>>()?)
            }
            DeValue::Table(table) => {
                // The span of a table made by dotted keys or a header is not where people look for it.
                let span = if range.is_empty() { key } else { span };
                return self.map(table, span, depth);
            }
        };
        Some(Node::new(value, span))
    }
}
