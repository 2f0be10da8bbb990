//! Real pipes and real files; only a disk that fails is made up.

mod beside;
mod flow;
mod full;
mod hands;
mod rotation;
mod slots;
mod trouble;

use std::collections::HashMap;
use std::fs;
use std::io::{PipeWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use relume_os::{OsError, Result};

use super::disk::{Disk, Handle, Identity, RealDisk, Stat};
use super::slot::Slot;
use super::{Capture, LOG_MODE, LogTarget, Origin, Report, Rotate, Start, Stream, StreamId};

/// No wait in these tests takes a tenth of this unless something is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// A capture thread with a directory of its own.
struct Rig {
    capture: Capture,
    reports: Receiver<Report>,
    dir: tempfile::TempDir,
    disk: FakeDisk,
    ids: AtomicU64,
}

impl Rig {
    fn new() -> Self {
        Self::with(512, Vec::new())
    }

    fn with(open_files: usize, slots: Vec<Slot>) -> Self {
        Self::with_threads(1, open_files, slots)
    }

    fn with_threads(threads: usize, open_files: usize, slots: Vec<Slot>) -> Self {
        let (send, reports) = channel();
        let on_report = Box::new(move |report| drop(send.send(report)));
        let disk = FakeDisk::default();
        let disks = (0..threads).map(|_| Box::new(disk.clone()) as Box<dyn Disk>).collect();
        let start = Start { disks, slots, vault: None, open_files, on_report, pipe_bytes: 64 << 20 };
        let capture = Capture::start_with(start).unwrap();
        Self { capture, reports, dir: tempfile::tempdir().unwrap(), disk, ids: AtomicU64::new(1) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self, name: &str, rotate: Option<(u64, u32)>) -> Arc<LogTarget> {
        let rotate = rotate.map(|(size, keep)| Rotate::by_size(size, keep));
        Arc::new(LogTarget::plain(self.path(name), rotate))
    }

    /// A new stream into `name`, and what a service would write to.
    fn attach(&self, name: &str) -> (StreamId, PipeWriter) {
        self.attach_to(self.log(name, None))
    }

    fn attach_to(&self, log: Arc<LogTarget>) -> (StreamId, PipeWriter) {
        let (pipe, writer) = std::io::pipe().unwrap();
        let id = StreamId(self.ids.fetch_add(1, Ordering::Relaxed));
        let who = log.path.file_stem().unwrap().to_string_lossy().as_ref().into();
        let origin = Origin { run: 1, is_error: false };
        self.capture.attach(Stream { id, log, pipe: pipe.into(), who, origin, begins: true }).unwrap();
        (id, writer)
    }

    /// The next report that fits; others are dropped.
    fn wait<T>(&self, mut fits: impl FnMut(Report) -> Option<T>) -> T {
        loop {
            if let Some(found) = fits(self.reports.recv_timeout(PATIENCE).expect("a report")) {
                return found;
            }
        }
    }

    /// Ends the stream and waits until all of it is in the file.
    fn finish(&self, wanted: StreamId) -> u64 {
        self.capture.finish(wanted);
        self.finished(wanted)
    }

    fn finished(&self, wanted: StreamId) -> u64 {
        self.wait(|report| {
            let Report::Finished { id, bytes } = report else { return None };
            (id == wanted).then_some(bytes)
        })
    }

    /// All orders so far are carried out: they are taken together or in turn, and finishing is the last of them.
    fn until_obeyed(&self) {
        let (id, _writer) = self.attach("barrier.log");
        self.finish(id);
    }

    /// The text of the next trouble.
    fn trouble(&self) -> String {
        self.wait(|report| matches!(report, Report::Trouble { .. }).then(|| report.to_string()))
    }

    fn resumed(&self) {
        self.wait(|report| matches!(report, Report::Resumed { .. }).then_some(()));
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Waits until the file has so many bytes.
    fn until_size(&self, name: &str, size: u64) {
        let start = std::time::Instant::now();
        while fs::metadata(self.path(name)).map_or(0, |meta| meta.len()) < size {
            assert!(start.elapsed() < PATIENCE, "{name} never got its {size} bytes");
            std::thread::yield_now();
        }
    }
}

/// Writes and closes on a thread of its own, for more than a pipe holds.
fn pour(mut into: PipeWriter, bytes: Vec<u8>, piece: usize) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for part in bytes.chunks(piece) {
            into.write_all(part).unwrap();
        }
    })
}

/// Bytes without any order, the same each time.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(length)
    .collect()
}

/// The real file system until told otherwise.
#[derive(Clone, Default)]
struct FakeDisk {
    state: Arc<Mutex<Faults>>,
}

#[derive(Default)]
struct Faults {
    /// Bytes that may still be written to a path before its disk is full.
    room: HashMap<PathBuf, u64>,
    /// Operations that change something until the machine dies; everything fails from then on.
    life: Option<u64>,
    /// The last of them is carried out (a write in part), and then the machine dies.
    late: bool,
    /// The log whose files are measured before each change, and the most they held.
    measured: Option<(PathBuf, u64)>,
}

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

impl FakeDisk {
    fn leave_room(&self, path: &Path, bytes: u64) {
        self.state.lock().unwrap().room.insert(path.to_owned(), bytes);
    }

    fn free(&self) {
        self.state.lock().unwrap().room.clear();
    }

    fn die_after(&self, changes: u64, late: bool) {
        let mut state = self.state.lock().unwrap();
        (state.life, state.late) = (Some(changes), late);
    }

    /// Whether the change that was just made is the last one, of which nobody hears any more.
    fn was_last(&self) -> bool {
        let state = self.state.lock().unwrap();
        state.late && state.life == Some(0)
    }

    /// The change was made; does anybody hear of it?
    fn tell<T>(&self, told: T) -> std::io::Result<T> {
        if self.was_last() { Err(std::io::Error::from_raw_os_error(EIO)) } else { Ok(told) }
    }

    fn measure(&self, path: &Path) {
        self.state.lock().unwrap().measured = Some((path.to_owned(), 0));
    }

    fn most(&self) -> u64 {
        self.state.lock().unwrap().measured.as_ref().unwrap().1
    }

    fn is_dead(&self) -> bool {
        self.state.lock().unwrap().life == Some(0)
    }

    /// One change is about to be made.
    fn change(&self) -> std::io::Result<()> {
        let mut state = self.state.lock().unwrap();
        if let Some((path, most)) = &mut state.measured {
            *most = on_disk(path).max(*most);
        }
        match &mut state.life {
            Some(0) => Err(std::io::Error::from_raw_os_error(EIO)),
            Some(life) => {
                *life -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Bytes of all files of this log, with their indexes.
fn on_disk(path: &Path) -> u64 {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().trim_start_matches('.').starts_with(&name))
        // One that was renamed meanwhile is looked at the next time.
        .map(|entry| entry.metadata().map_or(0, |meta| meta.len()))
        .sum()
}

struct FakeFile {
    real: Box<dyn Handle>,
    path: PathBuf,
    disk: FakeDisk,
}

impl Handle for FakeFile {
    fn stat(&self) -> std::io::Result<Stat> {
        self.real.stat()
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<usize> {
        self.disk.change()?;
        let mut bytes = bytes;
        if let Some(room) = self.disk.state.lock().unwrap().room.get_mut(&self.path) {
            if *room == 0 {
                return Err(std::io::Error::from_raw_os_error(ENOSPC));
            }
            bytes = &bytes[..bytes.len().min(*room as usize)];
            *room -= bytes.len() as u64;
        }
        if self.disk.was_last() {
            bytes = &bytes[..bytes.len().div_ceil(2)];
        }
        self.disk.tell(self.real.write_at(bytes, offset)?)
    }
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.real.read_at(bytes, offset)
    }
    fn set_len(&self, size: u64) -> std::io::Result<()> {
        self.disk.change()?;
        self.disk.tell(self.real.set_len(size)?)
    }
}

impl Disk for FakeDisk {
    fn open(&self, path: &Path, mode: u32) -> Result<Box<dyn Handle>> {
        if !path.exists() {
            self.change().map_err(|e| OsError::at("open", path, e))?;
        }
        let made = !path.exists();
        let (real, path, disk) = (RealDisk.open(path, mode)?, path.to_owned(), self.clone());
        if made {
            self.tell(()).map_err(|e| OsError::at("open", &path, e))?;
        }
        Ok(Box::new(FakeFile { real, path, disk }))
    }
    fn identity(&self, path: &Path) -> Result<Option<Identity>> {
        RealDisk.identity(path)
    }
    fn size(&self, path: &Path) -> u64 {
        RealDisk.size(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.change().map_err(|e| OsError::at("rename", from, e))?;
        RealDisk.rename(from, to)?;
        self.tell(()).map_err(|e| OsError::at("rename", from, e))
    }
    fn remove(&self, path: &Path) -> Result<()> {
        if path.exists() {
            self.change().map_err(|e| OsError::at("remove", path, e))?;
            RealDisk.remove(path)?;
            self.tell(()).map_err(|e| OsError::at("remove", path, e))?;
        }
        Ok(())
    }
}
