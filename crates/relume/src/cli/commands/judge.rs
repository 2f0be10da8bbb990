//! `relume judge`: whether a job has something to do. Hidden: the manager starts it, as the service's user and in its
//! environment, and reads its exit code: 0 it has been done, 2 something that it requires is missing, 1 go on.

use std::process::{Command, ExitCode, Stdio};

use relume_config::{Comparison, JobCheck, Requirement};

use crate::cli::{Exit, Failure, Screen};

/// Says on standard error, which is the service's log, what is missing.
pub(crate) fn run(known: &str, check: &str, screen: &Screen) -> Result<ExitCode, Failure> {
    let check: JobCheck = serde_json::from_str(check)
        .map_err(|error| Failure::new(Exit::Usage, format!("this is not what a manager asks: {error}")))?;
    for requirement in &check.requires {
        if let Err(why) = is_there(requirement) {
            screen.note(&format!("relume: this requires {}: {why}\n", requirement.text));
            return Ok(ExitCode::from(2));
        }
    }
    let done = known == "done" || check.unless.as_deref().is_some_and(succeeds);
    Ok(ExitCode::from(u8::from(!done)))
}

fn succeeds(argv: &[String]) -> bool {
    let Some((program, arguments)) = argv.split_first() else { return false };
    Command::new(program).args(arguments).stdin(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn is_there(requirement: &Requirement) -> Result<(), String> {
    let output = Command::new(&requirement.program).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{} cannot be run: {error}", requirement.program))?;
    if requirement.versions.is_empty() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let Some(found) = version(&text) else {
        return Err(format!("{} --version names no version", requirement.program));
    };
    let holds = |(how, wanted): &(Comparison, Vec<u64>)| compares(&found, *how, wanted);
    if requirement.versions.iter().all(holds) {
        return Ok(());
    }
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    Err(format!("this is {}", shown.join(".")))
}

/// The first number with a dot in it, or else the first number.
fn version(text: &str) -> Option<Vec<u64>> {
    let words = text.split(|c: char| !(c.is_ascii_digit() || c == '.')).map(|word| word.trim_matches('.'));
    let numbers: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let chosen = numbers.iter().find(|word| word.contains('.')).or_else(|| numbers.first())?;
    chosen.split('.').map(|part| part.parse().ok()).collect()
}

/// Number by number; `3.8` is `3.8.0`. Equal is what begins alike: `== 3.8` holds for 3.8.2.
fn compares(found: &[u64], how: Comparison, wanted: &[u64]) -> bool {
    let width = found.len().max(wanted.len());
    let padded = |numbers: &[u64]| -> Vec<u64> {
        let mut all = numbers.to_vec();
        all.resize(width, 0);
        all
    };
    let order = padded(found).cmp(&padded(wanted));
    let alike = padded(found)[..wanted.len()] == *wanted;
    match how {
        Comparison::Less => order.is_lt(),
        Comparison::AtMost => order.is_lt() || alike,
        Comparison::Equal => alike,
        Comparison::AtLeast => order.is_ge(),
        Comparison::Greater => order.is_gt() && !alike,
        Comparison::Not => !alike,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say_of_themselves() {
        let cases: [(&str, &[u64]); 5] = [
            ("Python 3.11.2", &[3, 11, 2]),
            ("v20.1.0\n", &[20, 1, 0]),
            ("git version 2.39.5 (Debian 1:2.39)", &[2, 39, 5]),
            ("GNU bash, version 5.2.15(1)-release", &[5, 2, 15]),
            ("less 590 (GNU regular expressions)", &[590]),
        ];
        for (text, expected) in cases {
            assert_eq!(version(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(version("none"), None);
    }

    #[test]
    fn versions_compare_number_by_number() {
        use Comparison::{AtLeast, AtMost, Equal, Greater, Less, Not};
        let cases: [(&[u64], Comparison, &[u64], bool); 9] = [
            (&[3, 11], AtLeast, &[3, 8], true),
            (&[3, 7, 9], AtLeast, &[3, 8], false),
            (&[3, 8], AtLeast, &[3, 8, 0], true),
            (&[3, 8, 2], Equal, &[3, 8], true),
            (&[3, 8, 2], Greater, &[3, 8], false),
            (&[3, 8, 2], AtMost, &[3, 8], true),
            (&[22], Less, &[23], true),
            (&[3, 8, 2], Not, &[3, 8], false),
            (&[3, 80], Equal, &[3, 8], false),
        ];
        for (found, how, wanted, expected) in cases {
            assert_eq!(compares(found, how, wanted), expected, "{found:?} {how:?} {wanted:?}");
        }
    }
}
