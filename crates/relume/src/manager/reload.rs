//! Reading the configuration again, on a thread of its own: files may lie on a disk that does not answer.

use std::sync::Arc;

use relume_config::Diagnostics;

use crate::config_files::Disk;
use crate::recorded::{Recorder, Recording};
use crate::settled::MOVED_LOGS;
use crate::{prepared, trust};

use super::inbox::{Inbox, News, Reloaded};
use super::units::Units;

/// How the configuration is read again.
#[derive(Debug)]
pub(crate) struct Source {
    /// As it was read the first time: the same files, flags and variables.
    pub(crate) load: relume_config::Options,
    /// Files that others can write are used all the same.
    pub(crate) trust: bool,
}

/// One reading at a time: of two side by side the older one could come last and stay in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Reading {
    /// Nobody reads.
    #[default]
    Idle,
    /// The thread reads.
    UnderWay,
    /// It reads, and it has been asked for again since it began.
    Again,
}

/// A configuration that can be used.
#[derive(Debug)]
pub(crate) struct Fresh {
    /// The services and settings.
    pub(crate) units: Arc<Units>,
    /// What is odd about it.
    pub(crate) warnings: Diagnostics,
    /// What it was read from.
    pub(crate) recording: Recording,
}

/// Why a configuration cannot be used.
#[derive(Debug)]
pub(crate) struct Unusable {
    /// A sentence for people.
    pub(crate) text: String,
    /// What is wrong in which line, where that is the reason.
    pub(crate) problems: Diagnostics,
}

impl Source {
    /// Reads it. May wait for a disk.
    ///
    /// # Errors
    /// When it has errors, or is not to be trusted.
    pub(crate) fn read(&self) -> Result<Fresh, Unusable> {
        let disk = Recorder::new(Disk);
        let (config, warnings) =
            relume_config::load(&disk, &self.load).into_result().map_err(|problems| {
                let text = "the config has errors; the one before stays in force".to_owned();
                Unusable { text, problems }
            })?;
        if !self.trust {
            trust::check(&config).map_err(|distrust| Unusable {
                text: format!("{}; the config before stays in force", distrust.message),
                problems: Diagnostics::default(),
            })?;
        }
        let recording = disk.finish();
        // Where a log directory had to be moved, a successor finds that out for itself.
        let moved = self.load.overrides.iter().any(|one| one.origin == MOVED_LOGS);
        let prepared = (!moved).then(|| prepared::to_memory(&config, &warnings)).flatten();
        let units = Arc::new(Units::new(config).written(&recording, prepared));
        Ok(Fresh { units, warnings, recording })
    }
}

/// Begins to read. What comes of it comes as news; an invalid configuration changes nothing.
pub(crate) fn begin(source: &Arc<Source>, inbox: &Arc<Inbox>) {
    let (source, own) = (Arc::clone(source), Arc::clone(inbox));
    let read = move || {
        let reloaded = match source.read() {
            Ok(fresh) => Reloaded::Valid(fresh.units),
            Err(why) => {
                Reloaded::Invalid(format!("{}\n{}", why.text, why.problems.render(false)).trim_end().into())
            }
        };
        own.send(News::Reloaded(Box::new(reloaded)));
    };
    if let Err(error) = std::thread::Builder::new().name("reload".into()).spawn(read) {
        let text = format!("cannot read the config again: {error}; the one before stays in force");
        inbox.send(News::Reloaded(Box::new(Reloaded::Invalid(text))));
    }
}
