//! The services of a drill: the relume program itself in a small part of its own. Each leaves marks beside its
//! output, by which it is judged afterwards without believing relume.
//!
//! A *printer* writes `NAME LIFE NUMBER` and then notes the number, so what it has written is known even when
//! it was killed. An *ender* ends by itself after a moment with a code it has noted before. Both hold a lock for
//! as long as they live: whoever finds it held is a second life beside the first, and says so.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use relume_os::files::{self, LockError};

/// Between two lines of a printer: a service that logs a good deal.
const PACE: Duration = Duration::from_millis(10);

/// A printer that can write no more says so with this code: sysexits(3) has it for an I/O error.
const CANNOT_WRITE: u8 = 74;

/// The kinds of services, as they stand in the command.
pub(super) const PRINTER: &str = "printer";
pub(super) const ENDER: &str = "ender";

/// Where the services of a drill leave their marks.
#[derive(Debug, Clone)]
pub(super) struct Marks(pub(super) PathBuf);

impl Marks {
    /// Locked as long as a life of the service lives.
    pub(super) fn lock(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.lock"))
    }

    /// The number that this life of a printer has written last.
    pub(super) fn written(&self, name: &str, life: u64) -> PathBuf {
        self.0.join(format!("{name}.{life}.written"))
    }

    /// What the lives of an ender have announced.
    pub(super) fn lives(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.lives"))
    }

    /// A line for each life that found another one alive.
    pub(super) fn doubled(&self) -> PathBuf {
        self.0.join("doubled")
    }
}

/// What one life of an ender has announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Announced {
    /// Which life.
    pub(super) life: u64,
    /// The code it will end with.
    pub(super) code: u8,
    /// When it will end, in milliseconds since 1970.
    pub(super) ends_at_ms: u128,
}

impl Announced {
    fn line(self) -> String {
        format!("{} {} {}\n", self.life, self.code, self.ends_at_ms)
    }

    /// A line of the file; none for one that is not whole.
    pub(super) fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (life, code, at) = (words.next()?, words.next()?, words.next()?);
        Some(Self { life: life.parse().ok()?, code: code.parse().ok()?, ends_at_ms: at.parse().ok()? })
    }
}

/// Plays the part that the command line says: `KIND FOLDER NAME`.
pub(crate) fn run() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [kind, folder, name] = words.as_slice() else { return ExitCode::from(2) };
    let tag = std::env::var("RELUME_RUN").unwrap_or_default();
    let life = tag.rsplit('/').next().and_then(|life| life.parse().ok()).unwrap_or(0);
    let marks = Marks(folder.into());
    // Held until the kernel takes it back with the process.
    let _alone = match files::lock(&marks.lock(name), &format!("life {life}")) {
        Ok(lock) => Some(lock),
        Err(LockError::Held { by }) => {
            append(&marks.doubled(), &format!("{name}: life {life} beside {by}\n"));
            None
        }
        Err(LockError::Failed(_)) => return ExitCode::from(CANNOT_WRITE),
    };
    ExitCode::from(if kind == ENDER { end(&marks, name, life) } else { print(&marks, name, life) })
}

fn print(marks: &Marks, name: &str, life: u64) -> u8 {
    let Ok(noted) = std::fs::File::create(marks.written(name, life)) else { return CANNOT_WRITE };
    for number in 1_u64.. {
        // One write: shorter than a pipe's atomic unit, so nobody else's line comes between.
        if std::io::stdout().write_all(format!("{name} {life} {number}\n").as_bytes()).is_err() {
            return CANNOT_WRITE;
        }
        if files::pwrite_all(&noted, format!("{number:020}").as_bytes(), 0).is_err() {
            return CANNOT_WRITE;
        }
        std::thread::sleep(PACE);
    }
    0
}

fn end(marks: &Marks, name: &str, life: u64) -> u8 {
    let noise = super::dice::Dice::new(life ^ u64::from(std::process::id())).number(400);
    let lasts = Duration::from_millis(20 + noise);
    // Any code but 0, different from one life to the next.
    let code = u8::try_from(life % 200).unwrap_or(0) + 1;
    let ends_at_ms = (relume_os::clock::realtime() + lasts).as_millis();
    append(&marks.lives(name), &Announced { life, code, ends_at_ms }.line());
    std::thread::sleep(lasts);
    code
}

fn append(path: &std::path::Path, line: &str) {
    let file = OpenOptions::new().append(true).create(true).open(path);
    // What cannot be announced is not judged; the drill counts what was.
    let _lost = file.and_then(|mut file| file.write_all(line.as_bytes()));
}
