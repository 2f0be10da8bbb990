//! Log files as they are read: by `relume logs`, by `up --follow`, and by whatever forwards them.
//!
//! A log is a [`chain`] of files: `web.log`, then `web.log.1`, `web.log.2.gz` … as rotation left them. A [`Lines`]
//! walks along it: each file is read to its end through the descriptor that is open, whatever it is called by then,
//! and only then left for its successor. Lines carry what the index beside the log knows of them ([`times`]): when
//! they were written, by which run; what happened to runs stands between them as marks.
//!
//! A [`Cursor`] is a place in a log that can be kept: which file (by identity, and by its first bytes, because
//! compression makes another file of it and numbers of inodes are used again) and how far. What stood between a
//! cursor and the oldest file that is left is a gap, and its size is known from what was seen of the files before.
//!
//! It must never: change a file; hold a whole file in memory; take a file of another log for one of this.

pub(crate) mod chain;
pub(crate) mod cursor;
pub(crate) mod lines;
mod stored;
pub(crate) mod times;

pub(crate) use chain::LogFile;
pub(crate) use cursor::{Cursor, Place, hash};
#[cfg(test)]
pub(crate) use lines::Piece;
pub(crate) use lines::{Item, Line, Lines, Mark};

use std::path::{Path, PathBuf};

/// The file of stderr where it is kept apart: `web.err.log` beside `web.log`.
pub(crate) fn of_stderr(log: &Path) -> PathBuf {
    let mut name = log.file_stem().unwrap_or_default().to_owned();
    name.push(".err");
    if let Some(ending) = log.extension() {
        name.push(".");
        name.push(ending);
    }
    log.with_file_name(name)
}

/// Which log a file of its folder belongs to: `web.log` for `web.log.3`, `web.log.3.gz` and `.web.log.3.index`.
pub(crate) fn log_of(name: &[u8]) -> &[u8] {
    let hidden = name.strip_prefix(b".").and_then(|name| name.strip_suffix(b".index"));
    let name = hidden.unwrap_or(name);
    let plain = chain::Packing::ALL.iter().find_map(|packing| name.strip_suffix(packing.ending().as_bytes()));
    let name = plain.filter(|plain| without_number(plain).is_some()).unwrap_or(name);
    without_number(name).unwrap_or(name)
}

fn without_number(name: &[u8]) -> Option<&[u8]> {
    let dot = name.iter().rposition(|&byte| byte == b'.')?;
    let number = &name[dot + 1..];
    (!number.is_empty() && number.iter().all(u8::is_ascii_digit)).then_some(&name[..dot])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_belongs_to_the_log_it_was_rotated_from() {
        for name in
            ["web.log", "web.log.1", "web.log.12.gz", "web.log.3.zst", ".web.log.index", ".web.log.2.index"]
        {
            assert_eq!(log_of(name.as_bytes()), b"web.log", "{name}");
        }
        assert_eq!(log_of(b"backup.gz"), b"backup.gz");
        assert_eq!(of_stderr(Path::new("/l/web.log")), Path::new("/l/web.err.log"));
    }
}
