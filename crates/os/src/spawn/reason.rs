//! What the errno of a failed step means, found out by the parent after the fact: by looking at the file that would not run.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::{SpawnError, SpawnStep};
use super::plan::SpawnPlan;
use crate::error::Errno;

/// As much of a program as is read: the kernel itself looks for `#!` in 256 bytes, an ELF header and its table fit in a page.
const HEAD: usize = 4096;

pub(super) fn explain(plan: &SpawnPlan, step: SpawnStep, index: usize, errno: Errno) -> SpawnError {
    let directory = || plan.working_dir.as_ref().map(|d| PathBuf::from(OsStr::from_bytes(d.as_bytes())));
    let (path, hint) = match step {
        SpawnStep::Execute => {
            let (errno, path, hint) = of_exec(plan, index, errno);
            return SpawnError { step, path, errno, hint };
        }
        SpawnStep::WorkingDirectory => (directory(), None),
        SpawnStep::OomScore => (Some("/proc/self/oom_score_adj".into()), None),
        SpawnStep::Limit(resource) => {
            let limit =
                plan.limits.iter().find(|(r, _)| *r == resource).map(|(_, l)| (l.rlim_cur, l.rlim_max));
            (
                None,
                limit.map(|(soft, hard)| {
                    format!("{errno} for {soft}:{hard}; only root may go above the hard limit")
                        .replace(&u64::MAX.to_string(), "unlimited")
                }),
            )
        }
        SpawnStep::Groups | SpawnStep::Group | SpawnStep::User => {
            let who = plan.identity.as_ref().map(|i| format!("{errno} for uid {}, gid {}", i.uid, i.gid));
            (
                None,
                who.map(|text| {
                    if errno == Errno::PERM {
                        format!("{text}; only root may run services as another user")
                    } else {
                        text
                    }
                }),
            )
        }
        SpawnStep::Prepare
        | SpawnStep::Descriptors
        | SpawnStep::Clone
        | SpawnStep::UnshareDescriptors
        | SpawnStep::JoinCgroup
        | SpawnStep::Signals
        | SpawnStep::Session
        | SpawnStep::Nice
        | SpawnStep::Stdio
        | SpawnStep::Killed
        | SpawnStep::Identify => (None, None),
    };
    SpawnError { step, path, errno, hint }
}

fn of_exec(plan: &SpawnPlan, index: usize, errno: Errno) -> (Errno, Option<PathBuf>, Option<String>) {
    if errno == Errno::NOENT || (errno == Errno::ACCES && plan.candidates.len() > 1) {
        return from_search(plan, errno);
    }
    let path = candidate(plan, index);
    let hint = match errno {
        Errno::ACCES => why_not_executable(&path),
        Errno::NOEXEC => {
            Some("it is neither a program for this machine nor a script that begins with #!".to_owned())
        }
        Errno::TXTBSY => Some("somebody has it open for writing".to_owned()),
        Errno::TOOBIG => Some(too_big(plan)),
        _ => None,
    };
    (errno, Some(path), hint)
}

/// Nothing of that name; or something that may not be run; or something whose interpreter is missing. A search that met only directories the
/// user may not enter has found nothing: that is ENOENT to a person, whatever the kernel said last.
fn from_search(plan: &SpawnPlan, errno: Errno) -> (Errno, Option<PathBuf>, Option<String>) {
    let paths: Vec<PathBuf> = (0..plan.candidates.len()).map(|index| candidate(plan, index)).collect();
    if let Some(path) = paths.iter().find(|path| path.is_file()) {
        let hint = match (errno, interpreter(path)) {
            (Errno::ACCES, _) => why_not_executable(path),
            (_, Some(name)) => Some(format!("its interpreter {} is missing", printable(&name))),
            (_, None) => Some("it exists, but something it needs is missing".to_owned()),
        };
        return (errno, Some(path.clone()), hint);
    }
    if plan.candidates.len() == 1 {
        return (errno, paths.into_iter().next(), None);
    }
    let places: Vec<_> = paths.iter().filter_map(|p| Some(p.parent()?.display().to_string())).collect();
    let closed = if errno == Errno::ACCES { ", of which it may not enter all" } else { "" };
    let hint = format!("not found in the service's PATH ({}{closed})", places.join(":"));
    (Errno::NOENT, Some(plan.program.clone()), Some(hint))
}

/// Where the kernel looked, as seen from here.
fn candidate(plan: &SpawnPlan, index: usize) -> PathBuf {
    let Some(name) = plan.candidates.get(index) else { return plan.program.clone() };
    let path = Path::new(OsStr::from_bytes(name.as_bytes()));
    match &plan.working_dir {
        Some(dir) => Path::new(OsStr::from_bytes(dir.as_bytes())).join(path),
        None => path.to_owned(),
    }
}

fn why_not_executable(path: &Path) -> Option<String> {
    let meta = fs::metadata(path).ok()?;
    if meta.is_dir() {
        return Some("it is a directory".to_owned());
    }
    let kind = meta.file_type();
    if kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
        return Some("it is not a regular file".to_owned());
    }
    let mode = meta.permissions().mode() & 0o7777;
    if mode & 0o111 == 0 {
        return Some(format!("it is not executable (mode {mode:04o})"));
    }
    if let Some(found) = interpreter(path)
        .filter(|i| fs::metadata(i).is_ok_and(|m| m.is_dir() || m.permissions().mode() & 0o111 == 0))
    {
        return Some(format!("its interpreter {} is not executable", printable(&found)));
    }
    Some(format!(
        "its mode is {mode:04o}: the service's user may not run it, may not enter a directory above it, or the file system is mounted noexec"
    ))
}

fn too_big(plan: &SpawnPlan) -> String {
    let size = |list: &[std::ffi::CString]| list.iter().map(|s| s.as_bytes_with_nul().len()).sum::<usize>();
    let longest =
        plan.argv.iter().chain(&plan.environment).map(|s| s.as_bytes_with_nul().len()).max().unwrap_or(0);
    format!(
        "its arguments have {} bytes, its environment {}, the longest string {longest} (at most 131072 for one)",
        size(&plan.argv),
        size(&plan.environment)
    )
}

/// What the kernel would load first: the word after `#!`, or the loader an ELF program names.
fn interpreter(path: &Path) -> Option<PathBuf> {
    let mut head = Vec::with_capacity(HEAD);
    File::open(path).ok()?.take(HEAD as u64).read_to_end(&mut head).ok()?;
    let name = match head.strip_prefix(b"#!") {
        Some(rest) => {
            let line = rest.split(|&b| b == b'\n').next()?;
            line.split(|b| matches!(b, b' ' | b'\t')).find(|word| !word.is_empty())?.to_vec()
        }
        None => elf_loader(&head)?,
    };
    Some(PathBuf::from(OsStr::from_bytes(&name)))
}

/// PT_INTERP of a 64-bit little-endian ELF file (elf(5)).
fn elf_loader(head: &[u8]) -> Option<Vec<u8>> {
    const PT_INTERP: u64 = 3;
    if head.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let number = |at: usize, width: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(width)?)?;
        Some(bytes.iter().rev().fold(0, |n, &b| (n << 8) | u64::from(b)))
    };
    let (table, size, count) = (usize::try_from(number(32, 8)?).ok()?, number(54, 2)?, number(56, 2)?);
    for n in 0..count {
        let entry = table.checked_add(usize::try_from(n * size).ok()?)?;
        if number(entry, 4)? == PT_INTERP {
            let offset = usize::try_from(number(entry.checked_add(8)?, 8)?).ok()?;
            let length = usize::try_from(number(entry.checked_add(32)?, 8)?).ok()?;
            let name = head.get(offset..offset.checked_add(length)?)?;
            return Some(name.split(|&b| b == 0).next()?.to_vec());
        }
    }
    None
}

/// A carriage return at the end of a `#!` line is invisible and the most common cause.
fn printable(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.ends_with('\r') {
        format!("{text:?} (the line ends in a carriage return)")
    } else if text.chars().any(char::is_control) {
        format!("{text:?}")
    } else {
        text.into_owned()
    }
}
