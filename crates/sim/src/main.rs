//! Runs seeds of the simulation.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use std::io::Write;

use relume_sim::{Failure, Outcome, Settings, run_twice};

const USAGE: &str = "\
usage: relume-sim SEED [--trace] [--steps N] [--planted NAME]
       relume-sim --count N [--from SEED] [--keep-going] [--steps N] [--planted NAME]

SEED is a number or the hash of a commit. With --count, N seeds from SEED (or 0) on are run on all cores.
Stops at the first failure unless told to keep going. Each seed runs twice. Exit codes: 0 all promises were kept, 2 wrong usage, 127 safety, 128 liveness,
129 the two runs of a seed differ.
";

/// What the command line asks for.
#[derive(Debug, Default)]
struct Asked {
    from: u64,
    count: Option<u64>,
    keep_going: bool,
    settings: Settings,
}

fn main() -> ExitCode {
    let asked = match read(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(problem) => {
            say(&format!("{problem}\n\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    // A panic of the core is reported with its seed, not by the thread that it happened on.
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let (seeds, steps, failures) = run_all(&asked);
    let secs = began.elapsed().as_secs_f64();
    say(&format!("{seeds} seeds, each run twice, {steps} steps a run in total, {secs:.1} s\n"));
    let codes: Vec<u8> = failures.iter().map(|(seed, outcome)| report(*seed, outcome, &asked)).collect();
    codes.first().map_or(ExitCode::SUCCESS, |code| ExitCode::from(*code))
}

fn read(args: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked::default();
    let mut args = args;
    let mut seeds = 0;
    while let Some(arg) = args.next() {
        let mut number = |of: &str| {
            let value = args.next().ok_or(format!("{of} wants a value"))?;
            seed(&value).ok_or(format!("{of} wants a number, not {value}"))
        };
        match arg.as_str() {
            "--trace" => asked.settings.trace = true,
            "--keep-going" => asked.keep_going = true,
            "--count" => asked.count = Some(number("--count")?),
            "--from" => asked.from = number("--from")?,
            "--steps" => asked.settings.steps = Some(number("--steps")?),
            "--planted" => plant(&mut asked.settings, &args.next().ok_or("--planted wants a name")?)?,
            other => {
                asked.from = seed(other).ok_or(format!("unknown argument {other}"))?;
                seeds += 1;
            }
        }
    }
    match (seeds, asked.count) {
        (1, None) | (0, Some(_)) => Ok(asked),
        _ => Err("one SEED, or --count".into()),
    }
}

/// A number, or the first 64 bits of a commit's hash.
fn seed(text: &str) -> Option<u64> {
    let hash = || (text.len() >= 16).then(|| u64::from_str_radix(text.get(..16)?, 16).ok()).flatten();
    text.parse().ok().or_else(hash)
}

#[cfg(feature = "planted")]
fn plant(settings: &mut Settings, name: &str) -> Result<(), String> {
    let all = relume_core::planted::Bug::ALL;
    let names = || all.map(|bug| format!("{bug:?}")).join(", ");
    let found = all.into_iter().find(|bug| format!("{bug:?}") == name);
    settings.planted = Some(found.ok_or_else(|| format!("no such bug: {name}; there are {}", names()))?);
    Ok(())
}

#[cfg(not(feature = "planted"))]
fn plant(_: &mut Settings, _: &str) -> Result<(), String> {
    Err("--planted wants a build with --features planted".into())
}

/// Runs the seeds on all cores until one fails, or to the end: seeds run, steps, and the seeds that failed.
fn run_all(asked: &Asked) -> (u64, u64, Vec<(u64, Outcome)>) {
    let count = asked.count.unwrap_or(1);
    let (next, done, steps) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let (stop, failures) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            let seed = asked.from.wrapping_add(index);
            let outcome = run_twice(seed, &asked.settings);
            done.fetch_add(1, Ordering::Relaxed);
            steps.fetch_add(outcome.steps, Ordering::Relaxed);
            if outcome.failure.is_some() {
                stop.store(!asked.keep_going, Ordering::Relaxed);
                failures.lock().unwrap_or_else(PoisonError::into_inner).push((seed, outcome));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort_by_key(|(seed, _)| *seed);
    (done.into_inner(), steps.into_inner(), failures)
}

fn report(seed: u64, outcome: &Outcome, asked: &Asked) -> u8 {
    let (kind, what, code) = match &outcome.failure {
        Some(Failure::Safety(what)) => ("safety", what.as_str(), 127),
        Some(Failure::Liveness(what)) => ("liveness", what.as_str(), 128),
        Some(Failure::Nondeterminism) => ("nondeterminism", "the two runs differ", 129),
        None => return 0,
    };
    let steps = asked.settings.steps.map(|steps| format!(" --steps {steps}")).unwrap_or_default();
    say(&format!("seed {seed}: {kind}, after {} steps: {what}\n", outcome.steps));
    say(&format!("replay: cargo run -p relume-sim -- {seed} --trace{steps}{}\n", planted(&asked.settings)));
    code
}

#[cfg(feature = "planted")]
fn planted(settings: &Settings) -> String {
    settings.planted.map(|bug| format!(" --planted {bug:?}")).unwrap_or_default()
}

#[cfg(not(feature = "planted"))]
fn planted(_: &Settings) -> String {
    String::new()
}

fn say(text: &str) {
    // A reader that went away is no failure of the simulation.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
