//! The verbs, one file each, and what several of them need: the config, and the manager to ask.

pub(super) mod apply;
pub(super) mod check;
pub(super) mod completions;
pub(super) mod detached;
pub(super) mod doctor;
pub(super) mod down;
pub(crate) mod drill;
pub(super) mod events;
pub(super) mod explain;
pub(super) mod install;
pub(super) mod judge;
pub(super) mod logs;
pub(super) mod man;
mod operate;
pub(super) mod plan;
pub(super) mod reload;
pub(super) mod respawn;
pub(super) mod restart;
pub(super) mod run;
pub(super) mod schema;
pub(super) mod signal;
pub(super) mod start;
pub(super) mod status;
pub(super) mod stop;
pub(super) mod uninstall;
pub(super) mod up;
pub(super) mod urls;
pub(super) mod wait;

pub(super) use logs::parse_time as logs_time;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use relume_config::Files;
use relume_proto::{Client, ClientError, ErrorKind, ServiceReport, StatusFile};

use super::args::{Global, ManagerFlags};
use super::render::text::{harmless, nearest};
use super::{Exit, Failure, working_dir};
use crate::config_files::Disk;
use crate::places::{self, Found, Surroundings, Wanted};

/// The configs this command line means, in order; none if there is none.
pub(super) fn configs(global: &Global) -> Vec<PathBuf> {
    if global.system && global.configs.is_empty() {
        return vec![PathBuf::from(places::SYSTEM.config)];
    }
    let env = std::env::var_os("RELUME_CONFIG").map(PathBuf::from);
    places::configs(&global.configs, env, &working_dir())
}

/// There is no config, and one is needed.
pub(super) fn no_config() -> Failure {
    let names = relume_config::DISCOVERY.join(", ");
    Failure::new(Exit::Usage, format!("there is no config in {}", working_dir().display()))
        .help(format!("Looked for {names}.\nGive one with -c PATH, or change to its folder."))
}

/// How the config is to be read.
pub(super) fn load_options(
    global: &Global,
    flags: &ManagerFlags,
    paths: Vec<PathBuf>,
) -> relume_config::Options {
    let text =
        |(key, value): (OsString, OsString)| Some((key.into_string().ok()?, value.into_string().ok()?));
    relume_config::Options {
        current_dir: working_dir(),
        paths,
        environment: std::env::vars_os().filter_map(text).collect(),
        overrides: flags.overrides(global, |key| std::env::var_os(key)),
        manager_only: false,
        show_secrets: false,
    }
}

/// Where the manager of this command line is, running or not.
pub(super) fn find_manager(global: &Global) -> Result<Found, Failure> {
    let wanted = wanted_state_dir(global);
    places::find(&wanted, &Surroundings::from_env()).map_err(|error| {
        Failure::new(Exit::NotWell, error.to_string())
            .help("Run this command as the user who started the manager.")
    })
}

/// By flag, by variable, else through the config, whose errors never keep a client from its manager.
fn wanted_state_dir(global: &Global) -> Wanted {
    let folder = working_dir();
    let variable = std::env::var_os("RELUME_STATE_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let system = global.system.then(|| PathBuf::from(places::SYSTEM.state_dir));
    if let Some(dir) = global.state_dir.clone().or(system).or(variable) {
        return Wanted { base: folder, state_dir: Some(dir), ..Wanted::default() };
    }
    let paths = configs(global);
    let base = places::base_of(&paths, &folder);
    let state_dir = if crate::config_files::may_mention(&paths, b"state_dir") {
        let mut options = load_options(global, &ManagerFlags::default(), paths);
        options.manager_only = true;
        relume_config::load(&Disk, &options).config.manager.state_dir
    } else {
        // The usual case: nothing to parse, however many services there are.
        None
    };
    Wanted { base, state_dir, ..Wanted::default() }
}

/// A client for the manager that was found.
pub(super) fn client(found: &Found) -> Result<Client, Failure> {
    Ok(Client::new(&found.socket)?)
}

/// A failure of a request; that nobody is there is told with where was looked.
pub(super) fn refused(error: ClientError, found: &Found) -> Failure {
    if !matches!(error.kind, ErrorKind::NotRunning) {
        return error.into();
    }
    let mut help =
        "Start one with: relume up\nIs it another one? Use -c CONFIG, --state-dir DIR, or its folder."
            .to_owned();
    if let Some(known) = last_known(found) {
        help.push_str(&format!("\nWhen one ran here last: {known}."));
    }
    Failure::new(Exit::NotRunning, format!("no manager is running for {}", found.state_dir.display()))
        .help(help)
}

/// The largest status file that is read, in bytes: 10,000 services take 2 MB.
const STATUS_LIMIT: u64 = 64 << 20;

/// What the manager wrote last for other programs to read.
pub(super) fn last_status(found: &Found) -> Option<StatusFile> {
    let text = Disk.read(&found.state_dir.join("status.json"), STATUS_LIMIT).ok()?;
    serde_json::from_slice(&text).ok()
}

/// `4 running, 1 stopped`
fn last_known(found: &Found) -> Option<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for service in last_status(found)?.into_values() {
        *counts.entry(harmless(service.status.as_str()).into_owned()).or_default() += 1;
    }
    let parts: Vec<String> = counts.into_iter().map(|(state, number)| format!("{number} {state}")).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What is known of a service when it is looked up by name.
pub(super) trait Named {
    /// Its unique name.
    fn name(&self) -> &str;
    /// The groups it belongs to.
    fn groups(&self) -> &[String];

    /// Whether this word means it: its name, what it is an instance of, a group of it, or a pattern of either.
    fn is_meant_by(&self, word: &str) -> bool {
        let instance_of = self.name().rsplit_once(':').map(|(base, _)| base);
        let group = word.strip_prefix("group/");
        // No character of a pattern can be part of a name.
        let is = |name: &str, word: &str| {
            name == word || word.contains(['*', '?', '[', '{']) && fast_glob::glob_match(word, name)
        };
        is(self.name(), word)
            || instance_of.is_some_and(|base| is(base, word))
            || group.is_some_and(|group| self.groups().iter().any(|own| is(own, group)))
    }
}

impl Named for ServiceReport {
    fn name(&self) -> &str {
        &self.name
    }
    fn groups(&self) -> &[String] {
        &self.groups
    }
}

/// Keeps the services that are meant by one of the words; all without words.
///
/// # Errors
/// For a word that means none, with the nearest name.
pub(super) fn select<T: Named>(services: &mut Vec<T>, words: &[String]) -> Result<(), Failure> {
    if let Some(word) = words.iter().find(|word| !services.iter().any(|service| service.is_meant_by(word))) {
        let failure = unknown(word, services.iter().map(Named::name));
        let is_group = services.iter().any(|service| service.groups().contains(word));
        return Err(if is_group { failure.help(format!("Did you mean group/{word}?")) } else { failure });
    }
    if !words.is_empty() {
        services.retain(|service| words.iter().any(|word| service.is_meant_by(word)));
    }
    Ok(())
}

pub(super) fn unknown<'a>(word: &str, names: impl Iterator<Item = &'a str> + Clone) -> Failure {
    let (what, plain) = word.strip_prefix("group/").map_or(("service", word), |group| ("group", group));
    let failure = Failure::new(Exit::Usage, format!("there is no {what} `{plain}`"));
    match nearest(word, names.clone()) {
        Some(name) => failure.help(format!("Did you mean {name}?")),
        None => {
            let all: Vec<&str> = names.take(20).collect();
            failure.help(if all.is_empty() {
                "There are no services.".into()
            } else {
                format!("There are: {}", all.join(", "))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services() -> Vec<ServiceReport> {
        ["web:1", "web:2", "db"]
            .map(|name| ServiceReport {
                name: name.into(),
                groups: if name == "db" { vec!["data".into()] } else { Vec::new() },
                ..ServiceReport::default()
            })
            .into()
    }

    fn selected(words: &[&str]) -> Result<Vec<String>, Failure> {
        let mut all = services();
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        select(&mut all, &words)?;
        Ok(all.into_iter().map(|service| service.name).collect())
    }

    #[test]
    fn a_word_means_a_service_its_instances_or_a_group() {
        assert_eq!(selected(&[]).unwrap(), ["web:1", "web:2", "db"]);
        assert_eq!(selected(&["web"]).unwrap(), ["web:1", "web:2"]);
        assert_eq!(selected(&["web:2", "group/data"]).unwrap(), ["web:2", "db"]);
        assert_eq!(selected(&["w*", "group/d?ta"]).unwrap(), ["web:1", "web:2", "db"]);
        assert_eq!(selected(&["*:2"]).unwrap(), ["web:2"]);
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_the_nearest() {
        let failure = selected(&["db", "wb:1"]).unwrap_err();
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Usage, "there is no service `wb:1`"));
        assert_eq!(failure.help.as_deref(), Some("Did you mean web:1?"));
        assert_eq!(selected(&["data"]).unwrap_err().help.as_deref(), Some("Did you mean group/data?"));
        assert_eq!(selected(&["group/none"]).unwrap_err().message, "there is no group `none`");
    }
}
