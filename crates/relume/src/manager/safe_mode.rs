//! Safe mode: managers have died again and again before they supervised, so this one runs the last configuration that has held
//! (and the last program, which is the guardian's choice). Services do not notice; `relume status` says so.
//!
//! It heals by itself. A thread reads the configured files now and then: as soon as they can be used and are not what they were
//! when safe mode began, they are put in force. If they could be used from the beginning, something else was the cause, or they are
//! what kills managers; then they are tried once a minute.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::inbox::{Inbox, News, Reloaded};
use super::reload::Source;
use crate::guardian::SAFE_CONFIG_FD;
use crate::recorded::Recording;
use crate::roles::{RECORDED, SAFE, WITHOUT_JOURNAL};

/// Between two looks at the files. They are small, and nobody waits for more than this after mending them.
const LOOK: Duration = Duration::from_secs(1);

/// How long usable files are left alone that were there when managers died.
const UNCHANGED: Duration = Duration::from_secs(60);

/// Why this manager is in safe mode, for people; none: it is not.
pub(crate) fn reason() -> Option<String> {
    std::env::var(SAFE).ok()
}

/// The configuration to be read instead of the files: the last good one, in safe mode; or what a manager that has replaced
/// itself leaves to its successor. To be called once, first thing.
pub(crate) fn configuration() -> Option<Recording> {
    let left = std::env::var(RECORDED).ok().and_then(|number| number.parse().ok());
    let number = left.or_else(|| reason().map(|_| SAFE_CONFIG_FD)).filter(|number| *number > 2)?;
    let file = relume_os::exec::take_inherited(number).ok()?;
    Recording::from_memory(&file)
}

/// A journal that may be what managers die of is put aside, for whoever wants to know why.
pub(crate) fn judge_journal(path: &Path) {
    if std::env::var_os(WITHOUT_JOURNAL).is_some() {
        // Without the right to rename it could not be written, either; opening it says why.
        let _kept = relume_os::files::rename(path, &path.with_extension("doubtful"));
    }
}

/// Looks for a usable configuration until there is one.
pub(crate) fn heal(source: &Arc<Source>, inbox: &Arc<Inbox>) -> std::io::Result<()> {
    let (source, inbox) = (Arc::clone(source), Arc::clone(inbox));
    let look = move || {
        let began = Instant::now();
        let doubtful = source.read().ok().map(|fresh| fresh.recording);
        loop {
            std::thread::sleep(LOOK);
            let Ok(fresh) = source.read() else { continue };
            if doubtful.as_ref() != Some(&fresh.recording) || began.elapsed() >= UNCHANGED {
                return inbox.send(News::Reloaded(Box::new(Reloaded::Valid(fresh.units))));
            }
        }
    };
    std::thread::Builder::new().name("safe-mode".into()).spawn(look).map(drop)
}
