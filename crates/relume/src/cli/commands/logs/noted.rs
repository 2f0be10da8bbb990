//! How far `up --follow` has shown each log, for the next manager: what is printed while none is there is shown by that one.
//!
//! A file in the runtime directory with a slot for each log, written after what it says has been shown. So a manager that dies
//! between the two costs nobody a line, and may cost some a second look at one; a planned respawn leaves also what could not be
//! written yet, byte for byte.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::source::Source;
use crate::log_files::chain::Identity;
use crate::log_files::{Lines, Place, hash};

/// The names of what is kept, in the runtime directory.
pub(crate) const FILES: [&str; 3] = [SLOTS, ASIDE, LEFT];
const SLOTS: &str = "followed";
const ASIDE: &str = "followed.new";
const LEFT: &str = "followed.left";

/// A slot: the hash of the log's path, device and inode of the file, and how far; 0 and 0 where there was no file.
const SLOT: usize = 32;

/// See the module's description.
pub(super) struct Noted {
    path: PathBuf,
    /// None: there is no room for it, and the next manager begins with what comes then.
    file: Option<File>,
    slots: Vec<[u8; SLOT]>,
    /// What the manager before this one has left is there still.
    left: bool,
}

/// What an earlier manager has left.
#[derive(Default)]
pub(super) struct Earlier {
    places: HashMap<u64, Option<Place>>,
    /// What it could not write any more.
    pub(super) left: Vec<u8>,
}

impl Earlier {
    /// Of the manager before this one.
    pub(super) fn of(runtime_dir: &Path) -> Self {
        let slots = fs::read(runtime_dir.join(SLOTS)).unwrap_or_default();
        let (slots, _torn) = slots.as_chunks::<SLOT>();
        let left = fs::read(runtime_dir.join(LEFT)).unwrap_or_default();
        Self { places: slots.iter().map(read).collect(), left }
    }

    /// Goes on where it was, else with what comes from now on.
    pub(super) fn source(&self, lines: Lines) -> io::Result<Source> {
        match self.places.get(&key(lines.path())) {
            Some(place) => Source::from_place(lines, *place),
            None => Source::from_now(lines),
        }
    }
}

impl Noted {
    /// For these sources, from now on.
    pub(super) fn begin(runtime_dir: &Path, sources: &[Source]) -> Self {
        let path = runtime_dir.join(SLOTS);
        let slots: Vec<_> = sources.iter().map(slot).collect();
        // Whole, or as it was: a manager can die here too.
        let aside = runtime_dir.join(ASIDE);
        let file = fs::write(&aside, slots.concat())
            .and_then(|()| fs::rename(&aside, &path))
            .and_then(|()| File::options().write(true).open(&path))
            .inspect_err(|_| {
                // What an earlier manager has noted is not true any more, and would be shown again.
                let _gone = [&aside, &path].map(fs::remove_file);
            })
            .ok();
        Self { path, file, slots, left: true }
    }

    /// All that these have given is shown, and what was left before.
    pub(super) fn shown(&mut self, sources: &[Source]) {
        if std::mem::take(&mut self.left) {
            let _taken = fs::remove_file(self.path.with_file_name(LEFT));
        }
        let Some(file) = &self.file else { return };
        for (number, source) in sources.iter().enumerate() {
            let new = slot(source);
            let old = self.slots.get_mut(number);
            if old.as_deref() == Some(&new) {
                continue;
            }
            if file.write_all_at(&new, (number * SLOT) as u64).is_err() {
                // What is not true any more would be shown again.
                let _without = fs::remove_file(&self.path);
                self.file = None;
                return;
            }
            match old {
                Some(old) => *old = new,
                None => self.slots.push(new),
            }
        }
    }

    /// `left`: and this could not be written any more.
    pub(super) fn leave(mut self, sources: &[Source], left: &[u8]) {
        if !left.is_empty() {
            // First: a manager that dies here shows it once more.
            let _without = fs::write(self.path.with_file_name(LEFT), left);
            self.left = false;
        }
        self.shown(sources);
    }
}

fn key(path: &Path) -> u64 {
    hash(path.as_os_str().as_bytes())
}

fn slot(source: &Source) -> [u8; SLOT] {
    let Place { file: Identity(dev, ino), offset } =
        source.place().unwrap_or(Place { file: Identity(0, 0), offset: 0 });
    let mut slot = [0; SLOT];
    for (part, word) in slot.as_chunks_mut::<8>().0.iter_mut().zip([key(source.path()), dev, ino, offset]) {
        *part = word.to_le_bytes();
    }
    slot
}

fn read(slot: &[u8; SLOT]) -> (u64, Option<Place>) {
    let word =
        |number: usize| slot.as_chunks::<8>().0.get(number).map_or(0, |word| u64::from_le_bytes(*word));
    let place = Place { file: Identity(word(1), word(2)), offset: word(3) };
    (word(0), (place.file != Identity(0, 0)).then_some(place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_files::Item;
    use crate::output_index::Channel;

    fn lines(path: &Path) -> Lines {
        Lines::new(path.to_owned(), Channel::Out)
    }

    fn next(source: &mut Source) -> Option<String> {
        match source.lines.next().unwrap()? {
            Item::Line(line) => Some(String::from_utf8(line.bytes).unwrap()),
            Item::Mark(_) | Item::Gap(_) => None,
        }
    }

    #[test]
    fn the_next_one_goes_on_where_each_log_was_shown_to_also_after_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, c) = (dir.path().join("a.log"), dir.path().join("b.log"), dir.path().join("c.log"));
        fs::write(&a, "old\n").unwrap();
        let fresh = Earlier::of(dir.path());
        let mut sources: Vec<Source> = [&a, &b].map(|path| fresh.source(lines(path)).unwrap()).into();
        let mut noted = Noted::begin(dir.path(), &sources);
        fs::write(&a, "old\nshown\n").unwrap();
        assert_eq!(next(&mut sources[0]).as_deref(), Some("shown"));
        noted.shown(&sources);
        // Nobody is there now.
        fs::write(&a, "old\nshown\nrotated\n").unwrap();
        fs::rename(&a, dir.path().join("a.log.1")).unwrap();
        fs::write(&a, "after\n").unwrap();
        fs::write(&b, "first\n").unwrap();
        fs::write(&c, "of nobody's interest\n").unwrap();
        let earlier = Earlier::of(dir.path());
        let mut sources = [&a, &b, &c].map(|path| earlier.source(lines(path)).unwrap());
        let seen: Vec<_> = [0, 0, 0, 1, 1, 2].map(|number: usize| next(&mut sources[number])).into();
        let seen: Vec<_> = seen.iter().map(Option::as_deref).collect();
        assert_eq!(seen, [Some("rotated"), Some("after"), None, Some("first"), None, None]);
    }

    #[test]
    fn where_nothing_can_be_noted_nothing_old_stays() {
        let dir = tempfile::tempdir().unwrap();
        Noted::begin(dir.path(), &[]);
        // In the place of the new file, as good as a full disk.
        fs::create_dir(dir.path().join(ASIDE)).unwrap();
        assert!(Noted::begin(dir.path(), &[]).file.is_none());
        assert!(!dir.path().join(SLOTS).exists());
    }

    #[test]
    fn what_could_not_be_written_is_left_once() {
        let dir = tempfile::tempdir().unwrap();
        Noted::begin(dir.path(), &[]).leave(&[], b"half a li");
        let mut next = Noted::begin(dir.path(), &[]);
        assert_eq!(Earlier::of(dir.path()).left, b"half a li", "until it is shown");
        next.shown(&[]);
        assert_eq!(Earlier::of(dir.path()).left, b"");
    }
}
