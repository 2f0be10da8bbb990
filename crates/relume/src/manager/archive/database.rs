//! The database itself.
//!
//! `service` has a row for each service ever known, the latest wins; `event` the history, once by number;
//! `about` where both stand. A row of `service` carries a checksum: SQLite notices damage to its own
//! structure and not to what stands in it, and a flipped bit must not turn a stop into a start.
//!
//! `locking_mode=EXCLUSIVE` keeps the index of the write-ahead log in memory instead of in a mapped file beside
//! the database: nobody who cuts a file can end the manager with SIGBUS.

use std::path::{Path, PathBuf};

use relume_core::Remembered;
use relume_os::files::{self, FileId};
use relume_proto::EventRecord;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, params};

use super::file::{self, APPLICATION, SCHEMA};
use super::queue::Batch;
use super::{Copy, PAGE};

/// Only its owner reads it.
pub(super) const MODE: u32 = 0o600;

/// Events kept: some weeks of a busy machine, about 20 MB.
const MOST_EVENTS: i64 = 100_000;

/// Events older than this are forgotten, in milliseconds: 30 days.
const MOST_AGE: i64 = 30 * 24 * 3600 * 1000;

/// After so many events those that are too old or too many are deleted.
const PRUNE_EVERY: usize = 1000;

/// Facts that may have been shown to somebody and not written when the machine lost its power: so far the
/// numbers go on above the last one that is known.
const GAP: u64 = 1_000_000;

/// Lives that may have begun and not been written then: so far go their numbers on.
const LIVES: u64 = 100;

/// Numbers beyond it are damage: SQLite's integers end at 2^63, JSON's at 2^53.
const MOST_SEQ: u64 = 1 << 52;

/// Before the name of a job in the keys of `about`: what its inputs were when it was done last.
const INPUTS: &str = "inputs/";

const TABLES: [(&str, &str); 3] = [
    ("about", "CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"),
    ("event", "CREATE TABLE event (seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, record TEXT NOT NULL)"),
    (
        "service",
        "CREATE TABLE service (name TEXT PRIMARY KEY, memory TEXT NOT NULL, checksum INTEGER NOT NULL) \
         WITHOUT ROWID",
    ),
];

/// Why the database cannot be used.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is damaged: it goes aside, and a new one takes its place.
    Broken(String),
    /// It is not to be touched, for as long as this manager lives.
    NotOurs(String),
    /// Not now; it may get better.
    Failing(String),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Broken(text),
            Some(_) => Self::Failing(text),
            // A value of another type than was written, or a table that is not there.
            None => Self::Broken(text),
        }
    }
}

/// The database, open.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
    identity: Option<FileId>,
    boot: String,
    since_pruned: usize,
}

/// What an opened database holds, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) copy: Copy,
    /// Rows that were damaged.
    pub(super) damage: Option<String>,
    /// It means something else now than when it was written, so it has to be written again.
    pub(super) is_changed: bool,
}

impl Content {
    /// Nothing can be read. Numbers go on above all that there can have been: an earlier count began with 1, or
    /// like this one with the milliseconds since 1970, which grow faster than facts.
    pub(super) fn unknown() -> Self {
        let seq = u64::try_from(now_ms()).unwrap_or(0);
        Self { copy: Copy { seq, ..Copy::default() }, damage: None, is_changed: false }
    }
}

impl Database {
    /// Opens the database, a new one where there is none.
    pub(super) fn open(path: &Path, boot: &str) -> Result<Self, Refusal> {
        match file::look(path) {
            file::Look::Nothing => create(path)?,
            file::Look::Ours => {}
            file::Look::Broken(why) => return Err(Refusal::Broken(why)),
            file::Look::NotOurs(why) => return Err(Refusal::NotOurs(why)),
            file::Look::Unknown(why) => return Err(Refusal::Failing(why)),
        }
        let connection = Connection::open_with_flags(path, FLAGS)?;
        set_up(&connection)?;
        let identity = file::identity(path);
        let (path, boot) = (path.to_owned(), boot.to_owned());
        let database = Self { connection, path, identity, boot, since_pruned: 0 };
        database.check_tables()?;
        Ok(database)
    }

    /// Whether the name still leads to this file: somebody may have removed it.
    pub(super) fn is_in_place(&self) -> bool {
        match (&self.identity, file::identity(&self.path)) {
            (Some(own), Some(found)) => own.same_file(&found),
            _ => false,
        }
    }

    /// Only the tables that we have made: an odd one, or a trigger, is damage.
    fn check_tables(&self) -> Result<(), Refusal> {
        let mut query = self.connection.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")?;
        let found = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        let found: Vec<(String, String)> = found.collect::<Result<_, _>>()?;
        let same = found.len() == TABLES.len()
            && found.iter().zip(TABLES).all(|(found, own)| (found.0.as_str(), found.1.as_str()) == own);
        if same { Ok(()) } else { Err(Refusal::Broken("its tables are not those that relume makes".into())) }
    }

    /// What an earlier relume has left, as far as it can be read.
    pub(super) fn content(&self) -> Content {
        let mut content = Content::default();
        let about = |key: &str| -> rusqlite::Result<Option<String>> {
            let sql = "SELECT value FROM about WHERE key = ?1";
            self.connection.query_row(sql, [key], |row| row.get(0)).optional()
        };
        let (boot, ended) = (about("boot").unwrap_or(None), about("ended").unwrap_or(None));
        let (same_boot, in_order) = (boot.as_deref() == Some(&self.boot), ended.as_deref() == Some("1"));
        if let Err(error) = self.read_services(&mut content) {
            content.damage = Some(error.to_string());
        }
        content.is_changed = !same_boot || in_order;
        for service in &mut content.copy.services {
            if !in_order && service.generation > 0 {
                service.generation = service.generation.saturating_add(LIVES);
            }
            let known = service.clone();
            *service = match (same_boot, in_order) {
                (true, false) => known,
                (true, true) => known.after_leaving(),
                (false, _) => known.of_another_boot(),
            };
        }
        if let Err(error) = self.read_inputs(&mut content) {
            content.damage = Some(error.to_string());
        }
        let noted = about("seq").unwrap_or(None).and_then(|text| text.parse().ok()).unwrap_or(0);
        let last = self.connection.query_row("SELECT max(seq) FROM event", [], |row| row.get(0));
        let last: Option<i64> = last.unwrap_or_else(|error| {
            content.damage.get_or_insert(error.to_string());
            None
        });
        let last = last.and_then(|last| u64::try_from(last).ok());
        let seq = [noted, last.unwrap_or(0)].into_iter().filter(|seq| *seq < MOST_SEQ).max().unwrap_or(0);
        content.copy.seq = if in_order || boot.is_none() { seq } else { seq + GAP };
        if content.damage.is_some() {
            content.copy.seq = content.copy.seq.max(Content::unknown().copy.seq);
        }
        content
    }

    fn read_services(&self, content: &mut Content) -> rusqlite::Result<()> {
        let mut query = self.connection.prepare("SELECT name, memory, checksum FROM service")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (name, memory, sum): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let known = serde_json::from_str::<Remembered>(&memory).ok();
            match known.filter(|known| sum == checksum(&name, &memory) && known.name == name) {
                Some(known) => content.copy.services.push(known),
                None => content.damage = Some("what stands in it has changed since it was written".into()),
            }
        }
        Ok(())
    }

    fn read_inputs(&self, content: &mut Content) -> rusqlite::Result<()> {
        let mut query = self.connection.prepare("SELECT key, value FROM about")?;
        let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        for row in rows {
            let (key, digest) = row?;
            if let Some(name) = key.strip_prefix(INPUTS) {
                content.copy.inputs.insert(name.to_owned(), digest);
            }
        }
        Ok(())
    }

    /// Looks at the whole of it; an error in words.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let found: String = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found == "ok" { Ok(()) } else { Err(Refusal::Broken(found)) }
    }

    /// Writes all of it or nothing.
    pub(super) fn write(&mut self, batch: &Batch) -> Result<(), Refusal> {
        self.connection.pragma_update(None, "synchronous", if batch.asked { "FULL" } else { "NORMAL" })?;
        let prune = self.since_pruned + batch.events.len() >= PRUNE_EVERY;
        let transaction = self.connection.transaction()?;
        write_services(&transaction, batch)?;
        write_events(&transaction, batch)?;
        let about = [("seq", batch.seq.to_string()), ("boot", self.boot.clone()), ("ended", "0".into())];
        note(&transaction, &about)?;
        for (name, digest) in &batch.inputs {
            note(&transaction, &[(&format!("{INPUTS}{name}"), digest.clone())])?;
        }
        if prune {
            forget_old(&transaction, MOST_EVENTS, now_ms() - MOST_AGE)?;
        }
        transaction.commit()?;
        self.since_pruned = if prune { 0 } else { self.since_pruned + batch.events.len() };
        Ok(())
    }

    /// Gives back the pages in memory: batches are rare, and the kernel has what they need of the file.
    pub(super) fn rest(&self) {
        // What is not given back is used again.
        let _kept = self.connection.execute_batch("PRAGMA shrink_memory");
    }

    /// Events with numbers between the two, the latest [`PAGE`] of them, oldest first.
    pub(super) fn history(&self, after: u64, before: u64) -> Result<Vec<EventRecord>, Refusal> {
        let sql = "SELECT record FROM event WHERE seq > ?1 AND seq < ?2 ORDER BY seq LIMIT ?3";
        let mut query = self.connection.prepare(sql)?;
        let rows = query.query_map(params![signed(after), signed(before), signed(PAGE as u64)], |row| {
            row.get::<_, String>(0)
        })?;
        let mut all = Vec::new();
        for row in rows {
            let record = serde_json::from_str(&row?);
            all.push(record.map_err(|error| Refusal::Broken(format!("an event cannot be read: {error}")))?);
        }
        Ok(all)
    }

    /// Leaves it as one file, complete.
    pub(super) fn close(mut self, in_order: bool) -> Result<(), Refusal> {
        if in_order {
            self.connection.pragma_update(None, "synchronous", "FULL")?;
            let transaction = self.connection.transaction()?;
            note(&transaction, &[("ended", "1".into())])?;
            transaction.commit()?;
        }
        self.connection.close().map_err(|(_, error)| Refusal::from(error))
    }
}

/// How many of the latest events a look at a database brings.
const PEEKED: u64 = 20_000;

/// What stands in a database that nobody has open. SQLite's own lock keeps out whoever comes meanwhile, for as
/// long as this takes.
pub(super) fn peek(path: &Path) -> Option<(Vec<Remembered>, Vec<EventRecord>)> {
    if file::look(path) != file::Look::Ours {
        return None;
    }
    let database = Database::open(path, "").ok()?;
    let mut content = Content::default();
    database.read_services(&mut content).ok()?;
    let mut query =
        database.connection.prepare("SELECT record FROM event ORDER BY seq DESC LIMIT ?1").ok()?;
    let rows = query.query_map([signed(PEEKED)], |row| row.get::<_, String>(0)).ok()?;
    let mut events: Vec<EventRecord> = rows.filter_map(|row| serde_json::from_str(&row.ok()?).ok()).collect();
    events.reverse();
    Some((content.copy.services, events))
}

/// No link is followed, and one thread uses it.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE
    .union(OpenFlags::SQLITE_OPEN_NO_MUTEX)
    .union(OpenFlags::SQLITE_OPEN_PRIVATE_CACHE);

fn set_up(connection: &Connection) -> Result<(), Refusal> {
    connection.busy_timeout(std::time::Duration::from_millis(500))?;
    // Damage is found before it is acted on.
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    // In KiB, as SQLite wants it: negative.
    connection.pragma_update(None, "cache_size", -256)?;
    let mode: String = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Refusal::Failing(format!("the file system allows no write-ahead log ({mode})")));
    }
    // Pages of 4 KiB: the log stays near a megabyte, and is cut back to that after a burst.
    connection.pragma_update(None, "wal_autocheckpoint", 256)?;
    connection.pragma_update(None, "journal_size_limit", 1 << 20)?;
    Ok(())
}

/// Made under another name, so that whatever has the right one is complete.
fn create(path: &Path) -> Result<(), Refusal> {
    let failing = |error: relume_os::OsError| Refusal::Failing(error.to_string());
    for suffix in ["-wal", "-shm", "-journal"] {
        files::remove(&file::beside(path, suffix)).map_err(failing)?;
    }
    let fresh = file::beside(path, ".new");
    for suffix in ["", "-wal", "-shm", "-journal"] {
        files::remove(&file::beside(&fresh, suffix)).map_err(failing)?;
    }
    files::create_regular(&fresh, MODE).map(drop).map_err(failing)?;
    let connection = Connection::open_with_flags(&fresh, FLAGS)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    let tables: Vec<&str> = TABLES.iter().map(|(_, sql)| *sql).collect();
    connection.execute_batch(&format!(
        "BEGIN; PRAGMA application_id={APPLICATION}; PRAGMA user_version={SCHEMA}; {}; COMMIT",
        tables.join("; ")
    ))?;
    connection.close().map_err(|(_, error)| Refusal::from(error))?;
    files::rename(&fresh, path).map_err(failing)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let dir = files::open_dir(parent.unwrap_or_else(|| Path::new("."))).map_err(failing)?;
    files::sync(dir).map_err(failing)
}

/// What a file tells that may not be written. What has not been checkpointed is not part of it.
pub(super) fn read_only(path: &Path, boot: &str) -> Result<Content, Refusal> {
    let uri = format!("file:{}?immutable=1", percent(path));
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri, flags)?;
    let (path, boot) = (path.to_owned(), boot.to_owned());
    let database = Database { connection, path, identity: None, boot, since_pruned: 0 };
    database.check_tables()?;
    Ok(database.content())
}

/// A path in a URI (RFC 3986 §2.1).
fn percent(path: &Path) -> String {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().iter().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' => {
                out.push(char::from(*byte))
            }
            // Writing to a string cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
        out
    })
}

fn write_services(transaction: &Transaction<'_>, batch: &Batch) -> rusqlite::Result<()> {
    if batch.services.is_empty() {
        return Ok(());
    }
    let mut put = transaction.prepare("INSERT OR REPLACE INTO service VALUES (?1, ?2, ?3)")?;
    for (name, service) in &batch.services {
        // Plain strings and numbers: this cannot fail.
        let memory = serde_json::to_string(service).unwrap_or_default();
        put.execute(params![name, memory, checksum(name, &memory)])?;
    }
    Ok(())
}

fn write_events(transaction: &Transaction<'_>, batch: &Batch) -> rusqlite::Result<()> {
    if batch.events.is_empty() {
        return Ok(());
    }
    // One that is there already was told by an earlier manager.
    let mut put = transaction.prepare("INSERT OR IGNORE INTO event VALUES (?1, ?2, ?3)")?;
    for record in &batch.events {
        let text = serde_json::to_string(record).unwrap_or_default();
        put.execute(params![signed(record.seq), at_ms(record), text])?;
    }
    Ok(())
}

fn note(transaction: &Transaction<'_>, about: &[(&str, String)]) -> rusqlite::Result<()> {
    let mut put = transaction.prepare("INSERT OR REPLACE INTO about VALUES (?1, ?2)")?;
    for (key, value) in about {
        put.execute(params![key, value])?;
    }
    Ok(())
}

/// Deletes all but the latest `most`, and what is older than `oldest` (in milliseconds since 1970).
pub(super) fn forget_old(transaction: &Transaction<'_>, most: i64, oldest: i64) -> rusqlite::Result<()> {
    let too_many = "DELETE FROM event WHERE seq <= \
                    (SELECT seq FROM event ORDER BY seq DESC LIMIT 1 OFFSET ?1)";
    transaction.execute(too_many, [most])?;
    // Numbers grow with time, so the first that is young enough ends it.
    let too_old = "DELETE FROM event WHERE seq < \
                   (SELECT seq FROM event WHERE at_ms >= ?1 ORDER BY seq LIMIT 1)";
    transaction.execute(too_old, [oldest])?;
    Ok(())
}

fn at_ms(record: &EventRecord) -> i64 {
    record.at.parse::<jiff::Timestamp>().map_or_else(|_| now_ms(), jiff::Timestamp::as_millisecond)
}

fn now_ms() -> i64 {
    i64::try_from(relume_os::clock::realtime().as_millis()).unwrap_or(i64::MAX)
}

fn signed(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// The FNV-1a hash of both (<http://www.isthe.com/chongo/tech/comp/fnv/>): against damage, not against malice.
fn checksum(name: &str, memory: &str) -> i64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = name.bytes().chain([0]).chain(memory.bytes());
    bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME)).cast_signed()
}

#[cfg(test)]
impl Database {
    /// For tests: the connection, to make trouble with.
    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }
}
