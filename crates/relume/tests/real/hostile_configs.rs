//! Configs that nobody should write, by the hundreds (scorecard R38 and R40): relume never crashes, never takes
//! long, never fills the memory, and says file, line and column.
//!
//! Each is a file of its own and read by a `relume check` of its own, with 512 MB of address space.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{CWD, FileType, mknodat};
use serde_json::{Value, json};

use crate::harness::fixture;

/// Address space for one check, in bytes.
const ADDRESS_SPACE: u64 = 512 << 20;
/// Memory that one check may use, in KiB.
const MOST_RSS: u64 = 256 << 10;
/// Two seconds are what is promised of a machine that does nothing else: so much of a processor may be used. Ten times that, as the
/// machine that runs the tests may be slow, and the build is not an optimised one.
const MOST_CPU_MS: u64 = 20_000;
/// What others leave of the processor is up to them. Whoever waits for something, and so uses nothing, is found by this.
const MOST_MS: u64 = 120_000;
/// How many are at it side by side.
const AT_ONCE: usize = 4;

/// What must come of a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Refused, with a place.
    Refused,
    /// Odd, and fine.
    Fine,
    /// Either; a refusal has a place.
    Either,
}

struct Case {
    name: String,
    /// Behind the dot.
    format: &'static str,
    bytes: Vec<u8>,
    wanted: Wanted,
    /// Must be among the words of the message.
    word: &'static str,
}

#[derive(Default)]
struct Corpus(Vec<Case>);

impl Corpus {
    fn add(&mut self, name: &str, format: &'static str, bytes: impl Into<Vec<u8>>, wanted: Wanted) {
        self.push(Case { name: name.to_owned(), format, bytes: bytes.into(), wanted, word: "" });
    }

    /// Refused, with this word in the message.
    fn add_word(&mut self, name: &str, format: &'static str, text: &str, word: &'static str) {
        self.push(Case { name: name.to_owned(), format, bytes: text.into(), wanted: Wanted::Refused, word });
    }

    fn push(&mut self, case: Case) {
        self.0.push(Case { name: format!("{:03}-{}", self.0.len(), case.name), ..case });
    }
}

/// A good config in each format.
const GOOD: [(&str, &str); 4] = [
    (
        "json",
        "{\n  \"services\": {\n    \"web\": {\"command\": \"sleep 1\", \"max_retries\": 3},\n    \"db\": {\"command\": [\"sleep\", \"2\"]}\n  }\n}\n",
    ),
    (
        "yaml",
        "services:\n  web:\n    command: sleep 1\n    max_retries: 3\n  db:\n    command: [sleep, '2']\n",
    ),
    (
        "toml",
        "[services.web]\ncommand = \"sleep 1\"\nmax_retries = 3\n\n[services.db]\ncommand = [\"sleep\", \"2\"]\n",
    ),
    ("ini", "[service web]\ncommand = sleep 1\nmax_retries = 3\n\n[service db]\ncommand = sleep 2\n"),
];

/// The whole in another encoding, with marks, with other line ends, cut off, with a byte too many.
fn encodings(corpus: &mut Corpus) {
    for (format, text) in GOOD {
        corpus.add("good", format, text, Wanted::Fine);
        corpus.add("bom", format, [b"\xef\xbb\xbf", text.as_bytes()].concat(), Wanted::Fine);
        corpus.add("crlf", format, text.replace('\n', "\r\n"), Wanted::Fine);
        corpus.add("cr-alone", format, text.replace('\n', "\r"), Wanted::Either);
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        corpus.add("utf-16-le", format, [b"\xff\xfe", little.as_slice()].concat(), Wanted::Refused);
        corpus.add("utf-16-be", format, [b"\xfe\xff", big.as_slice()].concat(), Wanted::Refused);
        corpus.add("utf-16-without-mark", format, little, Wanted::Refused);
        corpus.add("latin-1", format, [text.as_bytes(), b"\n# caf\xe9\n"].concat(), Wanted::Refused);
        corpus.add("nul-at-the-end", format, [text.as_bytes(), b"\0"].concat(), Wanted::Refused);
        corpus.add("nul-inside", format, text.replacen("web", "w\0b", 1), Wanted::Refused);
        corpus.add("empty", format, "", Wanted::Either);
        corpus.add("blanks", format, " \n\t\n   \n", Wanted::Either);
        corpus.add("noise", format, noise(4096), Wanted::Refused);
        for at in (1..text.len()).step_by(text.len() / 12) {
            corpus.add(&format!("cut-at-{at}"), format, &text[..at], Wanted::Either);
        }
        for at in (0..text.len()).step_by(text.len() / 8) {
            for byte in [b'{', b'"', b':', b'\x1b', b'\x80'] {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] = byte;
                corpus.add(&format!("byte-{byte:02x}-at-{at}"), format, bytes, Wanted::Either);
            }
        }
    }
}

/// The same bytes each time (xorshift64, Marsaglia 2003).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// A hundred thousand levels of something.
fn depths(corpus: &mut Corpus) {
    let deep = 100_000;
    corpus.add("deep-lists", "json", "[".repeat(deep), Wanted::Refused);
    corpus.add("deep-maps", "json", "{\"a\":".repeat(deep), Wanted::Refused);
    corpus.add("deep-closed", "json", "[".repeat(deep) + &"]".repeat(deep), Wanted::Refused);
    corpus.add("deep-flow", "yaml", "[".repeat(deep), Wanted::Refused);
    corpus.add("deep-flow-maps", "yaml", "{a: ".repeat(deep), Wanted::Refused);
    corpus.add("deep-dashes", "yaml", "- ".repeat(deep), Wanted::Refused);
    corpus.add("deep-lists", "toml", format!("a = {}", "[".repeat(deep)), Wanted::Refused);
    corpus.add("deep-tables", "toml", format!("a = {}", "{a=".repeat(deep)), Wanted::Refused);
    corpus.add("deep-dots", "toml", format!("a{} = 1", ".a".repeat(deep)), Wanted::Refused);
    corpus.add("deep-header", "toml", format!("[a{}]", ".a".repeat(deep)), Wanted::Refused);
    corpus.add("deep-dots", "ini", format!("[service web]\na{} = 1", ".a".repeat(deep)), Wanted::Refused);
    corpus.add("many-anchors", "yaml", "a: &a [1]\n".repeat(deep), Wanted::Refused);
    corpus.add("keys-in-keys", "yaml", "? ".repeat(deep), Wanted::Refused);
}

/// Far too much of something.
fn sizes(corpus: &mut Corpus) {
    for (format, start) in [
        ("json", "{\"services\": {}, \"x\": \""),
        ("yaml", "x: \""),
        ("toml", "x = \""),
        ("ini", "[service x]\ncommand = "),
    ] {
        let big = [start.as_bytes(), vec![b'a'; 50 << 20].as_slice()].concat();
        corpus.add("50-mb", format, big, Wanted::Refused);
        let long = [start.as_bytes(), vec![b'a'; 15 << 20].as_slice()].concat();
        corpus.add(
            "15-mb-line-that-does-not-end",
            format,
            long,
            if format == "ini" { Wanted::Either } else { Wanted::Refused },
        );
        corpus.add("many-lines", format, "x\n".repeat(1 << 20), Wanted::Refused);
    }
}

/// Little text that means much.
fn bombs(corpus: &mut Corpus) {
    let deep = 100_000;
    corpus.add("aliases", "yaml", bomb(), Wanted::Refused);
    corpus.add("alias-of-itself", "yaml", "a: &a [*a]\nservices: {}\n", Wanted::Refused);
    corpus.add("merge-bomb", "yaml", bomb().replace("- *", "<<: *"), Wanted::Refused);
    corpus.add("many-documents", "yaml", "---\nservices: {}\n".repeat(100_000), Wanted::Refused);
    corpus.add("tags", "yaml", "services: !!python/object/apply:os.system ['id']\n", Wanted::Refused);
    corpus.add(
        "hundred-thousand-services",
        "yaml",
        (0..100_000).fold("services:\n".to_owned(), |all, n| all + &format!("  s{n}: {{command: x}}\n")),
        Wanted::Refused,
    );
    corpus.add(
        "instances",
        "yaml",
        "services: {web: {command: x, instances: 4000000000}}\n",
        Wanted::Refused,
    );
    corpus.add(
        "long-default",
        "yaml",
        format!(
            "defaults: {{environment: {{A: {}}}}}\nservices:\n{}",
            "x".repeat(1 << 20),
            (0..10_000).map(|n| format!("  s{n}: {{command: x}}\n")).collect::<String>()
        ),
        Wanted::Refused,
    );
    corpus.add(
        "variables-in-variables",
        "yaml",
        "services: {web: {command: x, environment: {A: '${A:-${A:-${A:-${A:-x}}}}'}}}\n",
        Wanted::Either,
    );
    corpus.add(
        "variables-without-end",
        "yaml",
        format!("services: {{web: {{command: '{}'}}}}\n", "${A:-".repeat(deep)),
        Wanted::Either,
    );
    corpus.add(
        "quotes-without-end",
        "yaml",
        format!("services: {{web: {{command: \"{}\"}}}}\n", "\\\"".repeat(deep)),
        Wanted::Either,
    );
    corpus.add(
        "huge-numbers",
        "json",
        format!(
            "{{\"services\": {{\"web\": {{\"command\": \"x\", \"max_retries\": {}}}}}}}",
            "9".repeat(deep)
        ),
        Wanted::Refused,
    );
    corpus.add("long-cycle", "yaml", ring(5000), Wanted::Refused);
    corpus.add("long-chain", "yaml", ring(5000).replacen("[s4999]", "[]", 1), Wanted::Fine);
}

/// Nine times nine times nine …
fn bomb() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        text += &format!("a{level}: &a{level}\n{}", format!("  - *a{}\n", level - 1).repeat(9));
    }
    text + "services: *a29\n"
}

/// Each depends on the one before, the first on the last.
fn ring(length: usize) -> String {
    (0..length).fold("services:\n".to_owned(), |all, n| {
        all + &format!("  s{n}: {{command: x, dependencies: [s{}]}}\n", (n + length - 1) % length)
    })
}

/// What does not fit together.
fn contradictions(corpus: &mut Corpus) {
    let yaml = [
        (
            "cycle",
            "services: {a: {command: x, dependencies: [b]}, b: {command: x, dependencies: [a]}}\n",
            "a → b",
        ),
        ("itself", "services: {a: {command: x, dependencies: [a]}}\n", "a → a"),
        ("missing", "services: {a: {command: x, dependencies: [c]}}\n", "c"),
        ("twice", "services:\n  web: {command: x}\n  web: {command: y}\n", "web"),
        ("twice-in-a-list", "services:\n- {name: web, command: x}\n- {name: web, command: y}\n", "web"),
        (
            "instance-of-another",
            "services:\n  web: {command: x, instances: 2}\n  'web:1': {command: y}\n",
            "web",
        ),
        ("key-twice", "services:\n  web:\n    command: x\n    command: y\n", "command"),
        ("unknown-key", "services:\n  web: {command: x, comand: y}\n", "command"),
        ("unknown-top", "servces:\n  web: {command: x}\n", "services"),
        ("unknown-manager", "manager: {loglevel: x}\nservices: {}\n", "log_level"),
        ("no-command", "services: {web: {}}\n", "command"),
        ("nothing", "services: {web: }\n", "web"),
        ("tab", "services:\n\tweb: {command: x}\n", ""),
        (
            "two-display-names",
            "services: {a: {command: x, display_name: z}, b: {command: x, display_name: z}}\n",
            "z",
        ),
        (
            "undefined",
            "services: {a: {command: x, working_dir: '${SURELY_NOT_DEFINED}'}}\n",
            "SURELY_NOT_DEFINED",
        ),
        ("odd-user", "services: {a: {command: x, user: 0day}}\n", "0day"),
        ("odd-user-number", "services: {a: {command: x, user: '0x0'}}\n", "0x0"),
        ("minus-user", "services: {a: {command: x, user: -1}}\n", "user"),
    ];
    for (name, text, word) in yaml {
        corpus.add_word(name, "yaml", text, word);
    }
    corpus.add_word(
        "twice",
        "json",
        "{\"services\": {\"web\": {\"command\": \"x\"}, \"web\": {\"command\": \"y\"}}}",
        "web",
    );
    corpus.add_word("twice", "toml", "[services.web]\ncommand = 'x'\n[services.web]\ncommand = 'y'\n", "web");
    corpus.add_word("twice", "ini", "[service web]\ncommand = x\n[service web]\ncommand = y\n", "web");
    corpus.add("comment-bomb", "json", "/*".repeat(100_000), Wanted::Refused);
}

/// Every kind of value for keys that want another one.
fn types(corpus: &mut Corpus) {
    let keys = [
        "command",
        "type",
        "working_dir",
        "environment",
        "env_file",
        "umask",
        "nice",
        "rlimits",
        "autostart",
        "restart_policy",
        "success_exit_codes",
        "max_retries",
        "retry_window",
        "retry_delay",
        "backoff",
        "stable_after",
        "when_exhausted",
        "dependencies",
        "timeout_start",
        "timeout_stop",
        "stop_signal",
        "log",
        "instances",
        "groups",
    ];
    let values =
        [json!({"odd": {"odd": []}}), json!([[[]]]), json!(-1), json!(1e308), json!("\u{202e}\u{1b}[2J")];
    for key in keys {
        for value in &values {
            let mut service = json!({"command": "x"});
            service[key] = value.clone();
            let config = json!({"services": {"web": service}}).to_string();
            // A name of a group or folder may be almost anything, and -1 restarts are unlimited to many.
            let free = ["command", "working_dir", "env_file", "groups", "environment", "nice", "max_retries"]
                .contains(&key);
            corpus.add(
                &format!("{key}-odd"),
                "json",
                config,
                if free { Wanted::Either } else { Wanted::Refused },
            );
        }
    }
}

/// Names of services that mean something to somebody else.
const NAMES: [&str; 20] = [
    "../x",
    "a/b",
    ".",
    "..",
    "",
    " ",
    "new\nline",
    "\u{1b}[31mred",
    "\u{202e}evil",
    "\u{200f}x",
    "-rf",
    "--all",
    "%(x)s",
    "$(id)",
    "`id`",
    "a b",
    "a;b",
    "c\u{0}d",
    "*",
    "a:b",
];

fn names(corpus: &mut Corpus) {
    let long = "x".repeat(300);
    for name in NAMES.into_iter().chain([long.as_str()]) {
        let quoted = json!(name).to_string();
        corpus.add(
            "name",
            "json",
            format!("{{\"services\": {{{quoted}: {{\"command\": \"x\"}}}}}}"),
            Wanted::Refused,
        );
        corpus.add("name", "json", format!("[{{\"name\": {quoted}, \"command\": \"x\"}}]"), Wanted::Refused);
        corpus.add("name", "yaml", format!("services:\n  {quoted}: {{command: x}}\n"), Wanted::Refused);
        corpus.add("name", "toml", format!("[services.{quoted}]\ncommand = 'x'\n"), Wanted::Refused);
        corpus.add("name", "ini", format!("[service {name}]\ncommand = x\n"), Wanted::Refused);
    }
}

/// What one `relume check` has come to.
struct Outcome {
    said: String,
    measured: Value,
}

fn check(program: &str, config: &Path) -> Outcome {
    let output = Command::new(program)
        .arg(ADDRESS_SPACE.to_string())
        .arg(env!("CARGO_BIN_EXE_relume"))
        .args(["check", "--config"])
        .arg(config)
        .env_remove("RELUME_CONFIG")
        .output()
        .unwrap();
    let all = String::from_utf8_lossy(&output.stdout).into_owned();
    let (said, last) = all.trim_end().rsplit_once('\n').unwrap_or(("", all.trim_end()));
    let measured = serde_json::from_str(last).unwrap_or_else(|error| panic!("{config:?}: {error}: {all}"));
    Outcome { said: said.to_owned(), measured }
}

/// Whether `FILE:LINE:COLUMN` of a file in this folder is said.
fn has_place(said: &str, folder: &Path) -> bool {
    let folder = folder.to_str().unwrap();
    said.match_indices(folder).any(|(at, _)| {
        let rest = said[at + folder.len()..].split([' ', '\n']).next().unwrap_or_default();
        let mut parts = rest.trim_end_matches(':').rsplit(':');
        let number = |part: Option<&str>| part.is_some_and(|part| part.parse::<u32>().is_ok_and(|n| n > 0));
        number(parts.next()) && number(parts.next()) && parts.next().is_some()
    })
}

/// What is wrong with this outcome, if something is.
fn verdict(case: &Case, outcome: &Outcome, folder: &Path) -> Option<String> {
    let measured = |key: &str| outcome.measured[key].as_u64();
    let refused = match measured("code") {
        Some(0) => false,
        Some(2) => true,
        _ => return Some(format!("crashed: {}", outcome.measured)),
    };
    let most = [("ms", MOST_MS), ("cpu_ms", MOST_CPU_MS), ("max_rss_kib", MOST_RSS)];
    if most.iter().any(|(key, most)| measured(key).is_none_or(|used| used > *most)) {
        return Some(format!("took too much: {}", outcome.measured));
    }
    if (case.wanted == Wanted::Refused && !refused) || (case.wanted == Wanted::Fine && refused) {
        return Some(format!("{:?} was wanted", case.wanted));
    }
    if refused && !has_place(&outcome.said, folder) {
        return Some("no file:line:column".to_owned());
    }
    if !outcome.said.contains(case.word) {
        return Some(format!("{:?} is missing", case.word));
    }
    let raw = outcome.said.chars().any(|c| (c.is_control() && c != '\n') || "\u{202e}\u{200f}".contains(c));
    raw.then(|| "what could upset a terminal is printed as it is".to_owned())
}

/// Checks them all; what is wrong.
fn run(cases: &[(Case, PathBuf)], folder: &Path) -> Vec<String> {
    let program = fixture("measures");
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(vec![]);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((case, path)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = check(&program, path);
                    if let Some(verdict) = verdict(case, &outcome, folder) {
                        let said: String = outcome.said.chars().take(600).collect();
                        wrong.lock().unwrap().push(format!("{}: {verdict}\n{said:?}", path.display()));
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

/// Shown to fail: see the next test for each of its ways.
#[test]
fn hundreds_of_hostile_configs_are_answered_with_a_place_in_time_and_within_memory() {
    let mut corpus = Corpus::default();
    encodings(&mut corpus);
    depths(&mut corpus);
    sizes(&mut corpus);
    bombs(&mut corpus);
    contradictions(&mut corpus);
    types(&mut corpus);
    names(&mut corpus);
    assert!(corpus.0.len() >= 300, "{}", corpus.0.len());
    let folder = tempfile::tempdir().unwrap();
    let write = |case: Case| {
        let path = folder.path().join(format!("{}.{}", case.name, case.format));
        fs::write(&path, &case.bytes).unwrap();
        (Case { bytes: vec![], ..case }, path)
    };
    let cases: Vec<_> = corpus.0.into_iter().map(write).collect();
    let wrong = run(&cases, folder.path());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn a_crash_a_missing_place_a_wrong_answer_and_a_raw_escape_are_found() {
    let folder = Path::new("/etc/made-up");
    let case = |wanted| Case { name: String::new(), format: "json", bytes: vec![], wanted, word: "key" };
    let fine = json!({"code": 2, "signal": null, "ms": 5, "cpu_ms": 4, "max_rss_kib": 9000});
    let with = |key: &str, value: Value| {
        let mut measured = fine.clone();
        measured[key] = value;
        measured
    };
    let told = |said: &str, measured: &Value| {
        verdict(&case(Wanted::Refused), &Outcome { said: said.into(), measured: measured.clone() }, folder)
    };
    let good = "error: key\n --> /etc/made-up/a.json:3:7\n";
    assert_eq!(told(good, &fine), None);
    for (key, value, what) in [
        ("code", Value::Null, "a signal"),
        ("code", json!(101), "a panic"),
        ("ms", json!(120_001), "too long"),
        ("cpu_ms", json!(20_001), "too busy"),
        ("max_rss_kib", json!(262_145), "too much"),
        ("max_rss_kib", Value::Null, "not measured"),
        ("code", json!(0), "accepted"),
    ] {
        assert!(told(good, &with(key, value)).is_some(), "{what}");
    }
    assert!(told("error: key in /etc/made-up/a.json\n", &fine).is_some(), "no place");
    assert!(told("error\n --> /etc/made-up/a.json:3:7\n", &fine).is_some(), "the key is not named");
    assert!(told("key \u{1b}[2J /etc/made-up/a.json:3:7\n", &fine).is_some(), "a raw escape");
}

/// Shown to fail: a reader that takes everything that can be opened for a file accepts the FIFO.
#[test]
fn an_include_of_a_fifo_a_folder_itself_or_a_device_is_refused_with_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    mknodat(CWD, path("fifo.yaml"), FileType::Fifo, 0o600.into(), 0).unwrap();
    fs::create_dir(path("folder.yaml")).unwrap();
    std::os::unix::fs::symlink(path("turning.yaml"), path("turning.yaml")).unwrap();
    fs::write(path("there.yaml"), "include: [back.yaml]\nservices: {}\n").unwrap();
    let includes = [
        ("fifo", "fifo.yaml"),
        ("folder", "folder.yaml"),
        ("self", "000-self.yaml"),
        ("back", "there.yaml"),
        ("zero", "/dev/zero"),
        ("missing", "missing.yaml"),
        ("turning", "turning.yaml"),
        ("mem", "/proc/self/mem"),
        ("name", "nul\\0l.yaml"),
    ];
    let mut cases = vec![];
    for (name, included) in includes {
        let file = if name == "back" { path("back.yaml") } else { path(&format!("000-{name}.yaml")) };
        fs::write(&file, format!("include: [\"{included}\"]\nservices: {{}}\n")).unwrap();
        // A folder of configs, itself and one that was included already may be meant.
        let wanted =
            if ["folder", "self", "back"].contains(&name) { Wanted::Either } else { Wanted::Refused };
        cases.push((Case { name: name.into(), format: "yaml", bytes: vec![], wanted, word: "" }, file));
    }
    let wrong = run(&cases, folder.path());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
