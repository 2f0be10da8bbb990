//! One line on its way, whatever protocol it will be said in.

use std::borrow::Cow;

use crate::log_files::Line;
use crate::output_index::Channel;

/// How bad a line is, where it says so: the numbers of syslog (RFC 5424, section 6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Error = 3,
    Warning = 4,
    Info = 6,
    Debug = 7,
}

/// See the module's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) service: String,
    /// Nanoseconds since 1970.
    pub(super) at: i64,
    pub(super) run: Option<u32>,
    pub(super) channel: Channel,
    /// `None`: nobody knows what the service means by it.
    pub(super) severity: Option<Severity>,
    pub(super) bytes: Vec<u8>,
}

impl Record {
    pub(super) fn of(line: Line, service: &str, own: bool, now: i64) -> Self {
        Self {
            service: service.to_owned(),
            at: line.at.unwrap_or(now),
            run: line.run.filter(|_| !own),
            channel: line.channel,
            severity: if own { severity_of(&line.bytes) } else { None },
            bytes: line.inner.unwrap_or(line.bytes),
        }
    }

    /// That so much of a log is gone.
    pub(super) fn gap(service: &str, bytes: u64, now: i64) -> Self {
        Self {
            service: service.to_owned(),
            at: now,
            run: None,
            channel: Channel::Out,
            severity: Some(Severity::Warning),
            bytes: gap_text(service, bytes).into_bytes(),
        }
    }

    /// As text; what is not UTF-8 is replaced.
    pub(super) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.bytes.strip_suffix(b"\r").unwrap_or(&self.bytes))
    }

    pub(super) fn stream(&self) -> &'static str {
        match self.channel {
            Channel::Out => "stdout",
            Channel::Err => "stderr",
        }
    }
}

/// What is said about a gap.
pub(super) fn gap_text(service: &str, bytes: u64) -> String {
    format!("relume: {bytes} bytes of the log of {service} were rotated away before they could be forwarded")
}

/// The level of a line of relume's own: `TIME WARN  …`, or `"level":"WARN"` in JSON.
fn severity_of(line: &[u8]) -> Option<Severity> {
    let text = std::str::from_utf8(line).ok()?;
    let word = match text.split_once("\"level\":\"") {
        Some((_, rest)) if text.starts_with('{') => rest.split('"').next()?,
        _ => text.split_whitespace().nth(1)?,
    };
    match word {
        "ERROR" => Some(Severity::Error),
        "WARN" => Some(Severity::Warning),
        "INFO" => Some(Severity::Info),
        "DEBUG" => Some(Severity::Debug),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_our_own_say_how_bad_they_are() {
        assert_eq!(severity_of(b"2026-11-21T04:00:00Z WARN  web: crashed"), Some(Severity::Warning));
        assert_eq!(severity_of(br#"{"at":"x","level":"ERROR","message":"y"}"#), Some(Severity::Error));
        assert_eq!(severity_of(b"    continued"), None);
        assert_eq!(severity_of(b"\xff"), None);
    }
}
