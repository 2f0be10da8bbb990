//! Every seed that ever failed, and a few hundred others.

use std::fmt::Write;

use relume_core::Moment;
use relume_sim::hash::Fnv;
use relume_sim::options::Options;
use relume_sim::{Settings, run_twice};

/// The seeds that ever failed, one a line, each with a sentence why.
const KNOWN: &str = include_str!("../src/seeds.txt");

fn passes(seed: u64) {
    let outcome = run_twice(seed, &Settings::default());
    assert_eq!(outcome.failure, None, "replay: cargo run -p relume-sim -- {seed} --trace");
}

#[test]
fn every_seed_that_ever_failed_passes() {
    let lines = KNOWN.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let seeds: Vec<u64> = lines
        .map(|line| {
            let (seed, why) = line.split_once(' ').unwrap_or((line, ""));
            assert!(!why.trim().is_empty(), "seed {seed} does not say why it is here");
            seed.parse().unwrap_or_else(|_| panic!("not a seed: {line}"))
        })
        .collect();
    assert!(!seeds.is_empty());
    seeds.into_iter().for_each(passes);
}

#[test]
fn three_hundred_seeds_pass() {
    (1_000_000..1_000_300).for_each(passes);
}

#[test]
fn two_seeds_differ_and_one_seed_is_always_the_same() {
    let sum = |seed| run_twice(seed, &Settings::default()).sum;
    assert_eq!(sum(7), sum(7));
    assert_ne!(sum(7), sum(8));
}

#[test]
fn the_sum_sees_one_changed_byte() {
    let sum = |text: &str| {
        let mut sum = Fnv::new();
        sum.write_str(text).unwrap();
        sum.sum()
    };
    assert_ne!(sum("at: Moment(1000)"), sum("at: Moment(1001)"));
    assert_ne!(sum("ab"), sum("ba"));
    assert_ne!(sum(&format!("{:?}", Moment(1))), sum(&format!("{:?}", Moment(2))));
}

#[test]
fn the_swarm_has_runs_with_and_without_each_fault() {
    let all: Vec<Options> = (0..200).map(Options::draw).collect();
    let both = |has: &dyn Fn(&Options) -> bool| {
        let with = all.iter().filter(|options| has(options)).count();
        assert!(with > 10 && with < 190, "{with} of 200");
    };
    both(&|options| options.faults.dies > 0);
    both(&|options| options.faults.dies > 0 && options.faults.torn > 0);
    both(&|options| options.faults.refused > 0);
    both(&|options| options.faults.late > 0);
    both(&|options| options.faults.doubled > 0);
    both(&|options| options.faults.spurious > 0);
    both(&|options| options.faults.clock_jump > 0);
    both(&|options| options.misbehaves > 0);
}
