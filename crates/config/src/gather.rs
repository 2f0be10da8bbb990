//! All files of a config, each read once, taken apart into what the rest of the crate works on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::expand::{Problem, Vars, expand};
use crate::files::{FileError, FileErrorKind, Files};
use crate::load::Options;
use crate::node::{Node, Pair, Value};
use crate::read::{Budget, Format};
use crate::source::{Finding, Sink, Source, Sources, Span};
use crate::{glob, limits, nearest, read, secrets};

/// The keys of a file that is a map.
pub(crate) const TOP_LEVEL: [&str; 5] = ["manager", "defaults", "services", "include", "alerts"];

/// What one file says.
pub(crate) struct Unit {
    /// The file that includes this one; always before it.
    pub(crate) parent: Option<usize>,
    pub(crate) manager: Option<Node>,
    pub(crate) defaults: Option<Node>,
    pub(crate) services: Vec<Written>,
}

/// A service as it is written.
pub(crate) struct Written {
    /// Its name where it is a key of a map.
    pub(crate) key: Option<(Box<str>, Span)>,
    pub(crate) node: Node,
}

/// Reads files and what they include.
pub(crate) struct Gather<'a> {
    pub(crate) files: &'a dyn Files,
    pub(crate) options: &'a Options,
    pub(crate) sources: &'a mut Sources,
    pub(crate) sink: &'a mut Sink,
    pub(crate) units: Vec<Unit>,
    /// In reading order.
    pub(crate) paths: Vec<PathBuf>,
    budget: Budget,
    /// Files read, by identity, with the include that asked first.
    seen: HashMap<PathBuf, Option<Span>>,
    /// The files that are being read: identity and name.
    open: Vec<(PathBuf, String)>,
}

impl<'a> Gather<'a> {
    pub(crate) fn new(
        files: &'a dyn Files,
        options: &'a Options,
        sources: &'a mut Sources,
        sink: &'a mut Sink,
    ) -> Self {
        Self {
            files,
            options,
            sources,
            sink,
            units: Vec::new(),
            paths: Vec::new(),
            budget: Budget::default(),
            seen: HashMap::new(),
            open: Vec::new(),
        }
    }

    /// Reads everything that was given on the command line; gives the folder of the config.
    pub(crate) fn roots(&mut self) -> PathBuf {
        let mut config_dir = None;
        for given in &self.options.paths {
            let path = plain(&self.options.current_dir.join(given));
            let shown = given.display().to_string();
            let bytes = self.files.read(&path, limits::FILE_BYTES);
            let directory = bytes.as_ref().is_err_and(|error| error.kind == FileErrorKind::Directory);
            let dir = if directory { Some(path.as_path()) } else { path.parent() };
            config_dir.get_or_insert(dir.unwrap_or(Path::new("/")).to_path_buf());
            match bytes {
                Ok(bytes) => self.file(&path, shown, bytes, None),
                Err(_) if directory => self.directory(&path, &shown),
                Err(error) => {
                    let span = self.outside(&path, shown);
                    self.sink.add(cannot_read(span, "the config", &error));
                }
            }
        }
        config_dir.unwrap_or_else(|| self.options.current_dir.clone())
    }

    /// All config files of a directory, in the order of their names.
    fn directory(&mut self, dir: &Path, shown: &str) {
        let entries = match self.files.list(dir) {
            Ok(entries) => entries,
            Err(error) => {
                let span = self.outside(dir, shown.to_owned());
                self.sink.add(cannot_read(span, "the config directory", &error));
                return;
            }
        };
        let mut names: Vec<String> = entries
            .into_iter()
            .filter(|entry| {
                !entry.directory
                    && !entry.name.starts_with('.')
                    && Format::of(Path::new(&entry.name)).is_some()
            })
            .map(|entry| entry.name)
            .collect();
        names.sort();
        if names.is_empty() {
            let span = self.outside(dir, shown.to_owned());
            let found = Finding::error(span, "the directory has no config file");
            self.sink.add(found.help("config files end in .yaml, .yml, .toml, .json or .ini"));
        }
        for name in names {
            let path = dir.join(&name);
            if self.seen.contains_key(&self.files.identity(&path)) {
                continue;
            }
            let shown = Path::new(shown).join(&name).display().to_string();
            match self.files.read(&path, limits::FILE_BYTES) {
                Ok(bytes) => self.file(&path, shown, bytes, None),
                Err(error) => {
                    let span = self.outside(&path, shown);
                    self.sink.add(cannot_read(span, "the config", &error));
                }
            }
        }
    }

    /// A place for what is wrong with a file that has no text.
    fn outside(&mut self, path: &Path, shown: String) -> Span {
        let dir = path.parent().unwrap_or(path).to_path_buf();
        Span::new(self.sources.add(Source::new(shown, dir, String::new(), true)), 0, 0)
    }

    /// Reads one file; `by` is the include that asked for it and the unit it stands in.
    fn file(&mut self, path: &Path, shown: String, bytes: Vec<u8>, by: Option<(Span, usize)>) {
        let identity = self.files.identity(path);
        self.seen.insert(identity.clone(), by.map(|(at, _)| at));
        self.paths.push(path.to_path_buf());
        let (text, problem) = read::decode(bytes);
        let dir = path.parent().unwrap_or(path).to_path_buf();
        let file = self.sources.add(Source::new(shown.clone(), dir, text, false));
        if let Some((at, message, help)) = problem {
            self.sink.add(Finding::error(Span::new(file, at, at + 1), message).help(help));
            return;
        }
        let Some(format) = Format::of(path) else {
            let found =
                Finding::error(Span::new(file, 0, 0), "the format of this file is not known by its name");
            self.sink.add(found.help("config files end in .yaml, .yml, .toml, .json or .ini"));
            return;
        };
        let text = &self.sources.get(file).text;
        let before = self.sink.errors();
        let root = read::parse(format, file, text, &mut self.budget, self.sink);
        if !self.options.show_secrets {
            // A text with errors may have a tree that lacks what was not understood.
            let known = root.as_ref().filter(|_| self.sink.errors() == before).map(secrets::of_tree);
            self.sources.hide(file, known);
        }
        let Some(root) = root else { return };
        self.open.push((identity, shown));
        self.unit(root, by.map(|(_, parent)| parent));
        self.open.pop();
    }

    fn unit(&mut self, root: Node, parent: Option<usize>) {
        let mut unit = Unit { parent, manager: None, defaults: None, services: Vec::new() };
        let mut include = None;
        match root.value {
            Value::Null => {}
            Value::List(nodes) => {
                unit.services.extend(nodes.into_iter().map(|node| Written { key: None, node }))
            }
            Value::Map(pairs) => {
                for pair in pairs {
                    self.top_level(pair, &mut unit, &mut include);
                }
            }
            Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Loose(_) => {
                let found =
                    Finding::error(root.span, "expected a map with `services`, or a list of services");
                self.sink.add(found);
            }
        }
        let index = self.units.len();
        self.units.push(unit);
        if let Some(node) = include.filter(|_| !self.options.manager_only) {
            self.includes(&node, index);
        }
    }

    fn top_level(&mut self, pair: Pair, unit: &mut Unit, include: &mut Option<Node>) {
        let nothing = matches!(pair.node.value, Value::Null);
        match &*pair.key {
            "manager" | "defaults" if nothing => {}
            "manager" | "defaults" if !matches!(pair.node.value, Value::Map(_)) => {
                let message = format!("expected a map of keys and values, found {}", pair.node.kind());
                self.sink.add(Finding::error(pair.node.span, message).key(&*pair.key));
            }
            "manager" => unit.manager = Some(pair.node),
            "defaults" => unit.defaults = Some(pair.node),
            "include" => *include = Some(pair.node),
            "services" => self.services(pair.node, unit),
            "alerts" => {
                let mut node = pair.node.clone();
                crate::expand::expand_tree(&mut node, &Vars(vec![&self.options.environment]), self.sink);
                let _: crate::raw::OneOrMany<crate::raw::RawAlert> =
                    crate::de::decode(&node, "alerts", self.sink);
                crate::maturity::top_level(&pair, self.sink);
            }
            // A place for YAML anchors, as in compose files.
            key if key.starts_with("x-") => {}
            key => {
                let found = Finding::error(pair.key_span, nearest::unknown_key(key, &TOP_LEVEL)).key(key);
                let of_service = matches!(key, "name" | "command" | "programs" | "processes");
                let looks = of_service || pair.node.get("command").is_some();
                self.sink.add(if looks { found.help("services stand under `services`") } else { found });
            }
        }
    }

    fn services(&mut self, node: Node, unit: &mut Unit) {
        match node.value {
            Value::Null => {}
            Value::List(nodes) => {
                unit.services.extend(nodes.into_iter().map(|node| Written { key: None, node }))
            }
            Value::Map(pairs) => unit.services.extend(
                pairs
                    .into_iter()
                    .map(|pair| Written { key: Some((pair.key, pair.key_span)), node: pair.node }),
            ),
            Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Loose(_) => {
                let message = format!("expected a map or a list of services, found {}", node.kind());
                self.sink.add(Finding::error(node.span, message).key("services"));
            }
        }
    }

    fn includes(&mut self, node: &Node, parent: usize) {
        let single = std::slice::from_ref(node);
        let nodes = if node.elements().is_empty() { single } else { node.elements() };
        for node in nodes {
            let loose = matches!(node.value, Value::Loose(_));
            match (&node.value, node.text()) {
                (Value::Null | Value::List(_), _) if std::ptr::eq(node, &single[0]) => {}
                (_, Some(text)) => {
                    let text = text.to_owned();
                    for part in
                        text.split(|c| loose && c == ',').map(str::trim).filter(|part| !part.is_empty())
                    {
                        self.include(part, node.span, parent);
                    }
                }
                (_, None) => {
                    let message = format!("expected a file or a pattern of files, found {}", node.kind());
                    self.sink.add(Finding::error(node.span, message).key("include"));
                }
            }
        }
    }

    fn include(&mut self, text: &str, span: Span, parent: usize) {
        let (text, problems) = expand(text, &Vars(vec![&self.options.environment]));
        if let Some(Problem::Undefined(_, shown) | Problem::Form(_, shown)) = problems.into_iter().next() {
            self.sink.add(Finding::error(span, format!("`{shown}` is not defined")).key("include"));
            return;
        }
        if self.open.len() >= limits::INCLUDE_DEPTH {
            let message = format!("files include each other more than {} levels deep", limits::INCLUDE_DEPTH);
            self.sink.add(Finding::error(span, message).key("include"));
            return;
        }
        let path = plain(&self.sources.get(span.file).dir.join(&text));
        if !glob::is_pattern(&text) {
            self.include_file(&path, span, parent);
            return;
        }
        match glob::expand(self.files, &path) {
            Err((dir, error)) => {
                let what = format!("the directory {}", dir.display());
                self.sink.add(cannot_read(span, &what, &error).key("include"));
            }
            Ok(found) => self.include_matches(found, span, parent),
        }
    }

    fn include_matches(&mut self, found: Vec<PathBuf>, span: Span, parent: usize) {
        let mut any = false;
        for path in found {
            if Format::of(&path).is_none() {
                let message = format!("{} is left out: the format is not known by its name", path.display());
                self.sink.add(Finding::warning(span, message).key("include"));
                continue;
            }
            any = true;
            // A pattern may well match the file it stands in, or what another line includes.
            if !self.seen.contains_key(&self.files.identity(&path)) {
                self.include_file(&path, span, parent);
            }
        }
        if !any {
            self.sink.add(Finding::warning(span, "no config file matches this pattern").key("include"));
        }
    }

    fn include_file(&mut self, path: &Path, span: Span, parent: usize) {
        let identity = self.files.identity(path);
        let shown = match path.strip_prefix(&self.options.current_dir) {
            Ok(below) if self.options.paths.first().is_none_or(|first| first.is_relative()) => {
                below.display().to_string()
            }
            Ok(_) | Err(_) => path.display().to_string(),
        };
        if let Some(at) = self.open.iter().position(|(open, _)| *open == identity) {
            let names: Vec<&str> =
                self.open[at..].iter().map(|(_, name)| name.as_str()).chain([shown.as_str()]).collect();
            let message = match names.len() {
                2 => "the file includes itself".to_owned(),
                _ => format!("files include each other in a circle: {}", names.join(" → ")),
            };
            self.sink.add(Finding::error(span, message).key("include"));
            return;
        }
        if let Some(first) = self.seen.get(&identity) {
            let first = first.map_or("on the command line".to_owned(), |first| {
                format!("at {}", self.sources.place(first))
            });
            self.sink
                .add(Finding::error(span, format!("{shown} is included already {first}")).key("include"));
            return;
        }
        if self.paths.len() >= limits::FILES {
            self.sink.add(
                Finding::error(span, format!("the config has more than {} files", limits::FILES))
                    .key("include"),
            );
            return;
        }
        match self.files.read(path, limits::FILE_BYTES) {
            Ok(bytes) => self.file(path, shown, bytes, Some((span, parent))),
            Err(error) => self.sink.add(cannot_read(span, &shown, &error).key("include")),
        }
    }
}

/// "cannot read X: why", with what to do where there is something.
pub(crate) fn cannot_read(span: Span, what: &str, error: &FileError) -> Finding {
    let found = Finding::error(span, format!("cannot read {what}: {}", error.reason));
    match error.kind {
        FileErrorKind::Directory => {
            found.help("a pattern such as `DIR/*.yaml` names the files in a directory")
        }
        FileErrorKind::TooLarge => {
            found.help(format!("a config file has at most {} MiB", limits::FILE_BYTES >> 20))
        }
        FileErrorKind::NotRegular => found.help("only regular files are read"),
        FileErrorKind::NotFound | FileErrorKind::Other => found,
    }
}

/// A path without `.` components. `..` stays: behind a link it means something else than the text says.
pub(crate) fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != std::path::Component::CurDir).collect()
}
