//! `relume urls`: each place to look at, one a line.

use relume_proto::{ServiceReport, State};
use serde_json::{Value, json};

use super::text::{columns, harmless, padded};
use super::{DIM, Look, state_style};

/// Where a service can be looked at: its urls, else its port.
fn places(service: &ServiceReport) -> Vec<String> {
    if service.urls.is_empty() {
        return service.port.map(|port| format!("port {port}")).into_iter().collect();
    }
    service.urls.clone()
}

/// All that have one; a url stands alone on its line's end, so that terminals make a link of it.
pub(crate) fn render(services: &[ServiceReport], look: Look) -> String {
    let rows: Vec<_> = services
        .iter()
        .flat_map(|service| places(service).into_iter().map(move |place| (service, place)))
        .collect();
    if rows.is_empty() {
        return "No service has a url or a port in the config.\n".to_owned();
    }
    let width = rows.iter().map(|(service, _)| columns(&harmless(&service.name))).max().unwrap_or(0);
    let mut out = String::new();
    for (service, place) in rows {
        let name = padded(&harmless(&service.name), width);
        let there = if service.state == State::Running {
            String::new()
        } else {
            look.paint(state_style(&service.state), &format!("  ({})", harmless(service.state.as_str())))
        };
        out.push_str(&format!("{name}  {}{there}\n", harmless(&place)));
        if let Some(text) = service.description.as_ref().filter(|text| !text.is_empty()) {
            let indent = " ".repeat(width + 2);
            out.push_str(&format!("{indent}{}\n", look.paint(DIM, &harmless(text))));
        }
    }
    out
}

/// For programs.
pub(crate) fn as_json(services: &[ServiceReport]) -> Value {
    let one = |service: &ServiceReport| {
        json!({
            "name": service.name, "state": service.state, "urls": service.urls, "port": service.port,
            "description": service.description,
        })
    };
    Value::Array(services.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn urls_and_ports_are_listed_with_what_is_not_running() {
        let service = |name: &str, state: State, urls: &[&str], port| ServiceReport {
            name: name.into(),
            state,
            urls: urls.iter().map(ToString::to_string).collect(),
            port,
            ..ServiceReport::default()
        };
        let services = [
            ServiceReport {
                description: Some("the shop".into()),
                ..service("web", State::Running, &["http://localhost:8080"], Some(8080))
            },
            service("db", State::Crashed, &[], Some(5432)),
            service("worker", State::Running, &[], None),
        ];
        assert_snapshot!(render(&services, Look::PLAIN), @r#"
        web  http://localhost:8080
             the shop
        db   port 5432  (crashed)
        "#);
        assert_snapshot!(render(&services[2..], Look::PLAIN), @r#"
        No service has a url or a port in the config.
        "#);
    }
}
