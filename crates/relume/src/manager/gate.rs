//! Threads that only show and keep what has happened wait here until somebody supervises: what they have to do for each of a
//! thousand services would take the processors from whoever makes that so.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Shut until it is opened, once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Lets all through, from now on.
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open, or for so long.
    pub(crate) fn pass_within(&self, patience: Duration) {
        let shut = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.1.wait_timeout_while(shut, patience, |open| !*open));
    }

    /// Waits until it is open.
    pub(crate) fn pass(&self) {
        let shut = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.1.wait_while(shut, |open| !*open));
    }
}
