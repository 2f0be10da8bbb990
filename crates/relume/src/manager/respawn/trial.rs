//! Whether the program that lies at our path now could be the next manager: it has to say so itself.
//!
//! It is started as a child with the words of this process and [`Role::Trial`], reads the configuration and the
//! journal as a manager would, changes nothing, writes [`PROVED`] and ends. A program that is something else, or
//! cannot run here, does not.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use relume_os::exit;
use relume_os::inherit::memory_file;
use relume_os::pipes::{self, Pipe};
use relume_os::spawn::{SpawnFds, SpawnPlan, SpawnRequest, Spawner};

use crate::manager::inbox::Inbox;
use crate::manager::journal::Journal;
use crate::manager::keeper::said_guardian;
use crate::manager::reload::Source;
use crate::manager::units::Units;
use crate::places::Places;
use crate::prepared::PREPARED_FD;
use crate::recorded::Recording;
use crate::roles::{PREPARED, RECORDED, RUNNING_IMAGE, Role, own_program};

/// How long a program may take to prove itself: it reads files that were just read.
const LIMIT: Duration = Duration::from_secs(5);

/// How long a changed config is left alone: who writes it may not be done.
const SETTLED: Duration = Duration::from_secs(30);

/// Where the program finds the configuration that it is to prove itself with.
const RECORDED_FD: RawFd = 3;

/// Most of its words that are read.
const WORDS: u64 = 16 * 1024;

/// A line of one that can also come up beside the manager ([`super::beside`]): another would take over at once.
const CAN_STAND_BY: &str = "relume: can stand by";

/// The last line of a program that could be the next manager.
const PROVED: &str = "relume: ready to take over";

/// What is known of a program that has proved itself.
#[derive(Debug)]
pub(crate) struct Proved {
    /// It is another file than the one that runs.
    pub(super) other_program: bool,
    /// It can come up beside this manager, and is to.
    pub(super) stands_by: bool,
    /// The configuration that it has proved itself with; none: the files.
    pub(super) recording: Option<OwnedFd>,
    /// The same as it has read it; none: it has only judged it.
    pub(super) prepared: Option<OwnedFd>,
    /// What to know of the configuration, for people; none: it is as it was.
    pub(super) note: Option<String>,
}

/// The configuration in force, and what may take its place.
pub(crate) struct Sources {
    source: Arc<Source>,
    in_force: Option<OwnedFd>,
    /// A respawn takes up a changed config.
    take_up: bool,
}

impl Sources {
    pub(super) fn of(units: &Units, source: &Arc<Source>) -> Self {
        let in_force = units.written.as_ref().and_then(|written| written.recording.try_clone().ok());
        Self { source: Arc::clone(source), in_force, take_up: units.manager.apply_on_respawn }
    }

    /// What the successor begins with, and what people should know of that. A config that cannot be used, or is not to be taken
    /// up, is no reason against a respawn: the one in force goes on.
    fn choose(self) -> (Option<OwnedFd>, Option<String>) {
        let fresh = match self.source.read() {
            Ok(fresh) => fresh,
            Err(why) => return (self.in_force, Some(why.text)),
        };
        let known = self.in_force.as_ref().and_then(Recording::from_memory);
        if known.is_none_or(|known| known == fresh.recording) {
            return (self.in_force, None);
        }
        let not_yet = |why: &str| Some(format!("the config has changed and is not taken up: {why}"));
        if !self.take_up {
            return (self.in_force, not_yet("apply_on_respawn is off"));
        }
        if fresh.units.sources.iter().any(|file| is_fresh(file)) {
            let why =
                format!("it was changed less than {} s ago; relume apply takes it up", SETTLED.as_secs());
            return (self.in_force, not_yet(&why));
        }
        (fresh.recording.to_memory().ok(), Some("takes up the changed config".into()))
    }
}

fn is_fresh(file: &Path) -> bool {
    let changed = std::fs::metadata(file).and_then(|meta| meta.modified());
    // A time to come is that of a clock that was set back: nothing can be said.
    changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < SETTLED))
}

/// Tries the program, on a thread of its own. What comes of it comes as news.
/// So many `runs` there are.
pub(super) fn begin(inbox: &Arc<Inbox>, sources: Sources, runs: usize) -> std::io::Result<()> {
    let own = Arc::clone(inbox);
    let work = move || {
        let program = own_program();
        let (recording, note) = sources.choose();
        // Only what was recorded is sure to be the same for both.
        let prepared = recording.as_ref().and_then(|_| memory_file("relume-prepared").ok());
        let proved = prove(&program, recording.as_ref(), prepared.as_ref());
        let other_program = is_other(&program);
        // Asked only where it matters: it takes a process.
        let proved = proved.and_then(|can_stand_by| knows_guardian(can_stand_by).map(|()| can_stand_by));
        let proved = proved.map(|can_stand_by| can_stand_by && super::beside::is_wished(runs));
        let proved = proved.map(|stands_by| Proved { other_program, stands_by, recording, prepared, note });
        super::told(&own, proved);
    };
    std::thread::Builder::new().name("trial".into()).spawn(work).map(drop)
}

/// An older program takes whoever has made its channel for the guardian: here that may have been a manager that is gone.
fn knows_guardian(can_stand_by: bool) -> Result<(), String> {
    if can_stand_by || said_guardian().is_none() {
        return Ok(());
    }
    Err("it is older than this one and cannot follow a manager that has taken over from another; relume down, then up, goes back to it".into())
}

fn is_other(program: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    identity(program) != identity(Path::new(RUNNING_IMAGE))
}

/// Whether it can also stand by.
fn prove(program: &Path, recording: Option<&OwnedFd>, prepared: Option<&OwnedFd>) -> Result<bool, String> {
    let name = program.display();
    let failed = |error: &dyn std::fmt::Display| format!("cannot try {name}: {error}");
    let mut argv: Vec<OsString> = std::env::args_os().collect();
    let arg0 = argv.first().cloned();
    if let Some(first) = argv.first_mut() {
        *first = program.as_os_str().to_owned();
    }
    let mut environment = Role::Trial.environment();
    let files = [(RECORDED, RECORDED_FD, recording), (PREPARED, PREPARED_FD, prepared)];
    let files = files.into_iter().filter_map(|(key, number, file)| Some((key, number, file?)));
    environment.extend(files.clone().map(|(key, number, _)| (key.into(), number.to_string().into())));
    let request = SpawnRequest { argv, arg0, environment, ..SpawnRequest::default() };
    let plan = SpawnPlan::prepare(&request).map_err(|error| failed(&error))?;
    let Pipe { read, write } = Pipe::new().map_err(|error| failed(&error))?;
    // One that writes without end is not to hang on us.
    pipes::set_nonblocking(&write, true).map_err(|error| failed(&error))?;
    let mut spawner = Spawner::new().map_err(|error| failed(&error))?;
    let out = Some(write.as_fd());
    let extra: Vec<_> = files.map(|(_, number, file)| (number, file.as_fd())).collect();
    let fds = SpawnFds { stdin: None, stdout: out, stderr: out, extra: &extra, cgroup: None };
    let child = spawner.spawn(&plan, &fds).map_err(|error| failed(&error))?;
    drop(write);
    let in_time = child.pidfd.wait_ended(LIMIT).unwrap_or(false);
    if !in_time {
        let _gone = child.pidfd.send_signal(crate::manager::translate::number::KILL);
        let _ended = child.pidfd.wait_ended(LIMIT);
    }
    let _status = exit::reap(&child.pidfd);
    let words = words(File::from(read));
    if in_time && words.lines().next_back() == Some(PROVED) {
        return Ok(words.lines().any(|line| line == CAN_STAND_BY));
    }
    Err(match (in_time, words.trim()) {
        (false, _) => format!("{name} has not answered within {} s", LIMIT.as_secs()),
        (true, "") => format!("{name} has ended without a word: it is not a relume that runs here"),
        (true, words) => format!("{name} says: {words}"),
    })
}

fn words(mut pipe: File) -> String {
    let mut bytes = Vec::new();
    // What a child of its own holds open may never end: only what is there counts.
    let there = pipes::bytes_waiting(&pipe).unwrap_or(0);
    let most = WORDS.min(u64::try_from(there).unwrap_or(0));
    let _read = Read::by_ref(&mut pipe).take(most).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// In the trial itself, with the configuration read: the rest of what a manager needs.
pub(crate) fn try_out(places: &Places) -> ExitCode {
    use std::io::Write;
    let path = places.runtime_dir.join("journal");
    // Who writes it goes on: what is torn at one look is whole at the next.
    let looked = Journal::look(&path).or_else(|_| Journal::look(&path)).or_else(|_| Journal::look(&path));
    let (line, code) = match looked {
        Ok(()) => (format!("{CAN_STAND_BY}\n{PROVED}"), ExitCode::SUCCESS),
        Err(error) => (format!("error: {error}"), ExitCode::FAILURE),
    };
    // Unheard, it has not proved anything.
    let _unheard = std::io::stdout().write_all(format!("{line}\n").as_bytes());
    code
}
