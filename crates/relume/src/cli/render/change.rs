//! `relume plan` and `relume apply`: what becomes of each service.

use relume_proto::{ChangeReport, Fate, SettingChange};

use super::text::{columns, count, harmless, padded};
use super::{BAD, BUSY, DIM, GOOD, Look};

/// What would change, or has changed; what stays as it is is only counted.
pub(crate) fn render(report: &ChangeReport, look: Look) -> String {
    let changed: Vec<_> = report.changes.iter().filter(|change| change.fate != Fate::Unchanged).collect();
    let width = changed.iter().map(|change| columns(&harmless(&change.service))).max().unwrap_or(0);
    let mut out = String::new();
    for change in &changed {
        let (style, sign) = match &change.fate {
            Fate::Added | Fate::AddedStopped => (GOOD, "+"),
            Fate::Removed => (BAD, "-"),
            Fate::Restarted | Fate::TriedAgain => (BUSY, "~"),
            Fate::NextStart | Fate::Rules | Fate::Unchanged | Fate::Other(_) => (DIM, "~"),
        };
        let name = padded(&harmless(&change.service), width);
        let said = said(&change.fate, report.applied);
        out.push_str(&format!("{} {name}  {said}\n", look.paint(style, sign)));
    }
    for setting in &report.settings {
        out.push_str(&about(setting, report.applied, look));
    }
    let same = report.changes.len() - changed.len();
    out.push_str(&match (changed.is_empty() && report.settings.is_empty(), report.applied) {
        (true, _) => format!("Nothing changes: {} as configured.\n", services_are(same)),
        (false, true) => format!("Applied. {} untouched.\n", services_are(same)),
        (false, false) => format!("{} not touched. Do it with: relume apply\n", services_are(same)),
    });
    out
}

/// What the next `relume up` would start, when none runs; `stopped`: those that somebody has stopped.
pub(crate) fn render_start(report: &ChangeReport, stopped: &[String], look: Look) -> String {
    let width = report.changes.iter().map(|change| columns(&harmless(&change.service))).max().unwrap_or(0);
    let mut out = String::new();
    let mut starting = 0;
    for change in &report.changes {
        let starts = change.fate == Fate::Added;
        starting += usize::from(starts);
        let (style, sign) = if starts { (GOOD, "+") } else { (DIM, " ") };
        let said = match (starts, stopped.contains(&change.service)) {
            (true, _) => "will be started",
            (false, true) => "stays stopped, as somebody asked",
            (false, false) => "will not be started by itself",
        };
        let name = padded(&harmless(&change.service), width);
        out.push_str(&format!("{} {name}  {said}\n", look.paint(style, sign)));
    }
    out.push_str(&format!("No relume runs here: relume up would start {}.\n", count(starting, "service")));
    out
}

fn said(fate: &Fate, applied: bool) -> String {
    let words = match fate {
        Fate::Added => ["new, will be started", "new, is started"],
        Fate::AddedStopped => ["new, will not be started by itself", "new, not started by itself"],
        Fate::Restarted => ["will be restarted", "is restarted"],
        Fate::TriedAgain => ["will be tried again", "is tried again"],
        Fate::NextStart => ["will hold at its next start"; 2],
        Fate::Rules => ["will hold without a restart", "holds without a restart"],
        Fate::Removed => ["will be stopped and removed", "is stopped and removed"],
        Fate::Unchanged => ["unchanged"; 2],
        Fate::Other(word) => return harmless(word).into_owned(),
    };
    words[usize::from(applied)].to_owned()
}

fn about(setting: &SettingChange, applied: bool, look: Look) -> String {
    let key = harmless(&setting.key);
    let said = match (setting.at_once, applied) {
        (true, true) => "holds from now on",
        (true, false) => "will hold at once",
        (false, _) => "cannot change while relume runs: relume down, then relume up",
    };
    let style = if setting.at_once { DIM } else { BUSY };
    format!("{} manager.{key}: {said}\n", look.paint(style, "~"))
}

fn services_are(number: usize) -> String {
    format!("{} {}", count(number, "service"), if number == 1 { "is" } else { "are" })
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use relume_proto::ServiceChange;

    use super::*;

    fn report(applied: bool) -> ChangeReport {
        let fates = [
            ("db", Fate::Unchanged),
            ("web", Fate::Restarted),
            ("api", Fate::Rules),
            ("mailer", Fate::Added),
            ("job", Fate::AddedStopped),
            ("idle", Fate::NextStart),
            ("bad", Fate::TriedAgain),
            ("old", Fate::Removed),
        ];
        let changes = fates.map(|(name, fate)| ServiceChange { service: name.into(), fate }).into();
        let setting = |key: &str, at_once| SettingChange { key: key.into(), at_once };
        let settings = vec![setting("log_level", true), setting("pid_dir", false)];
        ChangeReport { ok: true, applied, changes, settings, ..ChangeReport::default() }
    }

    #[test]
    fn a_plan_says_what_would_be_done() {
        assert_snapshot!(render(&report(false), Look::PLAIN), @r#"
        ~ web     will be restarted
        ~ api     will hold without a restart
        + mailer  new, will be started
        + job     new, will not be started by itself
        ~ idle    will hold at its next start
        ~ bad     will be tried again
        - old     will be stopped and removed
        ~ manager.log_level: will hold at once
        ~ manager.pid_dir: cannot change while relume runs: relume down, then relume up
        1 service is not touched. Do it with: relume apply
        "#);
    }

    #[test]
    fn an_answer_to_apply_says_what_was_done() {
        assert_snapshot!(render(&report(true), Look::PLAIN), @r#"
        ~ web     is restarted
        ~ api     holds without a restart
        + mailer  new, is started
        + job     new, not started by itself
        ~ idle    will hold at its next start
        ~ bad     is tried again
        - old     is stopped and removed
        ~ manager.log_level: holds from now on
        ~ manager.pid_dir: cannot change while relume runs: relume down, then relume up
        Applied. 1 service is untouched.
        "#);
    }

    #[test]
    fn nothing_to_do_is_said() {
        let changes = vec![ServiceChange { service: "db".into(), fate: Fate::Unchanged }];
        let report = ChangeReport { ok: true, changes, ..ChangeReport::default() };
        assert_snapshot!(render(&report, Look::PLAIN), @r#"
        Nothing changes: 1 service is as configured.
        "#);
    }
}
