//! relume's own log. Its lines go through a pipe to capture, like a service's: rotated, and safe from a full or
//! hung disk. What does not fit into the pipe is counted, and the count is said as soon as there is room: by the next line,
//! or by itself when none comes ([`OwnLog::catch_up`]).

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
    /// The end of a line of which the pipe has taken the beginning.
    rest: Vec<u8>,
}

impl OwnLog {
    /// The log, and the end from which capture reads.
    pub(crate) fn new(most: LogLevel, format: LogFormat) -> relume_os::Result<(Self, OwnedFd)> {
        let Pipe { read, write } = Pipe::new()?;
        pipes::set_nonblocking(&write, true)?;
        Ok((Self { pipe: write, most, format, dropped: 0, rest: Vec::new() }, read))
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
        if !self.catch_up() || !self.write(level, text, fields) {
            self.dropped += 1;
        }
    }

    /// Whether something is still to be said that there was no room for.
    pub(super) fn owes(&self) -> bool {
        self.dropped > 0 || !self.rest.is_empty()
    }

    /// Says what is owed. False: there is no room yet.
    pub(super) fn catch_up(&mut self) -> bool {
        if !self.rest.is_empty() {
            let written = rustix::io::write(&self.pipe, &self.rest).unwrap_or(0);
            self.rest.drain(..written);
            if !self.rest.is_empty() {
                return false;
            }
        }
        let dropped = self.dropped;
        if dropped > 0 {
            let (lines, were) = if dropped == 1 { ("line", "was") } else { ("lines", "were") };
            let lost =
                format!("{dropped} {lines} of this log {were} lost: it could not be written fast enough");
            if !self.write(Level::Warn, &lost, || json!({ "lost": dropped })) {
                return false;
            }
            self.dropped = 0;
        }
        true
    }

    fn write(&mut self, level: Level, text: &str, fields: impl FnOnce() -> serde_json::Value) -> bool {
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
        // Up to PIPE_BUF a write is whole or not at all (pipe(7)); of a longer line the pipe may take a part.
        let Ok(written) = rustix::io::write(&self.pipe, line.as_bytes()) else { return false };
        self.rest.extend_from_slice(&line.as_bytes()[written..]);
        true
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

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn all(log: OwnLog, read: OwnedFd) -> String {
        drop(log);
        let mut text = String::new();
        std::fs::File::from(read).read_to_string(&mut text).unwrap();
        text
    }

    fn fill(log: &mut OwnLog) -> u64 {
        let mut told = 0;
        while !log.owes() {
            log.line(Level::Info, &format!("number {told}"), || json!({}));
            told += 1;
        }
        told - 1
    }

    /// Shown to fail: without the end that is kept, the next line stands in the middle of the torn one.
    #[test]
    fn a_long_line_that_fits_only_in_part_is_completed_first() {
        let (mut log, read) = OwnLog::new(LogLevel::Info, LogFormat::Text).unwrap();
        fill(&mut log);
        let mut buffer = vec![0; 40_000];
        let mut got = 0;
        while got < 40_000 {
            got += rustix::io::read(&read, &mut buffer[got..]).unwrap();
        }
        log.line(Level::Info, &"long ".repeat(12_000), || json!({}));
        assert!(log.owes());
        log.line(Level::Info, "too much", || json!({}));
        let mut text = String::from_utf8(buffer).unwrap();
        let mut more = vec![0; 65_536];
        got = rustix::io::read(&read, &mut more).unwrap();
        text.push_str(std::str::from_utf8(&more[..got]).unwrap());
        assert!(log.catch_up());
        log.line(Level::Info, "after it", || json!({}));
        text.push_str(&all(log, read));
        let long: Vec<&str> = text.lines().filter(|line| line.contains("long")).collect();
        assert_eq!(long.len(), 1);
        assert!(long[0].ends_with(&format!("INFO  {}", "long ".repeat(12_000))));
        assert!(!text.contains("too much") && text.contains(" 1 line of this log was lost"), "counted");
        assert!(text.ends_with("after it\n"));
    }

    #[test]
    fn what_was_lost_is_said_without_another_line() {
        let (mut log, read) = OwnLog::new(LogLevel::Info, LogFormat::Json).unwrap();
        let told = fill(&mut log);
        log.line(Level::Info, "too much", || json!({}));
        assert!(!log.catch_up());
        let mut buffer = vec![0; 65_536];
        let got = rustix::io::read(&read, &mut buffer).unwrap();
        assert!(log.catch_up() && !log.owes());
        let text = String::from_utf8(buffer[..got].to_vec()).unwrap() + &all(log, read);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len() as u64, told + 1);
        assert_eq!(lines.last().unwrap()["lost"], 2);
    }
}
