//! The schema and the reference say what the decoder takes.

use std::collections::BTreeSet;

use crate::common::load_one;

/// The keys that the decoder of a definition knows, from its own mouth: the nearest one to each key of the schema
/// must be itself, that is, the key is not unknown.
fn unknown(definition: &str, wrap: impl Fn(&str) -> String) -> Vec<String> {
    let schema = relume_config::schema();
    let properties = schema["$defs"][definition]["properties"]
        .as_object()
        .unwrap_or_else(|| panic!("{definition}"))
        .clone();
    assert!(!properties.is_empty());
    properties
        .keys()
        .filter(|key| {
            let found = load_one("c.yaml", &wrap(key)).diagnostics;
            found.0.iter().any(|d| d.message.starts_with("unknown key"))
        })
        .cloned()
        .collect()
}

#[test]
fn every_key_of_the_schema_is_known_to_the_decoder() {
    let none = Vec::<String>::new();
    assert_eq!(unknown("Service", |key| format!("services: {{a: {{{key}: x}}}}")), none);
    assert_eq!(unknown("Manager", |key| format!("manager: {{{key}: x}}")), none);
    for (definition, path) in [
        ("Log", "log: {"),
        ("Rotate", "log: {rotate: {"),
        ("Backoff", "backoff: {"),
        ("Probe", "liveness: {"),
        ("Container", "container: {"),
        ("Limits", "limits: {"),
    ] {
        let close = "}".repeat(path.matches('{').count());
        assert_eq!(
            unknown(definition, |key| format!("services: {{a: {{{path}{key}: x{close}}}}}")),
            none,
            "{definition}"
        );
    }
}

#[test]
fn every_key_has_a_description() {
    let schema = relume_config::schema();
    for definition in
        ["Service", "Manager", "Log", "Rotate", "Backoff", "Probe", "Container", "Limits", "Alert", "Api"]
    {
        for (key, property) in schema["$defs"][definition]["properties"].as_object().unwrap() {
            assert!(
                property["description"].as_str().is_some_and(|text| text.len() > 5),
                "{definition}.{key}"
            );
        }
    }
}

#[test]
fn every_reference_of_the_schema_leads_somewhere() {
    fn references(value: &serde_json::Value, all: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(map) => {
                all.extend(map.get("$ref").and_then(|v| v.as_str()).map(str::to_owned));
                map.values().for_each(|value| references(value, all));
            }
            serde_json::Value::Array(list) => list.iter().for_each(|value| references(value, all)),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::String(_) => {}
        }
    }
    let schema = relume_config::schema();
    let mut all = BTreeSet::new();
    references(&schema, &mut all);
    assert!(!all.is_empty());
    for reference in all {
        let name = reference.strip_prefix("#/$defs/").unwrap();
        assert!(schema["$defs"][name].is_object(), "{reference}");
    }
}

#[test]
fn the_reference_lists_every_key_with_its_default_and_other_names() {
    let page = relume_config::reference_markdown();
    let schema = relume_config::schema();
    for definition in ["Service", "Manager"] {
        for (key, property) in schema["$defs"][definition]["properties"].as_object().unwrap() {
            if property.get("x-alias-of").is_none() {
                assert!(page.contains(&format!("| `{key}`")), "{key}");
            }
        }
    }
    assert!(
        page.contains(
            "| `restart_policy` [`restart`, `autorestart`] | `always`; `on-failure` for a oneshot |"
        )
    );
    assert!(page.contains(
        "| `health_check` |  | Readiness and liveness in one: a URL, `tcp://host:port`, or a map. |"
    ));
    assert!(page.contains("| `retry_window` | 5m |"));
}
