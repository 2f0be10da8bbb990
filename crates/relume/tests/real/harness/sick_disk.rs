//! A file system that falls ill when a test says so: from then on it answers "Input/output error", to writes or to everything, until it
//! is well again. What a disk does of which the cable is loose, and a full or a read-only one does not.
//!
//! It is a FUSE, kept in this process's memory, so nothing of it outlives the test: whoever mounts it does that in a mount
//! namespace of his own, with [`SickDisk::mount_by`] as his standard input. Only the operations that relume uses are there. The
//! words of the protocol are those of linux/fuse.h, in the byte order of the machine.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;

/// What is asked of it by a script: `mount` finds the connection at its standard input.
pub(crate) const MOUNT: &str =
    "mount -i -t fuse -o fd=0,rootmode=40000,user_id=0,group_id=0,allow_other sick";

/// The most bytes of one write; a request is that and less than a page more.
const MOST: usize = 128 * 1024;

/// Linux's numbers for kinds of files.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const KINDS: u32 = 0o170_000;

const ROOT: u64 = 1;

/// How the disk feels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Feels {
    Well,
    /// Whatever would change something fails.
    NoWrites,
    /// Everything fails, reads too.
    Nothing,
}

/// A disk that may fall ill.
pub(crate) struct SickDisk {
    shared: Arc<Shared>,
    connection: File,
}

#[derive(Default)]
struct Shared {
    feels: AtomicU8,
    /// Requests that were answered with an error because it is ill.
    refused: AtomicU64,
}

impl SickDisk {
    /// `None`: this kernel has no FUSE, or not for us.
    pub(crate) fn new() -> Option<Self> {
        let connection = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let shared = Arc::<Shared>::default();
        let (served, owner) = (connection.try_clone().unwrap(), Arc::downgrade(&shared));
        std::thread::spawn(move || serve(served, &owner));
        Some(Self { shared, connection })
    }

    /// For the standard input of whoever mounts it.
    pub(crate) fn mount_by(&self) -> OwnedFd {
        self.connection.try_clone().unwrap().into()
    }

    pub(crate) fn feel(&self, feels: Feels) {
        self.shared.feels.store(feels as u8, Ordering::SeqCst);
    }

    /// How many requests have met with an error.
    pub(crate) fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::SeqCst)
    }
}

/// Until nobody has it mounted any more.
fn serve(mut connection: File, owner: &Weak<Shared>) {
    let mut files = Files::new();
    let mut room = vec![0; MOST + 4096];
    while let Some(shared) = owner.upgrade() {
        match connection.read(&mut room) {
            Ok(length) => {
                let request = Request(&room[..length]);
                let is_ill = is_refused(&request, shared.feels.load(Ordering::SeqCst));
                if is_ill {
                    shared.refused.fetch_add(1, Ordering::SeqCst);
                }
                let answer = if is_ill { Err(Errno::IO) } else { files.answer(&request) };
                if request.wants_answer() {
                    // A request that was interrupted has nobody who waits.
                    let _gone = connection.write(&answered(&request, answer));
                }
            }
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => return,
            // Not mounted yet, or interrupted.
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn is_refused(request: &Request<'_>, feels: u8) -> bool {
    let changes = matches!(
        request.code(),
        op::SETATTR
            | op::MKDIR
            | op::UNLINK
            | op::RMDIR
            | op::RENAME
            | op::RENAME2
            | op::LINK
            | op::WRITE
            | op::FSYNC
            | op::FSYNCDIR
            | op::CREATE
            | op::MKNOD
    );
    let never =
        matches!(request.code(), op::INIT | op::FORGET | op::BATCH_FORGET | op::RELEASE | op::RELEASEDIR);
    let always = feels == Feels::Nothing as u8 && !never;
    always || feels == Feels::NoWrites as u8 && changes
}

fn answered(request: &Request<'_>, answer: Result<Words, Errno>) -> Vec<u8> {
    let (error, body) = match answer {
        Ok(Words(bytes)) => (0, bytes),
        Err(errno) => (-errno.raw_os_error(), vec![]),
    };
    let length = u32::try_from(16 + body.len()).unwrap();
    let mut all = length.to_ne_bytes().to_vec();
    all.extend(error.to_ne_bytes());
    all.extend(request.long(8).to_ne_bytes());
    all.extend(body);
    all
}

/// Which operation is asked for.
mod op {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const SETATTR: u32 = 4;
    pub(super) const MKNOD: u32 = 8;
    pub(super) const MKDIR: u32 = 9;
    pub(super) const UNLINK: u32 = 10;
    pub(super) const RMDIR: u32 = 11;
    pub(super) const RENAME: u32 = 12;
    pub(super) const LINK: u32 = 13;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const WRITE: u32 = 16;
    pub(super) const STATFS: u32 = 17;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FSYNC: u32 = 20;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const INIT: u32 = 26;
    pub(super) const OPENDIR: u32 = 27;
    pub(super) const READDIR: u32 = 28;
    pub(super) const RELEASEDIR: u32 = 29;
    pub(super) const FSYNCDIR: u32 = 30;
    pub(super) const CREATE: u32 = 35;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const BATCH_FORGET: u32 = 42;
    pub(super) const RENAME2: u32 = 45;
}

/// One request: a head of 40 bytes, then what the operation needs.
struct Request<'a>(&'a [u8]);

impl Request<'_> {
    const HEAD: usize = 40;

    fn short(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn long(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    fn code(&self) -> u32 {
        self.short(4)
    }

    fn node(&self) -> u64 {
        self.long(16)
    }

    fn wants_answer(&self) -> bool {
        !matches!(self.code(), op::FORGET | op::BATCH_FORGET | op::INTERRUPT)
    }

    /// The operation's own part.
    fn body_short(&self, at: usize) -> u32 {
        self.short(Self::HEAD + at)
    }

    fn body_long(&self, at: usize) -> u64 {
        self.long(Self::HEAD + at)
    }

    /// What follows `skip` bytes of that part.
    fn rest(&self, skip: usize) -> &[u8] {
        &self.0[Self::HEAD + skip..]
    }

    /// Names end with a NUL each.
    fn names(&self, skip: usize) -> [Vec<u8>; 2] {
        let mut all = self.rest(skip).split(|byte| *byte == 0).map(<[u8]>::to_vec);
        [all.next().unwrap_or_default(), all.next().unwrap_or_default()]
    }
}

/// The body of an answer.
#[derive(Default)]
struct Words(Vec<u8>);

impl Words {
    fn long(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn short(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn zeros(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }
}

struct Node {
    mode: u32,
    owner: [u32; 2],
    links: u32,
    changed: Duration,
    content: Vec<u8>,
    entries: BTreeMap<Vec<u8>, u64>,
}

impl Node {
    fn is_directory(&self) -> bool {
        self.mode & KINDS == DIRECTORY
    }

    fn changes(&mut self) {
        self.changed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    }
}

/// All of them. One that was removed stays, for whoever has it open; a test is short.
struct Files {
    nodes: HashMap<u64, Node>,
    next: u64,
}

impl Files {
    fn new() -> Self {
        let mut files = Self { nodes: HashMap::new(), next: ROOT };
        files.node(DIRECTORY | 0o700, [0, 0]);
        files
    }

    fn node(&mut self, mode: u32, owner: [u32; 2]) -> u64 {
        let number = self.next;
        self.next += 1;
        let (content, entries) = (vec![], BTreeMap::new());
        let mut node = Node { mode, owner, links: 1, changed: Duration::ZERO, content, entries };
        node.changes();
        self.nodes.insert(number, node);
        number
    }

    fn at(&mut self, number: u64) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&number).ok_or(Errno::STALE)
    }

    fn child(&mut self, of: u64, name: &[u8]) -> Result<u64, Errno> {
        self.at(of)?.entries.get(name).copied().ok_or(Errno::NOENT)
    }

    fn answer(&mut self, request: &Request<'_>) -> Result<Words, Errno> {
        let number = request.node();
        match request.code() {
            op::INIT => Ok(greeting()),
            op::LOOKUP => {
                let child = self.child(number, &request.names(0)[0])?;
                self.entry(child)
            }
            op::GETATTR => self.attributes(number, Words::default().zeros(16)),
            op::SETATTR => self.set(request),
            op::MKNOD => self.make(request, request.body_short(0), 16),
            op::MKDIR => self.make(request, DIRECTORY | request.body_short(0), 8),
            op::CREATE => Ok(opened(self.make(request, REGULAR | request.body_short(4) & !KINDS, 16)?)),
            op::UNLINK | op::RMDIR => self.unlink(number, &request.names(0)[0]),
            op::RENAME => self.rename(number, request.body_long(0), &request.names(8)),
            op::RENAME2 => self.rename(number, request.body_long(0), &request.names(16)),
            op::LINK => self.link(request.body_long(0), number, request.names(8)),
            op::OPEN | op::OPENDIR => self.at(number).map(|_| opened(Words::default())),
            op::READ => self.read(number, request.body_long(8), request.body_short(16)),
            op::WRITE => self.write(request),
            op::READDIR => self.list(number, request.body_long(8), request.body_short(16)),
            op::STATFS => Ok(room()),
            op::RELEASE
            | op::RELEASEDIR
            | op::FSYNC
            | op::FSYNCDIR
            | op::FLUSH
            | op::FORGET
            | op::BATCH_FORGET
            | op::INTERRUPT => Ok(Words::default()),
            _ => Err(Errno::NOSYS),
        }
    }

    /// Nothing is remembered by the kernel: the next look is to meet the disk as it feels then.
    fn entry(&mut self, number: u64) -> Result<Words, Errno> {
        self.attributes(number, Words::default().long(number).zeros(32))
    }

    fn attributes(&mut self, number: u64, before: Words) -> Result<Words, Errno> {
        let node = self.at(number)?;
        let size = node.content.len() as u64;
        let (seconds, nanos) = (node.changed.as_secs(), node.changed.subsec_nanos());
        let times = before.long(number).long(size).long(size.div_ceil(512)).long(seconds).long(seconds);
        let times = times.long(seconds).short(nanos).short(nanos).short(nanos);
        let [user, group] = node.owner;
        Ok(times.short(node.mode).short(node.links).short(user).short(group).zeros(4).short(4096).zeros(4))
    }

    fn set(&mut self, request: &Request<'_>) -> Result<Words, Errno> {
        let (which, size) = (request.body_short(0), request.body_long(16));
        let node = self.at(request.node())?;
        let is_set = |bit: u32| which & (1 << bit) != 0;
        if is_set(0) {
            node.mode = node.mode & KINDS | request.body_short(68) & !KINDS;
        }
        for (bit, at) in [(1, 76), (2, 80)] {
            if is_set(bit) {
                node.owner[bit as usize - 1] = request.body_short(at);
            }
        }
        if is_set(3) {
            node.content.resize(usize::try_from(size).map_err(|_| Errno::FBIG)?, 0);
        }
        node.changes();
        self.attributes(request.node(), Words::default().zeros(16))
    }

    fn make(&mut self, request: &Request<'_>, mode: u32, skip: usize) -> Result<Words, Errno> {
        let [name, _] = request.names(skip);
        let parent = request.node();
        if self.at(parent)?.entries.contains_key(&name) {
            return Err(Errno::EXIST);
        }
        let child = self.node(mode, [request.short(24), request.short(28)]);
        self.at(parent)?.entries.insert(name, child);
        self.entry(child)
    }

    fn unlink(&mut self, parent: u64, name: &[u8]) -> Result<Words, Errno> {
        let child = self.child(parent, name)?;
        if !self.at(child)?.entries.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        self.at(parent)?.entries.remove(name);
        self.at(child)?.links -= 1;
        Ok(Words::default())
    }

    fn rename(&mut self, from: u64, to: u64, [old, new]: &[Vec<u8>; 2]) -> Result<Words, Errno> {
        let moved = self.child(from, old)?;
        if let Ok(replaced) = self.child(to, new)
            && replaced != moved
        {
            self.unlink(to, new)?;
        }
        self.at(from)?.entries.remove(old);
        self.at(to)?.entries.insert(new.clone(), moved);
        Ok(Words::default())
    }

    fn link(&mut self, what: u64, parent: u64, [name, _]: [Vec<u8>; 2]) -> Result<Words, Errno> {
        self.at(what)?.links += 1;
        self.at(parent)?.entries.insert(name, what);
        self.entry(what)
    }

    fn read(&mut self, number: u64, from: u64, most: u32) -> Result<Words, Errno> {
        let content = &self.at(number)?.content;
        let begin = usize::try_from(from).map_or(content.len(), |from| from.min(content.len()));
        let end = content.len().min(begin + most as usize);
        Ok(Words(content[begin..end].to_vec()))
    }

    fn write(&mut self, request: &Request<'_>) -> Result<Words, Errno> {
        let (offset, size) = (request.body_long(8), request.body_short(16));
        let begin = usize::try_from(offset).map_err(|_| Errno::FBIG)?;
        let bytes = &request.rest(40)[..size as usize];
        let node = self.at(request.node())?;
        let end = begin + bytes.len();
        if node.content.len() < end {
            node.content.resize(end, 0);
        }
        node.content[begin..end].copy_from_slice(bytes);
        node.changes();
        Ok(Words::default().short(size).zeros(4))
    }

    fn list(&mut self, number: u64, from: u64, most: u32) -> Result<Words, Errno> {
        let entries = self.at(number)?.entries.clone();
        let mut words = Words::default();
        for (at, (name, child)) in
            entries.iter().enumerate().skip(usize::try_from(from).unwrap_or(usize::MAX))
        {
            let kind = if self.at(*child)?.is_directory() { 4 } else { 8 };
            if words.0.len() + 24 + name.len().next_multiple_of(8) > most as usize {
                break;
            }
            let length = u32::try_from(name.len()).unwrap();
            words = words.long(*child).long(at as u64 + 1).short(length).short(kind);
            words.0.extend(name);
            words = words.zeros(name.len().next_multiple_of(8) - name.len());
        }
        Ok(words)
    }
}

/// Version 7.31; what comes as one write arrives as one.
fn greeting() -> Words {
    const BIG_WRITES: u32 = 1 << 5;
    let most = u32::try_from(MOST).unwrap();
    Words::default().short(7).short(31).short(0).short(BIG_WRITES).zeros(4).short(most).short(1).zeros(36)
}

fn opened(before: Words) -> Words {
    before.zeros(16)
}

/// Room for all that a test writes.
fn room() -> Words {
    const MANY: u64 = 1 << 20;
    Words::default()
        .long(MANY)
        .long(MANY)
        .long(MANY)
        .long(MANY)
        .long(MANY)
        .short(4096)
        .short(255)
        .short(4096)
        .zeros(28)
}
