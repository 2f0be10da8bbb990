//! Single values with a syntax of their own. All are decoded from text, so a number, a boolean and a string
//! that says the same are the same.

use std::borrow::Cow;
use std::time::Duration;

use relume_core::RestartMode;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};

use crate::de::parse_integer;
use crate::model::Account;

/// Makes a type that is decoded from one scalar by `$parse: fn(&str) -> Result<Inner, String>`.
macro_rules! scalar {
    ($(#[$doc:meta])* $name:ident($inner:ty), $expected:literal, $parse:expr, $schema:tt) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) struct $name(pub(crate) $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visit;
                impl serde::de::Visitor<'_> for Visit {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: Error>(self, text: &str) -> Result<$name, E> {
                        let parse: fn(&str) -> Result<$inner, String> = $parse;
                        parse(text).map($name).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visit)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}
pub(super) use scalar;

scalar! {
    /// A length of time.
    Span(Duration), "a duration such as 5, `500ms`, `1m30s`", |text| duration(text), {
        "type": ["number", "string"], "minimum": 0, "x-form": "duration"
    }
}

scalar! {
    /// A length of time, or `off`.
    SpanOrOff(Option<Duration>), "a duration such as 5, `500ms`, `1m30s`, or `off`", |text| {
        if is_off(text) { Ok(None) } else { duration(text).map(Some) }
    }, {
        "type": ["number", "string", "boolean"], "minimum": 0, "x-form": "duration or `off`"
    }
}

scalar! {
    /// Bytes.
    Size(u64), "a size such as 1048576, `10MB`, `64KiB`", |text| size(text), {
        "type": ["integer", "string"], "minimum": 0, "x-form": "size"
    }
}

scalar! {
    /// File mode bits. The digits are octal however they are written: nobody writes a mask in decimal.
    Octal(u32), "an octal file mode mask such as `022`", |text| octal(text), {
        "type": ["integer", "string"], "x-form": "octal digits"
    }
}

scalar! {
    /// A user or group.
    AccountName(Account), "a name or a number", |text| account(text), {
        "type": ["string", "integer"], "x-form": "name or id"
    }
}

scalar! {
    /// A signal.
    Signal(i32), "a signal such as `TERM` or 15", |text| signal(text), {
        "type": ["string", "integer"], "x-form": "signal"
    }
}

scalar! {
    /// Restarts; None: without limit.
    Retries(Option<u32>), "a number or `unlimited`", |text| match text {
        "unlimited" | "infinity" | "-1" => Ok(None),
        "off" | "no" | "false" => Err("`off` could mean both: write 0 for no restarts, `unlimited` for no limit".into()),
        _ => parse_integer(text)
            .and_then(|number| u32::try_from(number).ok())
            .map(Some)
            .ok_or_else(|| format!("expected a number of restarts or `unlimited`, found `{text}`")),
    }, {
        "type": ["integer", "string"], "x-form": "number or `unlimited`"
    }
}

scalar! {
    /// Which ends are followed by a restart; `on-failure:5` also says how often.
    Restart((RestartMode, Option<u32>)), "`always`, `on-failure` or `never`", |text| restart(text), {
        "anyOf": [
            { "enum": ["always", "on-failure", "never", "unless-stopped", "no", "on_failure", "unexpected", true, false] },
            { "type": "string", "pattern": "^on[-_]failure:[0-9]+$" }
        ],
        "x-form": "`always`, `on-failure`, `on-failure:N`, `never`"
    }
}

scalar! {
    /// So many in a time; None: no limit.
    Rate(Option<(u32, Duration)>), "a rate such as `20/1s`, or `off`", |text| rate(text), {
        "type": ["string", "boolean"], "x-form": "`COUNT/DURATION` or `off`"
    }
}

scalar! {
    /// The name of a service or a group.
    Name(String), "a name", |text| match crate::names::problem(text) {
        Some(problem) => Err(problem),
        None => Ok(text.to_owned()),
    }, {
        "type": ["string", "integer"], "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.@-]*$", "maxLength": 64, "x-form": "name"
    }
}

scalar! {
    /// The name of a service or of an instance of one.
    ServiceRef(String), "the name of a service", |text| {
        let base = match text.split_once(':') {
            Some((base, number)) if number.parse::<u32>().is_ok_and(|n| n > 0) => base,
            Some(_) | None => text,
        };
        crate::names::problem(base).map_or_else(|| Ok(text.to_owned()), Err)
    }, {
        "type": ["string", "integer"], "x-form": "name"
    }
}

scalar! {
    /// A name for people.
    DisplayName(String), "text", |text| match crate::names::display_problem(text) {
        Some(problem) => Err(problem),
        None => Ok(text.to_owned()),
    }, {
        "type": "string", "x-form": "text"
    }
}

scalar! {
    /// A path; relative ones belong to the file they stand in.
    PathText(String), "a path", |text| {
        if text.is_empty() { return Err("a path must not be empty".into()) }
        if text.contains('\0') { return Err("a path cannot contain a NUL byte".into()) }
        Ok(text.to_owned())
    }, {
        "type": "string", "x-form": "path"
    }
}

/// Words that switch something off.
pub(crate) fn is_off(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "off" | "false" | "no" | "none" | "infinity")
}

/// The longest duration: a hundred years, so that no sum of two overflows anywhere.
const LONGEST_S: f64 = 100.0 * 366.0 * 86_400.0;

/// Seconds as a number, or `500ms`, `5s`, `1m30s`, `2h`, `1d`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "expected a duration such as 5, `500ms`, `1m30s` or `2h`, found `{}`",
            crate::node::shortened(text)
        )
    };
    let seconds = |seconds: f64| {
        if seconds.is_finite() && (0.0..=LONGEST_S).contains(&seconds) {
            Ok(Duration::from_nanos((seconds * 1e9).round() as u64))
        } else if seconds < 0.0 {
            Err(format!("a duration cannot be negative, found `{text}`"))
        } else {
            Err(wrong())
        }
    };
    if let Ok(number) = text.parse::<f64>() {
        return seconds(number);
    }
    let mut total = 0.0;
    let mut rest = text;
    let mut last = f64::INFINITY;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let tail = &rest[digits..];
        let length = tail.find(|c: char| !c.is_ascii_alphabetic() && c != 'µ').unwrap_or(tail.len());
        let unit = match &tail[..length] {
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        // `30s1m` is a slip more often than a sum.
        if unit >= last {
            return Err(wrong());
        }
        last = unit;
        total += number * unit;
        rest = tail[length..].trim_start();
    }
    if text.is_empty() { Err(wrong()) } else { seconds(total) }
}

/// Bytes as a number, or with kB, MB, GB (powers of ten) or KiB, MiB, GiB (powers of two).
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "expected a size such as 1048576, `10MB` or `64KiB`, found `{}`",
            crate::node::shortened(text)
        )
    };
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..end].parse().map_err(|_| wrong())?;
    let unit: f64 = match text[end..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let bytes = number * unit;
    // 2^53: where an f64 still knows each byte.
    if (0.0..=9_007_199_254_740_992.0).contains(&bytes) { Ok(bytes.round() as u64) } else { Err(wrong()) }
}

fn octal(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8)
        .ok()
        .filter(|mask| *mask <= 0o777 && !digits.starts_with('+'))
        .ok_or_else(|| format!("expected a file mode mask in octal digits such as `022`, found `{text}`"))
}

/// Anything odd is refused: elsewhere `0day` has run as root.
fn account(text: &str) -> Result<Account, String> {
    let shown = crate::node::shortened(text);
    let odd = |why: &str| Err(format!("`{shown}` is neither a name nor an id: {why}"));
    if text.is_empty() {
        return odd("it is empty");
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        if text.len() > 1 && text.starts_with('0') {
            return odd("an id has no leading zeros");
        }
        // u32::MAX means "leave as it is" to setuid(2); 65535 does in 16-bit calls.
        return match text.parse::<u32>() {
            Ok(id) if id != u32::MAX && id != 65_535 => Ok(Account::Id(id)),
            Ok(_) | Err(_) => odd("the number is not usable as an id"),
        };
    }
    if text.len() > 32 {
        return odd("a name has at most 32 bytes");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return odd("a name begins with a letter or `_`");
    }
    let body = text.strip_suffix('$').unwrap_or(text);
    if let Some(c) = body.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))) {
        let why =
            if c == ':' { "user and group are two keys".to_owned() } else { format!("a name has no {c:?}") };
        return odd(&why);
    }
    Ok(Account::Name(text.to_owned()))
}

/// Signals by name, with their numbers on every architecture relume runs on (signal(7)).
const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// SIGRTMIN and SIGRTMAX as glibc gives them (signal(7)); musl's SIGRTMIN is 35.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

fn signal(text: &str) -> Result<i32, String> {
    let upper = text.to_ascii_uppercase();
    let word = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(number) = word.parse::<i32>() {
        let known = (1..=31).contains(&number) || REAL_TIME.contains(&number);
        return if known { Ok(number) } else { Err(format!("there is no signal {text}")) };
    }
    if let Some((_, number)) = SIGNALS.iter().find(|(name, _)| *name == word) {
        return Ok(*number);
    }
    let real_time = |offset: &str, base: i32, sign: &str, step: i32| match offset {
        "" => Some(base),
        _ => offset
            .strip_prefix(sign)?
            .parse::<i32>()
            .ok()
            .and_then(|n| n.checked_mul(step)?.checked_add(base)),
    };
    let number = match (word.strip_prefix("RTMIN"), word.strip_prefix("RTMAX")) {
        (Some(offset), _) => real_time(offset, *REAL_TIME.start(), "+", 1),
        (_, Some(offset)) => real_time(offset, *REAL_TIME.end(), "-", -1),
        (None, None) => None,
    };
    number.filter(|number| REAL_TIME.contains(number)).ok_or_else(|| {
        match crate::nearest::nearest(word, SIGNALS.iter().map(|(name, _)| *name)) {
            Some(meant) => format!("there is no signal `{text}`; did you mean `{meant}`?"),
            None => format!("there is no signal `{}`", crate::node::shortened(text)),
        }
    })
}

fn restart(text: &str) -> Result<(RestartMode, Option<u32>), String> {
    let folded = text.to_ascii_lowercase().replace('_', "-");
    match folded.as_str() {
        "always" | "unless-stopped" | "true" | "yes" | "on" => Ok((RestartMode::Always, None)),
        "on-failure" | "unexpected" => Ok((RestartMode::OnFailure, None)),
        "never" | "no" | "false" | "off" => Ok((RestartMode::Never, None)),
        other => match other.strip_prefix("on-failure:").and_then(|count| count.parse().ok()) {
            Some(count) => Ok((RestartMode::OnFailure, Some(count))),
            None => Err(format!(
                "unknown restart policy `{}`\nhelp: one of `always`, `on-failure`, `on-failure:N`, `never`",
                crate::node::shortened(text)
            )),
        },
    }
}

fn rate(text: &str) -> Result<Option<(u32, Duration)>, String> {
    if is_off(text) {
        return Ok(None);
    }
    let wrong =
        || format!("expected a rate such as `20/1s`, or `off`, found `{}`", crate::node::shortened(text));
    let (count, window) = text.split_once('/').ok_or_else(wrong)?;
    let count: u32 = count.trim().parse().map_err(|_| wrong())?;
    let window = window.trim();
    // `20/s`, as rates are often written.
    let window = if window.starts_with(|c: char| c.is_ascii_digit()) {
        duration(window)?
    } else {
        duration(&format!("1{window}"))?
    };
    if count == 0 || window.is_zero() {
        return Err("a rate of nothing would never restart anything\nhelp: `off` means no limit".into());
    }
    Ok(Some((count, window)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_or_numbers_with_units() {
        let millis = |text| duration(text).map(|d| d.as_millis());
        for (text, expected) in [
            ("5", 5_000),
            ("0.5", 500),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("1m 30s", 90_000),
        ] {
            assert_eq!(millis(text), Ok(expected), "{text}");
        }
        for text in
            ["", "x", "5x", "-1", "1e30", "nan", "inf", "30s1m", "s", "5s5", "1s1s", "99999999999999999999d"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_ten_or_of_two() {
        for (text, expected) in
            [("10", 10), ("10MB", 10_000_000), ("64KiB", 65_536), ("1.5k", 1_500), ("2 GiB", 2 << 30)]
        {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for text in ["", "MB", "-1", "1XB", "1e3", "99999999TB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn odd_users_are_refused() {
        for text in
            ["0day", "0x0", "", "-1", "+1", "007", "4294967295", "65535", "a b", "a/b", "a:b", "é", " "]
        {
            assert!(account(text).is_err(), "{text}");
        }
        assert_eq!(account("0"), Ok(Account::Id(0)));
        assert_eq!(account("1000"), Ok(Account::Id(1000)));
        assert_eq!(account("www-data"), Ok(Account::Name("www-data".into())));
        assert_eq!(account("host$"), Ok(Account::Name("host$".into())));
    }

    #[test]
    fn signals_go_by_name_or_number() {
        for (text, expected) in
            [("TERM", 15), ("sigint", 2), ("9", 9), ("RTMIN", 34), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)]
        {
            assert_eq!(signal(text), Ok(expected), "{text}");
        }
        for text in ["0", "32", "65", "-1", "TREM", "RTMIN+99", "RTMIN+2147483647", "RTMAX--2147483648", ""] {
            assert!(signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_umask_is_octal_however_it_is_written() {
        for (text, expected) in [("022", 0o22), ("22", 0o22), ("0o077", 0o77), ("0", 0)] {
            assert_eq!(octal(text), Ok(expected), "{text}");
        }
        for text in ["8", "1000", "", "-1", "0x12", "+22"] {
            assert!(octal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_a_count_in_a_time() {
        assert_eq!(rate("20/1s"), Ok(Some((20, Duration::from_secs(1)))));
        assert_eq!(rate("20/min"), Ok(Some((20, Duration::from_secs(60)))));
        assert_eq!(rate("off"), Ok(None));
        assert!(rate("0/1s").is_err() && rate("1/0s").is_err() && rate("5").is_err());
    }
}
