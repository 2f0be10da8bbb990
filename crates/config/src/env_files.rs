//! Reading `env_file`s: each once, however many services name it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::files::{FileErrorKind, Files};
use crate::gather::{cannot_read, plain};
use crate::model::Template;
use crate::node::Node;
use crate::raw::{OneOrMany, RawEnvFile};
use crate::source::{Finding, Sink, Source, Sources, Span};
use crate::{dotenv, limits, read};

/// Values by name.
pub(crate) type Values = BTreeMap<String, String>;

/// The reader, with what every later stage needs to report.
pub(crate) struct EnvFiles<'a> {
    pub(crate) files: &'a dyn Files,
    pub(crate) sources: &'a mut Sources,
    pub(crate) sink: &'a mut Sink,
    /// `None`: there is no such file.
    pub(crate) read: HashMap<PathBuf, Option<Rc<Values>>>,
    pub(crate) templates: BTreeSet<Template>,
    /// What is left of `limits::EXPANDED_BYTES`.
    pub(crate) room: usize,
}

impl EnvFiles<'_> {
    /// The values of all files named at `node`, later files winning.
    pub(crate) fn values(&mut self, files: &OneOrMany<RawEnvFile>, node: &Node, key: &str) -> Values {
        let mut all = Values::new();
        for (at, RawEnvFile(file)) in files.0.iter().enumerate() {
            let Some(path) = &file.path else { continue };
            let span = node.elements().get(at).map_or(node.span, |element| element.span);
            let path = self.resolve(span, &path.0);
            let found = self.file(&path, span, key);
            let found = match (found, &file.template) {
                (None, Some(template)) => {
                    let template = self.resolve(span, &template.0);
                    let values = self.file(&template, span, key);
                    if values.is_none() {
                        let message = format!(
                            "neither {} nor its template {} exists",
                            path.display(),
                            template.display()
                        );
                        self.sink.add(Finding::error(span, message).key(key));
                    }
                    self.templates.insert(Template { path, template });
                    values
                }
                (None, None) if file.required.unwrap_or(true) => {
                    let found = Finding::error(span, format!("there is no file {}", path.display())).key(key);
                    self.sink.add(
                        found.help(
                            "`required: false` allows that, `template: FILE` makes it from another file",
                        ),
                    );
                    None
                }
                (found, _) => found,
            };
            if let Some(values) = found {
                all.extend(values.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
        }
        all
    }

    /// A path as the file means in which it stands.
    pub(crate) fn resolve(&self, span: Span, text: &str) -> PathBuf {
        plain(&self.sources.get(span.file).dir.join(text))
    }

    /// None: there is no such file. Whatever else is wrong with it has been said.
    fn file(&mut self, path: &Path, span: Span, key: &str) -> Option<Rc<Values>> {
        if let Some(known) = self.read.get(path) {
            return known.clone();
        }
        let values = match self.files.read(path, limits::ENV_FILE_BYTES) {
            Ok(bytes) => Some(Rc::new(self.parse(path, bytes))),
            Err(error) if error.kind == FileErrorKind::NotFound => None,
            Err(error) => {
                self.sink.add(cannot_read(span, &path.display().to_string(), &error).key(key));
                Some(Rc::default())
            }
        };
        self.read.insert(path.to_path_buf(), values.clone());
        values
    }

    fn parse(&mut self, path: &Path, bytes: Vec<u8>) -> Values {
        let (text, problem) = read::decode(bytes);
        let (values, problems) = if problem.is_some() { Default::default() } else { dotenv::parse(&text) };
        let dir = path.parent().unwrap_or(path).to_path_buf();
        let file = self.sources.add(Source::new(path.display().to_string(), dir, text, true));
        if let Some((at, message, help)) = problem {
            self.sink.add(Finding::error(Span::new(file, at, at + 1), message).help(help));
        }
        for (at, message) in problems {
            self.sink.add(Finding::error(Span::new(file, at, at + 1), message));
        }
        values
    }
}
