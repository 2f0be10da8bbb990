//! `relume events`: what has happened, one line each.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use relume_proto::{EventKind, EventRecord};

use super::text::harmless;
use super::{BAD, BUSY, DIM, Look, STRONG, state_style};

/// One event, with the time as clocks show it here.
pub(crate) fn render(event: &EventRecord, zone: &TimeZone, look: Look) -> String {
    let mut line = look.paint(DIM, &when(event, zone));
    line.push_str("  ");
    match &event.service {
        Some(service) => {
            line.push_str(&look.paint(STRONG, &harmless(service)));
            if let Some(run) = event.run {
                line.push_str(&look.paint(DIM, &format!("#{run}")));
            }
        }
        None => line.push_str(&look.paint(STRONG, "relume")),
    }
    line.push_str("  ");
    let detail = event.detail.as_deref().filter(|detail| !detail.is_empty()).map(harmless);
    match (&event.event, &event.to) {
        (EventKind::State, Some(to)) => {
            if let Some(from) = &event.from {
                line.push_str(&format!("{} {} ", harmless(from.as_str()), look.sign("→", "->")));
            }
            line.push_str(&look.paint(state_style(to), &harmless(to.as_str())));
            if let Some(detail) = detail {
                line.push_str(&format!(": {detail}"));
            }
        }
        (kind, _) => {
            let style = match kind {
                EventKind::Warning => BUSY,
                EventKind::Recovery => BAD,
                EventKind::State
                | EventKind::Exit
                | EventKind::Probe
                | EventKind::Config
                | EventKind::Command
                | EventKind::Respawn
                | EventKind::Other(_) => DIM,
            };
            line.push_str(&look.paint(style, &harmless(kind.as_str())));
            if let Some(detail) = detail {
                line.push_str(&format!(": {detail}"));
            }
        }
    }
    line.push('\n');
    line
}

/// A time that cannot be read is shown as it came.
fn when(event: &EventRecord, zone: &TimeZone) -> String {
    match event.at.parse::<Timestamp>() {
        Ok(at) => at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Err(_) => harmless(&event.at).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use relume_proto::State;

    use super::*;

    #[test]
    fn each_event_has_its_line() {
        let at = "2026-02-03T04:05:06.789Z";
        let crashed = EventRecord {
            seq: 1,
            at: at.into(),
            service: Some("web".into()),
            run: Some(7),
            event: EventKind::State,
            from: Some(State::Running),
            to: Some(State::Crashed),
            detail: Some("ended by SIGKILL after 3.0 s".into()),
            ..EventRecord::default()
        };
        let applied = EventRecord {
            at: at.into(),
            event: EventKind::Config,
            detail: Some("configuration applied: 1 new".into()),
            ..EventRecord::default()
        };
        let odd = EventRecord {
            at: "some\u{1b}day".into(),
            service: Some("db".into()),
            event: EventKind::Warning,
            ..EventRecord::default()
        };
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let shown: String = [crashed, applied, odd].iter().map(|e| render(e, &zone, Look::PLAIN)).collect();
        assert_snapshot!(shown, @r#"
        2026-02-03 05:05:06.789  web#7  running → crashed: ended by SIGKILL after 3.0 s
        2026-02-03 05:05:06.789  relume  config: configuration applied: 1 new
        some\x1bday  db  warning
        "#);
    }
}
