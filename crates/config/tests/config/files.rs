//! Several files: includes, directories, files of variables.

use crate::common::{Memory, lines, load_with};

fn names(files: &Memory, paths: &[&str]) -> Vec<String> {
    let loaded = load_with(files, paths, &[]);
    assert_eq!(lines(&loaded.diagnostics), Vec::<String>::new());
    loaded.config.services.iter().map(|s| s.spec.name.to_string()).collect()
}

fn found(files: &Memory, paths: &[&str]) -> Vec<String> {
    lines(&load_with(files, paths, &[]).diagnostics)
}

/// Shown to fail: with maps that replace each other as a whole.
#[test]
fn defaults_reach_the_includes_and_paths_belong_to_their_file() {
    let files = Memory::with(&[
        (
            "main.yaml",
            "include: [conf.d/*.yaml]\ndefaults: {nice: 1, umask: 22, working_dir: base, environment: {A: '1', B: '1'}}\nservices: {m: {command: x}}\n",
        ),
        (
            "conf.d/a.yaml",
            "defaults: {nice: 2, environment: {B: '2'}}\nservices: {a: {command: x, working_dir: here, environment: [C=3]}}\n",
        ),
        ("conf.d/b.yaml", "services: {b: {command: x, umask: ~}}\n"),
        ("conf.d/.hidden.yaml", "services: {h: {command: x}}\n"),
    ]);
    assert_eq!(names(&files, &["main.yaml"]), ["m", "a", "b"]);
    let config = load_with(&files, &["main.yaml"], &[]).config;
    let [m, a, b] = &config.services[..] else { panic!("three") };
    assert_eq!((m.launch.how.nice, a.launch.how.nice, b.launch.how.nice), (Some(1), Some(2), Some(1)));
    assert_eq!((a.launch.how.umask, b.launch.how.umask), (Some(0o22), None), "null unsets a default");
    assert_eq!(a.launch.how.working_dir.to_str(), Some("/w/conf.d/here"));
    assert_eq!(
        b.launch.how.working_dir.to_str(),
        Some("/w/base"),
        "a default's path belongs to the file of the default"
    );
    let env = &a.launch.environment.0;
    assert_eq!((&*env["A"], &*env["B"], &*env["C"]), ("1", "2", "3"));
    assert_eq!(config.sources.len(), 3);
}

#[test]
fn a_directory_means_all_its_config_files_in_the_order_of_their_names() {
    let files = Memory::with(&[
        ("etc/b.json", "[{\"name\": \"b\", \"command\": \"x\"}]"),
        ("etc/a.toml", "[services.a]\ncommand = 'x'\n"),
        ("etc/c.ini", "[service c]\ncommand = x\n"),
        ("etc/notes.txt", "not a config"),
        ("etc/sub/d.yaml", "services: {d: {command: x}}"),
    ]);
    assert_eq!(names(&files, &["etc"]), ["a", "b", "c"]);
    let config = load_with(&files, &["etc"], &[]).config;
    assert_eq!(config.manager.config_dir.to_str(), Some("/w/etc"));
    assert_eq!(config.services[0].launch.how.working_dir.to_str(), Some("/w/etc"));
}

#[test]
fn the_first_of_several_configs_is_the_config() {
    let files = Memory::with(&[
        ("x/a.yaml", "services: {a: {command: x}}"),
        ("y/b.yaml", "services: {b: {command: x}}"),
    ]);
    assert_eq!(names(&files, &["x/a.yaml", "y/b.yaml"]), ["a", "b"]);
    assert_eq!(
        load_with(&files, &["x/a.yaml", "y/b.yaml"], &[]).config.manager.config_dir.to_str(),
        Some("/w/x")
    );
}

#[test]
fn a_setting_or_a_service_in_two_files_is_an_error_that_names_both() {
    let files = Memory::with(&[
        ("a.yaml", "manager: {log_level: info}\nservices: {a: {command: x}}"),
        ("b.yaml", "manager: {log_level: debug}\nservices: {a: {command: x}}"),
    ]);
    assert_eq!(
        found(&files, &["a.yaml", "b.yaml"]),
        [
            "b.yaml:1:11: error: `log_level` is set already at a.yaml:1:11",
            "b.yaml:2:12: error: a second service is called `a`; the first is at a.yaml:2:12",
        ]
    );
}

#[test]
fn includes_that_cannot_be_have_a_clear_error() {
    let case = |text: &str| {
        found(
            &Memory::with(&[
                ("m.yaml", text),
                ("dir/x.yaml", ""),
                ("n.txt", ""),
                ("p.yaml", "include: m.yaml"),
            ]),
            &["m.yaml"],
        )
    };
    assert_eq!(case("include: m.yaml"), ["m.yaml:1:10: error: the file includes itself"]);
    assert_eq!(case("include: ['./m.yaml']"), ["m.yaml:1:11: error: the file includes itself"]);
    assert_eq!(
        case("include: p.yaml"),
        ["p.yaml:1:10: error: files include each other in a circle: m.yaml → p.yaml → m.yaml"]
    );
    assert_eq!(case("include: dir"), ["m.yaml:1:10: error: cannot read dir: it is a directory"]);
    assert_eq!(case("include: a.fifo"), ["m.yaml:1:10: error: cannot read a.fifo: it is a FIFO"]);
    assert_eq!(
        case("include: no.yaml"),
        ["m.yaml:1:10: error: cannot read no.yaml: No such file or directory (ENOENT)"]
    );
    assert_eq!(
        case("include: 'no/*.yaml'"),
        ["m.yaml:1:10: error: cannot read the directory /w/no: No such file or directory (ENOENT)"]
    );
    assert_eq!(case("include: 'dir/*.toml'"), ["m.yaml:1:10: warning: no config file matches this pattern"]);
    assert_eq!(
        case("include: ['dir/*.yaml', 'dir/x.yaml']"),
        ["m.yaml:1:25: error: dir/x.yaml is included already at m.yaml:1:11"]
    );
    assert_eq!(
        case("include: n.txt"),
        ["n.txt:1:1: error: the format of this file is not known by its name"]
    );
    assert_eq!(
        case("include: {a: b}"),
        ["m.yaml:1:10: error: expected a file or a pattern of files, found a map"]
    );
    assert_eq!(case("include: '${NO}'"), ["m.yaml:1:10: error: `${NO}` is not defined"]);
    assert_eq!(case("include: ['dir/**/*.yaml', 'd*/x.yaml', 'm*.yaml']"), Vec::<String>::new());
}

#[test]
fn a_chain_of_includes_has_an_end() {
    let files: Vec<(String, String)> =
        (0..40).map(|n| (format!("{n}.yaml"), format!("include: {}.yaml", n + 1))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let found = found(&Memory::with(&files), &["0.yaml"]);
    assert_eq!(found, ["15.yaml:1:10: error: files include each other more than 16 levels deep"]);
}

#[test]
fn what_cannot_be_read_at_all_is_named() {
    let files = Memory::with(&[("etc/notes.txt", "")]);
    assert_eq!(
        found(&files, &["no.yaml"]),
        ["no.yaml:1:1: error: cannot read the config: No such file or directory (ENOENT)"]
    );
    assert_eq!(found(&files, &["etc"]), ["etc:1:1: error: the directory has no config file"]);
    assert_eq!(found(&files, &["a.fifo"]), ["a.fifo:1:1: error: cannot read the config: it is a FIFO"]);
}

#[test]
fn files_of_variables_stack_and_environment_wins() {
    let files = Memory::with(&[
        (
            "c.yaml",
            "manager: {env_file: m.env}\nservices:\n  a:\n    command: [x, '${M}', '${S}', '${N}']\n    env_file: [s.env, {path: no.env, required: false}]\n    environment: {E: '${M}', B: env}\n  b: {command: x}\n",
        ),
        ("m.env", "M=manager\nA=m\nB=m\nN=9\n"),
        ("s.env", "A=s\nB=s\nexport S=\"s s\"\n"),
    ]);
    let loaded = load_with(&files, &["c.yaml"], &[]);
    assert_eq!(lines(&loaded.diagnostics), Vec::<String>::new());
    let [a, b] = &loaded.config.services[..] else { panic!("two") };
    let env = &a.launch.environment.0;
    assert_eq!((&*env["A"], &*env["B"], &*env["E"], &*env["S"]), ("s", "env", "manager", "s s"));
    assert_eq!(a.launch.command(), ["x", "manager", "s s", "9"], "the service's own environment comes first");
    assert_eq!(b.launch.environment.0["A"], "m");
    assert!(!b.launch.environment.0.contains_key("S"), "nothing leaks between services");
}

#[test]
fn a_missing_file_of_variables_is_an_error_unless_it_may_be_or_can_be_made() {
    let files = Memory::with(&[
        (
            "c.yaml",
            "services:\n  a: {command: x, env_file: no.env}\n  b: {command: x, env_file: {path: d/.env, template: t.env}}\n  c: {command: x, env_file: {path: n.env, template: n2.env}}\n  d: {command: x, env_file: bad.env}\n  e: {command: x, env_file: {required: false}}\n",
        ),
        ("t.env", "T=1\n"),
        ("bad.env", "A=1\nsecret\n"),
    ]);
    let loaded = load_with(&files, &["c.yaml"], &[]);
    let mut expected = vec![
        "c.yaml:2:29: error: there is no file /w/no.env",
        "c.yaml:4:29: error: neither /w/n.env nor its template /w/n2.env exists",
        "c.yaml:6:29: error: an `env_file` needs a `path`",
        "/w/bad.env:2:1: error: expected `KEY=VALUE`",
    ];
    let mut found = lines(&loaded.diagnostics);
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let [b] = &loaded.config.services[..] else { panic!("only b is right") };
    assert_eq!(b.launch.environment.0["T"], "1");
    let template = &loaded.config.templates[0];
    assert_eq!((template.path.to_str(), template.template.to_str()), (Some("/w/d/.env"), Some("/w/t.env")));
    assert!(!loaded.diagnostics.render(false).contains("secret"), "a line of such a file is never shown");
}

#[test]
fn a_client_reads_the_settings_alone() {
    let files = Memory::with(&[(
        "c.yaml",
        "manager: {state_dir: s, env_file: no.env}\ninclude: no.yaml\nservices: {a: {}}\n",
    )]);
    let mut options = relume_config::Options {
        current_dir: "/w".into(),
        paths: vec!["c.yaml".into()],
        ..Default::default()
    };
    options.manager_only = true;
    let loaded = relume_config::load(&files, &options);
    assert_eq!(loaded.config.manager.state_dir.unwrap().to_str(), Some("/w/s"));
    assert_eq!(lines(&loaded.diagnostics), Vec::<String>::new());
}

#[test]
fn settings_survive_errors_elsewhere() {
    let files = Memory::with(&[(
        "c.yaml",
        "manager: {state_dir: s, log_level: lout}\nservices: {a: {comand: x}, b: {command: x}}\n",
    )]);
    let loaded = load_with(&files, &["c.yaml"], &[]);
    assert!(loaded.diagnostics.has_errors());
    assert_eq!(loaded.config.manager.state_dir.as_ref().unwrap().to_str(), Some("/w/s"));
    assert_eq!(loaded.config.services.len(), 1, "the service that is right is there");
    assert!(loaded.into_result().is_err());
}
