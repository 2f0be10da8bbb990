//! Bytes of a file to one tree: which format, which encoding, and a bound on both.

mod ini;
mod json;
mod toml;
mod yaml;

use std::path::Path;

use crate::limits;
use crate::node::{Node, Pair, Value};
use crate::source::{Finding, Sink, Span};

/// A config format, told by the ending of the file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
    Toml,
    Ini,
}

impl Format {
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "json" | "jsonc" | "json5" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            "ini" | "conf" | "cfg" => Some(Self::Ini),
            _ => None,
        }
    }
}

/// What is left of the budget that all files of a load share.
pub(crate) struct Budget {
    values: usize,
    said: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Self { values: limits::VALUES, said: false }
    }
}

impl Budget {
    /// Takes `count` values; false when there are not that many left.
    fn take(&mut self, count: usize) -> bool {
        let enough = self.values >= count;
        self.values = self.values.saturating_sub(count);
        enough
    }

    /// The message for it, once.
    fn exceeded(&mut self, span: Span, sink: &mut Sink) {
        if !std::mem::replace(&mut self.said, true) {
            let message = format!("the config has more than {} values", limits::VALUES);
            sink.add(Finding::error(span, message).help("aliases count as often as they are used"));
        }
    }
}

/// Parses a text. None: it has no usable tree, and the sink knows why.
pub(crate) fn parse(
    format: Format,
    file: u32,
    text: &str,
    budget: &mut Budget,
    sink: &mut Sink,
) -> Option<Node> {
    let mut root = match format {
        Format::Json => json::read(file, text, budget, sink)?,
        Format::Yaml => yaml::read(file, text, budget, sink)?,
        Format::Toml => toml::read(file, text, budget, sink)?,
        Format::Ini => ini::read(file, text, budget, sink)?,
    };
    drop_duplicates(&mut root, sink);
    Some(root)
}

/// Refuses a text with so much structure that a whole-tree parser would fill the memory with it.
fn structure_fits(file: u32, text: &str, sink: &mut Sink) -> bool {
    let structure = text.bytes().filter(|b| matches!(b, b',' | b':' | b'=' | b'[' | b'{')).count();
    if structure > limits::STRUCTURE {
        let message = format!("the config has more than {} values", limits::VALUES);
        sink.add(Finding::error(Span::new(file, 0, 0), message));
        return false;
    }
    true
}

fn too_deep(span: Span, sink: &mut Sink) {
    let message = format!("lists and maps are nested more than {} levels deep", limits::DEPTH);
    sink.add(Finding::error(span, message));
}

/// A key that stands twice in one map is an error at the second one; the first counts.
fn drop_duplicates(node: &mut Node, sink: &mut Sink) {
    match &mut node.value {
        Value::Map(pairs) => {
            let mut seen = std::collections::HashSet::with_capacity(pairs.len());
            pairs.retain(|pair: &Pair| {
                let fresh = seen.insert(pair.key.clone());
                if !fresh {
                    let message = format!("`{}` stands twice in this map", crate::node::shortened(&pair.key));
                    sink.add(Finding::error(pair.key_span, message).key(&*pair.key));
                }
                fresh
            });
            pairs.iter_mut().for_each(|pair| drop_duplicates(&mut pair.node, sink));
        }
        Value::List(nodes) => nodes.iter_mut().for_each(|node| drop_duplicates(node, sink)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Loose(_) => {}
    }
}

/// The text of a file: UTF-8, a byte order mark allowed. What is wrong with it, with its place, otherwise; the
/// text then is what can be shown of it.
pub(crate) fn decode(bytes: Vec<u8>) -> (String, Option<(usize, String, &'static str)>) {
    const SAVE: &str = "save it as UTF-8 text";
    let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    if utf16 {
        return (String::new(), Some((0, "the file is UTF-16, not UTF-8".into(), SAVE)));
    }
    let mark = if bytes.starts_with(&[0xef, 0xbb, 0xbf]) { 3 } else { 0 };
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let byte = error.as_bytes().get(at).copied().unwrap_or(0);
            let message = format!("the file is not UTF-8: byte 0x{byte:02x} cannot stand here");
            let shown = String::from_utf8_lossy(&error.as_bytes()[mark..]).into_owned();
            return (shown, Some((at.saturating_sub(mark), message, SAVE)));
        }
    };
    let text = if mark > 0 { text[mark..].to_owned() } else { text };
    match text.find('\0') {
        Some(at) if text.as_bytes().get(at + 2) == Some(&0) || at == 0 => {
            (text, Some((at, "the file has NUL bytes; is it UTF-16?".into(), SAVE)))
        }
        Some(at) => (text, Some((at, "the file has a NUL byte".into(), "remove it"))),
        None => (text, None),
    }
}
