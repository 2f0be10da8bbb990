//! `${VAR}`, `${VAR:-default}` and `$$`.
//!
//! A `$` before anything else is an ordinary character: values may be passwords. In commands, what relume does
//! not know stays for the shell.

use std::collections::BTreeMap;

use crate::node::{Node, Value};
use crate::raw::COMMAND_KEYS;
use crate::source::{Finding, Sink};

/// Where variables are looked up, the strongest first.
pub(crate) struct Vars<'a>(pub(crate) Vec<&'a BTreeMap<String, String>>);

impl Vars<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|vars| vars.get(name)).map(String::as_str)
    }
}

/// What could not be replaced, by the byte of its `$`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// `${x}` with no `x`.
    Undefined(usize, String),
    /// `${x%…}`, `${}`, `${x`.
    Form(usize, String),
}

/// Replaces what can be replaced; the rest stays as it is.
pub(crate) fn expand(text: &str, vars: &Vars<'_>) -> (String, Vec<Problem>) {
    let mut out = String::with_capacity(text.len());
    let mut problems = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let place = text.len() - rest.len() + at;
        let tail = &rest[at..];
        let length = if tail.starts_with("$$") {
            out.push('$');
            2
        } else if tail.starts_with("${") {
            let end = closing(tail);
            match replaced(&tail[..end], vars) {
                Ok(value) => out.push_str(&value),
                Err(undefined) => {
                    out.push_str(&tail[..end]);
                    let shown = crate::node::shortened(&tail[..end]);
                    problems.push(if undefined {
                        Problem::Undefined(place, shown)
                    } else {
                        Problem::Form(place, shown)
                    });
                }
            }
            end
        } else {
            out.push('$');
            1
        };
        rest = &tail[length..];
    }
    out.push_str(rest);
    (out, problems)
}

/// The byte after the `}` that belongs to the `${` at the start; a default may hold braces in pairs.
fn closing(text: &str) -> usize {
    let mut depth = 0usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// The value of one whole `${…}`; `Err(true)`: undefined, `Err(false)`: not of a form known here.
fn replaced(whole: &str, vars: &Vars<'_>) -> Result<String, bool> {
    let inner = whole.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).ok_or(false)?;
    let end = inner.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inner.len());
    let (name, form) = inner.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(false);
    }
    match (form, form.strip_prefix(":-")) {
        ("", _) => vars.get(name).map(str::to_owned).ok_or(true),
        (_, Some(default)) => match vars.get(name).filter(|value| !value.is_empty()) {
            Some(value) => Ok(value.to_owned()),
            None => Ok(default.to_owned()),
        },
        (_, None) => Err(false),
    }
}

/// Expands every value of a tree but commands, which wait until their service's environment is known.
pub(crate) fn expand_tree(node: &mut Node, vars: &Vars<'_>, sink: &mut Sink) {
    expand_below(node, vars, "", false, sink);
}

fn expand_below(node: &mut Node, vars: &Vars<'_>, key: &str, data: bool, sink: &mut Sink) {
    match &mut node.value {
        Value::Text(text) | Value::Loose(text) if text.contains('$') => {
            let (value, problems) = expand(text, vars);
            *text = value.into();
            if let Some(problem) = problems.into_iter().next() {
                let found = match problem {
                    Problem::Undefined(_, shown) => {
                        let name = shown.trim_matches(['$', '{', '}']).to_owned();
                        Finding::error(node.span, format!("the variable `{name}` is not defined"))
                            .help(format!("define it, give a default `${{{name}:-…}}`, or write `$${{{name}}}` for the text itself"))
                    }
                    // What stands in a variable's value may be part of a password.
                    Problem::Form(_, shown) => {
                        let shown = if data { "this `${…}`".to_owned() } else { format!("`{shown}`") };
                        Finding::error(node.span, format!("{shown} is not a form that is known here"))
                            .help("known are ${VAR}, ${VAR:-default}, and $$ for a dollar sign")
                    }
                };
                sink.add(found.key(key));
            }
        }
        Value::List(nodes) => nodes.iter_mut().for_each(|node| expand_below(node, vars, key, data, sink)),
        Value::Map(pairs) => {
            for pair in pairs.iter_mut().filter(|pair| data || !COMMAND_KEYS.contains(&&*pair.key)) {
                // The keys of an environment are the user's own words, not ours.
                let data = data || matches!(&*pair.key, "environment" | "env");
                expand_below(&mut pair.node, vars, &pair.key, data, sink);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Loose(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_defaults_and_dollars_are_replaced_and_the_rest_stays() {
        let vars = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("E".to_owned(), String::new())]);
        let cases: &[(&str, &str, usize)] = &[
            ("x${A}y", "x1y", 0),
            ("${A}${A}", "11", 0),
            ("$$A $A $", "$A $A $", 0),
            ("$${A}", "${A}", 0),
            ("${B:-b}", "b", 0),
            ("${E:-b}", "b", 0),
            ("${E}", "", 0),
            ("${B:-}", "", 0),
            ("${B:-{}}", "{}", 0),
            ("${B}", "${B}", 1),
            ("${B%x}", "${B%x}", 1),
            ("${", "${", 1),
            ("${}", "${}", 1),
            ("é${A}é", "é1é", 0),
        ];
        for (text, expected, problems) in cases {
            let (value, found) = expand(text, &Vars(vec![&vars]));
            assert_eq!((value.as_str(), found.len()), (*expected, *problems), "{text}");
        }
    }

    #[test]
    fn an_undefined_variable_is_told_from_an_unknown_form() {
        let none = BTreeMap::new();
        assert_eq!(expand("a${B}", &Vars(vec![&none])).1, [Problem::Undefined(1, "${B}".into())]);
        assert_eq!(expand("${B%x}", &Vars(vec![&none])).1, [Problem::Form(0, "${B%x}".into())]);
    }
}
