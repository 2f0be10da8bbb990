//! A relume of the drill's own: a folder with a config of services that can be judged, started like any other.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use relume_os::pidfd::ProcessId;
use relume_proto::EventRecord;
use serde_json::{Map, Value, json};

use super::figures::{Exits, Lines};
use super::ledger::{self, Gaps};
use super::part::{Announced, ENDER, Marks, PRINTER};
use crate::cli::{Exit, Failure};
use crate::places::{self, Surroundings, Wanted};
use crate::roles::DRILL;

/// One ender for so many printers, and at least one.
const PRINTERS_PER_ENDER: usize = 3;

/// The folder, its config, and what its services have left in it.
pub(super) struct Home {
    folder: PathBuf,
    program: PathBuf,
    printers: Vec<String>,
    enders: Vec<String>,
    keep: bool,
}

impl Home {
    /// Makes the folder and writes the config.
    pub(super) fn make(printers: usize) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(Exit::NotWell, format!("cannot find relume's program: {error}")))?;
        let random = format!("{}-{:x}", std::process::id(), relume_os::clock::monotonic_ns());
        let folder = std::env::temp_dir().join(format!("relume-drill-{random}"));
        let marks = folder.join("marks");
        let enders = (printers / PRINTERS_PER_ENDER).max(1);
        let home = Self {
            printers: (1..=printers).map(|n| format!("printer-{n}")).collect(),
            enders: (1..=enders).map(|n| format!("ender-{n}")).collect(),
            folder,
            program,
            keep: false,
        };
        // What runs is read from here: nobody else may write it.
        let made = std::fs::DirBuilder::new().mode(0o700).create(&home.folder);
        made.and_then(|()| std::fs::create_dir(&marks))
            .and_then(|()| std::fs::write(home.config(), home.services().to_string()))
            .map_err(|error| {
                let message = format!("cannot make {}: {error}", home.folder.display());
                Failure::new(Exit::NotWell, message)
            })?;
        Ok(home)
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn config(&self) -> PathBuf {
        self.folder.join("relume.json")
    }

    fn state_dir(&self) -> PathBuf {
        self.folder.join("state")
    }

    fn marks(&self) -> Marks {
        Marks(self.folder.join("marks"))
    }

    /// The services that run until they are killed.
    pub(super) fn printers(&self) -> &[String] {
        &self.printers
    }

    fn services(&self) -> Value {
        let marks = self.marks().0;
        let words = |kind: &str, name: &str| {
            let words = [self.program.to_string_lossy(), kind.into(), marks.to_string_lossy()];
            let words = words.map(|word| word.replace('$', "$$"));
            json!(words.iter().map(String::as_str).chain([name]).collect::<Vec<_>>())
        };
        let of = |kind: &'static str, names: &[String]| -> Vec<(String, Value)> {
            names.iter().map(|name| (name.clone(), json!({"command": words(kind, name)}))).collect()
        };
        let all = of(PRINTER, &self.printers).into_iter().chain(of(ENDER, &self.enders));
        json!({
            "manager": {"respawn_rate": "off"},
            "defaults": {
                "environment": {DRILL: self.folder.to_string_lossy().replace('$', "$$")},
                "restart_policy": "always",
                "max_retries": "unlimited",
                "retry_delay": "50ms",
                "backoff": "off",
                // Small, so that logs are rotated while things die.
                "log": {"rotate": {"size": "64KiB", "keep": 1000}},
            },
            "services": Map::from_iter(all),
        })
    }

    /// Starts relume on it, in the background.
    pub(super) fn start(&self) -> Result<(), Failure> {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.config()).arg("--state-dir").arg(self.state_dir());
        command.args(["up", "--detach", "--no-wait"]).current_dir(&self.folder);
        // Where the user's own relume keeps things is no matter here.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RELUME_"))
        {
            command.env_remove(name);
        }
        let started = command.output().map_err(|error| error.to_string()).and_then(|output| {
            if output.status.success() { Ok(()) } else { Err(super::target::said(&output.stderr)) }
        });
        started.map_err(|why| Failure::new(Exit::NotWell, format!("the drill's own relume: {why}")))
    }

    /// Its control socket.
    pub(super) fn socket(&self) -> Result<PathBuf, Failure> {
        let wanted =
            Wanted { base: self.folder.clone(), state_dir: Some(self.state_dir()), ..Wanted::default() };
        places::find(&wanted, &Surroundings::from_env())
            .map(|found| found.socket)
            .map_err(|error| Failure::new(Exit::NotWell, error.to_string()))
    }

    /// The lines of all printers, once relume has gone.
    pub(super) fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        for name in &self.printers {
            let log = ledger::whole_log(&self.folder.join("logs").join(format!("{name}.log")));
            lines.add(&ledger::lines(name, &log, &self.written(name)));
        }
        lines
    }

    /// What each life of a printer has noted.
    fn written(&self, name: &str) -> BTreeMap<u64, u64> {
        let marks = self.marks();
        let entries = std::fs::read_dir(&marks.0).into_iter().flatten().flatten();
        let lives = entries.filter_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            file.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(".written")?.parse::<u64>().ok()
        });
        let last = |life: &u64| std::fs::read_to_string(marks.written(name, *life)).ok()?.trim().parse().ok();
        lives.filter_map(|life| Some((life, last(&life)?))).collect()
    }

    /// The ends of all enders.
    pub(super) fn exits(&self, events: &[EventRecord], gaps: &Gaps) -> Exits {
        let mut exits = Exits::default();
        for name in &self.enders {
            let announced = std::fs::read_to_string(self.marks().lives(name)).unwrap_or_default();
            let announced: Vec<Announced> = announced.lines().filter_map(Announced::read).collect();
            exits.add(&ledger::exits(name, &announced, events, gaps));
        }
        exits
    }

    /// Lives that found another one of the same service alive, each in a sentence.
    pub(super) fn doubled(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.marks().doubled()).unwrap_or_default();
        text.lines().map(|line| format!("two lives of {line}")).collect()
    }

    /// Services that live although relume has gone.
    pub(super) fn left_behind(&self) -> Vec<String> {
        let lives = |name: &&String| {
            let lock = relume_os::files::lock(&self.marks().lock(name), "the drill");
            matches!(lock, Err(relume_os::files::LockError::Held { .. }))
        };
        let names = self.printers.iter().chain(&self.enders);
        names.filter(lives).map(|name| format!("{name} lives although relume has gone")).collect()
    }

    /// Whether a half of its relume lives.
    pub(super) fn is_held(&self) -> bool {
        let lock = relume_os::files::lock(&self.state_dir().join("lock"), "the drill");
        matches!(lock, Err(relume_os::files::LockError::Held { .. }))
    }

    /// Ends what is left of this drill's services, known by the folder in their environment.
    pub(super) fn end_leftovers(&self) {
        let mine =
            |pid: u32| relume_os::proc::environ(pid, DRILL).is_some_and(|folder| self.is_folder(&folder));
        for process in relume_os::proc::all().unwrap_or_default() {
            let open =
                || ProcessId { pid: process.pid, start_time: process.start_time }.open().ok().flatten();
            if mine(process.pid)
                && let Some(process) = open()
            {
                // It ends, or the next look at the locks tells.
                let _ended = super::target::kill(&process);
            }
        }
    }

    fn is_folder(&self, bytes: &[u8]) -> bool {
        use std::os::unix::ffi::OsStrExt;
        self.folder.as_os_str().as_bytes() == bytes
    }

    /// Leaves the folder for a look at it.
    pub(super) fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed is litter in a folder for litter.
            let _litter = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// How long the drill's own services may take until all of them run.
pub(super) const FIRST_START: Duration = Duration::from_secs(30);
