//! Files and directories in places where somebody else may have planted something.
//!
//! # Theory of operation
//!
//! A path is walked once, component by component, into a descriptor of its directory ([`open_dir`]); everything after that is
//! relative to the descriptor, so swapping a directory during the operation changes nothing. On the way a symbolic link is followed
//! only if it belongs to root or to ourselves; as the last component never. Files that are written to must be regular, have one name, and
//! belong to us or to the owner of their directory: so no link, hard or soft, FIFO or device makes us touch what is not ours.
//!
//! Opening never blocks (`O_NONBLOCK` until the type is known).

mod atomic;
mod dir;
mod lock;
mod open;
mod trust;

pub use atomic::{Durability, write_atomic};
pub(crate) use dir::pass_dir;
pub use dir::{create_dir, open_dir};
pub use lock::{Lock, LockError, lock};
pub use open::{
    FileId, allocate, create_regular, identify, identify_at, open_append_safe, open_read, pwrite_all, remove,
    rename, sync,
};
pub use trust::{Distrust, check_trusted};

use std::path::{Path, PathBuf};

use crate::error::{Errno, OsError, Result};

/// Splits into directory and last component; a path without one (`/`, `..`) is refused.
pub(crate) fn split(path: &Path) -> Result<(PathBuf, &std::ffi::OsStr)> {
    let Some(name) = path.file_name() else {
        return Err(OsError::at("use", path, Errno::INVAL).because("the path does not name a file"));
    };
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    Ok((parent.to_owned(), name))
}
