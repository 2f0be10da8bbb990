//! Where in a log showing begins: so many lines before its end, or at a time.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::log_files::chain::{self, BLOCK, LogFile};
use crate::log_files::{Lines, times};

/// So many lines before the end; `u64::MAX`: from the very beginning.
pub(super) fn at_last(lines: &mut Lines, wanted: u64) -> io::Result<()> {
    if wanted == 0 {
        return lines.begin_at_end();
    }
    let mut missing = wanted;
    let mut begin = None;
    for log in chain::open_all(lines.path())? {
        let (start, found) = start_of_last(&log, missing)?;
        begin = Some((log, start));
        missing -= found.min(missing);
        if missing == 0 {
            break;
        }
    }
    begin.map_or(Ok(()), |(log, start)| lines.begin(log, start))
}

/// At the first line that was written at this time (nanoseconds since 1970) or later, as far as the index knows.
pub(super) fn at_time(lines: &mut Lines, since: i64) -> io::Result<()> {
    let mut begin = None;
    for log in chain::open_all(lines.path())? {
        match times::index_of(lines.path(), log.original()) {
            Some(index) => {
                let first = index.records().iter().find(|record| record.is_output());
                if first.is_some_and(|first| first.at < since) {
                    let start = match index.offset_at(since) {
                        Some(start) => start,
                        None if log.packing.is_none() => log.length()?,
                        // Nothing in it is late enough: what follows is.
                        None => break,
                    };
                    begin = Some((log, start));
                    break;
                }
            }
            None if log.written()? < wall(since) => break,
            None => {}
        }
        begin = Some((log, 0));
    }
    match begin {
        Some((log, start)) => lines.begin(log, start),
        None => lines.begin_at_end(),
    }
}

/// The last run that has written into this log; `None`: no index knows of one.
pub(super) fn last_run(log: &Path) -> io::Result<Option<u32>> {
    for file in chain::open_all(log)? {
        let index = times::index_of(log, file.original());
        if let Some(run) = index.and_then(|index| index.records().iter().map(|record| record.run).max()) {
            return Ok(Some(run));
        }
    }
    Ok(None)
}

fn wall(ns: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}

/// Where the last `lines` lines begin, and how many there are if they are fewer.
fn start_of_last(log: &LogFile, lines: u64) -> io::Result<(u64, u64)> {
    if lines == u64::MAX {
        return Ok((0, 0));
    }
    if log.packing.is_some() { search_forward(log, lines) } else { search_backward(log, lines) }
}

fn search_backward(log: &LogFile, lines: u64) -> io::Result<(u64, u64)> {
    let end = log.length()?;
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
    Ok((0, if end == 0 { 0 } else { found + 1 }))
}

/// A compressed file has no end that could be begun at.
fn search_forward(log: &LogFile, lines: u64) -> io::Result<(u64, u64)> {
    let log = LogFile { file: log.file.try_clone()?, index: None, ..*log };
    let mut reader = log.reader(0)?;
    let mut block = vec![0; BLOCK];
    let mut starts = VecDeque::new();
    let mut at_start = true;
    loop {
        let before = reader.offset;
        let read = reader.read(&mut block)?;
        if read == 0 {
            break;
        }
        for (index, byte) in block[..read].iter().enumerate() {
            if at_start {
                starts.push_back(before + index as u64);
                if starts.len() as u64 > lines {
                    starts.pop_front();
                }
            }
            at_start = *byte == b'\n';
        }
    }
    Ok((starts.front().copied().unwrap_or(0), starts.len() as u64))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;
    use crate::log_files::Item;
    use crate::output_index::Channel;

    fn gzip(text: &str) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    }

    /// The last `lines` lines of a log with these files, newest first; a number in front: how it is compressed.
    fn last(files: &[&str], lines: u64) -> String {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("web.log");
        for (number, text) in files.iter().enumerate() {
            let path = chain::path_of(&log, number).display().to_string();
            match (text.strip_prefix("gzip:"), text.strip_prefix("zstd:")) {
                (Some(text), _) => fs::write(format!("{path}.gz"), gzip(text)).unwrap(),
                (_, Some(text)) => {
                    let level = ruzstd::encoding::CompressionLevel::Fastest;
                    fs::write(
                        format!("{path}.zst"),
                        ruzstd::encoding::compress_to_vec(text.as_bytes(), level),
                    )
                    .unwrap();
                }
                (None, None) => fs::write(path, text).unwrap(),
            }
        }
        let mut log = Lines::new(log, Channel::Out);
        at_last(&mut log, lines).unwrap();
        let mut shown = String::new();
        let mut show = |item: Item| {
            let Item::Line(line) = item else { panic!("{item:?}") };
            shown.push_str(&String::from_utf8(line.bytes).unwrap());
            shown.push_str(if line.piece.last { "\n" } else { "" });
        };
        while let Some(item) = log.next().unwrap() {
            show(item);
        }
        if let Some(item) = log.take_partial() {
            show(item);
        }
        shown
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
    fn compressed_files_are_part_of_the_log() {
        assert_eq!(last(&["d\n", "gzip:b\nc\n", "zstd:a\n"], 2), "c\nd\n");
        assert_eq!(last(&["e\n", "d\n", "gzip:b\nc\n", "zstd:a\n"], 5), "a\nb\nc\nd\ne\n");
        assert_eq!(last(&["d\n", "gzip:b\nc\n", "zstd:a\n"], u64::MAX), "a\nb\nc\nd\n");
    }

    #[test]
    fn lines_longer_than_a_block_are_whole() {
        let long = format!("{}\n{}\n", "x".repeat(3 * BLOCK), "y".repeat(BLOCK));
        assert_eq!(last(&[&long], 1), format!("{}\n", "y".repeat(BLOCK)));
        assert_eq!(last(&[&long], 2), long);
    }
}
