//! The publisher and all that shows something, and what is said first.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use crate::cli::{Followed, LogStream, Screen};
use crate::manager::archive::Archive;
use crate::manager::capture::{Capture, LogTarget, OWN, OWN_NAME, Origin, Rotate, Stream};
use crate::manager::forward::Forwarding;
use crate::manager::gate::Gate;
use crate::manager::publish::{
    self, Beginnings, Board, Desk, Level, Note, Outlets, OwnLog, Publisher, Publishing, Store, Terminal,
};
use crate::manager::units::Units;
use crate::places::Places;
use crate::systemd::Teller;

use super::Trouble;

/// How large relume's own log grows before it is rotated, and how many old ones are kept: some days of a
/// busy machine.
pub(super) const OWN_LOG: Rotate = Rotate::by_size(10_000_000, 5);

/// Descriptors that relume needs beside those of the services.
pub(super) const OWN_DESCRIPTORS: u64 = 64 + 512;
/// What is shown where, before anything else happens.
pub(super) struct Shown<'a> {
    pub(super) units: &'a Arc<Units>,
    pub(super) places: &'a Places,
    pub(super) screen: &'a Screen,
    pub(super) names: &'a [String],
    /// Another manager has shown what is settled.
    pub(super) again: bool,
    /// Another process shows and captures, for now.
    pub(super) stands_by: bool,
}

/// The publisher and what belongs to it.
pub(super) struct Showing {
    pub(super) publisher: Publisher,
    pub(super) thread: JoinHandle<()>,
    pub(super) board: Arc<Mutex<Board>>,
    pub(super) desk: Arc<Desk>,
    pub(super) own_log: std::os::fd::OwnedFd,
    /// Started before any service, so that what it has to send begins with their first line.
    pub(super) forwarding: Arc<OnceLock<Forwarding>>,
}

/// Nothing is shown before the gate is open.
pub(super) fn show(
    shown: &Shown<'_>,
    beginnings: Beginnings,
    (archive, gate): (&Archive, &Gate),
) -> Result<Showing, Trouble> {
    let Shown { units, places, screen, names, again, stands_by } = shown;
    let (log, own_log) = OwnLog::new(units.manager.log_level, units.manager.log_format)?;
    let told = Arc::new(Mutex::new(None));
    let store = Store::start(places.status_file.clone(), Arc::clone(&told))?;
    let meant = meant(units, names);
    let terminal = Terminal::start(screen, meant.iter().map(String::as_str), *again)?;
    let outlets = Outlets::new(log, terminal, store, places.pid_dir.clone());
    let forwarding = outlets.forwarding();
    let board = Board::new(Arc::clone(units), (*places).clone(), beginnings);
    let board = Arc::new(Mutex::new(board));
    let desk = Arc::new(Desk::new());
    let archive = archive.clone();
    let publishing = Publishing {
        board: Arc::clone(&board),
        desk: Arc::clone(&desk),
        outlets,
        archive,
        systemd: Teller::of_this_process(),
        gate: gate.clone(),
    };
    let voiced = publishing.archive.clone();
    let (publisher, thread) = publish::start(publishing)?;
    voiced.speak_to(publisher.clone());
    *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(publisher.clone());
    if !stands_by {
        let _only = forwarding.set(Forwarding::start(units, places, &publisher)?);
    }
    Ok(Showing { publisher, thread, board, desk, own_log, forwarding })
}

/// The services that are meant to come up: the named ones, or those that start by themselves.
pub(super) fn meant(units: &Units, names: &[String]) -> Vec<String> {
    let wanted = |name: &&relume_core::Name| match units.get(name) {
        Some(unit) if names.is_empty() => unit.config.spec.policy.autostart,
        Some(_) => names.iter().any(|named| **named == ***name),
        None => false,
    };
    units.order.iter().filter(wanted).map(|name| name.to_string()).collect()
}

/// `read`: the configuration has been read, and not handed on.
pub(super) fn say_beginnings(
    publisher: &Publisher,
    (places, descriptors): (&Places, u64),
    (units, read): (&Units, bool),
) {
    let say = |level, text| publisher.send(Note::Say { level, text });
    let services = units.order.len();
    let plural = if services == 1 { "" } else { "s" };
    say(
        Level::Debug,
        format!(
            "relume {} with {services} service{plural}, config {}, pid {}, state in {}, sockets in {}",
            env!("CARGO_PKG_VERSION"),
            if read { "read" } else { "handed on" },
            std::process::id(),
            places.state_dir.display(),
            places.runtime_dir.display()
        ),
    );
    if let Some(moved) = &places.moved {
        say(Level::Warn, moved.clone());
    }
    // A pidfd and the read end of a pipe for each.
    let room = descriptors.saturating_sub(OWN_DESCRIPTORS) / 2;
    if services as u64 > room {
        say(
            Level::Warn,
            format!(
                "this system allows {descriptors} open files, enough for about {room} of {services} services at \
                 once; raise the hard limit with LimitNOFILE= or in /etc/security/limits.conf"
            ),
        );
    }
}

pub(super) fn start_capture(
    publisher: &Publisher,
    places: &Places,
    (own_log, stands_by): (std::os::fd::OwnedFd, bool),
) -> Result<Capture, Trouble> {
    let reports = publisher.clone();
    let vault = places.runtime_dir.join("output");
    let on_report = Box::new(move |report| reports.send(Note::Capture(report)));
    let capture =
        if stands_by { Capture::at_rest(vault, on_report) } else { Capture::start(&vault, on_report) }?;
    let log = Arc::new(LogTarget::plain(places.log_file.clone(), Some(OWN_LOG)));
    let (id, who, origin) = (OWN, OWN_NAME.into(), Origin { run: 0, is_error: false });
    let stream = Stream { id, log, pipe: own_log, who, origin, begins: false };
    capture.attach(stream).map_err(|why| Trouble { text: format!("relume's own log: {why}"), help: None })?;
    capture.gather();
    Ok(capture)
}

/// The output of all services, for `up --follow`. `again`: another manager has shown some of it.
pub(super) fn stream(
    units: &Units,
    places: &Places,
    (screen, again): (&Screen, bool),
) -> std::io::Result<LogStream> {
    let logs = units.order.iter().filter_map(|name| units.get(name));
    let logs = logs.map(|unit| (unit.config.spec.name.to_string(), unit.out.path.to_path_buf())).collect();
    let (status, runtime_dir) = (places.status_file.clone(), places.runtime_dir.clone());
    LogStream::start(Followed { logs, status, runtime_dir, again }, screen)
}
