//! Directories: walking to them, making them.
//!
//! A path without links, which nearly every one is, costs one openat2(2). Only where that says that there is a link, or where
//! the kernel or a seccomp filter does not know it, each component is opened by itself and each link's owner looked at.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, RawMode, ResolveFlags};
use rustix::io::Errno as Sys;

use crate::error::{Errno, OsError, Result};

/// Links followed on one path before it counts as a loop; the kernel's own number (path_resolution(7)).
const MOST_LINKS: usize = 40;

const WALK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a directory for reading its entries and for `*at` calls. Links of others on the way are refused.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    if let Some(opened) = open_linkless(path) {
        return opened.map_err(|e| OsError::at("open directory", path, e));
    }
    let place = walk(path, None)?;
    readable(&place, path)
}

/// Opens a directory, making it and what is missing above it first. The last one gets exactly `mode` when it is made here, those above it
/// what the umask leaves of 0755; it must belong to us, or, when we are root, to anybody. Whether its mode suits is left to the
/// caller unless it was made here.
pub fn create_dir(path: &Path, mode: u32) -> Result<OwnedFd> {
    let place = walk(path, Some(mode))?;
    let meta = rustix::fs::fstat(&place).map_err(|e| OsError::at("look at", path, e))?;
    let me = rustix::process::geteuid().as_raw();
    if meta.st_uid != me && me != 0 {
        let owner = crate::users::name_of(meta.st_uid).unwrap_or_else(|| format!("uid {}", meta.st_uid));
        return Err(OsError::at("use directory", path, Errno::PERM).because(format!("it belongs to {owner}")));
    }
    readable(&place, path)
}

/// A place to do things relative to, in a directory that need not be readable. With `create` what is missing is made (0755).
pub(crate) fn pass_dir(path: &Path, create: bool) -> Result<OwnedFd> {
    walk(path, create.then_some(0o755))
}

/// The directory, or why not, if no link is on the way; `None` if that takes a look at each component.
fn open_linkless(path: &Path) -> Option<std::result::Result<OwnedFd, Sys>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let straight = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(CWD, path, flags, Mode::empty(), straight) {
        Ok(dir) => Some(Ok(dir)),
        // EAGAIN: something was renamed meanwhile (openat2(2)). ENOTDIR: to be told with the component that is none.
        Err(Sys::LOOP | Sys::NOTDIR | Sys::NOSYS | Sys::PERM | Sys::AGAIN | Sys::INVAL | Sys::TOOBIG) => None,
        Err(e) => Some(Err(e)),
    }
}

/// An `O_PATH` descriptor made into one that can be read and synced.
fn readable(place: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(place, ".", flags, Mode::empty()).map_err(|e| OsError::at("open directory", path, e))
}

fn walk(path: &Path, create: Option<u32>) -> Result<OwnedFd> {
    let fail = |e: Sys| OsError::at("open directory", path, e);
    let mut todo = VecDeque::new();
    push_front(&mut todo, path);
    let mut here = rustix::fs::openat(CWD, start(path), WALK, Mode::empty()).map_err(fail)?;
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        let next = match rustix::fs::openat(&here, &name, WALK, Mode::empty()) {
            Err(Sys::NOENT) if create.is_some() => {
                make(&here, &name, create.filter(|_| todo.is_empty()), path)?;
                rustix::fs::openat(&here, &name, WALK, Mode::empty())
            }
            other => other,
        };
        here = match next {
            Ok(next) => next,
            Err(e @ (Sys::LOOP | Sys::NOTDIR)) => {
                let Some(target) = follow(&here, &name, path)? else { return Err(fail(e)) };
                links += 1;
                if links > MOST_LINKS {
                    return Err(fail(Sys::LOOP));
                }
                push_front(&mut todo, &target);
                match target.is_absolute() {
                    true => rustix::fs::openat(CWD, "/", WALK, Mode::empty()).map_err(fail)?,
                    false => here,
                }
            }
            Err(e) => return Err(fail(e)),
        };
    }
    Ok(here)
}

fn start(path: &Path) -> &'static str {
    if path.is_absolute() { "/" } else { "." }
}

fn push_front(todo: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => todo.push_front(name.to_owned()),
            Component::ParentDir => todo.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

/// Where the link `name` points, if it is a link of root's or our own; `None` if it is no link.
fn follow(here: &OwnedFd, name: &OsString, path: &Path) -> Result<Option<std::path::PathBuf>> {
    let fail = |e: Sys| OsError::at("open directory", path, e);
    let link =
        rustix::fs::openat(here, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map_err(fail)?;
    let meta = rustix::fs::fstat(&link).map_err(fail)?;
    if rustix::fs::FileType::from_raw_mode(meta.st_mode) != rustix::fs::FileType::Symlink {
        return Ok(None);
    }
    if meta.st_uid != 0 && meta.st_uid != rustix::process::geteuid().as_raw() {
        let text = format!(
            "its part {} is a symbolic link that belongs to uid {}",
            Path::new(name).display(),
            meta.st_uid
        );
        return Err(OsError::at("open directory", path, Errno::LOOP).because(text));
    }
    // The link itself was opened, so what is read belongs to the inode whose owner was checked.
    let target = rustix::fs::readlinkat(&link, "", Vec::new()).map_err(fail)?;
    Ok(Some(OsString::from_vec(target.to_bytes().to_vec()).into()))
}

fn make(here: impl AsFd, name: &OsString, mode: Option<u32>, path: &Path) -> Result<()> {
    let wanted = Mode::from_raw_mode(RawMode::from(mode.unwrap_or(0o755) & 0o7777));
    match rustix::fs::mkdirat(&here, name, wanted) {
        Ok(()) => {}
        // Somebody was faster; what they made is looked at like anything else.
        Err(Sys::EXIST) => return Ok(()),
        Err(e) => return Err(OsError::at("create directory", path, e)),
    }
    if mode.is_some() {
        // mkdir takes the umask off; the last directory is to have its mode exactly.
        let made = rustix::fs::openat(
            &here,
            name,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|e| OsError::at("open directory", path, e))?;
        rustix::fs::fchmod(&made, wanted).map_err(|e| OsError::at("set the mode of", path, e))?;
    }
    Ok(())
}
