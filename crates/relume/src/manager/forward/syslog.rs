//! One line as a message of syslog (RFC 5424).
//!
//! `<30>1 2026-11-21T04:13:33.123456Z host web 7 stdout - text`: the service is APP-NAME, the run is PROCID (a change
//! of it tells a restart, as the RFC wants), the stream is MSGID. There is no structured data: an element of our own
//! would need a private enterprise number, which the project has not got.

use jiff::Timestamp;

use super::record::{Record, Severity};

/// The message, cut to `most` bytes.
pub(super) fn message(record: &Record, facility: u8, most: usize) -> Vec<u8> {
    let severity = record.severity.unwrap_or(Severity::Info) as u8;
    let at = Timestamp::from_nanosecond(i128::from(record.at)).unwrap_or_default();
    let run = record.run.map_or_else(|| "-".to_owned(), |run| run.to_string());
    let (host, service, stream) = (host(), word(&record.service, 48), record.stream());
    let head = format!("<{}>1 {at:.6} {host} {service} {run} {stream} - ", facility * 8 + severity);
    let mut message = head.into_bytes();
    message.extend_from_slice(record.bytes.strip_suffix(b"\r").unwrap_or(&record.bytes));
    message.truncate(most);
    message
}

/// This machine's name.
pub(super) fn host() -> String {
    let name = rustix::system::uname();
    word(&name.nodename().to_string_lossy(), 255)
}

/// Printable ASCII without spaces, as a word of the header has to be (section 6).
fn word(text: &str, most: usize) -> String {
    let word: String = text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(most).collect();
    if word.is_empty() { "-".into() } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output_index::Channel;

    fn record(text: &str) -> Record {
        Record {
            service: "web 1".into(),
            at: 1_700_000_000_123_456_789,
            run: Some(7),
            channel: Channel::Err,
            severity: None,
            bytes: text.into(),
        }
    }

    #[test]
    fn a_message_is_what_the_rfc_says() {
        let text = String::from_utf8(message(&record("a line\r"), 3, usize::MAX)).unwrap();
        let host = host();
        assert_eq!(text, format!("<30>1 2023-11-14T22:13:20.123456Z {host} web_1 7 stderr - a line"));
        let bad = Record { severity: Some(Severity::Error), run: None, ..record("x") };
        assert!(message(&bad, 16, usize::MAX).starts_with(b"<131>1 "));
        assert_eq!(message(&record(&"x".repeat(1000)), 3, 100).len(), 100);
    }
}
