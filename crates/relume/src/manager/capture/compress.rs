//! Old log files become small, on a thread of the lowest priority.
//!
//! It reads an old file and writes a new one beside it, and touches no name that others know: capture, who alone moves
//! files, puts the result in the place where the old file stands by then. So a rotation in the middle disturbs nothing, and
//! after a kill there is a leftover that nobody misses.
//!
//! It gives up when it is told to, and when the result would be no smaller than the source.

use std::fs::{File, FileTimes, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};

use flate2::write::GzEncoder;

use super::Compress;
use super::disk::Identity;
use super::inbox::{Hand, Inbox};
use super::stream::FileKey;

/// Reads of so many bytes: how often it looks whether it should give up.
const BLOCK: usize = 64 * 1024;

/// One old file to be made small.
pub(super) struct Job {
    pub(super) key: FileKey,
    pub(super) source: PathBuf,
    pub(super) identity: Identity,
    pub(super) result: PathBuf,
    pub(super) how: Compress,
    pub(super) mode: u32,
    pub(super) cancelled: Arc<AtomicBool>,
}

/// How it ended.
pub(super) struct Done {
    pub(super) key: FileKey,
    pub(super) identity: Identity,
    pub(super) result: PathBuf,
    pub(super) how: Compress,
    /// False: there is no result.
    pub(super) complete: bool,
}

/// The thread, once there was something to do.
#[derive(Default)]
pub(super) struct Compressor {
    jobs: Option<Sender<Job>>,
}

impl Compressor {
    /// Hands a job over; false: there is no thread to be had.
    pub(super) fn give(&mut self, job: Job, inbox: &Arc<Inbox>, hand: Hand) -> bool {
        if self.jobs.is_none() {
            let (jobs, orders) = channel::<Job>();
            let inbox = Arc::clone(inbox);
            let thread = std::thread::Builder::new().name("compress".into()).spawn(move || {
                // It may refuse only a rise; without it the thread is as fast as others and does the same.
                let _own_nice = rustix::process::setpriority_process(None, 19);
                for job in orders {
                    inbox.compressed(hand, run(&job));
                }
            });
            self.jobs = thread.is_ok().then_some(jobs);
        }
        self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok())
    }
}

fn run(job: &Job) -> Done {
    let made = pack(job);
    let complete = made.is_ok_and(|complete| complete) && !job.cancelled.load(Ordering::Acquire);
    if !complete {
        let _nothing = std::fs::remove_file(&job.result);
    }
    Done { key: job.key, identity: job.identity, result: job.result.clone(), how: job.how, complete }
}

/// False: not worth it, or no longer wanted.
fn pack(job: &Job) -> io::Result<bool> {
    let no_link = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let source = OpenOptions::new().read(true).custom_flags(no_link).open(&job.source)?;
    let about = source.metadata()?;
    if (about.dev(), about.ino()) != (job.identity.device, job.identity.inode) {
        return Ok(false);
    }
    let _leftover = std::fs::remove_file(&job.result);
    let result = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(job.mode)
        .custom_flags(no_link)
        .open(&job.result)?;
    let limited = Limited { file: result, left: about.len() };
    let source = Watched { file: source, cancelled: &job.cancelled };
    let file = match job.how {
        Compress::Off => return Ok(false),
        Compress::Gzip => gzip(source, limited)?,
        Compress::Zstd => zstd(source, limited)?,
    };
    // Readers go by the time of the last line.
    file.set_times(FileTimes::new().set_modified(about.modified()?))?;
    // The source is about to be removed.
    file.sync_all()?;
    Ok(true)
}

fn gzip(mut source: Watched<'_>, limited: Limited) -> io::Result<File> {
    let mut encoder = GzEncoder::new(limited, flate2::Compression::default());
    let mut block = vec![0; BLOCK];
    loop {
        match source.read(&mut block)? {
            0 => return Ok(encoder.finish()?.file),
            n => encoder.write_all(&block[..n])?,
        }
    }
}

fn zstd(source: Watched<'_>, limited: Limited) -> io::Result<File> {
    let failed = Arc::new(AtomicBool::new(false));
    let mut encoder = ruzstd::encoding::FrameCompressor::new(ruzstd::encoding::CompressionLevel::Fastest);
    encoder.set_source(Guarded { inner: source, failed: Arc::clone(&failed) });
    encoder.set_drain(Guarded { inner: limited, failed: Arc::clone(&failed) });
    encoder.compress();
    match encoder.take_drain() {
        Some(drain) if !failed.load(Ordering::Acquire) => Ok(drain.inner.file),
        Some(_) | None => Err(io::ErrorKind::Other.into()),
    }
}

/// A reader or writer that never fails, but remembers that it has: the zstd encoder panics at a failure.
struct Guarded<T> {
    inner: T,
    failed: Arc<AtomicBool>,
}

impl<T: Read> Read for Guarded<T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.failed.load(Ordering::Acquire) {
            return Ok(0);
        }
        Ok(self.inner.read(into).unwrap_or_else(|_| {
            self.failed.store(true, Ordering::Release);
            0
        }))
    }
}

impl<T: Write> Write for Guarded<T> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        if !self.failed.load(Ordering::Acquire) && self.inner.write_all(from).is_err() {
            self.failed.store(true, Ordering::Release);
        }
        Ok(from.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The source, until the work is cancelled.
struct Watched<'a> {
    file: File,
    cancelled: &'a AtomicBool,
}

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Acquire) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.file.read(into)
    }
}

/// The result, as long as it is smaller than the source.
struct Limited {
    file: File,
    left: u64,
}

impl Write for Limited {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        if from.len() as u64 > self.left {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = self.file.write(from)?;
        self.left -= written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
