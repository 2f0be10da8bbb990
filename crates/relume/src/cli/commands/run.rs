//! `relume run`: one command as the only service of a temporary relume, with the terminal as its log.
//!
//! A config is written for it and `up` does the rest: what runs, runs like any other service. A manager that is
//! running already is not asked to take the command in: what it runs is what its config says.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use relume_config::{Account, RlimitValue, ServiceConfig};
use serde_json::{Map, Value, json};

use super::{configs, load_options, no_config, select, up};
use crate::cli::args::{Global, ManagerFlags, RunArgs, UpArgs};
use crate::cli::{Exit, Failure, Screen};
use crate::config_files::Disk;
use crate::settled::Settled;

/// Runs it to its end; its exit code.
pub(crate) fn run(args: &RunArgs, global: &Global, screen: &Screen) -> Result<ExitCode, Failure> {
    let like = args.service.as_deref().map(|name| configured(name, global, screen)).transpose()?;
    let home = Settled::inherited().map_or_else(Home::make, |settled| Ok(Home::of(&settled)))?;
    let config = home.config(&config(args, like.as_ref()))?;
    let state_dir = Some(home.0.join("state"));
    let global = Global { configs: vec![config], state_dir, system: false, ..global.clone() };
    let manager = ManagerFlags::all_within(&home.0);
    let up = UpArgs { follow: true, manager, ..UpArgs::default() };
    up::run(&up, &global, screen)
}

/// The service whose surroundings are borrowed.
fn configured(name: &str, global: &Global, screen: &Screen) -> Result<ServiceConfig, Failure> {
    let paths = configs(global);
    if paths.is_empty() {
        return Err(no_config());
    }
    let loaded = relume_config::load(&Disk, &load_options(global, &ManagerFlags::default(), paths));
    let (config, _warnings) = loaded.into_result().map_err(|problems| {
        screen.note(&problems.render(screen.err.colour));
        Failure::new(Exit::Usage, "the config has errors; nothing was started")
    })?;
    if !global.trust {
        crate::trust::check(&config)
            .map_err(|distrust| Failure::new(Exit::Usage, distrust.message).help(distrust.help))?;
    }
    let mut services: Vec<&ServiceConfig> = config.services.iter().collect();
    select(&mut services, &[name.to_owned()])?;
    // The first instance of several, the first of a group.
    services
        .first()
        .map(|service| (*service).clone())
        .ok_or_else(|| Failure::new(Exit::Usage, format!("there is no service `{name}`")))
}

/// The config of the temporary relume.
fn config(args: &RunArgs, like: Option<&ServiceConfig>) -> Value {
    let words: Vec<String> = args.command.iter().map(|word| literal(word)).collect();
    let program = args.command.first().map(String::as_str).unwrap_or_default();
    let name: String = Path::new(program)
        .file_name()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .take(40)
        .collect();
    let name = if name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        name
    } else {
        format!("_{name}")
    };
    let mut service = like.map(surroundings).unwrap_or_else(|| {
        let here = std::env::current_dir().map(|dir| dir.to_string_lossy().into_owned()).unwrap_or_default();
        Map::from_iter([("working_dir".to_owned(), json!(literal(&here)))])
    });
    service.insert("command".into(), json!(words));
    service.insert("restart_policy".into(), json!(args.restart));
    service.insert("when_exhausted".into(), json!("give_up"));
    json!({"services": {name: service}})
}

/// All that a process of this service is started with, its command apart.
fn surroundings(service: &ServiceConfig) -> Map<String, Value> {
    let launch = &service.launch;
    let account = |account: &Account| match account {
        Account::Id(id) => json!(id.to_string()),
        Account::Name(name) => json!(name),
    };
    let limit = |value: &RlimitValue| {
        let one = |bound: Option<u64>| bound.map_or("unlimited".to_owned(), |bound| bound.to_string());
        json!(format!("{}:{}", one(value.soft), one(value.hard)))
    };
    // relume says itself which instance of what this is.
    let own = |name: &String| !name.starts_with("RELUME_");
    let environment: BTreeMap<&String, String> = launch
        .environment
        .0
        .iter()
        .filter(|(name, _)| own(name))
        .map(|(name, value)| (name, literal(value)))
        .collect();
    let limits: BTreeMap<&str, Value> =
        launch.how.rlimits.iter().map(|(kind, value)| (kind.name(), limit(value))).collect();
    let keys = [
        ("working_dir", Some(json!(literal(&launch.how.working_dir.to_string_lossy())))),
        ("environment", Some(json!(environment))),
        ("user", launch.how.user.as_ref().map(account)),
        ("group", launch.how.group.as_ref().map(account)),
        ("umask", launch.how.umask.map(|mask| json!(format!("{mask:03o}")))),
        ("nice", launch.how.nice.map(|nice| json!(nice))),
        ("oom_score_adj", launch.how.oom_score_adj.map(|score| json!(score))),
        ("rlimits", Some(json!(limits))),
    ];
    keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// The text as a config keeps it as it is.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// A folder for config, state, sockets and log that is gone when the command has ended.
struct Home(PathBuf);

impl Home {
    fn make() -> Result<Self, Failure> {
        let random = format!("{}-{:x}", std::process::id(), relume_os::clock::monotonic_ns());
        let home = std::env::temp_dir().join(format!("relume-run-{random}"));
        // Not shared with anybody: what it holds may be secret, and what is in it is run.
        std::fs::DirBuilder::new().mode(0o700).create(&home).map_err(|error| failed(&home, &error))?;
        Ok(Self(home))
    }

    /// The one that the process has made which the user started. Another one would be another place for everything.
    fn of(settled: &Settled) -> Self {
        let state_dir = &settled.places.state_dir;
        Self(state_dir.parent().unwrap_or(state_dir).to_owned())
    }

    /// The config in it, which a manager that comes back finds there.
    fn config(&self, config: &Value) -> Result<PathBuf, Failure> {
        let path = self.0.join("relume.json");
        if path.exists() {
            return Ok(path);
        }
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| std::io::Write::write_all(&mut file, config.to_string().as_bytes()))
            .map_err(|error| failed(&path, &error))?;
        Ok(path)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // What cannot be removed is litter in a folder for litter.
        let _litter = std::fs::remove_dir_all(&self.0);
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::NotWell, format!("cannot make {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> RunArgs {
        let command = words.iter().map(ToString::to_string).collect();
        RunArgs { service: None, restart: "on-failure:2".into(), command }
    }

    #[test]
    fn the_command_is_run_as_it_is_written() {
        let config = config(&args(&["/usr/bin/we ird", "$HOME", "${X}", "a b"]), None);
        let service = &config["services"]["we_ird"];
        assert_eq!(service["command"], json!(["/usr/bin/we ird", "$$HOME", "$${X}", "a b"]));
        assert_eq!(service["restart_policy"], "on-failure:2");
    }

    #[test]
    fn any_program_has_a_name_that_is_allowed() {
        for (program, name) in [("/bin/true", "true"), ("-x", "_-x"), ("日本", "__"), ("/", "_")] {
            let config = config(&args(&[program]), None);
            assert!(config["services"].get(name).is_some(), "{program}: {config}");
        }
    }
}
