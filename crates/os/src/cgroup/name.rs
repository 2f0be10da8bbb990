//! A run's name as one path component, `SERVICE:GENERATION`, and back.
//!
//! Letters, digits, `_`, `-` and `@` stand for themselves, every other byte is `%XX`. A dot too: all files of the kernel in a cgroup
//! directory have one (`cgroup.procs`), so no service can be named like them; and our own directories begin with `+`, which no escaped name contains.

use std::path::Path;

/// Between a service and a generation; [`escape`] leaves none in a name.
const BETWEEN: char = ':';

/// The component of a run.
pub(super) fn of_run(service: &str, generation: u64) -> String {
    format!("{}{BETWEEN}{generation}", escape(service))
}

/// The run of a component; none if it is not what [`of_run`] makes.
pub(super) fn run_of(component: &str) -> Option<(String, u64)> {
    let (service, generation) = component.split_once(BETWEEN)?;
    let number: u64 = generation.parse().ok()?;
    (number.to_string() == generation).then_some((unescape(service)?, number))
}

/// The directory of a run's service, for the runs of an earlier version that were taken over: those are `SERVICE/GENERATION`.
pub(super) fn service_dir(run: &Path) -> Option<&Path> {
    let generation = run.file_name()?.to_str()?;
    generation.parse::<u64>().is_ok().then(|| run.parent()).flatten()
}

pub(super) fn escape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `None` if this is not what [`escape`] makes.
pub(super) fn unescape(component: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(component.len());
    let mut rest = component;
    while let Some(at) = rest.find('%') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        bytes.push(u8::from_str_radix(rest.get(at + 1..at + 3)?, 16).ok()?);
        rest = &rest[at + 3..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok().filter(|name| escape(name) == component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_becomes_one_safe_component_and_comes_back() {
        for name in [
            "web",
            "web:2",
            "..",
            ".",
            "a/b",
            "cgroup.procs",
            "+supervisor",
            "%41",
            "ö",
            "a b\n",
            "",
            "x@y-z_9",
        ] {
            let escaped = escape(name);
            assert!(!escaped.contains(['/', '.', '+', '\n']), "{escaped}");
            assert_eq!(unescape(&escaped).as_deref(), Some(name));
            let run = of_run(name, 7);
            assert_eq!((run_of(&run), service_dir(Path::new(&run))), (Some((name.to_owned(), 7)), None));
        }
    }

    #[test]
    fn what_we_did_not_write_is_no_name() {
        for component in ["a.b", "%", "%4", "%zz", "+supervisor", "%41", "%ff", "%C3"] {
            assert_eq!(unescape(component), None, "{component}");
            assert_eq!(run_of(&format!("{component}:1")), None, "{component}");
        }
        for run in ["web", "web:", "web:x", "web:01", "web:+1", "web:1:1", "+supervisor"] {
            assert_eq!(run_of(run), None, "{run}");
        }
    }
}
