//! Input that nobody means well with: an answer in bounded time, never a crash.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::common::{Memory, lines, load_with};

fn findings(name: &str, bytes: Vec<u8>) -> Vec<String> {
    let mut files = Memory::default();
    files.0.insert(std::path::Path::new("/w").join(name), bytes);
    let started = Instant::now();
    let loaded = load_with(&files, &[name], &[]);
    // Two seconds are promised for an optimised build on an idle machine; tests run with neither.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let _ = loaded.diagnostics.render(true);
    lines(&loaded.diagnostics)
}

#[test]
fn encodings_that_are_not_utf8_have_a_place() {
    for name in ["c.yaml", "c.json", "c.toml", "c.ini"] {
        let utf16: Vec<u8> = [0xff, 0xfe]
            .into_iter()
            .chain("services: {}".encode_utf16().flat_map(u16::to_le_bytes))
            .collect();
        assert_eq!(findings(name, utf16), [format!("{name}:1:1: error: the file is UTF-16, not UTF-8")]);
        let bare: Vec<u8> = "ab".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(
            findings(name, bare),
            [format!("{name}:1:2: error: the file has NUL bytes; is it UTF-16?")]
        );
        assert_eq!(
            findings(name, b"# a\n# \0b\n".to_vec()),
            [format!("{name}:2:3: error: the file has a NUL byte")]
        );
        let latin = b"# a\n# \xc3\xa9 \xe9\n".to_vec();
        assert_eq!(
            findings(name, latin),
            [format!("{name}:2:5: error: the file is not UTF-8: byte 0xe9 cannot stand here")]
        );
    }
}

#[test]
fn a_bomb_of_aliases_is_a_message() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..30 {
        let before = format!("*a{}", n - 1);
        text.push_str(&format!("a{n}: &a{n} [{}]\n", [before.as_str(); 9].join(", ")));
    }
    let found = findings("c.yaml", text.into_bytes());
    assert!(
        found.len() == 1 && found[0].ends_with("error: the config has more than 500000 values"),
        "{found:?}"
    );
    let merge = "x-a: &a {b: &b {<<: *a}}\n";
    let found = findings("c.yaml", merge.into());
    assert_eq!(found, ["c.yaml:1:21: error: this alias stands inside the value it refers to"]);
}

#[test]
fn nesting_without_end_is_a_message() {
    let deep = 100_000;
    let json = "[".repeat(deep);
    for (name, text) in [
        ("c.json", json.clone() + &"]".repeat(deep)),
        ("c.json", "{\"a\":".repeat(deep)),
        ("c.yaml", json.clone() + &"]".repeat(deep)),
        ("c.yaml", "{a: ".repeat(deep)),
        ("c.yaml", (0..5_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect()),
        ("c.yaml", "- ".repeat(deep)),
        ("c.yaml", "&a ".repeat(deep)),
        ("c.toml", format!("a = {json}")),
        ("c.toml", "a.".repeat(deep) + "b = 1"),
        ("c.toml", format!("[{}b]", "a.".repeat(deep))),
        ("c.toml", "a = {b = ".repeat(deep)),
        ("c.ini", format!("[service a]\n{}b = 1\n", "a.".repeat(deep))),
        ("c.ini", json.clone()),
    ] {
        let found = findings(name, text.into_bytes());
        assert!(found.iter().any(|line| line.contains(": error: ")), "{name} {found:?}");
    }
}

#[test]
fn what_is_too_large_is_a_message() {
    let big = 50 << 20;
    for name in ["c.yaml", "c.json", "c.toml", "c.ini"] {
        let found = findings(name, vec![b'a'; big]);
        assert_eq!(found, [format!("{name}:1:1: error: cannot read the config: it is too large")]);
    }
    let limit = 4 << 20;
    for (name, unit) in [
        ("c.json", "[],"),
        ("c.yaml", "- a\n"),
        ("c.yaml", "\"x\" "),
        ("c.toml", "[[a]]\n"),
        ("c.toml", "a=1\n"),
        ("c.ini", "a=1\n"),
        ("c.ini", "x\n"),
    ] {
        let text = unit.repeat(limit / unit.len());
        let text = if unit == "[]," { format!("[{text}[]]") } else { text };
        let found = findings(name, text.into_bytes());
        assert!(!found.is_empty() && found.len() <= 101, "{name} {unit} {}", found.len());
    }
}

#[test]
fn a_long_default_times_many_services_is_a_message() {
    let services: String = (0..5_000).map(|n| format!("  s{n}: {{command: x}}\n")).collect();
    let found = |head: &str| {
        let found = findings("c.yaml", format!("{head}services:\n{services}").into_bytes());
        assert_eq!(found.len(), 1, "{head} {found:?}");
        found[0].split_once("error: ").unwrap().1.to_owned()
    };
    let full = "up to here the services take more than 64 MiB, with their defaults and instances";
    assert_eq!(found(&format!("defaults: {{description: {}}}\n", "x".repeat(1 << 20))), full);
    assert_eq!(found(&format!("defaults: {{groups: [{}]}}\n", "a,".repeat(100_000))), full);
    assert_eq!(
        found("defaults: {instances: 10000}\n"),
        "there are more than 32768 services, instances counted"
    );
    assert_eq!(found("defaults: {instances: 7}\n"), "there are more than 32768 services, instances counted");

    let mut files =
        Memory::with(&[("c.yaml", &format!("manager: {{env_file: m.env}}\nservices:\n{services}"))]);
    files.0.insert("/w/m.env".into(), format!("A={}\n", "x".repeat(1 << 20)).into_bytes());
    let found = lines(&load_with(&files, &["c.yaml"], &[]).diagnostics);
    assert!(found[0].ends_with(full), "{found:?}");
}

#[test]
fn a_text_of_comments_alone_is_an_empty_config() {
    assert_eq!(findings("c.json", "/* */".repeat(800_000).into_bytes()), Vec::<String>::new());
}

#[test]
fn a_long_line_is_shown_in_part() {
    let text = format!(
        "[{{\"name\": \"a\", \"x\": \"{}\", \"command\": 5, \"y\": \"{}\"}}]",
        "é".repeat(50_000),
        "b".repeat(50_000)
    );
    let files = Memory::with(&[("c.json", &text)]);
    let loaded = load_with(&files, &["c.json"], &[]);
    assert_eq!(loaded.diagnostics.0.len(), 3);
    assert!(loaded.diagnostics.render(false).len() < 3_000);
}

#[test]
fn not_more_errors_are_shown_than_anybody_reads() {
    let text: String = "services:\n"
        .chars()
        .chain((0..3_000).flat_map(|n| format!("  s{n}: {{comand: x}}\n").chars().collect::<Vec<_>>()))
        .collect();
    let found = findings("c.yaml", text.into_bytes());
    assert_eq!(found.len(), 100);
}

#[test]
fn ten_thousand_services_load() {
    let text: String = "services:\n".to_owned()
        + &(0..10_000).map(|n| format!("  s{n}:\n    command: /bin/s --n {n}\n    port: {}\n    environment: {{A: b}}\n    dependencies: [s{}]\n", n % 60_000 + 1, if n == 0 { 1 } else { 0 }))
            .collect::<String>();
    let found = findings("c.yaml", text.replacen("dependencies: [s1]", "nice: 0", 1).into_bytes());
    assert_eq!(found, Vec::<String>::new());
}

/// Words that mean something to one parser or another.
const WORDS: [&str; 56] = [
    "services",
    "manager",
    "defaults",
    "include",
    "command",
    "environment",
    "env_file",
    "dependencies",
    "log",
    "rotate",
    "instances",
    "restart",
    "name",
    "a",
    ":",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "\n    ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "=",
    "\"",
    "'",
    "&x ",
    "*x",
    "<<",
    "${",
    "}",
    "$$",
    ":-",
    "# ",
    "; ",
    "\\",
    "|\n",
    "!!str ",
    "0",
    "-1",
    "1e9",
    "off",
    "5s",
    "\u{feff}",
    "é",
    "\t",
    "\r\n",
    "~",
    "true",
    "\u{0}",
    "[service a]\n",
    "[relume]\n",
    "[services.a]\n",
    "type",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), format in 0usize..4) {
        findings(["c.yaml", "c.json", "c.toml", "c.ini"][format], bytes);
    }

    #[test]
    fn no_mixture_of_words_panics(words in prop::collection::vec(0usize..WORDS.len(), 0..40), format in 0usize..4) {
        let text: String = words.iter().map(|at| WORDS[*at]).collect();
        findings(["c.yaml", "c.json", "c.toml", "c.ini"][format], text.into_bytes());
    }

    #[test]
    fn no_value_of_a_key_panics(key in 0usize..64, word in "\\PC{0,12}", list in any::<bool>()) {
        let schema = relume_config::schema();
        let keys: Vec<&String> = schema["$defs"]["Service"]["properties"].as_object().unwrap().keys().collect();
        let key = keys[key % keys.len()];
        let value = if list { serde_json::json!([word]) } else { serde_json::json!(word) };
        let text = serde_json::json!({"services": {"a": {key: value, "description": "x"}}}).to_string();
        findings("c.json", text.into_bytes());
    }
}
