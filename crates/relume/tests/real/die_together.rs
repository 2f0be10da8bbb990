//! Many services that end in the same moment: every end is noticed, once, and every one comes back, once
//! (scorecard R28).

use std::collections::BTreeSet;
use std::fs::File;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Builder, Process, fixture};

/// Ten times what the scorecard allows (all within a second).
const NOTICED_WITHIN: Duration = Duration::from_secs(10);

/// As many as the scorecard has, or fewer where the limit of open files leaves room for fewer.
fn how_many() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let files = limit.maximum.unwrap_or(u64::MAX);
    // Two descriptors for each service, and room for everything else.
    usize::try_from(files.saturating_sub(200) / 3).unwrap_or(usize::MAX).min(1000)
}

#[test]
fn a_thousand_services_die_in_the_same_moment_and_each_comes_back_once() {
    let count = how_many();
    let builder = Builder::new();
    let (announce, gate) = (builder.announcements(), builder.path("gate"));
    let held = File::create(&gate).unwrap();
    held.lock().unwrap();
    let relume = builder
        .config(&json!({
            "manager": {"respawn_rate": "100000/1s", "start_parallelism": 32},
            "services": {"client": {
                "command": [fixture("dies-together"), gate, "7", "--announce", announce],
                "instances": count, "retry_delay": "10ms"}}}))
        .up();
    let first = relume.announced("waiting", count);
    let first: Vec<Process> = first.into_iter().map(|pid| Process::of(pid).expect("it waits")).collect();
    assert_eq!(first.len(), count);
    relume.wait_until("all are running", |status| {
        status.services().iter().all(|service| service["state"] == "running")
    });

    held.unlock().unwrap();
    let opened = Instant::now();
    relume.wait_until("every end is noticed", |status| {
        status.services().iter().all(|service| service["last_exit"]["code"] == 7)
    });
    let noticed = opened.elapsed();
    assert!(noticed <= NOTICED_WITHIN, "{noticed:?}");

    let second: BTreeSet<u32> = relume.announced("living", count).into_iter().collect();
    let status = relume.wait_until("all are back", |status| {
        status.services().iter().all(|service| service["state"] == "running")
    });
    assert_eq!(first.iter().filter(|process| process.lives()).count(), 0);
    for service in status.services() {
        assert_eq!(service["restarts"], 1, "{service:#}");
        let pid = u32::try_from(service["pid"].as_u64().unwrap()).unwrap();
        assert!(second.contains(&pid), "{service:#}");
    }
    assert_eq!(relume.announcements().len(), 2 * count, "none was started twice");
    relume.down();
}
