use relume_core::{Moment, RunKind, ServiceId, What};

use super::*;

fn fact(seq: u64, what: What) -> Fact {
    Fact { seq, at: Moment(seq), what }
}

fn added(seq: u64) -> Fact {
    let service = ServiceId(u32::try_from(seq).unwrap());
    fact(seq, What::Added { service, name: format!("service-{seq}").into() })
}

fn kept(pid: u32) -> Box<Kept> {
    let tag = format!("id/web/{pid}");
    Box::new(Kept {
        name: "web".into(),
        kind: RunKind::Service,
        pid,
        start_time: 7,
        tag: tag.into(),
        pipes: [(1, 2)].into_iter().collect(),
        began: 9,
        ears: None,
        home: Home::Cgroup(std::path::Path::new("/a/cgroup").into()),
    })
}

fn run(generation: u64) -> RunId {
    RunId { service: ServiceId(1), generation }
}

/// Writes as the manager does: a checkpoint where there is no room.
fn write(journal: &mut Journal, memory: &mut Snapshot, runs: &BTreeMap<RunId, Box<Kept>>, fact: &Fact) {
    memory.fold(fact);
    if journal.fact(fact) == Room::None {
        journal.checkpoint(memory, runs, &BTreeMap::new()).unwrap();
    }
}

#[test]
fn a_fresh_journal_has_no_remains() {
    let dir = tempfile::tempdir().unwrap();
    let (_, remains) = Journal::open(&dir.path().join("journal"), 3).unwrap();
    assert!(remains.is_none());
}

#[test]
fn what_was_noted_is_there_for_the_successor_over_many_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let (mut journal, _) = Journal::open(&path, 0).unwrap();
    journal.set_beginnings(5, 3, 2);
    let (mut memory, mut runs) = (Snapshot::default(), BTreeMap::new());
    journal.checkpoint(&memory, &runs, &BTreeMap::new()).unwrap();
    for seq in 1..=2_000 {
        write(&mut journal, &mut memory, &runs, &added(seq));
        runs.insert(run(seq), kept(u32::try_from(seq).unwrap()));
        if journal.began(run(seq), &runs[&run(seq)]) == Room::None {
            journal.checkpoint(&memory, &runs, &BTreeMap::new()).unwrap();
        }
        if seq > 3 {
            runs.remove(&run(seq - 3));
            if journal.gone(run(seq - 3)) == Room::None {
                journal.checkpoint(&memory, &runs, &BTreeMap::new()).unwrap();
            }
        }
    }
    drop(journal);
    let (_, remains) = Journal::open(&path, 0).unwrap();
    let remains = remains.unwrap();
    assert_eq!(remains.snapshot, memory);
    assert_eq!(remains.runs, runs);
    assert_eq!((remains.began, remains.recoveries, remains.respawns), (5, 3, 2));
    assert_eq!(remains.unread, 0);
}

#[test]
fn a_note_torn_by_a_death_does_not_exist() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let (mut journal, _) = Journal::open(&path, 0).unwrap();
    let mut memory = Snapshot::default();
    journal.checkpoint(&memory, &BTreeMap::new(), &BTreeMap::new()).unwrap();
    write(&mut journal, &mut memory, &BTreeMap::new(), &added(1));
    // The bytes of the next note without its count: what a SIGKILL between the two leaves.
    let note = encode(&Entry::Fact(Cow::Owned(added(2))));
    let used = journal.layout.active(&journal.map).len();
    assert!(journal.layout.put(&mut journal.map, 1, used, &note).is_some());
    drop(journal);
    let (_, remains) = Journal::open(&path, 0).unwrap();
    assert_eq!(remains.unwrap().snapshot, memory);
}

#[test]
fn a_journal_of_another_boot_or_version_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let (mut journal, _) = Journal::open(&path, 0).unwrap();
    journal.checkpoint(&Snapshot::default(), &BTreeMap::new(), &BTreeMap::new()).unwrap();
    assert!(journal.map.write(64, b"another boot"));
    drop(journal);
    assert!(Journal::open(&path, 0).unwrap().1.is_none());
}

#[test]
fn any_damage_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let (mut journal, _) = Journal::open(&path, 0).unwrap();
    let (mut memory, runs) = (Snapshot::default(), BTreeMap::new());
    journal.checkpoint(&memory, &runs, &BTreeMap::new()).unwrap();
    (1..50).for_each(|seq| write(&mut journal, &mut memory, &runs, &added(seq)));
    drop(journal);
    let good = std::fs::read(&path).unwrap();
    let mut rng = relume_core::Rng::new(1);
    // `RELUME_DAMAGE` chooses another number.
    let tries = std::env::var("RELUME_DAMAGE").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    for _ in 0..tries {
        let mut bad = good.clone();
        for _ in 0..4 {
            let at = usize::try_from(rng.below(12_000)).unwrap() % bad.len();
            bad[at] ^= 1 << rng.below(8);
        }
        std::fs::write(&path, &bad).unwrap();
        // Whatever it finds, it does not panic, and it is a journal again afterwards. What has become the number of another version
        // cannot be told from one: that is left as it is, and said.
        let (mut journal, _) = match Journal::open(&path, 0) {
            Ok(opened) => opened,
            Err(error) => {
                let version = layout::AT_VERSION..layout::AT_VERSION + 8;
                assert_ne!(bad[version.clone()], good[version], "{error}");
                assert_eq!(std::fs::read(&path).unwrap(), bad);
                continue;
            }
        };
        journal.checkpoint(&memory, &runs, &BTreeMap::new()).unwrap();
        drop(journal);
        assert_eq!(Journal::open(&path, 0).unwrap().1.unwrap().snapshot, memory);
    }
}

#[test]
fn what_was_noted_before_a_checkpoint_is_told_again_in_order_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let (mut journal, _) = Journal::open(&path, 0).unwrap();
    let (mut memory, runs) = (Snapshot::default(), BTreeMap::new());
    journal.checkpoint(&memory, &runs, &BTreeMap::new()).unwrap();
    (1..=20).for_each(|seq| write(&mut journal, &mut memory, &runs, &added(seq)));
    journal.checkpoint(&memory, &runs, &BTreeMap::new()).unwrap();
    // Noted once more, because it might have found no room.
    assert_eq!(journal.fact(&added(20)), Room::Left);
    (21..=30).for_each(|seq| write(&mut journal, &mut memory, &runs, &added(seq)));
    drop(journal);
    let past = Journal::open(&path, 0).unwrap().1.unwrap().past.read();
    let seqs: Vec<u64> = past.iter().flat_map(|(_, facts)| facts.iter().map(|fact| fact.seq)).collect();
    assert_eq!(seqs, (1..=30).collect::<Vec<_>>());
    let begins: Vec<u64> = past.iter().map(|(memory, _)| memory.seq).collect();
    assert_eq!(begins, [0, 20], "each part begins with what was known then");
}

#[test]
fn an_earlier_half_that_is_being_written_over_is_not_told_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let (mut journal, _) = Journal::open(&path, 0).unwrap();
    let (mut memory, runs) = (Snapshot::default(), BTreeMap::new());
    journal.checkpoint(&memory, &runs, &BTreeMap::new()).unwrap();
    (1..=20).for_each(|seq| write(&mut journal, &mut memory, &runs, &added(seq)));
    journal.checkpoint(&memory, &runs, &BTreeMap::new()).unwrap();
    (21..=30).for_each(|seq| write(&mut journal, &mut memory, &runs, &added(seq)));
    // The next checkpoint is there, and the manager dies before it counts.
    let whole = Checkpoint {
        snapshot: Cow::Borrowed(&memory),
        runs: Cow::Owned(runs),
        began: 0,
        recoveries: 0,
        respawns: 0,
        operations: Vec::new(),
    };
    let bytes = encode(&Entry::Checkpoint(Box::new(whole)));
    assert!(journal.layout.put(&mut journal.map, 1, 0, &bytes).is_some());
    drop(journal);
    let remains = Journal::open(&path, 0).unwrap().1.unwrap();
    assert_eq!(remains.snapshot, memory);
    let seqs: Vec<u64> =
        remains.past.read().iter().flat_map(|(_, facts)| facts.iter().map(|f| f.seq)).collect();
    assert_eq!(seqs, (21..=30).collect::<Vec<_>>());
}

/// A runtime directory in which no second journal can be made, as when there is no room for one.
fn without_room(path: &Path) -> std::path::PathBuf {
    let aside = path.with_extension("new");
    std::fs::create_dir(&aside).unwrap();
    aside
}

/// A memory that is too large for a journal of no services.
fn large() -> Snapshot {
    let mut memory = Snapshot::default();
    (1..=2_000).for_each(|seq| memory.fold(&added(seq)));
    memory
}

/// With the layout assigned before the file has its name, what is noted afterwards goes astray.
#[test]
fn a_journal_that_cannot_grow_goes_on_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let (mut journal, _) = Journal::open(&path, 0).unwrap();
    let mut memory = Snapshot::default();
    journal.checkpoint(&memory, &BTreeMap::new(), &BTreeMap::new()).unwrap();
    let aside = without_room(&path);
    assert!(journal.checkpoint(&large(), &BTreeMap::new(), &BTreeMap::new()).is_err());
    write(&mut journal, &mut memory, &BTreeMap::new(), &added(1));
    drop(journal);
    let (mut journal, remains) = Journal::open(&path, 0).unwrap();
    assert_eq!(remains.unwrap().snapshot, memory);
    std::fs::remove_dir(aside).unwrap();
    journal.checkpoint(&large(), &BTreeMap::new(), &BTreeMap::new()).unwrap();
    drop(journal);
    assert_eq!(Journal::open(&path, 0).unwrap().1.unwrap().snapshot, large());
}

/// With the checkpoint written after the rename, a manager that dies between the two leaves an empty journal: every service
/// would be started a second time.
#[test]
fn a_journal_that_grows_holds_all_before_it_takes_the_place_of_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let (mut journal, _) = Journal::open(&path, 0).unwrap();
    let memory = large();
    let whole = Checkpoint {
        snapshot: Cow::Borrowed(&memory),
        runs: Cow::Owned(BTreeMap::new()),
        began: 1,
        recoveries: 2,
        respawns: 3,
        operations: Vec::new(),
    };
    let bytes = encode(&Entry::Checkpoint(Box::new(whole)));
    journal.grow(bytes.len() * 4, &bytes).unwrap();
    // What a SIGKILL right after that leaves.
    drop(journal);
    let remains = Journal::open(&path, 0).unwrap().1.expect("nothing is forgotten");
    assert_eq!((remains.snapshot, remains.respawns), (memory, 3));
}

/// With `has_hole` not looked at, the small fact is there without the large one before it.
#[test]
fn after_a_note_without_room_nothing_is_noted_until_a_checkpoint_says_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let (mut journal, _) = Journal::open(&path, 0).unwrap();
    let mut memory = Snapshot::default();
    journal.checkpoint(&memory, &BTreeMap::new(), &BTreeMap::new()).unwrap();
    let large = fact(1, What::Added { service: ServiceId(1), name: "x".repeat(BASE).into() });
    assert_eq!(journal.fact(&large), Room::None);
    assert_eq!(journal.fact(&added(2)), Room::None, "it would fit");
    drop(journal);
    let (mut journal, remains) = Journal::open(&path, 0).unwrap();
    assert_eq!(remains.unwrap().snapshot, memory);
    memory.fold(&added(2));
    journal.checkpoint(&memory, &BTreeMap::new(), &BTreeMap::new()).unwrap();
    assert_eq!(journal.fact(&added(3)), Room::Left);
}
