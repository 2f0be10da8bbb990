//! relume's own log. Its lines go through a pipe to capture, like a service's: rotated, and safe from a full or
//! hung disk. What does not fit into the pipe is counted, and the count is said as soon as there is room.

use std::os::fd::OwnedFd;

use relume_config::{LogFormat, LogLevel};
use relume_os::pipes::{self, Pipe};
use serde_json::json;

use super::Level;
use super::board::{now, wall};

/// The writing side.
#[derive(Debug)]
pub(crate) struct OwnLog {
    pipe: OwnedFd,
    most: LogLevel,
    format: LogFormat,
    dropped: u64,
}

impl OwnLog {
    /// The log, and the end from which capture reads.
    pub(crate) fn new(most: LogLevel, format: LogFormat) -> relume_os::Result<(Self, OwnedFd)> {
        let Pipe { read, write } = Pipe::new()?;
        pipes::set_nonblocking(&write, true)?;
        Ok((Self { pipe: write, most, format, dropped: 0 }, read))
    }

    /// From now on, what is more detailed than this is not told.
    pub(super) fn tell(&mut self, most: LogLevel) {
        self.most = most;
    }

    /// One line, if the level is told. `fields` are what a program wants to read beside the sentence;
    /// made only for a log that has them.
    pub(super) fn line(&mut self, level: Level, text: &str, fields: impl FnOnce() -> serde_json::Value) {
        if !is_told(level, self.most) {
            return;
        }
        if self.dropped > 0 {
            let lost =
                format!("{} lines of this log were lost: it could not be written fast enough", self.dropped);
            let dropped = self.dropped;
            if self.write(Level::Warn, &lost, || json!({ "lost": dropped })) {
                self.dropped = 0;
            }
        }
        if !self.write(level, text, fields) {
            self.dropped += 1;
        }
    }

    fn write(&self, level: Level, text: &str, fields: impl FnOnce() -> serde_json::Value) -> bool {
        let line = match self.format {
            LogFormat::Text => {
                // One event, one line: what follows the first is indented, so that nothing can pose as an event.
                format!("{} {:<5} {}\n", wall(now()), word(level), text.replace('\n', "\n    "))
            }
            LogFormat::Json => {
                let mut all = json!({ "at": wall(now()), "level": word(level), "message": text });
                if let (Some(all), Some(more)) = (all.as_object_mut(), fields().as_object()) {
                    all.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
                }
                format!("{all}\n")
            }
        };
        // Up to PIPE_BUF a write is whole or not at all (pipe(7)); a longer one can be cut when the pipe is full.
        matches!(rustix::io::write(&self.pipe, line.as_bytes()), Ok(n) if n == line.len())
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warn => "WARN",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
    }
}

fn is_told(level: Level, most: LogLevel) -> bool {
    let least = match level {
        Level::Error => LogLevel::Error,
        Level::Warn => LogLevel::Warn,
        Level::Info => LogLevel::Info,
        Level::Debug => LogLevel::Debug,
    };
    least <= most
}
