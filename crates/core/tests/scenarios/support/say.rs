//! Actions in a few words.

use relume_core::{Action, Hook, Outcome, Reach, RunId, RunKind, Signal};

use super::World;

impl World {
    /// An action as scenarios name it: `spawn db`, `stop db`, `stop db with 2`, `stop db tree`, `kill db`,
    /// `spawn db pre_stop`, `find main of db`, `leave 0`.
    pub(super) fn say(&self, action: &Action) -> String {
        match action {
            Action::Spawn { run, .. } => format!("spawn {}", self.run_name(*run)),
            Action::Signal { run, signal: Signal::Kill, to: Reach::Tree } => {
                format!("kill {}", self.run_name(*run))
            }
            Action::Signal { run, signal: Signal::Kill, to: Reach::Main } => {
                format!("kill {} main", self.run_name(*run))
            }
            Action::Signal { run, signal: Signal::Stop(number), to } => {
                let tree = if *to == Reach::Tree { " tree" } else { "" };
                let with =
                    if *number == relume_core::SIGTERM { String::new() } else { format!(" with {number}") };
                format!("stop {}{tree}{with}", self.run_name(*run))
            }
            Action::Signal { run, signal: Signal::Asked(number), to } => {
                let tree = if *to == Reach::Tree { " tree" } else { "" };
                format!("send {number} to {}{tree}", self.run_name(*run))
            }
            Action::FindMain { run } => format!("find main of {}", self.run_name(*run)),
            Action::Reply { service, outcome, .. } => {
                format!("answer {}: {}", self.name_of(*service), outcome_word(outcome))
            }
            Action::Leave { code } => format!("leave {code}"),
        }
    }

    /// The same without names: for the table.
    pub(super) fn say_bare(&self, action: &Action) -> String {
        let what = match action {
            Action::Spawn { run, .. } | Action::Signal { run, .. } | Action::FindMain { run } => {
                self.hook_of(*run).map_or("its process", Hook::key)
            }
            Action::Reply { .. } | Action::Leave { .. } => "",
        };
        match action {
            Action::Spawn { .. } => format!("spawn {what}"),
            Action::Signal { signal: Signal::Kill, .. } => {
                format!("SIGKILL to the tree of {what}")
            }
            Action::Signal { signal: Signal::Stop(_), to: Reach::Tree, .. } => {
                "stop signal to the tree".into()
            }
            Action::Signal { signal: Signal::Stop(_), to: Reach::Main, .. } => "stop signal to main".into(),
            Action::Signal { signal: Signal::Asked(_), .. } => "the signal that was asked for".into(),
            Action::FindMain { .. } => "find the main process".into(),
            Action::Reply { outcome, .. } => format!("answer: {}", outcome_word(outcome)),
            Action::Leave { .. } => "leave".into(),
        }
    }

    fn run_name(&self, run: RunId) -> String {
        let name = self.name_of(run.service);
        match self.run_kinds.get(&run) {
            Some(RunKind::Probe(check)) => format!("{name} {} probe", check.key()),
            Some(RunKind::Alert(which)) => format!("{name} alert {which}"),
            _ => self.hook_of(run).map_or_else(|| name.clone(), |hook| format!("{name} {}", hook.key())),
        }
    }

    fn hook_of(&self, run: RunId) -> Option<Hook> {
        match self.run_kinds.get(&run) {
            Some(RunKind::Hook(hook)) => Some(*hook),
            Some(RunKind::Service | RunKind::Job | RunKind::Probe(_) | RunKind::Alert(_)) | None => None,
        }
    }
}

fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Already => "already",
        Outcome::Failed(_) => "failed",
        Outcome::Superseded => "superseded",
        Outcome::Unknown => "unknown",
        Outcome::NotRunning => "not running",
    }
}
