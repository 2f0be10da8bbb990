//! The last lines of a log file, for whoever wants to know why a service has failed.
//!
//! Reads a bounded piece from the end, whatever the length of the file, and never what is no regular file.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use relume_os::files;

/// So far back from the end lines are looked for, in bytes. Longer lines lose their beginning.
const REACH: u64 = 256 << 10;

/// Longest line that is given whole, in characters.
const LONGEST: usize = 4096;

/// Up to `most` of the last lines, oldest first; what was rotated away once counts too.
pub(crate) fn of(path: &Path, most: usize) -> Vec<String> {
    let mut lines = of_file(path, most).unwrap_or_default();
    if lines.len() < most {
        let before = of_file(&rotated(path), most - lines.len()).unwrap_or_default();
        lines.splice(0..0, before);
    }
    lines
}

/// `web.log.1` of `web.log`.
fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

fn of_file(path: &Path, most: usize) -> io::Result<Vec<String>> {
    let file = std::fs::File::from(files::open_read(path)?);
    let found = file.metadata()?;
    if most == 0 || !found.is_file() {
        return Ok(Vec::new());
    }
    let start = found.len().saturating_sub(REACH);
    let mut bytes = vec![0; usize::try_from(found.len() - start).unwrap_or(0)];
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], start + read as u64)? {
            // It was cut meanwhile.
            0 => break,
            more => read += more,
        }
    }
    bytes.truncate(read);
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let lines = &lines[lines.len().saturating_sub(most)..];
    let shown =
        |line: &&[u8]| String::from_utf8_lossy(line).trim_end_matches('\r').chars().take(LONGEST).collect();
    Ok(lines.iter().map(shown).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found_over_a_rotation_and_without_an_end() {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("web.log");
        assert_eq!(of(&log, 5), Vec::<String>::new());
        std::fs::write(&log, "c\nd").unwrap();
        std::fs::write(rotated(&log), "a\nb\n").unwrap();
        assert_eq!(of(&log, 3), ["b", "c", "d"]);
        assert_eq!(of(&log, 1), ["d"]);
        std::fs::write(&log, format!("{}\nend\n", "x".repeat(1 << 20))).unwrap();
        let long = of(&log, 2);
        assert_eq!((long[0].len(), long[1].as_str()), (LONGEST, "end"));
    }
}
