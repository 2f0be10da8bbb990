//! The configuration as a process of relume has read it, for another of the same program: to read it anew would be half of the time in
//! which nobody supervises. It is written into a file in memory, with the identity of the program in front; one that is another program,
//! or is not given it, or does not understand it, reads what it was read from.
//!
//! There are two roads. A *trial* leaves it for the manager that it proves. Whoever has read the files keeps it beside the
//! [recording](crate::recorded), with the guardian, for the manager after the next `kill -9`: as long as the files are what was recorded.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use relume_config::{Config, Diagnostics, Prepared};
use relume_os::{exec, inherit};

use crate::config_files::Disk;
use crate::recorded::Recording;
use crate::roles::{KEPT_CONFIG, PREPARED, RUNNING_IMAGE, Role};

/// Where the trial finds the file.
pub(crate) const PREPARED_FD: RawFd = 4;

/// Where guardian and manager find what was recorded of the last configuration, and the same prepared.
pub(crate) const KEPT_FDS: [RawFd; 2] = [6, 7];

/// A configuration that need not be read.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) config: Config,
    /// Where it stands.
    pub(crate) file: OwnedFd,
}

/// What a configuration was read from, and the configuration, each as a file in memory.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) recording: OwnedFd,
    /// None: it has to be read.
    pub(crate) prepared: Option<OwnedFd>,
}

impl Written {
    /// Without memory for it a successor has the one before.
    pub(crate) fn of(recording: &Recording, prepared: Option<OwnedFd>) -> Option<Self> {
        Some(Self { recording: recording.to_memory().ok()?, prepared })
    }

    /// All there is, the recording first.
    pub(crate) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        std::iter::once(self.recording.as_fd()).chain(self.prepared.as_ref().map(AsFd::as_fd)).collect()
    }
}

/// In the trial: leaves the configuration for the successor. Without it that one reads it itself.
pub(crate) fn leave(config: &Config) {
    if let (Some(file), Some(bytes)) = (told(Role::Trial), bytes(config)) {
        let _without = File::from(file).write_all(&bytes);
    }
}

/// In the successor: what the trial has left.
pub(crate) fn take() -> Option<Ready> {
    read(told(Role::Manager)?)
}

/// As a file in memory. None where it has to be read each time: there is something to be said of it, or no room.
pub(crate) fn to_memory(config: &Config, warnings: &Diagnostics) -> Option<OwnedFd> {
    let bytes = warnings.0.is_empty().then(|| bytes(config)).flatten()?;
    let mut file = File::from(inherit::memory_file("relume-prepared").ok()?);
    file.write_all(&bytes).ok()?;
    Some(file.into())
}

/// The descriptors that were left for a process of this part, the recording first. To be called once.
pub(crate) fn kept() -> Option<[OwnedFd; 2]> {
    std::env::var_os(KEPT_CONFIG)?;
    let [recording, prepared] = KEPT_FDS.map(exec::take_inherited);
    Some([recording.ok()?, prepared.ok()?])
}

/// The last configuration, if it is what reading the files would give now.
pub(crate) fn still_valid() -> Option<(Recording, Ready)> {
    let [recording, prepared] = kept()?;
    let recording = Recording::from_memory(&recording).filter(|recording| recording.is_still(&Disk))?;
    Some((recording, read(prepared)?))
}

fn bytes(config: &Config) -> Option<Vec<u8>> {
    let mut bytes = identity()?;
    // A path that is no text cannot be written down.
    rmp_serde::encode::write(&mut bytes, &Prepared::from(config)).ok()?;
    Some(bytes)
}

fn read(file: OwnedFd) -> Option<Ready> {
    let file = File::from(file);
    let length = usize::try_from(file.metadata().ok()?.len()).ok()?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let rest = bytes.strip_prefix(identity()?.as_slice())?;
    let config = rmp_serde::from_slice::<Prepared>(rest).ok()?.config()?;
    Some(Ready { config, file: file.into() })
}

/// The file that was left for a process of this part. To be called once.
fn told(role: Role) -> Option<OwnedFd> {
    let number = std::env::var(PREPARED).ok()?.parse().ok().filter(|number| *number > 2)?;
    (Role::of_this_process() == role).then_some(())?;
    exec::take_inherited(number).ok()
}

/// Which file this program is: one that was put in its place since has another.
fn identity() -> Option<Vec<u8>> {
    let meta = std::fs::metadata(RUNNING_IMAGE).ok()?;
    let words = (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec());
    Some(format!("{words:?}\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(dir: &std::path::Path, text: &str) -> relume_config::Loaded {
        let path = dir.join("relume.yaml");
        std::fs::write(&path, text).unwrap();
        let options = relume_config::Options {
            current_dir: dir.to_owned(),
            paths: vec![path],
            environment: std::collections::BTreeMap::new(),
            overrides: Vec::new(),
            manager_only: false,
            show_secrets: false,
        };
        relume_config::load(&Disk, &options)
    }

    const WEB: &str = "services:\n  web:\n    command: sleep 1000\n";

    #[test]
    fn what_was_written_is_read_again_by_the_same_program_only() {
        let dir = tempfile::tempdir().unwrap();
        let loaded = load(dir.path(), WEB);
        let written = to_memory(&loaded.config, &Diagnostics::default()).unwrap();
        let other = File::from(written.try_clone().unwrap());
        let again = read(written).unwrap().config;
        assert_eq!(again.services.len(), 1);
        assert_eq!(again.services[0].spec, loaded.config.services[0].spec);
        // The first byte of the program's identity.
        other.write_at(b"x", 0).unwrap();
        assert!(read(other.into()).is_none());
    }

    #[test]
    fn what_has_to_be_warned_of_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let config = load(dir.path(), WEB).config;
        let odd = load(dir.path(), "manager:\n  no_such_key: 1\nservices: {}\n").diagnostics;
        assert!(!odd.0.is_empty());
        assert!(to_memory(&config, &odd).is_none());
    }
}
