//! One line as a message of syslog (RFC 5424).
//!
//! Local sockets get what syslog(3) writes there (RFC 3164, without the host): `<30>Nov 21 04:13:33 web[7]: text`.
//!
//! `<30>1 2026-11-21T04:13:33.123456Z host web 7 stdout - text`: the service is APP-NAME, the run is PROCID (a change
//! of it tells a restart, as the RFC wants), the stream is MSGID. There is no structured data: an element of our own
//! would need a private enterprise number, which the project has not got.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use relume_config::Forward;

use super::record::{Record, Severity};

/// The message, cut to `most` bytes.
pub(super) fn message(record: &Record, target: &Forward, most: usize) -> Vec<u8> {
    let severity = record.severity.unwrap_or(Severity::Info) as u8;
    let priority = target.facility * 8 + severity;
    let at = Timestamp::from_nanosecond(i128::from(record.at)).unwrap_or_default();
    let run = record.run.map_or_else(|| "-".to_owned(), |run| run.to_string());
    let (host, service, stream) = (host(), word(&record.service, 48), record.stream());
    let head = if target.rfc5424 {
        format!("<{priority}>1 {at:.6} {host} {service} {run} {stream} - ")
    } else {
        let time = at.to_zoned(TimeZone::system()).strftime("%b %e %H:%M:%S").to_string();
        let run = record.run.map(|run| format!("[{run}]")).unwrap_or_default();
        format!("<{priority}>{time} {service}{run}: ")
    };
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

    fn target(facility: u8, rfc5424: bool) -> Forward {
        let to = relume_config::Receiver::SyslogUnix("/dev/log".into());
        let (shown, tag, headers) = (String::new(), String::new(), Vec::new());
        Forward { shown, to, facility, rfc5424, tag, headers, ca: None }
    }

    #[test]
    fn a_local_socket_gets_the_form_that_is_understood_there() {
        let text = String::from_utf8(message(&record("a line"), &target(3, false), usize::MAX)).unwrap();
        assert!(text.starts_with("<30>Nov 14 ") || text.starts_with("<30>Nov 15 "), "{text}");
        assert!(text.ends_with(" web_1[7]: a line"), "{text}");
    }

    #[test]
    fn a_message_is_what_the_rfc_says() {
        let text = String::from_utf8(message(&record("a line\r"), &target(3, true), usize::MAX)).unwrap();
        let host = host();
        assert_eq!(text, format!("<30>1 2023-11-14T22:13:20.123456Z {host} web_1 7 stderr - a line"));
        let bad = Record { severity: Some(Severity::Error), run: None, ..record("x") };
        assert!(message(&bad, &target(16, true), usize::MAX).starts_with(b"<131>1 "));
        assert_eq!(message(&record(&"x".repeat(1000)), &target(3, true), 100).len(), 100);
    }
}
