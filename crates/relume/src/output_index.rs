//! The index beside a log file: which byte was written when, by which run, on which channel.
//!
//! Log files hold a service's own bytes and nothing else. What is known about them stands in a hidden file of the same
//! directory: `.web.log.index` for `web.log`, `.web.log.1.index` for `web.log.1` (also when that is compressed to
//! `web.log.1.gz`: offsets are those of the plain bytes). Hidden, so that `logs/*.log*` names logs alone.
//!
//! A header, then records of one size, all little-endian:
//!
//! | header at | what | | record at | what |
//! |---|---|---|---|---|
//! | 0 | `relumeix` | | 0 | offset in the log, `u64` |
//! | 8 | version, `u32` | | 8 | wall clock, nanoseconds since 1970, `i64` |
//! | 12 | size of a record, `u32` | | 16 | generation of the run, `u32` |
//! | 16, 24 | device and inode of the log, `u64` | | 20 | kind, `u8` |
//! | 32 | when the log was begun, as in records, `i64` | | 21 | what the kind counts, 24 bits |
//!
//! An output record says: what stands from this offset to that of the next output record came at this time; it counts the
//! form of the lines (0 raw, 1 with a time in front, 2 an object each). A mark says what
//! happened to the run when so much was written. Offsets grow; where one is smaller than its predecessor, somebody has
//! shortened the log, and the records beyond it are void. Time may go back, as wall clocks do.
//!
//! The index is a help and never a condition: without it, or with one of another file, a log is read without times.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes of the header.
pub(crate) const HEADER: usize = 40;

/// Bytes of a record.
pub(crate) const RECORD: usize = 24;

/// The most of an index that is read, 64 MiB: over a hundred times what belongs to a log of the default size.
const MOST: u64 = 64 * 1024 * 1024;

const MAGIC: [u8; 8] = *b"relumeix";
const VERSION: u32 = 1;

/// The largest number that fits beside a kind.
const MOST_COUNTED: u32 = 0xff_ffff;

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// Standard output; also standard error where the two are merged.
    Out,
    /// Standard error in a file of its own.
    Err,
}

/// How lines stand in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As the service wrote them.
    Raw,
    /// With a time in front.
    Timestamp,
    /// An object each.
    Json,
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// From here on, what the run wrote.
    Output(Channel, Form),
    /// The run is about to begin.
    Started,
    /// Its main process has exited with this code.
    Exited(u32),
    /// A signal has ended it.
    Killed(u32),
    /// It has ended, and nobody can know how.
    Ended,
    /// So many lines were dropped here, because the log could not be written.
    Dropped(u32),
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// Where in the log.
    pub(crate) offset: u64,
    /// When, in nanoseconds since 1970.
    pub(crate) at: i64,
    /// Which life of the service.
    pub(crate) run: u32,
    /// What.
    pub(crate) kind: Kind,
}

/// What stands at the start of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Device and inode of the log that it belongs to. A compressed log is another file: there it says nothing.
    pub(crate) log: (u64, u64),
    /// When the log was begun.
    pub(crate) began: i64,
}

impl Form {
    fn number(self) -> u32 {
        match self {
            Self::Raw => 0,
            Self::Timestamp => 1,
            Self::Json => 2,
        }
    }

    fn of(number: u32) -> Self {
        match number {
            1 => Self::Timestamp,
            2 => Self::Json,
            _ => Self::Raw,
        }
    }
}

/// Where the index of a log, or of the `number`th old file of it, stands.
pub(crate) fn path_of(log: &Path, number: u32) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(log.file_name().unwrap_or_default());
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name.push(".index");
    log.with_file_name(name)
}

impl Header {
    /// As it is stored.
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(RECORD as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.log.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.log.1.to_le_bytes());
        bytes[32..].copy_from_slice(&self.began.to_le_bytes());
        bytes
    }

    /// `None`: not a header of this version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let fits = bytes.starts_with(&MAGIC)
            && word(bytes, 8)? == VERSION.to_le_bytes()
            && word(bytes, 12)? == (RECORD as u32).to_le_bytes();
        let log = (u64::from_le_bytes(word(bytes, 16)?), u64::from_le_bytes(word(bytes, 24)?));
        fits.then_some(Self { log, began: i64::from_le_bytes(word(bytes, 32)?) })
    }
}

impl Record {
    /// As it is stored. A count that does not fit is stored as the largest that does.
    pub(crate) fn encode(&self) -> [u8; RECORD] {
        let (kind, counted) = match self.kind {
            Kind::Output(Channel::Out, form) => (1, form.number()),
            Kind::Output(Channel::Err, form) => (2, form.number()),
            Kind::Started => (16, 0),
            Kind::Exited(code) => (17, code),
            Kind::Killed(signal) => (18, signal),
            Kind::Ended => (19, 0),
            Kind::Dropped(lines) => (20, lines),
        };
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.at.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.run.to_le_bytes());
        bytes[20..].copy_from_slice(&(counted.min(MOST_COUNTED) << 8 | kind).to_le_bytes());
        bytes
    }

    /// `None`: a kind that this version does not know.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let last = u32::from_le_bytes(word(bytes, 20)?);
        let counted = last >> 8;
        let kind = match last & 0xff {
            1 => Kind::Output(Channel::Out, Form::of(counted)),
            2 => Kind::Output(Channel::Err, Form::of(counted)),
            16 => Kind::Started,
            17 => Kind::Exited(counted),
            18 => Kind::Killed(counted),
            19 => Kind::Ended,
            20 => Kind::Dropped(counted),
            _ => return None,
        };
        Some(Self {
            offset: u64::from_le_bytes(word(bytes, 0)?),
            at: i64::from_le_bytes(word(bytes, 8)?),
            run: u32::from_le_bytes(word(bytes, 16)?),
            kind,
        })
    }

    /// Whether it says where output came from, and is no mark.
    pub(crate) fn is_output(&self) -> bool {
        matches!(self.kind, Kind::Output(..))
    }
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// An index that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    /// What it belongs to.
    pub(crate) header: Header,
    /// All that holds, by offset; of one offset in the order of their coming.
    records: Vec<Record>,
}

impl Index {
    /// Reads the index of a log or old file; `path` as [`path_of`] gives it. `None`: it is not an index of this version.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
        Ok(Self::decode(&bytes))
    }

    /// The same, from its bytes. A record that was cut by a crash is not there.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let header = Header::decode(bytes)?;
        let mut records: Vec<Record> = Vec::new();
        for record in bytes[HEADER..].chunks_exact(RECORD).filter_map(Record::decode) {
            while records.last().is_some_and(|last| last.offset > record.offset) {
                records.pop();
            }
            records.push(record);
        }
        Some(Self { header, records })
    }

    /// Who wrote the byte at `offset`, and when. `None`: it is older than the index.
    #[cfg(test)]
    pub(crate) fn at(&self, offset: u64) -> Option<&Record> {
        let end = self.records.partition_point(|record| record.offset <= offset);
        self.records[..end].iter().rev().find(|record| record.is_output())
    }

    /// The first offset of what was written at `time` or later; `None`: nothing was.
    pub(crate) fn offset_at(&self, time: i64) -> Option<u64> {
        self.records.iter().find(|record| record.is_output() && record.at >= time).map(|record| record.offset)
    }

    /// What happened to runs, in its order, with the offset before which each is to be shown.
    #[cfg(test)]
    pub(crate) fn marks(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| !record.is_output())
    }

    /// Everything, in order.
    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Header = Header { log: (7, 4711), began: 1_700_000_000_000_000_000 };

    fn output(offset: u64, at: i64) -> Record {
        Record { offset, at, run: 3, kind: Kind::Output(Channel::Out, Form::Raw) }
    }

    fn index(records: &[Record]) -> Vec<u8> {
        let mut bytes = HEAD.encode().to_vec();
        records.iter().for_each(|record| bytes.extend(record.encode()));
        bytes
    }

    /// What was stored is read again, each kind of it.
    #[test]
    fn each_kind_comes_back_as_it_was_stored() {
        let kinds = [
            Kind::Output(Channel::Out, Form::Raw),
            Kind::Output(Channel::Err, Form::Json),
            Kind::Started,
            Kind::Exited(255),
            Kind::Killed(9),
            Kind::Ended,
            Kind::Dropped(MOST_COUNTED),
        ];
        for kind in kinds {
            let record = Record { offset: u64::MAX - 1, at: -5, run: u32::MAX, kind };
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
        assert_eq!(Header::decode(&HEAD.encode()), Some(HEAD));
        let much = Record { kind: Kind::Dropped(u32::MAX), ..output(0, 0) };
        assert_eq!(Record::decode(&much.encode()).unwrap().kind, Kind::Dropped(MOST_COUNTED));
    }

    /// Bytes of the format do not change: others have such files.
    #[test]
    fn the_format_is_what_it_was() {
        let record = Record { offset: 0x0102, at: 0x0304, run: 5, kind: Kind::Exited(6) };
        let bytes = [2, 1, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 17, 6, 0, 0];
        assert_eq!(record.encode(), bytes);
        assert_eq!(&HEAD.encode()[..16], b"relumeix\x01\0\0\0\x18\0\0\0");
    }

    /// A byte belongs to the last output record at or before it, whatever marks stand between.
    #[test]
    fn a_byte_has_the_time_of_the_read_it_came_with() {
        let mark = Record { offset: 150, at: 25, run: 3, kind: Kind::Exited(1) };
        let index = Index::decode(&index(&[output(100, 10), mark, output(200, 30)])).unwrap();
        assert_eq!(index.at(99), None);
        assert_eq!(index.at(100).unwrap().at, 10);
        assert_eq!(index.at(199).unwrap().at, 10);
        assert_eq!(index.at(200).unwrap().at, 30);
        assert_eq!(index.offset_at(11), Some(200));
        assert_eq!(index.offset_at(10), Some(100));
        assert_eq!(index.offset_at(31), None);
        assert_eq!(index.marks().collect::<Vec<_>>(), [&mark]);
    }

    /// After an outside truncation what stood beyond is forgotten.
    /// Seen to fail without the rule: byte 60 had the time of a byte that is gone.
    #[test]
    fn a_log_that_was_shortened_forgets_what_stood_there() {
        let index = Index::decode(&index(&[output(0, 1), output(50, 2), output(10, 3)])).unwrap();
        assert_eq!(index.at(60).unwrap().at, 3);
        assert_eq!(index.records().len(), 2);
    }

    /// A torn record, an unknown kind, a foreign file: less is known, nothing breaks.
    #[test]
    fn what_makes_no_sense_is_not_there() {
        let mut bytes = index(&[output(0, 1), output(5, 2)]);
        bytes[HEADER + 20] = 99;
        bytes.pop();
        assert_eq!(Index::decode(&bytes).unwrap().records(), []);
        assert_eq!(Index::decode(b"something else that is longer than a header of ours"), None);
        assert_eq!(Index::decode(&bytes[..HEADER - 1]), None);
    }

    /// Names stay beside the log and out of sight.
    #[test]
    fn an_index_hides_beside_its_log() {
        assert_eq!(path_of(Path::new("/l/web.log"), 0), Path::new("/l/.web.log.index"));
        assert_eq!(path_of(Path::new("/l/web.log"), 2), Path::new("/l/.web.log.2.index"));
    }
}
