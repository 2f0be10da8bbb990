//! What a manager stands on: the lock, directories, the control socket, a place among the cgroups.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use relume_config::Files;
use relume_os::cgroup::CgroupRoot;
use relume_os::files::{self, Lock, LockError};
use relume_os::{notify, proc, sockets, users};
use relume_proto::Client;

use crate::config_files::Disk;
use crate::manager::api::Door;
use crate::manager::keeper::{self, Keeper};
use crate::manager::publish::{Level, Note, Publisher};
use crate::manager::ready::NOTIFY_DIR;
use crate::manager::spawn::Cgroups;
use crate::places::Places;
use crate::port_holders;
use crate::roles::AGAIN;

use super::Trouble;

/// How long somebody may hold the lock and not answer. One that was killed holds it until the last of its threads is gone, which
/// takes milliseconds, or as long as a disk keeps one waiting; one that is coming up answers within a second or two.
const SILENCE: Duration = Duration::from_secs(5);

/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(20);

/// One relume per state directory. Who answers behind the lock runs; who does not may be dying, and is waited for.
pub(super) fn lock(places: &Places) -> Result<Lock, Trouble> {
    let text = format!("pid {}", std::process::id());
    let client = Client::new(places.socket()).ok();
    let end = Instant::now() + SILENCE;
    loop {
        let by = match files::lock(&places.lock_file(), &text) {
            Ok(lock) => return Ok(lock),
            Err(LockError::Failed(error)) => return Err(error.into()),
            Err(LockError::Held { by }) => by,
        };
        let place = places.state_dir.display();
        if let Some(running) = client.as_ref().and_then(|client| client.version().ok()) {
            let text = format!("relume already runs here: pid {}, state directory {place}", running.pid);
            let help = "See it with: relume status\nStart a service with: relume start NAME\nEnd it with: relume down";
            return Err(Trouble { text, help: Some(help.into()) });
        }
        if Instant::now() >= end {
            let by = holder(&places.lock_file()).map_or(by, port_holders::in_words);
            let text = format!(
                "relume already runs here: {by}, state directory {place}; it has not answered for {} s",
                SILENCE.as_secs()
            );
            let help = "It is still coming up, or it hangs: see what it says with: relume logs --self\nEnd it with: relume down";
            return Err(Trouble { text, help: Some(help.into()) });
        }
        std::thread::sleep(LOOK);
    }
}

/// Who has the lock's file open, as far as we may see. Who took it may have ended since, and its other half has it still.
fn holder(path: &Path) -> Option<u32> {
    let path = std::fs::canonicalize(path).ok()?;
    let has_it = |pid: &u32| {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.into_iter().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target == path))
    };
    let all = proc::all().unwrap_or_default().into_iter().map(|stat| stat.pid);
    all.filter(|pid| *pid != std::process::id()).find(has_it)
}

/// Without the link clients have to look for the runtime directory, which is no reason for a successor not to come up.
pub(super) fn link_runtime_dir(places: &mut Places) -> Result<(), Trouble> {
    match places.link_runtime_dir() {
        Err(error) if std::env::var_os(AGAIN).is_some() => {
            let _told_with_others = places.moved.get_or_insert_with(|| error.to_string());
            Ok(())
        }
        linked => Ok(linked?),
    }
}

/// Where notify sockets go. Services of other users pass through it, and cannot list it.
pub(super) fn notify_dir(places: &Places) -> Result<PathBuf, Trouble> {
    let dir = places.runtime_dir.join(NOTIFY_DIR);
    files::create_dir(&dir, 0o711)?;
    // Of a life that ended without clearing up.
    notify::remove_stale(&dir)?;
    Ok(dir)
}
/// The control socket: the one that the guardian keeps, so that no client is refused meanwhile; else a new one.
pub(super) fn door(
    keeper: &Keeper,
    places: &Places,
    fds: &mut keeper::Kept,
    open: Receiver<()>,
) -> Result<Door, Trouble> {
    let held = fds.remove(keeper::CONTROL).and_then(|fds| fds.into_iter().next());
    let socket = match held {
        Some(socket) => socket,
        None => {
            let socket = sockets::listen_private(&places.socket())?;
            keeper.keep(keeper::CONTROL, &[socket.as_fd()]);
            socket
        }
    };
    Ok(Door { socket, owner: users::effective_uid(), open })
}
/// A file of variables is a page or two; one that is larger is something else.
const MOST_TEMPLATE: u64 = 1 << 20;

/// `env_file` templates: a file that is not there yet is made from its template once, for its owner alone.
pub(super) fn create_templates(publisher: &Publisher, templates: &[relume_config::Template]) {
    for template in templates {
        let path = template.path.as_path();
        if path.exists() {
            continue;
        }
        // As a config is read: a FIFO in its place does not keep relume from starting.
        let made = Disk
            .read(&template.template, MOST_TEMPLATE)
            .map_err(|error| format!("cannot read {}: {}", template.template.display(), error.reason))
            .and_then(|bytes| write_private(path, &bytes));
        let (level, text) = match made {
            Ok(()) => (
                Level::Info,
                format!(
                    "made {} from {}; put your own values in",
                    path.display(),
                    template.template.display()
                ),
            ),
            Err(error) => (Level::Warn, error),
        };
        publisher.send(Note::Say { level, text });
    }
}

pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), String> {
    files::write_atomic(path, bytes, 0o600, files::Durability::Disk).map_err(|error| error.to_string())
}
/// Our place in the cgroup v2 tree, where one can be had; `RELUME_CGROUP=off` does without.
pub(super) fn cgroups(publisher: &Publisher, places: &Places) -> Option<Cgroups> {
    let found = match std::env::var_os("RELUME_CGROUP") {
        Some(word) if word == "off" => Err("switched off by RELUME_CGROUP".to_owned()),
        _ => CgroupRoot::discover(&format!("relume-{}", places.id))
            .and_then(|root| Ok(Cgroups { way: root.probe()?, root }))
            .map_err(|error| error.to_string()),
    };
    match found {
        Ok(cgroups) => Some(cgroups),
        Err(why) => {
            let text =
                format!("no writable cgroup v2 ({why}); process trees are found by session and descent");
            publisher.send(Note::Say { level: Level::Debug, text });
            None
        }
    }
}
