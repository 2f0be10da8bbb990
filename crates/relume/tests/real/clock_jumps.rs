//! The wall clock is set, back and forth: nothing is restarted for it, and what waits goes on waiting as long as it should.
//!
//! Only this relume sees another clock (`RELUME_WALL_SHIFT`, debug builds): the machine's is left alone. What the kernel tells of a clock that
//! was set, and summer time, is the matter of `manager::schedule`'s own tests.

use std::fs;

use serde_json::json;

use crate::harness::{Builder, Status, eventually, fixture, halves, read};

/// Seconds: an hour, ten years, and to 1970 or before it, each from the right time and back to it.
const JUMPS: [i64; 10] = [3_600, 0, -3_600, 0, 315_360_000, 0, -315_360_000, 0, -4_000_000_000, 0];

/// Seconds since the boot at which each try of the failing service began.
fn tries(relume: &crate::harness::Relume) -> Vec<f64> {
    read(&relume.path("tries")).lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect()
}

/// Scorecard R31. Shown to fail: with a deadline of a restart counted by the wall clock a jump forward restarts at once, and one back never.
#[test]
fn a_clock_that_is_set_restarts_nothing_and_changes_no_wait() {
    let builder = Builder::new();
    let shift = builder.path("shift");
    let config = json!({"services": {
        "calm": {"command": [fixture("never-ready")],
                 "liveness": {"exec": "true", "interval": "200ms", "retries": 2, "timeout": "5s"}},
        "fails": {"command": "cat /proc/uptime >> tries; exit 1", "retry_delay": "500ms", "backoff": "off",
                  "max_retries": "unlimited"},
        "job": {"command": "echo x >> job.ran", "type": "oneshot", "schedule": "@every 1s"},
        "talks": {"command": [fixture("prints-numbers"), "talks", "10"], "log": {"rotate": {"age": "30m", "keep": 50}}}}});
    let relume = builder.config(&config).env("RELUME_WALL_SHIFT", shift.as_str()).up();
    let up = |status: &Status| ["calm", "talks"].iter().all(|name| status.state(name) == "running");
    let before = relume.wait_until("both run", up);
    for by in JUMPS {
        // Whole at once: half a number is another time.
        fs::write(relume.path("shift.new"), by.to_string()).unwrap();
        fs::rename(relume.path("shift.new"), &shift).unwrap();
        let so_far = tries(&relume).len();
        eventually("it is tried again in spite of the clock", || {
            (tries(&relume).len() > so_far + 1).then_some(())
        });
    }
    // Counted before the time is asked for: more may come meanwhile.
    let runs = read(&relume.path("job.ran")).lines().count();
    let after = relume.status();
    assert_eq!((after.pid("calm"), after.restarts("calm")), (before.pid("calm"), 0), "{after}");
    assert_eq!((after.pid("talks"), after.restarts("talks")), (before.pid("talks"), 0), "{after}");
    let times = tries(&relume);
    let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // Never early; late only as far as a busy machine is.
    assert!(gaps.iter().all(|gap| (0.48..50.0).contains(gap)), "{gaps:?}");
    let up = after.manager()["uptime_s"].as_f64().unwrap();
    assert!(up < 600.0 && runs as f64 <= up + 1.0 && runs >= 3, "{runs} runs in {up} s");
    let rotated = fs::read_dir(relume.path("logs")).unwrap().flatten();
    let rotated = rotated.filter(|file| file.file_name().to_string_lossy().starts_with("talks.log.")).count();
    assert!(rotated <= 2 * JUMPS.len(), "a rotation for each jump forward and no more: {rotated} files");
    eventually("no line is lost", || (halves::whole(&relume, "talks") > 100).then_some(()));
    relume.down();
}
