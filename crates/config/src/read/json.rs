//! JSON, with comments and trailing commas, and nothing more: what else a parser could overlook is a typing
//! error in a config.

use jsonc_parser::ast::{ObjectPropName, Value as Ast};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::Budget;
use crate::limits;
use crate::node::{Node, Pair, Value};
use crate::source::{Finding, Sink, Span};

const OPTIONS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_loose_object_property_names: false,
    allow_trailing_commas: true,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

pub(super) fn read(file: u32, text: &str, budget: &mut Budget, sink: &mut Sink) -> Option<Node> {
    if !super::structure_fits(file, text, sink) {
        return None;
    }
    let parsed = match parse_to_ast(text, &CollectOptions::default(), &OPTIONS) {
        Ok(parsed) => parsed,
        Err(error) => {
            let range = error.range();
            let said = error.kind().to_string();
            let message = said
                .chars()
                .take(1)
                .flat_map(char::to_lowercase)
                .chain(said.chars().skip(1))
                .collect::<String>();
            sink.add(Finding::error(
                Span::new(file, range.start, range.end),
                format!("not valid JSON: {message}"),
            ));
            return None;
        }
    };
    match parsed.value {
        Some(value) => Reader { file, budget, sink }.node(value, 0),
        None => Some(Node::new(Value::Null, Span::new(file, 0, 0))),
    }
}

struct Reader<'a> {
    file: u32,
    budget: &'a mut Budget,
    sink: &'a mut Sink,
}

impl Reader<'_> {
    /// Recursion is bounded by the limit on depth.
    fn node(&mut self, ast: Ast<'_>, depth: usize) -> Option<Node> {
        let range = ast.range();
        let span = Span::new(self.file, range.start, range.end);
        if !self.budget.take(1) {
            self.budget.exceeded(span, self.sink);
            return None;
        }
        if depth > limits::DEPTH {
            super::too_deep(span, self.sink);
            return None;
        }
        let value = match ast {
            Ast::StringLit(text) => Value::Text(text.value.into()),
            Ast::NumberLit(number) => Value::Number(number.value.into()),
            Ast::BooleanLit(literal) => Value::Bool(literal.value),
            Ast::NullKeyword(_) => Value::Null,
            Ast::Array(array) => Value::List(
                array.elements.into_iter().map(|e| self.node(e, depth + 1)).collect::<Option<_>>()?,
            ),
            Ast::Object(object) => Value::Map(
                object
                    .properties
                    .into_iter()
                    .map(|property| {
                        let (key, range) = match property.name {
                            ObjectPropName::String(lit) => (lit.value.into(), lit.range),
                            ObjectPropName::Word(lit) => (lit.value.into(), lit.range),
                        };
                        let key_span = Span::new(self.file, range.start, range.end);
                        Some(Pair { key, key_span, node: self.node(property.value, depth + 1)? })
                    })
                    .collect::<Option<_>>()?,
            ),
        };
        Some(Node::new(value, span))
    }
}
