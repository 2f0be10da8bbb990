//! What a run can speak into: made before its process, so that no word can come too early.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use relume_config::{Readiness, Said};
use relume_os::notify::{self, NotifySocket};
use relume_os::pipes::{self, Pipe};
use relume_os::spawn::SpawnRequest;
use serde::{Deserialize, Serialize};

use super::sayings::Sayings;

/// The variable that names the socket (sd_notify(3)).
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// The variable that says how often a sign of life has to come (sd_watchdog_enabled(3)), and the one that says from whom: the
/// process itself writes that when it knows its pid.
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// The hearing side of one run.
#[derive(Debug)]
pub(crate) struct Ears {
    /// `NOTIFY_SOCKET`.
    pub(crate) socket: Option<NotifySocket>,
    /// The read end behind `notification_fd`, non-blocking.
    pub(crate) pipe: Option<OwnedFd>,
    /// Whose datagrams are believed, beside root's: the service's user.
    pub(crate) uid: u32,
    /// As an earlier manager has left it: its last sign of life, whether it has said that it is ready, and what else.
    pub(crate) watchdog: Option<Watched>,
    pub(crate) said: bool,
    pub(crate) sayings: Option<Box<Sayings>>,
}

/// A watchdog as the journal knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watched {
    /// When a sign of life came, in nanoseconds of this boot.
    pub(crate) at_ns: u64,
    /// How often one has to come.
    pub(crate) period_ns: u64,
}

/// What the journal says of the ears of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptEars {
    /// Where its notify socket is bound.
    socket: Option<Box<Path>>,
    /// Whether it has a pipe for its `notification_fd`.
    pipe: bool,
    /// Whose datagrams are believed.
    uid: u32,
    /// Its last sign of life, or not long before that.
    #[serde(default)]
    pub(crate) watchdog: Option<Watched>,
    /// It has said that it is ready.
    #[serde(default)]
    pub(crate) said: bool,
    /// What it says of itself, or has said not long before.
    #[serde(default)]
    pub(crate) sayings: Option<Box<Sayings>>,
}

/// The speaking side, until the process has it.
#[derive(Debug, Default)]
pub(crate) struct Mouth(Option<(i32, OwnedFd)>);

impl Mouth {
    /// The descriptor that the process gets beside its standard ones, with its number.
    pub(crate) fn extra(&self) -> Option<(i32, BorrowedFd<'_>)> {
        self.0.as_ref().map(|(number, fd)| (*number, fd.as_fd()))
    }
}

impl Ears {
    /// What a successor needs to hear this run again, beside the descriptors.
    pub(crate) fn kept(&self) -> KeptEars {
        KeptEars {
            socket: self.path().map(PathBuf::into_boxed_path),
            pipe: self.pipe.is_some(),
            uid: self.uid,
            watchdog: self.watchdog,
            said: self.said,
            sayings: self.sayings.clone(),
        }
    }

    /// The descriptors, in the order in which `again` takes them.
    pub(crate) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let socket = self.socket.as_ref().map(AsFd::as_fd);
        [socket, self.pipe.as_ref().map(AsFd::as_fd)].into_iter().flatten().collect()
    }

    /// The ears of a run that was found: with the descriptors that were kept, or, where they are gone, with a
    /// new socket in the old one's place. A pipe that is gone cannot be had again.
    pub(crate) fn again(kept: &KeptEars, fds: Vec<OwnedFd>) -> Self {
        let mut fds = fds.into_iter();
        // What it has said to nobody is not held against it.
        let deaf = kept.socket.is_some() && fds.len() == 0;
        let now = relume_os::clock::monotonic_ns();
        let watchdog =
            kept.watchdog.map(|watched| if deaf { Watched { at_ns: now, ..watched } } else { watched });
        let bind = |path: &Path| NotifySocket::bind(path.to_owned(), Some((kept.uid, kept.uid))).ok();
        let socket = kept.socket.as_ref().and_then(|path| match fds.next() {
            Some(fd) => Some(NotifySocket::from_owned(fd, path.to_path_buf())),
            None => bind(path),
        });
        let pipe = if kept.pipe { fds.next() } else { None };
        Self { socket, pipe, uid: kept.uid, watchdog, said: kept.said, sayings: kept.sayings.clone() }
    }

    /// Makes what this readiness needs, and names it in the request. `dir` is where sockets go.
    pub(crate) fn open(
        readiness: &Readiness,
        dir: &Path,
        request: &mut SpawnRequest,
    ) -> relume_os::Result<(Self, Mouth)> {
        let owner = request.credentials.as_ref().map(|who| (who.uid, who.gid));
        let uid = owner.map_or_else(relume_os::users::effective_uid, |(uid, _)| uid);
        let mut ears = Self { socket: None, pipe: None, uid, watchdog: None, said: false, sayings: None };
        let mut mouth = Mouth::default();
        if readiness.notifies() {
            let socket = NotifySocket::bind(notify::fresh_path(dir)?, owner)?;
            request.environment.retain(|(name, _)| name != NOTIFY_SOCKET);
            request.environment.push((NOTIFY_SOCKET.into(), socket.path().into()));
            ears.socket = Some(socket);
        }
        if let Some(period) = readiness.watchdog {
            request.environment.retain(|(name, _)| name != WATCHDOG_USEC && name != WATCHDOG_PID);
            request.environment.push((WATCHDOG_USEC.into(), period.as_micros().to_string().into()));
            request.watchdog_pid = true;
        }
        if let Some(Said::Fd(number)) = readiness.said {
            let Pipe { read, write } = Pipe::new()?;
            pipes::set_nonblocking(&read, true)?;
            ears.pipe = Some(read);
            mouth = Mouth(Some((number, write)));
        }
        Ok((ears, mouth))
    }

    /// The name to be removed when the run is over.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        self.socket.as_ref().map(|socket| socket.path().to_owned())
    }
}
