//! The configuration as the trial has read it, for the successor of the same program: to read it anew would be half of the time in
//! which nobody supervises. The trial writes it into a file in memory, with the identity of its program in front; a successor
//! that is another program, or is not given it, or does not understand it, reads the recording.

use std::fs::File;
use std::io::Write;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use relume_config::{Config, Prepared};

use crate::roles::{PREPARED, RUNNING_IMAGE, Role};

/// Where the trial finds the file.
pub(super) const PREPARED_FD: RawFd = 4;

/// In the trial: leaves the configuration for the successor. Without it that one reads it itself.
pub(crate) fn leave(config: &Config) {
    let Some(file) = told(Role::Trial) else { return };
    // A path that is no text cannot be written down.
    if let (Some(mut bytes), Ok(config)) = (identity(), rmp_serde::to_vec(&Prepared::from(config))) {
        bytes.extend(config);
        let _without = File::from(file).write_all(&bytes);
    }
}

/// In the successor: what the trial has left.
pub(crate) fn take() -> Option<Config> {
    let file = File::from(told(Role::Manager)?);
    let length = usize::try_from(file.metadata().ok()?.len()).ok()?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let rest = bytes.strip_prefix(identity()?.as_slice())?;
    rmp_serde::from_slice::<Prepared>(rest).ok()?.config()
}

/// The file that was left for a process of this part. To be called once.
fn told(role: Role) -> Option<OwnedFd> {
    let number = std::env::var(PREPARED).ok()?.parse().ok().filter(|number| *number > 2)?;
    (Role::of_this_process() == role).then_some(())?;
    relume_os::exec::take_inherited(number).ok()
}

/// Which file this program is: one that was put in its place since has another.
fn identity() -> Option<Vec<u8>> {
    let meta = std::fs::metadata(RUNNING_IMAGE).ok()?;
    let words = (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec());
    Some(format!("{words:?}\n").into_bytes())
}
