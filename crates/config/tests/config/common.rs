//! Configs in memory, and what they come to in one line each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use relume_config::{
    Config, Diagnostics, Entry, FileError, FileErrorKind, Files, Loaded, Options, Override, Prepared, load,
};

/// Files by absolute path.
#[derive(Default, Clone)]
pub(crate) struct Memory(pub(crate) BTreeMap<PathBuf, Vec<u8>>);

impl Memory {
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        Self(
            files.iter().map(|(path, text)| (Path::new("/w").join(path), text.as_bytes().to_vec())).collect(),
        )
    }

    fn directory(&self, path: &Path) -> bool {
        self.0.keys().any(|known| known != path && known.starts_with(path))
    }
}

fn error(kind: FileErrorKind, reason: &str) -> FileError {
    FileError { kind, reason: reason.into() }
}

impl Files for Memory {
    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
        if path.extension().is_some_and(|ending| ending == "fifo") {
            return Err(error(FileErrorKind::NotRegular, "it is a FIFO"));
        }
        match self.0.get(path) {
            Some(bytes) if bytes.len() as u64 > limit => {
                Err(error(FileErrorKind::TooLarge, "it is too large"))
            }
            Some(bytes) => Ok(bytes.clone()),
            None if self.directory(path) => Err(error(FileErrorKind::Directory, "it is a directory")),
            None => Err(error(FileErrorKind::NotFound, "No such file or directory (ENOENT)")),
        }
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>, FileError> {
        if !self.directory(dir) && dir != Path::new("/w") {
            return Err(error(FileErrorKind::NotFound, "No such file or directory (ENOENT)"));
        }
        let names: BTreeSet<(String, bool)> = self
            .0
            .keys()
            .filter_map(|path| path.strip_prefix(dir).ok())
            .filter_map(|below| {
                let mut parts = below.components();
                let name = parts.next()?.as_os_str().to_string_lossy().into_owned();
                Some((name, parts.next().is_some()))
            })
            .collect();
        Ok(names.into_iter().map(|(name, directory)| Entry { name, directory }).collect())
    }
}

/// Loads `paths` out of `files` with a small environment, in `/w`.
pub(crate) fn load_with(files: &Memory, paths: &[&str], overrides: &[(&str, &str, &str)]) -> Loaded {
    let options = Options {
        current_dir: "/w".into(),
        paths: paths.iter().map(PathBuf::from).collect(),
        environment: BTreeMap::from([("HOME".into(), "/home/u".into()), ("N".into(), "7".into())]),
        overrides: overrides
            .iter()
            .map(|(key, value, origin)| Override {
                key: (*key).into(),
                value: (*value).into(),
                origin: (*origin).into(),
            })
            .collect(),
        manager_only: false,
        show_secrets: false,
    };
    let loaded = load(files, &options);
    if !loaded.diagnostics.has_errors() {
        comes_back(&loaded.config);
    }
    loaded
}

/// Every right config of these tests is one that a successor gets word for word. Shown to fail: with hooks left out of what comes
/// back.
#[track_caller]
fn comes_back(config: &Config) {
    let written = rmp_serde::to_vec(&Prepared::from(config)).expect("it can be written down");
    let read: Prepared = rmp_serde::from_slice(&written).expect("it can be read");
    assert_eq!(read.config().as_ref(), Some(config));
}

/// Loads one file.
pub(crate) fn load_one(name: &str, text: &str) -> Loaded {
    load_with(&Memory::with(&[(name, text)]), &[name], &[])
}

/// A config that must be right, with no warning either.
pub(crate) fn good(name: &str, text: &str) -> Config {
    let loaded = load_one(name, text);
    assert_eq!(lines(&loaded.diagnostics), Vec::<String>::new(), "{text}");
    loaded.config
}

/// `file:line:column: severity: message`, one for each finding.
pub(crate) fn lines(diagnostics: &Diagnostics) -> Vec<String> {
    diagnostics
        .0
        .iter()
        .map(|d| {
            let severity = if d.severity == relume_config::Severity::Error { "error" } else { "warning" };
            format!("{}:{}:{}: {severity}: {}", d.file, d.line, d.column, d.message)
        })
        .collect()
}

/// Asserts the findings of one file, each as `LINE:COLUMN SEVERITY MESSAGE`, with `E` and `W`.
#[track_caller]
pub(crate) fn check(format: &str, text: &str, expected: &[&str]) {
    let name = format!("c.{format}");
    let found = load_one(&name, text).diagnostics;
    let short: Vec<String> = lines(&found)
        .iter()
        .map(|line| {
            let rest = line.strip_prefix(&format!("{name}:")).unwrap_or(line);
            rest.replacen(": error: ", " E ", 1).replacen(": warning: ", " W ", 1)
        })
        .collect();
    assert_eq!(short, expected, "\n{text}");
}
