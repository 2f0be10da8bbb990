//! `relume up`: read the config, settle where everything is, and become the manager.

use std::process::ExitCode;

use relume_config::{Config, ManagerConfig, ServiceConfig};
use relume_proto::Client;

use super::{Named, configs, load_options, no_config, select};
use crate::cli::args::{Global, UpArgs};
use crate::cli::{Exit, Failure, Screen};
use crate::config_files::Disk;
use crate::manager;
use crate::places::{Places, Surroundings, Wanted};
use crate::roles::Role;

/// Runs the manager until it leaves.
pub(crate) fn run(args: &UpArgs, global: &Global, screen: &Screen) -> Result<ExitCode, Failure> {
    let paths = configs(global);
    if paths.is_empty() {
        return Err(no_config());
    }
    let load = load_options(global, &args.manager, paths);
    let (config, warnings) = match relume_config::load(&Disk, &load).into_result() {
        Ok(fine) => fine,
        Err(problems) => {
            screen.note(&problems.render(screen.err.colour));
            return Err(Failure::new(Exit::Usage, "the config has errors; nothing was started"));
        }
    };
    screen.note(&warnings.render(screen.err.colour));
    if !global.trust {
        distrust(&config)?;
    }
    let names = meant(&config, &args.names)?;
    let places = Places::settle(&wanted(&config.manager), &Surroundings::from_env())
        .map_err(|error| Failure::new(Exit::NotWell, error.to_string()))?;
    if Role::of_this_process() == Role::Command {
        refuse_second(&places)?;
    }
    let options =
        manager::Options { config, load, places, names, follow: args.follow, screen: screen.clone() };
    Ok(manager::run(options))
}

/// The names of the services to start; none when it is up to each whether it starts by itself.
fn meant(config: &Config, words: &[String]) -> Result<Vec<String>, Failure> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let mut services: Vec<&ServiceConfig> = config.services.iter().collect();
    select(&mut services, words)?;
    Ok(services.into_iter().map(|service| service.spec.name.clone()).collect())
}

impl Named for &ServiceConfig {
    fn name(&self) -> &str {
        &self.spec.name
    }
    fn groups(&self) -> &[String] {
        &self.shown.groups
    }
}

fn wanted(manager: &ManagerConfig) -> Wanted {
    Wanted {
        base: manager.config_dir.clone(),
        state_dir: manager.state_dir.clone(),
        runtime_dir: manager.runtime_dir.clone(),
        log_dir: Some(manager.log_dir.clone()),
        log_file: manager.log_file.clone(),
        state_file: manager.state_file.clone(),
        status_file: manager.status_file.clone(),
        pid_dir: manager.pid_dir.clone(),
    }
}

/// Whoever can write what root runs, is root.
fn distrust(config: &Config) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let program = std::env::current_exe().ok();
    for path in config.sources.iter().map(|path| path.as_path()).chain(program.as_deref()) {
        let why = match relume_os::files::check_trusted(path) {
            Ok(None) => continue,
            Ok(Some(distrust)) if distrust.path == path => distrust.reason,
            Ok(Some(distrust)) => distrust.to_string(),
            Err(error) => error.to_string(),
        };
        let message = format!("as root, relume does not use {}: {why}", path.display());
        return Err(Failure::new(Exit::Usage, message).help(
            "Whoever can write it could run anything as root.\nMend that (chmod go-w), or say --trust.",
        ));
    }
    Ok(())
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
