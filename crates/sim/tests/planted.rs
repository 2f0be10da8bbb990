//! The simulator can see: each bug that is planted into the core is caught, and the core without one passes
//! the same seeds.

use std::sync::atomic::{AtomicU64, Ordering};

use relume_core::planted::Bug;
use relume_sim::{Settings, run_twice};

/// Seeds within which each bug must show; the rarest needs about a hundred.
const WITHIN: u64 = 400;

/// The first of the seeds that fails.
fn caught(settings: &Settings) -> Option<(u64, String)> {
    (0..WITHIN).find_map(|seed| {
        let outcome = run_twice(seed, settings);
        outcome.failure.map(|failure| (seed, format!("{failure:?}")))
    })
}

#[test]
fn each_planted_bug_is_caught() {
    std::panic::set_hook(Box::new(|_| {}));
    let next = AtomicU64::new(0);
    let work = || {
        let mut found = Vec::new();
        while let Some(bug) =
            Bug::ALL.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX))
        {
            found.push((*bug, caught(&Settings { planted: Some(*bug), ..Settings::default() })));
        }
        found
    };
    let found: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    for (bug, caught) in &found {
        match caught {
            Some((seed, what)) => {
                println!("{bug:?}: seed {seed}: {}", what.chars().take(160).collect::<String>())
            }
            None => println!("{bug:?}: not caught within {WITHIN} seeds"),
        }
    }
    let missed: Vec<_> = found.iter().filter(|(_, caught)| caught.is_none()).map(|(bug, _)| *bug).collect();
    assert!(missed.is_empty(), "not caught within {WITHIN} seeds: {missed:?}");
    assert_eq!(found.len(), Bug::ALL.len());
}

#[test]
fn the_core_without_a_planted_bug_passes_the_same_seeds() {
    assert_eq!(caught(&Settings::default()), None);
}
