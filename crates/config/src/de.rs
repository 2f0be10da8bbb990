//! The tree as a `serde::Deserializer`, and the loop that gets all errors out of it.
//!
//! serde stops at the first error. So: decode, note the error at its node, cut that node off, decode again.
//! A cut node is passed over as if it were not written, which is why raw types make every field optional.

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use crate::nearest::{nearest, unknown_key};
use crate::node::{Node, Value, shortened};
use crate::source::{Finding, Sink, Span};

/// Decodes a tree, noting everything that is wrong with it under `prefix`. What is wrong is left out.
pub(crate) fn decode<T: DeserializeOwned + Default>(node: &Node, prefix: &str, sink: &mut Sink) -> T {
    while !sink.full() {
        match T::deserialize(De(node)) {
            Ok(value) => return value,
            Err(error) => {
                let located = error.cut;
                sink.add(error.finding(prefix, node.span));
                if !located {
                    break;
                }
            }
        }
    }
    T::default()
}

/// What is wrong, with its place as soon as somebody on the way out knows it.
#[derive(Debug)]
pub(crate) struct DeError {
    message: String,
    span: Option<Span>,
    /// Keys from the inside out.
    path: Vec<Box<str>>,
    /// The node at fault has been cut off.
    cut: bool,
}

impl DeError {
    fn at(mut self, span: Span) -> Self {
        self.span.get_or_insert(span);
        self
    }

    /// Cuts the innermost entry that the error came out of.
    fn through(mut self, key: &str, node: &Node) -> Self {
        if !self.cut {
            node.cut();
            self.cut = true;
        }
        self.path.push(key.into());
        self.at(node.span)
    }

    /// A message may end in a line `help: …`.
    fn finding(self, prefix: &str, fallback: Span) -> Finding {
        let mut keys: Vec<&str> =
            self.path.iter().rev().map(|key| &**key).filter(|key| !key.is_empty()).collect();
        if !prefix.is_empty() {
            keys.insert(0, prefix);
        }
        let (message, help) = match self.message.split_once("\nhelp: ") {
            Some((message, help)) => (message.to_owned(), Some(help.to_owned())),
            None => (self.message, None),
        };
        let found = Finding::error(self.span.unwrap_or(fallback), message).key(keys.join("."));
        Finding { help, ..found }
    }
}

impl std::fmt::Display for DeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DeError {}

impl serde::de::Error for DeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), span: None, path: Vec::new(), cut: false }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format!("expected {expected}, found {}", unexpected(&found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(unknown_key(field, expected))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let shown = shortened(variant);
        let all = expected.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        match nearest(variant, expected.iter().copied()) {
            Some(meant) => {
                Self::custom(format!("unknown value `{shown}`; did you mean `{meant}`?\nhelp: one of {all}"))
            }
            None => Self::custom(format!("unknown value `{shown}`\nhelp: one of {all}")),
        }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::custom(format!("`{field}` is given already, under this or another of its names"))
    }
}

fn unexpected(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(text) => format!("`{}`", shortened(text)),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a map".into(),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Char(_)
        | Unexpected::Bytes(_)
        | Unexpected::NewtypeStruct
        | Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::StructVariant
        | Unexpected::Other(_) => found.to_string(),
    }
}

/// A node being decoded. Never borrowed from, so it serves every `'de`.
#[derive(Clone, Copy)]
pub(crate) struct De<'a>(pub(crate) &'a Node);

impl De<'_> {
    fn wanted(self, what: &str) -> DeError {
        DeError::custom(format!("expected {what}, found {}", self.0.kind())).at(self.0.span)
    }

    fn integer<T: TryFrom<i128>>(self, range: &str) -> Result<T, DeError> {
        let text = self.0.text().filter(|_| !matches!(self.0.value, Value::Bool(_)));
        let value = text.and_then(|text| parse_integer(text.trim()));
        value
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| self.wanted(format!("a whole number {range}").trim_end()))
    }
}

/// Decimal, `0x`, `0o`, `0b`; also `5.0`, which JSON writers make of 5.
pub(crate) fn parse_integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let radix =
        |prefix: &str, radix| digits.strip_prefix(prefix).map(|rest| i128::from_str_radix(rest, radix));
    let plain = || digits.strip_suffix(".0").unwrap_or(digits).parse();
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let value =
        radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| radix("0b", 2)).unwrap_or_else(plain).ok()?;
    Some(sign * value)
}

/// Words for yes and no, in any case.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

macro_rules! integers {
    ($($name:ident $visit:ident $type:ty, $range:expr;)*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
            visitor.$visit(self.integer::<$type>($range)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for De<'_> {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let result = match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(text) => match (parse_integer(text), text.parse()) {
                (Some(number), _) if i64::try_from(number).is_ok() => {
                    visitor.visit_i64(i64::try_from(number).unwrap_or_default())
                }
                (_, Ok(number)) => visitor.visit_f64(number),
                (_, Err(_)) => visitor.visit_str(text),
            },
            Value::Text(text) | Value::Loose(text) => visitor.visit_str(text),
            Value::List(nodes) => visitor.visit_seq(Elements { rest: nodes.iter() }),
            Value::Map(_) => visitor.visit_map(Entries { rest: self.0.pairs().iter(), open: None }),
        };
        result.map_err(|error| error.at(self.0.span))
    }

    integers! {
        deserialize_u8 visit_u8 u8, "from 0 to 255";
        deserialize_u16 visit_u16 u16, "from 0 to 65535";
        deserialize_u32 visit_u32 u32, "from 0 to 4294967295";
        deserialize_u64 visit_u64 u64, "of 0 or more";
        deserialize_i8 visit_i8 i8, "from -128 to 127";
        deserialize_i16 visit_i16 i16, "from -32768 to 32767";
        deserialize_i32 visit_i32 i32, "";
        deserialize_i64 visit_i64 i64, "";
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let value =
            self.0.text().and_then(|text| text.trim().parse::<f64>().ok()).filter(|value| value.is_finite());
        visitor.visit_f64(value.ok_or_else(|| self.wanted("a number"))?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let value = match &self.0.value {
            Value::Bool(value) => Some(*value),
            Value::Text(text) | Value::Loose(text) => parse_bool(text),
            Value::Null | Value::Number(_) | Value::List(_) | Value::Map(_) => None,
        };
        visitor.visit_bool(value.ok_or_else(|| self.wanted("`true` or `false`"))?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self.0.text() {
            Some(text) => visitor.visit_str(text).map_err(|error: DeError| error.at(self.0.span)),
            None => Err(self.wanted(&expected(&visitor))),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        if matches!(self.0.value, Value::Null) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        let Value::Loose(text) = &self.0.value else { return self.deserialize_any(visitor) };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let nodes: Vec<Node> = parts.map(|part| Node::new(Value::Loose(part.into()), self.0.span)).collect();
        visitor.visit_seq(Elements { rest: nodes.iter() }).map_err(|mut error| {
            // The parts are made anew each time: what must be cut is the text they come from.
            error.cut = false;
            error.at(self.0.span)
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        match self.0.value {
            Value::Map(_) => self.deserialize_any(visitor),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Text(_)
            | Value::Loose(_)
            | Value::List(_) => Err(self.wanted("a map of keys and values")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeError> {
        let words = || variants.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let text = self.0.text().ok_or_else(|| self.wanted(&format!("one of {}", words())))?;
        visitor.visit_enum(Word(text)).map_err(|error: DeError| error.at(self.0.span))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct }
}

/// What a visitor says it expects.
fn expected<'de, V: Visitor<'de>>(visitor: &V) -> String {
    struct Say<'a>(&'a dyn Expected);
    impl std::fmt::Display for Say<'_> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.fmt(f)
        }
    }
    Say(visitor).to_string()
}

/// A word as the name of a variant; case and `-` for `_` are forgiven.
struct Word<'a>(&'a str);

impl<'de> EnumAccess<'de> for Word<'_> {
    type Error = DeError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), DeError> {
        let folded = self.0.trim().to_ascii_lowercase().replace('-', "_");
        let exact = IntoDeserializer::<DeError>::into_deserializer(folded.as_str());
        Ok((seed.deserialize(exact)?, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'_> {
    type Error = DeError;

    fn unit_variant(self) -> Result<(), DeError> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _seed: S) -> Result<S::Value, DeError> {
        Err(DeError::custom(format!("`{}` stands alone here", self.0)))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, _visitor: V) -> Result<V::Value, DeError> {
        Err(DeError::custom(format!("`{}` stands alone here", self.0)))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, DeError> {
        Err(DeError::custom(format!("`{}` stands alone here", self.0)))
    }
}

struct Elements<'a> {
    rest: std::slice::Iter<'a, Node>,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = DeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DeError> {
        match self.rest.by_ref().find(|node| !node.is_cut()) {
            Some(node) => seed.deserialize(De(node)).map(Some).map_err(|error| error.through("", node)),
            None => Ok(None),
        }
    }
}

struct Entries<'a> {
    rest: std::slice::Iter<'a, crate::node::Pair>,
    open: Option<&'a crate::node::Pair>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = DeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DeError> {
        let Some(pair) = self.rest.by_ref().find(|pair| !pair.node.is_cut()) else { return Ok(None) };
        self.open = Some(pair);
        let key = IntoDeserializer::<DeError>::into_deserializer(&*pair.key);
        seed.deserialize(key)
            .map(Some)
            .map_err(|error: DeError| error.at(pair.key_span).through(&pair.key, &pair.node))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DeError> {
        let pair = self.open.take().ok_or_else(|| DeError::custom("a value without a key"))?;
        seed.deserialize(De(&pair.node)).map_err(|error| error.through(&pair.key, &pair.node))
    }
}
