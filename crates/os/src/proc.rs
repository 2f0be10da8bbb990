//! Reading `/proc`: who is whose child, since when, in which session, with which tag.
//!
//! Everything read here may be stale the moment it is read. A pid alone names nothing: pair it with its start
//! time ([`crate::pidfd::ProcessId`]) before acting on it.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::error::{OsError, Result};

/// What `/proc/PID/stat` says of one process (proc_pid_stat(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Its id.
    pub pid: u32,
    /// Name of its program, at most 15 bytes; may contain anything, also `)`.
    pub comm: String,
    /// `R` running, `S` sleeping, `D` uninterruptible, `T` stopped, `Z` zombie, `X` dead.
    pub state: char,
    /// Its parent.
    pub ppid: u32,
    /// Its process group.
    pub pgrp: u32,
    /// Its session.
    pub session: u32,
    /// When it started, in clock ticks after boot (field 22).
    pub start_time: u64,
    /// Clock ticks that it and its reaped children have run (fields 14 to 17).
    pub cpu_ticks: u64,
    /// Pages of memory that it has in use, shared ones too (field 24).
    pub resident_pages: u64,
    /// Its wait(2) status once it is a zombie (field 52); 0 also where the reader lacks the right to know.
    pub exit_code: i32,
}

impl Stat {
    /// Whether it has ended and only its status remains.
    #[must_use]
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Reads one process; `None` when there is none of that id.
pub fn stat(pid: u32) -> Result<Option<Stat>> {
    let path = format!("/proc/{pid}/stat");
    // One read: the kernel makes it in one piece, and thousands are looked at in a row.
    let mut bytes = [0; MOST_STAT];
    match fs::File::open(&path).and_then(|mut file| file.read(&mut bytes)) {
        Ok(length) => Ok(parse_stat(&bytes[..length])),
        Err(e) if gone(&e) => Ok(None),
        Err(e) => Err(OsError::at("read", path, e)),
    }
}

/// Bytes of `/proc/PID/stat`: some fifty numbers of at most 20 digits, and a name of at most 64 bytes (proc_pid_stat(5)).
const MOST_STAT: usize = 2048;

/// Bytes of an environment that are asked for at first: nearly all are smaller.
const USUAL_ENVIRON: usize = 16 * 1024;

/// Every process that can be seen. One that ends meanwhile may be missing.
pub fn all() -> Result<Vec<Stat>> {
    let entries = fs::read_dir("/proc").map_err(|e| OsError::at("list", "/proc", e))?;
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    Ok(pids.filter_map(|pid| stat(pid).ok().flatten()).collect())
}

/// A thread of this process that waits in the kernel in a way that no signal ends at once (state `D`: a disk, most of all), by its
/// name. While there is one, neither an exec nor a SIGKILL comes to its end.
#[must_use]
pub fn waiting_thread() -> Option<String> {
    let threads = fs::read_dir("/proc/self/task").ok()?;
    let waits = |path: std::path::PathBuf| {
        let thread = parse_stat(&fs::read(path.join("stat")).ok()?)?;
        (thread.state == 'D').then_some(thread.comm)
    };
    threads.flatten().find_map(|thread| waits(thread.path()))
}

/// Our own children, of all our threads (`/proc/self/task/*/children`; each file lists one thread's). Falls back to a
/// scan of all processes where the kernel was built without it.
pub fn children() -> Result<Vec<u32>> {
    children_of(std::process::id())
}

/// The children of any process.
pub fn children_of(pid: u32) -> Result<Vec<u32>> {
    let tasks = format!("/proc/{pid}/task");
    let entries = match fs::read_dir(&tasks) {
        Ok(entries) => entries,
        Err(e) if gone(&e) => return Ok(Vec::new()),
        Err(e) => return Err(OsError::at("list", tasks, e)),
    };
    let mut found = Vec::new();
    let mut supported = false;
    for task in entries.flatten() {
        if let Ok(text) = fs::read_to_string(task.path().join("children")) {
            supported = true;
            found.extend(text.split_ascii_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        }
    }
    if !supported && Path::new(&tasks).exists() {
        found.extend(all()?.into_iter().filter(|p| p.ppid == pid).map(|p| p.pid));
    }
    Ok(found)
}

/// The value of one variable of the environment a process was started with; `None` if it has none such, is gone, is a
/// zombie, or must not be read by us. A program may overwrite it: a hint, never proof.
#[must_use]
pub fn environ(pid: u32, variable: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(USUAL_ENVIRON);
    // Not by its length, which the kernel gives as 0: that would be read in small pieces.
    fs::File::open(format!("/proc/{pid}/environ")).ok()?.read_to_end(&mut bytes).ok()?;
    bytes
        .split(|&b| b == 0)
        .find_map(|entry| entry.strip_prefix(variable.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec))
}

/// Real uid of a process; `None` when there is none of that id.
#[must_use]
pub fn uid(pid: u32) -> Option<u32> {
    status_field(pid, "Uid:")?.split_ascii_whitespace().next()?.parse().ok()
}

/// One line of `/proc/PID/status` after its key.
#[must_use]
pub fn status_field(pid: u32, key: &str) -> Option<String> {
    let text = fs::read(format!("/proc/{pid}/status")).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().find_map(|line| line.strip_prefix(key).map(|rest| rest.trim().to_owned()))
}

fn gone(e: &std::io::Error) -> bool {
    e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH)
}

/// Fields are counted from the last `)`: the name between the brackets is the process's own choice.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|&b| b == b'(')?;
    let close = bytes.iter().rposition(|&b| b == b')')?;
    let comm = String::from_utf8_lossy(bytes.get(open + 1..close)?).into_owned();
    let pid = std::str::from_utf8(&bytes[..open]).ok()?.trim().parse().ok()?;
    let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The first word after the name is field 3.
    let number = |field: usize| fields.get(field - 3).and_then(|w| w.parse::<i64>().ok());
    let small = |field: usize| Some(u32::try_from(number(field)?).unwrap_or(0));
    Some(Stat {
        pid,
        comm,
        state: fields.first()?.chars().next()?,
        ppid: small(4)?,
        pgrp: small(5)?,
        session: small(6)?,
        start_time: fields.get(22 - 3)?.parse().ok()?,
        cpu_ticks: (14..=17).filter_map(number).filter_map(|ticks| u64::try_from(ticks).ok()).sum(),
        resident_pages: number(24).and_then(|pages| u64::try_from(pages).ok()).unwrap_or(0),
        exit_code: number(52).and_then(|n| i32::try_from(n).ok()).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let line = b"42 (a) Z 9 (b)) S 7 42 41 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 9 9 9 1 2 3 4 5 6 7 8 9 0 0 0 17 0 0 0 0 0 0 1 2 3 4 5 6 7 1792\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.pid, stat.comm.as_str(), stat.state), (42, "a) Z 9 (b)", 'S'));
        assert_eq!((stat.ppid, stat.pgrp, stat.session, stat.start_time), (7, 42, 41, 987_654));
        assert_eq!(stat.exit_code, 1792);
    }

    #[test]
    fn garbage_is_no_process() {
        for bytes in [&b""[..], b"1", b"1 (", b"1 )(", b"x (y) S 1 2 3", b"1 (y) S"] {
            assert!(parse_stat(bytes).is_none(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn this_process_can_be_read_and_a_missing_one_is_none() {
        let me = stat(std::process::id()).unwrap().unwrap();
        assert_eq!(me.ppid, std::os::unix::process::parent_id());
        assert!(all().unwrap().iter().any(|p| p.pid == me.pid && p.start_time == me.start_time));
        assert!(stat(0x7fff_ffff).unwrap().is_none());
        assert_eq!(uid(me.pid), Some(rustix::process::getuid().as_raw()));
    }
}
