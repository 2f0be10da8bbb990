//! What a configuration would change, said before it holds: `relume plan`, and the answer to `relume apply`.
//!
//! The core says what becomes of each service; here that is joined with what the core does not see (where
//! output goes, what people are shown) and with the settings of relume itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use relume_config::ManagerConfig;
use relume_core::{Event, Fate, Supervisor};
use relume_proto as wire;
use tokio::sync::oneshot;

use super::edge::Edge;
use super::publish::Note;
use super::units::Units;

/// A configuration that somebody wants weighed, and perhaps put in force.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The configuration.
    pub(crate) units: Arc<Units>,
    /// Whether it is to hold from now on.
    pub(crate) apply: bool,
    /// Who is told.
    pub(crate) answer: oneshot::Sender<Weighed>,
}

/// What becomes of services and settings; or why it cannot be.
pub(crate) type Weighed = Result<(Vec<wire::ServiceChange>, Vec<wire::SettingChange>), String>;

impl Edge {
    /// Answers all who asked since the last time, on what is so at this moment.
    pub(crate) fn weigh(&mut self, core: &Supervisor) {
        for Asked { units, apply, answer } in std::mem::take(&mut self.to_weigh) {
            let weighed = weigh(core, &self.units, &units, self.autostart);
            if apply && weighed.is_ok() {
                self.take_over(units);
            }
            // Who asked may have gone.
            let _gone = answer.send(weighed);
        }
    }

    /// A configuration holds from now on.
    pub(crate) fn take_over(&mut self, units: Arc<Units>) {
        self.units = units;
        self.clockwork.set(&self.units);
        self.sampler.watch(self.units.has_memory_bounds());
        self.read_at = std::time::SystemTime::now();
        self.respawn.reconfigure(self.units.manager.self_respawn);
        self.keep_config();
        self.retarget();
        self.probe_anew();
        self.publisher.send(Note::Units(self.units.clone()));
        self.events.push_back(Event::Configured(self.units.for_core(self.autostart)));
    }
}

fn weigh(core: &Supervisor, old: &Units, new: &Units, autostart: bool) -> Weighed {
    let plan = core.plan(&new.for_core(autostart))?;
    let changes = plan.into_iter().map(|change| {
        let differs = match (old.get(&change.service), new.get(&change.service)) {
            (Some(old), Some(new)) => old.config != new.config,
            _ => false,
        };
        let fate = in_words(change.fate, differs);
        wire::ServiceChange { service: change.service, fate }
    });
    Ok((changes.collect(), settings(&old.manager, &new.manager)))
}

/// `differs`: something about it has changed, seen by the core or not.
fn in_words(fate: Fate, differs: bool) -> wire::Fate {
    match fate {
        Fate::Added { starts: true } => wire::Fate::Added,
        Fate::Added { starts: false } => wire::Fate::AddedStopped,
        Fate::Restarted => wire::Fate::Restarted,
        Fate::TriedAgain => wire::Fate::TriedAgain,
        Fate::NextStart => wire::Fate::NextStart,
        Fate::Removed => wire::Fate::Removed,
        Fate::Rules => wire::Fate::Rules,
        Fate::Unchanged if differs => wire::Fate::Rules,
        Fate::Unchanged => wire::Fate::Unchanged,
    }
}

/// The settings that differ.
fn settings(old: &ManagerConfig, new: &ManagerConfig) -> Vec<wire::SettingChange> {
    let rate = |config: &ManagerConfig| config.policy.respawn_rate;
    let all = [
        ("respawn_rate", true, rate(old) != rate(new)),
        ("start_parallelism", true, old.policy.start_parallelism != new.policy.start_parallelism),
        ("exit_when", true, old.policy.exit_when != new.policy.exit_when),
        ("log_level", true, old.log_level != new.log_level),
        ("log_dir", true, old.log_dir != new.log_dir),
        ("log_format", false, old.log_format != new.log_format),
        ("log_file", false, old.log_file != new.log_file),
        ("state_dir", false, old.state_dir != new.state_dir),
        ("runtime_dir", false, old.runtime_dir != new.runtime_dir),
        ("state_file", false, old.state_file != new.state_file),
        ("status_file", false, old.status_file != new.status_file),
        ("pid_dir", false, old.pid_dir != new.pid_dir),
        ("watchdog", true, old.watchdog != new.watchdog),
        ("self_respawn", true, old.self_respawn != new.self_respawn),
        ("apply_on_respawn", true, old.apply_on_respawn != new.apply_on_respawn),
    ];
    let differing = all.into_iter().filter(|(_, _, differs)| *differs);
    differing.map(|(key, at_once, _)| wire::SettingChange { key: key.to_owned(), at_once }).collect()
}

/// The folders of log files that have to be there before output goes into them.
pub(crate) fn log_folders(units: &Units) -> BTreeSet<std::path::PathBuf> {
    let files = units.by_name.values().flat_map(|unit| [Some(&unit.out), unit.err.as_ref()]).flatten();
    files.filter_map(|log| log.path.parent().map(std::path::Path::to_path_buf)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use relume_core::{Moment, Outbox};

    use super::*;

    fn units(text: &str) -> Arc<Units> {
        struct One(String);
        impl relume_config::Files for One {
            fn read(&self, _: &std::path::Path, _: u64) -> Result<Vec<u8>, relume_config::FileError> {
                Ok(self.0.clone().into_bytes())
            }
            fn list(
                &self,
                _: &std::path::Path,
            ) -> Result<Vec<relume_config::Entry>, relume_config::FileError> {
                Ok(Vec::new())
            }
            fn identity(&self, path: &std::path::Path) -> PathBuf {
                path.to_owned()
            }
        }
        let options = relume_config::Options {
            current_dir: "/app".into(),
            paths: vec!["relume.yaml".into()],
            environment: Vec::new().into_iter().collect(),
            overrides: Vec::new(),
            manager_only: false,
            show_secrets: false,
        };
        let loaded = relume_config::load(&One(text.to_owned()), &options).into_result();
        Arc::new(Units::new(loaded.expect("the config of the test is valid").0))
    }

    type Shown = (Vec<(String, String)>, Vec<(String, bool)>);

    fn weighed(old: &str, new: &str) -> Shown {
        let (old, new) = (units(old), units(new));
        let mut core = Supervisor::new(1, Moment(1));
        core.step(Moment(1), Event::Configured(old.for_core(true)), &mut Outbox::default());
        let (changes, settings) = weigh(&core, &old, &new, true).unwrap();
        let changes = changes.into_iter().map(|change| (change.service, change.fate.to_string()));
        (changes.collect(), settings.into_iter().map(|s| (s.key, s.at_once)).collect())
    }

    #[test]
    fn what_the_core_does_not_see_is_a_change_without_a_restart() {
        let old = "services: {web: {command: a}, db: {command: b}}";
        let new = "services: {web: {command: a, description: x}, db: {command: b}}";
        let (changes, settings) = weighed(old, new);
        assert_eq!(changes, [("web".into(), "rules".into()), ("db".into(), "unchanged".into())]);
        assert_eq!(settings, []);
    }

    #[test]
    fn another_command_restarts_and_a_service_that_is_left_out_is_removed() {
        let (changes, _) = weighed(
            "services: {web: {command: a}, db: {command: b}}",
            "services: {web: {command: c}, new: {command: d}, idle: {command: e, autostart: false}}",
        );
        let expected = [("web", "restarted"), ("new", "added"), ("idle", "added_stopped"), ("db", "removed")];
        assert_eq!(changes, expected.map(|(name, fate)| (name.to_owned(), fate.to_owned())));
    }

    #[test]
    fn settings_say_whether_they_hold_at_once() {
        let (_, settings) = weighed(
            "manager: {log_level: info, pid_dir: a}\nservices: []",
            "manager: {log_level: debug, pid_dir: b}\nservices: []",
        );
        assert_eq!(settings, [("log_level".to_owned(), true), ("pid_dir".to_owned(), false)]);
    }
}
