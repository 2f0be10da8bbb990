//! A container's output, passed on byte for byte, and the note up to where.
//!
//! The engine stamps each record when asked; the stamp of the last one that was passed on is noted in a file, so that
//! the shim after one that was killed goes on behind it. A kill between the writing and the note repeats one record.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use futures_util::StreamExt;
use jiff::Timestamp;

use super::super::say;

/// Where the output was left.
pub(super) struct Output {
    /// Kept open: a note is one write, so no kill leaves half of one. None where there is no place for it.
    cursor: Option<File>,
    place: Option<Place>,
    /// What is passed over because it was passed on before: records up to here.
    over: Option<Place>,
}

/// A record of the output. Some engines stamp to the second only, so it is counted within its stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    at: Timestamp,
    /// How many records of this stamp were passed on, this one among them.
    count: u64,
}

/// Bytes of a note: a stamp, a number, blanks.
const NOTE: usize = 64;

impl Output {
    /// From the beginning of a container; the note of an earlier one is void.
    pub(super) fn fresh(cursor: &Path) -> Self {
        let _none = std::fs::remove_file(cursor);
        Self { cursor: open(cursor), place: None, over: None }
    }

    /// Behind what an earlier shim has passed on; from now on where it has left no note.
    pub(super) fn again(cursor: &Path) -> Self {
        let noted = std::fs::read_to_string(cursor).ok().and_then(|text| Place::read(&text));
        if noted.is_none() {
            say(
                "where its output was left is not known: what it printed meanwhile is in the engine's own log only",
            );
        }
        let place = noted.unwrap_or(Place { at: Timestamp::now(), count: u64::MAX });
        Self { cursor: open(cursor), place: Some(place), over: None }
    }

    /// Passes on what there is and what comes, until the container's output ends or the engine breaks off.
    pub(super) async fn pass_on(&mut self, api: &Docker, id: &str, follow: bool) {
        self.over = self.place.map(|place| Place { count: 0, ..place });
        // The engine counts in whole seconds: what was passed on of the same second is passed over.
        let since = self.place.map_or(0, |place| i32::try_from(place.at.as_second()).unwrap_or(0));
        let options = LogsOptions {
            follow,
            stdout: true,
            stderr: true,
            since,
            timestamps: true,
            ..LogsOptions::default()
        };
        let mut records = std::pin::pin!(api.logs(id, Some(options)));
        while let Some(Ok(record)) = records.next().await {
            self.record(record);
        }
    }

    fn record(&mut self, record: LogOutput) {
        let to_stderr = matches!(record, LogOutput::StdErr { .. });
        let bytes = record.into_bytes();
        let (at, rest) = stamped(&bytes);
        if at.is_some_and(|at| self.is_old(at)) {
            return;
        }
        // A reader that is gone comes back with the next manager; the pipe outlives it.
        let _lost =
            if to_stderr { whole(&mut std::io::stderr(), rest) } else { whole(&mut std::io::stdout(), rest) };
        if let Some(at) = at {
            let before = self.place.filter(|place| place.at == at).map_or(0, |place| place.count);
            let place = Place { at, count: before.saturating_add(1) };
            self.place = Some(place);
            self.note(place);
        }
    }

    /// Whether a record is one of those that were passed on before; they come first.
    fn is_old(&mut self, at: Timestamp) -> bool {
        let (Some(over), Some(place)) = (&mut self.over, self.place) else { return false };
        if at == place.at && over.count < place.count {
            over.count += 1;
            return true;
        }
        if at >= place.at {
            self.over = None;
        }
        at < place.at
    }

    fn note(&self, place: Place) {
        let Some(cursor) = &self.cursor else { return };
        // A note that cannot be written makes the next shim repeat a little.
        let _unnoted = cursor.write_all_at(place.note().as_bytes(), 0);
    }
}

impl Place {
    fn note(self) -> String {
        let text = format!("{} {}", self.at, self.count);
        format!("{text:<width$}\n", width = NOTE - 1)
    }

    fn read(text: &str) -> Option<Self> {
        let (at, count) = text.trim().split_once(' ')?;
        Some(Self { at: at.parse().ok()?, count: count.trim().parse().ok()? })
    }
}

fn open(cursor: &Path) -> Option<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(cursor).ok()
}

fn whole(to: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

/// A record's stamp and the rest of it; all of it where there is none.
fn stamped(bytes: &[u8]) -> (Option<Timestamp>, &[u8]) {
    let Some(space) = bytes.iter().position(|byte| *byte == b' ') else { return (None, bytes) };
    let at = std::str::from_utf8(&bytes[..space]).ok().and_then(|text| text.parse().ok());
    match at {
        Some(at) => (Some(at), &bytes[space + 1..]),
        None => (None, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> LogOutput {
        LogOutput::StdOut { message: bytes::Bytes::copy_from_slice(text.as_bytes()) }
    }

    #[test]
    fn a_stamp_is_taken_off_and_a_record_without_one_is_left_alone() {
        let (at, rest) = stamped(b"2026-01-02T03:04:05.000000006Z a b\n");
        assert_eq!(at.map(|at| at.subsec_nanosecond()), Some(6));
        assert_eq!(rest, b"a b\n");
        assert_eq!(stamped(b"no stamp\n"), (None, &b"no stamp\n"[..]));
    }

    #[test]
    fn a_shim_goes_on_behind_the_last_record_of_the_one_before_it_though_stamps_repeat() {
        let dir = tempfile::tempdir().unwrap();
        let cursor = dir.path().join("cursor");
        let mut first = Output::fresh(&cursor);
        let stamps = ["2026-01-02T03:04:04Z \n", "2026-01-02T03:04:05Z \n", "2026-01-02T03:04:05Z \n"];
        stamps.into_iter().for_each(|stamp| first.record(record(stamp)));
        let mut second = Output::again(&cursor);
        assert_eq!(second.place, first.place);
        second.over = second.place.map(|place| Place { count: 0, ..place });
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let again = ["2026-01-02T03:04:04Z", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"];
        assert!(again.into_iter().all(|stamp| second.is_old(at(stamp))));
        assert!(!second.is_old(at("2026-01-02T03:04:05Z")), "a third of the same stamp is new");
        second.record(record("2026-01-02T03:04:05Z \n"));
        assert_eq!(Output::again(&cursor).place.map(|place| place.count), Some(3));
    }
}
