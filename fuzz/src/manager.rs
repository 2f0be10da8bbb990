//! Parsers of the program itself, which is no library: its files are compiled in here as they are.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs, reason = "only their parsers are called")]

use std::cell::RefCell;

// What the files that are compiled in use.
use rmp_serde as _;
use rustix as _;

#[path = "../../crates/relume/src/manager/journal/mod.rs"]
mod journal_file;
#[path = "../../crates/relume/src/guardian/link.rs"]
mod link;

pub(crate) mod ready;

/// A journal that an earlier manager has left, or somebody else.
pub fn journal(bytes: &[u8]) {
    use journal_file::Journal;
    thread_local!(static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) });
    FOLDER.with_borrow_mut(|folder| {
        let Ok(made) = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()) else { return };
        let folder = folder.get_or_insert(made);
        let path = folder.path().join("journal");
        // A boot id, so that more than the first comparison is tried.
        let mut file = bytes.to_vec();
        let boot = relume_os::clock::boot_id().unwrap_or_default();
        if let Some(place) = file.get_mut(64..64 + boot.len()) {
            place.copy_from_slice(boot.as_bytes());
        }
        if std::fs::write(&path, &file).is_err() {
            return;
        }
        let opened = Journal::open(&path, 1);
        if let Ok((mut journal, remains)) = opened {
            if let Some(remains) = &remains {
                let _told = remains.past.read();
                let _written = journal.checkpoint(&remains.snapshot, &remains.runs);
            }
        }
        let _gone = std::fs::remove_file(&path);
    });
}

/// A message between guardian and manager.
pub fn channel(bytes: &[u8]) {
    let Ok((near, far)) = relume_os::channel::Channel::pair() else { return };
    if matches!(near.send(bytes, &[]), Ok(true)) {
        let _word = link::receive(&far);
    }
    let text = String::from_utf8_lossy(bytes);
    let _number = link::number::<u32>(&text, "EXITED");
    if let Some(name) = link::value(&text, "FDNAME") {
        assert_eq!(link::value(&link::keep(name), "FDNAME"), Some(name));
    }
}
