//! What a service says on its notify socket (sd_notify(3)), read out of one datagram.
//!
//! Pure, and made for a sender that means harm: nothing fails, nothing is kept that was not asked for, and what
//! is shown to people has no control character and a length.

use std::time::Duration;

/// How much of a STATUS is kept, in bytes.
pub(crate) const STATUS_LIMIT: usize = 1024;

/// What a sign of life says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alive {
    /// `WATCHDOG=1`.
    Well,
    /// `WATCHDOG=trigger`: it wants to be taken for hung.
    Trigger,
}

/// What one datagram says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Words {
    /// `READY=1`.
    pub(crate) ready: bool,
    /// `RELOADING=1`.
    pub(crate) reloading: bool,
    /// `STOPPING=1`.
    pub(crate) stopping: bool,
    /// `STATUS=`, fit to be shown; empty: there is nothing to say any more.
    pub(crate) status: Option<String>,
    /// `MAINPID=`. A claim: whether the process is one of the run's is not known here.
    pub(crate) main_pid: Option<u32>,
    /// `WATCHDOG=`.
    pub(crate) watchdog: Option<Alive>,
    /// `WATCHDOG_USEC=`: how often it will show from now on.
    pub(crate) watchdog_every: Option<Duration>,
    /// `EXTEND_TIMEOUT_USEC=`: it needs more time, from now.
    pub(crate) extend: Option<Duration>,
    /// `ERRNO=` or `EXIT_STATUS=`: what has gone wrong, in a word.
    pub(crate) trouble: Option<String>,
    /// `FDSTORE=1`: the descriptors sent along are to be kept.
    pub(crate) store: bool,
    /// `FDSTOREREMOVE=1`: those of this name are not to be kept any more.
    pub(crate) unstore: bool,
    /// `FDNAME=`.
    pub(crate) fd_name: Option<String>,
}

impl Words {
    /// Reads assignments, one a line. Unknown ones are skipped, and so are those that this version does nothing
    /// with; `BARRIER` is answered by receiving it. Of two of the same the last holds. Of a datagram
    /// that was `cut` the last line is not believed, unless it is a text, which would be cut anyway.
    pub(crate) fn read(datagram: &[u8], cut: bool) -> Self {
        let mut words = Self::default();
        let mut lines = datagram.split(|byte| *byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            let torn = cut && lines.peek().is_none();
            if !torn || line.starts_with(b"STATUS=") {
                words.take(line);
            }
        }
        words
    }

    fn take(&mut self, line: &[u8]) {
        let Some(at) = line.iter().position(|byte| *byte == b'=') else { return };
        let (key, value) = (&line[..at], &line[at + 1..]);
        match key {
            b"READY" => self.ready = value == b"1",
            b"RELOADING" => self.reloading = value == b"1",
            b"STOPPING" => self.stopping = value == b"1",
            b"STATUS" => self.status = Some(shown(value)),
            b"MAINPID" => self.main_pid = pid(value),
            b"WATCHDOG" => {
                self.watchdog = match value {
                    b"1" => Some(Alive::Well),
                    b"trigger" => Some(Alive::Trigger),
                    _ => None,
                }
            }
            b"WATCHDOG_USEC" => self.watchdog_every = micros(value).filter(|every| !every.is_zero()),
            b"EXTEND_TIMEOUT_USEC" => self.extend = micros(value),
            b"ERRNO" => self.trouble = number(value, 4095).map(|errno| format!("errno {errno}")),
            b"EXIT_STATUS" => self.trouble = number(value, 255).map(|code| format!("exit status {code}")),
            b"FDSTORE" => self.store = value == b"1",
            b"FDSTOREREMOVE" => self.unstore = value == b"1",
            b"FDNAME" => self.fd_name = fd_name(value),
            _ => {}
        }
    }

    /// What follows from these words and `later` ones together: a batch is worked off as one.
    pub(crate) fn and(self, later: Self) -> Self {
        Self {
            ready: self.ready || later.ready,
            // Who is ready again has reloaded.
            reloading: later.reloading || (self.reloading && !later.ready),
            stopping: self.stopping || later.stopping,
            status: later.status.or(self.status),
            main_pid: later.main_pid.or(self.main_pid),
            // Whoever wants to be taken for hung is, whatever else he says.
            watchdog: match (self.watchdog, later.watchdog) {
                (Some(Alive::Trigger), _) => Some(Alive::Trigger),
                (before, after) => after.or(before),
            },
            watchdog_every: later.watchdog_every.or(self.watchdog_every),
            extend: later.extend.or(self.extend),
            trouble: later.trouble.or(self.trouble),
            // Descriptors are dealt with datagram by datagram.
            store: false,
            unstore: false,
            fd_name: None,
        }
    }
}

/// Digits alone: no sign, no space.
fn number(value: &[u8], most: u64) -> Option<u64> {
    let text =
        std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok().filter(|number| *number <= most)
}

/// 0 and 1 are nobody's service.
fn pid(value: &[u8]) -> Option<u32> {
    let pid = number(value, u64::from(i32::MAX.unsigned_abs())).filter(|pid| *pid >= 2)?;
    u32::try_from(pid).ok()
}

/// Microseconds, up to the ten years within which sums cannot overflow.
fn micros(value: &[u8]) -> Option<Duration> {
    number(value, 10 * 366 * 86_400 * 1_000_000).map(Duration::from_micros)
}

/// The name of a descriptor: 1 to 255 characters of ASCII without control characters and `:` (sd_pid_notify_with_fds(3)).
fn fd_name(value: &[u8]) -> Option<String> {
    let fits = |byte: &u8| (b' '..=b'~').contains(byte) && *byte != b':';
    let name = std::str::from_utf8(value).ok()?;
    ((1..=255).contains(&value.len()) && value.iter().all(fits)).then(|| name.to_owned())
}

/// A text that can stand on any terminal and in any line of a log.
fn shown(value: &[u8]) -> String {
    // At most three bytes come of one that is no UTF-8, so what lies further back cannot matter.
    let value = &value[..value.len().min(STATUS_LIMIT)];
    let mut text: String = String::from_utf8_lossy(value).chars().map(harmless).collect();
    while text.len() > STATUS_LIMIT {
        text.pop();
    }
    text.truncate(text.trim_end().len());
    text
}

/// Control characters move cursors and end lines; those for the direction of writing make a text look like another.
fn harmless(c: char) -> char {
    match c {
        c if c.is_control() => ' ',
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => ' ',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(datagram: &[u8]) -> Words {
        Words::read(datagram, false)
    }

    #[test]
    fn all_assignments_of_a_datagram_are_read() {
        let words = read(b"READY=1\nSTATUS=3 workers\nMAINPID=4711\nX_UNKNOWN=1\n");
        let expected =
            Words { ready: true, status: Some("3 workers".into()), main_pid: Some(4711), ..Words::default() };
        assert_eq!(words, expected);
        assert!(read(b"STOPPING=1").stopping && read(b"RELOADING=1\nMONOTONIC_USEC=5").reloading);
    }

    #[test]
    fn what_is_no_assignment_or_not_for_us_says_nothing() {
        for datagram in [
            &b""[..],
            b"\n\n\n",
            b"=",
            b"READY",
            b"READY=",
            b"READY=yes",
            b"READY=11",
            b" READY=1",
            b"ready=1",
            b"\0READY=1",
            b"WATCHDOG=yes",
            b"WATCHDOG_USEC=0",
            b"EXTEND_TIMEOUT_USEC=-1",
            b"ERRNO=99999",
            b"BARRIER=1",
            b"FDSTORE=0\nFDNAME=a:b",
            b"\xff\xfe=\xff",
        ] {
            assert_eq!(read(datagram), Words::default(), "{datagram:?}");
        }
    }

    #[test]
    fn a_pid_is_plain_digits_and_never_one_that_cannot_be_a_service() {
        assert_eq!(read(b"MAINPID=2").main_pid, Some(2));
        for claim in
            ["", "0", "1", "-1", "+5", " 5", "5 ", "0x10", "2147483648", "99999999999999999999", "5\0"]
        {
            assert_eq!(read(format!("MAINPID={claim}").as_bytes()).main_pid, None, "{claim:?}");
        }
    }

    #[test]
    fn a_status_is_cut_and_cannot_speak_to_a_terminal() {
        let status = |value: &[u8]| read(&[b"STATUS=", value].concat()).status.unwrap();
        assert_eq!(status(b"\x1b[31mred\x1b[0m\r\x07\x7f"), " [31mred [0m");
        assert_eq!(status(b"a\xffb\xc3"), "a\u{fffd}b\u{fffd}");
        assert_eq!(status("x\u{202e}gpj.exe\u{85}y".as_bytes()), "x gpj.exe y");
        assert_eq!(status(b"   "), "");
        assert_eq!(status(b"a=b=c"), "a=b=c");
        assert_eq!(status(&[b'x'; 1_000_000]).len(), STATUS_LIMIT);
        assert!(status(&[0xff; 5_000]).len() <= STATUS_LIMIT);
        let cut = status("é".repeat(600).as_bytes());
        assert!(cut.len() <= STATUS_LIMIT && cut.chars().all(|c| c == 'é'), "{cut}");
    }

    #[test]
    fn the_last_line_of_a_cut_datagram_is_not_believed() {
        let words = Words::read(b"READY=1\nMAINPID=12", true);
        assert_eq!((words.ready, words.main_pid), (true, None));
        assert_eq!(Words::read(b"READY=1", true), Words::default());
        assert_eq!(Words::read(b"MAINPID=5\n", true).main_pid, Some(5));
        assert_eq!(Words::read(b"STATUS=a long", true).status.unwrap(), "a long");
    }

    #[test]
    fn a_batch_is_as_good_as_its_datagrams_one_by_one() {
        let both = |first: &[u8], second: &[u8]| read(first).and(read(second));
        assert!(both(b"READY=1", b"STATUS=x").ready);
        assert_eq!(both(b"STATUS=x", b"STATUS=y").status.unwrap(), "y");
        assert_eq!(both(b"STATUS=x", b"READY=1").status.unwrap(), "x");
        assert!(!both(b"RELOADING=1", b"READY=1").reloading);
        assert!(both(b"READY=1", b"RELOADING=1").reloading);
        assert_eq!(both(b"MAINPID=5", b"READY=1").main_pid, Some(5));
    }

    #[test]
    fn no_bytes_at_all_make_it_fail() {
        // All short datagrams over the characters that mean something, and all lengths of noise.
        let alphabet = b"R=1\nS\x1b\xff0";
        for number in 0..alphabet.len().pow(5) {
            let mut rest = number;
            let datagram: Vec<u8> = (0..5)
                .map(|_| {
                    let byte = alphabet[rest % alphabet.len()];
                    rest /= alphabet.len();
                    byte
                })
                .collect();
            let _ = (Words::read(&datagram, false), Words::read(&datagram, true));
        }
    }
}
