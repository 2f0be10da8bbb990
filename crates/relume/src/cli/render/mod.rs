//! What people see, as text made from values: no file, no socket, no terminal is touched here, so that
//! every output is tested as it looks without a manager.

pub(crate) mod change;
pub(crate) mod doctor;
pub(crate) mod drill;
pub(crate) mod event;
pub(crate) mod explain;
pub(crate) mod operation;
pub(crate) mod progress;
pub(crate) mod status;
pub(crate) mod text;
pub(crate) mod urls;

use anstyle::{AnsiColor, Style};
use relume_proto::State;

/// How text may look where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// Colours are wanted.
    pub(crate) colour: bool,
    /// Characters beyond ASCII are shown as they are.
    pub(crate) unicode: bool,
    /// Columns of the terminal; `None`: not a terminal, lines are never broken.
    pub(crate) width: Option<usize>,
}

impl Look {
    /// Plain text, as in a pipe.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { colour: false, unicode: true, width: None };

    /// The text in this style, if colours are wanted.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        if self.colour && style != Style::new() { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// Either of two spellings of a sign.
    pub(crate) fn sign(self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.unicode { unicode } else { ascii }
    }
}

/// Good news.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// It works on it by itself.
pub(crate) const BUSY: Style = AnsiColor::Yellow.on_default();
/// Somebody has to look.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// Beside the point.
pub(crate) const DIM: Style = Style::new().dimmed();
/// What to look at first.
pub(crate) const STRONG: Style = Style::new().bold();

/// The colour of a state: the same in every output.
pub(crate) fn state_style(state: &State) -> Style {
    match state {
        State::Running | State::Completed => GOOD,
        State::Pending | State::Starting | State::Stopping | State::Restarting => BUSY,
        State::Unhealthy | State::Crashed | State::Failed | State::MaxRestarts => BAD,
        State::Stopped => DIM,
        State::Other(_) => Style::new(),
    }
}
