//! Who is told of changes of state.

use relume_core::Word;

use crate::readiness::HttpTarget;

/// One target that is told when a service comes into one of some states.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Alert {
    /// The states; not empty.
    pub on: Vec<Word>,
    /// Where it is posted to.
    pub webhook: Option<Box<HttpTarget>>,
    /// What is run.
    pub command: Option<Vec<String>>,
    /// The text that is posted, with `{service}` and the like; `None`: all there is, as JSON.
    pub template: Option<String>,
}

impl Alert {
    /// The states that are told where none is named: those that somebody should look at.
    pub const USUAL: [Word; 4] = [Word::Crashed, Word::Unhealthy, Word::Failed, Word::MaxRestarts];

    /// The names that a template can have in braces.
    pub const NAMES: [&str; 8] = ["service", "state", "from", "cause", "reason", "at", "run", "log"];
}
