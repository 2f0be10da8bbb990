//! The words between guardian and manager: lines of `KEY=VALUE` in one message, as in sd_notify(3).

use std::os::fd::OwnedFd;

use relume_os::channel::{Channel, Received};
use relume_os::exit::ExitStatus;
use relume_os::signals::Arrived;

/// What a manager says.
#[derive(Debug)]
pub(crate) enum Word {
    /// Keep these descriptors.
    Keep {
        /// Under which name.
        name: String,
        /// Which.
        fds: Vec<OwnedFd>,
    },
    /// Close what is kept under this name.
    Drop {
        /// Which name.
        name: String,
    },
    /// It begins anew in the same process and wants all that is kept.
    Hello,
    /// It supervises.
    Ready,
    /// It will end by itself, and so shall the guardian.
    Leave {
        /// With this exit code.
        code: u8,
        /// Whether services run on.
        detach: bool,
    },
    /// Words of another version.
    Other,
}

/// After the last descriptor that was kept.
pub(crate) const KEPT_ALL: &str = "KEPT_ALL=1";

/// Keep the descriptors that come with this.
pub(crate) fn keep(name: &str) -> String {
    format!("FDSTORE=1\nFDNAME={name}")
}

/// Close what is kept under this name.
pub(crate) fn forget(name: &str) -> String {
    format!("FDSTOREREMOVE=1\nFDNAME={name}")
}

/// The manager wants all that is kept.
pub(crate) const HELLO: &str = "HELLO=1";

/// It supervises.
pub(crate) const READY: &str = "READY=1";

/// It will end by itself; `detach`: services run on.
pub(crate) fn leave(code: u8, detach: bool) -> String {
    format!("LEAVE={code}\nDETACH={}", u8::from(detach))
}

/// Descriptors that were kept, for a new manager.
pub(crate) fn kept(name: &str) -> String {
    format!("KEPT={name}")
}

/// A signal for relume has arrived.
pub(crate) fn signal(arrived: Arrived) -> String {
    format!("SIGNAL={}\nCODE={}", arrived.signal, arrived.code)
}

/// A process that was handed to the guardian has ended.
pub(crate) fn exited(pid: u32, status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("EXITED={pid}\nEXIT_CODE={code}"),
        ExitStatus::Signal { number, core_dumped } => {
            format!("EXITED={pid}\nEXIT_SIGNAL={number}\nCORE_DUMPED={}", u8::from(core_dumped))
        }
        ExitStatus::Unknown => format!("EXITED={pid}"),
    }
}

/// The value of a key.
pub(crate) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

/// A number by its key.
pub(crate) fn number<T: std::str::FromStr>(text: &str, key: &str) -> Option<T> {
    value(text, key)?.parse().ok()
}

/// How a process ended, as `exited` says it.
pub(crate) fn status_of(text: &str) -> ExitStatus {
    if let Some(code) = number(text, "EXIT_CODE") {
        return ExitStatus::Code(code);
    }
    match number(text, "EXIT_SIGNAL") {
        Some(number) => ExitStatus::Signal { number, core_dumped: value(text, "CORE_DUMPED") == Some("1") },
        None => ExitStatus::Unknown,
    }
}

/// What the manager says next; none: nothing now, or never again.
pub(super) fn receive(channel: &Channel) -> Option<Word> {
    let Ok(Received::Message(message)) = channel.receive() else { return None };
    let Ok(text) = std::str::from_utf8(&message.bytes) else { return Some(Word::Other) };
    let name = || value(text, "FDNAME").unwrap_or_default().to_owned();
    Some(if value(text, "FDSTORE").is_some() {
        Word::Keep { name: name(), fds: message.fds }
    } else if value(text, "FDSTOREREMOVE").is_some() {
        Word::Drop { name: name() }
    } else if value(text, "HELLO").is_some() {
        Word::Hello
    } else if value(text, "READY").is_some() {
        Word::Ready
    } else if let Some(code) = number(text, "LEAVE") {
        Word::Leave { code, detach: value(text, "DETACH") == Some("1") }
    } else {
        Word::Other
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_and_understood_in_each_form() {
        let all = [
            ExitStatus::Code(7),
            ExitStatus::Signal { number: 9, core_dumped: false },
            ExitStatus::Signal { number: 11, core_dumped: true },
            ExitStatus::Unknown,
        ];
        for status in all {
            let text = exited(42, status);
            assert_eq!(number::<u32>(&text, "EXITED"), Some(42));
            assert_eq!(status_of(&text), status, "{text}");
        }
    }

    #[test]
    fn a_key_is_not_found_inside_another() {
        assert_eq!(value("FDSTOREREMOVE=1\nFDNAME=x", "FDSTORE"), None);
        assert_eq!(value(&keep("o/web:2/7"), "FDNAME"), Some("o/web:2/7"));
    }
}
