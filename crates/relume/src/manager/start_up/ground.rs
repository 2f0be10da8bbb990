//! What a manager stands on: the lock, directories, the control socket, a place among the cgroups.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use relume_config::Files;
use relume_os::cgroup::CgroupRoot;
use relume_os::files::{self, Lock, LockError};
use relume_os::{notify, sockets, users};

use crate::config_files::Disk;
use crate::manager::api::Door;
use crate::manager::keeper::{self, Keeper};
use crate::manager::publish::{Level, Note, Publisher};
use crate::manager::ready::NOTIFY_DIR;
use crate::manager::spawn::Cgroups;
use crate::places::Places;
use crate::roles::AGAIN;

use super::Trouble;

/// One relume per state directory.
pub(super) fn lock(places: &Places) -> Result<Lock, Trouble> {
    let text = format!("pid {}", std::process::id());
    files::lock(&places.lock_file(), &text).map_err(|error| match error {
        LockError::Held { by } => Trouble {
            text: format!("relume already runs here: {by}, state directory {}", places.state_dir.display()),
            help: Some(
                "See it with: relume status\nStart a service with: relume start NAME\nEnd it with: relume down".into(),
            ),
        },
        LockError::Failed(error) => Trouble::from(error),
    })
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
