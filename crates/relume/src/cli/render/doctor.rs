//! `relume doctor`: a table of findings, each with what to do.

use super::text::{columns, harmless, padded, wrapped};
use super::{BAD, BUSY, DIM, GOOD, Look};

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// What was looked at.
    pub(crate) what: String,
    /// How it is.
    pub(crate) verdict: Verdict,
    /// A fragment for people.
    pub(crate) detail: String,
    /// What to do about it.
    pub(crate) advice: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, with something missing.
    Warn,
    /// Something will not work.
    Bad,
}

impl Check {
    pub(crate) fn ok(what: &str, detail: impl Into<String>) -> Self {
        Self::new(what, Verdict::Ok, detail)
    }

    pub(crate) fn warn(what: &str, detail: impl Into<String>) -> Self {
        Self::new(what, Verdict::Warn, detail)
    }

    pub(crate) fn bad(what: &str, detail: impl Into<String>) -> Self {
        Self::new(what, Verdict::Bad, detail)
    }

    fn new(what: &str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { what: what.to_owned(), verdict, detail: detail.into(), advice: None }
    }

    /// What to do about it.
    pub(crate) fn advice(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

/// All findings, and a last line that counts them.
pub(crate) fn render(checks: &[Check], look: Look) -> String {
    let width = checks.iter().map(|check| columns(&harmless(&check.what))).max().unwrap_or(0);
    let indent = " ".repeat(width + 8);
    let room = look.width.map_or(usize::MAX, |all| all.saturating_sub(indent.len()).max(20));
    let mut out = String::new();
    for check in checks {
        let (style, word) = match check.verdict {
            Verdict::Ok => (GOOD, "ok  "),
            Verdict::Warn => (BUSY, "warn"),
            Verdict::Bad => (BAD, "bad "),
        };
        let name = padded(&harmless(&check.what), width);
        let detail = lines(&check.detail, room, &indent);
        out.push_str(&format!("{}  {name}  {detail}\n", look.paint(style, word)));
        if let Some(advice) = &check.advice {
            let advice = lines(advice, room.saturating_sub(2), &format!("{indent}  "));
            out.push_str(&format!(
                "{indent}{}\n",
                look.paint(DIM, &format!("{} {advice}", look.sign("→", ">")))
            ));
        }
    }
    let of = |verdict: Verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let counted = format!("{} ok, {} to know, {} bad", of(Verdict::Ok), of(Verdict::Warn), of(Verdict::Bad));
    let style = if of(Verdict::Bad) > 0 { BAD } else { GOOD };
    out.push_str(&format!("{}\n", look.paint(style, &counted)));
    out
}

fn lines(text: &str, room: usize, indent: &str) -> String {
    wrapped(&harmless(text), room).join(&format!("\n{indent}"))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn checks() -> Vec<Check> {
        vec![
            Check::ok("kernel", "Linux 6.15"),
            Check::warn("cgroup v2", "not used: read-only; trees are found by session and descent")
                .advice("Delegate=yes"),
            Check::bad("port 8080", "wanted by web, held by pid 12 (ngi\u{1b}nx)").advice("end that process"),
        ]
    }

    #[test]
    fn each_finding_says_what_to_do() {
        assert_snapshot!(render(&checks(), Look::PLAIN), @r#"
        ok    kernel     Linux 6.15
        warn  cgroup v2  not used: read-only; trees are found by session and descent
                         → Delegate=yes
        bad   port 8080  wanted by web, held by pid 12 (ngi\x1bnx)
                         → end that process
        1 ok, 1 to know, 1 bad
        "#);
    }

    #[test]
    fn long_findings_stay_in_their_column() {
        assert_snapshot!(render(&checks()[1..2], Look { width: Some(50), ..Look::PLAIN }), @r#"
        warn  cgroup v2  not used: read-only; trees are
                         found by session and descent
                         → Delegate=yes
        0 ok, 1 to know, 0 bad
        "#);
    }

    #[test]
    fn without_utf8_it_is_ascii() {
        assert!(render(&checks(), Look { unicode: false, ..Look::PLAIN }).is_ascii());
    }
}
