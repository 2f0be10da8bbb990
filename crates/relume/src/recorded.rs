//! A configuration as it was when it was read: every file and folder that was asked for, to be read again later without the disk.
//!
//! The guardian keeps the recording of the last configuration that has held, as a file in memory. In safe mode the manager reads
//! that instead of the disk, so a config that was spoilt takes no running service down.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use relume_config::{Entry, FileError, FileErrorKind, Files};
use relume_os::inherit;
use serde::{Deserialize, Serialize};

/// Everything that was read.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recording {
    files: BTreeMap<PathBuf, Vec<u8>>,
    folders: BTreeMap<PathBuf, Vec<(String, bool)>>,
    identities: BTreeMap<PathBuf, PathBuf>,
    /// What could not be read or listed.
    #[serde(default)]
    refused: BTreeSet<PathBuf>,
}

/// Reads through to other files and remembers what it saw.
pub(crate) struct Recorder<F> {
    inner: F,
    seen: RefCell<Recording>,
}

impl<F> Recorder<F> {
    pub(crate) fn new(inner: F) -> Self {
        Self { inner, seen: RefCell::default() }
    }

    fn refused(&self, path: &Path, error: FileError) -> FileError {
        self.seen.borrow_mut().refused.insert(path.to_owned());
        error
    }

    /// What was seen.
    pub(crate) fn finish(self) -> Recording {
        self.seen.into_inner()
    }
}

impl<F: Files> Files for Recorder<F> {
    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
        let bytes = self.inner.read(path, limit).map_err(|error| self.refused(path, error))?;
        self.seen.borrow_mut().files.insert(path.to_owned(), bytes.clone());
        Ok(bytes)
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>, FileError> {
        let entries = self.inner.list(dir).map_err(|error| self.refused(dir, error))?;
        let plain = entries.iter().map(|entry| (entry.name.clone(), entry.directory)).collect();
        self.seen.borrow_mut().folders.insert(dir.to_owned(), plain);
        Ok(entries)
    }

    fn identity(&self, path: &Path) -> PathBuf {
        let identity = self.inner.identity(path);
        self.seen.borrow_mut().identities.insert(path.to_owned(), identity.clone());
        identity
    }
}

impl Files for Recording {
    fn read(&self, path: &Path, _limit: u64) -> Result<Vec<u8>, FileError> {
        let found = self.files.get(path).cloned();
        // A config may be a folder, and that it is one is told by the refusal to read it.
        found.ok_or_else(|| if self.folders.contains_key(path) { folder() } else { absent() })
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>, FileError> {
        let entries = self.folders.get(dir).ok_or_else(absent)?;
        let entry = |(name, directory): &(String, bool)| Entry { name: name.clone(), directory: *directory };
        Ok(entries.iter().map(entry).collect())
    }

    fn identity(&self, path: &Path) -> PathBuf {
        self.identities.get(path).cloned().unwrap_or_else(|| path.to_owned())
    }
}

fn folder() -> FileError {
    FileError { kind: FileErrorKind::Directory, reason: "it is a directory".into() }
}

/// It could not be had then, either.
fn absent() -> FileError {
    FileError {
        kind: FileErrorKind::NotFound,
        reason: "it was not there when this config was last good".into(),
    }
}

impl Recording {
    /// Whether all that was asked for is still the same in `files`.
    pub(crate) fn is_still(&self, files: &impl Files) -> bool {
        let has = |(path, bytes): (&PathBuf, &Vec<u8>)| {
            let limit = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            files.read(path, limit).is_ok_and(|now| now == *bytes)
        };
        let lists = |(dir, entries): (&PathBuf, &Vec<(String, bool)>)| {
            let same = |now: &Entry, then: &(String, bool)| (&now.name, now.directory) == (&then.0, then.1);
            files.list(dir).is_ok_and(|all| {
                all.len() == entries.len() && all.iter().zip(entries).all(|(now, then)| same(now, then))
            })
        };
        let is = |(path, identity): (&PathBuf, &PathBuf)| files.identity(path) == *identity;
        // It need not be refused for the same reason, and a folder is no file.
        let refuses = |path: &PathBuf| {
            let listed = self.folders.contains_key(path);
            files.read(path, 0).is_err_and(|error| error.kind != FileErrorKind::TooLarge)
                && (listed || files.list(path).is_err())
        };
        self.files.iter().all(has)
            && self.folders.iter().all(lists)
            && self.identities.iter().all(is)
            && self.refused.iter().all(refuses)
    }

    /// As a file in memory.
    ///
    /// # Errors
    /// Without memory or descriptors.
    pub(crate) fn to_memory(&self) -> std::io::Result<OwnedFd> {
        let bytes = rmp_serde::to_vec(self).map_err(std::io::Error::other)?;
        let file = inherit::memory_file("relume-config").map_err(std::io::Error::other)?;
        let mut file = std::fs::File::from(file);
        file.write_all(&bytes)?;
        Ok(file.into())
    }

    /// Out of a file in memory.
    pub(crate) fn from_memory(file: &OwnedFd) -> Option<Self> {
        let file = std::fs::File::from(file.try_clone().ok()?);
        let length = usize::try_from(file.metadata().ok()?.len()).ok()?;
        let mut bytes = vec![0; length];
        // Other processes read it too, and have the place in it in common.
        file.read_exact_at(&mut bytes, 0).ok()?;
        rmp_serde::from_slice(&bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_reads_the_same_without_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, "{}").unwrap();
        let recorder = Recorder::new(crate::config_files::Disk);
        let listed = recorder.list(folder.path()).unwrap();
        recorder.read(&path, 100).unwrap();
        let identity = recorder.identity(&path);
        let recording = recorder.finish();
        drop(folder);
        let again = Recording::from_memory(&recording.to_memory().unwrap()).unwrap();
        assert_eq!(again, recording);
        assert_eq!(again.read(&path, 100).unwrap(), b"{}");
        assert_eq!(again.list(path.parent().unwrap()).unwrap(), listed);
        assert_eq!(again.identity(&path), identity);
        let folder = again.read(path.parent().unwrap(), 1).unwrap_err();
        assert_eq!(folder.kind, FileErrorKind::Directory);
        let missing = again.read(Path::new("/nowhere"), 1).unwrap_err();
        assert_eq!(missing.kind, FileErrorKind::NotFound);
    }

    #[test]
    fn what_was_not_there_and_comes_is_noticed_like_what_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (read, missing) = (folder.path().join("a.json"), folder.path().join("b.env"));
        std::fs::write(&read, "{}").unwrap();
        let recorder = Recorder::new(crate::config_files::Disk);
        recorder.read(&read, 100).unwrap();
        recorder.read(&missing, 100).unwrap_err();
        let recording = recorder.finish();
        let is_still = || recording.is_still(&crate::config_files::Disk);
        assert!(is_still());
        for text in ["", "A=b"] {
            std::fs::write(&missing, text).unwrap();
            assert!(!is_still(), "{text:?}");
        }
        std::fs::remove_file(&missing).unwrap();
        assert!(is_still());
        std::fs::write(&read, "{ }").unwrap();
        assert!(!is_still());
    }
}
