//! `relume up --detach`: relume in the background, and an answer when its services are up.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use relume_config::Config;
use relume_os::pipes::Pipe;
use relume_os::spawn::{SpawnFds, SpawnPlan, SpawnRequest, Spawned, Spawner};
use relume_proto::{Client, Fate, OperationRequest, ServiceReport, State, StatusReport, Targets, Verb};

use crate::cli::args::UpArgs;
use crate::cli::render::progress::{Change, Progress};
use crate::cli::render::status::advice;
use crate::cli::render::text::count;
use crate::cli::{Exit, Failure, Screen};
use crate::places::Places;
use crate::roles::IN_BACKGROUND;

/// Time between two looks at a start under way: short beside what a person notices.
const LOOK: Duration = Duration::from_millis(25);

/// How long a manager may take until it answers. It reads a config that was just read.
const ANSWER: Duration = Duration::from_secs(30);

/// Starts relume in the background, or what is missing where it runs already.
pub(super) fn run(
    args: &UpArgs,
    config: &Config,
    places: &Places,
    screen: &Screen,
) -> Result<ExitCode, Failure> {
    let client = Client::new(places.socket())?;
    if let Ok(running) = client.version() {
        screen.result(&format!("relume already runs here: pid {}\n", running.pid));
        show_plan(&client, screen);
        return start_missing(&client, screen);
    }
    let (process, errors) = start().map_err(|why| Failure::new(Exit::NotWell, why))?;
    wait_for_answer(&client, &process, &errors)?;
    let wanted = wanted(args, config);
    if args.no_wait {
        screen.result(&format!("relume is starting {} in the background\n", count(wanted.len(), "service")));
        return Ok(Exit::Done.into());
    }
    follow(&client, &wanted, screen)
}

/// The same command, told that it is in the background, in a session of its own. What it says goes into relume's own log; what
/// it says before there is one comes back through the pipe.
fn start() -> Result<(Spawned, Pipe), String> {
    let mut argv: Vec<OsString> = std::env::args_os().collect();
    let program =
        std::env::current_exe().map_err(|error| format!("cannot find relume's program: {error}"))?;
    if let Some(first) = argv.first_mut() {
        *first = program.into_os_string();
    }
    let environment =
        std::env::vars_os().chain([(IN_BACKGROUND.into(), std::process::id().to_string().into())]).collect();
    let request = SpawnRequest { argv, environment, ..SpawnRequest::default() };
    let plan = SpawnPlan::prepare(&request).map_err(|error| error.to_string())?;
    let pipe = Pipe::new().map_err(|error| error.to_string())?;
    let fds = SpawnFds { stderr: Some(std::os::fd::AsFd::as_fd(&pipe.write)), ..SpawnFds::default() };
    let mut spawner = Spawner::new().map_err(|error| error.to_string())?;
    let spawned = spawner.spawn(&plan, &fds).map_err(|error| error.to_string())?;
    Ok((spawned, pipe))
}

fn wait_for_answer(client: &Client, process: &Spawned, errors: &Pipe) -> Result<(), Failure> {
    let began = Instant::now();
    while client.version().is_err() {
        if process.pidfd.wait_ended(LOOK).unwrap_or(false) {
            return Err(Failure::new(Exit::NotWell, format!("relume could not start\n{}", said(errors))));
        }
        if began.elapsed() > ANSWER {
            let pid = process.id.pid;
            let message = format!("relume (pid {pid}) has not answered within {} s", ANSWER.as_secs());
            return Err(Failure::new(Exit::TimedOut, message));
        }
    }
    Ok(())
}

/// What stands in the pipe.
fn said(errors: &Pipe) -> String {
    let waiting = relume_os::pipes::bytes_waiting(&errors.read).unwrap_or(0);
    let mut bytes = vec![0; waiting];
    let read = rustix::io::read(&errors.read, &mut bytes).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..read]).trim_end().to_owned()
}

/// The services that are meant to come up.
fn wanted(args: &UpArgs, config: &Config) -> Vec<String> {
    let named = |name: &str, base: &str| args.names.iter().any(|word| word == name || word == base);
    let services = config.services.iter().filter(|service| match args.names.is_empty() {
        true => service.spec.policy.autostart,
        false => named(&service.spec.name, &service.base_name),
    });
    services.map(|service| service.spec.name.to_string()).collect()
}

/// Shows how the start goes until every service is up, or one of them has failed, or what is left will not come by itself: it was
/// stopped on request, or waits for one that was.
fn follow(client: &Client, wanted: &[String], screen: &Screen) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let mut shown = Shown {
        progress: Progress::new(wanted.iter().map(String::as_str), screen.err).in_background(),
        told: BTreeMap::new(),
    };
    loop {
        let report = client.status(&[])?;
        shown.show(&report, wanted, screen);
        let mine = report.services.iter().filter(|service| wanted.contains(&service.name));
        let failed = mine.clone().any(has_failed);
        let resting = resting(&report.services);
        if failed || mine.clone().all(|service| is_up(service) || resting.contains(service.name.as_str())) {
            screen.note(&format!("{}\n", shown.progress.summary(began.elapsed())));
            let waits = mine.clone().any(|service| service.state == State::Pending);
            if waits {
                advice(&report.services).iter().for_each(|line| screen.note(&format!("{line}\n")));
            }
            return Ok(if failed || waits { Exit::NotWell } else { Exit::Done }.into());
        }
        std::thread::sleep(LOOK);
    }
}

/// A start under way, as it is looked at again and again.
struct Shown {
    progress: Progress,
    /// What was told of each service: its state and process. That is news once, whatever its reason goes on to say.
    told: BTreeMap<String, (State, Option<u32>)>,
}

impl Shown {
    fn show(&mut self, report: &StatusReport, wanted: &[String], screen: &Screen) {
        for service in report.services.iter().filter(|service| wanted.contains(&service.name)) {
            let now = (service.state.clone(), service.pid);
            if self.told.get(&service.name) == Some(&now) {
                continue;
            }
            let change = Change {
                service: &service.name,
                state: &service.state,
                reason: service.reason.as_deref(),
                pid: service.pid,
                took: None,
            };
            // A start that says nothing yet may still say what holds it up.
            if let Some(line) = self.progress.change(&change) {
                screen.note(&format!("{line}\n"));
                self.told.insert(service.name.clone(), now);
            }
        }
    }
}

fn is_up(service: &ServiceReport) -> bool {
    matches!(service.state, State::Running | State::Completed)
}

/// Those that were stopped on request, and those that wait for one of them. Whoever answers has ordered all starts that it is to order,
/// so nothing is stopped only for a moment.
fn resting(services: &[ServiceReport]) -> BTreeSet<&str> {
    let stopped = services.iter().filter(|service| service.state == State::Stopped);
    let mut resting: BTreeSet<&str> = stopped.map(|service| service.name.as_str()).collect();
    let pending = || services.iter().filter(|service| service.state == State::Pending);
    loop {
        let held = |service: &&ServiceReport| {
            !resting.contains(service.name.as_str())
                && service.depends_on.iter().any(|needed| resting.contains(needed.as_str()))
        };
        let more: Vec<&str> = pending().filter(held).map(|service| service.name.as_str()).collect();
        if more.is_empty() {
            return resting;
        }
        resting.extend(more);
    }
}

fn has_failed(service: &ServiceReport) -> bool {
    service.is_failing() || matches!(service.state, State::Failed | State::MaxRestarts)
}

/// What the config as it is now would change, where it would change something. `up` does not do it: `apply` does.
fn show_plan(client: &Client, screen: &Screen) {
    let Ok(plan) = client.plan() else { return };
    if !plan.ok {
        screen.note(&format!("{}\n", plan.rendered.trim_end()));
        return;
    }
    let differs = plan.changes.iter().any(|change| change.fate != Fate::Unchanged);
    if differs || !plan.settings.is_empty() {
        screen.result(&crate::cli::render::change::render(&plan, screen.out));
    }
}

/// relume runs: whatever should run and does not is started.
fn start_missing(client: &Client, screen: &Screen) -> Result<ExitCode, Failure> {
    let report = client.status(&[])?;
    let rests = |service: &&ServiceReport| {
        service.autostart && matches!(service.state, State::Stopped | State::Failed | State::MaxRestarts)
    };
    let names: Vec<String> = report.services.iter().filter(rests).map(|s| s.name.clone()).collect();
    if names.is_empty() {
        screen.result("Nothing is missing.\n");
        return Ok(Exit::Done.into());
    }
    let request = OperationRequest {
        verb: Verb::Start,
        targets: Targets::Names(names),
        with_dependents: false,
        wait_ms: None,
        key: None,
    };
    let report = client.operate(&request, None)?;
    screen.result(&crate::cli::render::operation::render(Verb::Start, &report, screen.out));
    let failed = crate::cli::render::operation::judged(&report).0;
    Ok(if failed { Exit::NotWell } else { Exit::Done }.into())
}
