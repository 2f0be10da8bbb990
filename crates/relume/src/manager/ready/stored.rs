//! Descriptors that services have stored for their next life (`FDSTORE=1`, sd_pid_notify_with_fds(3)).
//!
//! Here and with the guardian, so that they outlive a manager; given to each new process of the service as `LISTEN_FDS`, as long
//! as the service is meant to run. A service that is stopped, completed or failed for good loses them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::manager::keeper::{self, Keeper, Kept};

/// The name of a descriptor that was stored without one.
const NAMELESS: &str = "stored";

/// All that is stored, by service; shared with the spawn threads.
#[derive(Debug, Default)]
pub(crate) struct Stored(Mutex<BTreeMap<String, Vec<One>>>);

/// A descriptor.
#[derive(Debug, Clone)]
pub(crate) struct One {
    number: u64,
    name: String,
    fd: Arc<OwnedFd>,
}

/// What one datagram has to say about descriptors.
#[derive(Debug)]
pub(super) struct Sent {
    /// `FDSTOREREMOVE=1`: those of this name are not needed any more.
    pub(super) gone: bool,
    /// `FDNAME=`.
    pub(super) name: Option<String>,
    /// Those that came along.
    pub(super) fds: Vec<OwnedFd>,
}

impl Stored {
    /// What an earlier manager had, out of what the guardian has kept.
    pub(crate) fn again(kept: &mut Kept) -> Self {
        let names: Vec<String> =
            kept.keys().filter(|name| name.starts_with(keeper::STORED)).cloned().collect();
        let mut all: BTreeMap<String, Vec<One>> = BTreeMap::new();
        for kept_name in names {
            let fds = kept.remove(&kept_name).unwrap_or_default();
            let Some((service, number, name)) = keeper::stored(&kept_name) else { continue };
            let ones = fds.into_iter().map(|fd| One { number, name: name.to_owned(), fd: Arc::new(fd) });
            all.entry(service.to_owned()).or_default().extend(ones);
        }
        all.values_mut().for_each(|ones| ones.sort_by_key(|one| one.number));
        Self(Mutex::new(all))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<One>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores what there is room for among `most`; how many there was none for.
    pub(super) fn store(&self, keeper: &Keeper, service: &str, sent: Sent, most: u32) -> usize {
        let Sent { name, fds, .. } = sent;
        let mut all = self.lock();
        let ones = all.entry(service.to_owned()).or_default();
        let room = (most as usize).saturating_sub(ones.len());
        let refused = fds.len().saturating_sub(room);
        for fd in fds.into_iter().take(room) {
            let number = ones.last().map_or(1, |last| last.number + 1);
            let name = name.clone().unwrap_or_else(|| NAMELESS.to_owned());
            keeper.keep(&keeper::stored_name(service, number, &name), &[fd.as_fd()]);
            ones.push(One { number, name, fd: Arc::new(fd) });
        }
        refused
    }

    /// Forgets those of this name, or all.
    pub(super) fn forget(&self, keeper: &Keeper, service: &str, name: Option<&str>) {
        let mut all = self.lock();
        let Some(ones) = all.get_mut(service) else { return };
        ones.retain(|one| {
            let goes = name.is_none_or(|name| one.name == name);
            if goes {
                keeper.forget(&keeper::stored_name(service, one.number, &one.name));
            }
            !goes
        });
        if ones.is_empty() {
            all.remove(service);
        }
    }

    /// What a new process of the service gets.
    pub(crate) fn give(&self, service: &str) -> Vec<(String, Arc<OwnedFd>)> {
        let ones = self.lock().get(service).cloned().unwrap_or_default();
        ones.into_iter().map(|one| (one.name, one.fd)).collect()
    }
}
