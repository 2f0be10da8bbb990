//! The words between guardian and manager: lines of `KEY=VALUE` in one message, as in sd_notify(3).

use std::os::fd::OwnedFd;
use std::time::Duration;

use relume_os::channel::{Channel, Received};
use relume_os::exit::{ExitStatus, Usage};
use relume_os::pidfd::ProcessId;
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
    /// Such descriptors have come, and there was no room for all of them.
    Lost {
        /// Under which name.
        name: String,
    },
    /// Close what is kept under this name.
    Drop {
        /// Which name.
        name: String,
    },
    /// It begins anew in the same process and wants all that is kept.
    Hello {
        /// The signal of the crash after which it does so; none: it does so on purpose.
        crash: Option<i32>,
    },
    /// It supervises.
    Ready,
    /// It lives, and shall be replaced when it has not said so for this long; none: it is not watched.
    Alive {
        /// For how long it may be silent.
        period: Option<Duration>,
    },
    /// The ends up to this number are in its journal.
    Ack {
        /// The number.
        upto: u64,
    },
    /// It has dealt with so many more of the signals that it was told.
    Heard {
        /// How many.
        signals: usize,
    },
    /// It ends, and this process supervises from now on.
    Successor {
        /// Which.
        process: ProcessId,
        /// When supervision ended, in nanoseconds on CLOCK_MONOTONIC.
        since: u64,
        /// Its pidfd, and the guardian's end of its channel.
        fds: Vec<OwnedFd>,
    },
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

/// The end of a process that was handed to the guardian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Counts the ends that this guardian has seen, from 1.
    pub(crate) number: u64,
    /// Which process it was.
    pub(crate) process: ProcessId,
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What it used.
    pub(crate) usage: Usage,
}

/// Why there is a new manager.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Why {
    /// For people, a fragment: `the death of its guardian`.
    pub(crate) text: String,
    /// How the one before ended.
    pub(crate) how: How,
    /// Since when nobody supervises, in nanoseconds on CLOCK_MONOTONIC.
    pub(crate) since: u64,
}

/// How a manager ended, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum How {
    /// By itself.
    Exit,
    /// By a signal.
    Signal,
    /// It did not answer, and was killed.
    Silence,
    /// Nobody can say.
    #[default]
    Unknown,
}

impl How {
    /// As it is said.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Signal => "signal",
            Self::Silence => "silence",
            Self::Unknown => "unknown",
        }
    }

    /// As it was said.
    pub(crate) fn of(word: &str) -> Self {
        [Self::Exit, Self::Signal, Self::Silence]
            .into_iter()
            .find(|how| how.word() == word)
            .unwrap_or_default()
    }
}

impl Why {
    /// In one line.
    pub(crate) fn line(&self) -> String {
        format!("{} {} {}", self.how.word(), self.since, self.text.replace('\n', " "))
    }

    /// Out of one line; what is none is the text alone.
    pub(crate) fn of(line: &str) -> Self {
        let mut words = line.splitn(3, ' ');
        let parts = (words.next(), words.next().and_then(|since| since.parse().ok()), words.next());
        match parts {
            (Some(how), Some(since), Some(text)) => Self { text: text.to_owned(), how: How::of(how), since },
            _ => Self { text: line.to_owned(), ..Self::default() },
        }
    }
}

/// What the first message after the last kept descriptor begins with.
const KEPT_ALL: &str = "KEPT_ALL";

/// Said by a guardian who understands [`successor`].
pub(crate) const HANDS_OVER: &str = "HANDS_OVER";

/// The manager wants all that is kept; `crash`: it begins anew after a crash by this signal.
pub(crate) fn hello(crash: Option<i32>) -> String {
    let crash = crash.map(|signal| format!("\nCRASH={signal}"));
    format!("HELLO=1{}", crash.unwrap_or_default())
}

/// It supervises.
pub(crate) const READY: &str = "READY=1";

/// Keep the descriptors that come with this.
pub(crate) fn keep(name: &str) -> String {
    format!("FDSTORE=1\nFDNAME={name}")
}

/// Close what is kept under this name.
pub(crate) fn forget(name: &str) -> String {
    format!("FDSTOREREMOVE=1\nFDNAME={name}")
}

/// The manager lives.
pub(crate) fn alive(period: Option<Duration>) -> String {
    format!("WATCHDOG=1\nWATCHDOG_USEC={}", period.map_or(0, |period| period.as_micros()))
}

/// Ends up to this number are noted.
pub(crate) fn ack(upto: u64) -> String {
    format!("ACK={upto}")
}

/// So many more signals are dealt with.
pub(crate) fn heard(signals: usize) -> String {
    format!("SIGNALS_HEARD={signals}")
}

/// It ends, and the process that comes with this supervises: its pidfd, and the guardian's end of its channel.
/// `since`: when supervision ended.
pub(crate) fn successor(process: ProcessId, since: u64) -> String {
    format!("SUCCESSOR={}\nSTARTED={}\nSINCE={since}", process.pid, process.start_time)
}

/// To a successor: it is the manager from now on.
pub(crate) fn go(since: u64) -> String {
    format!("GO={since}")
}

/// It will end by itself; `detach`: services run on.
pub(crate) fn leave(code: u8, detach: bool) -> String {
    format!("LEAVE={code}\nDETACH={}", u8::from(detach))
}

/// Descriptors that were kept, for a new manager: under this name so many of those that come with the message.
pub(crate) fn kept(name: &str, count: usize) -> String {
    format!("KEPT={name}\nFDS={count}\n")
}

/// The names of what was kept, and how many of the descriptors are each one's, in order. None where the message is about
/// something else.
pub(crate) fn names_kept(text: &str) -> Option<Vec<(&str, usize)>> {
    let mut lines = text.lines();
    let mut all = Vec::new();
    while let Some(line) = lines.next() {
        let name = line.strip_prefix("KEPT=")?;
        all.push((name, lines.next()?.strip_prefix("FDS=")?.parse().ok()?));
    }
    Some(all)
}

/// All that was kept has been handed over. `why` there is a new manager, unless it is the first or the same; whether the loss
/// of the terminal is to be ignored.
pub(crate) fn kept_all(why: Option<&Why>, ignores_hangup: bool) -> String {
    let why = why.map(|why| format!("\nWHY={}", why.line())).unwrap_or_default();
    format!("{KEPT_ALL}=1\n{HANDS_OVER}=1\nIGNORES_HANGUP={}{why}", u8::from(ignores_hangup))
}

/// The guardian has replaced itself; why, for people.
pub(crate) fn replaced(text: &str) -> String {
    format!("REPLACED={}", text.replace('\n', " "))
}

/// Whether this is what `kept_all` has made.
pub(crate) fn is_kept_all(text: &str) -> bool {
    value(text, KEPT_ALL).is_some()
}

/// A signal for relume has arrived; `again`: this may have been said before.
pub(crate) fn signal(arrived: Arrived, again: bool) -> String {
    format!("SIGNAL={}\nCODE={}\nAGAIN={}", arrived.signal, arrived.code, u8::from(again))
}

/// A process that was handed to the guardian has ended.
pub(crate) fn exited(ended: &Ended) -> String {
    let ProcessId { pid, start_time } = ended.process;
    let Usage { user, system, max_rss_kib } = ended.usage;
    let (number, user, system) = (ended.number, user.as_micros(), system.as_micros());
    let head = format!(
        "EXITED={pid}\nSTARTED={start_time}\nNUMBER={number}\nUSER_USEC={user}\nSYSTEM_USEC={system}\n\
         MAX_RSS_KIB={max_rss_kib}"
    );
    match ended.status {
        ExitStatus::Code(code) => format!("{head}\nEXIT_CODE={code}"),
        ExitStatus::Signal { number, core_dumped } => {
            format!("{head}\nEXIT_SIGNAL={number}\nCORE_DUMPED={}", u8::from(core_dumped))
        }
        ExitStatus::Unknown => head,
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

/// The end that `exited` says.
pub(crate) fn ended(text: &str) -> Option<Ended> {
    let process =
        ProcessId { pid: number(text, "EXITED")?, start_time: number(text, "STARTED").unwrap_or(0) };
    let micros = |key| Duration::from_micros(number(text, key).unwrap_or(0));
    let usage = Usage {
        user: micros("USER_USEC"),
        system: micros("SYSTEM_USEC"),
        max_rss_kib: number(text, "MAX_RSS_KIB").unwrap_or(0),
    };
    let status = match (number(text, "EXIT_CODE"), number(text, "EXIT_SIGNAL")) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(number)) => {
            ExitStatus::Signal { number, core_dumped: value(text, "CORE_DUMPED") == Some("1") }
        }
        (None, None) => ExitStatus::Unknown,
    };
    Some(Ended { number: number(text, "NUMBER").unwrap_or(0), process, status, usage })
}

/// What the manager says next; none: nothing now, or never again.
pub(super) fn receive(channel: &Channel) -> Option<Word> {
    let Ok(Received::Message(message)) = channel.receive() else { return None };
    let Ok(text) = std::str::from_utf8(&message.bytes) else { return Some(Word::Other) };
    let name = || value(text, "FDNAME").unwrap_or_default().to_owned();
    Some(if value(text, "FDSTORE").is_some() && message.fds_lost {
        Word::Lost { name: name() }
    } else if value(text, "FDSTORE").is_some() {
        Word::Keep { name: name(), fds: message.fds }
    } else if value(text, "FDSTOREREMOVE").is_some() {
        Word::Drop { name: name() }
    } else if value(text, "WATCHDOG").is_some() {
        let period = number(text, "WATCHDOG_USEC").filter(|micros| *micros > 0);
        Word::Alive { period: period.map(Duration::from_micros) }
    } else if let Some(upto) = number(text, "ACK") {
        Word::Ack { upto }
    } else if let Some(signals) = number(text, "SIGNALS_HEARD") {
        Word::Heard { signals }
    } else if value(text, "HELLO").is_some() {
        Word::Hello { crash: number(text, "CRASH") }
    } else if value(text, "READY").is_some() {
        Word::Ready
    } else if let Some(pid) = number(text, "SUCCESSOR") {
        let process = ProcessId { pid, start_time: number(text, "STARTED").unwrap_or(0) };
        Word::Successor { process, since: number(text, "SINCE").unwrap_or(0), fds: message.fds }
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
            let process = ProcessId { pid: 42, start_time: 77 };
            let usage =
                Usage { user: Duration::from_micros(5), system: Duration::from_secs(3), max_rss_kib: 1024 };
            let told = Ended { number: 9, process, status, usage };
            assert_eq!(ended(&exited(&told)), Some(told));
        }
    }

    #[test]
    fn many_names_are_told_in_one_message() {
        let text = kept("output/web/3", 2) + &kept("process/web/3", 1);
        assert_eq!(names_kept(&text), Some(vec![("output/web/3", 2), ("process/web/3", 1)]));
        assert_eq!(names_kept(&kept_all(None, false)), None);
    }

    #[test]
    fn a_key_is_not_found_inside_another() {
        assert_eq!(value("FDSTOREREMOVE=1\nFDNAME=x", "FDSTORE"), None);
        assert_eq!(value(&keep("o/web:2/7"), "FDNAME"), Some("o/web:2/7"));
    }

    #[test]
    fn a_reason_with_line_ends_adds_no_words() {
        let why = Why { text: "it\nREADY=1".into(), how: How::Silence, since: 42 };
        let text = kept_all(Some(&why), true);
        assert!(is_kept_all(&text));
        assert_eq!((value(&text, "READY"), number(&text, "IGNORES_HANGUP")), (None, Some(1)));
        let told = Why::of(value(&text, "WHY").unwrap());
        assert_eq!(told, Why { text: "it READY=1".into(), ..why });
        assert_eq!(Why::of("of another version").text, "of another version");
    }
}
