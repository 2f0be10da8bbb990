//! When a job is started by the clock.

use std::time::Duration;

use relume_core::ServiceKind;

use super::service::Work;
use crate::model::{Overlap, Schedule, When};
use crate::raw::RawOverlap;

/// More often than this a clock is no way to run anything.
const LEAST: Duration = Duration::from_secs(1);

/// None: it is not started by the clock.
pub(super) fn lower(work: &mut Work<'_, '_>, kind: ServiceKind) -> Option<Schedule> {
    let Some(text) = work.raw.schedule.as_ref().map(|text| text.0.clone()) else {
        for key in ["timezone", "overlap"] {
            if work.node.get(key).is_some() {
                work.warning(
                    &[key],
                    format!("`{key}` goes with `schedule`"),
                    "leave it out or add the other",
                );
            }
        }
        return None;
    };
    if kind != ServiceKind::Oneshot {
        let help = "`type: oneshot` makes it a job; a service that stays up needs no schedule";
        work.error_with(&["schedule"], "only jobs are started by the clock", help);
    }
    if work.raw.autostart == Some(true) {
        let help = "leave `autostart` out; `relume start` runs it at once";
        work.error_with(&["autostart"], "it is started by its `schedule`", help);
    }
    let when = match work.raw.schedule.as_ref().and_then(|text| text.every()) {
        Some(every) if every < LEAST => {
            work.error(&["schedule"], "a schedule runs once a second at most");
            return None;
        }
        Some(every) => When::Every(every),
        None => match text.parse::<croner::Cron>() {
            Ok(_) => When::Cron(text),
            Err(error) => {
                work.error(&["schedule"], format!("this is no cron expression: {error}"));
                return None;
            }
        },
    };
    let overlap = match work.raw.overlap {
        None | Some(RawOverlap::Skip) => Overlap::Skip,
        Some(RawOverlap::Queue) => Overlap::Queue,
        Some(RawOverlap::Kill) => Overlap::Kill,
    };
    Some(Schedule { when, timezone: work.raw.timezone.clone(), overlap })
}
