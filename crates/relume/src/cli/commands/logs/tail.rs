//! The last lines of a log, over its rotated files.

use std::io;
use std::os::unix::fs::FileExt;

use super::chain::{self, LogFile};
use super::follow::{Follower, Position};

/// Bytes read at once.
pub(super) const BLOCK: usize = 64 << 10;

/// Shows the last `lines` lines and leaves the follower behind them. False: nobody reads any more.
pub(super) fn show(
    follower: &mut Follower,
    lines: u64,
    emit: &mut dyn FnMut(&[u8]) -> bool,
) -> io::Result<bool> {
    let chain = chain::open_all(follower.path())?;
    let mut missing = lines;
    let mut pieces: Vec<(&LogFile, u64, u64)> = Vec::new();
    for log in &chain {
        let end = log.length()?;
        let (start, found) = start_of_last(log, end, missing)?;
        pieces.push((log, start, end));
        missing -= found.min(missing);
        if missing == 0 {
            break;
        }
    }
    for (log, start, end) in pieces.iter().rev() {
        if !copy(log, *start, *end, emit)? {
            return Ok(false);
        }
    }
    let end = pieces.first().map(|&(_, _, end)| end);
    if let (Some(newest), Some(offset)) = (chain.into_iter().next(), end) {
        follower.begin(Position { log: newest, offset });
    }
    Ok(true)
}

/// Where the last `lines` lines before `end` begin, and how many there are if they are fewer.
fn start_of_last(log: &LogFile, end: u64, lines: u64) -> io::Result<(u64, u64)> {
    if lines == 0 || end == 0 {
        return Ok((end, 0));
    }
    if lines == u64::MAX {
        return Ok((0, 0));
    }
    let mut block = vec![0; BLOCK];
    let mut found = 0;
    let mut at = end;
    while at > 0 {
        let size = at.min(BLOCK as u64);
        at -= size;
        let part = &mut block[..usize::try_from(size).unwrap_or(BLOCK)];
        log.file.read_exact_at(part, at)?;
        for (index, byte) in part.iter().enumerate().rev() {
            let after = at + index as u64 + 1;
            // The line end at the very end closes the last line; it begins none.
            if *byte == b'\n' && after < end {
                found += 1;
                if found == lines {
                    return Ok((after, found));
                }
            }
        }
    }
    Ok((0, found + 1))
}

fn copy(log: &LogFile, mut from: u64, to: u64, emit: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<bool> {
    let mut block = vec![0; BLOCK];
    while from < to {
        let size = usize::try_from(to - from).unwrap_or(BLOCK).min(BLOCK);
        let read = log.file.read_at(&mut block[..size], from)?;
        if read == 0 {
            break; // truncated meanwhile
        }
        from += read as u64;
        if !emit(&block[..read]) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The last `lines` lines of a log with these files, newest first.
    fn last(files: &[&str], lines: u64) -> String {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("web.log");
        for (number, text) in files.iter().enumerate() {
            fs::write(chain::path_of(&log, number), text).unwrap();
        }
        let mut shown = Vec::new();
        let mut emit = |bytes: &[u8]| {
            shown.extend_from_slice(bytes);
            true
        };
        assert!(show(&mut Follower::new(log), lines, &mut emit).unwrap());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn so_many_lines_are_shown_as_were_asked_for() {
        assert_eq!(last(&["a\nb\nc\n"], 2), "b\nc\n");
        assert_eq!(last(&["a\nb\nc\n"], 3), "a\nb\nc\n");
        assert_eq!(last(&["a\nb\nc\n"], 9), "a\nb\nc\n");
        assert_eq!(last(&["a\nb\nc\n"], 0), "");
        assert_eq!(last(&["a\nb\nc\n"], u64::MAX), "a\nb\nc\n");
        assert_eq!(last(&[""], 5), "");
    }

    #[test]
    fn a_line_without_an_end_is_a_line() {
        assert_eq!(last(&["a\nb"], 1), "b");
        assert_eq!(last(&["a\n\n"], 1), "\n");
    }

    #[test]
    fn lines_that_were_rotated_away_are_shown_before_the_others() {
        assert_eq!(last(&["d\n", "b\nc\n", "a\n"], 2), "c\nd\n");
        assert_eq!(last(&["", "b\nc\n", "a\n"], 3), "a\nb\nc\n");
        assert_eq!(last(&["d\n", "b\nc\n", "a\n"], u64::MAX), "a\nb\nc\nd\n");
    }

    #[test]
    fn lines_longer_than_a_block_are_whole() {
        let long = format!("{}\n{}\n", "x".repeat(3 * BLOCK), "y".repeat(BLOCK));
        assert_eq!(last(&[&long], 1), format!("{}\n", "y".repeat(BLOCK)));
        assert_eq!(last(&[&long], 2), long);
    }
}
