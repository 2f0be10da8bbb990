//! What capture tells the manager. Each change of state is told once, never each write.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use relume_os::OsError;

use super::{OWN_NAME, StreamId};

/// One piece of news from the capture thread.
#[derive(Debug)]
pub(crate) enum Report {
    /// All that the run wrote is in its file, and the pipe is closed. Answers `finish`; the last word on a stream.
    Finished {
        /// The stream.
        id: StreamId,
        /// Bytes taken from its pipe in total.
        bytes: u64,
    },
    /// The pipe has no writer left while the run lives: the service closed its output. The pipe is closed; other
    /// holders of the read end may drop it. `finish` is still awaited.
    Closed {
        /// The stream.
        id: StreamId,
    },
    /// Something failed; see `next` for what follows.
    Trouble {
        /// What failed, on what, and why.
        fault: OsError,
        /// What happens now.
        next: Next,
    },
    /// Writing works again, and all that had waited is being written.
    Resumed {
        /// The log file.
        path: PathBuf,
        /// How long it did not work.
        after: Duration,
        /// Output was dropped meanwhile: how much is told next. `None`: of relume's own log.
        dropped: Option<bool>,
    },
    /// A file reached its size and was moved.
    Rotated {
        /// The log file, which is a new one now.
        path: PathBuf,
        /// Where the old one went; `None`: no old files are kept.
        to: Option<PathBuf>,
    },
    /// The file could not be written and the output of a service was dropped, as its configuration says. It is over.
    Dropped {
        /// The service.
        service: String,
        /// The log file.
        path: PathBuf,
        /// How many lines, exactly.
        lines: u64,
        /// How many bytes of them came out of the pipe.
        bytes: u64,
    },
    /// Bytes that will not be in the file: capture had to stop while the file could not be written.
    Lost {
        /// The log file.
        path: PathBuf,
        /// How many, exactly.
        bytes: u64,
    },
}

/// What happens after a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing is read from these services until the file can be written. Nothing is lost; they block when their pipe is full.
    Held {
        /// Who writes into the file.
        services: Vec<String>,
        /// Time between two attempts.
        every: Duration,
        /// When a pipe is half full, what it holds is dropped instead.
        drops: bool,
    },
    /// What is on its way from a pipe to a file is not recorded.
    NotKept,
    /// The file grows beyond its limit until rotation works.
    Grows {
        /// Time until the next attempt.
        again: Duration,
    },
    /// The output of this service is not captured.
    Dropped {
        /// Whose.
        service: String,
    },
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { services, every, drops } => {
                match services.as_slice() {
                    [] => f.write_str("the last bytes written to it wait")?,
                    [one] => write!(f, "the output of {one} waits in its pipe")?,
                    [first @ .., last] => {
                        write!(f, "the output of {} and {last} waits in their pipes", first.join(", "))?;
                    }
                }
                if services.len() == 1 && services[0] == OWN_NAME {
                    // Whoever tells something there does not wait: see `publish::own_log`.
                    return write!(
                        f,
                        ", and what does not fit there is counted; trying again every {} ms",
                        every.as_millis()
                    );
                }
                let then = if *drops { "and is dropped when that is half full" } else { "nothing is lost" };
                write!(f, ", {then}; trying again every {} ms", every.as_millis())
            }
            Self::NotKept => {
                f.write_str("output that is on its way to a log when relume is killed may be lost")
            }
            Self::Grows { again } => {
                write!(f, "the file grows beyond its limit meanwhile; trying again in {} s", again.as_secs())
            }
            Self::Dropped { service } => write!(f, "the output of {service} is not captured"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished { id, bytes } => write!(f, "stream {} ended after {bytes} bytes", id.0),
            Self::Closed { id } => write!(f, "stream {} was closed by its service", id.0),
            Self::Trouble { fault, next } => write!(f, "{fault}; {next}"),
            Self::Resumed { path, after, dropped } => {
                let lost = match dropped {
                    Some(true) => ", with output dropped",
                    Some(false) => ", nothing lost",
                    None => "",
                };
                write!(f, "writing {} again after {:.1} s{lost}", path.display(), after.as_secs_f64())
            }
            Self::Rotated { path, to: Some(to) } => {
                write!(f, "rotated {} to {}", path.display(), to.display())
            }
            Self::Rotated { path, to: None } => write!(f, "emptied {}", path.display()),
            Self::Dropped { service, path, lines, bytes } => {
                write!(
                    f,
                    "{lines} lines of {service} dropped ({bytes} bytes): {} could not be written",
                    path.display()
                )
            }
            Self::Lost { path, bytes } => {
                write!(
                    f,
                    "{bytes} bytes for {} are lost: it could not be written until the end",
                    path.display()
                )
            }
        }
    }
}
