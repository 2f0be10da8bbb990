//! The one tree all formats are read into.

use std::cell::Cell;

use crate::source::Span;

/// A value and its place. Not `Debug`: it holds environment values.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Span,
    /// An error was noted here: decoding passes over it from now on.
    cut: Cell<bool>,
}

/// What a value is, before anybody wants something of it.
#[derive(Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// As it was written, radix prefix included: `umask: 022` must not become 22 or 18 before it is known what
    /// it is for.
    Number(Box<str>),
    Text(Box<str>),
    /// Text of a format without types (INI, a flag): where a list is wanted, it is split at commas.
    Loose(Box<str>),
    List(Vec<Node>),
    Map(Vec<Pair>),
}

/// One entry of a map.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) key: Box<str>,
    pub(crate) key_span: Span,
    pub(crate) node: Node,
}

impl Node {
    pub(crate) fn new(value: Value, span: Span) -> Self {
        Self { value, span, cut: Cell::new(false) }
    }

    pub(crate) fn cut(&self) {
        self.cut.set(true);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// The entry of that name, cut or not.
    pub(crate) fn pair(&self, key: &str) -> Option<&Pair> {
        self.pairs().iter().find(|pair| &*pair.key == key)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.pair(key).map(|pair| &pair.node)
    }

    /// The entries, if it is a map.
    pub(crate) fn pairs(&self) -> &[Pair] {
        match &self.value {
            Value::Map(pairs) => pairs,
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Text(_)
            | Value::Loose(_)
            | Value::List(_) => &[],
        }
    }

    /// The elements, if it is a list.
    pub(crate) fn elements(&self) -> &[Node] {
        match &self.value {
            Value::List(nodes) => nodes,
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Text(_)
            | Value::Loose(_)
            | Value::Map(_) => &[],
        }
    }

    /// A single value as it was written.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) | Value::Loose(text) | Value::Number(text) => Some(text),
            Value::Bool(true) => Some("true"),
            Value::Bool(false) => Some("false"),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// About as many bytes as it takes.
    pub(crate) fn weight(&self) -> usize {
        let below = match &self.value {
            Value::Null | Value::Bool(_) => 0,
            Value::Number(text) | Value::Text(text) | Value::Loose(text) => text.len(),
            Value::List(nodes) => nodes.iter().map(Self::weight).sum(),
            Value::Map(pairs) => pairs.iter().map(|pair| pair.key.len() + pair.node.weight()).sum(),
        };
        below + std::mem::size_of::<Pair>()
    }

    /// For "expected …, found …".
    pub(crate) fn kind(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Number(text) => format!("the number {}", shortened(text)),
            Value::Text(text) | Value::Loose(text) => format!("`{}`", shortened(text)),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
        }
    }

    /// The place of `path` below here, or of as much of it as there is.
    pub(crate) fn span_of(&self, path: &[&str]) -> Span {
        let mut node = self;
        for key in path {
            match node.get(key) {
                Some(next) => node = next,
                None => break,
            }
        }
        node.span
    }
}

/// The beginning of a text that may be long.
pub(crate) fn shortened(text: &str) -> String {
    /// Characters of a value quoted in a message.
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Puts `over` on top of `under`: maps deeply, everything else as a whole. What `over` sets to null is unset.
pub(crate) fn merge(under: &Node, over: &Node) -> Node {
    let (Value::Map(below), Value::Map(above)) = (&under.value, &over.value) else { return over.clone() };
    let mut pairs: Vec<Pair> = above.clone();
    for pair in below {
        match pairs.iter_mut().find(|own| own.key == pair.key) {
            Some(own) => own.node = merge(&pair.node, &own.node),
            None => pairs.push(pair.clone()),
        }
    }
    Node::new(Value::Map(pairs), over.span)
}
