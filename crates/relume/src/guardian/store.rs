//! What the manager must not lose: descriptors by name.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The descriptors kept, in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Store(BTreeMap<String, Vec<OwnedFd>>);

impl Store {
    /// Keeps descriptors under a name; those kept under it before are closed.
    pub(super) fn keep(&mut self, name: String, fds: Vec<OwnedFd>) {
        self.0.insert(name, fds);
    }

    /// Closes what is kept under a name.
    pub(super) fn drop(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// All of it.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, Vec<BorrowedFd<'_>>)> {
        self.0.iter().map(|(name, fds)| (name.as_str(), fds.iter().map(AsFd::as_fd).collect()))
    }
}
