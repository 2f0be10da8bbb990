//! Configs: the whole way from bytes to services and diagnostics.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use relume_config::{Entry, FileError, FileErrorKind, Files, Options, Override, Severity, load};

/// The file that is fuzzed, and what it may name.
struct Memory<'a> {
    name: &'static str,
    bytes: &'a [u8],
}

impl Files for Memory<'_> {
    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
        let error = |kind, reason: &str| FileError { kind, reason: reason.into() };
        let name = path.strip_prefix("/w").ok().and_then(Path::to_str).unwrap_or_default();
        let bytes = match name {
            known if known == self.name => self.bytes,
            "a.env" if self.name != "a.env" => b"A=1\nB='x y'\nSECRET=hunter2\n",
            "a.yaml" => b"defaults: {nice: 1}\nservices: {included: {command: a}}\n",
            "other.yaml" if self.name == "a.env" => b"services: {a: {command: 'x ${A}', env_file: a.env}}",
            _ => return Err(error(FileErrorKind::NotFound, "No such file or directory (ENOENT)")),
        };
        match bytes.len() as u64 > limit {
            true => Err(error(FileErrorKind::TooLarge, "it is too large")),
            false => Ok(bytes.to_vec()),
        }
    }

    fn list(&self, _: &Path) -> Result<Vec<Entry>, FileError> {
        let names = [self.name, "a.yaml"];
        Ok(names.map(|name| Entry { name: name.to_owned(), directory: false }).into())
    }
}

fn check(name: &'static str, given: &str, bytes: &[u8]) {
    let options = Options {
        current_dir: "/w".into(),
        paths: vec![PathBuf::from(given)],
        environment: BTreeMap::from([("HOME".into(), "/home/u".into()), ("N".into(), "7".into())]),
        overrides: vec![Override { key: "log_level".into(), value: "debug".into(), origin: "--debug".into() }],
        manager_only: false,
 show_secrets: false,
    };
    let files = Memory { name, bytes };
    let loaded = load(&files, &options);
    let found = &loaded.diagnostics;
    let errors = found.0.iter().filter(|found| found.severity == Severity::Error).count();
    assert!(errors <= 100, "{errors} errors");
    for (one, plain) in found.0.iter().zip([false, true].iter().cycle()) {
        assert!(one.line >= 1 && one.column >= 1 && !one.message.is_empty(), "{one:?}");
        let text = one.render(!plain);
        assert!(text.starts_with(&one.file) || !plain, "{text}");
        if let Some(excerpt) = &one.excerpt {
            assert!(excerpt.text.get(excerpt.start..excerpt.end).is_some(), "{one:?}");
        }
    }
    assert!(serde_json::to_string(found).is_ok());
    if let Ok((config, _)) = loaded.into_result() {
        // What is valid is taken by the core, which never fails.
        let services = config.services.iter().map(|service| service.spec.clone()).collect();
        let config = relume_core::Config { manager: config.manager.policy, autostart: false, services };
        let mut core = relume_core::Supervisor::new(1, relume_core::Moment(1));
        let mut out = relume_core::Outbox::default();
        core.step(relume_core::Moment(1), relume_core::Event::Configured(config), &mut out);
        let refused = out.facts.iter().any(|fact| matches!(fact.what, relume_core::What::ConfigRefused { .. }));
        assert!(!refused, "a valid config was refused: {:?}", out.facts);
    }
}

/// YAML.
pub fn config_yaml(bytes: &[u8]) {
    check("c.yaml", "c.yaml", bytes);
}

/// JSON with comments and trailing commas.
pub fn config_json(bytes: &[u8]) {
    check("c.json", "c.json", bytes);
}

/// TOML.
pub fn config_toml(bytes: &[u8]) {
    check("c.toml", "c.toml", bytes);
}

/// INI.
pub fn config_ini(bytes: &[u8]) {
    check("c.ini", "c.ini", bytes);
}

/// A file of variables.
pub fn env_file(bytes: &[u8]) {
    check("a.env", "other.yaml", bytes);
}
