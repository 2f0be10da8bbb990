//! What a configuration would do, without doing it.
//!
//! The judgement is the one that `configure` acts on, put in words: they share [`is_other_life`], so a plan
//! cannot promise what is not done.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use crate::event::Config;
use crate::graph;
use crate::policy::{ServiceKind, ServiceSpec};
use crate::record::Record;
use crate::state::State;
use crate::supervisor::Supervisor;

/// What becomes of one service under a new configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The service.
    pub service: String,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is new; `starts`: by itself.
    Added {
        /// Whether it is started without being asked for.
        starts: bool,
    },
    /// What it is started with has changed, and it runs: its life is replaced.
    Restarted,
    /// What it is started with has changed; it waits for its next attempt, or ended: it is tried at once.
    TriedAgain,
    /// What it is started with has changed, and it does not run: its next start is the new one.
    NextStart,
    /// Only the rules it is supervised by have changed: they hold from now on, its life goes on.
    Rules,
    /// It is no longer configured: it is stopped and forgotten.
    Removed,
    /// Nothing.
    Unchanged,
}

impl Supervisor {
    /// What `Event::Configured` with this configuration would do, in its order, removed services last.
    ///
    /// # Errors
    /// The first problem of the graph, in words: then nothing would change.
    pub fn plan(&self, config: &Config) -> Result<Vec<Change>, String> {
        if let Some(problem) = graph::problems(&config.services).first() {
            return Err(crate::configure::in_words(problem));
        }
        let mut plan: Vec<Change> = config
            .services
            .iter()
            .map(|spec| Change { service: String::from(&spec.name), fate: self.fate(spec, config.autostart) })
            .collect();
        let named: BTreeSet<&str> = config.services.iter().map(|spec| spec.name.as_str()).collect();
        let known = self.services.iter().filter(|(id, _)| !self.retired.contains(id));
        let gone = known.map(|(_, service)| &service.spec.name).filter(|name| !named.contains(name.as_str()));
        plan.extend(gone.map(|name| Change { service: String::from(name), fate: Fate::Removed }));
        Ok(plan)
    }

    fn fate(&self, spec: &ServiceSpec, autostart: bool) -> Fate {
        let found = self.find(&spec.name).filter(|id| !self.retired.contains(id));
        let known = found.and_then(|id| Some((self.record(id)?, self.spec(id)?)));
        let Some((record, old)) = known else {
            return Fate::Added { starts: autostart && spec.policy.autostart };
        };
        if is_other_life(record, old, spec) {
            return match record.state {
                State::Starting { .. } | State::Running { .. } => Fate::Restarted,
                State::Restarting { .. } | State::Failed { .. } | State::Completed => Fate::TriedAgain,
                State::Stopped | State::Pending { .. } | State::Stopping { .. } => Fate::NextStart,
            };
        }
        if old == spec { Fate::Unchanged } else { Fate::Rules }
    }
}

/// Whether the latest run of a service was started as something else than `new` says. The record knows what it
/// was started with, even if that was another relume.
pub(crate) fn is_other_life(record: &Record, old: &ServiceSpec, new: &ServiceSpec) -> bool {
    record.generation > 0 && (record.launch != new.launch || !is_same_life(old.policy.kind, new.policy.kind))
}

/// A process that is waited for until it is ready, and one that is not, are the same to themselves: where they
/// are told how to say it, that is part of the launch.
fn is_same_life(old: ServiceKind, new: ServiceKind) -> bool {
    let stays = |kind| matches!(kind, ServiceKind::Simple | ServiceKind::Notify);
    old == new || (stays(old) && stays(new))
}
