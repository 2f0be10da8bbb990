//! When a job has something to do: `creates`, `inputs`, `unless`, and what it `requires`.

use relume_core::ServiceKind;

use super::command::{self, Context};
use super::service::Work;
use crate::gather::plain;
use crate::model::{Comparison, JobCheck, Requirement};

/// None: there is nothing to check before a start.
pub(super) fn lower(work: &mut Work<'_, '_>, kind: ServiceKind, context: &Context<'_>) -> Option<JobCheck> {
    let raw = work.raw.clone();
    for (key, given) in [
        ("creates", raw.creates.is_some()),
        ("inputs", raw.inputs.is_some()),
        ("unless", raw.unless.is_some()),
    ] {
        if given && kind != ServiceKind::Oneshot {
            let message = format!("`{key}` says when a job is done already, and this is no job");
            work.error_with(&[key], message, "`type: oneshot` makes it one");
        }
    }
    let creates = raw.creates.iter().flat_map(|paths| &paths.0);
    let creates = creates.map(|path| work.files.resolve(work.span(&["creates"]), &path.0)).collect();
    let inputs: Vec<String> = raw.inputs.iter().flat_map(|globs| globs.0.clone()).collect();
    let inputs = inputs.iter().filter_map(|glob| pattern(glob, work)).collect();
    let unless = raw.unless.as_ref().and_then(|text| {
        let key = format!("{}.unless", work.prefix);
        Some(command::lower(text, work.node.get("unless")?, &key, context, work.files)?.0)
    });
    let requires: Vec<String> = raw.requires.iter().flat_map(|all| all.0.clone()).collect();
    let requires = requires.iter().filter_map(|text| requirement(text, work)).collect();
    let check = JobCheck { creates, inputs, unless, requires };
    (check != JobCheck::default()).then_some(check)
}

fn pattern(glob: &str, work: &mut Work<'_, '_>) -> Option<String> {
    let dir = plain(&work.files.resolve(work.span(&["inputs"]), glob));
    let text = dir.to_str().map(str::to_owned);
    if glob.trim().is_empty() || text.is_none() {
        work.error(&["inputs"], "expected a file or a pattern of files");
        return None;
    }
    text
}

/// `python3`, `python3 >= 3.8`, `node >=18, <23`
fn requirement(text: &str, work: &mut Work<'_, '_>) -> Option<Requirement> {
    let end = text.find(['<', '>', '=', '!']).unwrap_or(text.len());
    let (program, conditions) = text.split_at(end);
    let program = program.trim();
    let versions: Option<Vec<_>> =
        conditions.split(',').map(str::trim).filter(|part| !part.is_empty()).map(condition).collect();
    match versions {
        Some(versions) if !program.is_empty() && !program.contains(char::is_whitespace) => {
            Some(Requirement { program: program.to_owned(), versions, text: text.trim().to_owned() })
        }
        Some(_) | None => {
            let message =
                format!("`{}` does not name a program and its version", crate::node::shortened(text));
            work.error_with(
                &["requires"],
                message,
                "write `python3`, `python3 >= 3.8` or `node >= 18, < 23`",
            );
            None
        }
    }
}

fn condition(text: &str) -> Option<(Comparison, Vec<u64>)> {
    let known = [
        ("<=", Comparison::AtMost),
        (">=", Comparison::AtLeast),
        ("==", Comparison::Equal),
        ("!=", Comparison::Not),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
        ("=", Comparison::Equal),
    ];
    let (sign, comparison) = known.into_iter().find(|(sign, _)| text.starts_with(sign))?;
    let version: Option<Vec<u64>> =
        text[sign.len()..].trim().split('.').map(|part| part.parse().ok()).collect();
    Some((comparison, version?))
}
