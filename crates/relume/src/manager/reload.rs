//! Reading the configuration again, on a thread of its own: files may lie on a disk that does not answer.

use std::sync::Arc;

use crate::config_files::Disk;

use super::inbox::{Inbox, News, Reloaded};
use super::units::Units;

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

/// Begins it. What comes of it comes as news; an invalid configuration changes nothing.
pub(crate) fn begin(load: &Arc<relume_config::Options>, inbox: &Arc<Inbox>) {
    let (load, own) = (Arc::clone(load), Arc::clone(inbox));
    let read = move || {
        let reloaded = match relume_config::load(&Disk, &load).into_result() {
            Ok((config, _warnings)) => Reloaded::Valid(Arc::new(Units::new(config))),
            Err(problems) => Reloaded::Invalid(format!(
                "the config has errors; the one before stays in force\n{}",
                problems.render(false)
            )),
        };
        own.send(News::Reloaded(Box::new(reloaded)));
    };
    if let Err(error) = std::thread::Builder::new().name("reload".into()).spawn(read) {
        let text = format!("cannot read the config again: {error}; the one before stays in force");
        inbox.send(News::Reloaded(Box::new(Reloaded::Invalid(text))));
    }
}
