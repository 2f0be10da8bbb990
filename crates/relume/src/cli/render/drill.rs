//! `relume drill`: the question before it, the line while it runs, and what it has found.

use std::time::Duration;

use relume_proto::StatusReport;

use super::text::{count, harmless, padded};
use super::{BAD, DIM, GOOD, Look, STRONG};
use crate::cli::commands::drill::{Figures, Part};

/// Columns of the bar.
const BAR: usize = 24;

/// Columns of the words on the left of the report.
const LEFT: usize = 18;

/// Sentences shown of those that went wrong; the rest is counted.
const SHOWN: usize = 10;

fn words(parts: &[Part]) -> String {
    parts.iter().map(|part| part.word()).collect::<Vec<_>>().join(", ")
}

/// Before a drill of its own.
pub(crate) fn question_own(parts: &[Part], kills: usize, printers: usize) -> String {
    format!(
        "The drill starts a relume of its own with {} in a temporary folder, kills parts of it\n\
         {} ({}), and checks what that has cost. Nothing of yours is touched.\nGo on? [y/N] ",
        count(printers, "printing service"),
        count(kills, "time"),
        words(parts)
    )
}

/// Before a drill of the user's own relume.
pub(crate) fn question_live(report: &StatusReport, parts: &[Part], kills: usize) -> String {
    format!(
        "The drill kills parts of the relume that runs here (pid {}, {}) {}:\n{}. \
         Its services should not notice; they are checked after each kill.\nGo on? [y/N] ",
        report.manager.pid,
        count(report.services.len(), "service"),
        count(kills, "time"),
        words(parts)
    )
}

/// While it runs.
pub(crate) fn progress(done: usize, of: usize, part: Part, took: Duration, look: Look) -> String {
    let full = (done * BAR).checked_div(of).unwrap_or(BAR);
    let bar = look.sign("█", "#").repeat(full) + &look.sign("░", ".").repeat(BAR - full);
    let what = match part {
        Part::Manager => "manager killed, supervised again in",
        Part::Guardian => "guardian killed, replaced in",
        Part::Both => "both killed, started again in",
        Part::Services => "a service killed, running again in",
    };
    format!("{bar} {done}/{of}  {what} {:.0} ms", took.as_secs_f64() * 1000.0)
}

/// What it has found.
pub(crate) fn report(figures: &Figures, look: Look) -> String {
    let kills: usize = figures.kills.values().sum();
    let mut out = format!("{} in {:.1} s, seed {}", count(kills, "kill"), figures.seconds, figures.seed);
    if figures.interrupted {
        out.push_str(", ended before its time");
    }
    out.push('\n');
    let mut row = |left: &str, right: String| {
        out.push_str(&format!("  {}{right}\n", look.paint(DIM, &padded(left, LEFT))));
    };
    let parts: Vec<String> = figures.kills.iter().map(|(part, times)| format!("{part} {times}")).collect();
    row("killed", parts.join(" · "));
    let services = &figures.services;
    let mut text = format!(
        "{} watched: lost {}, doubled {}, restarted without cause {}",
        services.watched,
        number(services.lost, look),
        number(services.doubled, look),
        number(services.restarted, look)
    );
    if services.ended > 0 {
        text.push_str(&format!(", ended by themselves {}", services.ended));
    }
    row("services", text);
    if let Some(lines) = &figures.lines {
        let [lost, repeated, torn, late] =
            [lines.lost, lines.repeated, lines.torn, lines.out_of_order].map(|n| number(n, look));
        let written = lines.written;
        row(
            "lines",
            format!("{written} written: lost {lost}, repeated {repeated}, torn {torn}, out of order {late}"),
        );
    }
    if let Some(exits) = &figures.exits {
        let [lost, repeated] = [exits.lost, exits.repeated].map(|n| number(n, look));
        let mut text = format!("{} with known codes: lost {lost}, told twice {repeated}", exits.expected);
        if exits.unseen > 0 {
            text.push_str(&format!(", while nobody lived {}", exits.unseen));
        }
        row("exits", text);
    }
    for (part, times) in figures.supervised_again.iter().filter(|(_, times)| times.count > 0) {
        let left = if *part == Part::Services.word() { "running again" } else { "supervised again" };
        row(
            left,
            format!(
                "p50 {:.1} ms · p99 {:.1} ms · max {:.1} ms  after {part}",
                times.p50_ms, times.p99_ms, times.max_ms
            ),
        );
    }
    out.push_str(&verdict(figures, look));
    out
}

fn number(number: u64, look: Look) -> String {
    look.paint(if number == 0 { GOOD } else { BAD }, &number.to_string())
}

fn verdict(figures: &Figures, look: Look) -> String {
    let mut out = String::new();
    for failure in figures.failures.iter().take(SHOWN) {
        out.push_str(&format!("{} {}\n", look.paint(BAD, look.sign("✗", "x")), harmless(failure)));
    }
    if figures.failures.len() > SHOWN {
        out.push_str(&format!("  and {} more\n", figures.failures.len() - SHOWN));
    }
    out.push_str(&if figures.passed {
        look.paint(GOOD.bold(), "Nothing was lost.")
    } else {
        look.paint(BAD.bold(), "The drill has failed.")
    });
    out.push('\n');
    if let Some(kept) = &figures.kept {
        out.push_str(&look.paint(STRONG, &format!("Logs and marks were kept: {kept}\n")));
    }
    if !figures.passed {
        out.push_str(
            &look.paint(
                DIM,
                &format!("Once more with the same chance: relume drill --seed {}\n", figures.seed),
            ),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_what_was_lost_and_how_to_see_it_again() {
        let mut figures = Figures { seed: 7, seconds: 1.25, ..Figures::default() };
        figures.kills.insert("manager", 3);
        figures.services.watched = 4;
        figures.passed = true;
        let good = report(&figures, Look::PLAIN);
        assert!(good.contains("3 kills in 1.2 s, seed 7") && good.ends_with("Nothing was lost.\n"), "{good}");
        figures.passed = false;
        figures.services.lost = 1;
        figures.failures = vec!["web is not running any more".into(); 12];
        let bad = report(&figures, Look::PLAIN);
        for part in ["lost 1", "✗ web is not", "and 2 more", "has failed", "--seed 7"] {
            assert!(bad.contains(part), "{part}: {bad}");
        }
    }

    #[test]
    fn the_bar_fills_and_shows_the_last_kill() {
        let took = Duration::from_millis(8);
        let line = progress(5, 10, Part::Manager, took, Look { unicode: false, ..Look::PLAIN });
        assert_eq!(line, "############............ 5/10  manager killed, supervised again in 8 ms");
    }
}
