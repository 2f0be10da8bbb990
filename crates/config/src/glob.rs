//! Which files an `include` means.

use std::path::{Component, Path, PathBuf};

use crate::files::{FileError, Files};
use crate::limits;

/// Directories below each other that `**` goes into.
const STAR_DEPTH: usize = 16;

pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// The files that match an absolute pattern, in order of their names. As in the shell, a wildcard does not match
/// a name that begins with a dot.
///
/// # Errors
/// With the directory that could not be listed.
pub fn expand(files: &dyn Files, pattern: &Path) -> Result<Vec<PathBuf>, (PathBuf, FileError)> {
    let parts: Vec<Component<'_>> = pattern.components().collect();
    let mut found = Vec::new();
    walk(files, PathBuf::new(), &parts, 0, &mut found)?;
    found.sort();
    found.dedup();
    Ok(found)
}

/// Recursion is bounded by the parts of the pattern and by `STAR_DEPTH`.
fn walk(
    files: &dyn Files,
    mut base: PathBuf,
    parts: &[Component<'_>],
    depth: usize,
    found: &mut Vec<PathBuf>,
) -> Result<(), (PathBuf, FileError)> {
    let mut rest = parts;
    while let [part, after @ ..] = rest {
        let text = part.as_os_str().to_string_lossy();
        if !is_pattern(&text) {
            base.push(part);
            rest = after;
            continue;
        }
        let mut entries = files.list(&base).map_err(|error| (base.clone(), error))?;
        entries.sort();
        if text == "**" {
            walk(files, base.clone(), after, depth, found)?;
        }
        for entry in entries.iter().filter(|entry| !entry.name.starts_with('.') || text.starts_with('.')) {
            if found.len() >= limits::FILES {
                return Ok(());
            }
            let path = base.join(&entry.name);
            if text == "**" {
                if entry.directory && depth < STAR_DEPTH {
                    walk(files, path, rest, depth + 1, found)?;
                }
            } else if fast_glob::glob_match(text.as_bytes(), entry.name.as_bytes()) {
                match (after.is_empty(), entry.directory) {
                    (true, false) => found.push(path),
                    (false, true) => walk(files, path, after, depth, found)?,
                    (true, true) | (false, false) => {}
                }
            }
        }
        return Ok(());
    }
    // The pattern ends in plain names below a wildcard: there may or may not be such a file.
    let listed = base.parent().and_then(|dir| files.list(dir).ok()).unwrap_or_default();
    let name = base.file_name().map(|name| name.to_string_lossy().into_owned());
    if listed.iter().any(|entry| !entry.directory && Some(&entry.name) == name.as_ref()) {
        found.push(base);
    }
    Ok(())
}
