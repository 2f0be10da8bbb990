//! `relume drill`: kills relume's own parts and looks at what that costs.
//!
//! By default it drills a relume of its own, in a temporary folder ([`home`]): its services leave marks by which
//! lines, exits and lives can be counted without asking relume. `--live` drills the relume that runs here. Its
//! services are strangers: their processes are compared, their output cannot be judged. (Adding services to a
//! running relume would change its configuration for the time of the drill, and for longer if the drill dies.)
//!
//! It must never: kill what it was not told to, leave its own relume running, or count as kept what it has not
//! found.

mod dice;
mod figures;
mod home;
mod ledger;
mod part;
mod target;
mod witness;

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal};
use std::time::{Duration, Instant};

use relume_os::signals::{self, SignalFd};
use relume_proto::{Client, EventRecord};

use super::{client, find_manager, refused};
use crate::cli::args::{DrillArgs, Global};
use crate::cli::render;
use crate::cli::{Exit, Failure, Screen};

use dice::Dice;
pub(crate) use figures::{Figures, Part};
use home::Home;
use ledger::Gaps;
pub(crate) use part::run as play_part;
use target::Target;
use witness::Witness;

/// A terminal that goes away, Ctrl+C, and being told to end.
const ENDING: [i32; 3] = [1, 2, 15];

/// Runs the drill.
pub(crate) fn run(args: &DrillArgs, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let live = args.live || !args.include.is_empty();
    let seed = args.seed.unwrap_or_else(|| relume_os::clock::monotonic_ns() % 1_000_000);
    let mut figures = Figures { seed, live, ..Figures::default() };
    let began = Instant::now();
    // From here on Ctrl+C ends the drill in order: what was started is stopped, what was found is told.
    let trouble = |error: relume_os::OsError| Failure::new(Exit::NotWell, error.to_string());
    if live {
        let found = find_manager(global)?;
        let client = client(&found)?;
        client.version().map_err(|error| refused(error, &found))?;
        let report = client.status(&[]).map_err(|error| refused(error, &found))?;
        ask(args, &render::drill::question_live(&report, &parts(args, true), args.kills), screen)?;
        let stopped = Stopped::new().map_err(trouble)?;
        let mut drill = Drill::new(args, client, &stopped, screen)?;
        drill.include(&report, &args.include)?;
        drill.go(&mut figures);
    } else {
        ask(args, &render::drill::question_own(&parts(args, false), args.kills, args.printers), screen)?;
        let stopped = Stopped::new().map_err(trouble)?;
        own(args, &stopped, screen, &mut figures)?;
    }
    figures.seconds = (began.elapsed().as_secs_f64() * 100.0).round() / 100.0;
    figures.judge();
    if screen.json {
        screen.result(&format!("{}\n", serde_json::json!(figures)));
    } else {
        screen.result(&render::drill::report(&figures, screen.out));
    }
    Ok(if figures.passed { Exit::Done } else { Exit::NotWell })
}

/// What will be killed.
fn parts(args: &DrillArgs, live: bool) -> Vec<Part> {
    let services = !live || !args.include.is_empty();
    let all = [Part::Manager, Part::Guardian, Part::Both, Part::Services];
    let wanted = |part: &Part| if args.parts.is_empty() { true } else { args.parts.contains(part) };
    all.into_iter().filter(wanted).filter(|part| *part != Part::Services || services).collect()
}

/// Nothing is killed that nobody has agreed to.
fn ask(args: &DrillArgs, question: &str, screen: &Screen) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            Exit::Usage,
            "the drill was not confirmed, and there is no terminal to ask on",
        )
        .help("Say yes beforehand with: relume drill --yes"));
    }
    screen.note(question);
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::new(Exit::NotWell, "nothing was killed")),
    }
}

/// The drill of a relume of its own, from its start to its end.
fn own(args: &DrillArgs, stopped: &Stopped, screen: &Screen, figures: &mut Figures) -> Result<(), Failure> {
    let mut home = Home::make(args.printers.max(1))?;
    screen.progress("starting a relume for the drill");
    let result = home.start().and_then(|()| drill_own(args, &home, stopped, screen, figures));
    let events = end(&home);
    screen.end_progress();
    let gaps = result?;
    match events {
        Ok(events) => figures.exits = Some(home.exits(&events, &gaps)),
        Err(why) => figures.failures.push(why),
    }
    figures.lines = Some(home.lines());
    let doubled = home.doubled();
    figures.services.doubled += doubled.len() as u64;
    figures.failures.extend(doubled);
    figures.failures.extend(home.left_behind());
    home.end_leftovers();
    figures.judge();
    if !figures.passed {
        home.keep();
        figures.kept = Some(home.folder().display().to_string());
    }
    Ok(())
}

fn drill_own(
    args: &DrillArgs,
    home: &Home,
    stopped: &Stopped,
    screen: &Screen,
    figures: &mut Figures,
) -> Result<Gaps, Failure> {
    let client = Client::new(home.socket()?)?;
    let wanted = home.printers().to_vec();
    let all_run = client.watch(Some(home::FIRST_START), |report, _| {
        let run = |name: &String| report.services.iter().any(|s| s.name == *name && s.ready);
        if wanted.iter().all(run) {
            std::ops::ControlFlow::Break(())
        } else {
            std::ops::ControlFlow::Continue(())
        }
    });
    if !matches!(all_run, Ok(Some(()))) {
        return Err(Failure::new(Exit::NotWell, "the drill's own services did not come up"));
    }
    let mut drill = Drill::new(args, client, stopped, screen)?;
    drill.watch(home.printers())?;
    drill.killable = home.printers().to_vec();
    Ok(drill.go(figures))
}

/// Asks the drill's own relume for what has happened, and ends it.
fn end(home: &Home) -> Result<Vec<EventRecord>, String> {
    let client = Client::new(home.socket().map_err(|failure| failure.message)?).map_err(|e| e.to_string())?;
    // A drill that has failed may have left nobody: only relume itself knows what is still to be ended.
    if client.version().is_err() {
        let _said_already = home.start();
    }
    let events = client.history(0).map_err(|error| format!("the history cannot be read: {error}"));
    let _down = client.down(&mut |_| {});
    let patience = Instant::now() + LAST_END;
    while (home.is_held() || !home.left_behind().is_empty()) && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
    events
}

/// How long the end of its own relume may take: above the ten seconds that services have to end by themselves.
const LAST_END: Duration = Duration::from_secs(20);

/// One drill under way.
struct Drill<'a> {
    args: &'a DrillArgs,
    target: Target,
    witness: Witness,
    killable: Vec<String>,
    parts: Vec<Part>,
    stopped: &'a Stopped,
    screen: &'a Screen,
}

impl<'a> Drill<'a> {
    fn new(
        args: &'a DrillArgs,
        client: Client,
        stopped: &'a Stopped,
        screen: &'a Screen,
    ) -> Result<Self, Failure> {
        let live = args.live || !args.include.is_empty();
        let failed = |why: String| Failure::new(Exit::NotWell, why);
        let witness = Witness::of(&client, |_| true).map_err(failed)?;
        let target = Target::new(client).map_err(failed)?;
        Ok(Self { args, target, witness, killable: vec![], parts: parts(args, live), stopped, screen })
    }

    /// Only these are watched.
    fn watch(&mut self, names: &[String]) -> Result<(), Failure> {
        let failed = |why: String| Failure::new(Exit::NotWell, why);
        self.witness =
            Witness::of(&self.target.client, |name| names.iter().any(|n| n == name)).map_err(failed)?;
        Ok(())
    }

    /// These may be killed too.
    fn include(&mut self, report: &relume_proto::StatusReport, words: &[String]) -> Result<(), Failure> {
        if words.is_empty() {
            return Ok(());
        }
        let mut services = report.services.clone();
        super::select(&mut services, words)?;
        self.killable = services.into_iter().map(|service| service.name).collect();
        Ok(())
    }

    /// Kills and looks, as often as wanted. The times in which nobody lived.
    fn go(&mut self, figures: &mut Figures) -> Gaps {
        let mut dice = Dice::new(figures.seed);
        let mut times: BTreeMap<Part, Vec<Duration>> =
            self.parts.iter().map(|part| (*part, vec![])).collect();
        let mut gaps = Gaps::new();
        figures.services.watched = self.witness.count();
        let order = dice.deal(&self.parts, self.args.kills);
        for (done, part) in order.iter().enumerate() {
            let pause = u64::try_from(self.args.every.as_micros()).unwrap_or(u64::MAX).saturating_mul(2);
            if self.stopped.sleeps(Duration::from_micros(dice.number(pause))) {
                figures.interrupted = true;
                break;
            }
            let from = wall_ms();
            match self.kill(*part, &mut dice) {
                Ok(took) => {
                    times.entry(*part).or_default().push(took);
                    self.screen.progress(&render::drill::progress(
                        done + 1,
                        order.len(),
                        *part,
                        took,
                        self.screen.err,
                    ));
                }
                Err(why) => {
                    figures.failures.push(why);
                    // Without an answer there is nothing to look at, and a kill more would prove nothing.
                    if self.target.client.version().is_err() {
                        figures.failures.extend(self.target.start_again_after_all());
                        break;
                    }
                    if *part == Part::Guardian {
                        break;
                    }
                }
            }
            if *part == Part::Both {
                gaps.push((from, wall_ms()));
            }
            match self.witness.look(&self.target.client) {
                Ok(found) => found.count(&mut figures.services, &mut figures.failures),
                Err(why) => figures.failures.push(why),
            }
        }
        self.screen.end_progress();
        figures.set_times(&times);
        gaps
    }

    fn kill(&mut self, part: Part, dice: &mut Dice) -> Result<Duration, String> {
        match part {
            Part::Manager => self.target.kill_manager(),
            Part::Guardian => self.target.kill_guardian(),
            Part::Both => self.target.kill_both(dice.number(2) == 0),
            Part::Services => {
                let name = dice.pick(&self.killable).ok_or("there is no service to kill")?.clone();
                self.witness.kill(&self.target.client, &name)
            }
        }
    }
}

/// Now, in milliseconds since 1970: what the services of the drill note is on this clock.
fn wall_ms() -> u128 {
    relume_os::clock::realtime().as_millis()
}

/// What asks the drill to end, kept to be asked about.
struct Stopped(SignalFd);

impl Stopped {
    fn new() -> relume_os::Result<Self> {
        signals::block(&ENDING)?;
        Ok(Self(SignalFd::new(&ENDING)?))
    }

    /// Sleeps; true when the drill is to end.
    fn sleeps(&self, span: Duration) -> bool {
        let end = Instant::now() + span;
        loop {
            if matches!(self.0.read(), Ok(Some(_))) {
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}
