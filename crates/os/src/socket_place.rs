//! The place in the file system where a unix socket is put, held by descriptors.
//!
//! # Theory of operation
//!
//! A socket bound under its final name has, for a moment, the mode that the umask left it, and the umask belongs to the whole
//! process. So it is bound inside a fresh private folder, gets its owner and mode there, and only then its place.
//!
//! The folder it goes into may belong to somebody else, who can swap whatever is in it at any moment. So it is walked to once, as
//! [`crate::files`] does, and held; the private folder is opened at once, and believed only if it is ours and closed to others; and
//! everything after that is relative to these two. bind(2) and connect(2) know only paths: they are given one through
//! `/proc/self/fd`, which leads to what is open, wherever it has been moved to.
//!
//! # What it must never do
//!
//! Follow a link that a stranger made, or replace anything but a socket that nobody listens on.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawMode, RenameFlags, Uid};
use rustix::io::Errno as Sys;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::{Errno, OsError, Result};
use crate::files;

/// What the socket is called while it is in its private folder.
const INNER: &str = "s";

/// Private folders of one process in one place; more than are made at once by far.
const MOST: u32 = 1000;

/// A name for a socket, in a folder that is open.
#[derive(Debug)]
pub(crate) struct Place {
    dir: OwnedFd,
    name: OsString,
    path: PathBuf,
}

impl Place {
    /// Walks to the folder of `path`; with `create` what is missing on the way is made.
    pub(crate) fn open(path: &Path, create: bool) -> Result<Self> {
        // Longer ones could be put there, but nobody could connect.
        address(path, path)?;
        let (parent, name) = files::split(path)?;
        Ok(Self { dir: files::pass_dir(&parent, create)?, name: name.to_owned(), path: path.to_owned() })
    }

    /// Removes a socket nobody listens on any more. Anything else in its place is an error, also a link.
    pub(crate) fn remove_stale(&self, kind: SocketType) -> Result<()> {
        let look = |e| OsError::at("look at", &self.path, e);
        // What is looked at, asked and judged is one and the same, whatever gets its name meanwhile.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match rustix::fs::openat(&self.dir, &self.name, flags, Mode::empty()) {
            Ok(found) => found,
            Err(Sys::NOENT) => return Ok(()),
            Err(e) => return Err(look(e)),
        };
        let in_use = |why: &str| Err(OsError::at("listen on", &self.path, Errno::ADDRINUSE).because(why));
        let meta = rustix::fs::fstat(&found).map_err(look)?;
        if FileType::from_raw_mode(meta.st_mode) != FileType::Socket {
            return in_use("something that is not a socket is in the way");
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)
            .map_err(|e| OsError::new("create a socket", e))?;
        match rustix::net::connect(&fd, &address(through(&found, None), &self.path)?) {
            Err(Sys::CONNREFUSED) => rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty())
                .map_err(|e| OsError::at("remove the stale socket", &self.path, e)),
            // A full backlog, or a socket of another kind: somebody is there.
            Ok(()) | Err(Sys::AGAIN | Sys::PROTOTYPE) => in_use("another process listens there"),
            Err(e) => Err(OsError::at("look who listens on", &self.path, e)),
        }
    }

    /// A fresh folder in it that only we can look into.
    pub(crate) fn private(&self) -> Result<Private<'_>> {
        let fail = |e| OsError::at("create a private folder for", &self.path, e);
        // A short name that is ours; mkdir never follows a link.
        for n in 0..MOST {
            let name = format!(".s-{}-{n}", std::process::id());
            match rustix::fs::mkdirat(&self.dir, &name, Mode::RWXU) {
                Ok(()) => return Private::believe(self, name),
                Err(Sys::EXIST) => {}
                Err(e) => return Err(fail(e)),
            }
        }
        Err(fail(Sys::EXIST))
    }
}

/// A folder beside the place, removed in the end.
#[derive(Debug)]
pub(crate) struct Private<'a> {
    place: &'a Place,
    name: String,
    dir: OwnedFd,
}

impl<'a> Private<'a> {
    /// Whoever may write the folder above can have put another in its place by now, but no new one that is ours.
    fn believe(place: &'a Place, name: String) -> Result<Self> {
        let fail = |e| OsError::at("open the private folder for", &place.path, e);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&place.dir, &name, flags, Mode::empty()).map_err(fail)?;
        let meta = rustix::fs::fstat(&dir).map_err(fail)?;
        if meta.st_uid != rustix::process::geteuid().as_raw() || meta.st_mode & 0o077 != 0 {
            return Err(fail(Sys::PERM).because("somebody has put another one in its place"));
        }
        Ok(Self { place, name, dir })
    }

    /// Binds `fd` in it. The kernel then has a name for it that is nobody's.
    pub(crate) fn bind(&self, fd: impl AsFd) -> Result<()> {
        let at = address(through(&self.dir, Some(INNER)), &self.place.path)?;
        rustix::net::bind(fd, &at)
            .map_err(|e| OsError::at("bind a socket in the private folder for", &self.place.path, e))
    }

    /// Gives the socket to somebody.
    pub(crate) fn give(&self, uid: u32, gid: u32) -> Result<()> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(&self.dir, INNER, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| OsError::at("give away", &self.place.path, e))
    }

    /// Sets who may connect. What is called so in here is the socket: nobody else can look in.
    pub(crate) fn set_mode(&self, mode: u32) -> Result<()> {
        let mode = Mode::from_raw_mode(RawMode::from(mode & 0o7777));
        rustix::fs::chmodat(&self.dir, INNER, mode, AtFlags::empty())
            .map_err(|e| OsError::at("set the mode of", &self.place.path, e))
    }

    /// Moves the socket to its place. Whatever has appeared there since it was looked at stays.
    pub(crate) fn publish(&self) -> Result<()> {
        let place = self.place;
        rustix::fs::renameat_with(&self.dir, INNER, &place.dir, &place.name, RenameFlags::NOREPLACE)
            .map_err(|e| OsError::at("put the socket at", &place.path, e))
    }
}

impl Drop for Private<'_> {
    fn drop(&mut self) {
        // What is left of an attempt that failed; after a success only the folder is. One that was moved away stays where it is.
        let _absent = rustix::fs::unlinkat(&self.dir, INNER, AtFlags::empty());
        let _kept = rustix::fs::unlinkat(&self.place.dir, &self.name, AtFlags::REMOVEDIR);
    }
}

/// A path to what is open, or to a name in it.
fn through(fd: &OwnedFd, name: Option<&str>) -> PathBuf {
    let open = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    name.map_or(open.clone(), |name| open.join(name))
}

/// What a socket's address holds, with the zero that most programs want behind it: unix(7).
const LONGEST: usize = 107;

/// `path` as bind and connect want it; errors speak of `shown`.
pub(crate) fn address(path: impl AsRef<OsStr>, shown: &Path) -> Result<SocketAddrUnix> {
    let path = path.as_ref();
    let made = if path.len() > LONGEST { Err(Sys::NAMETOOLONG) } else { SocketAddrUnix::new(path) };
    let why = "it is longer than the 107 bytes a socket address holds";
    made.map_err(|e| {
        let error = OsError::at("use as a socket's path", shown, e);
        if e == Sys::NAMETOOLONG { error.because(why) } else { error }
    })
}
