//! A log and the files it was rotated into: `web.log`, `web.log.1`, `web.log.2.gz`, …

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::output_index::{self, HEADER, Header};

/// A chain that is longer than this is no rotation of ours.
const LONGEST: usize = 10_000;

/// A chain ends where so many numbers in a row are missing. While it is being rotated one is missing for a
/// moment, and perhaps another one when it is looked at again.
const MOST_MISSING: usize = 4;

/// What a file is, whatever it is called: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity(pub(crate) u64, pub(crate) u64);

/// How an old file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// gzip (RFC 1952).
    Gzip,
    /// zstd (RFC 8878).
    Zstd,
}

impl Packing {
    pub(crate) const ALL: [Self; 2] = [Self::Gzip, Self::Zstd];

    /// What such a file's name ends with.
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }
}

/// An opened log file.
#[derive(Debug)]
pub(crate) struct LogFile {
    pub(crate) file: File,
    pub(crate) identity: Identity,
    /// `None`: not compressed.
    pub(crate) packing: Option<Packing>,
    /// Of a compressed one: its index, which names the file it was before.
    pub(crate) index: Option<PathBuf>,
}

impl LogFile {
    /// Opens it for reading: a regular file, no link, without waiting for a FIFO's writer.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NOCTTY;
        let flags = i32::try_from(flags.bits()).unwrap_or(0);
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok(Self { identity: Identity(found.dev(), found.ino()), file, packing: None, index: None })
    }

    /// The file of this number, or its compressed form.
    fn open_number(log: &Path, number: usize) -> io::Result<Self> {
        let plain = path_of(log, number);
        match Self::open(&plain) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && number > 0 => {}
            found => return found,
        }
        for packing in Packing::ALL {
            let mut name = plain.clone().into_os_string();
            name.push(packing.ending());
            match Self::open(Path::new(&name)) {
                Ok(found) => {
                    let index = u32::try_from(number).ok().map(|number| output_index::path_of(log, number));
                    return Ok(Self { packing: Some(packing), index, ..found });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// What it was before it was compressed, as its index says; what it is.
    pub(crate) fn original(&self) -> Identity {
        let header = || {
            let mut bytes = [0; HEADER];
            Self::open(self.index.as_deref()?).ok()?.file.read_exact_at(&mut bytes, 0).ok()?;
            Header::decode(&bytes)
        };
        header().map_or(self.identity, |header| Identity(header.log.0, header.log.1))
    }

    /// Its length on disk now.
    pub(crate) fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Whether it still has a name.
    pub(crate) fn is_named(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.nlink() > 0)
    }

    /// When it was written last.
    pub(crate) fn written(&self) -> io::Result<std::time::SystemTime> {
        self.file.metadata()?.modified()
    }

    /// Reads its plain bytes from `offset` on.
    pub(crate) fn reader(self, offset: u64) -> io::Result<Reader> {
        let mut reader = Reader { unpacking: self.unpack()?, log: self, offset: 0 };
        reader.skip_to(offset)?;
        Ok(reader)
    }

    /// What makes plain bytes of it, from its beginning; it has an offset of its own in the file.
    fn unpack(&self) -> io::Result<Option<Unpacking>> {
        let Some(packing) = self.packing else { return Ok(None) };
        let file = BufReader::new(Positioned { file: self.file.try_clone()?, at: 0 });
        Ok(Some(Unpacking(match packing {
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
            Packing::Zstd => {
                Box::new(ruzstd::decoding::StreamingDecoder::new(file).map_err(io::Error::other)?)
            }
        })))
    }

    /// Up to so many of its first plain bytes.
    pub(crate) fn first_bytes(&self, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.unpack()? {
            None => {
                bytes.resize(most, 0);
                let mut filled = 0;
                while filled < most {
                    match self.file.read_at(&mut bytes[filled..], filled as u64)? {
                        0 => break,
                        n => filled += n,
                    }
                }
                bytes.truncate(filled);
            }
            Some(unpacking) => {
                unpacking.0.take(most as u64).read_to_end(&mut bytes)?;
            }
        }
        Ok(bytes)
    }
}

/// A decompressor; bounded memory whatever the file says (this one refuses windows above 128 MiB).
struct Unpacking(Box<dyn Read + Send>);

/// A file that is read by position: its descriptor is shared.
struct Positioned {
    file: File,
    at: u64,
}

impl Read for Positioned {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(bytes, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// The plain bytes of one file, one after the other.
pub(crate) struct Reader {
    pub(crate) log: LogFile,
    unpacking: Option<Unpacking>,
    /// Of the next byte.
    pub(crate) offset: u64,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("log", &self.log).field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl Reader {
    /// 0: there is no more for now.
    pub(crate) fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.unpacking {
            None => self.log.file.read_at(bytes, self.offset)?,
            Some(unpacking) => unpacking.0.read(bytes)?,
        };
        self.offset += read as u64;
        Ok(read)
    }

    /// It has become shorter than what was read of it.
    pub(crate) fn is_truncated(&self) -> io::Result<bool> {
        Ok(self.unpacking.is_none() && self.log.length()? < self.offset)
    }

    fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        if self.unpacking.is_none() {
            self.offset = offset;
            return Ok(());
        }
        let mut block = vec![0; BLOCK];
        while self.offset < offset {
            let most = usize::try_from(offset - self.offset).unwrap_or(BLOCK).min(BLOCK);
            if self.read(&mut block[..most])? == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// Bytes read at once.
pub(crate) const BLOCK: usize = 64 << 10;

/// What lies at this path now.
pub(crate) fn identity_at(path: &Path) -> Option<Identity> {
    fs::symlink_metadata(path).ok().map(|found| Identity(found.dev(), found.ino()))
}

/// The path of the `number`th old file while it is not compressed; 0 is the log itself.
pub(crate) fn path_of(log: &Path, number: usize) -> PathBuf {
    if number == 0 {
        return log.to_owned();
    }
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// Every file of the chain, opened, newest first.
///
/// Looked at in this order because rotation only moves files to higher numbers: one that moves meanwhile is
/// seen twice (and counted once), and none is missed that is newer than another that was seen.
pub(crate) fn open_all(log: &Path) -> io::Result<Vec<LogFile>> {
    let mut files: Vec<LogFile> = Vec::new();
    let mut missing = 0;
    for number in 0..LONGEST {
        match LogFile::open_number(log, number) {
            Ok(found) => {
                missing = 0;
                if files.iter().all(|file| file.identity != found.identity) {
                    files.push(found);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing += 1,
            Err(error) => return Err(error),
        }
        if missing == MOST_MISSING {
            break;
        }
    }
    Ok(files)
}
