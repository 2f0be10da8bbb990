//! Webhooks on their way, as files of the runtime directory: what a manager that dies leaves to its successor.
//!
//! # Theory of operation
//!
//! A letter is written before the first attempt to deliver it, again with the number of attempts after each that failed, and
//! removed when it was delivered or given up. So it is delivered at least once over a respawn, an upgrade and the death of
//! either half or both; twice, where somebody dies between the answer and the removal. A reboot ends it, and so does a clean
//! end of relume.
//!
//! Where it goes to is not in the letter, because the path of a webhook is often its password: it is looked up in the
//! configuration by service, place and host. One whose target is there no more, or that is too old, is given up, and that is said.
//!
//! # What it must never do
//!
//! Fail an alert: what cannot be written down is delivered all the same, by this manager. Grow without bound.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use relume_config::HttpTarget;
use relume_os::files::{self, Durability};
use relume_os::{Result, clock};
use serde::{Deserialize, Serialize};

use super::units::Units;

/// The folder of letters in the runtime directory.
const DIR: &str = "alerts";

/// Letters that are kept at the same time. More than that are a storm, of which the first say enough.
const MOST: usize = 200;

/// The longest that is kept, in bytes: the last lines of a log in a template are a tenth of it.
const LARGEST: usize = 100_000;

/// What is older than this is news to nobody: all attempts together take less than two minutes.
const OLDEST_NS: u64 = 10 * 60 * 1_000_000_000;

/// A webhook and what is known of its delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Letter {
    /// Whose alert it is.
    pub(super) service: String,
    /// Its place among the alerts of that service.
    pub(super) which: u8,
    host: String,
    port: u16,
    /// What is posted.
    pub(super) text: String,
    /// How many attempts have failed.
    pub(super) failed: usize,
    /// When it was written, in nanoseconds on CLOCK_MONOTONIC.
    began: u64,
}

impl Letter {
    pub(super) fn new(service: &str, which: u8, target: &HttpTarget, text: String) -> Self {
        let (service, host, port) = (service.to_owned(), target.host.clone(), target.port);
        Self { service, which, host, port, text, failed: 0, began: clock::monotonic_ns() }
    }

    /// Where it goes to by the configuration that holds now; none: nowhere.
    pub(super) fn target(&self, units: &Units) -> Option<HttpTarget> {
        let alerts = &units.get(&self.service)?.config.alerts;
        let of = |which: usize| -> Option<&HttpTarget> {
            let target = alerts.get(which)?.webhook.as_deref()?;
            (target.host == self.host && target.port == self.port).then_some(target)
        };
        // Alerts may have been added in front of it.
        of(self.which.into()).or_else(|| (0..alerts.len()).find_map(of)).cloned()
    }

    /// Whether it is worth being told, `now`. After a reboot the clock has begun anew.
    fn is_news(&self, now: u64) -> bool {
        now.checked_sub(self.began).is_some_and(|age| age < OLDEST_NS)
    }
}

/// Where letters are kept.
#[derive(Debug, Clone)]
pub(super) struct Shelf(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// What was written from then on is this manager's own (CLOCK_MONOTONIC).
    since: u64,
    /// How many there are.
    kept: AtomicUsize,
    /// Tells those of one nanosecond apart.
    number: AtomicU64,
}

/// A letter that was kept, by its file.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    shelf: Shelf,
}

impl Shelf {
    pub(super) fn at(runtime_dir: &Path) -> Self {
        let (kept, number) = (AtomicUsize::new(0), AtomicU64::new(0));
        let since = clock::monotonic_ns();
        Self(Arc::new(Inner { dir: runtime_dir.join(DIR), since, kept, number }))
    }

    /// Writes it down, if there is room for it. May wait for a disk.
    pub(super) fn keep(&self, letter: &Letter) -> Option<Kept> {
        let number = self.0.number.fetch_add(1, Ordering::Relaxed);
        let name = format!("{:020}-{}-{number}", clock::monotonic_ns(), std::process::id());
        let kept = self.counted(self.0.dir.join(name))?;
        kept.write(letter).ok().map(|()| kept)
    }

    /// Takes one more under the count.
    fn counted(&self, path: PathBuf) -> Option<Kept> {
        // Counted first: whatever does not become a file is dropped, and gives its place back with that.
        let before = self.0.kept.fetch_add(1, Ordering::Relaxed);
        let kept = Kept { path, shelf: self.clone() };
        (before < MOST).then_some(kept)
    }

    /// What an earlier manager has left, the oldest first, and how many of it were too old or could not be read.
    pub(super) fn take(&self) -> (Vec<(Kept, Letter)>, usize) {
        let entries = std::fs::read_dir(&self.0.dir).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| entry.path()).filter(|path| !self.is_own(path)).collect();
        paths.sort();
        let (mut letters, mut lost) = (Vec::new(), 0);
        for path in paths {
            let half_written = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            let letter = read(&path).filter(|letter| letter.is_news(clock::monotonic_ns()));
            match letter
                .filter(|_| !half_written)
                .and_then(|letter| Some((self.counted(path.clone())?, letter)))
            {
                Some(whole) => letters.push(whole),
                None => {
                    lost += usize::from(!half_written);
                    let _stays = files::remove(&path);
                }
            }
        }
        (letters, lost)
    }
}

impl Shelf {
    /// Whether this manager has written it: it has somebody who delivers it.
    fn is_own(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Half written, a letter has a dot in front.
        let mut words = name.trim_start_matches('.').split('-');
        let began = words.next().and_then(|began| began.parse::<u64>().ok());
        // The same process was perhaps another manager before, and another process may be one at the same time.
        let same = words.next().and_then(|pid| pid.parse().ok()) == Some(std::process::id());
        same && began.is_some_and(|began| began >= self.0.since)
    }
}

impl Kept {
    /// Puts what is known now in the place of what was.
    pub(super) fn write(&self, letter: &Letter) -> Result<()> {
        // Texts and numbers: this cannot fail.
        let bytes = serde_json::to_vec(letter).unwrap_or_default();
        if bytes.len() > LARGEST {
            return Ok(());
        }
        files::create_dir(&self.shelf.0.dir, 0o700)?;
        files::write_atomic(&self.path, &bytes, 0o600, Durability::Process)
    }

    /// It was delivered, or given up. May wait for a disk.
    pub(super) fn done(self) {
        let _absent = files::remove(&self.path);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.shelf.0.kept.fetch_sub(1, Ordering::Relaxed);
    }
}

fn read(path: &Path) -> Option<Letter> {
    let mut bytes = Vec::new();
    let file = std::fs::File::from(files::open_read(path).ok()?);
    let most = u64::try_from(LARGEST).unwrap_or(u64::MAX);
    std::io::Read::read_to_end(&mut std::io::Read::take(file, most), &mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// relume ends for good: nobody will deliver what is left. How much that was.
pub(super) fn abandon(runtime_dir: &Path) -> usize {
    let dir = runtime_dir.join(DIR);
    let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
    let gone = entries.filter(|entry| files::remove(&entry.path()).unwrap_or(false)).count();
    let _kept = std::fs::remove_dir(dir);
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(text: &str) -> Letter {
        let (service, host) = ("web".into(), "127.0.0.1".into());
        Letter {
            service,
            which: 0,
            host,
            port: 80,
            text: text.into(),
            failed: 0,
            began: clock::monotonic_ns(),
        }
    }

    #[test]
    fn a_letter_is_taken_up_as_it_was_last_known_until_it_is_done() {
        let home = tempfile::tempdir().unwrap();
        let shelf = Shelf::at(home.path());
        let (first, second) = (shelf.keep(&letter("one")).unwrap(), shelf.keep(&letter("two")).unwrap());
        let tried = Letter { failed: 3, ..letter("one") };
        first.write(&tried).unwrap();
        second.done();
        drop(first);
        let (found, lost) = Shelf::at(home.path()).take();
        assert_eq!((found.len(), lost), (1, 0));
        assert_eq!(found[0].1, tried);
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(&found[0].0.path).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        for (kept, _) in found {
            kept.done();
        }
        assert!(Shelf::at(home.path()).take().0.is_empty());
        assert_eq!(abandon(home.path()), 0);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "no folder stays behind");
    }

    #[test]
    fn what_is_old_broken_or_half_written_is_not_taken_up_and_gone() {
        let home = tempfile::tempdir().unwrap();
        let shelf = Shelf::at(home.path());
        let now = clock::monotonic_ns();
        for began in [now.saturating_sub(OLDEST_NS + 1), now + OLDEST_NS] {
            drop(shelf.keep(&Letter { began, ..letter("old") }).unwrap());
        }
        assert!(
            matches!(shelf.take(), (own, 0) if own.is_empty()),
            "its own have somebody who delivers them"
        );
        for (name, text) in [("broken", "{"), (".half.1.0.tmp", "{}")] {
            std::fs::write(home.path().join(DIR).join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", home.path().join(DIR).join("link")).unwrap();
        let (found, lost) = Shelf::at(home.path()).take();
        assert_eq!((found.len(), lost), (0, 4));
        assert_eq!(std::fs::read_dir(home.path().join(DIR)).unwrap().count(), 0);
        assert!(Path::new("/etc/passwd").exists());
    }

    #[test]
    fn there_is_a_bound_and_room_again_when_one_is_done() {
        let home = tempfile::tempdir().unwrap();
        let shelf = Shelf::at(home.path());
        let mut all: Vec<Kept> = (0..MOST).map(|_| shelf.keep(&letter("x")).unwrap()).collect();
        assert!(shelf.keep(&letter("one too many")).is_none());
        all.remove(0).done();
        assert!(shelf.keep(&letter("again")).is_some());
    }
}
