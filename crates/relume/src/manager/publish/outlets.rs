//! Where the publisher's words go: log, terminal, files. None of them can hold it up.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Instant;

use relume_core::{Fact, Moment, What};
use relume_proto::{EventKind, EventRecord, State, StatusFile};
use serde_json::json;

use super::Level;
use super::board::{Board, now};
use super::own_log::OwnLog;
use super::store::Store;
use crate::cli::Screen;
use crate::cli::render::progress::{Change, Progress};
use crate::manager::capture::Report;
use crate::manager::forward::Forwarding;
use crate::manager::lull::Lull;
use crate::manager::units::Units;

/// Lines that may wait for a terminal that has been stopped (Ctrl+S) before more are dropped.
const TERMINAL_QUEUE: usize = 1024;

/// How long the end waits for room in the log for what is owed: capture makes some within a tick, unless its disk is full.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(200);

/// Log, terminal and files.
pub(crate) struct Outlets {
    log: OwnLog,
    terminal: Terminal,
    store: Store,
    pid_dir: PathBuf,
    forwarding: Arc<OnceLock<Forwarding>>,
}

impl Outlets {
    pub(crate) fn new(log: OwnLog, terminal: Terminal, store: Store, pid_dir: PathBuf) -> Self {
        Self { log, terminal, store, pid_dir, forwarding: Arc::default() }
    }

    /// Where to put what forwards logs, once it is there: it speaks through the publisher, so that comes first.
    pub(crate) fn forwarding(&self) -> Arc<OnceLock<Forwarding>> {
        Arc::clone(&self.forwarding)
    }

    pub(super) fn fact(&mut self, board: &Board, fact: &Fact, record: Option<&EventRecord>) {
        if let What::ShutdownBegan { .. } = fact.what {
            self.terminal.stopping();
        }
        let Some(record) = record else { return };
        self.terminal.event(board, fact, record);
        let (level, text) = in_a_line(record);
        self.log.line(level, &text, || json!(record));
    }

    /// A configuration that holds from now on.
    pub(super) fn reconfigure(&mut self, units: &Units) {
        self.log.tell(units.manager.log_level);
        if let Some(forwarding) = self.forwarding.get() {
            forwarding.reconfigure(units);
        }
    }

    pub(super) fn say(&mut self, level: Level, text: &str) {
        self.log.line(level, text, || json!({}));
        self.terminal.say(level, text);
    }

    pub(super) fn capture(&mut self, report: &Report) {
        let level = match report {
            Report::Finished { .. } | Report::Closed { .. } | Report::Rotated { .. } => Level::Debug,
            Report::Resumed { .. } => Level::Info,
            Report::Dropped { .. } => Level::Warn,
            Report::Trouble { .. } | Report::Lost { .. } => Level::Error,
        };
        self.log.line(level, &report.to_string(), || json!({}));
        if level <= Level::Info {
            self.terminal.say(level, &report.to_string());
        }
    }

    pub(super) fn pid(&mut self, name: &str, pid: Option<u32>) {
        // A service's name is a safe file name by the rules of the configuration.
        self.store.pid(self.pid_dir.join(format!("{name}.pid")), pid);
    }

    pub(super) fn status(&mut self, file: &StatusFile) {
        // Plain strings and numbers: this cannot fail.
        self.store.status(serde_json::to_vec_pretty(file).unwrap_or_default());
    }

    /// Whether something is still to be said that there was no room for.
    pub(super) fn owe(&self) -> bool {
        self.log.owes() || self.terminal.dropped > 0
    }

    /// Says it, as far as there is room by now.
    pub(super) fn catch_up(&mut self) {
        let _later = self.log.catch_up();
        let _later = self.terminal.catch_up();
    }

    pub(super) fn finish(mut self) {
        self.store.finish();
        let patience = Instant::now() + LAST_WORDS;
        while self.log.owes() && !self.log.catch_up() && Instant::now() < patience {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        self.terminal.finish();
    }
}

/// Somebody should look at a service that is in this state.
fn is_bad(state: &State) -> bool {
    matches!(state, State::Crashed | State::Failed | State::MaxRestarts | State::Unhealthy)
}

fn with_priority(level: Level, text: &str) -> String {
    text.split_inclusive('\n').flat_map(|line| [priority(level), line]).collect()
}

/// An event as one line of the log.
fn in_a_line(record: &EventRecord) -> (Level, String) {
    let who = record.service.as_deref().map(|name| format!("{name}: ")).unwrap_or_default();
    let detail = record.detail.as_deref().unwrap_or_default();
    match (&record.event, &record.to) {
        (EventKind::State, Some(to)) => {
            let level = if is_bad(to) { Level::Warn } else { Level::Info };
            let sep = if detail.is_empty() { "" } else { ": " };
            (level, format!("{who}{}{sep}{detail}", to.as_str()))
        }
        // The state that follows says it again.
        (EventKind::Exit, _) => (Level::Debug, format!("{who}{detail}")),
        (EventKind::Warning, _) => (Level::Warn, format!("{who}{detail}")),
        _ => (Level::Info, format!("{who}{detail}")),
    }
}

/// What `up` shows: progress while services start and stop, and what goes wrong in between.
pub(crate) struct Terminal {
    screen: Screen,
    progress: Progress,
    began: Instant,
    settled: bool,
    stopping: bool,
    lines: Option<SyncSender<String>>,
    dropped: usize,
    thread: Option<JoinHandle<()>>,
    waiting_since: HashMap<String, Moment>,
    /// Standard error leads to the journal of systemd: each line says how bad it is.
    journal: bool,
}

/// Whether standard error is the journal's stream that systemd names in `JOURNAL_STREAM` as `DEVICE:INODE`
/// (systemd.exec(5)).
fn is_journal(named: Option<&std::ffi::OsStr>) -> bool {
    let stat = rustix::fs::fstat(std::io::stderr());
    let named = named.and_then(|named| named.to_str()).and_then(|named| named.split_once(':'));
    let (Ok(stat), Some((device, inode))) = (stat, named) else { return false };
    device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino)
}

/// How bad a line is, for the journal (sd-daemon(3)).
fn priority(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug => "<7>",
    }
}

impl Terminal {
    /// For the services that are meant to come up; `settled`: they have been, and how is not told again.
    pub(crate) fn start<'a>(
        screen: &Screen,
        names: impl IntoIterator<Item = &'a str>,
        settled: bool,
    ) -> std::io::Result<Self> {
        let (lines, queue) = sync_channel::<String>(TERMINAL_QUEUE);
        let own = screen.clone();
        let thread = std::thread::Builder::new().name("terminal".into()).spawn(move || {
            let mut lull = Lull::default();
            while let Ok(mut text) = lull.next(&queue) {
                // Many services starting at once are one write and not a thousand.
                while let Ok(more) = queue.try_recv() {
                    text.push_str(&more);
                }
                own.note(&text);
            }
        })?;
        let names: Vec<&str> = names.into_iter().collect();
        Ok(Self {
            progress: Progress::new(names.iter().copied(), screen.err),
            screen: screen.clone(),
            began: Instant::now(),
            settled,
            stopping: false,
            lines: Some(lines),
            dropped: 0,
            thread: Some(thread),
            waiting_since: HashMap::new(),
            journal: is_journal(std::env::var_os("JOURNAL_STREAM").as_deref()),
        })
    }

    fn event(&mut self, board: &Board, fact: &Fact, record: &EventRecord) {
        let (Some(name), Some(to)) = (record.service.as_deref(), record.to.as_ref()) else {
            if record.event != EventKind::Exit && record.event != EventKind::Config {
                let (level, text) = in_a_line(record);
                self.say(level, &text);
            }
            return;
        };
        let took = if *to == State::Starting {
            self.waiting_since.insert(name.to_owned(), fact.at);
            None
        } else {
            self.waiting_since.remove(name).map(|since| fact.at.since(since))
        };
        let pid = fact.what.service().and_then(|id| board.process_of(id)).map(|process| process.pid);
        let change = Change { service: name, state: to, reason: record.detail.as_deref(), pid, took };
        if let Some(line) = self.progress.change(&change) {
            let level = if is_bad(to) { Level::Warn } else { Level::Info };
            self.print(level, format!("{line}\n"));
        }
        if !self.settled && !self.stopping && self.progress.is_settled() {
            self.settled = true;
            let summary = self.progress.summary(self.began.elapsed());
            self.print(Level::Info, format!("{summary}\n"));
            self.progress.forget();
        }
    }

    fn stopping(&mut self) {
        self.stopping = true;
    }

    fn say(&mut self, level: Level, text: &str) {
        let (style, word) = match level {
            Level::Error => (crate::cli::render::BAD.bold(), "error: "),
            Level::Warn => (crate::cli::render::BUSY, "warning: "),
            Level::Info => (anstyle::Style::new(), ""),
            Level::Debug => return,
        };
        let text: Vec<_> = text.lines().map(crate::cli::render::text::harmless).collect();
        self.print(level, format!("{}{}\n", self.screen.err.paint(style, word), text.join("\n")));
    }

    fn print(&mut self, level: Level, text: String) {
        if self.catch_up() && self.send(level, text.clone()) {
            return;
        }
        self.dropped += text.lines().count();
    }

    /// Says how much was not shown. False: there is no room yet.
    fn catch_up(&mut self) -> bool {
        let lost = match self.dropped {
            0 => return true,
            1 => "(1 line was not shown: the terminal did not take it)\n".to_owned(),
            n => format!("({n} lines were not shown: the terminal did not take them)\n"),
        };
        let said = self.send(Level::Warn, lost);
        if said {
            self.dropped = 0;
        }
        said
    }

    /// False: there is no room.
    fn send(&self, level: Level, text: String) -> bool {
        let text = if self.journal { with_priority(level, &text) } else { text };
        let Some(lines) = &self.lines else { return true };
        !matches!(lines.try_send(text), Err(TrySendError::Full(_)))
    }

    fn finish(&mut self) {
        self.lines = None;
        let stopped = self.thread.take();
        // A terminal that has been stopped must not keep relume from leaving: the thread is left behind.
        let patience = now().after(std::time::Duration::from_secs(1));
        while stopped.as_ref().is_some_and(|thread| !thread.is_finished()) && now() < patience {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_for_the_journal_says_how_bad_it_is() {
        assert_eq!(with_priority(Level::Warn, "a\nb\n"), "<4>a\n<4>b\n");
    }

    #[test]
    fn only_the_stream_that_systemd_names_is_the_journal() {
        let stat = rustix::fs::fstat(std::io::stderr()).unwrap();
        assert!(is_journal(Some(format!("{}:{}", stat.st_dev, stat.st_ino).as_ref())));
        for other in ["", "1:2", "x", "8:"] {
            assert!(!is_journal(Some(other.as_ref())), "{other}");
        }
        assert!(!is_journal(None));
    }
}
