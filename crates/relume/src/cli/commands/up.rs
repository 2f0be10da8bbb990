//! `relume up`: read the config, settle where everything is, and become the manager.

use std::process::ExitCode;

use relume_config::{Config, Diagnostics, ManagerConfig, Override, ServiceConfig};
use relume_proto::Client;

use super::{Named, configs, detached, load_options, no_config, select};
use crate::cli::args::{Global, UpArgs};
use crate::cli::{Exit, Failure, Screen};
use crate::config_files::Disk;
use crate::manager::{self, Arrival};
use crate::places::{Places, Surroundings};
use crate::recorded::Recorder;
use crate::roles::{IN_BACKGROUND, Role};
use crate::settled::Settled;
use crate::{systemd, trust};

/// Runs the manager until it leaves.
pub(crate) fn run(args: &UpArgs, global: &Global, screen: &Screen) -> Result<ExitCode, Failure> {
    let paths = configs(global);
    if paths.is_empty() {
        return Err(no_config());
    }
    let mut load = load_options(global, &args.manager, paths);
    let last_good = manager::safe_mode::configuration();
    let inherited = Settled::inherited();
    let arrival = inherited.as_ref().map(arrive).transpose()?.flatten();
    let recorder = Recorder::new(Disk);
    let read = |load: &_| match &last_good {
        Some(recording) => relume_config::load(recording, load),
        None => relume_config::load(&recorder, load),
    };
    // Without what it was read from it could not be handed on.
    let judged = match last_good.as_ref().and_then(|_| manager::prepared()) {
        Some(config) => Ok((config, Diagnostics::default())),
        None => read(&load).into_result(),
    };
    let (mut config, warnings) = match judged {
        Ok(fine) => fine,
        Err(problems) => {
            screen.note(&problems.render(screen.err.colour));
            return Err(Failure::new(Exit::Usage, "the config has errors; nothing was started"));
        }
    };
    judged_with(&config, &warnings, screen);
    // What was recorded was trusted when it was.
    if !global.trust && last_good.is_none() {
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
            origin: "log_dir".into(),
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
    let recording = last_good.unwrap_or_else(|| recorder.finish());
    let arrival = arrival.map_or_else(|| arrive(&settled), |begun| Ok(Some(begun)))?;
    let options = manager::Options {
        config,
        recording,
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

/// The warnings are said; a trial leaves a config without any for its successor: one with warnings is read again, so that they are said.
fn judged_with(config: &Config, warnings: &Diagnostics, screen: &Screen) {
    if Role::of_this_process() != Role::Trial {
        screen.note(&warnings.render(screen.err.colour));
    } else if warnings.0.is_empty() {
        manager::leave_prepared(config);
    }
}

/// A manager takes what was left for it, from the first moment on; none: this process is none.
fn arrive(settled: &Settled) -> Result<Option<Arrival>, Failure> {
    if Role::of_this_process() != Role::Manager {
        return Ok(None);
    }
    let failed = |error| Failure::new(Exit::NotWell, format!("relume could not start: {error}"));
    Arrival::begin(&settled.places).map(Some).map_err(failed)
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
