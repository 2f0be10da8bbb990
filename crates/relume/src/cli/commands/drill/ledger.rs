//! What the services of a drill have left behind, and what relume has kept of it: set against each other.
//!
//! Nothing relume says of itself is believed here. A printer's own note says how far it got, an ender's how it
//! was going to end, a lock says who lived at the same time; log files and events must agree with them.

use std::collections::BTreeMap;
use std::path::Path;

use relume_proto::{EventKind, EventRecord};

use super::figures::{Exits, Lines};
use super::part::Announced;

/// Sets the log of a printer against the numbers its lives say they have written.
pub(super) fn lines(name: &str, log: &str, written: &BTreeMap<u64, u64>) -> Lines {
    let mut found: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut lines = Lines::default();
    for line in log.lines() {
        match numbered(name, line) {
            Some((life, number)) => found.entry(life).or_default().push(number),
            None => lines.torn += 1,
        }
    }
    for (life, last) in written {
        let numbers = found.remove(life).unwrap_or_default();
        lines.add(&of_one_life(&numbers, *last));
    }
    // Lines of a life that has noted nothing: it was killed before it could. They count as they are.
    for numbers in found.values() {
        lines.add(&of_one_life(numbers, numbers.iter().copied().max().unwrap_or(0)));
    }
    lines
}

/// `last`: what it has noted. One line more may be there, written and not noted when it was killed.
fn of_one_life(numbers: &[u64], last: u64) -> Lines {
    let mut lines = Lines::default();
    let mut times: BTreeMap<u64, u64> = BTreeMap::new();
    for number in numbers {
        *times.entry(*number).or_default() += 1;
    }
    let highest = times.keys().next_back().copied().unwrap_or(0).max(last);
    lines.written = highest;
    lines.lost = highest - times.len() as u64;
    lines.repeated = times.values().map(|times| times - 1).sum();
    // Those that come twice are counted already.
    let mut seen = 0;
    for number in numbers {
        lines.out_of_order += u64::from(*number < seen && times.get(number) == Some(&1));
        seen = seen.max(*number);
    }
    lines
}

fn numbered(name: &str, line: &str) -> Option<(u64, u64)> {
    let (life, number) = line.strip_prefix(name)?.strip_prefix(' ')?.split_once(' ')?;
    Some((life.parse().ok()?, number.parse().ok()?)).filter(|(_, number)| *number > 0)
}

/// All that a log and its older parts hold, the oldest first.
pub(super) fn whole_log(log: &Path) -> String {
    let part = |n: u32| log.with_file_name(format!("{}.{n}", log.file_name().unwrap_or_default().display()));
    let older = (1..).take_while(|n| part(*n).exists()).last().unwrap_or(0);
    let parts = (1..=older).rev().map(part).chain([log.to_owned()]);
    let read = |path: std::path::PathBuf| std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&parts.flat_map(read).collect::<Vec<u8>>()).into_owned()
}

/// Times in which nobody of relume lived, in milliseconds since 1970.
pub(super) type Gaps = Vec<(u128, u128)>;

/// How far an announced end and the real one may lie apart on a busy machine, in milliseconds.
const SLACK_MS: u128 = 250;

/// Sets the events of an ender against what its lives have announced. The last life may have been ended by the
/// end of the drill.
pub(super) fn exits(name: &str, announced: &[Announced], events: &[EventRecord], gaps: &Gaps) -> Exits {
    let mut exits = Exits::default();
    let Some((_, over)) = announced.split_last() else { return exits };
    for life in over {
        let told: Vec<&str> = events
            .iter()
            .filter(|event| event.event == EventKind::Exit && event.service.as_deref() == Some(name))
            .filter(|event| event.run == Some(life.life))
            .map(|event| event.detail.as_deref().unwrap_or_default())
            .collect();
        let unseen = gaps
            .iter()
            .any(|(from, to)| life.ends_at_ms + SLACK_MS >= *from && life.ends_at_ms <= to + SLACK_MS);
        exits.expected += 1;
        match told.as_slice() {
            [detail] if is_code(detail, life.code) => {}
            // While both halves are dead there is nobody who could see it.
            [_] | [] if unseen => exits.unseen += 1,
            [_] | [] => exits.lost += 1,
            [_, more @ ..] => exits.repeated += more.len() as u64,
        }
    }
    exits
}

/// `exited 7 after 3 s`
fn is_code(detail: &str, code: u8) -> bool {
    let mut words = detail.split(' ');
    words.next() == Some("exited") && words.next().and_then(|word| word.parse().ok()) == Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(numbers: &[u64]) -> String {
        numbers.iter().map(|number| format!("p 3 {number}\n")).collect()
    }

    fn of(numbers: &[u64], last: u64) -> (u64, u64, u64, u64) {
        let lines = lines("p", &log(numbers), &BTreeMap::from([(3, last)]));
        (lines.written, lines.lost, lines.repeated, lines.out_of_order)
    }

    #[test]
    fn lines_that_are_missing_at_the_beginning_the_middle_or_the_end_are_lost() {
        assert_eq!(of(&[1, 2, 3], 3), (3, 0, 0, 0));
        assert_eq!(of(&[1, 2, 3, 4], 3), (4, 0, 0, 0), "written and not noted");
        assert_eq!(of(&[2, 3], 3), (3, 1, 0, 0));
        assert_eq!(of(&[1, 3], 3), (3, 1, 0, 0));
        assert_eq!(of(&[1], 3), (3, 2, 0, 0));
        assert_eq!(of(&[], 3), (3, 3, 0, 0));
    }

    #[test]
    fn lines_that_come_twice_or_late_or_in_pieces_are_seen() {
        assert_eq!(of(&[1, 2, 2, 3], 3), (3, 0, 1, 0));
        assert_eq!(of(&[1, 3, 2], 3), (3, 0, 0, 1));
        let torn = lines("p", "p 3 1\np 3\n3 2\np 3 2\nq 3 3\n", &BTreeMap::from([(3, 2)]));
        assert_eq!((torn.torn, torn.lost), (3, 0));
    }

    #[test]
    fn each_life_of_a_printer_is_judged_by_itself() {
        let two = lines("p", "p 1 1\np 1 2\np 2 1\n", &BTreeMap::from([(1, 2), (2, 2)]));
        assert_eq!((two.written, two.lost), (4, 1));
    }

    fn event(run: u64, detail: &str) -> EventRecord {
        EventRecord {
            service: Some("e".into()),
            run: Some(run),
            event: EventKind::Exit,
            detail: Some(detail.into()),
            ..EventRecord::default()
        }
    }

    fn announced(lives: &[(u64, u8)]) -> Vec<Announced> {
        let at = |life: u64| u128::from(life) * 10_000;
        lives.iter().map(|&(life, code)| Announced { life, code, ends_at_ms: at(life) }).collect()
    }

    #[test]
    fn a_code_that_is_missing_wrong_or_told_twice_is_seen() {
        let lives = announced(&[(1, 7), (2, 8), (3, 9), (4, 10), (5, 11)]);
        let events = [
            event(1, "exited 7 after 0.1 s"),
            event(2, "exited 9 after 0.1 s"),
            event(4, "exited 10 after 0.1 s"),
            event(4, "exited 10 after 0.1 s"),
        ];
        let exits = exits("e", &lives, &events, &Vec::new());
        assert_eq!((exits.expected, exits.lost, exits.repeated, exits.unseen), (4, 2, 1, 0));
    }

    #[test]
    fn an_end_while_nobody_lived_cannot_be_known_and_is_counted_apart() {
        let lives = announced(&[(1, 7), (2, 8)]);
        let exits = exits("e", &lives, &[event(1, "ended; how is not known")], &vec![(9_900, 10_100)]);
        assert_eq!((exits.lost, exits.unseen), (0, 1));
    }
}
