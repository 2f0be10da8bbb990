//! `relume up`: read the config, settle where everything is, and become the manager.

use std::os::fd::OwnedFd;
use std::process::ExitCode;

use relume_config::{Config, Loaded, ManagerConfig, Override, ServiceConfig};
use relume_proto::Client;

use super::{Named, configs, detached, load_options, no_config, select};
use crate::cli::args::{Global, UpArgs};
use crate::cli::{Exit, Failure, Screen};
use crate::config_files::Disk;
use crate::manager::{self, Arrival, Handed};
use crate::places::{Places, Surroundings};
use crate::prepared::{self, Ready};
use crate::recorded::{Recorder, Recording};
use crate::roles::{IN_BACKGROUND, Role};
use crate::settled::{MOVED_LOGS, Settled};
use crate::{systemd, trust};

/// Runs the manager until it leaves.
pub(crate) fn run(args: &UpArgs, global: &Global, screen: &Screen) -> Result<ExitCode, Failure> {
    let mut handed = handed()?;
    let paths = configs(global);
    if paths.is_empty() {
        return Err(no_config());
    }
    let mut load = load_options(global, &args.manager, paths);
    let inherited = Settled::inherited();
    let arrival = inherited.as_ref().map(|settled| arrive(settled, &mut handed)).transpose()?.flatten();
    // While that waits for the guardian.
    let (given, prepared) = given();
    let recorder = Recorder::new(Disk);
    let read = |load: &_| match &given {
        Given::Nothing => relume_config::load(&recorder, load),
        Given::Last(recording) | Given::Files(recording) => relume_config::load(recording, load),
    };
    let anew = prepared.is_none();
    let (mut config, prepared) = match prepared {
        Some(Ready { config, file }) => (config, Some(file)),
        None => judged(read(&load), screen)?,
    };
    // What was recorded was trusted when it was.
    if !global.trust && !matches!(given, Given::Last(_)) {
        trust::check(&config)
            .map_err(|distrust| Failure::new(Exit::Usage, distrust.message).help(distrust.help))?;
    }
    let names = meant(&config, &args.names)?;
    let mut settled = settle(&config.manager, inherited)?;
    settled.hold(&mut config.manager);
    if settled.places.log_dir != config.manager.log_dir {
        // The place beside the config cannot be written. From now on it is as if the other had been asked for.
        load.overrides.push(Override {
            key: "log_dir".into(),
            value: settled.places.log_dir.display().to_string(),
            origin: MOVED_LOGS.into(),
        });
        config = read(&load).config;
        settled.hold(&mut config.manager);
    }
    let places = &settled.places;
    if Role::of_this_process() == Role::Command {
        if args.detach && std::env::var_os(IN_BACKGROUND).is_none() {
            return detached::run(args, &config, places, screen);
        }
        if systemd::hand_over(places) {
            return Ok(Exit::Done.into());
        }
        refuse_second(places)?;
    }
    if Role::of_this_process() == Role::Trial {
        return Ok(manager::try_out(places));
    }
    let recording = match given {
        Given::Nothing => recorder.finish(),
        Given::Last(recording) | Given::Files(recording) => recording,
    };
    let arrival = arrival.map_or_else(|| arrive(&settled, &mut handed), |begun| Ok(Some(begun)))?;
    let options = manager::Options {
        read: manager::Read { config, recording, prepared, anew },
        load,
        trust: global.trust,
        settled,
        names,
        follow: args.follow,
        screen: screen.clone(),
        arrival,
    };
    Ok(manager::run(options))
}

/// The names of the services to start; none when it is up to each whether it starts by itself.
fn meant(config: &Config, words: &[String]) -> Result<Vec<String>, Failure> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let mut services: Vec<&ServiceConfig> = config.services.iter().collect();
    select(&mut services, words)?;
    Ok(services.into_iter().map(|service| service.spec.name.to_string()).collect())
}

impl Named for &ServiceConfig {
    fn name(&self) -> &str {
        &self.spec.name
    }
    fn groups(&self) -> &[String] {
        &self.shown.more.groups
    }
}

/// What this process was given to read instead of the files.
enum Given {
    Nothing,
    /// The last configuration, whatever stands in the files by now.
    Last(Recording),
    /// What stands in the files.
    Files(Recording),
}

/// What there is that need not be read. Without what it was read from it could not be handed on.
fn given() -> (Given, Option<Ready>) {
    if let Some(recording) = manager::safe_mode::configuration() {
        return (Given::Last(recording), prepared::take());
    }
    match Role::of_this_process() {
        Role::Manager => prepared::still_valid(),
        Role::Command | Role::Guardian | Role::Trial | Role::Shim | Role::Drill => None,
    }
    .map_or((Given::Nothing, None), |(recording, ready)| (Given::Files(recording), Some(ready)))
}

/// The config if it can be used, and the same for who comes after. The warnings are said; a config with warnings is read again, so
/// that they are said again.
fn judged(loaded: Loaded, screen: &Screen) -> Result<(Config, Option<OwnedFd>), Failure> {
    let (config, warnings) = loaded.into_result().map_err(|problems| {
        screen.note(&problems.render(screen.err.colour));
        Failure::new(Exit::Usage, "the config has errors; nothing was started")
    })?;
    if Role::of_this_process() != Role::Trial {
        screen.note(&warnings.render(screen.err.colour));
        let prepared = prepared::to_memory(&config, &warnings);
        return Ok((config, prepared));
    }
    if warnings.0.is_empty() {
        prepared::leave(&config);
    }
    Ok((config, None))
}

/// A manager takes what was left for it, from the first moment on; none: this process is none.
fn arrive(settled: &Settled, handed: &mut Option<Handed>) -> Result<Option<Arrival>, Failure> {
    handed.take().map(|handed| Arrival::begin(&settled.places, handed)).transpose().map_err(not_started)
}

/// In a manager, what it was given as one.
fn handed() -> Result<Option<Handed>, Failure> {
    (Role::of_this_process() == Role::Manager).then(Handed::take).transpose().map_err(not_started)
}

fn not_started(error: relume_os::OsError) -> Failure {
    Failure::new(Exit::NotWell, format!("relume could not start: {error}"))
}

/// Settled once: a manager, and a trial, use what they were handed.
fn settle(manager: &ManagerConfig, inherited: Option<Settled>) -> Result<Settled, Failure> {
    let around = Surroundings::from_env();
    let Some(mut settled) = inherited else {
        return Settled::anew(manager, &around)
            .map_err(|error| Failure::new(Exit::NotWell, error.to_string()));
    };
    if Role::of_this_process() == Role::Manager {
        settled.compare(manager);
        settled.restore(&around);
    }
    Ok(settled)
}

/// A manager that answers is named. One that does not is found by the lock, which the manager takes.
fn refuse_second(places: &Places) -> Result<(), Failure> {
    let Ok(running) = Client::new(places.socket()).and_then(|client| client.version()) else { return Ok(()) };
    let message = format!(
        "relume already runs here: pid {}, state directory {}",
        running.pid,
        places.state_dir.display()
    );
    Err(Failure::new(Exit::NotWell, message).help(
        "See it with: relume status\nStart a service with: relume start NAME\nEnd it with: relume down",
    ))
}
