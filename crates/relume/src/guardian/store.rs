//! What the manager must not lose: descriptors by name.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use relume_os::channel::{MOST_BYTES, MOST_FDS};
use relume_os::inherit::Handle;
use smallvec::SmallVec;

use super::link;

/// The descriptors kept, in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Store(BTreeMap<Box<str>, SmallVec<[OwnedFd; 1]>>);

impl Store {
    /// Keeps descriptors under a name; those kept under it before are closed.
    pub(super) fn keep(&mut self, name: String, fds: Vec<OwnedFd>) {
        self.0.insert(name.into(), fds.into_iter().collect());
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
            self.0.insert(to.into(), fds);
        }
    }

    /// What is kept under a name.
    pub(super) fn get(&self, name: &str) -> Option<Vec<BorrowedFd<'_>>> {
        Some(self.0.get(name)?.iter().map(AsFd::as_fd).collect())
    }

    /// As much of what is kept under these names as one message takes: of how many names, what it says, what goes with it. Two
    /// thousand messages would be a good part of the time in which nobody supervises.
    pub(super) fn message<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
    ) -> (usize, String, Vec<BorrowedFd<'_>>) {
        let (mut taken, mut text, mut all) = (0, String::new(), Vec::new());
        for name in names {
            // What was dropped meanwhile needs no word.
            if let Some(fds) = self.0.get(name) {
                let more = link::kept(name, fds.len());
                let fits = all.len() + fds.len() <= MOST_FDS && text.len() + more.len() <= MOST_BYTES;
                if taken > 0 && !fits {
                    break;
                }
                text.push_str(&more);
                all.extend(fds.iter().map(AsFd::as_fd));
            }
            taken += 1;
        }
        (taken, text, all)
    }

    /// All names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|name| &**name)
    }

    /// All of it, for an exec.
    pub(super) fn handles(&self) -> Vec<(String, Vec<Handle>)> {
        let handles =
            |fds: &SmallVec<[OwnedFd; 1]>| fds.iter().filter_map(|fd| Handle::of(fd).ok()).collect();
        self.0.iter().map(|(name, fds)| (name.to_string(), handles(fds))).collect()
    }
}

#[cfg(test)]
mod tests {
    use relume_os::pipes::Pipe;

    use super::*;

    #[test]
    fn what_is_kept_is_handed_over_in_few_messages_whole_and_in_order() {
        let mut store = Store::default();
        let names: Vec<String> = (0..600).map(|number| format!("output/a{number:03}/1")).collect();
        for name in &names {
            let Pipe { read, write } = Pipe::new().unwrap();
            store.keep(name.clone(), vec![read, write]);
        }
        store.drop(&names[1]);
        let (mut from, mut told, mut messages) = (0, Vec::new(), 0);
        while from < names.len() {
            let (taken, text, fds) = store.message(names[from..].iter().map(String::as_str));
            assert!(text.len() <= MOST_BYTES && fds.len() <= MOST_FDS);
            let said = link::names_kept(&text).unwrap();
            assert_eq!(fds.len(), 2 * said.len());
            told.extend(said.into_iter().map(|(name, _)| name.to_owned()));
            (from, messages) = (from + taken, messages + 1);
        }
        let wanted: Vec<String> = names.iter().filter(|name| **name != names[1]).cloned().collect();
        assert_eq!((told, messages), (wanted, 5));
    }
}
