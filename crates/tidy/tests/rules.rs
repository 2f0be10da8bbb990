//! Each rule can fail: it is shown a small made-up tree with the fault, and the nearest tree without.

use relume_tidy::licences::{self, permits};
use relume_tidy::{Package, RULES, Rule, Tree};

type Files<'a> = &'a [(&'a str, &'a str)];

/// The rule whose name begins so finds exactly these places in `bad`, and none in `good`.
#[track_caller]
fn check(name: &str, bad: Files, places: &[&str], good: Files) {
    let rule = rule(name);
    let mut found: Vec<String> = (rule.check)(&Tree::of(bad)).iter().map(ToString::to_string).collect();
    found.sort();
    assert_eq!(found, places, "{name}");
    assert_eq!((rule.check)(&Tree::of(good)), [], "{name}");
}

#[track_caller]
fn rule(name: &str) -> &'static Rule {
    let mut found = RULES.iter().filter(|rule| rule.name.starts_with(name));
    let rule = found.next().unwrap_or_else(|| panic!("there is no rule `{name}`"));
    assert!(found.next().is_none(), "`{name}` begins two rules");
    rule
}

fn lines(count: usize) -> String {
    "// one\n".repeat(count)
}

/// A `//!` essay of enough words.
fn essay() -> String {
    format!("//! {}\n", "word ".repeat(30))
}

#[test]
fn an_arrow_in_the_wrong_direction_is_found() {
    let core = (
        "crates/core/Cargo.toml",
        "[package]\nname = \"relume-core\"\n[dependencies]\nserde.workspace = true\n",
    );
    let os = "[package]\nname = \"relume-os\"\n[dependencies]\n\n[dev-dependencies]\nrelume-core.workspace = true\n";
    let config = "[package]\nname = \"relume-config\"\n[dependencies]\nrelume-core.workspace = true\n";
    check(
        "arrows",
        &[core, ("crates/os/Cargo.toml", os)],
        &["crates/os/Cargo.toml:6: relume-os must not know relume-core"],
        &[core, ("crates/config/Cargo.toml", config)],
    );
}

#[test]
fn an_arrow_for_one_target_alone_is_found() {
    let proto =
        "[package]\nname = \"relume-proto\"\n[target.'cfg(unix)'.dependencies]\nrelume-os.workspace = true\n";
    let os = ("crates/os/Cargo.toml", "[package]\nname = \"relume-os\"\n");
    let bad = [("crates/proto/Cargo.toml", proto), os];
    check("arrows", &bad, &["crates/proto/Cargo.toml:4: relume-proto must not know relume-os"], &[os]);
}

#[test]
fn a_second_dependency_of_the_core_is_found() {
    let root = "#![cfg_attr(not(test), no_std)]\n#![forbid(unsafe_code)]\n";
    let pure = "[dependencies]\nserde.workspace = true\n[dev-dependencies]\nproptest.workspace = true\n";
    let bad = "[dependencies]\nserde = { workspace = true, features = [\"std\"] }\nlibc.workspace = true\n";
    let workspace = "[workspace.dependencies]\nserde = { version = \"1\", features = [\"derive\"] }\n";
    let plain = "[workspace.dependencies]\nserde = { version = \"1\", default-features = false }\n";
    check(
        "the core imports",
        &[
            ("Cargo.toml", workspace),
            ("crates/core/Cargo.toml", bad),
            ("crates/core/src/lib.rs", "// no_std\n"),
        ],
        &[
            "Cargo.toml:2: serde's default features pull in the standard library",
            "crates/core/Cargo.toml:2: serde's feature std is not for the core",
            "crates/core/Cargo.toml:3: the core may not depend on libc",
            "crates/core/src/lib.rs: #![cfg_attr(not(test), no_std)] is missing",
            "crates/core/src/lib.rs: #![forbid(unsafe_code)] is missing",
        ],
        &[("Cargo.toml", plain), ("crates/core/Cargo.toml", pure), ("crates/core/src/lib.rs", root)],
    );
}

#[test]
fn a_dependency_without_a_user_is_found() {
    let workspace = "[workspace.dependencies]\nbytes = \"1\"\nfast-glob = \"1\"\n";
    let member = "[package]\nname = \"a\"\n[dependencies]\nfast-glob.workspace = true\n";
    let bad = [
        ("Cargo.toml", workspace),
        ("crates/a/Cargo.toml", member),
        ("crates/a/src/lib.rs", "use fast_globs;"),
    ];
    let good = "[workspace.dependencies]\nfast-glob = \"1\"\n";
    check(
        "each dependency",
        &bad,
        &[
            "Cargo.toml:2: no crate of ours depends on bytes",
            "crates/a/Cargo.toml:4: no source names fast-glob",
        ],
        &[("Cargo.toml", good), ("crates/a/Cargo.toml", member), ("crates/a/src/lib.rs", "fast_glob::x();")],
    );
}

#[test]
fn a_crate_without_an_opening_is_found() {
    let essay = essay();
    check(
        "each crate opens",
        &[
            ("crates/a/src/lib.rs", "//! Short.\n"),
            ("crates/b/src/main.rs", "fn main() {}\n"),
            ("crates/c/src/bin/x.rs", ""),
        ],
        &[
            "crates/a/src/lib.rs:1: opens with 1 words of `//!`, not 25",
            "crates/b/src/main.rs:1: opens with 0 words of `//!`, not 25",
            "crates/c/src/bin/x.rs:1: opens with 0 words of `//!`, not 1",
        ],
        &[
            ("crates/a/src/lib.rs", &essay),
            ("crates/a/src/main.rs", "//! Runs it.\n"),
            ("crates/a/src/b.rs", ""),
        ],
    );
}

#[test]
fn a_silenced_lint_without_a_reason_is_found() {
    let bad = "\n#[expect(dead_code)]\nfn a() {}\n#[cfg_attr(test, expect(unused))]\nfn b() {}\n";
    let good = "#[expect(\n    dead_code,\n    reason = \"(why)\"\n)]\nfn a() { b.expect(\"c\"); }\n// #[expect(x)]\n";
    let places =
        ["a.rs:2: silences a lint and does not say why", "a.rs:4: silences a lint and does not say why"];
    check("each #[expect", &[("a.rs", bad)], &places, &[("a.rs", good)]);
}

#[test]
fn marks_of_unfinished_work_are_found() {
    let mark = concat!("FIX", "ME");
    let script = format!("# {mark}: later\n");
    let says = format!("b.sh:1: says {mark}");
    check(
        "nothing is marked",
        &[
            ("a.rs", "fn a() {\n    todo!()\n}\nfn b() { dbg!(1); unimplemented!(\"c\") }\n"),
            ("b.sh", &script),
        ],
        &["a.rs:2: calls todo!", "a.rs:4: calls dbg!", "a.rs:4: calls unimplemented!", &says],
        &[("a.rs", "// no todo!() here\nlet todo = 1;\nmktemp(\"a.XXXXXX\");\n")],
    );
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let page = "# One title\n[a](../b.md#x)\n[b](c.md)\n[c](#no)\n[d](../../../etc/passwd)\n";
    let good =
        "# One title\n[a](../b.md#x)\n[b](./)\n[c](#one-title)\n[d](https://example.org/#y)\n`[e](f)`\n";
    check(
        "every link",
        &[("docs/a.md", page), ("b.md", "# Y\n")],
        &[
            "docs/a.md:2: no such heading: ../b.md#x",
            "docs/a.md:3: leads nowhere: c.md",
            "docs/a.md:4: no such heading: #no",
            "docs/a.md:5: leads nowhere: ../../../etc/passwd",
        ],
        &[("docs/a.md", good), ("b.md", "## X\n")],
    );
}

#[test]
fn a_page_that_no_index_names_is_found() {
    let readme = ("README.md", "[docs](docs/user)\n");
    let index = ("docs/user/README.md", "[start](start.md)\n");
    check(
        "every page",
        &[readme, index, ("docs/user/start.md", ""), ("docs/user/lost.md", "[me](lost.md)")],
        &["docs/user/lost.md: no page leads here"],
        &[readme, index, ("docs/user/start.md", "")],
    );
}

#[test]
fn a_path_of_one_machine_is_found() {
    let beginning = concat!("/ho", "me/");
    let bad = format!("x\nrun {beginning}bob/x \n");
    let good = format!("{beginning}u\n$HOME{beginning}bob\n~{beginning}bob\n");
    let found = format!("a.yaml:2: names {beginning}bob/x");
    check("no file names", &[("a.yaml", &bad)], &[&found], &[("a.yaml", &good)]);
}

#[test]
fn a_file_of_more_than_600_lines_is_found() {
    let (long, short) = (lines(601), lines(600));
    let tested = format!("{short}\n#[cfg(test)]\nmod tests {{\n{short}}}\n");
    check(
        "no source file",
        &[("crates/a/src/b.rs", &long)],
        &["crates/a/src/b.rs: 601 lines"],
        &[("crates/a/src/b.rs", &short), ("crates/a/tests/c.rs", &long), ("crates/a/src/d.rs", &lines(500))],
    );
    check("no source file", &[("e.rs", &tested)], &["e.rs: 601 lines"], &[]);
}

#[test]
fn a_static_with_state_is_found() {
    let bad = "static A: &str = \"x\";\npub(crate) static B: AtomicU32 = AtomicU32::new(0);\nstatic mut C: u8 = 0;\n";
    let good = "static A: [u8; 2] = [0; 2];\nfn a(b: &'static Mutex<u8>) {}\n// static mut D\n";
    check(
        "no static",
        &[("crates/core/src/a.rs", bad)],
        &[
            "crates/core/src/a.rs:2: pub(crate) static B: AtomicU32 = AtomicU32::new(0);",
            "crates/core/src/a.rs:3: static mut C: u8 = 0;",
        ],
        &[("crates/core/src/a.rs", good), ("crates/os/src/b.rs", bad), ("crates/core/tests/c.rs", bad)],
    );
}

#[test]
fn a_test_without_a_sentence_is_found() {
    let good =
        "#[test]\nfn it_keeps_running() {}\n/// One plain sentence.\n#[test]\nfn r29() {}\nfn helper() {}\n";
    let bad = "#[test]\nfn test_it() {}\n";
    check("each test is", &[("a.rs", bad)], &["a.rs:2: `test_it` is no sentence"], &[("a.rs", good)]);
}

#[test]
fn unsafe_code_outside_of_os_is_found() {
    let bad = "fn a() {\n    unsafe { b() }\n}\n";
    let good = "#![forbid(unsafe_code)]\n// unsafe\nlet a = \"unsafe\";\n";
    check(
        "unsafe is written",
        &[("crates/relume/src/a.rs", bad)],
        &["crates/relume/src/a.rs:2: unsafe code"],
        &[("crates/relume/src/a.rs", good), ("crates/os/src/a.rs", bad)],
    );
}

#[test]
fn a_licence_expression_is_read_with_its_brackets() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"];
    for good in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/GPL-2.0",
        "(MIT OR GPL-3.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(permits(good, &allowed), "{good}");
    }
    for bad in
        ["", "GPL-3.0", "MIT AND GPL-3.0", "MIT OR", "(MIT", "MIT)", "(MIT OR BSD) AND GPL", "MIT WITH x"]
    {
        assert!(!permits(bad, &allowed), "{bad}");
    }
}

#[test]
fn a_package_with_other_terms_or_from_elsewhere_is_found() {
    let deny = "[licenses]\nallow = [\"MIT\"]\n[sources]\nallow-registry = [\"https://r\"]\n[bans]\ndeny = [{ name = \"d\" }]\n";
    let package = |name: &str, licence: Option<&str>, source: Option<&str>| Package {
        name: name.into(),
        version: "1.0.0".into(),
        licence: licence.map(Into::into),
        source: source.map(Into::into),
    };
    let registry = Some("registry+https://r");
    let all = [
        package("ours", Some("MIT"), None),
        package("good", Some("MIT OR GPL-3.0"), registry),
        package("a", Some("GPL-3.0"), registry),
        package("b", None, registry),
        package("c", Some("MIT"), Some("git+https://r/c")),
        package("d", Some("MIT"), registry),
    ];
    let found: Vec<String> = licences::check(deny, &all).iter().map(ToString::to_string).collect();
    let expected = [
        "deny.toml:2: a 1.0.0: its licence is GPL-3.0",
        "deny.toml:2: b 1.0.0: declares no licence",
        "deny.toml:4: c 1.0.0: comes from git+https://r/c",
        "deny.toml:6: d 1.0.0: is banned",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_complaint_says_what_where_why_and_what_to_do() {
    let tree = Tree::of(&[("crates/a/src/b.rs", "unsafe {}")]);
    let text = rule("unsafe is written").complaint(&tree).unwrap();
    for part in ["Not so: unsafe", "crates/a/src/b.rs:1: ", "Why: ", "What to do: "] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(rule("unsafe is written").complaint(&Tree::default()), None);
}

#[test]
fn every_rule_is_shown_to_fail() {
    let source = include_str!("rules.rs");
    let shown: Vec<&str> = source.split("check(").skip(1).filter_map(|rest| rest.split('"').nth(1)).collect();
    for rule in RULES {
        assert!(
            shown.iter().any(|name| rule.name.starts_with(name)),
            "no test shows a fault of: {}",
            rule.name
        );
    }
}
