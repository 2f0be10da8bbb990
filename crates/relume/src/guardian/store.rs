//! What the manager must not lose: descriptors by name.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use relume_os::inherit::Handle;

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

    /// What is kept under one name is kept under another as well.
    pub(super) fn copy(&mut self, from: &str, to: &str) {
        let copied = self.0.get(from).map(|fds| fds.iter().map(OwnedFd::try_clone).collect());
        // Without room for one more descriptor the older copy is still good.
        if let Some(Ok(fds)) = copied {
            self.0.insert(to.to_owned(), fds);
        }
    }

    /// What is kept under a name.
    pub(super) fn get(&self, name: &str) -> Option<Vec<BorrowedFd<'_>>> {
        Some(self.0.get(name)?.iter().map(AsFd::as_fd).collect())
    }

    /// All names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// All of it, for an exec.
    pub(super) fn handles(&self) -> Vec<(String, Vec<Handle>)> {
        let handles = |fds: &Vec<OwnedFd>| fds.iter().filter_map(|fd| Handle::of(fd).ok()).collect();
        self.0.iter().map(|(name, fds)| (name.clone(), handles(fds))).collect()
    }
}
