//! One line in the native protocol of systemd's journal (systemd.journal-fields(7)).

use super::record::{Record, Severity};

/// The datagram.
pub(super) fn message(record: &Record) -> Vec<u8> {
    let mut out = Vec::with_capacity(record.bytes.len() + 160);
    let severity = record.severity.unwrap_or(Severity::Info) as u8;
    field(&mut out, "PRIORITY", severity.to_string().as_bytes());
    field(&mut out, "SYSLOG_IDENTIFIER", record.service.as_bytes());
    field(&mut out, "RELUME_SERVICE", record.service.as_bytes());
    if let Some(run) = record.run {
        field(&mut out, "RELUME_RUN", run.to_string().as_bytes());
    }
    field(&mut out, "RELUME_STREAM", record.stream().as_bytes());
    // The journal's own stamp is of its receipt.
    let micros = u64::try_from(record.at / 1000).unwrap_or(0);
    field(&mut out, "SYSLOG_TIMESTAMP", micros.to_string().as_bytes());
    field(&mut out, "MESSAGE", record.bytes.strip_suffix(b"\r").unwrap_or(&record.bytes));
    out
}

/// `NAME=value`, or for what could be misread its length in front.
fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if value.iter().any(|&byte| byte < b' ' && byte != b'\t') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_could_be_misread_have_their_length_in_front() {
        let mut out = Vec::new();
        field(&mut out, "A", b"plain");
        field(&mut out, "B", b"x\nC=1");
        assert_eq!(out, b"A=plain\nB\n\x05\0\0\0\0\0\0\0x\nC=1\n");
    }
}
