//! What goes from one program to the next when this process executes itself as the guardian: a list, in a file in memory, of what
//! the open descriptors are. Thousands of names do not fit into an environment.
//!
//! One line for each thing; lines of another version are skipped. Whoever writes it lets the descriptors stay open over the exec;
//! whoever reads it takes them over, after comparing each with what was written ([`Handle`]).

use std::ffi::OsString;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use relume_os::OsError;
use relume_os::inherit::{self, Handle};
use relume_os::limits::{Limit, Resource};
use relume_os::pidfd::ProcessId;
use relume_os::pipes::Pipe;

use super::complain;
use super::link::{self, Ended, Why};
use crate::roles::{LOCK_FD, Role};

/// The variable that names the number of the table's descriptor.
const TABLE: &str = "RELUME_TABLE";

/// What the first line begins with; the version follows.
const KIND: &str = "relume-table ";

/// The version. Lines are added without a new one.
const VERSION: u32 = 1;

/// What is handed over.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// The limits that relume was started with.
    pub(crate) limits: Vec<(Resource, Limit)>,
    /// The loss of the terminal is to be ignored (`nohup`).
    pub(crate) ignores_hangup: bool,
    /// For how long a manager may be silent; none: it is not watched.
    pub(crate) period: Option<Duration>,
    /// Why there is a new guardian.
    pub(crate) why: Why,
    /// The store.
    pub(crate) kept: Vec<(String, Vec<Handle>)>,
    /// The manager, where it lives on.
    pub(crate) manager: Option<Heir>,
    /// Ends that no manager has acknowledged.
    pub(crate) exits: Vec<Ended>,
    /// The number of the last end that was told: a manager that lives on acknowledges by them.
    pub(crate) told: u64,
    /// Children of this process that are none of relume's.
    pub(crate) strangers: Vec<ProcessId>,
}

/// A manager that lives on under a new guardian.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heir {
    /// Its process.
    pub(crate) process: ProcessId,
    /// Its pidfd.
    pub(crate) pidfd: Handle,
    /// The guardian's end of the channel.
    pub(crate) channel: Handle,
}

/// The variables of relume's own that must not reach the next manager.
pub(super) fn is_own(key: &OsString) -> bool {
    key == TABLE
}

/// Executes `program` as the guardian in this process, with all that the table names. Comes back only if that fails; then
/// everything is as it was.
pub(crate) fn become_guardian(program: &Path, table: &Table) -> OsError {
    match hand_over(program, table) {
        Ok(error) | Err(error) => {
            table.handles().for_each(Handle::call_back);
            error
        }
    }
}

fn hand_over(program: &Path, table: &Table) -> relume_os::Result<OsError> {
    let file = table.write()?;
    inherit::hand_on(file.as_raw_fd())?;
    inherit::hand_on(LOCK_FD)?;
    // What its owner has closed by now is missing on the other side, and noticed there.
    for handle in table.handles() {
        let _closed = handle.hand_on();
    }
    let mut environment = Role::Guardian.environment();
    environment.retain(|(key, _)| !is_own(key));
    environment.push((TABLE.into(), file.as_raw_fd().to_string().into()));
    Ok(inherit::replace_as_it_is(program, std::env::args_os().collect(), environment))
}

impl Table {
    fn handles(&self) -> impl Iterator<Item = Handle> {
        let heir = self.manager.iter().flat_map(|heir| [heir.pidfd, heir.channel]);
        self.kept.iter().flat_map(|(_, handles)| handles.iter().copied()).chain(heir)
    }

    fn write(&self) -> relume_os::Result<OwnedFd> {
        let mut text =
            format!("{KIND}{VERSION}\nhangup {}\nwhy {}\n", u8::from(self.ignores_hangup), self.why.line());
        text.push_str(&format!("watch {}\n", self.period.map_or(0, |period| period.as_micros())));
        for (resource, limit) in &self.limits {
            text.push_str(&format!("limit {} {limit}\n", resource.name()));
        }
        for (name, handles) in &self.kept {
            let handles: Vec<String> = handles.iter().map(handle_text).collect();
            text.push_str(&format!("keep {} {}\n", handles.join(","), line(name)));
        }
        if let Some(Heir { process, pidfd, channel }) = &self.manager {
            let handles = [handle_text(pidfd), handle_text(channel)].join(",");
            text.push_str(&format!("manager {handles} {} {}\n", process.pid, process.start_time));
        }
        text.push_str(&format!("told {}\n", self.told));
        for ended in &self.exits {
            text.push_str(&format!("exit {}\n", link::exited(ended).replace('\n', "\t")));
        }
        for ProcessId { pid, start_time } in &self.strangers {
            text.push_str(&format!("stranger {pid} {start_time}\n"));
        }
        let mut file = std::fs::File::from(inherit::memory_file("relume-table")?);
        let failed = |error| OsError::new("write what is handed over", relume_os::Errno::of(&error));
        file.write_all(text.as_bytes()).and_then(|()| file.rewind()).map_err(failed)?;
        Ok(file.into())
    }

    /// The table that was left for this process, if one was.
    pub(super) fn inherited() -> Option<Self> {
        let number = std::env::var(TABLE).ok()?.parse().ok().filter(|number| *number > 2)?;
        let mut text = String::new();
        let mut file = std::fs::File::from(relume_os::exec::take_inherited(number).ok()?);
        file.read_to_string(&mut text).ok()?;
        Self::parse(&text)
    }

    /// Of another version too as much as is understood: to keep nothing would be a guardian without what it guards, and a second
    /// manager beside the one that lives.
    fn parse(text: &str) -> Option<Self> {
        let (version, rest) = text.strip_prefix(KIND)?.split_once('\n')?;
        if version.parse() != Ok(VERSION) {
            complain(&format!(
                "warning: what is handed over has version {version}, this guardian writes {VERSION}"
            ));
        }
        let mut table = Self::default();
        for entry in rest.lines() {
            // A line that is not understood is of another version.
            let _skipped = table.read(entry);
        }
        Some(table)
    }

    fn read(&mut self, entry: &str) -> Option<()> {
        let (kind, rest) = entry.split_once(' ')?;
        match kind {
            "hangup" => self.ignores_hangup = rest == "1",
            "watch" => {
                let micros: u64 = rest.parse().ok()?;
                self.period = Some(Duration::from_micros(micros)).filter(|period| !period.is_zero());
            }
            "why" => self.why = Why::of(rest),
            "limit" => {
                let (name, limit) = rest.split_once(' ')?;
                self.limits.push((Resource::by_name(name)?, Limit::parse(limit)?));
            }
            "keep" => {
                let (handles, name) = rest.split_once(' ')?;
                self.kept.push((name.to_owned(), read_handles(handles)?));
            }
            "manager" => {
                let mut words = rest.split(' ');
                let handles = read_handles(words.next()?)?;
                let process =
                    ProcessId { pid: words.next()?.parse().ok()?, start_time: words.next()?.parse().ok()? };
                let [pidfd, channel] = handles[..] else { return None };
                self.manager = Some(Heir { process, pidfd, channel });
            }
            "told" => self.told = rest.parse().ok()?,
            "stranger" => {
                let (pid, start_time) = rest.split_once(' ')?;
                let stranger = ProcessId { pid: pid.parse().ok()?, start_time: start_time.parse().ok()? };
                self.strangers.push(stranger);
            }
            "exit" => {
                let ended = link::ended(&rest.replace('\t', "\n"))?;
                // A table of an earlier version does not say it.
                self.told = self.told.max(ended.number);
                self.exits.push(ended);
            }
            _ => return None,
        }
        Some(())
    }
}

/// Takes over what was kept under one name; none: nothing of it is left. Of several descriptors each has its place, so one that
/// is gone is stood in for by a pipe that has ended.
pub(super) fn take_kept(handles: &[Handle]) -> Option<Vec<OwnedFd>> {
    let mut taken: Vec<Option<OwnedFd>> = handles.iter().map(|handle| handle.take()).collect();
    if taken.iter().all(Option::is_none) {
        return None;
    }
    for place in taken.iter_mut().filter(|place| place.is_none()) {
        *place = Some(Pipe::new().ok()?.read);
    }
    Some(taken.into_iter().flatten().collect())
}

fn line(text: &str) -> String {
    text.replace('\n', " ")
}

fn handle_text(handle: &Handle) -> String {
    format!("{}:{}:{}", handle.number, handle.device, handle.inode)
}

fn read_handles(text: &str) -> Option<Vec<Handle>> {
    let handle = |text: &str| {
        let mut parts = text.split(':');
        let number = parts.next()?.parse().ok().filter(|number| *number > 2)?;
        Some(Handle { number, device: parts.next()?.parse().ok()?, inode: parts.next()?.parse().ok()? })
    };
    text.split(',').map(handle).collect()
}

#[cfg(test)]
mod tests {
    use relume_os::exit::{ExitStatus, Usage};

    use super::*;
    use crate::guardian::link::How;

    fn sample() -> Table {
        let handle = |number| Handle { number, device: 13, inode: 4_000_000_000_000 };
        let process = ProcessId { pid: 7, start_time: 99 };
        let usage = Usage { user: Duration::from_millis(3), ..Usage::default() };
        Table {
            limits: vec![(Resource::NOFILE, Limit { soft: Some(1024), hard: None })],
            ignores_hangup: true,
            period: Some(Duration::from_millis(1500)),
            why: Why { text: "two lines".into(), how: How::Exit, since: 7 },
            kept: vec![
                ("output/a name/3".into(), vec![handle(8), handle(9)]),
                ("control".into(), vec![handle(5)]),
            ],
            manager: Some(Heir { process, pidfd: handle(10), channel: handle(11) }),
            exits: vec![Ended { number: 3, process, status: ExitStatus::Code(4), usage }],
            told: 3,
            strangers: Vec::new(),
        }
    }

    fn written(table: &Table) -> String {
        let mut text = String::new();
        std::fs::File::from(table.write().unwrap()).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn what_is_handed_over_is_read_as_it_was_written() {
        let two = Why { text: "two\nlines".into(), ..sample().why };
        let text = written(&Table { why: two, ..sample() });
        let mut read = Table::default();
        for entry in text.lines().skip(1) {
            assert_eq!(read.read(entry), Some(()), "{entry:?}");
        }
        assert_eq!(format!("{read:?}"), format!("{:?}", sample()));
    }

    #[test]
    fn strangers_stay_strangers() {
        let strangers = vec![ProcessId { pid: 12, start_time: 77 }];
        let text = written(&Table { strangers: strangers.clone(), ..sample() });
        assert_eq!(Table::parse(&text).unwrap().strangers, strangers);
    }

    /// Those of each version stay for ever. A new one is made as tests/real/frozen.rs says.
    #[test]
    fn a_frozen_table_of_each_version_is_read() {
        let all = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/frozen");
        if std::env::var_os("RELUME_FREEZE").is_some() {
            let file = all.join(env!("CARGO_PKG_VERSION")).join("table");
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            if !file.exists() {
                std::fs::write(file, written(&sample())).unwrap();
            }
        }
        let mut count = 0;
        for version in std::fs::read_dir(all).unwrap() {
            let text = std::fs::read_to_string(version.unwrap().path().join("table")).unwrap();
            let table = Table::parse(&text).unwrap();
            assert_eq!(format!("{table:?}"), format!("{:?}", sample()), "{text}");
            count += 1;
        }
        assert!(count > 0);
    }

    #[test]
    fn of_a_table_of_the_next_version_all_is_kept_that_is_understood() {
        let text = written(&sample()).replace("relume-table 1\n", "relume-table 2\nlater 5\n");
        assert_eq!(format!("{:?}", Table::parse(&text).unwrap()), format!("{:?}", sample()));
        assert!(Table::parse("something else\n").is_none());
    }

    #[test]
    fn lines_that_make_no_sense_are_skipped() {
        let mut table = Table::default();
        for entry in ["", "keep", "keep x y", "keep 1:1:1 standard-output", "manager 9:1:1 1 1", "later 5"] {
            assert_eq!(table.read(entry), None, "{entry:?}");
        }
    }

    #[test]
    fn a_descriptor_that_is_gone_does_not_move_the_others_up() {
        let pipe = Pipe::new().unwrap();
        let there = Handle::of(&pipe.read).unwrap();
        let gone = Handle { inode: there.inode ^ 1, ..there };
        std::mem::forget(pipe.read);
        let taken = take_kept(&[gone, there]).unwrap();
        assert_eq!(Handle::of(&taken[1]).unwrap(), there);
        assert!(take_kept(&[gone]).is_none());
    }
}
