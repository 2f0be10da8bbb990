//! Starts under way, where a successor finds them: which run each spawn thread is starting, and the pid of its process from the
//! moment at which there is one.
//!
//! Between the birth of a process and the note of it in the journal a manager can die. Where there are no cgroups such a process
//! could be found by its tag alone, and has none before it executes its program, or when that program clears its environment. So
//! the kernel itself writes the pid into this file, which is mapped by the thread that starts the process.
//!
//! A file of its own, because only the supervise thread writes the journal. At 0 the boot id; from 64 on a slot for each thread:
//!
//! | at | what |
//! |---|---|
//! | 0 | the pid; 0: nothing is under way |
//! | 8 | when it began, in ticks after boot |
//! | 16 | the generation |
//! | 24 | the length of the name, then the name |

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use relume_os::clock;
use relume_os::mapping::Mapping;
use relume_os::pidfd::ProcessId;

const HEADER: usize = 64;
const SLOT: usize = 192;
/// Room for the name of an instance: 64 characters, a colon and a number.
const NAME: usize = SLOT - AT_NAME;
const AT_TICKS: usize = 8;
const AT_GENERATION: usize = 16;
const AT_LENGTH: usize = 24;
const AT_NAME: usize = 32;

/// A process begins within so many ticks of the note that it is about to: ten seconds of a machine that is busy. Whoever has the
/// pid later than that is another one.
const BEGINS_WITHIN: u64 = 1000;

/// The slot of one spawn thread.
pub(super) struct Slot {
    map: Mapping,
    at: usize,
}

/// A start that was under way when a manager died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Birth {
    pub(super) name: String,
    pub(super) generation: u64,
    pid: u32,
    ticks: u64,
}

/// Its name in the runtime directory.
pub(super) const FILE: &str = "births";

fn path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join(FILE)
}

fn open(runtime_dir: &Path, slots: usize) -> relume_os::Result<Mapping> {
    let mut map = Mapping::open(&path(runtime_dir), HEADER + slots * SLOT)?;
    let boot = clock::boot_id()?;
    if map.read(0, boot.len()) != boot.as_bytes() {
        clear(&map, slots);
        map.write(0, boot.as_bytes());
    }
    Ok(map)
}

fn clear(map: &Mapping, slots: usize) {
    (0..slots).for_each(|slot| map.publish(HEADER + slot * SLOT, 0));
}

impl Slot {
    /// The slot of thread `index` of `slots`.
    pub(super) fn open(runtime_dir: &Path, index: usize, slots: usize) -> relume_os::Result<Self> {
        let map = open(runtime_dir, slots)?;
        Ok(Self { map, at: HEADER + index.min(slots - 1) * SLOT })
    }

    /// This run is about to be started; where its pid goes.
    pub(super) fn begin(&mut self, name: &str, generation: u64) -> &AtomicU64 {
        let Self { map, at } = self;
        let name = &name.as_bytes()[..name.len().min(NAME)];
        map.publish(*at, 0);
        for (offset, value) in
            [(AT_TICKS, clock::boot_ticks()), (AT_GENERATION, generation), (AT_LENGTH, name.len() as u64)]
        {
            map.write(*at + offset, &value.to_le_bytes());
        }
        map.write(*at + AT_NAME, name);
        map.word(*at)
    }

    /// Others know of it, or it did not come to be.
    pub(super) fn end(&self) {
        self.map.publish(self.at, 0);
    }
}

/// The starts that an earlier manager of this boot had under way.
pub(super) fn left(runtime_dir: &Path) -> Vec<Birth> {
    let (Ok(bytes), Ok(boot)) = (std::fs::read(path(runtime_dir)), clock::boot_id()) else {
        return Vec::new();
    };
    let Some(slots) = bytes.get(HEADER..).filter(|_| bytes.starts_with(boot.as_bytes())) else {
        return Vec::new();
    };
    slots.chunks_exact(SLOT).filter_map(read).collect()
}

fn read(slot: &[u8]) -> Option<Birth> {
    let word = |at: usize| Some(u64::from_le_bytes(*slot.get(at..)?.first_chunk()?));
    let pid = u32::try_from(word(0)?).ok().filter(|pid| *pid > 0)?;
    let length = usize::try_from(word(AT_LENGTH)?).ok()?;
    let name = slot.get(AT_NAME..)?.get(..length)?;
    let name = String::from_utf8(name.to_vec()).ok()?;
    Some(Birth { name, generation: word(AT_GENERATION)?, pid, ticks: word(AT_TICKS)? })
}

/// All that was left is in the journal.
pub(super) fn forget(runtime_dir: &Path, slots: usize) -> relume_os::Result<()> {
    open(runtime_dir, slots).map(|map| clear(&map, slots))
}

impl Birth {
    /// Whether this is the process that was born.
    pub(super) fn is(&self, process: ProcessId) -> bool {
        // The note is taken before the birth; ticks are rounded.
        let first = self.ticks.saturating_sub(1);
        process.pid == self.pid && (first..=self.ticks + BEGINS_WITHIN).contains(&process.start_time)
    }

    /// Stands for it when nothing of it is left and nobody has seen its end.
    pub(super) fn unseen(&self) -> ProcessId {
        ProcessId { pid: self.pid, start_time: 0 }
    }

    /// The process, while it or its zombie exists.
    pub(super) fn process(&self) -> Option<ProcessId> {
        ProcessId::of(self.pid).ok()?.filter(|process| self.is(*process))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn a_start_under_way_is_found_until_it_is_done() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(left(dir.path()), []);
        let mut slot = Slot::open(dir.path(), 1, 4).unwrap();
        let word = slot.begin("web:2", 7);
        assert_eq!(left(dir.path()), [], "there is no process yet");
        word.store(u64::from(std::process::id()), Ordering::Release);
        let births = left(dir.path());
        assert_eq!((births[0].name.as_str(), births[0].generation, births.len()), ("web:2", 7, 1));
        assert_eq!(left(dir.path()), births, "to look takes nothing away");
        slot.end();
        assert_eq!(left(dir.path()), []);
    }

    #[test]
    fn whoever_has_the_pid_at_another_time_is_somebody_else() {
        let birth = Birth { name: "web".into(), generation: 1, pid: 42, ticks: 5_000 };
        let at = |start_time| birth.is(ProcessId { pid: 42, start_time });
        assert_eq!([4_998, 5_000, 5_300, 9_000].map(at), [false, true, true, false]);
        assert!(!birth.is(ProcessId { pid: 43, start_time: 5_000 }));
    }

    #[test]
    fn what_was_left_in_another_boot_and_what_makes_no_sense_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut slot = Slot::open(dir.path(), 0, 4).unwrap();
        slot.begin("web", 1).store(42, Ordering::Release);
        slot.map.write(0, b"another boot");
        assert_eq!(left(dir.path()), []);
        Slot::open(dir.path(), 0, 4).unwrap();
        assert_eq!(left(dir.path()), [], "it begins anew");
        std::fs::write(path(dir.path()), vec![0xff; 400]).unwrap();
        assert_eq!(left(dir.path()), []);
    }
}
