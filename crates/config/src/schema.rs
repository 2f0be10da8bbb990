//! The config for editors and for the reference page, from the same types that decode it.

use std::fmt::Write as _;

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::maturity;
use crate::raw::{ALIASES, RawAlert, RawManager, RawService, Scope};

/// The JSON Schema (draft 2020-12) of a config file in JSON, YAML or TOML.
#[must_use]
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let manager = generator.subschema_for::<RawManager>();
    let service = generator.subschema_for::<RawService>();
    let alert = generator.subschema_for::<RawAlert>();
    let mut definitions = definitions(&mut generator);
    aliases(&mut definitions, "Service", Scope::Service);
    aliases(&mut definitions, "Probe", Scope::Probe);
    let list = json!({ "type": "array", "items": service, "description": "Services, each with a `name`." });
    let map =
        json!({ "type": "object", "additionalProperties": service, "description": "Services by name." });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "relume",
        "description": "The config of relume: services, and how they are supervised.",
        "anyOf": [
            list,
            {
                "type": "object",
                "properties": {
                    "manager": manager,
                    "defaults": service,
                    "services": { "anyOf": [map, list, { "type": "null" }] },
                    "include": {
                        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
                        "description": "Other config files, by name or pattern."
                    },
                    "alerts": { "anyOf": [alert, { "type": "array", "items": alert }] }
                },
                "patternProperties": { "^x-": true },
                "additionalProperties": false
            }
        ],
        "$defs": definitions
    })
}

fn definitions(generator: &mut SchemaGenerator) -> Map<String, Value> {
    generator.take_definitions(true)
}

/// Adds the other names of keys beside the ones that the types have.
fn aliases(definitions: &mut Map<String, Value>, name: &str, scope: Scope) {
    let Some(Value::Object(properties)) = definitions.get_mut(name).and_then(|def| def.get_mut("properties"))
    else {
        return;
    };
    for (_, other, canonical) in ALIASES.iter().filter(|(where_, _, _)| *where_ == scope) {
        let Some(Value::Object(mut property)) = properties.get(*canonical).cloned() else { continue };
        property.insert("description".into(), json!(format!("Another name of `{canonical}`.")));
        property.insert("x-alias-of".into(), json!(canonical));
        properties.insert((*other).into(), Value::Object(property));
    }
}

/// The tables of keys for the user's reference, as Markdown.
#[must_use]
pub fn reference_markdown() -> String {
    let schema = schema();
    let mut out = String::new();
    out.push_str("# Config reference\n\nGenerated from the types that read the config. Keys marked *later* are checked, but not acted on by this version.\n");
    for (title, definition, manager, path) in [
        ("Manager settings (`manager:`)", "Manager", true, &[][..]),
        ("Service keys (`services:`, `defaults:`)", "Service", false, &[]),
        ("`backoff:`", "Backoff", false, &["backoff"]),
        ("`log:`", "Log", false, &["log"]),
        ("`log.rotate:`", "Rotate", false, &["log", "rotate"]),
        ("`health_check:`, `startup:`, `readiness:`, `liveness:`", "Probe", false, &["health_check"]),
        ("`container:`", "Container", false, &["container"]),
        ("`limits:`", "Limits", false, &["limits"]),
        ("`sockets:`", "Socket", false, &["sockets"]),
        ("`alerts:`", "Alert", false, &["alerts"]),
    ] {
        let _ = write!(out, "\n## {title}\n\n| key | default | meaning |\n|---|---|---|\n");
        let properties = schema["$defs"][definition]["properties"].as_object();
        for (key, property) in properties.into_iter().flatten() {
            if property.get("x-alias-of").is_none() {
                let whole: Vec<&str> = path.iter().copied().chain([key.as_str()]).collect();
                let later = maturity::is_later(manager, &whole)
                    || path.first().is_some_and(|first| maturity::is_later(manager, &[first]));
                row(&mut out, key, property, definition, later);
            }
        }
    }
    out
}

fn row(out: &mut String, key: &str, property: &Value, definition: &str, later: bool) {
    let scope = match definition {
        "Service" => Some(Scope::Service),
        "Probe" => Some(Scope::Probe),
        _ => None,
    };
    let others: Vec<String> = ALIASES
        .iter()
        .filter(|(where_, _, name)| Some(*where_) == scope && *name == key)
        .map(|(_, other, _)| format!("`{other}`"))
        .collect();
    let others = if others.is_empty() { String::new() } else { format!(" [{}]", others.join(", ")) };
    let later = if later { " *(later)*" } else { "" };
    let default = property["x-default"].as_str().unwrap_or_default();
    let text = property["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
    let _ = writeln!(out, "| `{key}`{others} | {default} | {text}{later} |");
}
