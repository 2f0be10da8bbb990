//! Points in time as people write them: `10m` (ago), `14:30`, `2026-11-21`, `yesterday`, RFC 3339; and as they know them from
//! other programs: `-1h` and `"5 minutes ago"` of journalctl, seconds since 1970 of docker.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// Nanoseconds since 1970. `now` also says in which time zone a time of day is meant.
pub(crate) fn parse(text: &str, now: &Zoned) -> Result<i64, String> {
    let text = text.trim();
    let found = since_1970(text)
        .or_else(|| ago(text, now))
        .or_else(|| word(text, now))
        .or_else(|| text.parse::<Timestamp>().ok())
        .or_else(|| of_day(text, now))
        .or_else(|| civil(text, now.time_zone()));
    let wrong = || {
        "a span of time (10m, 2h, 1d: so long ago), a time (14:30), a date (2026-11-21), both, or RFC 3339"
            .to_owned()
    };
    i64::try_from(found.ok_or_else(wrong)?.as_nanosecond()).map_err(|_| wrong())
}

/// `@1763720000`, and the same without the sign: nobody means a span of years in seconds.
fn since_1970(text: &str) -> Option<Timestamp> {
    let (signed, number) = text.strip_prefix('@').map_or((false, text), |number| (true, number));
    let seconds: f64 = number.parse().ok().filter(|seconds| signed || *seconds >= 1e9)?;
    Timestamp::from_duration(jiff::SignedDuration::try_from_secs_f64(seconds).ok()?).ok()
}

fn ago(text: &str, now: &Zoned) -> Option<Timestamp> {
    let text = text.strip_suffix("ago").map_or(text, str::trim_end);
    let text = text.strip_prefix('-').unwrap_or(text);
    if text.starts_with(['-', '+']) {
        return None;
    }
    match crate::cli::args::duration(text) {
        Ok(span) => now.timestamp().checked_sub(jiff::SignedDuration::try_from(span).ok()?).ok(),
        // `1d` is a day of the calendar, and may have 23 hours.
        Err(_) => Some(now.checked_sub(span(text)?).ok()?.timestamp()),
    }
}

/// `5 minutes`, `1w 2d`, `1.5h`, `1 hour and 30 minutes`.
fn span(text: &str) -> Option<jiff::Span> {
    let text = text.replace(" and ", " ");
    // `16:30:05` is a time of day.
    (text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains(':')).then(|| text.parse().ok())?
}

fn word(text: &str, now: &Zoned) -> Option<Timestamp> {
    match text {
        "now" => Some(now.timestamp()),
        "today" => Some(now.start_of_day().ok()?.timestamp()),
        "yesterday" => Some(now.yesterday().ok()?.start_of_day().ok()?.timestamp()),
        _ => None,
    }
}

/// The last time that the clock showed this.
fn of_day(text: &str, now: &Zoned) -> Option<Timestamp> {
    let hour = text.find(':').filter(|_| !text.contains('-'))?;
    let time: Time = format!("{}{text}", if hour == 1 { "0" } else { "" }).parse().ok()?;
    let today = now.with().time(time).build().ok()?;
    Some(if today > *now { today.checked_sub(1.day()).ok()? } else { today }.timestamp())
}

fn civil(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let at: DateTime = match text.parse::<DateTime>() {
        Ok(at) => at,
        Err(_) => text.parse::<Date>().ok()?.to_datetime(Time::midnight()),
    };
    Some(at.to_zoned(zone.clone()).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> String {
        let now: Zoned = "2026-11-21T15:00:00+01:00[Europe/Berlin]".parse().unwrap();
        let at = parse(text, &now).unwrap_or_else(|wrong| panic!("{text}: {wrong}"));
        Timestamp::from_nanosecond(i128::from(at)).unwrap().to_string()
    }

    #[test]
    fn times_are_understood_as_people_write_them() {
        for (text, meant) in [
            ("10m", "2026-11-21T13:50:00Z"),
            ("1h30m ago", "2026-11-21T12:30:00Z"),
            ("2d", "2026-11-19T14:00:00Z"),
            ("14:30", "2026-11-21T13:30:00Z"),
            ("16:30:05", "2026-11-20T15:30:05Z"),
            ("2026-11-20", "2026-11-19T23:00:00Z"),
            ("2026-07-01 12:00", "2026-07-01T10:00:00Z"),
            ("2026-11-21T12:00:00.5Z", "2026-11-21T12:00:00.5Z"),
            ("2026-11-21T12:00:00+02:00", "2026-11-21T10:00:00Z"),
            ("5 minutes ago", "2026-11-21T13:55:00Z"),
            ("1 hour and 30 minutes ago", "2026-11-21T12:30:00Z"),
            ("10 min", "2026-11-21T13:50:00Z"),
            ("-1h", "2026-11-21T13:00:00Z"),
            ("1.5h", "2026-11-21T12:30:00Z"),
            ("30", "2026-11-21T13:59:30Z"),
            ("1w", "2026-11-14T14:00:00Z"),
            ("30d", "2026-10-22T13:00:00Z"),
            ("9:05", "2026-11-21T08:05:00Z"),
            ("1763720000", "2025-11-21T10:13:20Z"),
            ("@0", "1970-01-01T00:00:00Z"),
            ("today", "2026-11-20T23:00:00Z"),
            ("yesterday", "2026-11-19T23:00:00Z"),
        ] {
            assert_eq!(at(text), meant, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let now: Zoned = "2026-11-21T15:00:00+01:00[Europe/Berlin]".parse().unwrap();
        for wrong in
            ["", "soon", "25:00", "2026-13-01", "10x", "99999999999999999999d", "--1h", "-+1h", "-", "ago"]
        {
            assert!(parse(wrong, &now).is_err(), "{wrong}");
        }
    }
}
