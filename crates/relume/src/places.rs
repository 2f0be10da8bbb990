//! Where everything is: configuration, state, runtime directory, logs, the control socket.
//!
//! The manager *settles* its places ([`Places::settle`]): defaults beside the configuration, a fallback
//! where that cannot be written, directories created with the right modes and owners, and the link
//! `STATE_DIR/run` so that clients find the runtime directory. A client *finds* a manager
//! ([`find`]) from the state directory alone.
//!
//! Nothing here decides about services. Directories that others could have planted are refused, never
//! repaired: a runtime directory in a shared place such as /dev/shm must belong to this user or root and be
//! writable by its owner alone, and no link is followed to it but our own `run`.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Name of the control socket in the runtime directory.
const CONTROL_SOCKET: &str = "control.sock";

/// Name of the link in the state directory that leads to the runtime directory.
const RUN_LINK: &str = "run";

/// Only its owner reads the state: intents, logs of the manager, kept environments.
const STATE_MODE: u32 = 0o700;

/// Services of other users pass through the runtime directory to their notify socket, and cannot list it.
const RUNTIME_MODE: u32 = 0o711;

/// Service logs and what else people look at.
const SHARED_MODE: u32 = 0o755;

/// What the environment says about standard directories. A value, so that tests need no environment.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// The effective user.
    pub(crate) uid: u32,
    /// `XDG_RUNTIME_DIR` (XDG Base Directory Specification).
    pub(crate) xdg_runtime_dir: Option<PathBuf>,
    /// `XDG_STATE_HOME`, or its default in the home directory.
    pub(crate) xdg_state_home: Option<PathBuf>,
    /// `/run`.
    pub(crate) run: PathBuf,
    /// `/dev/shm`.
    pub(crate) shm: PathBuf,
}

impl Surroundings {
    /// Reads them from the environment. A path that is not absolute counts as unset, as the specification
    /// demands.
    pub(crate) fn from_env() -> Self {
        let absolute = |key: &str| std::env::var_os(key).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME").map(|home| home.join(".local/state"));
        Self {
            uid: rustix::process::geteuid().as_raw(),
            xdg_runtime_dir: absolute("XDG_RUNTIME_DIR"),
            xdg_state_home: absolute("XDG_STATE_HOME").or(home),
            run: PathBuf::from("/run"),
            shm: PathBuf::from("/dev/shm"),
        }
    }

    /// Where the state goes when the wanted place cannot be written.
    fn fallback_state_dir(&self, wanted: &Path) -> Option<PathBuf> {
        Some(self.xdg_state_home.as_ref()?.join("relume").join(id_of(wanted)))
    }

    /// Where the runtime directory of this state directory may be, best first.
    fn runtime_dirs(&self, id: &str) -> Vec<PathBuf> {
        let mut dirs = Vec::new();
        if self.uid == 0 {
            dirs.push(self.run.join("relume").join(id));
        }
        if let Some(dir) = &self.xdg_runtime_dir {
            dirs.push(dir.join("relume").join(id));
        }
        dirs.push(self.shm.join(format!("relume-{}", self.uid)).join(id));
        dirs
    }
}

/// Where the relume of a whole machine has everything (`--system`), by the Filesystem Hierarchy Standard.
pub(crate) struct System {
    /// Its config, a folder.
    pub(crate) config: &'static str,
    /// Its state.
    pub(crate) state_dir: &'static str,
    runtime_dir: &'static str,
    log_dir: &'static str,
}

/// The places of `--system`.
pub(crate) const SYSTEM: System = System {
    config: "/etc/relume",
    state_dir: "/var/lib/relume",
    runtime_dir: "/run/relume",
    log_dir: "/var/log/relume",
};

impl System {
    /// As settings of the manager.
    pub(crate) fn settings(&self) -> [(&'static str, &'static str); 3] {
        [("state_dir", self.state_dir), ("runtime_dir", self.runtime_dir), ("log_dir", self.log_dir)]
    }
}

/// Places the user has chosen; `None` where the default holds. Relative paths are relative to `base`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The folder of the configuration, or the working directory without one.
    pub(crate) base: PathBuf,
    /// `state_dir`.
    pub(crate) state_dir: Option<PathBuf>,
    /// `runtime_dir`.
    pub(crate) runtime_dir: Option<PathBuf>,
    /// `log_dir`.
    pub(crate) log_dir: Option<PathBuf>,
    /// `log_file`.
    pub(crate) log_file: Option<PathBuf>,
    /// `state_file`.
    pub(crate) state_file: Option<PathBuf>,
    /// `status_file`.
    pub(crate) status_file: Option<PathBuf>,
    /// `pid_dir`.
    pub(crate) pid_dir: Option<PathBuf>,
}

impl Wanted {
    fn state_dir(&self) -> PathBuf {
        canonical(&self.base.join(self.state_dir.as_deref().unwrap_or(Path::new(".relume"))))
    }
}

/// Every place of one manager, settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// Names this state directory in shared places; see [`id_of`].
    pub(crate) id: String,
    /// What outlives a reboot; mode 0700.
    pub(crate) state_dir: PathBuf,
    /// Sockets and the journal; mode 0711, on a tmpfs where there is one.
    pub(crate) runtime_dir: PathBuf,
    /// Logs of services.
    pub(crate) log_dir: PathBuf,
    /// The manager's own log.
    pub(crate) log_file: PathBuf,
    /// What a relume after the next reboot must know, and what has happened.
    pub(crate) state_file: PathBuf,
    /// States for other programs to read.
    pub(crate) status_file: PathBuf,
    /// One `NAME.pid` for each service that runs.
    pub(crate) pid_dir: PathBuf,
    /// What is not as it was wanted, such as the place of the state: to be said at start.
    pub(crate) moved: Option<String>,
}

impl Places {
    /// The control socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.runtime_dir.join(CONTROL_SOCKET)
    }

    /// The file that is locked while a manager holds the state directory.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.state_dir.join("lock")
    }

    /// Settles every place and creates its directories. The link `run` is left to [`Self::link_runtime_dir`]:
    /// it belongs to whoever holds the lock.
    ///
    /// # Errors
    /// When a directory cannot be created or belongs to somebody else: with path and reason.
    pub(crate) fn settle(wanted: &Wanted, around: &Surroundings) -> io::Result<Self> {
        // Before anything is made: making it would make what the link leads to, somewhere else.
        if let Some(dir) = wanted.runtime_dir.as_ref().map(|dir| wanted.base.join(dir)) {
            refuse_dangling(&dir)?;
        }
        let (state_dir, mut moved) = settle_state_dir(wanted, around)?;
        let id = id_of(&state_dir);
        let runtime_dir = settle_runtime_dir(wanted, around, &id)?;
        let at = |chosen: &Option<PathBuf>, default: PathBuf| match chosen {
            Some(path) => wanted.base.join(path),
            None => default,
        };
        let places = Self {
            log_dir: settle_log_dir(wanted, &state_dir, &mut moved),
            log_file: at(&wanted.log_file, state_dir.join("relume.log")),
            state_file: at(&wanted.state_file, state_dir.join("state.db")),
            status_file: at(&wanted.status_file, state_dir.join("status.json")),
            pid_dir: at(&wanted.pid_dir, state_dir.join("pids")),
            id,
            state_dir,
            runtime_dir,
            moved,
        };
        places.make_shared_dirs()?;
        Ok(places)
    }

    /// Makes the directories again that are missing: all that can be made.
    ///
    /// # Errors
    /// The first that cannot be made, or is not as it should be.
    pub(crate) fn restore(&self, around: &Surroundings) -> io::Result<()> {
        let state = own_dir(&self.state_dir, STATE_MODE, around.uid);
        let runtime = own_dir(&self.runtime_dir, RUNTIME_MODE, around.uid);
        state.and(runtime).and(self.make_shared_dirs())
    }

    fn make_shared_dirs(&self) -> io::Result<()> {
        let files = [&self.log_file, &self.status_file];
        let dirs = [&self.log_dir, &self.pid_dir].map(|dir| dir.as_path()).into_iter();
        let dirs = dirs.chain(files.into_iter().filter_map(|file| file.parent()));
        // All of them, whatever one of them says.
        let made: Vec<io::Result<()>> = dirs.map(|dir| make_dirs(dir, SHARED_MODE)).collect();
        made.into_iter().collect()
    }

    /// Points `STATE_DIR/run` to the runtime directory, in one step.
    ///
    /// # Errors
    /// From symlink(2) and rename(2).
    pub(crate) fn link_runtime_dir(&self) -> io::Result<()> {
        let link = self.state_dir.join(RUN_LINK);
        if fs::read_link(&link).is_ok_and(|target| target == self.runtime_dir) {
            return Ok(());
        }
        let fresh = self.state_dir.join(format!("{RUN_LINK}.{}", std::process::id()));
        symlink(&self.runtime_dir, &fresh).and_then(|()| fs::rename(&fresh, &link)).map_err(|error| {
            // A leftover of a failed rename would only be litter.
            let _ = fs::remove_file(&fresh);
            about(&link, "cannot point it to the runtime directory", &error)
        })
    }
}

/// The configurations to read: what was given, else `RELUME_CONFIG`, else the first known name in `folder`.
/// As they were written, because that is how messages name them; relative to `folder`.
pub(crate) fn configs(given: &[PathBuf], env: Option<PathBuf>, folder: &Path) -> Vec<PathBuf> {
    if !given.is_empty() {
        return given.to_vec();
    }
    if let Some(path) = env.filter(|path| !path.as_os_str().is_empty()) {
        return vec![path];
    }
    let known = relume_config::DISCOVERY.iter().find(|name| folder.join(name).exists());
    known.map(PathBuf::from).into_iter().collect()
}

/// The folder that defaults such as `.relume` and `logs` lie in: that of "the config", the first one.
pub(crate) fn base_of(configs: &[PathBuf], folder: &Path) -> PathBuf {
    let Some(first) = configs.first().map(|path| folder.join(path)) else { return folder.to_owned() };
    // Not canonical: a configuration that is a link belongs to the folder it is named in.
    if first.is_dir() { first } else { first.parent().unwrap_or(folder).to_owned() }
}

/// Names a state directory in shared places such as /run/relume: 16 hexadecimal digits, the FNV-1a hash of
/// its canonical path (<http://www.isthe.com/chongo/tech/comp/fnv/>). Short enough for `sun_path`, the same
/// in every version, for ever.
pub(crate) fn id_of(state_dir: &Path) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash = state_dir
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(OFFSET, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    format!("{hash:016x}")
}

/// A manager as a client finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its state directory: where it was looked for first when none exists.
    pub(crate) state_dir: PathBuf,
    /// Its control socket, which need not exist.
    pub(crate) socket: PathBuf,
}

/// Finds the manager of this state directory, which need not run.
///
/// # Errors
/// When the link `run` or the runtime directory belongs to somebody else.
pub(crate) fn find(wanted: &Wanted, around: &Surroundings) -> io::Result<Found> {
    let first = wanted.state_dir();
    // As in settling: only from the default place.
    let fallback = around.fallback_state_dir(&first).filter(|_| wanted.state_dir.is_none());
    for state_dir in [Some(&first), fallback.as_ref()].into_iter().flatten() {
        if let Some(runtime_dir) = follow_run_link(state_dir, around.uid)? {
            return Ok(Found { state_dir: state_dir.clone(), socket: runtime_dir.join(CONTROL_SOCKET) });
        }
    }
    // No link: either nothing ever ran here, or somebody removed it.
    let id = id_of(&first);
    let socket = around
        .runtime_dirs(&id)
        .into_iter()
        .map(|dir| dir.join(CONTROL_SOCKET))
        .find(|socket| socket.exists());
    let socket = socket.unwrap_or_else(|| first.join(RUN_LINK).join(CONTROL_SOCKET));
    Ok(Found { state_dir: first, socket })
}

fn follow_run_link(state_dir: &Path, uid: u32) -> io::Result<Option<PathBuf>> {
    let link = state_dir.join(RUN_LINK);
    let Ok(found) = fs::symlink_metadata(&link) else { return Ok(None) };
    check_owner(&link, found.uid(), uid)?;
    if !found.file_type().is_symlink() {
        return Err(about(&link, "not followed", &"it is not the link that relume makes"));
    }
    // A disk that does not tell is no reason not to look where the manager would be without the link.
    let Ok(target) = fs::read_link(&link).map(|target| state_dir.join(target)) else { return Ok(None) };
    match fs::symlink_metadata(&target) {
        Ok(found) if found.is_dir() => check_owner(&target, found.uid(), uid)?,
        Ok(_) => return Err(about(&target, "not used as runtime directory", &"it is not a directory")),
        // Gone with a reboot: the socket will not be found, which says what it has to.
        Err(_) => {}
    }
    Ok(Some(target))
}

fn check_owner(path: &Path, owner: u32, uid: u32) -> io::Result<()> {
    if owner == 0 || owner == uid {
        return Ok(());
    }
    let why = format!("it belongs to user {owner}, not to this user ({uid}) or root");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{}: not used: {why}", path.display())))
}

fn settle_state_dir(wanted: &Wanted, around: &Surroundings) -> io::Result<(PathBuf, Option<String>)> {
    let first = wanted.state_dir();
    let problem = match own_dir(&first, STATE_MODE, around.uid) {
        Ok(()) => return Ok((first, None)),
        Err(problem) => problem,
    };
    // Only the default place is moved away from: a place that was asked for by name is meant.
    let Some(second) = around.fallback_state_dir(&first).filter(|_| wanted.state_dir.is_none()) else {
        return Err(problem);
    };
    own_dir(&second, STATE_MODE, around.uid)?;
    let second = canonical(&second);
    let moved = format!("{problem}; the state is kept in {} instead", second.display());
    Ok((second, Some(moved)))
}

/// A link that leads nowhere is a mistake, or a trap.
fn refuse_dangling(dir: &Path) -> io::Result<()> {
    match (fs::read_link(dir), fs::metadata(dir)) {
        (Ok(target), Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            let why = format!("it is a link to {}, which does not exist", target.display());
            Err(about(dir, "not used as runtime directory", &why))
        }
        _ => Ok(()),
    }
}

/// Where service logs go. The default place, beside the config, is moved away from together with the state: to beside
/// that, and said with it.
fn settle_log_dir(wanted: &Wanted, state_dir: &Path, moved: &mut Option<String>) -> PathBuf {
    let default = wanted.base.join("logs");
    let log_dir = wanted.log_dir.as_ref().map_or_else(|| default.clone(), |dir| wanted.base.join(dir));
    let writable = || {
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        make_dirs(&log_dir, SHARED_MODE).is_ok() && rustix::fs::access(&log_dir, access).is_ok()
    };
    match moved {
        Some(text) if log_dir == default && !writable() => {
            let beside = state_dir.join("logs");
            text.push_str(&format!(", and the logs of services in {}", beside.display()));
            beside
        }
        Some(_) | None => log_dir,
    }
}

fn settle_runtime_dir(wanted: &Wanted, around: &Surroundings, id: &str) -> io::Result<PathBuf> {
    if let Some(dir) = &wanted.runtime_dir {
        let dir = canonical(&wanted.base.join(dir));
        own_dir(&dir, RUNTIME_MODE, around.uid)?;
        return Ok(dir);
    }
    let mut problem = None;
    for dir in around.runtime_dirs(id) {
        match own_dir(&dir, RUNTIME_MODE, around.uid) {
            Ok(()) => return Ok(dir),
            Err(error) => problem = Some(error),
        }
    }
    Err(problem.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

/// Makes sure of a directory that is ours: created with its missing parents, or found as we would have made
/// it. Its parent `relume` or `relume-UID` is held to the same.
fn own_dir(dir: &Path, mode: u32, uid: u32) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        make_dirs(parent, if mode == STATE_MODE { SHARED_MODE } else { RUNTIME_MODE })?;
        if parent.file_name().is_some_and(|name| name.as_bytes().starts_with(b"relume")) {
            check_dir(parent, uid)?;
        }
    }
    make_dirs(dir, mode)?;
    check_dir(dir, uid)?;
    let permissions = fs::symlink_metadata(dir)?.permissions();
    if permissions.mode() & 0o7777 != mode {
        // A umask may have taken bits away, an older relume may have given more.
        let set = fs::set_permissions(dir, fs::Permissions::from_mode(mode));
        set.map_err(|error| about(dir, "cannot set its mode", &error))?;
    }
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|error| about(dir, "cannot be written", &io::Error::from(error)))
}

/// A directory, not a link to one; ours or root's; writable by its owner alone.
fn check_dir(dir: &Path, uid: u32) -> io::Result<()> {
    let found = fs::symlink_metadata(dir).map_err(|error| about(dir, "cannot be looked at", &error))?;
    if !found.is_dir() {
        return Err(about(dir, "not used", &"it is not a directory"));
    }
    check_owner(dir, found.uid(), uid)?;
    // Group and others; a shared directory with the sticky bit lets strangers plant files too.
    if found.mode() & 0o022 != 0 {
        return Err(about(dir, "not used", &"others can write it (chmod go-w)"));
    }
    Ok(())
}

fn make_dirs(dir: &Path, mode: u32) -> io::Result<()> {
    relume_os::files::create_dir(dir, mode).map(|_| ()).map_err(|error| io::Error::other(error.to_string()))
}

/// The canonical path, also of what does not exist yet: then that of its nearest ancestor that does.
fn canonical(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute
        .ancestors()
        .find_map(|ancestor| {
            let real = fs::canonicalize(ancestor).ok()?;
            let rest = absolute.strip_prefix(ancestor).ok()?;
            Some(if rest.as_os_str().is_empty() { real } else { real.join(rest) })
        })
        .unwrap_or(absolute)
}

fn about(path: &Path, what: &str, why: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {what}: {why}", path.display()))
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
