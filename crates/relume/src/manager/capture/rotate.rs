//! Rotation by size: where a file is cut, and how the chain of old files moves.
//!
//! A line is torn only if it is larger than the limit itself. When the file ends within a line and the next line end
//! is out of reach, the file is cut before that line, and the line's first part goes to the new file.
//!
//! No step needs a record elsewhere. Names move only into the lowest free place, so repeating an interrupted chain
//! finishes it and shifts nothing twice. The part of a line that moves is complete under `NAME.relume-next` before the old
//! file loses it; it holds no line end, and what is cut off ends with one, so what is left to do can be read from the files.
//!
//! At no moment do the files hold more than limit × (keep + 1): the oldest goes before anything is written.

use std::cmp::min;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use relume_os::{OsError, Result};

use super::Compress;
use super::disk::{Disk, Handle};
use crate::output_index;

/// Suffix of the copy of a line's first part while it is being made; worthless after a crash.
const TAIL: &str = "relume-tail";

/// Suffix of the finished copy: the old file may lose it now.
const NEXT: &str = "relume-next";

/// Suffix of an old file's compressed form while it is being made; worthless after a crash.
const PACKED: &str = "relume-packed";

/// Block in which files are read here.
const BLOCK: usize = 64 * 1024;

/// What to do with bytes that are to be appended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Write so many, all of them if they fit.
    Write(usize),
    /// Write so many, then rotate.
    WriteAndRotate(usize),
    /// Rotate first; what stands in the file from this offset on (its end, or the start of its last line) moves along.
    RotateAt(u64),
}

/// Decides for `bytes` at the end (`size`) of a file whose limit is `limit`.
pub(super) fn cut(bytes: &[u8], size: u64, limit: u64, file: &dyn Handle) -> io::Result<Cut> {
    let room = usize::try_from(limit.saturating_sub(size)).unwrap_or(usize::MAX);
    if bytes.len() <= room {
        return Ok(Cut::Write(bytes.len()));
    }
    if let Some(end) = bytes[..room].iter().rposition(|&byte| byte == b'\n') {
        return Ok(Cut::WriteAndRotate(end + 1));
    }
    Ok(match last_line(file, size)? {
        // The line fills the file alone: it is larger than the limit.
        0 => Cut::WriteAndRotate(room),
        start => Cut::RotateAt(start),
    })
}

/// Where a file of `size` bytes that is older than it may be is cut. `None`: not here, it holds a single line so far.
pub(super) fn cut_of_old(size: u64, file: &dyn Handle) -> io::Result<Option<Cut>> {
    let start = last_line(file, size)?;
    Ok((start > 0).then_some(Cut::RotateAt(start)))
}

/// Where the last line of a file of `size` bytes starts: `size` itself if it ends with a line end.
fn last_line(file: &dyn Handle, size: u64) -> io::Result<u64> {
    let mut block = vec![0; min(BLOCK as u64, size) as usize];
    let mut end = size;
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let part = &mut block[..(end - start) as usize];
        read_exact_at(file, part, start)?;
        if let Some(at) = part.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Moves `path` (of `size` bytes, open as `file`) to `path.1` and the older ones up, at most `keep` of them. What
/// stands from `start` on becomes the beginning of the new file. Afterwards `path` may not exist.
pub(super) fn rotate(
    disk: &dyn Disk,
    file: &dyn Handle,
    path: &Path,
    ends: (u64, u64),
    rule: (u32, u32),
) -> Result<()> {
    let ((start, size), (keep, mode)) = (ends, rule);
    make_room(disk, path, keep)?;
    if start < size {
        let tail = suffixed(path, TAIL);
        disk.remove(&tail)?;
        copy(file, (start, size), disk.open(&tail, mode)?.as_ref())
            .map_err(|e| OsError::at("write", &tail, e))?;
        disk.rename(&tail, &suffixed(path, NEXT))?;
        file.set_len(start).map_err(|e| OsError::at("shorten", path, e))?;
    }
    finish(disk, path, keep, start < size)
}

/// Finishes a rotation that was interrupted by the death of the manager. True: there was one.
pub(super) fn heal(disk: &dyn Disk, path: &Path, keep: u32, mode: u32) -> Result<bool> {
    let next = suffixed(path, NEXT);
    disk.remove(&suffixed(path, TAIL))?;
    if disk.identity(&next)?.is_none() {
        return Ok(false);
    }
    let moved = disk.open(&next, mode)?;
    if disk.identity(path)?.is_some() {
        let file = disk.open(path, mode)?;
        if !cut_off(file.as_ref(), moved.as_ref()).map_err(|e| OsError::at("read", path, e))? {
            return Ok(false);
        }
    } else if !is_part_of_line(moved.as_ref()).map_err(|e| OsError::at("read", &next, e))? {
        return Ok(false);
    }
    finish(disk, path, keep, true)?;
    Ok(true)
}

/// Makes sure that `file` has lost the part of its last line that is saved in `moved`. False: these two do not belong together.
fn cut_off(file: &dyn Handle, moved: &dyn Handle) -> io::Result<bool> {
    let (size, part) = (file.stat()?.size, moved.stat()?.size);
    if !is_part_of_line(moved)? {
        return Ok(false);
    }
    if last_line(file, size)? == size {
        return Ok(true);
    }
    match size.checked_sub(part) {
        Some(start) if same(file, start, moved, part)? => file.set_len(start).map(|()| true),
        Some(_) | None => Ok(false),
    }
}

/// Whether the file holds no line end, as the saved part of a line does.
fn is_part_of_line(moved: &dyn Handle) -> io::Result<bool> {
    Ok(last_line(moved, moved.stat()?.size)? == 0)
}

/// The chain moves, and the part of a line that was saved becomes the new file. Indexes go ahead of their files, and where one
/// cannot the log does without.
fn finish(disk: &dyn Disk, path: &Path, keep: u32, moved: bool) -> Result<()> {
    if disk.identity(path)?.is_some() {
        if keep == 0 {
            let _no_index = disk.remove(&output_index::path_of(path, 0));
            disk.remove(path)?;
        } else {
            for place in (0..make_room(disk, path, keep)?).rev() {
                let Some(old) = old_file(disk, path, place)? else { continue };
                let index = |place| output_index::path_of(path, place);
                if disk.identity(&index(place)).ok().flatten().is_some() {
                    let _no_index = disk.rename(&index(place), &index(place + 1));
                }
                disk.rename(&old, &with_ending(&numbered(path, place + 1), ending(&old, path, place)))?;
            }
        }
    }
    if moved {
        disk.rename(&suffixed(path, NEXT), path)?;
    }
    Ok(())
}

/// Makes sure that one of the places `1..=keep` is free, by removing the oldest, and returns the lowest free one.
/// With `keep` 0 there is no place: 0.
fn make_room(disk: &dyn Disk, path: &Path, keep: u32) -> Result<u32> {
    for place in 1..=keep {
        if old_file(disk, path, place)?.is_none() {
            return Ok(place);
        }
    }
    if let Some(oldest) = old_file(disk, path, keep)?.filter(|_| keep > 0) {
        let _no_index = disk.remove(&output_index::path_of(path, keep));
        disk.remove(&oldest)?;
    }
    Ok(keep)
}

/// What stands at a place of the chain, compressed or not; place 0 is the log itself.
pub(super) fn old_file(disk: &dyn Disk, path: &Path, place: u32) -> Result<Option<PathBuf>> {
    let plain = numbered(path, place);
    let is_there = |path: &Path| disk.identity(path).map(|found| found.is_some());
    if place > 0 {
        for how in [Compress::Gzip, Compress::Zstd] {
            let packed = with_ending(&plain, how);
            if is_there(&packed)? {
                // A compressed file gets its name when it is complete: a kill has kept the plain one from being removed.
                disk.remove(&plain)?;
                return Ok(Some(packed));
            }
        }
    }
    Ok(is_there(&plain)?.then_some(plain))
}

/// How the file at a place is compressed, by its name.
fn ending(found: &Path, path: &Path, place: u32) -> Compress {
    let plain = numbered(path, place);
    let is = |how: &Compress| with_ending(&plain, *how) == found;
    [Compress::Gzip, Compress::Zstd].into_iter().find(is).unwrap_or(Compress::Off)
}

/// The name of an old file that is compressed like this.
pub(super) fn with_ending(plain: &Path, how: Compress) -> PathBuf {
    match how {
        Compress::Off => plain.to_owned(),
        Compress::Gzip => suffixed(plain, "gz"),
        Compress::Zstd => suffixed(plain, "zst"),
    }
}

/// Where the compressed form of an old file is made.
pub(super) fn packed(path: &Path) -> PathBuf {
    suffixed(path, PACKED)
}

/// The place of an old file: `NAME.log.1` is the youngest, 0 is the file itself.
pub(super) fn numbered(path: &Path, place: u32) -> PathBuf {
    if place == 0 { path.to_owned() } else { suffixed(path, &place.to_string()) }
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

fn copy(from: &dyn Handle, (mut at, end): (u64, u64), to: &dyn Handle) -> io::Result<()> {
    let start = at;
    let mut block = vec![0; min(BLOCK as u64, end - at) as usize];
    while at < end {
        let part = &mut block[..min(BLOCK as u64, end - at) as usize];
        read_exact_at(from, part, at)?;
        let mut written = 0;
        while written < part.len() {
            match to.write_at(&part[written..], at - start + written as u64)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => written += n,
            }
        }
        at += part.len() as u64;
    }
    Ok(())
}

/// Whether `a` from `start` on holds the first `length` bytes of `b`.
fn same(a: &dyn Handle, start: u64, b: &dyn Handle, length: u64) -> io::Result<bool> {
    let size = min(BLOCK as u64, length) as usize;
    let (mut left, mut right) = (vec![0; size], vec![0; size]);
    let mut at = 0;
    while at < length {
        let part = min(size as u64, length - at) as usize;
        read_exact_at(a, &mut left[..part], start + at)?;
        read_exact_at(b, &mut right[..part], at)?;
        if left[..part] != right[..part] {
            return Ok(false);
        }
        at += part as u64;
    }
    Ok(true)
}

fn read_exact_at(file: &dyn Handle, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.read_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                bytes = &mut bytes[n..];
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
