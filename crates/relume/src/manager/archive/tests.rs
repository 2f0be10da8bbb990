use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use relume_core::{History, Moment};

use super::database::{Database, Refusal};
use super::file;
use super::queue::Batch;
use super::*;

const BOOT: &str = "boot-1";

fn service(name: &str, generation: u64, intent: Intent) -> Remembered {
    let history = History { failures_in_row: 2, retries: vec![Moment(7)], exhausted: false };
    let (name, launch, restarts) = (name.to_owned(), 5, 3);
    Remembered { name, intent, generation, launch, restarts, history, last_end: None }
}

/// Lives may have begun that nobody has written.
fn after_a_crash(service: Remembered) -> Remembered {
    Remembered { generation: service.generation + 100, ..service }
}

fn event(seq: u64) -> EventRecord {
    let at = jiff::Timestamp::now().to_string();
    EventRecord {
        seq,
        at,
        service: Some("web".into()),
        detail: Some("x".repeat(40)),
        ..EventRecord::default()
    }
}

fn batch(services: &[Remembered], events: impl IntoIterator<Item = u64>) -> Batch {
    let services = services.iter().map(|service| (service.name.clone(), service.clone())).collect();
    let events: std::collections::VecDeque<_> = events.into_iter().map(event).collect();
    let seq = events.back().map_or(0, |last| last.seq);
    Batch { services, events, seq, asked: true, waiting: Vec::new(), ..Batch::default() }
}

fn seqs(events: &[EventRecord]) -> Vec<u64> {
    events.iter().map(|record| record.seq).collect()
}

/// A database with services, some of them stopped on request, and events; closed.
fn filled(path: &Path) -> Vec<Remembered> {
    let intent = |n: u64| if n.is_multiple_of(3) { Intent::Down } else { Intent::Auto };
    let services: Vec<_> = (1..=60).map(|n| service(&format!("s{n:02}"), n, intent(n))).collect();
    let mut database = Database::open(path, BOOT).unwrap();
    database.write(&batch(&services, 1..=300)).unwrap();
    database.close(false).unwrap();
    services
}

/// Looks for what has been said, without a publisher.
fn said(archive: &Archive) -> Vec<(Level, String)> {
    let inner = lock(&archive.voice.0);
    let mut all = Vec::new();
    for note in &inner.1 {
        if let Note::Say { level, text } = note {
            all.push((*level, text.clone()));
        }
    }
    all
}

fn wait<T>(told: oneshot::Receiver<T>) -> T {
    told.blocking_recv().unwrap()
}

#[test]
fn what_was_written_is_there_for_the_next_one_in_the_same_boot_and_in_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let services = filled(&path);
    let same = Database::open(&path, BOOT).unwrap().content();
    let services: Vec<_> = services.into_iter().map(after_a_crash).collect();
    assert_eq!((same.copy.services, same.damage), (services.clone(), None), "nobody left in order");
    let other = Database::open(&path, "boot-2").unwrap().content().copy;
    let expected: Vec<_> = services.into_iter().map(Remembered::of_another_boot).collect();
    assert_eq!(other.services, expected);
    assert!(other.seq > 300, "numbers go on above what may have been shown");
}

#[test]
fn after_an_end_in_order_numbers_go_on_without_a_gap_and_nothing_counts_against_anybody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let mut database = Database::open(&path, BOOT).unwrap();
    database.write(&batch(&[service("web", 4, Intent::Up)], [1, 2])).unwrap();
    database.write(&Batch { seq: 9, ..Batch::default() }).unwrap();
    database.close(true).unwrap();
    let copy = Database::open(&path, BOOT).unwrap().content().copy;
    assert_eq!(copy.seq, 9);
    assert_eq!(copy.services, [service("web", 4, Intent::Auto).after_leaving()]);
    assert_eq!(copy.services[0].history, History::default());
}

#[test]
fn an_event_is_kept_once_by_its_number_and_read_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = Database::open(&dir.path().join("state.db"), BOOT).unwrap();
    let last = 2 * PAGE as u64 + 20;
    database.write(&batch(&[], 1..=last)).unwrap();
    database.write(&batch(&[], last - 30..=last)).unwrap();
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = seqs(&database.history(after, u64::MAX).unwrap());
        let Some(end) = page.last().copied() else { break };
        assert!(page.len() <= PAGE);
        all.extend(page);
        after = end;
    }
    assert_eq!(all, (1..=last).collect::<Vec<_>>());
    assert_eq!(seqs(&database.history(5, 9).unwrap()), [6, 7, 8]);
}

#[test]
fn the_history_forgets_what_is_too_much_and_what_is_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = Database::open(&dir.path().join("state.db"), BOOT).unwrap();
    database.write(&batch(&[], 1..=100)).unwrap();
    let transaction = database.connection().transaction().unwrap();
    database::forget_old(&transaction, 40, 0).unwrap();
    transaction.commit().unwrap();
    assert_eq!(seqs(&database.history(0, u64::MAX).unwrap()), (61..=100).collect::<Vec<_>>());
    database.connection().execute("UPDATE event SET at_ms = 1000 WHERE seq <= 90", []).unwrap();
    let transaction = database.connection().transaction().unwrap();
    database::forget_old(&transaction, 1000, 2000).unwrap();
    transaction.commit().unwrap();
    assert_eq!(seqs(&database.history(0, u64::MAX).unwrap()), (91..=100).collect::<Vec<_>>());
}

#[test]
fn a_database_of_a_newer_relume_or_of_another_program_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for (pragma, word) in [("user_version=2", "newer relume"), ("application_id=7", "other program")] {
        let path = dir.path().join(pragma);
        filled(&path);
        let connection = rusqlite::Connection::open(&path).unwrap();
        // Back from the log into the file itself, as a newer relume has it.
        connection.execute_batch("PRAGMA journal_mode=DELETE").unwrap();
        connection.execute_batch(&format!("PRAGMA {pragma}")).unwrap();
        drop(connection);
        let before = std::fs::read(&path).unwrap();
        let archive = Archive::start(path.clone(), BOOT.into()).unwrap();
        let copy = archive.copy();
        assert!(copy.services.is_empty() && copy.seq > 300, "{copy:?}");
        archive.remember(service("web", 1, Intent::Down), true);
        assert!(matches!(wait(archive.saved()), Saved::No(why) if why.contains(word)));
        archive.event(event(1));
        archive.finish(true);
        assert_eq!(std::fs::read(&path).unwrap(), before);
        let said = said(&archive);
        assert!(said.len() == 1 && said[0].0 == Level::Error && said[0].1.contains(word), "{said:?}");
        assert!(!file::beside(&path, ".corrupt-1").exists());
    }
}

#[test]
fn what_is_no_regular_file_of_ours_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("foreign"), "somebody's").unwrap();
    std::fs::create_dir(at("directory")).unwrap();
    std::os::unix::fs::symlink(at("foreign"), at("link")).unwrap();
    std::os::unix::fs::symlink(at("nothing"), at("dangling")).unwrap();
    std::fs::hard_link(at("foreign"), at("hard")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap();
    assert!(made.success());
    for name in ["directory", "link", "dangling", "hard", "fifo"] {
        let archive = Archive::start(at(name), BOOT.into()).unwrap();
        assert!(archive.copy().services.is_empty());
        archive.remember(service("web", 1, Intent::Down), true);
        assert!(matches!(wait(archive.saved()), Saved::No(_)), "{name}");
        archive.finish(true);
        assert_eq!(said(&archive).len(), 1, "{name}: {:?}", said(&archive));
    }
    assert_eq!(std::fs::read(at("foreign")).unwrap(), b"somebody's");
    assert!(at("directory").is_dir() && !at("nothing").exists());
}

/// Opens a damaged database as a manager does, works with it, and opens it once more: no crash, nothing that
/// nobody wrote, and a database that works. Whether the damage was noticed.
fn survives(path: &Path, services: &[Remembered], what: &str) -> bool {
    let archive = Archive::start(path.to_owned(), BOOT.into()).unwrap();
    let copy = archive.copy();
    for known in &copy.services {
        let written = services.iter().find(|service| service.name == known.name);
        let plausible = written.is_some_and(|written| {
            let all = [written.clone(), written.clone().after_leaving(), written.clone().of_another_boot()];
            all.contains(known) || all.map(after_a_crash).contains(known)
        });
        assert!(plausible, "{what}: {known:?} was never written");
    }
    let next = copy.seq + 1;
    archive.remember(service("later", 1, Intent::Down), true);
    archive.event(event(next));
    let saved = wait(archive.saved());
    assert_eq!(saved, Saved::Yes, "{what}: {:?}", said(&archive));
    let told = seqs(&wait(archive.history(copy.seq, u64::MAX)));
    assert!(told.contains(&next), "{what}: {told:?}");
    archive.finish(true);
    let said = said(&archive);
    // What is lost is said.
    assert!(copy.services.len() == services.len() || !said.is_empty(), "{what}: a silent loss");
    let again = Database::open(path, BOOT).unwrap().content();
    assert!(again.damage.is_none(), "{what}: {:?}", again.damage);
    assert!(again.copy.services.iter().any(|service| service.name == "later"), "{what}");
    !said.is_empty()
}

fn clean(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

/// How often a random damage is tried; `RELUME_DAMAGE` chooses another number.
fn tries() -> u64 {
    std::env::var("RELUME_DAMAGE").ok().and_then(|text| text.parse().ok()).unwrap_or(500)
}

#[test]
fn a_database_that_was_cut_off_anywhere_costs_at_most_what_was_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let services = filled(&path);
    let whole = std::fs::read(&path).unwrap();
    let step = whole.len() / 60;
    // The ends of the header and of pages, and a spread between.
    let odd = [0, 1, 15, 16, 99, 100, 101, 4095, 4096, 4097, whole.len() - 1];
    let mut noticed = 0;
    for length in odd.into_iter().chain((0..whole.len()).step_by(step)) {
        clean(dir.path());
        std::fs::write(&path, &whole[..length]).unwrap();
        noticed += u32::from(survives(&path, &services, &format!("cut at {length}")));
    }
    assert!(noticed > 30, "only {noticed} cuts were noticed");
}

#[test]
fn flipped_bits_anywhere_never_crash_and_never_turn_a_stop_into_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let services = filled(&path);
    let whole = std::fs::read(&path).unwrap();
    let seed = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
    // xorshift64 (Marsaglia 2003): the same flips on each machine.
    let random = || {
        let mut x = seed.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        seed.store(x, Ordering::Relaxed);
        usize::try_from(x >> 1).unwrap()
    };
    let mut noticed = 0;
    for n in 0..tries() {
        let mut bytes = whole.clone();
        let bits: Vec<usize> = (0..1 + n % 3).map(|_| random() % (bytes.len() * 8)).collect();
        bits.iter().for_each(|bit| bytes[bit / 8] ^= 1 << (bit % 8));
        clean(dir.path());
        std::fs::write(&path, &bytes).unwrap();
        if matches!(file::look(&path), file::Look::NotOurs(_)) {
            // A flip in the header made it somebody else's: left alone, see the test of that.
            continue;
        }
        noticed += u32::from(survives(&path, &services, &format!("try {n}, bits {bits:?}")));
    }
    assert!(noticed > 0, "no damage was noticed at all");
}

#[test]
fn zeros_and_noise_in_its_place_are_moved_aside_and_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    for (n, bytes) in [vec![], vec![0; 50_000], b"[]".to_vec(), vec![b'x'; 5_000]].into_iter().enumerate() {
        std::fs::write(&path, &bytes).unwrap();
        let archive = Archive::start(path.clone(), BOOT.into()).unwrap();
        assert!(archive.copy().services.is_empty());
        archive.remember(service("web", 1, Intent::Down), true);
        assert_eq!(wait(archive.saved()), Saved::Yes);
        archive.finish(true);
        let said = said(&archive);
        assert!(said.len() == 1 && said[0].0 == Level::Error, "{said:?}");
        let aside = file::beside(&path, &format!(".corrupt-{}", n + 1));
        assert_eq!(std::fs::read(aside).unwrap(), bytes, "what there was is kept");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn damage_that_shows_only_while_it_is_used_begins_a_new_one_and_asks_for_everything_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let archive = Archive::start(path.clone(), BOOT.into()).unwrap();
    archive.remember(service("web", 1, Intent::Down), true);
    assert_eq!(wait(archive.saved()), Saved::Yes);
    std::fs::remove_file(&path).unwrap();
    archive.remember(service("db", 1, Intent::Down), true);
    assert_eq!(wait(archive.saved()), Saved::Yes);
    let asked = lock(&archive.voice.0).1.iter().any(|note| matches!(note, Note::RememberAll));
    assert!(asked, "the row of web is not in the new one");
    archive.finish(false);
    let known = Database::open(&path, BOOT).unwrap().content().copy.services;
    assert_eq!(known, [after_a_crash(service("db", 1, Intent::Down))]);
}

#[test]
fn a_full_disk_is_an_error_that_passes_and_loses_nothing_that_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = Database::open(&dir.path().join("state.db"), BOOT).unwrap();
    database.write(&batch(&[service("web", 1, Intent::Down)], 1..=10)).unwrap();
    database.connection().execute_batch("PRAGMA max_page_count=20").unwrap();
    let refused = database.write(&batch(&[service("web", 2, Intent::Auto)], 11..=5_000));
    assert!(matches!(&refused, Err(Refusal::Failing(why)) if why.contains("full")), "{refused:?}");
    database.connection().execute_batch("PRAGMA max_page_count=100000").unwrap();
    let known = database.content().copy.services;
    assert_eq!(known, [after_a_crash(service("web", 1, Intent::Down))], "all of a batch or nothing");
    database.write(&batch(&[service("web", 2, Intent::Auto)], 11..=5_000)).unwrap();
    assert_eq!(database.history(4_990, u64::MAX).unwrap().len(), 10);
}

#[test]
fn a_queue_that_nobody_empties_keeps_the_latest_and_counts_what_it_drops() {
    let queue = Queue::new();
    for seq in 1..=20_000 {
        queue.event(EventRecord { seq, ..EventRecord::default() });
        queue.remember(service("web", seq, Intent::Auto), false);
    }
    let work = queue.wait(None);
    assert_eq!(work.batch.events.len() as u64 + work.dropped, 20_000);
    assert!(work.dropped > 0 && work.batch.events.back().unwrap().seq == 20_000);
    assert_eq!(work.batch.services.len(), 1);
    assert_eq!(work.batch.services["web"].generation, 20_000);
}

#[test]
fn nothing_that_was_asked_counts_as_saved_before_it_is_written() {
    let queue = Queue::new();
    queue.remember(service("web", 1, Intent::Down), true);
    let mut waiting = queue.saved();
    assert!(waiting.try_recv().is_err(), "it waits to be written");
    let work = queue.wait(None);
    assert!(work.batch.asked && work.batch.waiting.len() == 1);
    let mut later = queue.saved();
    assert!(later.try_recv().is_err(), "it is being written");
    // The thread comes back: it was.
    assert_eq!(queue.wait(None).batch.waiting.len(), 1);
    queue.remember(service("web", 1, Intent::Down), false);
    assert_eq!(wait(queue.saved()), Saved::Yes, "nobody has asked for this one");
}

#[test]
fn what_could_not_be_written_does_not_replace_what_is_newer() {
    let queue = Queue::new();
    queue.remember(service("web", 1, Intent::Down), true);
    queue.event(event(1));
    let work = queue.wait(None);
    queue.remember(service("web", 2, Intent::Up), true);
    queue.event(event(2));
    queue.put_back(work.batch);
    let work = queue.wait(None);
    assert_eq!(work.batch.services["web"], service("web", 2, Intent::Up));
    assert_eq!(work.batch.events.iter().map(|record| record.seq).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn events_that_an_earlier_manager_has_shown_come_before_the_answer_to_a_question() {
    let dir = tempfile::tempdir().unwrap();
    let archive = Archive::start(dir.path().join("state.db"), BOOT.into()).unwrap();
    archive.replay(|| vec![event(3), event(4)]);
    archive.event(event(5));
    assert_eq!(seqs(&wait(archive.history(0, u64::MAX))), [3, 4, 5]);
    archive.finish(true);
}

#[test]
fn a_directory_that_cannot_be_written_keeps_everything_in_memory_and_what_is_there_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let services = filled(&path);
    let locked = |mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode & 0o700)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode & 0o600)).unwrap();
    };
    if rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: root may write everything");
        return;
    }
    locked(0o500);
    let archive = Archive::start(path.clone(), BOOT.into()).unwrap();
    let copy = archive.copy();
    archive.remember(service("web", 1, Intent::Down), true);
    let saved = wait(archive.saved());
    archive.finish(true);
    locked(0o700);
    let expected: Vec<_> = services.into_iter().map(after_a_crash).collect();
    assert_eq!(copy.services, expected, "{:?}", said(&archive));
    assert!(matches!(saved, Saved::No(_)), "{saved:?}, {:?}", said(&archive));
    assert_eq!(said(&archive).len(), 1);
}
