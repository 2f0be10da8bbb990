//! Lines that were stored with more than the service wrote: what it wrote, and the time that the line itself says.
//!
//! Which lines those are is known from the index, never guessed: a service may write times or objects of its own.

use std::str::FromStr;

use jiff::Timestamp;
use serde::Deserialize;

use super::lines::Piece;
use crate::output_index::Form;

/// See the module's description.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// In nanoseconds since 1970; `None`: this piece of the line does not say.
    pub(super) at: Option<i64>,
    pub(super) inner: Vec<u8>,
}

#[derive(Deserialize)]
struct Object {
    at: String,
    line: String,
}

/// `None`: it is as the service wrote it, or cannot be read. A very long line in pieces is one where it is an object.
pub(super) fn read(form: Form, piece: Piece, bytes: &[u8]) -> Option<Stored> {
    match form {
        Form::Raw => None,
        Form::Timestamp if !piece.first => None,
        Form::Timestamp => {
            let end = memchr::memchr(b' ', bytes)?;
            let at = time(std::str::from_utf8(&bytes[..end]).ok()?)?;
            Some(Stored { at: Some(at), inner: bytes[end + 1..].to_vec() })
        }
        Form::Json => {
            let object: Object = serde_json::from_slice(bytes).ok()?;
            Some(Stored { at: time(&object.at), inner: object.line.into_bytes() })
        }
    }
}

fn time(text: &str) -> Option<i64> {
    i64::try_from(Timestamp::from_str(text).ok()?.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Piece = Piece { first: true, last: true };
    const AT: Option<i64> = Some(1_700_000_000_123_000_000);

    #[test]
    fn a_line_says_its_time_and_what_was_written() {
        let stamped = read(Form::Timestamp, WHOLE, b"2023-11-14T22:13:20.123Z a  b\xff").unwrap();
        assert_eq!((stamped.at, stamped.inner.as_slice()), (AT, &b"a  b\xff"[..]));
        let object = br#"{"at":"2023-11-14T22:13:20.123Z","run":7,"stream":"stdout","line":"say \"x\""}"#;
        let object = read(Form::Json, WHOLE, object).unwrap();
        assert_eq!((object.at, object.inner.as_slice()), (AT, &b"say \"x\""[..]));
    }

    #[test]
    fn what_is_no_such_line_stays_as_it_is() {
        for form in [Form::Raw, Form::Timestamp, Form::Json] {
            assert_eq!(read(form, WHOLE, b"no time here"), None);
            assert_eq!(read(form, WHOLE, b""), None);
        }
        let rest = Piece { first: false, last: true };
        assert_eq!(read(Form::Timestamp, rest, b"2023-11-14T22:13:20.123Z written by the service"), None);
        assert_eq!(read(Form::Raw, WHOLE, b"2023-11-14T22:13:20.123Z written by the service"), None);
    }
}
