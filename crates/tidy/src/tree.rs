//! The text of the repository.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// Every file that is text, by its path relative to the root, with `/` between the parts.
#[derive(Debug, Default, Clone)]
pub struct Tree {
    files: BTreeMap<String, String>,
    /// Files that are no text: a link may lead to them.
    others: Vec<String>,
}

impl Tree {
    /// A tree of so many files.
    #[must_use]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Self { files, others: Vec::new() }
    }

    /// Reads everything under `root` but what its `.gitignore` files name, and git's own.
    ///
    /// git itself is not asked: the check also holds for an unpacked archive, and for a checkout that belongs
    /// to another user, of which git would say nothing.
    ///
    /// # Errors
    /// When a folder or file cannot be read.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        tree.read_folder(root, "", &[])?;
        Ok(tree)
    }

    fn read_folder(&mut self, root: &Path, folder: &str, above: &[String]) -> io::Result<()> {
        let ignored = [above, &ignored_in(&root.join(folder))].concat();
        for entry in fs::read_dir(root.join(folder))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let kind = entry.file_type()?;
            if name == ".git" || ignored.iter().any(|pattern| matches(pattern, &name)) {
                continue;
            }
            if kind.is_dir() {
                self.read_folder(root, &path, &ignored)?;
            } else if kind.is_file() {
                self.read_file(root, path)?;
            }
        }
        Ok(())
    }

    fn read_file(&mut self, root: &Path, path: String) -> io::Result<()> {
        match String::from_utf8(fs::read(root.join(&path))?) {
            Ok(text) => drop(self.files.insert(path, text)),
            Err(_) => self.others.push(path),
        }
        Ok(())
    }

    /// Every text file: path and text.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Those whose name ends so.
    pub fn ending<'a>(&'a self, end: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files().filter(move |(path, _)| path.ends_with(end))
    }

    /// The text of a file.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether there is such a file or folder.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        let mut all = self.files.keys().chain(&self.others);
        path.is_empty() || all.any(|file| file == path || file.starts_with(&folder))
    }
}

/// The plain names of a `.gitignore`: `/NAME`, `NAME/`, `*.end` and `start*`, which is all that ours use.
fn ignored_in(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join(".gitignore")).unwrap_or_default();
    let lines = text.lines().map(|line| line.trim().trim_matches('/').to_owned());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => name.starts_with(start) && name.ends_with(end),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_a_name_or_its_beginning_or_its_end() {
        assert!(matches("target", "target"));
        assert!(matches("target-*", "target-x"));
        assert!(matches("*.pyc", "a.pyc"));
        assert!(!matches("target", "targets"));
        assert!(!matches("*.pyc", "a.py"));
    }

    #[test]
    fn a_folder_is_there_when_a_file_is_in_it() {
        let tree = Tree::of(&[("docs/user/start.md", "")]);
        assert!(tree.has("docs/user"));
        assert!(!tree.has("docs/us"));
    }
}
